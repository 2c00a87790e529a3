# SPDX-License-Identifier: MIT
"""The zoo of groups that break other tools, on every engine, against exact answers."""

from __future__ import annotations

from fractions import Fraction

import numba
import numpy as np
import pandas as pd
import pytest
from oracle import digits, root, weighted_least_squares, worst

import gbreg
from gbreg.backends import get_backend
from gbreg.errors import GbregWarning
from gbreg.problem import FitOptions, Problem, Status, frozen

X2 = ["x0", "x1"]


def frame_of(X, y, w=None, key=0) -> pd.DataFrame:
    """One group; X (k, n)."""
    X = np.atleast_2d(X)
    frame = pd.DataFrame({f"x{j}": x for j, x in enumerate(X)})
    return frame.assign(y=np.asarray(y, dtype=float), w=1.0 if w is None else w, key=key)


def fit(frame: pd.DataFrame, backend: str, linear=None, fails: str = "", **kwargs) -> gbreg.GroupFit:
    linear = [name for name in frame if str(name).startswith("x")] if linear is None else linear
    call = {"by": "key", "linear": linear, "targets": ["y"], "weights": "w", "backend": backend, **kwargs}
    if not fails:
        return frame.gbreg.fit(**call)
    with pytest.warns(GbregWarning, match=fails):
        return frame.gbreg.fit(**call)


def coefficients(result: gbreg.GroupFit, g: int = 0) -> np.ndarray:
    return result.params["y"].to_numpy()[g]


def flags(result: gbreg.GroupFit) -> list[str]:
    """Those that the first group has."""
    return result.flags["y"].iloc[0][lambda held: held].index.tolist()


def assert_exact(result, X, y, w=None, *, coef=12.0, err=11.5, ssr=11.0) -> None:
    """Coefficients, errors and ssr of the only group have at least so many digits."""
    X = np.atleast_2d(X)
    want = weighted_least_squares(X, np.asarray(y, dtype=float), w)
    sigma = root(want.rss / (len(y) - len(want.params)))
    assert worst(coefficients(result), want.params) >= coef
    assert worst(result.bse["y"].to_numpy()[0], [sigma * r for r in want.root]) >= err
    assert digits(result.ssr["y"].iloc[0], want.rss) >= ssr
    assert result.status["y"].iloc[0] == "ok"


def assert_no_numbers(result, g: int = 0) -> None:
    for name in ("params", "bse", "tvalues", "pvalues", "ssr", "rms", "mad", "rsquared", "llf"):
        assert np.isnan(getattr(result, name).to_numpy()[g]).all(), name


# --- too little data ------------------------------------------------------------------------------


def test_sizes_from_none_to_one_more_than_coefficients(backend):
    """Groups of 0 (selected away), 1, p - 1, p and p + 1 rows, p = 3."""
    rng = np.random.default_rng(1)
    sizes = {"none": 3, "one": 1, "two": 2, "three": 3, "four": 4}
    frame = pd.DataFrame({"key": np.repeat(list(sizes), list(sizes.values()))})
    frame[[*X2, "y", "w"]] = rng.uniform(0.5, 2, (len(frame), 4))
    result = fit(frame, backend, fails="2 too_few_rows", where=frame["key"] != "none", sort=False)
    assert list(result.status["y"]) == ["no_data", "too_few_rows", "too_few_rows", "saturated", "ok"]
    assert list(result.nobs["y"]) == [0, 1, 2, 3, 4]
    for g in range(3):
        assert_no_numbers(result, g)

    rows = frame[frame["key"] == "three"]
    want = np.linalg.solve(np.column_stack([np.ones(3), rows[X2]]), rows["y"])
    np.testing.assert_allclose(coefficients(result, 3), want, rtol=1e-11)
    assert result.ssr["y"].iloc[3] == 0
    assert result.df_resid["y"].iloc[3] == 0
    for name in ("bse", "tvalues", "pvalues", "scale", "llf"):
        assert np.isnan(getattr(result, name).to_numpy()[3]).all(), name

    rows = frame[frame["key"] == "four"]
    want = weighted_least_squares(rows[X2].to_numpy().T, rows["y"].to_numpy(), rows["w"].to_numpy())
    assert worst(coefficients(result, 4), want.params) >= 12


def test_a_frame_without_rows(backend):
    frame = frame_of(np.empty((2, 0)), []).astype({"key": "int64"})
    result = fit(frame, backend)
    assert len(result) == 0
    assert list(result.params.columns) == [("y", "Intercept"), ("y", "x0"), ("y", "x1")]
    assert (result.params.dtypes == "float64").all()


@pytest.mark.parametrize("column", ["x0", "y"])
def test_all_values_missing(backend, column):
    rng = np.random.default_rng(2)
    frame = pd.concat([frame_of(rng.normal(size=(2, 6)), rng.normal(size=6), key=key) for key in (0, 1)])
    frame.loc[frame["key"] == 0, column] = np.nan
    result = fit(frame, backend, fails="1 no_data")
    assert list(result.status["y"]) == ["no_data", "ok"]
    assert_no_numbers(result, 0)
    assert result.accounting(per_group=True)["y"]["missing"].tolist() == [6, 0]


@pytest.mark.parametrize("column", ["x1", "y"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_rows_that_are_not_finite_are_left_out(backend, column, value):
    rng = np.random.default_rng(3)
    frame = frame_of(rng.normal(size=(2, 9)), rng.normal(size=9), rng.uniform(1, 2, 9))
    frame.loc[[0, 5], column] = value
    got, want = fit(frame, backend), fit(frame.drop(index=[0, 5]), backend)
    pd.testing.assert_frame_equal(got.params, want.params, check_exact=True)
    pd.testing.assert_frame_equal(got.bse, want.bse, check_exact=True)
    assert got.nobs["y"].iloc[0] == 7
    assert got.flags["y"]["rows_dropped"].iloc[0]


# --- columns that say nothing ---------------------------------------------------------------------


@pytest.mark.parametrize("value", [7.1, 0.0, -1e300, 5e-324, 2.0**60])
def test_constant_predictor(backend, value):
    """The slope of the other predictor does not depend on it, and the intercept only if it is not 0."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=10), rng.normal(size=10)
    frame = frame_of([np.full(10, value), x], y)
    result = fit(frame, backend, fails="rank_deficient.*'x0'")
    want = weighted_least_squares(x[None], y)
    got = coefficients(result)
    assert result.status["y"].iloc[0] == "rank_deficient"
    assert np.isnan(got).tolist() == [value != 0, True, False]
    assert digits(got[2], want.params[1]) >= 12
    assert result.df_resid["y"].iloc[0] == 8
    assert digits(result.ssr["y"].iloc[0], want.rss) >= 12
    dropped = fit(frame, backend, fails="rank_deficient", on_collinear="drop")
    assert worst(coefficients(dropped)[[0, 2]], want.params) >= 12


COLLINEAR = {  # the predictors made of two, which of them is the combination, what is hidden
    "multiple": (lambda a, b: [a, 3 * a, b], 1, [False, True, True, False]),
    "sum": (lambda a, b: [a, b, a + b], 2, [False, True, True, True]),
    "multiple and constant": (lambda a, b: [a, 0.1 * a + 7.3, b], 1, [True, True, True, False]),
    "second and constant": (lambda a, b: [a, b, b + 7.3], 2, [True, False, True, True]),
}


@pytest.mark.parametrize("kind", COLLINEAR)
@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("unit", [1.0, 1e-30])
def test_collinear_predictors(backend, kind, offset, unit):
    """What depends on the combination is NaN, all else is as without it."""
    rng = np.random.default_rng(5)
    x = offset + rng.normal(size=(2, 12))
    make, made, hidden = COLLINEAR[kind]
    y, w = rng.normal(size=12), rng.uniform(0.5, 2, 12) * unit
    result = fit(frame_of(np.stack(make(*x)), y, w), backend, fails="rank_deficient")
    want = weighted_least_squares(x, y, w)
    exact = [*want.params]
    exact.insert(1 + made, exact[0])  # hidden whatever it is
    got = coefficients(result)
    assert np.isnan(got).tolist() == hidden
    for value, one, gone in zip(got, exact, hidden, strict=True):
        assert gone or digits(value, one) >= 11
    assert digits(result.ssr["y"].iloc[0], want.rss) >= 12
    assert result.df_resid["y"].iloc[0] == 9


@pytest.mark.parametrize("power", [2, 4, 6, 8, 10, 12])
def test_two_near_predictors_and_their_difference(backend, power):
    """What rounding leaves of the third is much more than of the second: its terms have cancelled."""
    rng = np.random.default_rng(power)
    a = rng.normal(size=12)
    b = a + 10.0**-power * rng.normal(size=12)
    assert all(Fraction(d) == Fraction(v) - Fraction(u) for u, v, d in zip(a, b, b - a, strict=True))
    y = rng.normal(size=12)
    result = fit(frame_of([a, b, b - a], y), backend, fails="rank_deficient.*'x2'")
    got = coefficients(result)
    assert np.isnan(got).tolist() == [False, True, True, True]
    assert digits(got[0], weighted_least_squares(np.stack([a, b]), y).params[0]) >= 11
    assert result.df_resid["y"].iloc[0] == 9


@pytest.mark.parametrize("power", [3, 6, 9, 11])
def test_nearly_collinear_predictors_are_fitted(backend, power):
    """Slopes are refined; errors have the digits that 32 leaves of a pivot of 10**(-2 power)."""
    rng = np.random.default_rng(power)
    x = rng.normal(size=12)
    X = np.stack([x, x + 10.0**-power * rng.normal(size=12)])
    y = X.sum(axis=0) + rng.normal(size=12)
    result = fit(frame_of(X, y), backend)
    assert_exact(result, X, y, coef=15, err=min(14, 31 - 2 * power), ssr=14)
    assert bool(result.flags["y"]["ill_conditioned"].iloc[0]) == (power > 7)


@pytest.mark.parametrize("value", [3.3, 0.0, -1e200, 1e-300])
def test_constant_target(backend, value):
    rng = np.random.default_rng(6)
    result = fit(frame_of(rng.normal(size=(2, 8)), np.full(8, value), rng.uniform(1, 2, 8)), backend)
    assert coefficients(result).tolist() == [value, 0, 0]
    assert result.ssr["y"].iloc[0] == 0
    assert np.isnan(result.rsquared["y"].iloc[0])
    assert result.flags["y"]["constant_target"].iloc[0]
    assert np.isnan(result.pvalues.to_numpy()).all()


def test_constant_target_of_as_many_rows_as_coefficients(backend):
    result = fit(frame_of(np.array([[0.0, 1, 3], [1, 5, 2]]), np.full(3, 4.0), np.ones(3)), backend)
    assert coefficients(result).tolist() == [4, 0, 0]
    assert result.status["y"].tolist() == ["saturated"]
    assert flags(result) == ["constant_target"]


@pytest.mark.parametrize("k", [0, 1, 6, 9])
def test_constant_target_beside_any_number_of_predictors(backend, k):
    """It needs no more digits than float64 has."""
    rng = np.random.default_rng(6)
    result = fit(frame_of(rng.normal(size=(k, 20)), np.full(20, 3.3)), backend)
    assert coefficients(result).tolist() == [3.3] + [0.0] * k
    assert flags(result) == ["constant_target", "perfect_fit"]


# --- far away, very large, very small -------------------------------------------------------------


@pytest.mark.parametrize("offset", [1e4, 1e6, 1e8])
def test_slope_2_of_two_values_far_from_zero(backend, offset):
    """x = offset +- 1: raw cross products lose the slope at 1e8 altogether."""
    x = offset + np.array([-1.0, 1, -1, 1, 1, -1])
    y = 2 * (x - offset) + np.array([0.1, -0.1, -0.1, 0.1, 0, 0])
    result = fit(frame_of(x, y), backend)
    assert coefficients(result)[1] == pytest.approx(2, rel=1e-9)
    assert_exact(result, x, y, coef=13, err=12, ssr=12)


@pytest.mark.parametrize("offset", [1e9, -1e12])
def test_offsets_of_predictors_and_target(backend, offset):
    rng = np.random.default_rng(7)
    X = offset + rng.normal(size=(2, 15))
    y = offset + rng.normal(size=15)
    w = rng.uniform(0.5, 2, 15)
    assert_exact(fit(frame_of(X, y, w), backend), X, y, w)


@pytest.mark.parametrize("which", ["x", "y", "both", "one of two"])
@pytest.mark.parametrize("power", [-200, 200])
def test_extreme_scales(backend, which, power):
    rng = np.random.default_rng(8)
    X, y = rng.normal(size=(2, 12)), rng.normal(size=12)
    scale = 10.0**power
    if which in ("x", "both"):
        X *= scale
    if which == "one of two":
        X[0] *= scale
    if which in ("y", "both"):
        y *= scale
    w = rng.uniform(0.5, 2, 12)
    result = fit(frame_of(X, y, w), backend)
    want = weighted_least_squares(X, y, w)
    sigma = root(want.rss / 9)
    assert result.status["y"].iloc[0] == "ok"
    assert worst(coefficients(result), want.params) >= 13
    assert worst(result.bse["y"].to_numpy()[0], [sigma * r for r in want.root]) >= 13
    assert digits(result.rms["y"].iloc[0], root(want.rss / sum(map(Fraction, w)))) >= 13
    if which in ("y", "both"):  # a square of 1e-400 or 1e400 is no float64: NaN, not 0 or inf
        assert np.isnan(result.ssr["y"].iloc[0])
    assert result.rsquared["y"].iloc[0] == pytest.approx(float(1 - want.rss / want.tss), rel=1e-11)


def test_a_slope_out_of_range_is_overflow(backend):
    rng = np.random.default_rng(9)
    frame = frame_of(rng.normal(size=(1, 8)) * 1e-200, rng.normal(size=8) * 1e200)
    result = fit(frame, backend, fails="1 overflow")
    assert result.status["y"].iloc[0] == "overflow"
    assert_no_numbers(result)


def test_epoch_seconds(backend):
    """R drops the column, statsmodels and lstsq return 1e-18 of a slope."""
    rng = np.random.default_rng(10)
    x = 1.7e9 + np.arange(20.0)
    y = 5 + 0.25 * (x - 1.7e9) + rng.normal(size=20)
    result = fit(frame_of(x, y), backend)
    assert_exact(result, x, y, coef=13, err=13, ssr=13)
    assert result.condition_number["y"].iloc[0] > 1e15


def test_epoch_nanoseconds_as_integers(backend):
    """Neighbours are 1e9 apart at 1.7e18, where floats are 256 apart; differences are exact."""
    rng = np.random.default_rng(11)
    start = 1_700_000_000_123_456_789
    x = start + 1_000_000_007 * np.arange(20)
    y = 5 + 2e-10 * (x - start) + rng.normal(size=20)
    frame = frame_of(np.zeros((1, 20)), y).assign(x0=x)
    want = weighted_least_squares((x - start).astype(float)[None], y, origin=[start, 0])
    result = fit(frame, backend)
    assert worst(coefficients(result), want.params) >= 13
    sigma = root(want.rss / 18)
    assert worst(result.bse["y"].to_numpy()[0], [sigma * r for r in want.root]) >= 13


def test_one_weight_outweighs_all_others(backend):
    rng = np.random.default_rng(12)
    X, y, w = rng.normal(size=(2, 12)), rng.normal(size=12), rng.uniform(0.5, 2, 12)
    w[5] = 1e16
    assert_exact(fit(frame_of(X, y, w), backend), X, y, w, coef=13, err=13, ssr=13)


def test_perfect_fit(backend):
    """Errors are rounding noise, so t and p say nothing."""
    rng = np.random.default_rng(13)
    x = rng.integers(-50, 50, (2, 12)).astype(float)
    result = fit(frame_of(x, 3 + 2 * x[0] - 5 * x[1]), backend)
    assert coefficients(result).tolist() == [3, 2, -5]
    assert result.flags["y"]["perfect_fit"].iloc[0]
    assert np.isnan(result.tvalues.to_numpy()).all()
    assert np.isnan(result.pvalues.to_numpy()).all()


@pytest.mark.parametrize("precision", ["auto", "extended"])
@pytest.mark.parametrize(("size", "perfect"), [(3e-4, True), (6e-4, False)])
def test_residuals_that_the_rounding_of_a_predictor_explains(backend, precision, size, perfect):
    """At 1e12 neighbours are 1.2e-4 apart: four units, relative to the terms, are 4.4e-4."""
    d = np.arange(-2.0, 3.0)
    y = d + size * np.array([1, -2, 1, 1, -1])
    result = fit(frame_of(1e12 + d, y), backend, precision=precision)
    assert ("perfect_fit" in flags(result)) == perfect


def test_small_residuals_of_many_rows_are_no_rounding(backend):
    """Forty times what is called rounding, however many rows there are and whatever their weight."""
    rng = np.random.default_rng(14)
    x = rng.normal(size=400)
    y = x + 2e-14 * rng.normal(size=400)
    for w in (1.0, 3e-20):
        result = fit(frame_of(x, y, w), backend)
        assert flags(result) == ["extended"]
        assert coefficients(result) == pytest.approx([0, 1], abs=1e-13)


# --- rank -----------------------------------------------------------------------------------------


def design(rng: np.random.Generator, collinear: bool) -> tuple[np.ndarray, np.ndarray]:
    """Three predictors (3, n), one a combination of earlier ones, exactly or not; weights (n,).

    Offsets up to 1e8 sd, scales over six decades. What is added to make it honest is a
    thousand times larger than the rounding of the data, u A, and 16 times the rule's 64 u A.
    """
    n = int(rng.integers(8, 40))
    X = rng.normal(size=(3, n)) if rng.random() < 0.7 else rng.standard_t(3, size=(3, n))
    X += rng.choice([0, 1], (3, 1)) * 10.0 ** rng.uniform(0, 8, (3, 1))
    X *= 10.0 ** rng.uniform(-3, 3, (3, 1))
    w = np.ones(n) if rng.random() < 0.5 else rng.uniform(0.1, 10, n)
    j = int(rng.integers(1, 3))
    c = rng.normal(size=j) if rng.random() < 0.5 else rng.choice([-3.0, -1, 1, 2], j)
    X[j] = c @ X[:j] + rng.choice([0, 1]) * rng.normal() * 10.0 ** rng.uniform(-2, 4)
    if not collinear:
        gain = (np.abs(X).max(axis=1) / X.std(axis=1)).max()
        least = np.log10(1000 * 2.0**-53 * gain)
        X[j] += X[j].std() * 10.0 ** rng.uniform(least, max(least, -1)) * rng.normal(size=n)
    return X, w


def deficient(backend: str, seed: int, count: int, *, collinear: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    designs = [design(rng, collinear) for _ in range(count)]
    X = np.concatenate([X for X, _ in designs], axis=1)
    ends = np.cumsum([0, *(len(w) for _, w in designs)])
    Y, w = rng.normal(size=(1, ends[-1])), np.concatenate([w for _, w in designs])
    problem = Problem.from_columns(frozen(X), frozen(Y), frozen(w), frozen(ends))
    got = get_backend(backend).fit(problem, FitOptions(min_nobs=4, mad=False), lambda rows: None)
    assert not (got.status == Status.OVERFLOW).any()
    return got.status[:, 0] == Status.RANK_DEFICIENT


@pytest.mark.parametrize("collinear", [True, False])
def test_rank_of_a_few_hundred_designs(backend, collinear):
    got = deficient(backend, 1, 30 if numba.config.DISABLE_JIT else 300, collinear=collinear)
    assert np.flatnonzero(got != collinear).tolist() == []


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_no_collinear_design_of_10000_is_missed(backend):
    assert deficient(backend, 2, 10_000, collinear=True).all()


@pytest.mark.compiled
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_no_honest_design_of_1000_is_refused(backend):
    assert not deficient(backend, 3, 1000, collinear=False).any()


@pytest.mark.parametrize("third", [1e-20, 1e-24, 1e-26, 1e-28])
def test_weights_too_far_apart_determine_no_coefficient(backend: str, third: float) -> None:
    """Rounding hides all but two or three rows of four unknowns.

    An intercept was given, and slopes of predictors after the one that was dropped.
    """
    rng, groups = np.random.default_rng(1), 100
    frame = pd.DataFrame(rng.normal(size=(5 * groups, 3)), columns=list("abc")).assign(
        y=lambda d: d.sum(axis=1),
        g=np.repeat(np.arange(groups), 5),
        w=np.tile([1, 1, third, 1e-38, 1e-38], groups),
    )
    with pytest.warns(gbreg.GbregWarning, match="rank_deficient"):
        fit = gbreg.fit(frame, by="g", linear=list("abc"), targets=["y"], weights="w", backend=backend)
    assert not fit.params.notna().to_numpy().any()
