# SPDX-License-Identifier: MIT
"""Values and weights near the ends of float64: exact numbers or ``overflow``, never wrong ones.

Weights and columns are scaled to be near 1, so one exponent for all does no harm; a spread of
hundreds of decades within a group makes products underflow.
"""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pandas as pd
import pytest
from oracle import Answer, real, root, weighted_least_squares
from test_agreement import fit, problem_of

import gbreg
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Flag, Status

MAX = np.finfo(float).max
LEAST = 5e-324
NORMAL = mpmath.mpf(2) ** -1022
Group = tuple[np.ndarray, np.ndarray, np.ndarray]


def group(w, y, *X) -> Group:
    """X (k, n), Y (1, n), w (n,)."""
    return np.array(X, dtype=float).reshape(len(X), len(w)), np.array([y], dtype=float), np.array(w, float)


def near(got: float, want: mpmath.mpf, unit: mpmath.mpf, rel: float = 1e-9) -> bool:
    """To ``rel`` of a unit, or the last digit of the smallest numbers."""
    return math.isfinite(got) and abs(mpmath.mpf(float(got)) - want) <= rel * unit + mpmath.mpf(2) ** -1074


def wrong(est: Estimates, g: int, data: Group, intercept: bool) -> str:
    """What is wrong with the numbers of group g, which may be refused; empty if nothing is."""
    X, Y, w = data
    numbers = [*est.params[g, 0], est.resid_norm[g, 0], est.mad[g, 0]]
    if est.status[g, 0] == Status.OVERFLOW:
        return "" if np.isnan(numbers).all() and est.flags[g, 0] == Flag.EXTENDED else "overflow with numbers"
    if est.status[g, 0] == Status.RANK_DEFICIENT:
        return ""
    try:
        want = weighted_least_squares(X, Y[0], w, intercept)
    except ZeroDivisionError:
        return "singular"
    return next((name for name, fine in checks(est, g, data, want) if not fine), "")


def checks(est: Estimates, g: int, data: Group, want: Answer):
    """Names of what is compared, and whether it is right.

    Coefficients count in themselves and what a relative error of the target does to them, means in
    themselves and the spread of their column.
    """
    X, _, w = data
    p = len(want.params)
    flags = est.flags[g, 0]
    wsum, tss = real(sum(map(Fraction, w.tolist()))), root(want.tss)
    side = mpmath.sqrt(wsum)
    yield "wsum", near(est.wsum[g, 0], wsum, wsum)
    for got, exact, err in zip(est.params[g, 0], want.params, want.root, strict=True):
        yield "params", near(got, real(exact), abs(real(exact)) + tss * err)
    for got, err in zip(est.root[g, 0], want.root, strict=True):
        yield "root", bool(flags & Flag.ILL_CONDITIONED) or (got > 0 and near(got, err, err))
    yield "target_norm", near(est.target_norm[g, 0], tss, tss) and (est.target_norm[g, 0] > 0) == (tss > 0)
    sizes = [root(square) for square in want.norms]
    for got, exact, size in zip(est.center[g, 0], want.center, sizes, strict=True):
        yield "center", near(got, real(exact), abs(real(exact)) + size / side)
    for got, size in zip(est.norm[g, 0], sizes, strict=True):
        held = size == 0 or NORMAL <= size <= MAX
        yield "norm", near(got, size, size) if held else math.isnan(got)
    logs = mpmath.fsum(mpmath.log(v) for v in w.tolist())
    yield "log_wsum", near(est.log_wsum[g, 0], logs, 1 + abs(logs))
    rss = root(want.rss)
    if flags & Flag.PERFECT_FIT:
        terms = abs(real(want.level)) + tss / side
        for slope, center, size in zip(want.params[p - len(X) :], want.center, sizes, strict=True):
            terms += abs(real(slope)) * (abs(real(center)) + size / side)
        yield "perfect_fit", rss / side <= 1e-14 * terms
    elif len(w) > p:
        yield "resid_norm", est.resid_norm[g, 0] > 0 and near(est.resid_norm[g, 0], rss, rss)


ORDINARY = [0.3, -1.2, 2.0, 0.7, 1.1]
STEPS = [1.0, 2, 3, 5, 8]
REFUSED = {  # group, intercept
    "weights whose sum overflows": (group([MAX, MAX, 1e308, 1e308, MAX], ORDINARY, STEPS), True),
    "residuals below float64": (group([2e-323, 9e-323, LEAST], [7e-323, -7e-323, 2e-322]), True),
    "residuals of few digits": (group([1] * 5, [LEAST * v for v in (25, 7, 8, 90, 3)]), True),
    "residuals of few digits, small weights": (group([1e-300] * 5, [1e-170 * v for v in ORDINARY]), True),
    "saturated, target below float64": (group([1e-300] * 2, [1e-180, 3e-180], [1, 2]), True),
    "heavy row whose square drowns": (group([1e-308, 1e-220, 4e234], [0, 0, 1.9]), True),
    "heavy row, target far out": (
        group([7e-66, 5e-131, 7e-66, 5e-131, 3e291], [0, -2e-132, 3e21, -3e63, 0]),
        True,
    ),
    "heavy row, predictor 0 there": (
        group(
            [6e-302, 6e-110, 1e-310, 1e-7, 4e225],
            [0, -1e294, -2e-277, 0, 2e-46],
            [1e308, 7e307, -1e308, 8e307, -1e308],
        ),
        True,
    ),
    "error below float64": (
        group([7e148, 7e199, 4e154, 1e138], [0.7, 0.8, -1.2, 0.1], [-1e205, -8e24, 6e91, -1.4e254]),
        False,
    ),
    "weights from 1e-310 to 1e300": (
        group([1e-310, 1e300, 1e200, 1e-100, 1], ORDINARY, [1e300, -2e300, 3e299, 1e300, 5e300]),
        True,
    ),
    "subnormal beside huge": (
        group(
            [1, 9e296, 1, 0.7, 1],
            [-2e-128, 2e-128, 2e-128, 0, 1e-128],
            [LEAST * v for v in (-3, 11, -26, -20, -13)],
            [6e157, 0.3, 0.7, 0.4, 2.7],
        ),
        True,
    ),
    "no intercept, light rows lead": (
        group(
            [3e-222, 4e25, 2e-37, 2e-239, 5e235],
            [-2e-254, 4e-225, 5e235, 4e-113, 2e-21],
            [-1e308, 1.4e308, 1e308, 9e307, 1.5e308],
            [-0.3, -0.4, 0.4, 0.3, 1e150],
        ),
        False,
    ),
    "mad beyond float64": (
        group([1, 1, *[1e-300] * 4], [1.7e308 * v for v in (1, -1, 1, 1, -1, -1)], [0, 4, 12, 12, -8, -8]),
        True,
    ),
}
FITTED = {
    "largest weights": (group([MAX / 8, MAX / 9, MAX / 7, MAX / 5, MAX / 6], ORDINARY, STEPS), True),
    "smallest weights": (group([LEAST * v for v in STEPS], ORDINARY, [2, 1, 1, 3, 4]), True),
    "largest target": (group([1, 2, 1, 3, 2], [MAX / 4 * v for v in ORDINARY], STEPS), True),
    "largest predictor": (
        group([1, 2, 1, 3, 2], [1e300 * v for v in ORDINARY], [MAX / 8 * v for v in STEPS]),
        True,
    ),
    "largest predictor, norm beyond": (
        group([1] * 4, [1e300, 2e300, 1e300, 2.5e300], [-1.5e308, 1.5e308, 0, 1e308]),
        True,
    ),
    "subnormal predictor": (
        group([1e20] * 5, [1e-10 * v for v in ORDINARY], [1e-310 * v for v in STEPS]),
        True,
    ),
    "weights over 400 decades": (group([1e-250, 1e150, 2e-250, 3e149, 1], ORDINARY, STEPS), True),
    "a row of 1e200": (group([1, 1e200, 2, 3, 1], ORDINARY, STEPS), True),
    "no intercept, weights over 600 decades": (
        group([1e-300, 1, 1e300, 2e300, 1e-5], ORDINARY, STEPS),
        False,
    ),
}


@pytest.mark.parametrize("precision", ["auto", "extended"])
@pytest.mark.parametrize("name", [*REFUSED, *FITTED])
def test_numbers_are_right_or_refused(backend, name, precision):
    data, intercept = (REFUSED | FITTED)[name]
    options = FitOptions(intercept=intercept, min_nobs=1, precision=precision)
    est = fit(backend, problem_of([data]), options)
    assert wrong(est, 0, data, intercept) == ""
    assert (est.status[0, 0] == Status.OVERFLOW) == (name in REFUSED)


# --- fuzz -----------------------------------------------------------------------------------------


def wild(rng, n, low=-323.0, high=308.2):
    return np.clip(10.0 ** np.minimum(rng.uniform(low, high, n), 308.2), LEAST, MAX)


def around(rng, n):
    """Sixty decades or fewer about some size."""
    middle, reach = rng.uniform(-250, 250), rng.uniform(0, 60)
    return wild(rng, n, middle - reach, middle + reach)


def some_weights(rng, n):
    kind = rng.integers(8)
    if kind == 0:
        return wild(rng, n)
    if kind == 1:
        return MAX * rng.uniform(0.02, 1, n)
    if kind == 2:
        return LEAST * rng.integers(1, 50, n)
    if kind == 3:
        return np.clip(rng.uniform(0.5, 2, n) * wild(rng, 1), LEAST, MAX)
    if kind == 4:
        w = rng.uniform(0.5, 2, n)
        w[rng.integers(n)] *= 10.0 ** rng.uniform(0, 307)
        return w
    if kind == 5:
        return 10.0 ** rng.choice([*rng.uniform(-300, 300, 2), 0], n)
    return around(rng, n) if kind == 6 else rng.uniform(0.5, 2, n)


def some_column(rng, n):
    kind, sign = rng.integers(8), rng.choice([-1.0, 1.0], n)
    if kind == 0:
        return sign * wild(rng, n)
    if kind == 1:
        return sign * MAX * rng.uniform(0.1, 1, n)
    if kind == 2:
        return LEAST * rng.integers(-50, 50, n)
    if kind == 3:
        return np.clip(rng.normal(size=n), -2, 2) * wild(rng, 1) / 4
    if kind == 4:
        return np.where(rng.random(n) < 0.5, 0, sign * wild(rng, n))
    if kind == 5:
        return rng.integers(-3, 4, n) * 10.0 ** rng.integers(-300, 300)
    return sign * around(rng, n) if kind == 6 else rng.normal(size=n)


def some_group(rng, k: int, intercept: bool) -> Group:
    n = max(int(rng.integers(k + intercept, 9)), 1)
    X = np.array([some_column(rng, n) for _ in range(k)]).reshape(k, n)
    return X, some_column(rng, n)[None], some_weights(rng, n)


SHAPES = [(0, True), (1, True), (1, False), (2, True), (2, False), (3, True)]


def test_nothing_is_known_of_a_group_whose_weights_overflow(backend):
    data, _ = REFUSED["weights whose sum overflows"]
    est = fit(backend, problem_of([data]), FitOptions(min_nobs=2))
    assert est.status[0, 0] == Status.OVERFLOW
    assert est.rank[0, 0] == 0
    assert not est.dropped.any()
    for name in ("wsum", "pivot", "center", "norm", "root", "corr"):
        assert np.isnan(getattr(est, name)).all(), name


@pytest.mark.compiled
@pytest.mark.parametrize(("k", "intercept"), SHAPES)
def test_wild_exponents(k, intercept):
    rng = np.random.default_rng(1000 + 10 * k + intercept)
    groups = [some_group(rng, k, intercept) for _ in range(120)]
    problem = problem_of(groups)
    options = FitOptions(intercept=intercept, min_nobs=k + intercept)
    fits = {name: fit(name, problem, options) for name in ("numba", "numpy")}
    for name, est in fits.items():
        found = {g: wrong(est, g, data, intercept) for g, data in enumerate(groups)}
        assert {g: what for g, what in found.items() if what} == {}, name
        assert (est.status == Status.OK).sum() >= 10
    for name in ("status", "flags", "rank", "dropped"):
        one, other = (getattr(est, name) for est in fits.values())
        np.testing.assert_array_equal(one, other, err_msg=name)


@pytest.mark.compiled
def test_a_long_group_is_refused_or_right():
    """Summed in blocks, by the same rules."""
    rng = np.random.default_rng(2)
    n = 70_000
    x, y, w = rng.normal(size=n), rng.normal(size=n), rng.uniform(0.5, 2, n)
    heavy = w.copy()
    heavy[n // 2] = 1e300
    full = w * 1e304
    for weights, status in ((heavy, Status.OVERFLOW), (full, Status.OVERFLOW), (full / 1e20, Status.OK)):
        est = fit("numba", problem_of([(x[None], y[None], weights)]), FitOptions(min_nobs=2, mad=False))
        assert est.status[0, 0] == status
        assert np.isnan(est.params).all() == np.isnan(est.root).all() == (status == Status.OVERFLOW)


def test_an_error_below_the_normal_numbers_is_nan_beside_good_coefficients() -> None:
    u = np.arange(8.0)
    noise = 1e-299 * np.random.default_rng(0).normal(size=8)
    frame = pd.DataFrame({"g": 0, "x": 1e10 * u, "y": 1e-290 * u + noise})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    assert fit.status["y"].tolist() == ["ok"]
    np.testing.assert_allclose(fit.params[("y", "x")], 1e-300, rtol=1e-8)
    for table in (fit.bse, fit.tvalues, fit.pvalues):
        assert table["y"].isna().to_numpy().tolist() == [[False, True]]
