# SPDX-License-Identifier: MIT
"""Errors, intervals and criteria against statsmodels, and against closed forms where it has none."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import mpmath
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import gbreg
from gbreg import inference

DIAGNOSTICS = ["nobs", "df_resid", "ssr", "scale", "rsquared", "rsquared_adj"]
DIAGNOSTICS += ["llf", "aic", "bic", "condition_number"]
KINDS = {
    "weighted": {"weights": "w", "intercept": True},
    "unweighted": {"weights": None, "intercept": True},
    "through zero": {"weights": "w", "intercept": False},
    "means": {"weights": "w", "intercept": True, "linear": []},
}


def random_groups() -> pd.DataFrame:
    rng = np.random.default_rng(20)
    sizes = rng.integers(5, 30, 50)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": np.repeat(np.arange(50), sizes), "w": rng.uniform(0.1, 9, n)})
    frame["x"] = rng.normal(2, 3, n)
    frame["z"] = rng.normal(-1, 0.2, n) + 0.05 * frame["x"]
    frame["y"] = 3 - 0.3 * frame["x"] + 0.1 * frame["z"] + rng.normal(size=n)
    frame["v"] = rng.normal(1e3, 20, n)
    return frame.sample(frac=1, random_state=3)


FRAME = random_groups()


def ours(kind: str) -> gbreg.GroupFit:
    options = {"linear": ["x", "z"], **KINDS[kind]}
    return gbreg.fit(FRAME, by="g", targets=["y", "v"], backend="numpy", **options)


def theirs(kind: str, target: str) -> Iterator[tuple[int, object]]:
    """statsmodels' answer for each group."""
    options = {"linear": ["x", "z"], **KINDS[kind]}
    for key, rows in FRAME.groupby("g"):
        X = rows[options["linear"]]
        if options["intercept"]:
            X = pd.concat([pd.Series(1.0, X.index, name="Intercept"), X], axis=1)
        weights = rows["w"] if options["weights"] else np.ones(len(rows))
        yield key, sm.WLS(rows[target], X, weights=weights).fit()


@pytest.mark.parametrize("target", ["y", "v"])
@pytest.mark.parametrize("kind", KINDS)
def test_coefficients_and_their_errors_are_those_of_statsmodels(kind: str, target: str) -> None:
    fit = ours(kind)
    frames = {name: getattr(fit, name)[target] for name in ("params", "bse", "tvalues", "pvalues")}
    wide, cov = fit.conf_int(alpha=0.1)[target], fit.cov_params(target)
    for key, want in theirs(kind, target):
        for name, frame in frames.items():
            got = frame.loc[key]
            assert list(got.index) == list(want.params.index)
            np.testing.assert_allclose(got, getattr(want, name), rtol=1e-9, atol=1e-300, err_msg=name)
        bounds = wide.loc[key].to_numpy().reshape(-1, 2)
        size = np.abs(want.conf_int(alpha=0.1)).max(axis=None)
        np.testing.assert_allclose(bounds, want.conf_int(alpha=0.1), rtol=1e-10, atol=1e-12 * size)
        errors = want.bse.to_numpy()
        np.testing.assert_allclose(
            cov.loc[key] / np.outer(errors, errors), want.cov_params() / np.outer(errors, errors), atol=1e-9
        )


@pytest.mark.parametrize("target", ["y", "v"])
@pytest.mark.parametrize("kind", KINDS)
def test_diagnostics_are_those_of_statsmodels(kind: str, target: str) -> None:
    fit = ours(kind)
    frames = {name: getattr(fit, name)[target] for name in DIAGNOSTICS}
    for key, want in theirs(kind, target):
        for name, got in frames.items():
            value = getattr(want, name)
            # R2 of means is 0 to the rounding of a ratio that is 1
            np.testing.assert_allclose(got.loc[key], value, rtol=1e-9, atol=1e-14, err_msg=f"{name} {key}")


@pytest.mark.parametrize("kind", KINDS)
def test_rms_and_mad_are_what_their_formulas_say(kind: str) -> None:
    fit = ours(kind)
    for key, want in theirs(kind, "y"):
        w, r = want.model.weights, want.resid.to_numpy()
        np.testing.assert_allclose(fit.rms.loc[key, "y"], np.sqrt((w * r * r).sum() / w.sum()), rtol=1e-10)
        np.testing.assert_allclose(fit.mad.loc[key, "y"], np.median(np.abs(r - np.median(r))), rtol=1e-9)


def test_squares_that_float64_cannot_hold_are_nan() -> None:
    norm = np.array([[3.0, 0.0, 1e200, 1e-200, 1e-155, np.nan]])
    want = [[9.0, 0.0, np.nan, np.nan, np.nan, np.nan]]
    np.testing.assert_array_equal(inference.ssr(norm), want)
    np.testing.assert_array_equal(inference.scale(norm, np.full((1, 6), 3.0)), np.array(want) / 3)
    sigma = inference.sigma(norm[:, 2:4], np.full((1, 2), 4.0))
    errors = inference.bse(sigma, np.ones((1, 2, 1)), norm[:, 2:4] == 0)
    np.testing.assert_allclose(errors.ravel(), [5e199, 5e-201])  # a root is still there
    least = inference.ssr(np.array([[2.0**-511, 2.0**-511 * (1 - 2.0**-53)]]))
    np.testing.assert_array_equal(least, [[2.0**-1022, np.nan]])  # the smallest number with all its digits


def test_errors_and_covariances_out_of_range_are_nan_not_zero_or_infinite() -> None:
    norm, df = np.array([[1e200, 1e-200, 0.0, 1.0]]), np.ones((1, 4))
    root = np.array([1e200, 1e-200, 1.0, 1e-160])[None, :, None]
    errors = inference.bse(inference.sigma(norm, df), root, norm == 0)
    np.testing.assert_array_equal(errors.ravel(), [np.nan, np.nan, 0.0, 1e-160])
    got = inference.cov_params(np.array([[1e-160, 1e160, 1.0, 0.0]]), np.full((1, 6), 0.5))[0]
    want = [[np.nan, 0.5, 0.5e-160, 0], [0.5, np.nan, 0.5e160, 0], [0.5e-160, 0.5e160, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(got, want, rtol=1e-15, atol=0)


def test_saturated_fits_have_no_likelihood() -> None:
    loglik = inference.llf(
        np.array([[0.0, 1e-20]]),
        np.full((1, 2), 3),
        np.zeros((1, 2)),
        np.zeros((1, 2)),
        np.zeros((1, 2), dtype=bool),
    )
    assert np.isnan(loglik).all()


def test_no_degrees_of_freedom_no_errors() -> None:
    df = inference.df_resid(np.array([[3, 3, 2]]), np.array([[3, 2, 0]]), np.array([[1.0, 2.0, np.nan]]))
    np.testing.assert_array_equal(df, [[0, 1, np.nan]])
    norm = np.array([[0.0, 2.0, np.nan]])
    np.testing.assert_array_equal(inference.scale(norm, df), [[np.nan, 4.0, np.nan]])
    np.testing.assert_array_equal(inference.sigma(norm, df), [[np.nan, 2.0, np.nan]])
    errors = inference.bse(inference.sigma(norm, df), np.ones((1, 3, 1)), norm == 0)
    params = np.ones((1, 3, 1))
    t = inference.tvalues(params, errors, np.zeros((1, 3), dtype=bool))
    p = inference.pvalues(t, df)
    low, high = inference.conf_int(params, errors, df, 0.5)
    for got in (errors, t, p, low, high):
        assert np.isfinite(got).ravel().tolist() == [False, True, False]
    r2 = inference.rsquared(norm, np.array([[5.0, 4.0, np.nan]]))
    np.testing.assert_array_equal(r2, [[1.0, 0.75, np.nan]])
    adjusted = inference.rsquared_adj(r2, np.array([[3, 3, 2]]), df, True)
    np.testing.assert_array_equal(adjusted, [[np.nan, 0.5, np.nan]])


def test_a_constant_target_has_no_rsquared() -> None:
    assert np.isnan(inference.rsquared(np.array([[0.0]]), np.array([[0.0]]))).all()


def test_rsquared_outlives_squares_that_overflow() -> None:
    got = inference.rsquared(np.array([[1e200, 3e-200]]), np.array([[2e200, 6e-200]]))
    np.testing.assert_allclose(got, [[0.75, 0.75]])


def test_perfect_fits_have_no_t_and_no_likelihood() -> None:
    params, errors = np.array([[[2.0], [2.0]]]), np.array([[[0.5], [0.5]]])
    got = inference.tvalues(params, errors, np.array([[True, False]]))
    np.testing.assert_array_equal(got.ravel(), [np.nan, 4.0])
    one = np.ones((1, 2))
    loglik = inference.llf(one, np.full((1, 2), 9), 4 * one, 0 * one, np.array([[True, False]]))
    assert np.isnan(loglik).tolist() == [[True, False]]


def test_p_and_intervals_have_the_closed_forms_of_one_and_two_degrees_of_freedom() -> None:
    t = np.array([0.0, 0.3, -2.0, 50.0, 1e6])
    one, two = np.ones((5, 1)), np.full((5, 1), 2.0)
    cauchy = 2 * np.arctan2(1, np.abs(t)) / math.pi
    np.testing.assert_allclose(inference.pvalues(t[:, None, None], one).ravel(), cauchy, rtol=1e-12)
    root = np.sqrt(2 + t * t)
    slash = 2 / (root * (root + np.abs(t)))  # 1 - t / sqrt(2 + t^2)
    np.testing.assert_allclose(inference.pvalues(t[:, None, None], two).ravel(), slash, rtol=1e-11)
    zero, unit = np.zeros((1, 1, 1)), np.ones((1, 1, 1))
    for alpha in (0.5, 0.05, 1e-8, 1e-18):  # 1 - 1e-18 / 2 is 1
        low, high = inference.conf_int(zero, unit, np.ones((1, 1)), alpha)
        np.testing.assert_allclose(high, 1 / math.tan(math.pi * alpha / 2), rtol=1e-9)
        assert low == -high


def test_a_sum_of_weights_beyond_float64_gives_no_rms() -> None:
    got = inference.rms(np.array([[3.0, 3.0]]), np.array([[9.0, np.inf]]))
    np.testing.assert_array_equal(got, [[1.0, np.nan]])


def test_digits_follow_offset_and_collinearity() -> None:
    center, norm = np.array([[0.0], [1e8], [0.0]]), np.full((3, 1), 2.0)
    got = inference.digits(center, norm, np.full(3, 4.0), np.array([1.0, 1.0, 1e-6]))
    u = 2.0**-53
    want = [15.95, -math.log10(u * math.sqrt(1e16 + 1)), -math.log10(u * 1e3)]
    np.testing.assert_allclose(got, want, rtol=1e-12)
    wild = inference.digits(np.array([[1e300]]), np.array([[1e-10]]), np.array([1e20]), np.array([1.0]))
    assert wild == 0  # and no warning of overflow
    assert inference.digits(np.empty((1, 0)), np.empty((1, 0)), np.ones(1), np.ones(1)) > 15.9


@pytest.mark.parametrize("p", [1, 2, 3, 6])
def test_largest_eigenvalue_is_that_of_lapack(p: int) -> None:
    rng = np.random.default_rng(p)
    A = rng.normal(size=(200, p, p))
    A = A @ A.transpose(0, 2, 1)
    A[0] = np.eye(p)
    A[1] = np.diag(np.arange(p, dtype=float))
    A[2] = 0
    A[3] = 1
    A[4] *= 1e-200
    before = A.copy()
    want = np.linalg.eigvalsh(A)[:, -1]
    np.testing.assert_allclose(inference.largest_eigenvalue(A.T), want, rtol=1e-13, atol=1e-300)
    np.testing.assert_array_equal(A, before)
    assert inference.largest_eigenvalue(A[:0].T).shape == (0,)


def test_condition_number_is_right_where_squares_would_lose_it() -> None:
    # orthogonal columns: the condition number is the ratio of their lengths, 1e12
    frame = pd.DataFrame({"g": 0, "x": [1.0, 1, -1, -1, 0], "z": [1e-12, -1e-12, 1e-12, -1e-12, 0]})
    frame["y"] = [0.0, 1, 5, 2, 3]
    fit = gbreg.fit(frame, by="g", linear=["x", "z"], targets=["y"], intercept=False, backend="numpy")
    np.testing.assert_allclose(fit.condition_number, 1e12, rtol=1e-12)


def test_condition_number_of_timestamps_is_that_of_the_callers_numbers() -> None:
    times = [1_700_000_000_000_000_000 + 1_000_000_007 * i * i for i in range(6)]
    frame = pd.DataFrame({"g": 0, "t": times, "y": [1.0, 3, 2, 5, 4, 6]})
    fit = gbreg.fit(frame, by="g", linear=["t"], targets=["y"], backend="numpy")
    with mpmath.workdps(60):  # eigenvalues of X'X from its trace and determinant
        trace = mpmath.mpf(6 + sum(t * t for t in times))
        det = mpmath.mpf(6 * sum(t * t for t in times) - sum(times) ** 2)
        largest = (trace + mpmath.sqrt(trace**2 - 4 * det)) / 2
        want = float(mpmath.sqrt(largest**2 / det))
    np.testing.assert_allclose(fit.condition_number.iloc[0, 0], want, rtol=1e-12)


@pytest.mark.parametrize(
    "name", ["bse", "pvalues", "rms", "llf", "bic", "rsquared_adj", "condition_number", "digits"]
)
def test_a_target_with_rows_of_its_own_is_as_if_alone(name: str) -> None:
    frame = FRAME.copy()
    frame.loc[frame.index[::5], "v"] = np.nan
    frame.loc[frame.index[1::9], "u"] = 1.0
    options = {"by": "g", "linear": ["x", "z"], "weights": "w", "backend": "numpy"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)  # u has too few rows in most groups
        fit = gbreg.fit(frame, targets=["y", "v", "u"], **options)
        for target in ("y", "v", "u"):
            alone = gbreg.fit(frame, targets=[target], **options)
            np.testing.assert_array_equal(getattr(fit, name)[target], getattr(alone, name)[target])
            np.testing.assert_array_equal(fit.cov_params(target), alone.cov_params(target))


def test_condition_number_does_not_depend_on_the_other_groups() -> None:
    fit = ours("weighted")
    for key in (0, 17, 49):
        rows = FRAME[FRAME["g"] == key]
        alone = gbreg.fit(rows, by="g", linear=["x", "z"], targets=["y", "v"], weights="w", backend="numpy")
        np.testing.assert_array_equal(alone.condition_number.loc[key], fit.condition_number.loc[key])


def test_a_matrix_among_others_has_the_same_eigenvalue_to_the_bit() -> None:
    rng = np.random.default_rng(8)
    A = rng.normal(size=(300, 4, 4))
    A = A @ A.transpose(0, 2, 1)
    A[::3] = np.eye(4) + 1e-16 * A[::3]  # equal diagonals: a needless rotation would mix them
    together = inference.largest_eigenvalue(A.T)
    alone = np.concatenate([inference.largest_eigenvalue(A[i : i + 1].T) for i in range(len(A))])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_condition_number_survives_extreme_units(scale: float) -> None:
    rows = FRAME[FRAME["g"] < 5]
    options = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "intercept": False, "backend": "numpy"}
    want = gbreg.fit(rows, **options).condition_number
    got = gbreg.fit(rows.assign(x=rows["x"] * scale, z=rows["z"] * scale), **options).condition_number
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_condition_number_of_groups_without_one() -> None:
    frame = pd.DataFrame(
        {"g": [0, 0, 0, 1, 2, 2, 2], "x": [1.0, 1, 1, 5, 1, 2, 3], "y": [1.0, 2, 4, 1, 2, 3, 5]}
    )
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    got = fit.condition_number["y"].to_numpy()
    assert got[0] == np.inf
    assert np.isnan(got[1])
    assert np.isfinite(got[2])
    np.testing.assert_array_equal(np.isnan(fit.digits["y"]), [False, True, False])
    assert fit.digits["y"].iloc[0] == 0
