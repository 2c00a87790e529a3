# SPDX-License-Identifier: MIT
"""NIST's certified sets through ``df.gbreg.fit``, on every backend.

Bars, against the exact answer of the float64 design: coefficients and standard errors 12
digits, residual standard deviation 13, on every set; with extended precision coefficients
15, and 13 on Filip.
"""

from __future__ import annotations

import warnings
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
import pandas as pd
import pytest
from nist import digits, group_sets, hide, regression_sets, score

import gbreg

REGRESSIONS, GROUPS = regression_sets(), group_sets()
NAMES = sorted(REGRESSIONS)
HIDING_GROUPS = 100_000


def fit_set(frame, which, **options):
    linear = which.predictors
    return frame.gbreg.fit(by="g", linear=linear, targets=["y"], intercept=which.intercept, **options)


def assert_digits(fit, which, key, coef=12, se=12, rsd=13):
    rms_df = np.sqrt(fit.scale.loc[key, "y"])
    got = score(which, fit.params["y"].loc[key].to_numpy(), fit.bse["y"].loc[key].to_numpy(), rms_df)
    assert got[0] >= coef, got
    assert got[1] >= se, got
    assert got[2] >= rsd, got


def alike() -> list[list[str]]:
    """Names of sets with the same model: one call fits them."""
    models: dict[tuple[object, ...], list[str]] = {}
    for name in NAMES:
        which = REGRESSIONS[name]
        models.setdefault((*which.predictors, which.intercept), []).append(name)
    return list(models.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("weight", [None, 2.0])
def test_alone(name, weight, backend):
    which = REGRESSIONS[name]
    frame = which.frame.assign(g=7, w=weight or 1.0)
    fit = fit_set(frame, which, backend=backend, weights="w" if weight else None)
    assert fit.status.loc[7, "y"] == "ok"
    if weight is None:
        assert_digits(fit, which, 7)
    else:  # rms^2 scales with the weights, errors do not
        got = score(which, fit.params["y"].loc[7].to_numpy(), fit.bse["y"].loc[7].to_numpy(), 1.0)
        assert min(got[:2]) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_extended(name, backend):
    which = REGRESSIONS[name]
    fit = fit_set(which.frame.assign(g=7), which, backend=backend, precision="extended")
    assert_digits(fit, which, 7, coef=13 if name == "Filip" else 15)
    assert fit.flags.loc[7, ("y", "extended")]


@pytest.mark.parametrize("name", NAMES)
def test_shuffled_and_permuted(name, backend):
    which = REGRESSIONS[name]
    for seed in range(3):
        frame = which.frame.sample(frac=1, random_state=seed).assign(g=7)
        assert_digits(fit_set(frame, which, backend=backend), which, 7)
    if name != "Filip" and len(which.predictors) > 1:
        linear = which.predictors[::-1]
        fit = which.frame.assign(g=7).gbreg.fit(
            by="g", linear=linear, targets=["y"], intercept=which.intercept, backend=backend
        )
        back = fit.params["y"][["Intercept", *which.predictors]] if which.intercept else fit.params["y"]
        assert score(which, back.loc[7].to_numpy(), np.zeros(len(back.columns)), 1.0)[0] >= 12


@pytest.mark.compiled
@pytest.mark.parametrize("which", alike(), ids=", ".join)
def test_hidden_among_random_groups(which, backend):
    sets = {-1 - i: REGRESSIONS[name] for i, name in enumerate(which)}
    first = sets[-1]
    rows = 14 if len(first.predictors) > 6 else 4 + len(first.predictors)
    hidden = pd.concat(each.frame.assign(g=key) for key, each in sets.items())
    frame = hide(hidden, first.predictors, HIDING_GROUPS, rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_set(frame, first, backend=backend, mad=False)
    assert len(fit) == HIDING_GROUPS + len(sets)
    for key, each in sets.items():
        assert_digits(fit, each, key)


@cache
def exact(name: str) -> dict[int, tuple[Decimal, Decimal]]:
    """Mean and sum of squares about it, of each group."""
    answers = {}
    for key, values in GROUPS[name][0].astype({"y": float}).groupby("group")["y"]:
        fractions = [Fraction(value) for value in values]
        mean = sum(fractions, Fraction(0)) / len(fractions)
        squares = sum((value - mean) ** 2 for value in fractions)
        answers[key] = tuple(Decimal(f.numerator) / Decimal(f.denominator) for f in (mean, squares))
    return answers


@pytest.mark.compiled
@pytest.mark.parametrize("name", sorted(GROUPS))
def test_group_means(name, backend):
    """Univariate and one-way sets: means to 14 digits, from exact arithmetic on the stored data."""
    frame = GROUPS[name][0].astype({"y": float})
    fit = frame.gbreg.fit(by="group", linear=[], targets=["y"], backend=backend)
    for key, (mean, squares) in exact(name).items():
        assert digits(fit.params.loc[key, ("y", "Intercept")], mean) >= 14
        assert digits(fit.ssr.loc[key, "y"], squares) >= 13


def test_certified_values_agree_with_the_exact_ones():
    """The data read here are those that NIST certified: guards the copies in tests/data."""
    which = REGRESSIONS["Longley"]
    fit = which.frame.assign(g=0).gbreg.fit(by="g", linear=which.predictors, targets=["y"], backend="numpy")
    assert fit.params.iloc[0, 0] == pytest.approx(-3482258.63459582, rel=1e-13)
    assert isinstance(fit, gbreg.GroupFit)
    assert isinstance(fit.keys, pd.Index)
