# SPDX-License-Identifier: MIT
"""Coefficients within bounds: against scipy's solvers, the conditions of optimality, and laws."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import lsq_linear, nnls

import gbreg
from gbreg.activeset import bounded_least_squares, dense
from gbreg.errors import CollinearityError, GbregWarning, SpecError

LINEAR = ["x", "z", "q"]
CALL = {"by": "g", "linear": LINEAR, "targets": ["y", "v"]}
NAMED = {"x": (0, 1.9), "z": (-0.9, None), "q": (None, 0.02)}


def make_frame(groups: int = 15, seed: int = 6) -> pd.DataFrame:
    """Weighted groups of 6 to 30 rows."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(6, 30, groups)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), sizes)})
    frame["x"], frame["z"], frame["q"] = rng.normal(5, 1, n), rng.normal(size=n), rng.uniform(0, 9, n)
    frame["w"] = rng.uniform(0.2, 5, n)
    frame["y"] = 1 + 2 * frame["x"] - frame["z"] + rng.normal(size=n)
    frame["v"] = rng.normal(size=n) + 0.02 * frame["q"]
    return frame.sample(frac=1, random_state=seed)


def by_scipy(
    rows: pd.DataFrame, target: str, bounds: dict, intercept: bool, w: np.ndarray, ridge: float = 0.0
) -> np.ndarray:
    """Coefficients by scipy's BVLS, the penalty as rows."""
    terms = ["Intercept"] * intercept + LINEAR
    A = rows.assign(Intercept=1.0)[terms].to_numpy() * np.sqrt(w)[:, None]
    D = np.sqrt(ridge) * np.eye(len(terms))[intercept:]
    b = np.concatenate([rows[target] * np.sqrt(w), np.zeros(3)])
    pairs = [bounds.get(term, (None, None)) for term in terms]
    low = [-np.inf if a is None else a for a, _ in pairs]
    high = [np.inf if a is None else a for _, a in pairs]
    return lsq_linear(np.vstack([A, D]), b, (low, high), method="bvls", tol=1e-15, max_iter=500).x


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("intercept", [True, False])
def test_it_is_that_of_scipy(backend: str, intercept: bool, weights: str | None) -> None:
    frame = make_frame()
    more = [{"Intercept": (0.5, 1.5)}, {"Intercept": (None, -0.25)}] if intercept else []
    for extra in ({}, *more):
        bounds = {**NAMED, **extra}
        fit = frame.gbreg.fit(**CALL, backend=backend, bounds=bounds, intercept=intercept, weights=weights)
        assert (fit.status == "ok").all(axis=None)
        held = fit.at_bound
        for g, rows in frame.groupby("g"):
            w = rows["w"].to_numpy() if weights else np.ones(len(rows))
            for target in ("y", "v"):
                want = by_scipy(rows, target, bounds, intercept, w)
                got = fit.params[target].loc[g]
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)
                ends = [bounds.get(term, (None, None)) for term in fit.terms]
                near = [[end for end in pair if end is not None] for pair in ends]
                at = [
                    any(abs(value - end) < 1e-12 for end in pair)
                    for value, pair in zip(want, near, strict=True)
                ]
                assert held[target].loc[g].tolist() == at  # where scipy's are but for rounding, exactly
                assert fit.df_resid.loc[g, target] == len(rows) - len(at) + sum(at)
                resid = rows[target] - got.get("Intercept", 0) - rows[LINEAR].to_numpy() @ got[LINEAR]
                assert fit.ssr.loc[g, target] == pytest.approx((w * resid**2).sum(), rel=1e-10)
                assert fit.mad.loc[g, target] == pytest.approx((resid - resid.median()).abs().median())
        assert held.any(axis=None)
        assert not held.all(axis=None)


def test_not_negative(backend: str) -> None:
    """A pair is for all predictors, not for the intercept; without one, it is scipy's nnls."""
    frame = make_frame()
    free = frame.assign(y=-frame["y"]).gbreg.fit(**CALL, backend=backend, bounds=(0, None))
    assert (free.params["y"][LINEAR] >= 0).all(axis=None)
    assert (free.params["y"]["Intercept"] < 0).any()
    fit = frame.gbreg.fit(**CALL, backend=backend, bounds=(0, None), intercept=False)
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            want = nnls(rows[LINEAR].to_numpy(), rows[target].to_numpy())[0]
            np.testing.assert_allclose(fit.params[target].loc[g], want, rtol=1e-10, atol=1e-13)
            assert (fit.params[target].loc[g].to_numpy() == 0).tolist() == (want == 0).tolist()


@pytest.mark.parametrize("intercept", [True, False])
def test_with_a_ridge(backend: str, intercept: bool) -> None:
    frame = make_frame()
    bounds = {**NAMED, **({"Intercept": (0, 1)} if intercept else {})}
    options = {"bounds": bounds, "ridge": 3.0, "weights": "w", "intercept": intercept}
    fit = frame.gbreg.fit(**CALL, backend=backend, **options)
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            want = by_scipy(rows, target, bounds, intercept, rows["w"].to_numpy(), 3.0)
            np.testing.assert_allclose(fit.params[target].loc[g], want, rtol=1e-10, atol=1e-10)
            free = ~fit.at_bound[target].loc[g].to_numpy()
            X = rows.assign(Intercept=1.0)[list(fit.terms)].to_numpy()[:, free]
            D = np.diag(np.array([0.0] * intercept + [3.0] * 3)[free])
            gram = X.T @ (X * rows["w"].to_numpy()[:, None])
            trace = np.trace(np.linalg.solve(gram + D, gram))
            assert fit.df_resid.loc[g, target] == pytest.approx(len(rows) - trace, rel=1e-9)


@pytest.mark.parametrize("ridge", [1e-4, 0.5, 300.0])
@pytest.mark.parametrize("low", [1.9, -0.5])
def test_a_constant_predictor_where_the_intercept_is_at_a_bound(
    backend: str, ridge: float, low: float
) -> None:
    """A penalised constant is 0 beside a free intercept only: held, it leaves the constant its part."""
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"g": [0, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2], "x": 3.0, "q": 5.0})
    frame["z"] = [1.0, 2.0, 2.0, *rng.normal(4, 1, 9)]
    frame["y"], frame["v"] = rng.normal(-4, 1, 12), rng.normal(20, 1, 12)
    bounds = {"Intercept": (low, 2.0), "x": (None, 1.0), "z": (-0.3, None)}
    fit = frame.gbreg.fit(**CALL, backend=backend, bounds=bounds, ridge=ridge)
    assert fit.at_bound["y"]["Intercept"].all()
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            want = by_scipy(rows, target, bounds, True, np.ones(len(rows)), ridge)
            np.testing.assert_allclose(fit.params[target].loc[g], want, rtol=1e-7, atol=1e-10)
            X = rows.assign(Intercept=1.0)[list(fit.terms)].to_numpy()
            ssr = np.sum((rows[target] - X @ fit.params[target].loc[g]) ** 2)
            assert fit.ssr.loc[g, target] == pytest.approx(ssr, rel=1e-9, abs=1e-12)
            free = ~fit.at_bound[target].loc[g].to_numpy()
            gram = X[:, free].T @ X[:, free]
            D = np.diag(np.array([0.0, ridge, ridge, ridge])[free])
            trace = np.trace(np.linalg.solve(gram + D, gram))
            assert fit.df_resid.loc[g, target] == pytest.approx(len(rows) - trace, abs=1e-6)


def test_constants_that_only_rounding_tells_apart_have_no_slopes(backend: str) -> None:
    """In its own deviations a constant has no penalty: beside a held intercept one is known, two are not."""
    frame = pd.DataFrame({"g": [0, 0, 0, 1, 1, 1], "x": 3.0, "z": [1, 1, 1, 1, 2, 4.0]})
    frame["y"] = [1.0, 2.0, 4.0, 1.0, 3.0, 2.0]
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "bounds": {"Intercept": (0, 0)}}
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call, backend=backend, ridge=1.0, ridge_standardize=True)
    assert fit.status["y"].tolist() == ["rank_deficient", "ok"]
    assert fit.params.loc[0].isna().all()
    X, y = np.array([[3, 1], [3, 2], [3, 4.0]]), np.array([1, 3, 2.0])
    want = np.linalg.solve(X.T @ X + np.diag([0, X[:, 1].var()]), X.T @ y)
    np.testing.assert_allclose(fit.params.loc[1], [0, *want], rtol=1e-10)


def test_a_plain_fit_within_the_bounds_stays_as_it_is(backend: str) -> None:
    frame = make_frame()
    plain = frame.gbreg.fit(**CALL, backend=backend)
    for bounds in ((-1e9, 1e9), {"x": (None, 1e9)}, {}):
        fit = frame.gbreg.fit(**CALL, backend=backend, bounds=bounds)
        for name in ("params", "ssr", "mad", "status", "flags", "df_resid", "condition_number"):
            pd.testing.assert_frame_equal(getattr(fit, name), getattr(plain, name), check_exact=True)
        assert not fit.at_bound.any(axis=None)
    some = frame.gbreg.fit(**CALL, backend=backend, bounds=(0, None))
    inside = ~some.at_bound["v"].any(axis=1)
    assert 0 < inside.sum() < len(inside)
    pd.testing.assert_frame_equal(some.params["v"][inside], plain.params["v"][inside], check_exact=True)


def test_equal_bounds_hold_a_coefficient(backend: str) -> None:
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, backend=backend, bounds={"x": (1.5, 1.5)})
    moved = frame.assign(y=frame["y"] - 1.5 * frame["x"], v=frame["v"] - 1.5 * frame["x"])
    want = moved.gbreg.fit(**{**CALL, "linear": ["z", "q"]}, backend=backend)
    assert (fit.params["y"]["x"] == 1.5).all()
    np.testing.assert_allclose(fit.params["y"][["Intercept", "z", "q"]], want.params["y"], rtol=1e-10)
    pd.testing.assert_frame_equal(fit.scale, want.scale, rtol=1e-10)


def test_what_is_dropped_is_zero_and_so_within_its_bounds(backend: str) -> None:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 20), "x": rng.normal(size=40)})
    frame["z"] = np.where(frame["g"] == 0, 2 * frame["x"], rng.normal(size=40))
    frame["y"] = 3 * frame["x"] + rng.normal(size=40)
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "on_collinear": "drop", "backend": backend}
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call, bounds=(0, 1))
    assert fit.params["y"].loc[0, "x"] == 1
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call, bounds={"x": (0, 1), "z": (0.5, 1)}, fallback=[[]])
    assert fit.params["y"].loc[0].isna().all()  # 1 and 0 would be far from the minimum, x + 2 z = 3
    assert fit.status["y"].tolist() == ["fallback", "ok"]
    got = fit.predict(frame, source=True)["y"]
    assert got["source"].tolist() == ["all"] * 20 + ["own"] * 20
    want = fit.parents["all"].params.iloc[0].to_numpy()
    rows = np.column_stack([np.ones(20), frame[["x", "z"]][:20]])
    np.testing.assert_allclose(got["fitted"][:20], rows @ want, rtol=1e-12)


def test_a_group_with_a_coefficient_held_is_not_saturated(backend: str) -> None:
    """Whether the plain fit of exact data is 1 or 1 + 2e-16 must not matter."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)), columns=["x", "z"])
    frame["g"], frame["y"] = np.arange(60) // 3, 1 + frame["x"] + 2 * frame["z"]
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "bounds": {"x": (1, 1)}}
    fit = frame.gbreg.fit(**call, backend=backend)
    assert (fit.df_resid["y"] == 1).all()
    assert (fit.status["y"] == "ok").all()
    assert fit.flags["y"]["perfect_fit"].all()
    np.testing.assert_allclose(fit.params["y"], [[1.0, 1.0, 2.0]] * 20, rtol=1e-11)


def test_rows_groups_and_targets_in_any_order_or_company(backend: str) -> None:
    frame = make_frame()
    call = {**CALL, "backend": backend, "bounds": NAMED}
    fit = frame.gbreg.fit(**call)
    shuffled = frame.sample(frac=1, random_state=2).gbreg.fit(**call)
    pd.testing.assert_frame_equal(shuffled.params, fit.params, rtol=1e-10, atol=1e-12)
    pd.testing.assert_frame_equal(shuffled.at_bound, fit.at_bound)
    alone = frame[frame["g"] == 7].gbreg.fit(**call)
    pd.testing.assert_frame_equal(alone.params, fit.params.loc[[7]], check_exact=True)
    frame.loc[frame.index[::4], "v"] = np.nan
    both = frame.gbreg.fit(**call)
    for target in ("y", "v"):
        one = frame.dropna(subset=[target]).gbreg.fit(**{**call, "targets": [target]})
        for name in ("params", "at_bound", "df_resid", "rms", "mad"):
            pd.testing.assert_frame_equal(getattr(both, name)[[target]], getattr(one, name))


def test_repeated_rows_are_whole_weights(backend: str) -> None:
    frame = make_frame()
    frame["w"] = np.arange(len(frame)) % 3 + 1.0
    call = {**CALL, "backend": backend, "bounds": NAMED}
    repeated = frame.loc[frame.index.repeat(frame["w"].astype(int))].gbreg.fit(**call, mad=False)
    counts = frame.gbreg.fit(**call, weights="w", weights_type="frequency")
    for name in ("params", "ssr", "rsquared", "nobs", "df_resid", "scale", "status"):
        pd.testing.assert_frame_equal(getattr(counts, name), getattr(repeated, name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("offset", [1e4, 1e8])
def test_values_far_from_zero(backend: str, offset: float) -> None:
    """Slopes, and fitted values through a bounded intercept, do not suffer."""
    x = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    frame = pd.DataFrame({"g": 1, "x": offset + x, "y": [1.0, 2.0, 2.75, 3.0, 4.5]})
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "backend": backend}
    fit = frame.gbreg.fit(**call, bounds=(None, 0.5))
    near = frame.assign(x=x).gbreg.fit(**call, bounds=(None, 0.5))
    np.testing.assert_allclose(fit.resid(frame), near.resid(frame.assign(x=x)), rtol=1e-7)
    start = -0.75 * offset  # so the slope is about 3/4
    held = frame.gbreg.fit(**call, bounds={"Intercept": (start, None)})
    assert held.params.loc[1, ("y", "Intercept")] == start
    far = frame["x"].to_numpy()
    slope = (far * (frame["y"] - start)).sum() / (far**2).sum()
    assert held.params.loc[1, ("y", "x")] == pytest.approx(slope, rel=1e-14)
    exact = [np.longdouble(a) * np.longdouble(held.params.loc[1, ("y", "x")]) + start for a in far]
    np.testing.assert_allclose(held.predict(frame)["y"], np.array(exact, dtype=float), atol=1e-15 * offset)


def test_whole_numbers_beyond_the_range_of_floats(backend: str) -> None:
    step = np.array([0, 1, 3, 4, 9])
    frame = pd.DataFrame({"g": 1, "t": 2**60 + step, "y": [1.0, 2, 2, 5, 9]})
    call = {"by": "g", "linear": ["t"], "targets": ["y"], "backend": backend, "bounds": (0, 0.5)}
    got, want = frame.gbreg.fit(**call), frame.assign(t=step).gbreg.fit(**call)
    assert got.params.loc[1, ("y", "t")] == 0.5
    assert got.params.loc[1, ("y", "Intercept")] == 3.8 - 0.5 * 2.0**60  # which rounds the rest away
    np.testing.assert_allclose(got.predict(frame), want.predict(frame.assign(t=step)), rtol=1e-13)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_near_the_ends_of_float64(backend: str, size: float) -> None:
    frame = make_frame()[["g", *LINEAR, "y", "v"]]
    fit = frame.gbreg.fit(**CALL, backend=backend, bounds=NAMED)
    scaled = frame.assign(**{name: frame[name] * size for name in [*LINEAR, "y", "v"]})
    got = scaled.gbreg.fit(**CALL, backend=backend, bounds=NAMED)
    np.testing.assert_allclose(got.params["y"][LINEAR], fit.params["y"][LINEAR], rtol=1e-9, atol=1e-12)
    pd.testing.assert_frame_equal(got.at_bound, fit.at_bound)
    np.testing.assert_allclose(got.rsquared, fit.rsquared, rtol=1e-9)


def test_groups_that_leave_nothing_to_fit(backend: str) -> None:
    parts = {
        "one": {"x": [1.0], "z": [2.0], "y": [3.0]},
        "exact": {"x": [1.0, 2.0, 4], "z": [2.0, 5.0, 1], "y": [-3.0, -4.0, 5]},
        "flat": {"x": [1.0] * 5, "z": [1.0, 2, 3, 5, 8], "y": [5.0, 2, 2, 3, 0]},
        "same": {"x": [1.0, 2, 4, 3], "z": [1.0, 5, 3, 3], "y": [0.1] * 4},
    }
    frame = pd.concat(pd.DataFrame({"g": g, **columns}) for g, columns in parts.items())
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "backend": backend}
    with pytest.warns(GbregWarning, match="1 too_few_rows.*1 rank_deficient"):
        fit = frame.gbreg.fit(**call, bounds=(0, None))
    status = {"one": "too_few_rows", "exact": "ok", "flat": "rank_deficient", "same": "ok"}
    assert fit.status["y"].to_dict() == status
    assert fit.params["y"].loc[["one", "flat"]].isna().all(axis=None)
    assert fit.params["y"].loc["same"].tolist() == [0.1, 0.0, 0.0]
    plain = frame[frame["g"] == "exact"].gbreg.fit(**call)
    assert plain.status["y"].tolist() == ["saturated"]
    assert (plain.params["y"][["x", "z"]] < 0).any(axis=None)
    assert fit.df_resid.loc["exact", "y"] == fit.at_bound["y"].loc["exact"].sum()
    above = frame[frame["g"] == "same"].gbreg.fit(**call, bounds=(1, 2))
    assert above.params["y"].loc["same", ["x", "z"]].tolist() == [1.0, 1.0]
    with pytest.warns(GbregWarning):
        drop = frame.gbreg.fit(**call, bounds=(0, None), on_collinear="drop")
    assert np.isnan(drop.params["y"].loc["flat", "x"])
    assert drop.params["y"].loc["flat", "z"] == 0
    assert drop.predict(frame)["y"].tolist()[4:9] == [2.4] * 5
    with pytest.raises(CollinearityError, match="predictors 'x'"):
        frame.gbreg.fit(**call, bounds=(0, None), on_collinear="raise")
    few = frame.gbreg.fit(**call, bounds=(0, None), ridge=1.0)
    assert few.status["y"].to_dict() == {**dict.fromkeys(parts, "ok"), "one": "saturated"}


def test_predictors_too_much_alike_for_float64_give_no_numbers(backend: str) -> None:
    """A plain fit tells them apart, in double-double arithmetic, and stays where it keeps the bounds."""
    x = np.arange(8.0)
    frame = pd.DataFrame({"g": 1, "x": x, "z": x + 1e-8 * np.array([1, -1, -1, 1, 1, -1, 1, 0])})
    frame["y"], frame["v"] = 3 * frame["x"] - frame["z"], 2 * frame["x"] + 3 * frame["z"]
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "backend": backend}
    plain = frame.gbreg.fit(**call)
    assert (plain.params["y"]["z"] < 0).all()
    for options in ({}, {"on_collinear": "drop"}):
        with pytest.warns(GbregWarning, match="1 not_converged"):
            fit = frame.gbreg.fit(**call, bounds=(0, None), **options)
        assert fit.status.loc[1].tolist() == ["not_converged", "ok"]
        assert fit.params["y"].isna().all(axis=None)
        assert fit.predict(frame)["y"].isna().all()
        pd.testing.assert_frame_equal(fit.params[["v"]], plain.params[["v"]], check_exact=True)
        pd.testing.assert_series_equal(fit.predict(frame)["v"], plain.predict(frame)["v"])


def test_means_within_bounds(backend: str) -> None:
    frame = make_frame()
    fit = frame.gbreg.fit(
        by="g", linear=[], targets=["v"], bounds={"Intercept": (-0.1, 0.1)}, backend=backend
    )
    want = frame.groupby("g")["v"].mean().clip(-0.1, 0.1)
    np.testing.assert_allclose(fit.params["v"]["Intercept"], want, rtol=1e-12)
    assert fit.at_bound["v"]["Intercept"].tolist() == (want.abs() == 0.1).tolist()


@pytest.mark.parametrize("alike", [0.0, 10.0, 1000.0])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_the_active_set_ends_at_the_minimum(k: int, alike: float) -> None:
    """Many problems at once, with predictors alike, against the conditions of optimality and scipy."""
    rng = np.random.default_rng(k)
    m, n = 300, 2 * k + 2
    A = rng.normal(size=(m, n, k)) + alike * rng.normal(size=(m, n, 1))
    A /= np.linalg.norm(A, axis=1, keepdims=True)
    y = rng.normal(size=(m, n))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    low = np.where(rng.random((m, k)) < 0.7, rng.normal(size=(m, k)) * 0.3, -np.inf)
    high = np.where(rng.random((m, k)) < 0.7, np.maximum(low, 0) + rng.random((m, k)), np.inf)
    never = np.zeros((k, m), dtype=bool)
    R, z = dense(np.moveaxis(A, 0, -1), y.T, never)
    made = bounded_least_squares(R, z, low.T, high.T, never)
    assert made.optimal.all()
    x = made.x.T
    assert ((x >= low) & (x <= high)).all()
    pull = np.einsum("mnk,mn->mk", A, y - np.einsum("mnk,mk->mn", A, x))
    size = 1e-12 * (1 + np.abs(x).sum(axis=1, keepdims=True))
    assert (np.abs(pull) <= size)[made.free.T].all()
    assert (pull <= size)[made.side.T < 0].all()
    assert (pull >= -size)[made.side.T > 0].all()
    for i in range(0, m, 15):
        want = lsq_linear(A[i], y[i], (low[i], high[i]), method="bvls", tol=1e-15, max_iter=999).x
        np.testing.assert_allclose(x[i], want, rtol=1e-8, atol=1e-8)


def test_what_does_not_end_is_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = make_frame()
    monkeypatch.setattr("gbreg.activeset.ROUNDS", 0)
    with pytest.warns(GbregWarning, match="not_converged"):
        fit = frame.gbreg.fit(**CALL, backend="numpy", bounds=NAMED)
    lost = fit.status["y"] == "not_converged"
    assert lost.any()
    assert fit.params["y"][lost].isna().all(axis=None)
    assert fit.params["y"][~lost].notna().all(axis=None)


def test_what_is_shown_and_stored(tmp_path) -> None:
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, bounds={"x": (0, 1.9), "Intercept": (None, 1)})
    for name in ("bse", "pvalues"):
        with pytest.raises(SpecError, match=f"{name} needs standard errors, which a fit with bounds="):
            getattr(fit, name)
    with pytest.raises(SpecError, match="aic is of least squares, this fit has bounds="):
        _ = fit.aic
    criterion = "bounds={'Intercept': (None, 1.0), 'x': (0.0, 1.9)}"
    assert criterion in repr(fit)
    assert criterion in " ".join(repr(fit.group(3)).split())
    assert frame.gbreg.fit(**CALL, bounds=(0, None)).spec.criterion == "bounds=(0.0, None)"
    fit.to_parquet(tmp_path / "fit.parquet")
    for back in (gbreg.read_parquet(tmp_path / "fit.parquet"), pickle.loads(pickle.dumps(fit))):
        pd.testing.assert_frame_equal(back.at_bound, fit.at_bound)
        pd.testing.assert_frame_equal(back.df_resid, fit.df_resid)
        pd.testing.assert_frame_equal(back.predict(frame), fit.predict(frame))
        assert back.spec == fit.spec
    with pytest.raises(SpecError, match="at_bound needs a fit with bounds="):
        _ = frame.gbreg.fit(**CALL).at_bound


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": 0}, r"bounds must be a pair \(low, high\), or a mapping of terms to pairs, got 0"),
        ({"bounds": (0, 1, 2)}, r"bounds must be pairs \(low, high\), got \(0, 1, 2\)"),
        ({"bounds": (1, 0)}, r"bounds must be low <= high, got \(1, 0\)"),
        ({"bounds": (np.inf, np.inf)}, "bounds must be low <= high"),
        ({"bounds": (0, np.nan)}, "bounds must be numbers or None, got"),
        ({"bounds": (0, "1")}, "bounds must be numbers or None, got"),
        ({"bounds": (False, True)}, "bounds must be numbers or None, got"),
        ({"bounds": {"x": 1}}, r"bounds must be pairs \(low, high\) for 'x', got 1"),
        ({"bounds": {"x": (2, 1)}}, r"bounds must be low <= high for 'x', got \(2, 1\)"),
        ({"bounds": {"xx": (0, 1)}}, "bounds= names 'xx', terms are .*did you mean 'x'"),
        ({"bounds": {"Intercept": (0, 1)}, "intercept": False}, "bounds= names 'Intercept', terms are"),
        ({"bounds": (0, 1), "cov_type": "HC3"}, "bounds= leaves no standard errors, got cov_type='HC3'"),
        ({"bounds": (0, 1), "clip": 3.0}, "bounds= does not go with clip="),
        (
            {"bounds": (0, 1), "ridge": 1, "precision": "extended"},
            "ridge= and bounds= is computed in float64",
        ),
    ],
)
def test_names_of_what_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_frame().gbreg.fit(**CALL, **options)


def test_a_pair_without_predictors_is_refused() -> None:
    frame = pd.DataFrame({"g": 0, "y": [1.0, 2, 4]})
    with pytest.raises(SpecError, match=r'^a pair of bounds= is of predictors.*write {"Intercept"'):
        frame.gbreg.fit(by="g", linear=[], targets=["y"], bounds=(0, None))
    fit = frame.gbreg.fit(by="g", linear=[], targets=["y"], bounds={"Intercept": (3, None)}, backend="numpy")
    assert fit.params.iloc[0, 0] == 3


@pytest.mark.compiled("numba", "loky")
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("noise", [0, 1])
@pytest.mark.parametrize("options", [{}, {"weights": "w"}, {"ridge": {"b": 1.0}}])
def test_a_minimum_on_a_bound_is_at_it_whatever_rounding_makes_of_it(
    backend: str, options: dict[str, Any], noise: int, intercept: bool
) -> None:
    """The slope of b and the intercept are 0 in exact arithmetic, in many groups with a multiplier of 0."""
    rng, frames = np.random.default_rng(81), []
    for g in range(200):
        a, b = rng.permutation([-2.0, -1, 0, 0, 1, 2]), rng.integers(-3, 4, 6).astype(float)
        # orthogonal to a, b and the constant, so that no slope has a part of it
        basis = np.linalg.qr(np.column_stack([np.ones(6), a, b, rng.normal(size=(6, 3))]))[0]
        error = noise * np.where(np.ptp(b) > 0, basis[:, -1], 0.0)
        frames.append(pd.DataFrame({"g": g, "a": a, "b": b, "y": 2 * a + error}))
    frame = pd.concat(frames, ignore_index=True).assign(w=4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)
        fit = gbreg.fit(
            frame,
            **{"by": "g", "linear": ["a", "b"], "targets": ["y"], "intercept": intercept, "backend": backend},
            bounds={"b": (0, None), **({"Intercept": (0, None)} if intercept else {})},
            **options,
        )
    told = fit.at_bound["y"][(fit.status["y"] != "rank_deficient").to_numpy()]
    assert len(told) > 190
    assert told["b"].all()
    assert not told["a"].any()
    if intercept:
        assert told["Intercept"].all()
    np.testing.assert_allclose(fit.df_resid["y"][told.index], 5, rtol=1e-9)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_freed_coefficient_is_not_stopped_by_the_bound_it_comes_from(backend):
    X = [[0, 3, 2], [0, 3, 1], [2, 0, -1], [-1, 0, 3], [2, -1, 2]]
    frame = pd.DataFrame(X, columns=list("abc"), dtype=float).assign(y=[1.0, 2, 1, -3, -3], g=0)
    fit = gbreg.fit(frame, by="g", linear=list("abc"), targets=["y"], bounds=(0, 1), backend=backend)
    np.testing.assert_allclose(fit.params["y"].iloc[0], [-11 / 6, 13 / 18, 1, 0], atol=1e-12)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_solution_on_a_bound_is_at_it_in_any_order_of_the_rows(backend):
    frame = pd.DataFrame({"a": [-1.0, 3, -3, 2], "b": [3.0, 2, 3, 3], "c": [0.0, -3, -1, -2], "g": 0})
    frame["y"] = [10.0, 3, 10, 7]
    call = {"by": "g", "linear": list("abc"), "targets": ["y"], "bounds": {"a": (0, None), "c": (-0.3, 1.5)}}
    for order in ([0, 1, 2, 3], [0, 2, 1, 3], [3, 2, 1, 0]):
        fit = gbreg.fit(frame.iloc[order], **call, backend=backend)
        assert fit.params["y", "c"].tolist() == [1.5]
        assert fit.df_resid["y"].tolist() == [2]
        np.testing.assert_allclose(fit.scale["y"], 0.75, rtol=1e-12)


@pytest.mark.parametrize("ridge", [None, 1e-3])
def test_an_intercept_within_rounding_of_a_bound_beyond_2_53_is_at_it(ridge: float | None) -> None:
    noise = np.array([30, -10, 5, 7, -40, 3, 9, -12, 8])
    frame = pd.DataFrame({"g": 0, "x": np.arange(-4.0, 5.0)})
    frame["y"] = 2**60 + 512 + 1000 * np.arange(-4, 5) + noise  # 512 is 2**-51 of it
    bounds = {"Intercept": (2.0**60, None)}
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "bounds": bounds, "ridge": ridge}
    fit = gbreg.fit(frame, **call, backend="numpy")
    assert fit.params[("y", "Intercept")].tolist() == [2.0**60]
    assert fit.at_bound["y"].to_numpy().tolist() == [[True, False]]
    assert fit.df_resid["y"].iloc[0] == pytest.approx(8, abs=1e-4)
