# SPDX-License-Identifier: MIT
"""Fitted values and their errors at rows, as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gbreg import inference, influence, quadratic
from gbreg.columns import Numbers
from gbreg.estimates import Estimates
from gbreg.layout import stored_values
from gbreg.problem import ROBUST, FloatArray, IntArray
from gbreg.statistics import Statistics

if TYPE_CHECKING:
    from gbreg.result import GroupFit

Origins = dict[int, NDArray[Any]]  # (g,) int64 or uint64, by position in linear + targets


class FitRows:
    """One fit at n rows, numbers only.

    Inside, targets are less the origins of their groups: a residual is the difference of two small
    numbers, whatever the size of the target.
    """

    def __init__(self, fit: GroupFit, X: Sequence[Numbers], groups: IntArray) -> None:
        self.fit, self.X, self.groups = fit, X, groups
        drop = fit.spec.options.on_collinear == "drop"
        reduced = drop or not fit.spec.shrunk
        self.fitted = predicted(fit.estimates, X, groups, fit.origins, reduced)  # (t, n), less origins
        departure = departures(fit, X, groups)
        self.doubtful: IntArray = np.empty(0, dtype=np.int64)  # rows that their group does not determine
        if departure is not None and drop:
            self.doubtful = np.flatnonzero((~np.isnan(self.fitted) & (departure > 1)).any(axis=0))
        elif departure is not None:
            self.fitted[~(departure <= 1)] = np.nan

    def values(self) -> FloatArray:
        return self._with_origin(self.fitted)

    def bounds(self, alpha: float, row_weights: FloatArray | None) -> FloatArray:
        """Fitted values (t, n) with bounds, of new rows of these weights, or of the mean (None)."""
        made = self.fit.statistics
        errors = fitted_errors(self.fit, made, self.X, self.groups)
        if row_weights is not None:
            errors = np.hypot(errors, on_rows(made.row_scale, self.groups).T / np.sqrt(row_weights))
        quantiles = np.broadcast_to(inference.quantile(alpha, made.df_error), made.row_scale.shape)
        half = on_rows(quantiles, self.groups).T * errors
        bounds = (self.fitted, self.fitted - half, self.fitted + half)
        return np.stack([self._with_origin(bound) for bound in bounds])

    def resid(self, Y: Sequence[Numbers]) -> FloatArray:
        k, origins = len(self.fit.predictors), self.fit.origins
        observed = [stored_values(y, origins.get(k + q), self.groups) for q, y in enumerate(Y)]
        return np.array(observed) - self.fitted

    def _with_origin(self, values: FloatArray) -> FloatArray:
        """Values of the stored targets (t, n) in the units of the caller's."""
        out = values.copy()
        for q in range(len(out)):
            reference = self.fit.origins.get(len(self.fit.predictors) + q)
            if reference is not None:
                out[q] += np.append(reference.astype(np.float64), np.nan)[self.groups]
        return out

    def influence(
        self, resid: FloatArray, side: FloatArray, scale: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """`influence.influence` of rows (t, n) with these roots of weights, NaN for those of none."""
        e = self.fit.estimates
        factors = fit_factors(e)
        errors = unit_errors(self.fit, factors, self.X, self.groups)[e.pattern]
        with np.errstate(all="ignore"):
            reach = np.abs(e.center) * np.sqrt(e.wsum)[..., None] / np.where(e.dropped, np.inf, e.norm)
            reach = np.fmax.reduce(reach, axis=2, initial=1.0)  # the mean that deviations are from is rounded
            doubt = [quadratic.inverse_size(G) * reach[:, m] for m, G in enumerate(factors)]
            certain = 1 / np.array(doubt)[e.pattern]
            return influence.influence(
                side * resid,
                np.square(side * errors),
                scale,
                on_rows(self.fit.statistics.rank.astype(np.float64), self.groups).T,
                on_rows(certain.T, self.groups).T,
                side * (np.abs(self.fitted) + on_rows(np.abs(e.level), self.groups).T),
            )


def predicted(
    estimates: Estimates, X: Sequence[Numbers], groups: IntArray, origins: Origins, reduced: bool
) -> FloatArray:
    """Fitted values (t, n) of the stored targets: their origins are not added.

    level + sum_j b_j (x_j - place_j): a deviation from the place of the level keeps its digits where
    intercept + sum_j b_j x_j would cancel; without intercept, level and places are 0. With
    ``reduced`` the coefficients of dropped predictors count as 0. NaN where the group is -1, a
    coefficient is NaN, or a predictor is missing or infinite.
    """
    first = int(estimates.params.shape[2] > len(X))  # 1 if there is an intercept
    out = np.array([on_rows(level, groups) for level in estimates.level.T])
    with np.errstate(over="ignore", invalid="ignore"):
        for j, x in enumerate(finite_values(X, groups, origins)):
            shared: dict[int, FloatArray] = {}
            for q, m in enumerate(estimates.pattern.tolist()):
                slope = estimates.params[:, q, first + j]
                if reduced:
                    slope = np.where(estimates.dropped[:, m, j], 0.0, slope)
                own = q if estimates.middle.shape[2] else m  # targets of a pattern share their places else
                if own not in shared:
                    shared = {own: x - on_rows(estimates.place(q)[:, j], groups)}
                out[q] += on_rows(slope, groups) * shared[own]
    return out


def departures(fit: GroupFit, X: Sequence[Numbers], groups: IntArray) -> FloatArray | None:
    """`quadratic.departure` of rows, for each target (t, n); 0 in groups without dropped predictors.

    None where there are no others, and with a penalty, which correlations are then those with.
    """
    e = fit.estimates
    if fit.spec.penalised or not e.dropped.any():
        return None
    out = np.zeros((e.dropped.shape[1], len(groups)))
    for m, deviations in enumerate(deviations_of_patterns(fit, X, groups)):
        place = np.full(len(e.dropped) + 1, -1)
        own = np.flatnonzero(e.dropped[:, m].any(axis=1))
        place[own] = np.arange(len(own))
        rows = np.flatnonzero(place[groups] >= 0)
        xcorr, dropped, center = e.xcorr[own, m], e.dropped[own, m], e.center[own, m]
        spread = e.norm[own, m] / np.sqrt(e.wsum[own, m, None])
        there = deviations[:, rows], place[groups[rows]]
        out[m, rows] = quadratic.departure(xcorr, dropped, spread, center, *there)
    return out[e.pattern]


def fitted_errors(fit: GroupFit, made: Statistics, X: Sequence[Numbers], groups: IntArray) -> FloatArray:
    """Standard deviations of fitted values (t, n)."""
    if fit.spec.cov_type not in ROBUST:
        unit = unit_errors(fit, fit_factors(fit.estimates), X, groups)
        return unit[fit.estimates.pattern] * on_rows(made.error_scale, groups).T
    deviations = deviations_of_patterns(fit, X, groups)
    errors = [
        quadratic.sandwich_root(made.sandwich_factor(q), deviations[m], groups, fit.spec.options.intercept)
        for q, m in enumerate(fit.estimates.pattern.tolist())
    ]
    return np.array(errors)


def unit_errors(
    fit: GroupFit, factors: Sequence[FloatArray], X: Sequence[Numbers], groups: IntArray
) -> FloatArray:
    """Standard deviations of fitted values, if a row of weight 1 has 1: (m, n). By `fit_factors`."""
    e = fit.estimates
    deviations = deviations_of_patterns(fit, X, groups)
    out = np.full((e.rank.shape[1], len(groups)), np.nan)
    for m, G in enumerate(factors):
        norm = np.where(e.dropped[:, m], np.inf, e.norm[:, m])
        intercept = fit.spec.options.intercept
        out[m] = quadratic.leverage_root(G, norm, e.wsum[:, m], deviations[m], groups, intercept)
    return out


def fit_factors(estimates: Estimates) -> list[FloatArray]:
    """`quadratic.fit_factor` of each pattern."""
    e = estimates
    return [quadratic.fit_factor(e.xcorr[:, m], e.dropped[:, m]) for m in range(e.rank.shape[1])]


def deviations_of_patterns(fit: GroupFit, X: Sequence[Numbers], groups: IntArray) -> FloatArray:
    """X - center: (m, k, n)."""
    e = fit.estimates
    out = np.zeros((e.rank.shape[1], len(X), len(groups)))
    for j, x in enumerate(finite_values(X, groups, fit.origins)):
        for m in set(e.pattern.tolist()):
            out[m, j] = x - on_rows(e.center[:, m, j], groups)
    return out


def finite_values(X: Sequence[Numbers], groups: IntArray, origins: Origins) -> Iterator[FloatArray]:
    """(n,) stored values of each column; NaN where it is missing or infinite."""
    for j, column in enumerate(X):
        x = stored_values(column, origins.get(j), groups)
        yield np.where(np.isfinite(x), x, np.nan)


def on_rows(values: FloatArray, groups: IntArray) -> FloatArray:
    """(g, ...) -> (n, ...), NaN for rows in group -1."""
    spread: FloatArray = np.append(values, np.full((1, *values.shape[1:]), np.nan), axis=0)[groups]
    return spread
