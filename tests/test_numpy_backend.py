# SPDX-License-Identifier: MIT
"""The numpy backend against exact answers, certified data and the laws it promises."""

from __future__ import annotations

import csv
import json
from dataclasses import fields
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from oracle import Answer, digits, root, weighted_least_squares, worst

from gbreg.backends import Backend, get_backend
from gbreg.backends._numpy import NumpyBackend, fit_range, inverse, moments, with_intercept
from gbreg.backends._numpy import _rows as rows_of
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Flag, Problem, Status, frozen
from gbreg.ragged import buckets, grouped_mad

NIST = Path(__file__).parent / "data" / "nist"
STRD = json.loads((NIST / "strd.json").read_text())
EXTRA = json.loads((NIST / "strd_extra.json").read_text())
PRECISIONS = ["auto", "extended"]


def problem(groups, origin=None):
    """A Problem of (X (k, n), Y (t, n), w (n,) or None) per group."""
    groups = [(np.atleast_2d(X), np.atleast_2d(Y), w) for X, Y, w in groups]
    counts = [Y.shape[1] for _, Y, _ in groups]
    return Problem.from_columns(
        X=frozen(np.concatenate([X for X, _, _ in groups], axis=1)),
        Y=frozen(np.concatenate([Y for _, Y, _ in groups], axis=1)),
        w=frozen(np.concatenate([np.ones(Y.shape[1]) if w is None else w for _, Y, w in groups])),
        offsets=frozen(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)),
        origin=None if origin is None else frozen(np.asarray(origin, dtype=np.float64)),
    )


def options(p, **kwargs):
    return FitOptions(**{"min_nobs": p, **kwargs})


def run(prob, n_jobs=None, **kwargs):
    p = prob.n_predictors + kwargs.get("intercept", True)
    return NumpyBackend(n_jobs).fit(prob, options(p, **kwargs), lambda rows: None)


def fit_one(X, Y, w=None, origin=None, **kwargs):
    return run(problem([(X, Y, w)], None if origin is None else [origin]), **kwargs)


def random_groups(rng, sizes, k, t, weighted=True):
    out = []
    for n in sizes:
        X = rng.normal(size=(k, n)) + rng.normal(scale=3, size=(k, 1))
        Y = rng.normal(size=(t, n)) + rng.normal(size=(t, k)) @ X + 5
        out.append((X, Y, rng.uniform(0.1, 4, n) if weighted else None))
    return out


def assert_same_bits(a, b, ga=slice(None), gb=slice(None)):
    for field in fields(Estimates):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if field.name != "pattern":
            x, y = x[ga], y[gb]
        assert x.tobytes() == y.tobytes(), field.name


def assert_matches(est, g, t, want, intercept=True, coef=13.0, err=12.5, rss=12.5):
    """Every number of a group and target has at least so many digits."""
    assert worst(est.params[g, t], want.params) >= coef
    assert worst(est.root[g, 0], want.root) >= err
    assert digits(est.resid_norm[g, t], root(want.rss)) >= rss
    assert digits(est.target_norm[g, t], root(want.tss)) >= coef
    assert digits(est.mad[g, t], want.mad) >= rss - 1
    # a mean near 0 has no relative digits: its error is that of the spread
    means = list(zip(est.center[g, 0], est.norm[g, 0], want.center, strict=True))
    off = [Fraction(mean) - exact for mean, _, exact in means]  # the level is the value at the rounded center
    level = want.level + sum(
        b * d for b, d in zip(want.params[len(want.params) - len(off) :], off, strict=True)
    )
    means.append((est.level[g, t], est.target_norm[g, t], level))
    for mean, spread, exact in means:
        assert abs(Fraction(mean) - exact) <= 1e-14 * max(spread, abs(mean))
    assert worst(est.norm[g, 0], [root(v) for v in want.norms]) >= coef
    p = len(want.params)
    pairs = [(i, j) for i in range(p) for j in range(i)]
    # correlations near 0 have no relative digits
    corr = [float(want.corr(i, j)) for i, j in pairs]
    np.testing.assert_allclose(est.corr[g, 0], corr, rtol=10.0**-err, atol=10.0**-err)


# --- certified data -------------------------------------------------------------------------------


def nist(name):
    rows = np.loadtxt(NIST / "design_f64" / f"{name}.csv", delimiter=",", skiprows=1)
    return rows[:, 1:].T, rows[:, :1].T


def nist_digits(name, est, g=0):
    """Fewest digits of coefficients, of their standard errors, and those of the residual sd."""
    want, n = STRD[name]["f64"], STRD[name]["n"]
    sd = est.resid_norm[g, 0] / np.sqrt(n - est.rank[g, 0])
    got_se, want_se = sd * est.root[g, 0], list(want["se"].values())
    return (
        worst(est.params[g, 0], list(want["coef"].values())),
        worst(got_se, want_se),
        digits(sd, want["rsd"]),
    )


@pytest.mark.parametrize("name", STRD)
def test_nist_auto(name):
    est = fit_one(*nist(name), intercept=STRD[name]["intercept"])
    coef, se, sd = nist_digits(name, est)
    assert coef >= 12
    assert se >= 12
    assert sd >= 13
    assert est.status[0, 0] == Status.OK
    assert est.rank[0, 0] == STRD[name]["p"]


@pytest.mark.parametrize("name", STRD)
def test_nist_extended(name):
    est = fit_one(*nist(name), intercept=STRD[name]["intercept"], precision="extended")
    coef, se, sd = nist_digits(name, est)
    assert coef >= 15
    assert se >= (13 if name == "Filip" else 15)
    assert sd >= 15
    assert est.flags[0, 0] & Flag.EXTENDED


@pytest.mark.parametrize("name", STRD)
def test_nist_exact_fits_and_ill_conditioning_are_flagged(name):
    est = fit_one(*nist(name), intercept=STRD[name]["intercept"])
    assert bool(est.flags[0, 0] & Flag.PERFECT_FIT) == (name in {"Wampler1", "Wampler2"})
    assert bool(est.flags[0, 0] & Flag.ILL_CONDITIONED) == (name == "Filip")


@pytest.mark.parametrize("name", STRD)
def test_nist_hidden_among_other_groups(name):
    X, Y = nist(name)
    intercept = STRD[name]["intercept"]
    others = random_groups(np.random.default_rng(3), [20, 40, 15, 30], len(X), 1, weighted=False)
    est = run(problem([*others[:2], (X, Y, None), *others[2:]]), intercept=intercept)
    assert_same_bits(est, fit_one(X, Y, intercept=intercept), ga=slice(2, 3))


@cache
def nist_groups(name: str) -> list[tuple[np.ndarray, Answer]]:
    with (NIST / "extra" / f"{name}.csv").open() as file:
        table = list(csv.DictReader(file))
    labels = sorted({row["group"] for row in table})
    values = [np.array([float(row["y"]) for row in table if row["group"] == label]) for label in labels]
    return [(y, weighted_least_squares(np.empty((0, len(y))), y)) for y in values]


@pytest.mark.compiled
@pytest.mark.parametrize("name", EXTRA)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nist_group_means(name, precision):
    values = [y for y, _ in nist_groups(name)]
    est = run(problem([(np.empty((0, len(y))), y, None) for y in values]), precision=precision)
    for g, (_, want) in enumerate(nist_groups(name)):
        assert digits(est.params[g, 0, 0], want.level) >= 14
        assert digits(est.resid_norm[g, 0], root(want.rss)) >= 14
    if EXTRA[name]["kind"] == "univariate":
        assert digits(est.params[0, 0, 0], EXTRA[name]["f64"]["mean"]) >= 14
        assert digits(est.resid_norm[0, 0] / np.sqrt(len(values[0]) - 1), EXTRA[name]["f64"]["sd"]) >= 14


# --- exact oracle ---------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    ("k", "intercept"), [(0, True), (1, True), (1, False), (2, True), (2, False), (4, True), (4, False)]
)
def test_random_groups_against_exact_answers(precision, k, intercept):
    rng = np.random.default_rng(100 + k)
    groups = random_groups(rng, [12, 9, 33, 10, 64], k, 2)
    est = run(problem(groups), precision=precision, intercept=intercept)
    limits = (
        {"coef": 13, "err": 13, "rss": 13} if precision == "auto" else {"coef": 15.5, "err": 15, "rss": 15}
    )
    for g, (X, Y, w) in enumerate(groups):
        for t, y in enumerate(Y):
            want = weighted_least_squares(X, y, w, intercept)
            assert_matches(est, g, t, want, **limits)
            assert est.status[g, t] == Status.OK
            assert est.flags[g, t] == (Flag.EXTENDED if precision == "extended" else 0)
        assert est.nobs[g, 0] == len(w)
        assert est.rank[g, 0] == k + intercept
        assert digits(est.wsum[g, 0], sum(map(Fraction, w.tolist()))) >= 15
        assert est.log_wsum[g, 0] == pytest.approx(np.log(w).sum(), rel=1e-13)


def test_xcorr_and_pivot():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(2, 20))
    X[1] += X[0]
    for precision in PRECISIONS:
        est = fit_one(X, X[:1] + rng.normal(size=20), precision=precision)
        r = np.corrcoef(X)[0, 1]
        assert est.xcorr[0, 0, 0] == pytest.approx(r, rel=1e-13)
        assert est.pivot[0, 0] == pytest.approx(1 - r**2, rel=1e-13)


def test_a_group_with_small_pivot_is_done_again():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(3, 30))
    X[2] = X[0] - X[1] + 1e-3 * X[2]
    y = X.sum(axis=0) + rng.normal(size=30)
    w = rng.uniform(0.5, 2, 30)
    est = fit_one(X, y, w)
    assert est.flags[0, 0] == Flag.EXTENDED
    assert_matches(est, 0, 0, weighted_least_squares(X, y, w), coef=15.5, err=15, rss=15)


def test_a_target_with_small_residuals_is_done_again_alone():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(2, 30))
    Y = X.sum(axis=0) + rng.normal(size=(2, 30)) * np.array([[1.0], [1e-9]])
    est = fit_one(X, Y)
    assert est.flags[0].tolist() == [0, Flag.EXTENDED]
    assert_matches(est, 0, 1, weighted_least_squares(X, Y[1]), coef=15.5, rss=15)
    alone = fit_one(X, Y[:1])
    assert alone.root.tobytes() == est.root.tobytes()
    assert alone.params.tobytes() == est.params[:, :1].tobytes()


def test_stages_on_their_own():
    """Refinement repairs a wrong start, so the first stage is held against exact numbers itself."""
    rng = np.random.default_rng(8)
    groups = random_groups(rng, [11, 25], 3, 2)
    prob = problem(groups)
    rows = rows_of(prob, 0, 2, np.diff(prob.offsets), None)
    mom = moments(rows, True)[1]
    P, _ = inverse(mom.S)
    V = with_intercept(P, mom.W, mom.center[:3])
    for g, (X, Y, w) in enumerate(groups):
        want = weighted_least_squares(X, Y[1], w)
        assert worst(mom.center[:3, g], want.center) >= 14
        assert worst([mom.S[j, j, g] for j in range(3)], want.norms) >= 14
        assert digits(mom.tss[1, g], want.tss) >= 14
        exact = np.array([[float(v) for v in row] for row in want.cov])
        np.testing.assert_allclose(V[..., g], exact, rtol=1e-12, atol=1e-13 * np.abs(exact).max())
        b = (P[..., g] * mom.B[:, 1, g]).sum(axis=1)
        assert worst(b, want.params[1:]) >= 12.5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_origin_moves_only_what_depends_on_it(precision):
    rng = np.random.default_rng(9)
    X, y = rng.integers(0, 10_000, (2, 20)).astype(float), rng.integers(0, 10_000, 20).astype(float)
    origin = [2**60, -(2**58), 2**55]
    est, plain = fit_one(X, y, origin=origin, precision=precision), fit_one(X, y, precision=precision)
    want = weighted_least_squares(X, y, origin=origin)
    least = 12 if precision == "auto" else 15.5
    assert worst(est.params[0, 0], want.params) >= least
    assert worst(est.root[0, 0], want.root) >= least
    assert est.corr[0, 0, 0] == pytest.approx(float(want.corr(1, 0)), rel=1e-9)
    for name in ("level", "resid_norm", "target_norm", "mad", "center", "norm", "xcorr", "pivot"):
        assert getattr(est, name).tobytes() == getattr(plain, name).tobytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("offset", [1e6, 1e8])
def test_predictor_far_from_zero(precision, offset):
    rng = np.random.default_rng(10)
    x = offset + rng.normal(size=12)
    y = 1 + 2 * (x - offset) + rng.normal(size=12)
    est = fit_one(x, y, precision=precision)
    assert_matches(est, 0, 0, weighted_least_squares(x[None], y), coef=13, err=12.5)


def test_two_values_far_from_zero_give_the_slope_exactly():
    x = np.array([1e4 - 1, 1e4 + 1, 1e4 - 1, 1e4 + 1])
    est = fit_one(x, 2 * x + 7)
    assert est.params[0, 0].tolist() == [7.0, 2.0]
    assert est.resid_norm[0, 0] == 0
    assert est.flags[0, 0] == Flag.EXTENDED | Flag.PERFECT_FIT


def test_the_mean_is_corrected_where_the_first_row_is_far_from_it():
    rng = np.random.default_rng(37)
    y = rng.integers(-1000, 1000, 999).astype(float)
    y[0] = 2.0**50
    y[1:3] = -(2.0**49)
    x = rng.normal(size=(1, 999))
    est, want = fit_one(x, y), weighted_least_squares(x, y)
    assert est.flags[0, 0] == 0
    assert abs(Fraction(est.level[0, 0]) - want.level) < 1e-3  # 0.06 before the correction


def test_residuals_that_are_rounding_noise_of_the_level_are_a_perfect_fit():
    """RSS / TSS is near 1 here: only the size of y tells."""
    rng = np.random.default_rng(39)
    est = fit_one(rng.normal(size=20), 1e8 + np.spacing(1e8) * rng.integers(-1, 2, 20))
    assert est.flags[0, 0] == Flag.EXTENDED | Flag.PERFECT_FIT


# --- statuses -------------------------------------------------------------------------------------


def assert_empty(est, g):
    for name in (
        "params",
        "level",
        "resid_norm",
        "target_norm",
        "mad",
        "root",
        "corr",
        "wsum",
        "log_wsum",
        "center",
    ):
        assert np.isnan(getattr(est, name)[g]).all(), name
    assert np.isnan(est.pivot[g]).all()
    assert (est.rank[g] == 0).all()
    assert (est.flags[g] == 0).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_groups_without_enough_rows(precision):
    rng = np.random.default_rng(11)
    groups = random_groups(rng, [0, 8, 2, 0, 0, 9, 5, 1, 0], 2, 2)
    est = run(problem(groups), precision=precision, min_nobs=6)
    S = Status
    want = [
        S.NO_DATA,
        S.OK,
        S.TOO_FEW_ROWS,
        S.NO_DATA,
        S.NO_DATA,
        S.OK,
        S.TOO_FEW_ROWS,
        S.TOO_FEW_ROWS,
        S.NO_DATA,
    ]
    assert est.status[:, 0].tolist() == want
    assert est.status[:, 1].tolist() == want
    assert est.nobs[:, 0].tolist() == [0, 8, 2, 0, 0, 9, 5, 1, 0]
    for g in (0, 2, 3, 4, 6, 7, 8):
        assert_empty(est, g)
    for g in (1, 5):
        assert_same_bits(est, run(problem(groups[g : g + 1]), precision=precision), ga=slice(g, g + 1))


def test_no_groups_and_no_fitted_groups():
    empty = Problem.from_columns(np.empty((2, 0)), np.empty((1, 0)), np.empty(0), np.zeros(1, dtype=np.int64))
    est = run(empty)
    assert est.params.shape == (0, 1, 3)
    assert est.corr.shape == (0, 1, 3)
    none = run(problem([(np.empty((2, 0)), np.empty((1, 0)), None)] * 3))
    assert none.status.tolist() == [[Status.NO_DATA]] * 3


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("intercept", [True, False])
def test_saturated(precision, intercept):
    rng = np.random.default_rng(12)
    p = 2 + intercept
    X, y = rng.normal(size=(2, p)) + 3, rng.normal(size=p)
    est = fit_one(X, y, precision=precision, intercept=intercept)
    want = weighted_least_squares(X, y, None, intercept)
    assert est.status[0, 0] == Status.SATURATED
    assert worst(est.params[0, 0], want.params) >= 13
    assert worst(est.root[0, 0], want.root) >= 13
    assert est.resid_norm[0, 0] == 0
    assert est.mad[0, 0] == 0
    assert est.flags[0, 0] == (Flag.EXTENDED if precision == "extended" else 0)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("intercept", [True, False])
def test_constant_target(precision, intercept):
    rng = np.random.default_rng(13)
    value = 3.3 if intercept else 0.0
    X = rng.normal(size=(2, 9))
    Y = np.stack([np.full(9, value), rng.normal(size=9)])
    est = fit_one(X, Y, rng.uniform(0.1, 1, 9), precision=precision, intercept=intercept)
    assert est.params[0, 0].tolist() == [value, 0, 0][not intercept :]
    assert not np.signbit(est.params[0, 0]).any()
    assert [est.level[0, 0], est.resid_norm[0, 0], est.target_norm[0, 0], est.mad[0, 0]] == [value, 0, 0, 0]
    extended = Flag.EXTENDED if precision == "extended" else 0
    assert est.flags[0].tolist() == [Flag.CONSTANT_TARGET | Flag.PERFECT_FIT | extended, extended]
    few = fit_one(X[:, : 2 + intercept], Y[:1, : 2 + intercept], precision=precision, intercept=intercept)
    assert few.flags[0, 0] == Flag.CONSTANT_TARGET | extended
    assert few.status[0, 0] == Status.SATURATED


def collinear(kind, rng, n=12):
    """Predictors (3, n), of which one is a combination of earlier ones, and its number."""
    X = rng.normal(size=(3, n)) + 2
    if kind == "multiple":
        X[1] = 3 * X[0]
        return X, 1
    if kind == "sum":
        X[2] = X[0] + X[1]
        return X, 2
    if kind == "affine":
        X[2] = 0.1 * X[0] + 7.3
        return X, 2
    if kind == "far":
        X += 1e8
        X[2] = X[0] - X[1]
        return X, 2
    X[1] = 7.1
    return X, 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["multiple", "sum", "affine", "far", "constant"])
def test_collinear_predictors(kind, seed):
    rng = np.random.default_rng(seed)
    X, gone = collinear(kind, rng)
    y, w = rng.normal(size=12), rng.uniform(0.5, 2, 12)
    kept = [j for j in range(3) if j != gone]
    want = weighted_least_squares(X[kept], y, w)
    est = fit_one(X, y, w, on_collinear="drop")
    assert est.status[0, 0] == Status.RANK_DEFICIENT
    assert est.rank[0, 0] == 3
    assert est.dropped[0, 0].tolist() == [j == gone for j in range(3)]
    names = [0] + [1 + j for j in kept]
    assert worst(est.params[0, 0, names], want.params) >= 14
    assert worst(est.root[0, 0, names], want.root) >= 14
    assert np.isnan(est.params[0, 0, 1 + gone])
    assert np.isnan(est.root[0, 0, 1 + gone])
    assert digits(est.resid_norm[0, 0], root(want.rss)) >= 14
    assert digits(est.mad[0, 0], want.mad) >= 13
    pairs = [(i, j) for i in range(4) for j in range(i)]
    assert np.isnan(est.corr[0, 0]).tolist() == [1 + gone in pair for pair in pairs]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("kind", "estimable"),
    [
        ("multiple", [True, False, False, True]),  # x2 = 3 x1
        ("sum", [True, False, False, False]),  # x3 = x1 + x2
        ("affine", [False, False, True, False]),  # x3 = 0.1 x1 + 7.3
        ("constant", [False, True, False, True]),
    ],
)
def test_only_estimable_coefficients_are_numbers(kind, estimable, seed):
    rng = np.random.default_rng(seed)
    X = collinear(kind, rng)[0]
    y = rng.normal(size=12)
    est = fit_one(X, y)
    kept = fit_one(X, y, on_collinear="drop")
    assert np.isfinite(est.known_params[0, 0]).tolist() == estimable
    assert np.isfinite(est.root[0, 0]).tolist() == estimable
    assert est.params.tobytes() == kept.params.tobytes()
    pairs = [(i, j) for i in range(4) for j in range(i)]
    assert np.isfinite(est.corr[0, 0]).tolist() == [estimable[i] and estimable[j] for i, j in pairs]
    for name in ("level", "resid_norm", "target_norm", "mad", "rank", "status", "flags", "center", "norm"):
        assert getattr(est, name).tobytes() == getattr(kept, name).tobytes()
    assert_same_bits(est, fit_one(X, y, on_collinear="raise"))


def test_collinear_without_intercept():
    rng = np.random.default_rng(14)
    X = rng.normal(size=(3, 10))
    X[1] = 0
    X[2] = -2 * X[0]
    est = fit_one(X, rng.normal(size=10), intercept=False)
    assert est.dropped[0, 0].tolist() == [False, True, True]
    assert np.isnan(est.known_params[0, 0]).all()
    X[2] = rng.normal(size=10)
    y = rng.normal(size=10)
    est = fit_one(X, y, intercept=False)
    assert est.rank[0, 0] == 2
    want = weighted_least_squares(X[[0, 2]], y, None, False)
    assert worst(est.params[0, 0, [0, 2]], want.params) >= 15


def test_a_constant_column_of_zeros_leaves_the_intercept():
    rng = np.random.default_rng(15)
    X = np.stack([np.zeros(9), rng.normal(size=9)])
    est = fit_one(X, rng.normal(size=9))
    assert np.isfinite(est.known_params[0, 0]).tolist() == [True, False, True]
    moved = fit_one(X, rng.normal(size=9), origin=[2**54, 0, 0])
    assert np.isfinite(moved.known_params[0, 0]).tolist() == [False, False, True]


def test_only_constant_predictors():
    y = np.random.default_rng(16).normal(size=9)
    est = fit_one(np.full((2, 9), 4.0), y, on_collinear="drop")
    want = weighted_least_squares(np.empty((0, 9)), y)
    assert est.rank[0, 0] == 1
    assert est.pivot[0, 0] == 1
    assert digits(est.params[0, 0, 0], want.level) >= 15
    assert digits(est.resid_norm[0, 0], root(want.rss)) >= 15
    assert est.xcorr[0, 0, 0] == 0
    assert est.norm[0, 0].tolist() == [0, 0]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_constant_with_rounding_noise_is_deficient_and_leaves_the_others_alone(precision):
    """Its relative pivot is 1: only max|x| / sd tells, so the fast path must not decide."""
    rng = np.random.default_rng(17)
    x = 0.3 + np.spacing(0.3) * rng.integers(-2, 3, 15)
    X, y = np.stack([x, rng.normal(size=15)]), rng.normal(size=15)
    est = fit_one(X, y, precision=precision)
    assert est.status[0, 0] == Status.RANK_DEFICIENT
    assert est.dropped[0, 0].tolist() == [True, False]
    assert np.isfinite(est.known_params[0, 0]).tolist() == [False, False, True]
    want = weighted_least_squares(X[1:], y)
    assert digits(est.params[0, 0, 2], want.params[1]) >= 14


@pytest.mark.parametrize(("power", "err"), [(6, 15), (8, 14), (10, 12), (12, 8)])
def test_nearly_collinear_predictors_are_fitted(power, err):
    """Coefficients are refined; errors have what 106 bits leave of a pivot of 10**(-2 power)."""
    rng = np.random.default_rng(power)
    x = rng.normal(size=12)
    X = np.stack([x, x + 10.0**-power * rng.normal(size=12)])
    y = X.sum(axis=0) + rng.normal(size=12)
    est = fit_one(X, y)
    assert est.status[0, 0] == Status.OK
    assert bool(est.flags[0, 0] & Flag.ILL_CONDITIONED) == (power > 7)
    assert_matches(est, 0, 0, weighted_least_squares(X, y), coef=15.5, err=err, rss=15)


@pytest.mark.parametrize("seed", range(10))
def test_collinear_up_to_the_rounding_of_the_data_is_deficient(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=12)
    est = fit_one(np.stack([x, x + 1e-14 * rng.uniform(-1, 1, 12)]), rng.normal(size=12))
    assert est.status[0, 0] == Status.RANK_DEFICIENT


# --- scale ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "scales", [(1e200, 1, 1), (1e-200, 1, 1), (1, 1e200, 1), (1, 1e-200, 1), (1e-150, 1e150, 1)]
)
@pytest.mark.parametrize("weights", [1.0, 1e200, 1e-200])
def test_extreme_scales(precision, scales, weights):
    rng = np.random.default_rng(18)
    X = rng.normal(size=(2, 10)) * np.array([[scales[0]], [scales[2]]])
    y = rng.normal(size=10) * scales[1]
    w = weights * rng.uniform(1, 2, 10)
    est = fit_one(X, y, w, precision=precision)
    assert est.status[0, 0] == Status.OK
    assert_matches(est, 0, 0, weighted_least_squares(X, y, w), coef=12.5, err=13, rss=13)


@pytest.mark.parametrize("weight", [1e16, 1e30])
def test_one_enormous_weight(weight):
    """The rule for rank must see the spread of the other rows: V, not W."""
    rng = np.random.default_rng(19)
    X, y, w = rng.normal(size=(2, 10)), rng.normal(size=10), np.ones(10)
    w[4] = weight
    est = fit_one(X, y, w)
    assert est.status[0, 0] == Status.OK
    want = weighted_least_squares(X, y, w)
    assert worst(est.params[0, 0], want.params) >= 13
    assert worst(est.root[0, 0], want.root) >= 13
    assert digits(est.resid_norm[0, 0], root(want.rss)) >= 13


def test_rows_whose_squares_overflow_are_fitted():
    x = np.array([-1.5e308, 1.5e308, 0.0, 1e308])
    y = np.array([1.0, 2.0, 1.0, 2.5])
    est = fit_one(x, y)
    assert est.status[0, 0] == Status.OVERFLOW  # the slope is below 2**-1022
    est = fit_one(x, y * 1e300)
    assert est.status[0, 0] == Status.OK
    assert worst(est.params[0, 0], weighted_least_squares(x[None], y * 1e300).params) >= 15


@pytest.mark.parametrize("precision", PRECISIONS)
def test_overflow_concerns_one_target(precision):
    rng = np.random.default_rng(20)
    x = rng.normal(size=8) * 1e-200
    Y = np.stack([rng.normal(size=8) * 1e200, rng.normal(size=8)])
    est = fit_one(x, Y, precision=precision)
    assert est.status[0].tolist() == [Status.OVERFLOW, Status.OK]
    assert np.isnan(est.params[0, 0]).all()
    for name in ("level", "resid_norm", "target_norm", "mad"):
        assert np.isnan(getattr(est, name)[0]).tolist() == [True, False]
    assert np.isfinite(est.root).all()
    assert worst(est.params[0, 1], weighted_least_squares(x[None], Y[1]).params) >= 13


def test_subnormal_slope_is_no_number():
    rng = np.random.default_rng(21)
    est = fit_one(rng.normal(size=8) * 1e160, rng.normal(size=8) * 1e-160)
    assert est.status[0, 0] == Status.OVERFLOW


def test_what_is_not_estimable_cannot_overflow():
    rng = np.random.default_rng(38)
    x, y = rng.normal(size=8), rng.normal(size=8)
    for X, Y in ((x * 1e160, y * 1e-160), (np.rint(8 * x) * 1e-310, y * 1e-10)):
        est = fit_one(np.stack([X, 2 * X]), Y)
        assert est.status[0, 0] == Status.RANK_DEFICIENT
        assert np.isfinite(est.known_params[0, 0]).tolist() == [True, False, False]
        assert fit_one(np.stack([X, 2 * X]), Y, on_collinear="drop").status[0, 0] == Status.OVERFLOW


def test_subnormal_predictor():
    x = np.array([1.0, 2, 3, 5, 8]) * 1e-310
    y = np.array([1.0, 3, 2, 5, 7]) * 1e-10
    assert fit_one(x, y).status[0, 0] == Status.OVERFLOW  # the slope's root variance is 2e309
    w = np.full(5, 1e20)
    est = fit_one(x, y, w)
    want = weighted_least_squares(x[None], y, w)
    assert est.status[0, 0] == Status.OK
    assert worst(est.params[0, 0], want.params) >= 15
    assert worst(est.root[0, 0], want.root) >= 15


# --- laws -----------------------------------------------------------------------------------------


def mixed_groups(rng):
    """Ordinary, tiny, collinear, nearly exact, saturated, constant and empty groups."""
    groups = random_groups(rng, [5, 30, 0, 3, 200, 7, 1, 12, 12, 12, 12, 4], 2, 2)
    for g, change in {7: 0.0, 8: 1e-9}.items():
        X = groups[g][0]
        X[1] = X[0] + change * X[1]
    groups[9][1][1] = groups[9][0].sum(axis=0)
    groups[10][1][0] = 4.0
    return groups


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("intercept", [True, False])
def test_neighbours_change_no_bit(precision, intercept):
    groups = mixed_groups(np.random.default_rng(22))
    est = run(problem(groups), precision=precision, intercept=intercept)
    assert len({int(s) for s in est.status[:, 0]}) >= 4
    for g in range(len(groups)):
        alone = run(problem(groups[g : g + 1]), precision=precision, intercept=intercept)
        assert_same_bits(est, alone, ga=slice(g, g + 1))
    order = np.random.default_rng(23).permutation(len(groups))
    shuffled = run(problem([groups[g] for g in order]), precision=precision, intercept=intercept)
    assert_same_bits(est, shuffled, ga=order)


@pytest.mark.parametrize("k", [0, 1, 9, 12])
def test_neighbours_change_no_bit_for_any_number_of_predictors(k):
    """numpy sums more than 8 terms in another order when there is one group."""
    groups = random_groups(np.random.default_rng(24), [40, 30, 25], k, 3)
    for precision in PRECISIONS:
        est = run(problem(groups), precision=precision)
        for g in range(3):
            assert_same_bits(est, run(problem(groups[g : g + 1]), precision=precision), ga=slice(g, g + 1))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_ranges_and_threads_change_no_bit(precision, monkeypatch):
    groups = mixed_groups(np.random.default_rng(25)) * 4
    prob = problem(groups)
    want = run(prob, precision=precision)
    monkeypatch.setattr("gbreg.backends._numpy.ROWS", 40)
    monkeypatch.setattr("gbreg.backends._numpy_extended.CELLS", 100)
    assert len(list(prob.split(40))) > 8
    for n_jobs in (None, 1, 2, -1):
        assert_same_bits(want, run(prob, n_jobs, precision=precision))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_times_four_change_no_bit(precision):
    groups = mixed_groups(np.random.default_rng(26))
    est = run(problem(groups), precision=precision)
    four = run(problem([(X, Y, 4 * w) for X, Y, w in groups]), precision=precision)
    for name in ("params", "level", "mad", "status", "flags", "corr", "center", "xcorr", "pivot", "dropped"):
        assert getattr(est, name).tobytes() == getattr(four, name).tobytes(), name
    for name, factor in (("resid_norm", 2), ("target_norm", 2), ("norm", 2), ("root", 0.5), ("wsum", 4)):
        assert (getattr(est, name) * factor).tobytes() == getattr(four, name).tobytes(), name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_target_alone_is_the_target_among_others(precision):
    groups = mixed_groups(np.random.default_rng(27))
    est = run(problem(groups), precision=precision)
    for t in range(2):
        alone = run(problem([(X, Y[t], w) for X, Y, w in groups]), precision=precision)
        for field in fields(Estimates):
            if field.name == "pattern":
                continue
            got = getattr(est, field.name)
            got = got[:, t : t + 1] if got.shape[1] == 2 else got
            assert got.tobytes() == getattr(alone, field.name).tobytes(), field.name


@pytest.mark.parametrize("precision", PRECISIONS)
def test_order_of_rows_changes_only_rounding(precision):
    rng = np.random.default_rng(28)
    groups = random_groups(rng, [20, 15, 40], 2, 1)
    turned = []
    for X, Y, w in groups:
        order = rng.permutation(len(w))
        turned.append((X[:, order], Y[:, order], w[order]))
    a, b = run(problem(groups), precision=precision), run(problem(turned), precision=precision)
    for name in ("params", "root", "corr", "resid_norm", "mad"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-12)


def test_both_precisions_agree():
    groups = random_groups(np.random.default_rng(29), [20] * 50, 3, 2)
    fast, slow = run(problem(groups)), run(problem(groups), precision="extended")
    assert not fast.flags.any()
    for field in fields(Estimates):
        if field.name != "flags":
            np.testing.assert_allclose(
                getattr(fast, field.name), getattr(slow, field.name), rtol=1e-11, atol=1e-14
            )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_extended_groups_are_those_that_need_it(precision):
    groups = random_groups(np.random.default_rng(30), [6] * 400, 2, 1)
    X = groups[17][0]
    X[1] = 2 * X[0] + 1e-4 * X[1]
    est = run(problem(groups), precision=precision)
    done = np.flatnonzero(est.flags[:, 0] & Flag.EXTENDED).tolist()
    assert done == ([17] if precision == "auto" else list(range(400)))


# --- parts ----------------------------------------------------------------------------------------


def test_mad_is_the_median_of_absolute_deviations():
    rng = np.random.default_rng(31)
    counts = np.array([1, 2, 3, 4, 5, 8, 9, 100, 1001])
    starts = np.cumsum(counts) - counts
    r = rng.normal(size=(2, counts.sum()))
    got = grouped_mad(r, starts, counts)
    for g, (lo, n) in enumerate(zip(starts, counts, strict=True)):
        for t in range(2):
            v = r[t, lo : lo + n]
            assert got[t, g] == np.median(np.abs(v - np.median(v)))


def test_mad_is_left_out_on_request():
    groups = mixed_groups(np.random.default_rng(32))
    for precision in PRECISIONS:
        with_mad, without = (run(problem(groups), precision=precision, mad=mad) for mad in (True, False))
        assert np.isnan(without.mad).all()
        assert with_mad.params.tobytes() == without.params.tobytes()


def test_buckets_hold_every_group_once_and_bound_the_padding():
    counts = np.random.default_rng(33).integers(1, 70, 500)
    parts = buckets(counts, 256)
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    for part in parts:
        longest = counts[part].max()
        assert len(part) == 1 or len(part) * longest <= 256
        assert longest < 2 * counts[part].min() or longest <= 2


def test_backend_is_found_by_name_and_satisfies_the_protocol():
    backend = get_backend("numpy", n_jobs=2)
    assert isinstance(backend, NumpyBackend)
    assert isinstance(backend, Backend)
    assert backend.name == "numpy"
    assert backend.n_jobs == 2


def test_progress_counts_rows_and_may_stop_the_fit(monkeypatch):
    monkeypatch.setattr("gbreg.backends._numpy.ROWS", 10)
    prob = problem(random_groups(np.random.default_rng(34), [10] * 7, 1, 1))
    seen = []
    NumpyBackend().fit(prob, options(2), seen.append)
    assert seen == [10] * 7

    def stop(rows):
        raise KeyboardInterrupt

    for n_jobs in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            NumpyBackend(n_jobs).fit(prob, options(2), stop)


def test_no_numpy_warning_whatever_the_numbers():
    """Also that inputs are left alone: they are read-only."""
    rng = np.random.default_rng(35)
    wild = np.array([0.0, 5e-324, 1e-310, 1e-200, 1.0, -1.0, 1e16, 1e200, -1.7e308, 1.7e308])
    groups = [
        (rng.choice(wild, (2, 6)), rng.choice(wild, (2, 6)), rng.choice(np.abs(wild[1:]), 6))
        for _ in range(500)
    ]
    with np.errstate(all="raise"):
        for precision in PRECISIONS:
            for intercept in (True, False):
                est = run(problem(groups), precision=precision, intercept=intercept)
                ok = est.status == Status.OK
                assert np.isfinite(est.params[ok]).all()
                assert np.isfinite(est.resid_norm[ok]).all()


def test_a_range_of_groups():
    groups = mixed_groups(np.random.default_rng(36))
    prob = problem(groups)
    want = run(prob)
    part = fit_range(prob, 3, 9, options(3))
    assert_same_bits(want, part, ga=slice(3, 9))
