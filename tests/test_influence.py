# SPDX-License-Identifier: MIT
"""Leverage, standardised residuals and Cook's distance, against statsmodels and where there are none."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from mpmath import mp
from scipy.special import stdtrit
from statsmodels.stats.stattools import durbin_watson

from gbreg.errors import GbregWarning, SpecError

ADDED = ["std_resid", "leverage", "cooks_distance"]
CALL = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "weights": "w"}


def make_frame(groups: int = 10, seed: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(6, 30, groups)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), sizes), "x": rng.normal(5, 1, n)})
    frame["z"], frame["w"] = rng.normal(size=n), rng.uniform(0.2, 4, n)
    frame["y"] = 1 + frame["x"] + rng.normal(size=n)
    frame["v"] = frame["z"] + rng.normal(size=n)
    return frame.sample(frac=1, random_state=seed)


def reference(rows: pd.DataFrame, target: str, *, intercept: bool = True, weighted: bool = True):
    """Of OLS on sqrt(w) times the data, which is what influence of a weighted fit means."""
    design = sm.add_constant(rows[["x", "z"]]) if intercept else rows[["x", "z"]]
    side = np.sqrt(rows["w"]) if weighted else pd.Series(1.0, index=rows.index)
    made = sm.OLS(rows[target] * side, design.mul(side, axis=0)).fit().get_influence()
    return np.stack([made.resid_studentized_internal, made.hat_matrix_diag, made.cooks_distance[0]], axis=1)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weights", ["w", None])
def test_they_are_those_of_statsmodels(weights, intercept):
    frame = make_frame()
    fit = frame.gbreg.fit(**{**CALL, "weights": weights}, intercept=intercept)
    got = fit.augment(frame)
    for _, rows in frame.groupby("g"):
        for target in ("y", "v"):
            want = reference(rows, target, intercept=intercept, weighted=weights is not None)
            own = got.loc[rows.index, [f"{target}_{name}" for name in ADDED]]
            np.testing.assert_allclose(own, want, rtol=1e-9, atol=1e-14)


def test_leverages_of_a_group_add_up_to_its_coefficients_wherever_the_origin_is():
    frame = make_frame().assign(x=lambda f: f["x"] + 1e8)
    got = frame.gbreg.fit(**CALL).augment(frame)
    np.testing.assert_allclose(got.groupby("g")["y_leverage"].sum(), 3.0, rtol=1e-7)


@pytest.mark.parametrize("cov_type", ["HC3", "cluster", "known"])
def test_errors_of_the_coefficients_do_not_matter_but_known_ones(cov_type):
    frame = make_frame().assign(run=lambda f: np.arange(len(f)) % 5)
    groups = "run" if cov_type == "cluster" else None
    got = frame.gbreg.fit(**CALL, cov_type=cov_type, groups=groups).augment(frame)
    plain = frame.gbreg.fit(**CALL)
    want = plain.augment(frame)
    if cov_type == "known":
        sigma = np.sqrt(plain.scale).loc[frame["g"]].set_axis(frame.index)
        for target in ("y", "v"):
            want[f"{target}_std_resid"] *= sigma[target]
            want[f"{target}_cooks_distance"] *= sigma[target] ** 2
    pd.testing.assert_frame_equal(got, want, rtol=1e-12)


def test_counts_are_repeated_rows():
    frame = make_frame().assign(w=lambda f: np.arange(len(f)) % 4)
    got = frame.gbreg.fit(**CALL, weights_type="frequency").augment(frame)
    many = frame.loc[frame.index.repeat(frame["w"])].reset_index(drop=True)
    want = many.gbreg.fit(**{**CALL, "weights": None}).augment(many).drop_duplicates()
    kept = got[got["w"] > 0].sort_values(["g", "x"])
    np.testing.assert_allclose(kept, want.sort_values(["g", "x"]), rtol=1e-9)
    assert got.loc[got["w"] == 0, "y_leverage"].isna().all()


def test_rows_that_took_no_part_have_none():
    frame = make_frame()
    frame.iloc[3, frame.columns.get_loc("v")] = np.nan
    frame.iloc[5, frame.columns.get_loc("w")] = 0.0
    frame.iloc[7, frame.columns.get_loc("y")] += 1e3
    fit = frame.gbreg.fit(**CALL, clip=6.0)
    got = fit.augment(frame)
    assert fit.clipped(frame)["y"].iloc[7]
    for row, columns in {3: ["v"], 5: ["y", "v"], 7: ["y"]}.items():
        for target in ("y", "v"):
            none = got.iloc[row][[f"{target}_{name}" for name in ADDED]].isna()
            assert none.all() == (target in columns), (row, target)
    assert got["y_fitted"].notna().all()


def test_a_leverage_of_one_and_a_perfect_fit():
    frame = pd.DataFrame({"g": [0] * 5 + [1] * 4, "x": [0.0, 0, 0, 0, 1, 0, 1, 2, 3]})
    frame["y"] = [1.0, 2, 4, 3, 9, 0, 0, 0, 0]
    got = frame.gbreg.fit(by="g", linear=["x"], targets=["y"]).augment(frame)
    np.testing.assert_allclose(got["y_leverage"][:5], [0.25] * 4 + [1.0])
    assert got["y_std_resid"].isna().tolist() == [False] * 4 + [True] * 5
    assert got["y_cooks_distance"].isna().tolist() == [False] * 4 + [True] * 5


def test_weights_that_are_no_column_are_asked_for():
    frame = make_frame()
    fit = frame.gbreg.fit(**{**CALL, "weights": frame["w"].to_numpy()})
    with pytest.raises(SpecError, match="give weights="):
        fit.augment(frame)
    want = frame.gbreg.fit(**CALL).augment(frame)
    pd.testing.assert_frame_equal(fit.augment(frame, weights="w"), want)


@pytest.mark.parametrize("make", ["callable", "expression"])
def test_weights_made_by_code_are_made_anew(make):
    if make == "expression" and not hasattr(pd, "col"):
        pytest.skip("pandas.col came with pandas 3")
    frame = make_frame().assign(sigma=lambda d: d["w"] ** -0.5)
    weights = (lambda d: 1 / d["sigma"] ** 2) if make == "callable" else 1 / pd.col("sigma") ** 2
    fit = frame.gbreg.fit(**{**CALL, "weights": weights})
    values = 1 / frame["sigma"] ** 2
    want = frame.gbreg.fit(**{**CALL, "weights": values})
    pd.testing.assert_frame_equal(fit.augment(frame), want.augment(frame, weights=values), check_exact=True)
    dw = want.durbin_watson(frame, weights=values)
    pd.testing.assert_frame_equal(fit.durbin_watson(frame), dw, check_exact=True)
    pd.testing.assert_frame_equal(copy.deepcopy(fit).augment(frame), fit.augment(frame), check_exact=True)
    gone = pickle.loads(pickle.dumps(fit))
    with pytest.raises(SpecError, match="which are not kept; give weights="):
        gone.augment(frame)
    assert "sigma" in repr(fit) or "lambda" in repr(fit)


def test_weights_that_depend_on_other_rows_are_asked_for():
    """In another frame they would be in another unit."""
    frame = make_frame()
    for weights in (
        lambda d: d["w"] / d["w"].sum(),
        lambda d: d["w"] / d["w"].max(),
        lambda d: 1 / d["w"].rank(),
        lambda d: np.random.default_rng().uniform(1, 2, len(d)),
    ):
        fit = frame.gbreg.fit(**{**CALL, "weights": weights})
        with pytest.raises(SpecError, match="which are not kept; give weights="):
            fit.predict(frame.iloc[:5], interval="prediction")


@pytest.mark.parametrize("apart", [1e-1, 1e-2, 1e-4])
def test_leverages_where_small_pivots_multiply(apart, backend):
    """Each predictor has a part of its own, but a combination has the product of two of them only."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"g": 0, "a": rng.normal(size=12), "y": rng.normal(size=12)})
    own = rng.normal(size=12)
    frame["b"] = frame["a"] + apart * own
    frame["c"] = own + apart * rng.normal(size=12)
    fit = frame.gbreg.fit(by="g", linear=list("abc"), targets=["y"], backend=backend)
    got = fit.augment(frame)
    bounds = fit.predict(frame, interval="confidence")["y"]
    with mp.workdps(60):
        X = mp.matrix([[1.0, *row] for row in frame[list("abc")].to_numpy().tolist()])
        A = (X.T * X) ** -1
        want = np.array([float((X[i, :] * A * X[i, :].T)[0]) for i in range(12)])
    half = stdtrit(8, 0.975) * np.sqrt(want) * np.sqrt(fit.scale["y"][0])
    if apart < 1e-3:
        assert got[[f"y_{name}" for name in ADDED]].isna().all(axis=None)
        assert bounds["lower"].isna().all()
    else:
        np.testing.assert_allclose(got["y_leverage"], want, rtol=2e-16 / apart**4 + 1e-12)
        np.testing.assert_allclose(bounds["upper"] - bounds["fitted"], half, rtol=2e-16 / apart**4 + 1e-12)


def test_standardised_rounding_is_none(backend):
    """Residuals may be right as a sum, and of single rows only what rounding of their values leaves."""
    rng = np.random.default_rng(9)
    frame = pd.DataFrame(rng.normal(size=(1_200, 3)), columns=["x", "z", "w"]).assign(
        g=np.arange(1_200) // 12
    )
    frame["w"] = frame["w"] ** 2
    noise = 10.0 ** -(np.arange(1_200) // 12 % 16) * rng.normal(size=1_200)
    frame["y"] = 1 + frame["x"] + noise
    frame["v"] = noise  # the residuals are the same
    added = frame.gbreg.fit(**CALL, backend=backend).augment(frame)
    small = np.arange(1_200) // 12 % 16
    for name in ("std_resid", "cooks_distance"):
        y, v = added[f"y_{name}"], added[f"v_{name}"]
        assert v.notna().all()
        assert y[small <= 10].notna().all()
        assert y[small >= 14].isna().mean() > 0.5
        np.testing.assert_allclose(y, v.where(y.notna()), rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize("power", [-535, -300, 300, 515])
def test_durbin_watson_has_no_unit(power):
    frame = make_frame()
    want = frame.gbreg.fit(**CALL).durbin_watson(frame)
    frame[["y", "v"]] *= 2.0**power
    pd.testing.assert_frame_equal(frame.gbreg.fit(**CALL).durbin_watson(frame), want, rtol=1e-12)


def test_rows_of_infinite_weight_took_no_part(backend):
    """They could not be rows of the fit; in a new frame they are told from those that could."""
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, backend=backend)
    far = frame.assign(w=frame["w"].where(np.arange(len(frame)) != 3, np.inf))
    got, rest = fit.augment(far), fit.augment(frame)
    added = [name for name in got if name.endswith(("_leverage", "_std_resid", "_cooks_distance"))]
    assert got[added].iloc[3].isna().all()
    pd.testing.assert_frame_equal(got[added].drop(frame.index[3]), rest[added].drop(frame.index[3]))
    without = fit.durbin_watson(frame.drop(frame.index[3]))
    pd.testing.assert_frame_equal(fit.durbin_watson(far), without)


def test_no_warning_of_numpy_for_rows_that_take_no_part():
    frame = make_frame()
    frame.iloc[2, frame.columns.get_indexer(["w", "y"])] = 0.0, np.inf
    fit = frame.gbreg.fit(**CALL, loss="huber")
    assert np.isnan(fit.augment(frame)["y_std_resid"].iloc[2])  # warnings are errors here


def test_groups_that_were_not_fitted_have_none():
    frame = make_frame()
    with pytest.warns(GbregWarning, match="too_few_rows"):
        got = frame.gbreg.fit(**CALL, min_nobs=15).augment(frame)
    short = frame.groupby("g")["x"].transform("size") < 15
    assert short.any()
    assert (got["y_leverage"].isna() == short).all()


@pytest.mark.parametrize("weights", ["w", None])
def test_durbin_watson_is_that_of_statsmodels_in_the_order_of_the_rows(weights):
    frame = make_frame()
    frame.iloc[3, frame.columns.get_loc("v")] = np.nan
    fit = frame.gbreg.fit(**{**CALL, "weights": weights})
    got = fit.durbin_watson(frame)
    assert got.shape == (10, 2)
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            own = rows.dropna(subset=target)
            made = sm.WLS(own[target], sm.add_constant(own[["x", "z"]]), weights=own["w"] if weights else 1.0)
            want = durbin_watson(made.fit().wresid)
            np.testing.assert_allclose(got.loc[g, target], want, rtol=1e-9)
    assert (got != fit.durbin_watson(frame.sort_values("x"))).any(axis=None)


def test_the_unit_of_a_target_is_not_in_its_durbin_watson():
    frame = make_frame()
    small = frame.assign(v=frame["v"] * 2.0**-20)
    got, want = (one.gbreg.fit(**CALL).durbin_watson(one) for one in (small, frame))
    pd.testing.assert_frame_equal(got, want, check_exact=True)


def test_saturated_groups_have_no_durbin_watson():
    """What is left of their residuals is rounding, of another sign on every backend."""
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(rng.normal(size=(30, 3)), columns=["x", "z", "y"]).assign(g=np.arange(30) // 3)
    frame.loc[29, "g"] = 8
    with pytest.warns(GbregWarning):
        fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], backend="numpy")
    got = fit.durbin_watson(frame)["y"]
    assert fit.status["y"].tolist() == [*["saturated"] * 8, "ok", "too_few_rows"]
    assert got.notna().tolist() == [False] * 8 + [True, False]
