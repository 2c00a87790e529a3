# SPDX-License-Identifier: MIT
"""Two fits of the same rows, one of which has more terms."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gbreg import inference, tables
from gbreg.columns import Part
from gbreg.errors import SpecError
from gbreg.lookup import find_keys
from gbreg.problem import BoolArray, FloatArray

if TYPE_CHECKING:
    from gbreg.diagnostics import Diagnostics

SAME = 1e-9  # relative difference of sums over the same rows, at most
ROUNDING = 2.0**-46  # of values, in what they deviate from their mean by


def compare(fit: Diagnostics, other: Diagnostics) -> pd.DataFrame:
    """See `GroupFit.compare`."""
    _check_alike(fit, other)
    small, large = _by_size(fit, other)
    few, many = small.statistics, large.statistics
    _check_same_rows(small, large)
    df_diff = few.df_resid - many.df_resid
    extra = np.where(df_diff > 0, df_diff, np.nan)
    norms = large.estimates.resid_norm, small.estimates.resid_norm
    f = inference.fvalue(*norms, extra, many.df_resid, many.perfect)
    columns = {
        "f": f,
        "df_diff": df_diff,
        "p_value": inference.f_pvalue(f, extra, many.df_resid),
        "delta_aic": many.aic - few.aic,
        "delta_bic": many.bic - few.bic,
    }
    axes = [("target", fit.targets), ("comparison", list(columns))]
    return tables.by_axes(np.stack(list(columns.values()), axis=-1), fit.keys, *axes)


def _check_alike(fit: Diagnostics, other: Diagnostics) -> None:
    """Raise `SpecError` where two fits are of different things."""
    if not isinstance(other, type(fit)):
        raise SpecError(f"compare takes another GroupFit, got {type(other).__name__}")
    for one in (fit, other):
        one.spec.need_least_squares("compare")
        one.spec.need("classical", "compare")
    if fit.targets != other.targets:
        raise SpecError(f"the fits have targets {list(fit.targets)} and {list(other.targets)}")
    if fit.spec.weights_type != other.spec.weights_type:
        raise SpecError(f"weights_type is {fit.spec.weights_type!r} and {other.spec.weights_type!r}")
    found = find_keys(fit.keys, other.keys)
    if len(found) != len(fit.keys) or (found != np.arange(len(found))).any():
        raise SpecError(
            f"the fits have different groups: {len(fit.keys)} and {len(other.keys)} keys, "
            f"{np.count_nonzero(found >= 0)} in common"
        )


def _by_size(fit: Diagnostics, other: Diagnostics) -> tuple[Diagnostics, Diagnostics]:
    """The fit with fewer terms, then the one that has them and more."""
    small, large = sorted((fit, other), key=lambda one: len(one.terms))
    if set(small.terms) == set(large.terms):
        raise SpecError(f"both fits have the terms {list(fit.terms)}; there is nothing to compare")
    if lacking := [term for term in small.terms if term not in large.terms]:
        raise SpecError(
            f"the fits are not nested: {lacking} are terms of the one with terms {list(small.terms)}, "
            f"not of the one with {list(large.terms)}"
        )
    _check_same_code(small, large)
    return small, large


def _check_same_code(small: Diagnostics, large: Diagnostics) -> None:
    """Columns that code computes are the same if the code is: one of its name may be anything."""
    for one, other in ((small.spec.linear, large.spec.linear), (small.spec.targets, large.spec.targets)):
        sources = {column.name: column.source for column in other}
        for column in one:
            source = sources.get(column.name)
            code = column.label is None and not isinstance(column.source, Part)
            if code and source is not column.source:
                raise SpecError(
                    f"{column.name!r} is computed by code that may differ between the fits; "
                    "give both the same function or expression, or make it a column"
                )


def _check_same_rows(small: Diagnostics, large: Diagnostics) -> None:
    few, many = small.statistics, large.statistics
    advice = "fit both on the same rows, with where= for instance"
    _raise_where(few.nobs != many.nobs, small, f"nobs differ; {advice}")
    _raise_where(_differ(few.shared("wsum"), many.shared("wsum")), small, "the sums of the weights differ")
    alike = small.spec.options.intercept == large.spec.options.intercept
    if alike:
        norms = small.estimates.target_norm, large.estimates.target_norm
        _raise_where(_differ(*norms), small, f"the values of the target differ; {advice}")
    lengths = _target_length(small), _target_length(large)
    _raise_where(_differ(*lengths), small, f"the values of the target differ; {advice}")
    for name in (name for name in small.predictors if name in large.predictors):
        (mean, spread), (other, other_spread) = _moments(small, name), _moments(large, name)
        size, other_size = np.hypot(mean, spread), np.hypot(other, other_spread)
        differ = _differ(size, other_size)
        if alike:
            differ |= np.abs(mean - other) > SAME * size
            differ |= np.abs(spread - other_spread) > SAME * spread + ROUNDING * size
        _raise_where(differ, small, f"the values of {name!r} differ; {advice}")


def _moments(fit: Diagnostics, name: Hashable) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation (g, t) of a predictor in the rows of each target."""
    e, j = fit.estimates, fit.predictors.index(name)
    mean = e.center[:, e.pattern, j] + np.asarray(fit.origins.get(j, np.zeros(1)), dtype=np.float64)[:, None]
    return mean, e.norm[:, e.pattern, j] / np.sqrt(e.wsum[:, e.pattern])


def _target_length(fit: Diagnostics) -> FloatArray:
    """sqrt(sum w y^2) (g, t); with an intercept, the level is the mean of the target."""
    e = fit.estimates
    if not fit.spec.options.intercept:
        return e.target_norm
    mean = e.level.copy()
    for q in range(mean.shape[1]):
        mean[:, q] += fit.origins.get(len(fit.predictors) + q, 0.0)
    return np.asarray(np.hypot(e.target_norm, mean * np.sqrt(fit.statistics.shared("wsum"))))


def _differ(one: FloatArray, other: FloatArray) -> BoolArray:
    """Where two numbers are there and are not the same but for rounding."""
    with np.errstate(invalid="ignore"):
        return np.abs(one - other) > SAME * np.maximum(one, other)


def _raise_where(wrong: BoolArray, fit: Diagnostics, what: str) -> None:
    if wrong.any():
        g, q = np.argwhere(wrong)[0]
        raise SpecError(
            f"{what}: in {wrong.any(axis=1).sum()} of {len(fit.keys)} groups, "
            f"first {fit.keys[[g]].tolist()[0]!r} for target {fit.targets[q]!r}"
        )
