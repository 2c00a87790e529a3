# SPDX-License-Identifier: MIT
"""Confidence and prediction intervals of fitted values, against statsmodels."""

from __future__ import annotations

import pickle
from typing import Any

import frames
import mpmath
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from frames import random_groups
from scipy import stats

import gbreg
from gbreg import ColumnError, MissingDataError, SpecError, WeightsError

FRAME = random_groups(90, ("x", "z"), rows=(5, 25)).rename(index=lambda i: f"r{(7 * i) % 1000}")
KINDS: dict[str, dict[str, Any]] = {
    **frames.KINDS,
    "means": {"weights": "w", "linear": []},
    "known": {"weights": "w", "cov_type": "known"},
}


def fitted(kind: str, backend: str = "numpy", **options: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"]}
    return gbreg.fit(FRAME, backend=backend, **{**call, **KINDS[kind], **options})


def design(rows: pd.DataFrame, kind: str) -> Any:
    X = rows[KINDS[kind].get("linear", ["x", "z"])].to_numpy()
    return np.column_stack([np.ones(len(rows)), X]) if KINDS[kind].get("intercept", True) else X


@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_are_those_of_statsmodels(backend: str, kind: str, weights: str | None) -> None:
    frame = FRAME
    if kind == "counts":
        weights = None
    by_default = "w" in KINDS[kind].values()  # the column of the fit
    fit = fitted(kind, backend)
    new = frame.assign(x=frame["x"] * 1.7 - 1, w=frame["w"] / 3)
    mean = fit.predict(new, interval="confidence", alpha=0.1)
    observed = fit.predict(new, interval="prediction", alpha=0.1, weights=weights)
    assert mean.index is new.index
    assert list(mean.columns) == [(t, b) for t in ("y", "v") for b in ("fitted", "lower", "upper")]
    for _, rows in frame.groupby("g"):
        used = rows.loc[rows.index.repeat(rows["n"])] if kind == "counts" else rows
        w = used["w"] if "w" in KINDS[kind].values() else np.ones(len(used))
        there = new.loc[rows.index]
        for target in ("y", "v"):
            model = sm.WLS(used[target].to_numpy(), design(used, kind), weights=np.asarray(w))
            want = model.fit(**({"cov_type": "fixed scale"} if kind == "known" else {})).get_prediction(
                design(there, kind), weights=there["w"].to_numpy() if weights or by_default else None
            )
            for got, obs in ((mean, False), (observed, True)):
                own = got.loc[rows.index, target]
                np.testing.assert_allclose(own["fitted"], want.predicted_mean, rtol=1e-9)
                half = want.conf_int(alpha=0.1, obs=obs)[:, 1] - want.predicted_mean
                np.testing.assert_allclose(own["upper"] - own["fitted"], half, rtol=1e-8)
                np.testing.assert_allclose(own["fitted"] - own["lower"], half, rtol=1e-8)


@pytest.mark.parametrize("kind", ["weighted", "known"])
def test_new_observations_have_weights(kind: str) -> None:
    fit, bare = fitted(kind), FRAME.drop(columns="w")
    with pytest.raises(SpecError, match="the weights of the fit, 'w', are not a column of this frame; give"):
        fit.predict(bare, interval="prediction")
    pd.testing.assert_frame_equal(  # the mean has no weight of its own
        fit.predict(bare, interval="confidence"), fit.predict(FRAME, interval="confidence")
    )
    pd.testing.assert_frame_equal(
        fit.predict(bare, interval="prediction", weights=FRAME["w"]),
        fit.predict(FRAME, interval="prediction"),
    )
    some = FRAME.assign(w=FRAME["w"].where(FRAME.index != FRAME.index[3], 0.0))
    got = gbreg.fit(some, by="g", linear=["x", "z"], targets=["y"], **KINDS[kind]).predict(
        some, interval="prediction"
    )
    assert got["y", "upper"].isna().tolist() == (some["w"] == 0).tolist()
    assert got["y", "fitted"].notna().all()
    values = fitted(kind, weights=FRAME["w"])
    namesake = FRAME.assign(**{"Series w (values)": 1.0, "Series w": 1.0})  # is never taken for them
    for fit in (values, pickle.loads(pickle.dumps(values))):
        with pytest.raises(SpecError, match=r"were Series w \(values\), which are not kept; give weights="):
            fit.predict(namesake, interval="prediction")


def test_without_interval_nothing_is_new() -> None:
    fit = fitted("weighted")
    plain = fit.predict(FRAME)
    assert list(plain.columns) == ["y", "v"]
    got = fit.predict(FRAME, interval="confidence").xs("fitted", axis=1, level="bound")
    np.testing.assert_array_equal(got, plain)
    pd.testing.assert_frame_equal(fit.predict(FRAME, interval=None), plain)


def test_far_from_the_origin() -> None:
    x = np.array([-1.0, -0.5, 0, 0.25, 0.5, 1]) + 1e8
    frame = pd.DataFrame({"g": 0, "x": x, "y": [1.0, 3, 2, 5, 4, 7]})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    new = pd.DataFrame({"g": 0, "x": [1e8 - 1, 1e8, 1e8 + 1, 0]})
    got = fit.predict(new, interval="confidence")["y"]
    with mpmath.workdps(50):
        X = [mpmath.mpf(v) for v in x]
        mean = sum(X) / 6
        sxx = sum((v - mean) ** 2 for v in X)
        levels = [mpmath.mpf(v) for v in frame["y"]]
        slope = sum((v - mean) * y for v, y in zip(X, levels, strict=True)) / sxx
        center = sum(levels) / 6
        rest = [y - center - slope * (v - mean) for v, y in zip(X, levels, strict=True)]
        scale = sum(r * r for r in rest) / 4
        errors = [
            mpmath.sqrt(scale * (mpmath.mpf(1) / 6 + (mpmath.mpf(v) - mean) ** 2 / sxx)) for v in new["x"]
        ]
        want = np.array([float(e) for e in errors]) * stats.t.isf(0.025, 4)
    np.testing.assert_allclose((got["upper"] - got["lower"]) / 2, want, rtol=1e-8)


@pytest.mark.parametrize("apart", [1e-3, 1e-4])
def test_nearly_equal_predictors(apart: float) -> None:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": 0, "x": rng.normal(size=15)})
    frame["z"] = frame["x"] + apart * rng.normal(size=15)
    frame["y"] = frame["x"] + rng.normal(size=15)
    fit = gbreg.fit(frame, by="g", linear=["x", "z"], targets=["y"], backend="numpy")
    got = fit.predict(frame, interval="confidence")["y"]
    with mpmath.workdps(50):
        X = mpmath.matrix([[1, x, z] for x, z in zip(frame["x"], frame["z"], strict=True)])
        inverse = (X.T * X) ** -1
        leverage = [(X[i, :] * inverse * X[i, :].T)[0, 0] for i in range(15)]
        want = np.array([float(mpmath.sqrt(h)) for h in leverage])
    want *= np.sqrt(fit.scale.loc[0, "y"]) * stats.t.isf(0.025, 12)
    np.testing.assert_allclose((got["upper"] - got["lower"]) / 2, want, rtol=1e-7)


def test_predictors_too_alike_for_bounds_have_none() -> None:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"g": 0, "x": rng.normal(size=15)})
    frame["z"] = frame["x"] + 1e-6 * rng.normal(size=15)
    frame["y"] = frame["x"] + rng.normal(size=15)
    fit = gbreg.fit(frame, by="g", linear=["x", "z"], targets=["y"], backend="numpy")
    assert fit.status.loc[0, "y"] == "ok"
    got = fit.predict(frame, interval="prediction")["y"]
    assert got["fitted"].notna().all()
    assert got[["lower", "upper"]].isna().all(axis=None)
    assert np.isnan(fit.wald_test("x = z", target="y").loc[0, "statistic"])


def test_integers_beyond_floats() -> None:
    rng = np.random.default_rng(4)
    near = pd.DataFrame({"g": 0, "x": rng.integers(0, 90, 12), "y": rng.integers(0, 90, 12)})
    far = near + np.array([0, 2**60, 2**40])
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "backend": "numpy"}
    want = gbreg.fit(near, **call).predict(near, interval="prediction")
    got = gbreg.fit(far, **call).predict(far, interval="prediction")
    np.testing.assert_allclose(got - 2**40, want, rtol=1e-9, atol=1e-3)
    width = want["y", "upper"] - want["y", "lower"]
    np.testing.assert_allclose(got["y", "upper"] - got["y", "lower"], width, rtol=1e-4)


def test_targets_with_their_own_rows(backend: str) -> None:
    frame = FRAME.assign(v=lambda d: d["v"].where(d["x"] > 1))
    call = {"by": "g", "linear": ["x"], "weights": "w", "backend": backend}
    got = gbreg.fit(frame, targets=["y", "v"], **call).predict(frame, interval="prediction")
    for target in ("y", "v"):
        alone = gbreg.fit(frame, targets=[target], **call).predict(frame, interval="prediction")
        pd.testing.assert_frame_equal(got[[target]], alone, check_exact=True)


def test_a_dropped_predictor_takes_no_part(backend: str) -> None:
    frame = FRAME.assign(c=lambda d: d["x"] * 2 + 1)
    call = {"by": "g", "targets": ["y"], "weights": "w", "backend": backend}
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, linear=["x", "c", "z"], on_collinear="drop", **call)
    want = gbreg.fit(frame, linear=["x", "z"], **call).predict(frame, interval="confidence")
    np.testing.assert_allclose(fit.predict(frame, interval="confidence"), want, rtol=1e-9)
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, linear=["x", "c", "z"], **call)
    np.testing.assert_allclose(fit.predict(frame, interval="confidence"), want, rtol=1e-9)


def test_rows_without_bounds() -> None:
    frame = pd.DataFrame({"g": [0, 0, 1, 1, 1, 2], "x": [0.0, 1, 0, 1, 3, 1], "y": [1.0, 2, 0, 3, 1, 5]})
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    new = pd.DataFrame({"g": [0, 1, 1, 2, 9], "x": [1.0, 1, np.nan, 1, 1]})
    got = fit.predict(new, interval="prediction")["y"]
    assert got["fitted"].notna().tolist() == [True, True, False, False, False]
    assert got["lower"].notna().tolist() == [False, True, False, False, False]  # saturated: no errors
    with pytest.raises(MissingDataError, match="3 of 5 rows have no fitted value"):
        fit.predict(new, interval="prediction", missing="raise")


@pytest.mark.parametrize("kind", ["confidence", "prediction"])
def test_a_frame_without_rows_has_bounds_of_none(kind: str) -> None:
    frame = pd.DataFrame({"g": [1, 1, 1, 1], "x": [0.0, 1, 2, 4], "y": [1.0, 3, 2, 5]})
    fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], backend="numpy")
    got = fit.predict(frame.iloc[:0], interval=kind)
    pd.testing.assert_frame_equal(got, fit.predict(frame, interval=kind).iloc[:0])
    got = fit.predict(frame.iloc[:0], source=True)
    pd.testing.assert_frame_equal(got, fit.predict(frame, source=True).iloc[:0])


def test_wrong_intervals_and_weights() -> None:
    frame, fit = FRAME, fitted("weighted")
    with pytest.raises(
        SpecError, match=r"interval must be one of \['confidence', 'prediction'\], got 'predict'"
    ):
        fit.predict(frame, interval="predict")
    with pytest.raises(SpecError, match="alpha= is of an interval"):
        fit.predict(frame, alpha=0.1)
    for alpha in (0, 1, 95, "0.05"):
        with pytest.raises(SpecError, match=f"alpha must be between 0 and 1, got {alpha!r}"):
            fit.predict(frame, interval="confidence", alpha=alpha)
    for interval in (None, "confidence"):
        with pytest.raises(SpecError, match=f'they need interval="prediction", got {interval!r}'):
            fit.predict(frame, interval=interval, weights="w")
    with pytest.raises(ColumnError, match="'ww'; did you mean 'w'"):
        fit.predict(frame, interval="prediction", weights="ww")
    for bad in (0.0, -1.0, np.nan, np.inf):
        weights = frame["w"].copy()
        weights.iloc[3] = bad
        match = f"must be finite and positive: 1 are not, first {bad} at '{frame.index[3]}'"
        with pytest.raises(WeightsError, match=match):
            fit.predict(frame, interval="prediction", weights=weights)
    with pytest.raises(SpecError, match='need weights_type="analytic"'):
        fitted("counts").predict(frame, interval="prediction", weights="n")


def test_rows_whose_own_weight_is_no_number_have_no_prediction_interval() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": 0, "x": np.arange(8.0), "y": rng.normal(size=8), "w": np.arange(8.0) + 1})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], weights="w", backend="numpy")
    new = frame.assign(w=[1.0, 2.0, 0.0, -1.0, np.nan, np.inf, 1.0, 1.0])
    got = fit.predict(new, interval="prediction")["y"]
    assert got["fitted"].notna().all()
    assert got["lower"].isna().tolist() == [False] * 2 + [True] * 4 + [False] * 2
