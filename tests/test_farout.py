# SPDX-License-Identifier: MIT
"""Rows very far out in a predictor: "bisquare" leaves them out, or takes them for what they are."""

from __future__ import annotations

import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

pytest.importorskip("gbreg.loss_kernels")
CALL = {"by": "g", "linear": ["x"], "targets": ["y"], "loss": "bisquare"}
GROUPS, ROWS = 6, 30


def make_frame(seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = GROUPS * ROWS
    frame = pd.DataFrame({"g": np.repeat(np.arange(GROUPS), ROWS), "i": np.tile(np.arange(ROWS), GROUPS)})
    frame["x"], frame["z"], frame["w"] = rng.normal(5, 1, n), rng.normal(size=n), rng.uniform(0.5, 2, n)
    frame["y"] = 1 + 2 * frame["x"] + 0.1 * rng.normal(size=n)
    return frame


def rlm(rows: pd.DataFrame, names: list[str], start: list[float], side: np.ndarray | float = 1.0):
    X = np.column_stack([np.ones(len(rows)), rows[names]]) * np.reshape(side, (-1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = sm.RLM(rows["y"].to_numpy() * side, X, M=sm.robust.norms.TukeyBiweight())
        return model.fit(maxiter=3000, tol=1e-13, conv="coefs", start_params=start)


@cache
def near_fits(weights: str | None) -> dict[int, tuple[np.ndarray, float]]:
    """Coefficients and scale of statsmodels in each group, with 1e3 instead of the far value."""
    frame, fits = make_frame(), {}
    for g, rows in frame.assign(x=frame["x"].where(frame["i"] != 3, 1e3)).groupby("g"):
        fit = rlm(rows, ["x"], [1, 2], np.sqrt(rows["w"].to_numpy()) if weights else 1.0)
        fits[g] = fit.params, fit.scale
    return fits


@pytest.mark.compiled  # without, a minute
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("far", [3e3, 1e4, 1e5, 1e6, 1e9, -9.96e36, 1e100])
def test_one_far_value_of_a_predictor_is_survived(backend, far, weights):
    """Whatever its size: the fit is statsmodels' of 1e3 instead of it, started near the truth."""
    frame = make_frame()
    bad = frame.assign(x=frame["x"].where(frame["i"] != 3, far))
    fit = bad.gbreg.fit(**CALL, weights=weights, backend=backend)
    assert (fit.status == "ok").all(axis=None)
    for g, (params, scale) in near_fits(weights).items():
        np.testing.assert_allclose(fit.params.loc[g], params, rtol=1e-6)
        np.testing.assert_allclose(fit.scale.loc[g], scale, rtol=1e-6)
    near, b = bad["i"] != 3, fit.params["y"].loc[bad["g"]].to_numpy()
    resid = bad["y"] - b[:, 0] - b[:, 1] * bad["x"]
    np.testing.assert_allclose(fit.resid(bad)["y"][near], resid[near], rtol=1e-7, atol=1e-10)
    assert fit.bse.isna().all(axis=None)  # of RLM they would be 1e100 times too small
    assert fit.flags["y"]["no_robust_errors"].all()
    shuffled = bad.sample(frac=1, random_state=2).gbreg.fit(**CALL, weights=weights, backend=backend)
    pd.testing.assert_frame_equal(shuffled.params, fit.params, rtol=1e-7)
    louder = bad.assign(x=bad["x"] * 2.0**-40, y=bad["y"] * 2.0**60)
    louder = louder.gbreg.fit(**CALL, weights=weights, backend=backend)
    np.testing.assert_allclose(louder.params["y"]["x"] * 2.0**-100, fit.params["y"]["x"], rtol=1e-9)


def test_three_in_ten_rows_of_any_size(backend):
    frame = make_frame(2)
    few = frame["i"] < 9
    bad = frame.assign(
        x=np.where(few, 10.0 ** (4 + 4 * frame["i"]), frame["x"]),
        y=np.where(few & (frame["i"] > 3), 1e30, frame["y"]),
    )
    for many in (bad, frame.assign(x=frame["x"].where(~few, 9.96e36))):
        fit = many.gbreg.fit(**CALL, backend=backend)
        assert (fit.status == "ok").all(axis=None)
        assert np.abs(fit.params["y"]["x"] - 2).max() < 0.1
        assert np.abs(fit.params["y"]["Intercept"] - 1).max() < 0.5
        np.testing.assert_allclose(fit.scale["y"], 0.15, rtol=0.5)


@pytest.mark.compiled("numba")
def test_two_predictors_and_two_targets(backend):
    """Each target alone is as both together; a far target beside far predictors is survived too."""
    frame = make_frame(3)
    frame["y"] -= frame["z"]
    near = frame.assign(
        x=frame["x"].where(frame["i"] != 3, 1e3),
        z=frame["z"].where(frame["i"] != 5, -1e3),
        y=frame["y"].where(frame["i"] != 7, 1e3),
    )
    bad = frame.assign(
        x=frame["x"].where(frame["i"] != 3, 1e20),
        z=frame["z"].where(frame["i"] != 5, -1e9),
        y=frame["y"].where(frame["i"] != 7, 1e50),
    )
    bad["v"] = 3 * bad["y"].where(frame["i"] != 7, 1) + bad["x"]
    call = {**CALL, "linear": ["x", "z"], "backend": backend}
    fit = bad.gbreg.fit(**{**call, "targets": ["y", "v"]})
    assert (fit.status == "ok").all(axis=None)
    for g, rows in near.groupby("g"):
        want = rlm(rows, ["x", "z"], [1, 2, -1])
        np.testing.assert_allclose(fit.params.loc[g, "y"], want.params, rtol=1e-6)
    for target in ("y", "v"):
        alone = bad.gbreg.fit(**{**call, "targets": [target]})
        pd.testing.assert_frame_equal(fit.params[[target]], alone.params, rtol=1e-9)


@pytest.mark.compiled("numba")
def test_a_far_row_that_fits_stays(backend):
    """On the line of the others, it tells the slope to ten digits. Weights that are far off count too."""
    frame = make_frame(4)
    frame.loc[frame["i"] == 3, ["x", "y"]] = 1e9, 1 + 2e9
    fit = frame.gbreg.fit(**CALL, backend=backend)
    assert (fit.status == "ok").all(axis=None)
    np.testing.assert_allclose(fit.params["y"]["x"], 2, rtol=1e-9)
    assert fit.bse.notna().all(axis=None)
    heavy = frame.assign(w=np.where(frame["i"] == 8, 1e20, 1.0), x=make_frame(4)["x"])
    heavy.loc[heavy["i"] == 3, "y"] = 1 + 2 * heavy["x"]
    heavy.loc[heavy["i"] == 8, "y"] = 50
    fit = heavy.gbreg.fit(**CALL, weights="w", backend=backend)  # a weight is a size too
    assert np.abs(fit.params["y"]["x"] - 2).max() < 0.1
    through = heavy.gbreg.fit(**CALL, weights="w", intercept=False, backend=backend)
    assert np.abs(through.params["y"]["x"] - 2.2).max() < 0.1


@pytest.mark.compiled
def test_backends_agree_on_many_groups():
    rng = np.random.default_rng(9)
    n, groups = 40, 120
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), n)})
    frame["x"], frame["z"] = np.exp(3 * rng.normal(size=n * groups)), rng.integers(0, 2, n * groups)
    frame["y"] = 1 + 2 * frame["x"] * (1 + 0.05 * rng.normal(size=n * groups)) + frame["z"]
    few = rng.random(n * groups) < 0.1
    frame.loc[few, "x"] *= 10.0 ** rng.integers(0, 30, few.sum())
    call = {**CALL, "linear": ["x", "z"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one, other = (frame.gbreg.fit(**call, backend=name) for name in ("numba", "numpy"))
    assert one.status.equals(other.status)
    assert (one.status["y"] == "ok").mean() > 0.95
    pd.testing.assert_frame_equal(one.params, other.params, rtol=1e-6)
    assert one.bse.isna().equals(other.bse.isna())


def test_what_is_not_about_the_far_row_stays(backend):
    """A target beside one that leaves a row out is as alone; the design is what it is with any loss."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": 0, "x": 50 + rng.normal(size=40)})
    frame["y"] = 1 + 2 * frame["x"] + 0.1 * rng.normal(size=40)
    frame["v"] = 3 - frame["x"] + 0.1 * rng.normal(size=40)
    frame.loc[5, ["x", "v"]] = 1e7, 3 - 1e7  # on the line of v, far from that of y
    call = {**CALL, "backend": backend}
    both = frame.gbreg.fit(**{**call, "targets": ["y", "v"]})
    for target in ("y", "v"):
        alone = frame.gbreg.fit(**{**call, "targets": [target]})
        for stat in ("params", "bse", "flags", "condition_number", "digits"):
            pd.testing.assert_frame_equal(
                getattr(both, stat)[[target]], getattr(alone, stat), check_exact=True
            )
        pd.testing.assert_frame_equal(both.resid(frame)[[target]], alone.resid(frame), check_exact=True)
    assert both.bse["y"].isna().all(axis=None)
    assert both.bse["v"].notna().all(axis=None)
    design = np.column_stack([np.ones(40), frame["x"]])
    np.testing.assert_allclose(both.condition_number, np.linalg.cond(design), rtol=1e-9)
    huber = frame.gbreg.fit(**{**call, "loss": "huber"})
    np.testing.assert_allclose(both.digits["y"], huber.digits["y"], rtol=1e-9)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        twice = frame.assign(z=2 * frame["x"] + 1).gbreg.fit(
            **{**call, "linear": ["x", "z"]}, on_collinear="drop"
        )
        predicted = twice.predict(frame.assign(z=2 * frame["x"] + 1))
    assert len(told) == 1  # z is dropped; its rows are as in the group
    pd.testing.assert_frame_equal(predicted, both.predict(frame)[["y"]], rtol=1e-9)
