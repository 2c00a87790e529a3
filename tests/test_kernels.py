# SPDX-License-Identifier: MIT
"""The compiled kernels, stage by stage: refinement would hide an error in an early stage."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gbreg import fast_kernels, kernels, median_kernels, sum_kernels
from gbreg._jit import compiled  # noqa: F401  (for REFERENCES)
from gbreg.backends import _numba
from gbreg.backends._numba import NumbaBackend
from gbreg.backends._packed import FastScratch, Run, as_token, quiet
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Flag, Problem, Status, frozen


def no_progress(rows: int) -> None:
    pass


def make_problem(sizes, k, t, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    n = int(np.sum(sizes))
    X = rng.normal(size=(k, n)) + offset
    Y = 1 + X.sum(axis=0) + rng.normal(size=(t, n))
    return Problem.from_columns(
        frozen(X), frozen(Y), frozen(rng.uniform(0.5, 2, n)), frozen(np.concatenate(([0], np.cumsum(sizes))))
    )


def numbers(estimates: Estimates) -> dict[str, np.ndarray]:
    return {name: np.asarray(getattr(estimates, name)) for name in Estimates.__slots__}


def assert_same_bits(got: Estimates, want: Estimates) -> None:
    for name, value in numbers(want).items():
        np.testing.assert_array_equal(numbers(got)[name], value, err_msg=name)


def test_codes_are_those_of_the_enumerations():
    for status in set(Status) - {Status.FALLBACK}:
        assert getattr(kernels, status.name) == status
    for flag in (Flag.ILL_CONDITIONED, Flag.CONSTANT_TARGET, Flag.PERFECT_FIT, Flag.EXTENDED):
        assert getattr(kernels, flag.name) == flag


def pairs(seed: int, n: int = 200) -> np.ndarray:
    rng = np.random.default_rng(seed)
    high = rng.normal(size=(n, 2)) * 2.0 ** rng.integers(-60, 60, (n, 2))
    return np.stack([high, high * rng.uniform(-1, 1, (n, 2)) * 2.0**-54], axis=-1)


@pytest.mark.parametrize(
    ("kernel", "exact"),
    [
        (kernels.dd_add, lambda a, b: a + b),
        (kernels.dd_mul, lambda a, b: a * b),
        (kernels.dd_div, lambda a, b: a / b),
    ],
)
def test_double_double_arithmetic_keeps_100_bits(kernel, exact):
    for a, b in pairs(1):
        a, b = kernels.quick_two_sum(*a), kernels.quick_two_sum(*b)
        high, low = kernel(*a, *b)
        want = exact(Fraction(a[0]) + Fraction(a[1]), Fraction(b[0]) + Fraction(b[1]))
        assert abs(Fraction(high) + Fraction(low) - want) <= abs(want) * Fraction(2) ** -100


def test_error_free_transformations_are_exact():
    for (a, _), (b, _) in pairs(2):
        for exact, want in (
            (kernels.two_sum, Fraction(a) + Fraction(b)),
            (kernels.two_product, Fraction(a) * Fraction(b)),
        ):
            high, low = exact(a, b)
            assert Fraction(high) + Fraction(low) == want


def test_double_double_square_root_is_right_to_the_last_bit_or_so():
    for a, _ in pairs(3):
        high, low = abs(a[0]), abs(a[0]) * 1e-17
        root = Fraction(kernels.dd_sqrt(high, low))
        want = Fraction(high) + Fraction(low)
        assert abs(root * root - want) <= want * Fraction(2) ** -52
    assert kernels.dd_sqrt(-1e-40, 0.0) == 0.0


@pytest.mark.parametrize("n", [1, 2, 3, 4, 16, 17, 18, 100, 1001])
@pytest.mark.parametrize(
    "kind", ["normal", "ties", "two values", "one apart", "sorted", "reversed", "constant"]
)
def test_median_is_exact(n, kind):
    values = np.random.default_rng(n).normal(size=n)
    values = {
        "normal": values,
        "ties": np.round(values),
        "two values": np.sign(values),
        "one apart": np.where(np.arange(n) == n // 3, -1.0, 0.0),
        "sorted": np.sort(values),
        "reversed": np.sort(values)[::-1].copy(),
        "constant": np.full(n, 3.3),
    }[kind]
    middle = np.median(values)
    assert median_kernels.median(values.copy(), n) == middle
    assert median_kernels.median_deviation(values.copy(), n) == np.median(np.abs(values - middle))


def test_a_median_of_nan_ends():
    values = np.random.default_rng(3).normal(size=500)
    values[::3] = np.nan
    median_kernels.median(values, 500)  # no number, but it comes
    assert math.isnan(median_kernels.median(np.full(500, np.nan), 500))


@quiet()  # products overflow, and are not used then
def test_log_sum_survives_extreme_weights():
    w = np.array([[1e300, 1e-300, 2.0, 1e90, 1e90, 1e-99, 5e-324]]).T
    assert kernels.log_sum(w, 0, len(w)) == pytest.approx(np.log(w).sum(), rel=1e-14)
    assert kernels.log_sum(np.ones((5, 1)), 0, 5) == 0.0
    w = np.exp(np.random.default_rng(4).uniform(-700, 700, (203, 1)))
    w[:60] = np.sqrt(w[:60])
    for n in range(0, 203, 7):
        assert kernels.log_sum(w, 0, n) == pytest.approx(np.log(w[:n]).sum(), rel=1e-13)


@pytest.mark.parametrize("size", [1e0, 1e30, 1e-30, 1e150, 1e-150, 1e300])
def test_logarithms_of_weights_of_short_and_long_groups(size):
    """Products of up to 32 weights may leave the range of float64."""
    problem = make_problem([5, 32, 12, 33, 9], 1, 1)
    Z = problem.Z.copy()
    Z[:, -1] *= size
    Z[7:17:2, -1] /= size  # products come back into range
    got = NumbaBackend(1).fit(Problem(frozen(Z), problem.offsets, 1), FitOptions(min_nobs=2), no_progress)
    want = np.add.reduceat(np.log(Z[:, -1]), problem.offsets[:-1])
    np.testing.assert_allclose(got.log_wsum[:, 0], want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", ["normal", "ties", "constant", "an infinity"])
@pytest.mark.parametrize("sizes", [(1, 2, 3, 4), (32, 31, 5, 0), (7, 7, 7, 7), (0, 0, 0, 9), (16, 17, 1, 32)])
def test_deviations_side_by_side_are_those_one_by_one(sizes, kind):
    problem = make_problem(list(sizes), 2, 2, seed=sum(sizes))
    Z, offsets = problem.Z.copy(), problem.offsets
    if kind == "ties":
        Z = np.round(Z)
    elif kind == "constant":
        Z[:, 3] = 5.0
    elif kind == "an infinity":  # its own group alone has no answer
        Z[offsets[2], 2] = np.inf
    token = as_token(2)
    f = FastScratch.make(2, 3, 2, 32)
    rng = np.random.default_rng(0)
    for values in (f.ref, f.mean, f.coef, f.shift):
        values[:] = np.round(rng.normal(size=values.shape), 1)
    f.lo[:], f.n[:] = np.minimum(offsets[:-1], len(Z) - 1), np.diff(offsets)
    longest = sum_kernels.set_lanes(f.lo, f.n, f.start, f.size)
    assert longest == max(sizes)
    fitted = (f.ref, f.mean, f.coef, f.shift)
    with quiet():
        f.moments[:] = 0.0
        sum_kernels.add_moments(Z, f.start, f.size, longest, token, f.ref, f.D, f.moments)
        sum_kernels.add_kept_residuals(longest, token, f.mean, f.coef, f.there, f.D, f.grad)
        sum_kernels.set_deviations(f.size, longest, token, f.coef, f.shift, f.D, f.R, f.deviation)
    for g, n in enumerate(sizes):
        for q in range(2 if n else 0):
            resid = np.empty(n)
            sum_kernels.final_residuals(Z, *offsets[g : g + 2], token, q, g, *fitted, resid, 0)
            with quiet():
                want = median_kernels.median_deviation(resid, n)
            if np.isfinite(want):
                assert f.deviation[q, g] == want


@pytest.mark.parametrize("n", [1, 4, 5, 12, 63, 64, 67, 131, 600])
def test_lanes_hold_every_row_once(n):
    """Sums over lanes against sums over rows, whatever is left over after whole blocks of lanes."""
    problem = make_problem([3, n, 2, 35], 2, 1, seed=n)
    f = FastScratch.make(2, 3, 1, n)
    f.ref[:] = 0.25
    f.lo[:], f.n[:] = problem.offsets[:-1], np.diff(problem.offsets)
    lanes = (f.start, f.size, f.D, f.row, f.S, f.own, f.moments, f.logs)
    sum_kernels.sum_moments(problem.Z, f.lo, f.n, as_token(2), f.ref, *lanes)
    longest = sum_kernels.set_lanes(f.lo, f.n, f.start, f.size)
    sum_kernels.sum_kept_logs(f.n, longest, f.D, 3, f.S, f.logs)
    for g in range(4):
        rows = slice(problem.offsets[g], problem.offsets[g + 1])
        D, w = problem.Z[rows, :3] - 0.25, problem.w[rows]
        G = (D.T * w) @ D
        want = [G[0, 0], G[1, 0], G[1, 1], *G[2], *(w @ D), w.sum()]
        np.testing.assert_allclose(f.moments[:, g], want, rtol=1e-13, atol=1e-13)
        assert f.logs[0, g] == pytest.approx(np.log(w).sum(), rel=1e-13, abs=1e-13)


@quiet()  # lanes without rows divide by 0
@pytest.mark.parametrize("lane", [0, 2])
@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("n", [kernels.SHORT, 70])
def test_stages_of_the_fast_path(n, k, lane):
    """Reference, moments, factor, inverse and gradient, each against its definition."""
    problem = make_problem([11, n], k, 2)
    lo, hi = problem.offsets[1:].tolist()
    rows, w, token = problem.Z[lo:, :-1].T, problem.w[lo:], as_token(k)
    f = FastScratch.make(k, k + 1, 2, n)
    f.n[:] = [9, 0, 11, 5]
    f.lo[lane], f.n[lane], f.rows[0, lane] = lo, n, n
    lanes = (f.start, f.size, f.D, f.row, f.S, f.own)

    def own(values, *shape):
        return values[:, lane].reshape(shape or -1)

    sum_kernels.set_reference(problem.Z, f.lo, f.ref)
    np.testing.assert_array_equal(own(f.ref), rows[:, 0])
    sum_kernels.sum_moments(problem.Z, f.lo, f.n, token, f.ref, *lanes, f.moments, f.logs)
    fast_kernels.centre(token, True, f.moments, f.mean, f.before)
    mean = np.average(rows, axis=1, weights=w)
    np.testing.assert_allclose(own(f.ref) + own(f.mean), mean, rtol=1e-13)
    sum_kernels.set_first(problem.Z, f.lo, True, f.ref, f.mean, f.first)
    np.testing.assert_allclose(own(f.first), mean - rows[:, 0], rtol=1e-12)
    C = rows - mean[:, None]
    G = (C * w) @ C.T
    want = [G[i, j] for i in range(k) for j in range(i + 1)]
    for q in range(2):
        want += [*G[k + q, :k], G[k + q, k + q]]
    np.testing.assert_allclose(own(f.moments)[: len(want)], want, rtol=1e-12, atol=1e-12)
    assert own(f.moments)[-1] == pytest.approx(w.sum(), rel=1e-14)

    run = Run.start(problem, FitOptions(min_nobs=k + 1), 1, no_progress)
    about = (f.ref, f.mean, f.first, f.moments)
    fast_kernels.factorise(token, f.rows, *about, f.factor, f.diag, f.smallest, run.settings)
    factor, diag = own(f.factor, k, k), own(f.diag)
    L = np.tril(factor, -1) + np.eye(k)
    np.testing.assert_allclose((L * diag) @ L.T, G[:k, :k], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.diag(factor) * diag, np.ones(k), rtol=1e-15)
    assert own(f.smallest)[0] == pytest.approx(min(diag / np.diag(G)[:k], default=1.0), rel=1e-12)

    f.away[:] = f.mean
    fast_kernels.settle_reference(f.ref, f.mean)
    np.testing.assert_allclose(own(f.ref), mean, rtol=1e-13)
    assert np.all(np.abs(own(f.mean)) <= 2.0**-53 * np.abs(own(f.ref)))
    fast_kernels.first_coef(token, f.mean, f.moments, f.factor, f.step, f.coef, f.there)
    coef = np.linalg.solve(G[:k, :k], G[:k, k:]).T
    np.testing.assert_allclose(own(f.coef, 2, k), coef, rtol=1e-11)
    np.testing.assert_allclose(own(f.there), 0.0, atol=1e-15)

    f.coef[:] = 0.5  # anywhere: the gradient there, and one exact Newton step back
    fitted = (f.ref, f.away, f.coef, f.there)
    sum_kernels.sum_residuals(
        problem.Z, *(f.lo, f.n, token), *fitted, *lanes, f.own_coef, f.own_there, f.grad
    )
    r = C[k:] - 0.5 * C[:k].sum(axis=0)
    want = [v for q in range(2) for v in (*(C[:k] @ (w * r[q])), w @ r[q], w @ r[q] ** 2)]
    np.testing.assert_allclose(own(f.grad), want, rtol=1e-11, atol=1e-11)
    fast_kernels.refine(token, True, f.moments, f.factor, f.grad, f.step, f.coef, f.low, f.shift, f.rss)
    np.testing.assert_allclose(own(f.coef, 2, k), coef, rtol=1e-11)
    resid = np.empty(n)
    for q in range(2):
        r = C[k + q] - coef[q] @ C[:k]
        assert f.rss[q, lane] == pytest.approx(w @ r**2, rel=1e-11)
        assert abs(f.shift[q, lane]) < 1e-14  # no target has moved
        fitted = (f.ref, f.mean, f.coef, f.shift)
        sum_kernels.final_residuals(problem.Z, lo, hi, token, q, lane, *fitted, resid, 0)
        np.testing.assert_allclose(resid, r, atol=1e-12)


def test_the_reference_moves_where_its_distance_costs_digits():
    """Of each column by itself, and of predictors sooner where they are nearly dependent."""
    f = FastScratch.make(2, 3, 1, 8)
    f.smallest[0] = [0.5, 0.5, 0.01, 0.01]
    f.mean[:], f.before[:], f.moments[:] = [[5.0] * 4, [7.0] * 4, [9.0] * 4], 100.0, 100.0
    f.moments[0] = [4, 3, 51, 49]  # the sums of squares of the two predictors, and of the target
    f.moments[2] = [4, 4, 49, 51]
    f.moments[5] = [3, 4, 4, 4]
    fast_kernels.set_away(as_token(2), f.smallest, f.mean, f.moments, f.before, f.away, f.near)
    assert f.away.tolist() == [[0, 5, 0, 5], [0, 0, 7, 0], [9, 0, 0, 0]]
    assert f.near.tolist() == [[0, 0, 0, 0]]
    f.smallest[:] = 0.5
    f.moments[:] = 4.0
    fast_kernels.set_away(as_token(2), f.smallest, f.mean, f.moments, f.before, f.away, f.near)
    assert not f.away.any()
    assert f.near.tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize("k", [1, 3])
def test_an_intercept_that_is_what_is_left_of_large_terms(k):
    """It has all of its digits where 8 of those of the terms cancel, and so has the level."""
    f = FastScratch.make(k, k + 1, 1, 8)
    rng = np.random.default_rng(6)
    f.ref[:k], f.mean[:] = 1e8 * rng.normal(size=(k, 4)), rng.normal(size=(k + 1, 4))
    f.coef[:], f.shift[:], f.base[:] = rng.normal(size=(k, 4)), rng.normal(size=(1, 4)), 0.0
    f.low[:] = f.coef * rng.uniform(-1, 1, (k, 4)) * 2.0**-54
    f.ref[k] = np.round((f.coef * f.ref[:k]).sum(axis=0), 1)
    f.moments[:], f.rss[:] = 4.0, 9.0
    about = (f.ref, f.mean, f.moments, f.coef, f.low, f.shift)
    fast_kernels.write_target(f.base, 0, as_token(k), True, f.rss, *about, f.Tg)
    for lane in range(4):
        mean = [Fraction(a) + Fraction(b) for a, b in zip(f.ref[:, lane], f.mean[:, lane], strict=True)]
        level, total = mean[k] + Fraction(f.shift[0, lane]), Fraction(0)
        want = level
        for j in range(k):
            slope = Fraction(f.coef[j, lane])
            total += (slope + Fraction(f.low[j, lane])) * mean[j]
            level -= slope * (mean[j] - Fraction(f.ref[j, lane] + f.mean[j, lane]))
        want -= total
        assert abs(want) < 100
        assert abs(Fraction(f.Tg[kernels.PARAMS, lane]) - want) <= abs(want) * Fraction(2) ** -52
        assert abs(Fraction(f.Tg[kernels.LEVEL, lane]) - level) <= abs(level) * Fraction(2) ** -52
        assert f.Tg[kernels.PARAMS + 1 :, lane].tolist() == f.coef[:, lane].tolist()
        assert f.Tg[[kernels.TARGET_NORM, kernels.RESID_NORM], lane].tolist() == [2, 3]


def test_no_group_depends_on_those_beside_it():
    """Four are fitted at once: short, long, empty, saturated, far from its first row, dependent, huge."""
    sizes = [5, 0, 40, 7, 2, 32, 33, 3, 8, 8, 6, 300, 5]
    problem = make_problem(sizes, 2, 2, seed=3)
    Z, offsets = problem.Z.copy(), problem.offsets
    Z[offsets[0], 0] += 1e6  # the first row is far from the mean
    Z[offsets[8] : offsets[9], 1] = 3 * Z[offsets[8] : offsets[9], 0]
    Z[offsets[9] : offsets[10], :-1] *= 1e200
    Z[offsets[10] : offsets[11], 3] = 2.5
    options = FitOptions(min_nobs=3)
    whole = Problem(frozen(Z), offsets, n_predictors=2)
    together = NumbaBackend(1).fit(whole, options, no_progress)
    assert set(together.status.ravel().tolist()) == {0, 1, 2, 3, 4}
    for g, size in enumerate(sizes):
        rows = frozen(Z[offsets[g] : offsets[g + 1]])
        alone = Problem(rows, frozen(np.array([0, size])), n_predictors=2)
        got = NumbaBackend(1).fit(alone, options, no_progress)
        assert_same_bits(got, together.of_groups(np.array([g])))


@pytest.mark.parametrize("k", [2, 9])
def test_run_time_count_gives_the_bits_of_the_unrolled_one(k, monkeypatch):
    """The general kernel is the same code with k as a value."""
    problem = make_problem([3 * k] * 5, k, 1)
    options = FitOptions(min_nobs=k + 1)
    want = NumbaBackend(1).fit(problem, options, no_progress)
    monkeypatch.setattr("gbreg.backends._numba.as_token", lambda k: np.zeros(k, dtype=np.int8))
    assert_same_bits(NumbaBackend(1).fit(problem, options, no_progress), want)
    assert np.isfinite(want.params).all()


@pytest.mark.parametrize("precision", ["auto", "extended"])
def test_threads_change_no_bit(precision, monkeypatch):
    """Ranges and blocks are made tiny, so that every driver takes part."""
    monkeypatch.setattr("gbreg.backends._numba.RANGE_ROWS", 50)
    monkeypatch.setattr("gbreg.backends._numba.EXTENDED_ROWS", 50)
    monkeypatch.setattr("gbreg.backends._packed.LONG_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._numba.LONG_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._numba.LONG_EXTENDED_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._long.BLOCK_ROWS", 16)
    problem = make_problem([5, 300, 0, 7, 2, 61, 8, 60, 500], 2, 2, offset=5)
    options = FitOptions(min_nobs=3, precision=precision)
    want = NumbaBackend(1).fit(problem, options, no_progress)
    for n_jobs in (2, 4):
        assert_same_bits(NumbaBackend(n_jobs).fit(problem, options, no_progress), want)
    fitted = want.nobs[:, 0] > 3
    assert np.isfinite(want.params[fitted]).all()


@pytest.mark.parametrize("precision", ["auto", "extended"])
def test_no_group_has_a_deviation_that_was_not_asked_for(precision, monkeypatch):
    """What scratch memory holds by chance goes nowhere."""
    monkeypatch.setattr("gbreg.backends._numba.LONG_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._packed.LONG_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._packed.lanes", lambda rows: np.full((rows, 4), 7.0))
    problem = make_problem([5, 300, 0, 2, 61, 8, 60], 2, 2)
    got = NumbaBackend(1).fit(problem, FitOptions(min_nobs=3, precision=precision, mad=False), no_progress)
    assert np.isnan(got.mad).all()
    assert np.isfinite(got.params[got.nobs[:, 0] > 3]).all()


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("precision", ["auto", "extended"])
@pytest.mark.parametrize("design", ["good", "collinear", "constant target", "perfect", "weighted out"])
def test_long_groups_agree_with_short_ones(precision, design, intercept, monkeypatch):
    """The block driver against the group kernel on the same rows."""
    problem = make_problem([333], 2, 2, offset=3)
    X, Y, w = problem.X.copy(), problem.Y.copy(), problem.w.copy()
    if design == "collinear":
        X[1] = 2 * X[0] + intercept
    elif design == "constant target":
        Y[0] = 3.3
    elif design == "perfect":
        Y[0] = intercept + X[0] - X[1]
    elif design == "weighted out":
        w[100] = 1e40
    problem = Problem.from_columns(frozen(X), frozen(Y), frozen(w), problem.offsets)
    options = FitOptions(min_nobs=3, precision=precision, intercept=intercept)
    want = NumbaBackend(1).fit(problem, options, no_progress)
    monkeypatch.setattr("gbreg.backends._packed.LONG_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._numba.LONG_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._numba.LONG_EXTENDED_ROWS", 60)
    monkeypatch.setattr("gbreg.backends._long.BLOCK_ROWS", 16)
    got = NumbaBackend(2).fit(problem, options, no_progress)
    for name in ("status", "flags", "nobs", "rank", "dropped"):
        np.testing.assert_array_equal(numbers(got)[name], numbers(want)[name], err_msg=name)
    for name in ("params", "level", "root", "corr", "center", "norm", "xcorr", "wsum", "log_wsum", "pivot"):
        np.testing.assert_allclose(numbers(got)[name], numbers(want)[name], rtol=1e-11, err_msg=name)
    honest = want.flags & Flag.PERFECT_FIT == 0
    for name in ("resid_norm", "mad"):
        np.testing.assert_allclose(
            numbers(got)[name][honest], numbers(want)[name][honest], rtol=1e-11, err_msg=name
        )


def test_only_long_groups_are_fitted_in_blocks(monkeypatch):
    """The numbers would be right, and the time a multiple."""
    asked, real = [], _numba.fit_long_group
    monkeypatch.setattr("gbreg.backends._packed.LONG_ROWS", 60)
    monkeypatch.setattr(
        _numba, "fit_long_group", lambda run, g, token: asked.append(g) or real(run, g, token)
    )
    problem = make_problem([5, 61, 60, 0, 2, 300], 2, 2)
    NumbaBackend(1).fit(problem, FitOptions(min_nobs=3), no_progress)
    assert asked == [1, 5]


def test_a_heavy_row_far_out_does_not_cancel_the_others():
    """Weights over 40 decades: the centred sums are taken about the heaviest row."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(1, 8)), rng.normal(size=(1, 8))
    w = np.ones(8)
    w[3] = 1e40
    problem = Problem.from_columns(frozen(x), frozen(y), frozen(w), frozen(np.array([0, 8])))
    got = NumbaBackend(1).fit(problem, FitOptions(min_nobs=2), no_progress)
    dx, dy = x[0] - x[0, 3], y[0] - y[0, 3]  # in the limit the line goes through that row
    assert got.params[0, 0, 1] == pytest.approx((dx @ dy) / (dx @ dx), rel=1e-13)
    assert got.status[0, 0] == Status.OK


REFERENCES = """
from test_kernels import *

fresh = compiled(fast_kernels.fit_groups.py_func)  # what comes from disk has no text
fast_kernels.fit_groups = fresh
NumbaBackend(1).fit(make_problem([5] * 10, 1, 1), FitOptions(min_nobs=2), no_progress)
text = next(iter(fresh.inspect_llvm().values()))
body = next(part for part in text.split("\\ndefine ") if part.count("NRT_incref") > 3)
print(body.count("call void @NRT_incref"), fresh.py_func.__code__.co_argcount)
"""


@pytest.mark.compiled
def test_fit_groups_counts_references_only_on_entry():
    """In the loop over groups their atomics once cost four times the arithmetic.

    In a process of its own: here others have compiled the functions it calls for callers in Python,
    and numba then keeps theirs.
    """
    command = [sys.executable, "-c", REFERENCES]
    env = {**os.environ, "NUMBA_OPT": "1"}  # numba takes them away before LLVM optimises
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=env, capture_output=True, text=True, check=True
    )
    references, arguments = map(int, done.stdout.split())
    assert 0 < references <= arguments


def test_mad_is_nan_when_not_asked_for():
    problem = make_problem([6, 6], 1, 1)
    got = NumbaBackend(1).fit(problem, FitOptions(min_nobs=2, mad=False), no_progress)
    assert np.isnan(got.mad).all()
    assert math.isfinite(got.params[0, 0, 0])


def test_a_product_of_weights_that_has_lost_digits_is_not_used() -> None:
    """1e-320 on the way: back in range it has three digits."""
    w = np.array([1.3e-160, 1.7e-160, 1e107, 2e107, 3e107, 4.0, 1.5])
    X, Y = np.arange(7.0)[None] ** 2, np.random.default_rng(0).normal(size=(1, 7))
    problem = Problem.from_columns(X, Y, w, np.array([0, 7]))
    got = NumbaBackend(1).fit(problem, FitOptions(min_nobs=2), lambda rows: None)
    np.testing.assert_allclose(got.log_wsum[0, 0], np.log(w).sum(), rtol=1e-13)
