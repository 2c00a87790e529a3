# SPDX-License-Identifier: MIT
"""Fits of other losses than squares: against statsmodels, linear programs and laws."""

from __future__ import annotations

import importlib
import pickle
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from conftest import COMPILED
from scipy.optimize import linprog

import gbreg
from gbreg import losses, minimum
from gbreg.backends._numba import NumbaBackend
from gbreg.errors import GbregWarning, SpecError

pytest.importorskip("gbreg.loss_kernels")
KERNELS = [importlib.import_module(f"gbreg.{name}_kernels") for name in ("loss", "reweight", "quantile")]
NORMS = {"huber": sm.robust.norms.HuberT, "bisquare": sm.robust.norms.TukeyBiweight}
LOSSES = ["huber", "bisquare", "absolute"]
CALL = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"]}
COMPARED = 24  # groups


def make_frame(groups: int = 24, rows: tuple[int, int] = (8, 40), share: float = 0.08) -> pd.DataFrame:
    """Weighted groups, a share of each target far off."""
    rng = np.random.default_rng(11)
    sizes = rng.integers(*rows, groups)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), sizes)})
    frame["x"], frame["z"] = rng.normal(3, 1, n), rng.normal(size=n)
    frame["w"] = rng.uniform(0.2, 5, n)
    for target, slope in (("y", 2.0), ("v", -1.0)):
        noise = rng.normal(size=n) / np.sqrt(frame["w"])
        frame[target] = 1 + slope * frame["x"] - frame["z"] + noise
        frame.loc[rng.random(n) < share, target] += rng.choice([-40.0, 60.0])
    return frame.sample(frac=1, random_state=3)


def scaled(rows: pd.DataFrame, target: str, weighted: bool, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """sqrt(w) times the target and the design."""
    side = np.sqrt(rows["w"].to_numpy()) if weighted else np.ones(len(rows))
    columns = [np.ones(len(rows))] if intercept else []
    design = np.column_stack([*columns, rows["x"], rows["z"]])
    return side * rows[target].to_numpy(), side[:, None] * design


@cache
def rlm_of(g: int, target: str, loss: str, weighted: bool, intercept: bool):
    frame = make_frame(COMPARED)
    return rlm(*scaled(frame[frame["g"] == g], target, weighted, intercept), NORMS[loss]())


def rlm(y: np.ndarray, X: np.ndarray, norm: object, start: np.ndarray | None = None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sm.RLM(y, X, M=norm).fit(maxiter=3000, tol=1e-13, conv="coefs", start_params=start)


@pytest.mark.compiled
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("loss", ["huber", "bisquare"])
def test_they_are_statsmodels_rlm(backend, loss, intercept, weighted):
    frame = make_frame(COMPARED)
    fit = frame.gbreg.fit(
        **CALL, loss=loss, weights="w" if weighted else None, intercept=intercept, backend=backend
    )
    assert (fit.status == "ok").all(axis=None)
    same, names = 0, ("params", "bse", "tvalues", "pvalues", "scale")
    made = {name: getattr(fit, name) for name in names}
    made |= {"bounds": fit.conf_int(), "wald": fit.wald_test("x = 2*z, x = 1")}
    covariances = {target: fit.cov_params(target) for target in ("y", "v")}
    R = np.array([[0, 1, -2], [0, 1, 0]])[:, not intercept :]
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            y, X = scaled(rows, target, weighted, intercept)
            own = {name: np.asarray(table.loc[g, target]) for name, table in made.items()}
            want = rlm_of(g, target, loss, weighted, intercept)
            same += np.allclose(own["params"], want.params, rtol=1e-6)
            if not np.allclose(own["params"], want.params, rtol=1e-6):  # another minimum: it has to be one
                want = rlm(y, X, NORMS[loss](), own["params"])
            np.testing.assert_allclose(own["params"], want.params, rtol=1e-6, atol=1e-9)
            np.testing.assert_allclose(own["bse"], want.bse, rtol=1e-6)
            np.testing.assert_allclose(own["tvalues"], want.tvalues, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(own["pvalues"], want.pvalues, rtol=1e-4, atol=1e-12)
            np.testing.assert_allclose(own["scale"], want.scale, rtol=1e-6)
            np.testing.assert_allclose(own["bounds"].reshape(-1, 2), want.conf_int(), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(covariances[target].loc[g], want.cov_params(), rtol=2e-6)
            test = want.wald_test((R, [0, 1]), use_f=False, scalar=True)
            np.testing.assert_allclose(own["wald"][0], test.statistic, rtol=1e-5, atol=1e-6)
    assert same >= (2 * COMPARED if loss == "huber" else 2 * COMPARED - 3)


@pytest.mark.compiled("numba")
@pytest.mark.parametrize("loss", ["huber", "bisquare"])
def test_tuning_is_honoured(backend, loss):
    frame = make_frame(6)
    fit = frame.gbreg.fit(**CALL, loss=loss, tuning=2.5, backend=backend)
    for g, rows in frame.groupby("g"):
        y, X = scaled(rows, "y", False, True)
        norm = NORMS[loss](2.5)
        want = rlm(y, X, norm, fit.params.loc[g, "y"].to_numpy())
        np.testing.assert_allclose(fit.params.loc[g, "y"], want.params, rtol=1e-6)
        np.testing.assert_allclose(fit.bse.loc[g, "y"], want.bse, rtol=1e-6)


@pytest.mark.parametrize("quantile", [0.5, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_quantiles_solve_the_linear_program(backend, weighted, quantile):
    frame = make_frame(12)
    weights = "w" if weighted else None
    fit = frame.gbreg.fit(**CALL, loss="absolute", quantile=quantile, weights=weights, backend=backend)
    assert (fit.status == "ok").all(axis=None)
    for g, rows in frame.groupby("g"):
        y, X = scaled(rows, "v", weighted, True)
        n, p = X.shape
        cost = np.concatenate([np.zeros(p), np.full(n, quantile), np.full(n, 1 - quantile)])
        bounds = [(None, None)] * p + [(0, None)] * (2 * n)
        exact = linprog(cost, A_eq=np.hstack([X, np.eye(n), -np.eye(n)]), b_eq=y, bounds=bounds)
        np.testing.assert_allclose(fit.params.loc[g, "v"], exact.x[:p], rtol=1e-8, atol=1e-9)


def test_numbers_of_numpy_are_numbers():
    frame = make_frame(2)
    call = {**CALL, "loss": "absolute", "backend": "numpy"}
    got = frame.gbreg.fit(**call, quantile=np.float32(0.25))
    pd.testing.assert_frame_equal(got.params, frame.gbreg.fit(**call, quantile=0.25).params)
    pd.testing.assert_frame_equal(got.conf_int(np.float32(0.125)), got.conf_int(0.125))
    call = {**CALL, "backend": "numpy"}
    got = frame.gbreg.fit(**call, ridge=np.array(2.0))
    pd.testing.assert_frame_equal(got.params, frame.gbreg.fit(**call, ridge=2.0).params)


@pytest.mark.parametrize("quantile", [0.5, 0.3])
def test_quantiles_are_statsmodels_quantreg(quantile):
    frame = make_frame(12, rows=(15, 40))
    frame[["y", "v"]] *= 1e5  # its residuals are not below 1e-6, whatever the unit: this makes that small
    fit = frame.gbreg.fit(**CALL, loss="absolute", quantile=quantile)
    for g, rows in frame.groupby("g"):
        y, X = scaled(rows, "y", False, True)
        want = sm.QuantReg(y, X).fit(q=quantile, vcov="iid", max_iter=20_000, p_tol=1e-5)
        np.testing.assert_allclose(fit.params.loc[g, "y"], want.params, rtol=1e-6)
        np.testing.assert_allclose(fit.bse.loc[g, "y"], want.bse, rtol=1e-6)
        spread = np.median(np.abs(y - X @ want.params))
        np.testing.assert_allclose(fit.scale.loc[g, "y"], minimum.NORMAL * spread, rtol=1e-6)


def test_a_median_is_a_median(backend):
    frame = make_frame(6)
    fit = frame.gbreg.fit(by="g", linear=[], targets=["y", "v"], loss="absolute", backend=backend)
    want = frame.groupby("g")[["y", "v"]].agg(lambda y: sorted(y)[(len(y) - 1) // 2])
    upper = frame.groupby("g")[["y", "v"]].agg(lambda y: sorted(y)[len(y) // 2])
    got = fit.params.droplevel("term", axis=1)
    assert ((got >= want - 1e-9) & (got <= upper + 1e-9)).all(axis=None)


@pytest.mark.compiled
def test_bisquare_survives_what_others_do_not(backend):
    """30 % of the rows far off in the target, half of them far out in a predictor."""
    rng = np.random.default_rng(5)
    groups, n = 100, 20
    x, z = rng.normal(size=(2, groups, n))
    y = 1 + 2 * x - z + 0.1 * rng.normal(size=(groups, n))
    y[:, :3] += 50
    x[:, 3:6], y[:, 3:6] = x[:, 3:6] + 30, -20
    frame = pd.DataFrame(
        {"g": np.repeat(np.arange(groups), n), "x": x.ravel(), "z": z.ravel(), "y": y.ravel()}
    )
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "backend": backend}
    off = {
        loss: np.abs(frame.gbreg.fit(**call, loss=loss).params["y"] - [1, 2, -1]).max(axis=1)
        for loss in ("squared", "bisquare")
    }
    assert off["bisquare"].max() < 0.3
    assert off["squared"].min() > 1


@pytest.mark.compiled
@pytest.mark.parametrize("loss", LOSSES)
def test_backends_agree_and_threads_do_not_matter(loss):
    frame = make_frame(40, rows=(5, 300))
    call = {**CALL, "weights": "w", "loss": loss}
    fits = {name: frame.gbreg.fit(**call, backend=name) for name in ("numba", "numpy")}
    for what in ("params", "bse", "scale", "rms", "mad"):
        one, other = (getattr(fit, what) for fit in fits.values())
        pd.testing.assert_frame_equal(one, other, rtol=1e-9)
    assert fits["numba"].status.equals(fits["numpy"].status)
    for engine in (NumbaBackend(n_jobs=1), NumbaBackend(n_jobs=3), "loky"):
        again = frame.gbreg.fit(**call, backend=engine)
        for name in ("params", "resid_norm", "mad", "status", "spread"):
            np.testing.assert_array_equal(
                getattr(again.estimates, name), getattr(fits["numba"].estimates, name)
            )


@pytest.mark.compiled("numba")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_pieces_of_the_work_change_no_bit(monkeypatch, backend, loss):
    frame = make_frame(9)
    frame.loc[frame["g"] == 4, "x"] = 1.0
    frame.loc[3, "z"] = 1e12
    call = {**CALL, "weights": "w", "loss": loss, "backend": backend}
    with pytest.warns(GbregWarning):
        whole = frame.gbreg.fit(**call)
    monkeypatch.setattr(losses, "CHUNK_ROWS", 40)
    for n_jobs in (1, 3):
        with pytest.warns(GbregWarning):
            same(frame.gbreg.fit(**call, n_jobs=n_jobs), whole)


@pytest.mark.compiled
@pytest.mark.parametrize("loss", LOSSES)
def test_no_group_depends_on_those_beside_it(loss):
    """Groups of up to 32 rows are found four at a time."""
    sizes = [7, 32, 33, 12, 32, 5, 5, 31, 200, 9, 40, 41, 6]
    frame = make_frame(len(sizes), rows=(200, 201))
    frame = frame[frame.groupby("g").cumcount() < frame["g"].map(dict(enumerate(sizes)))]
    frame.loc[frame["g"] == 3, "y"] *= 1e200
    call = {**CALL, "weights": "w", "loss": loss, "backend": "numba"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GbregWarning)
        whole = frame.gbreg.fit(**call)
        for g, rows in frame.groupby("g"):
            alone = rows.gbreg.fit(**call)
            for name in ("params", "resid_norm", "mad", "status", "spread"):
                one, among = getattr(alone.estimates, name)[0], getattr(whole.estimates, name)[g]
                np.testing.assert_array_equal(one, among, err_msg=f"{name} of {g}")


@pytest.mark.compiled("numba")
@pytest.mark.parametrize("loss", LOSSES)
def test_laws(backend, loss):
    frame = make_frame(12)
    call = {**CALL, "loss": loss, "backend": backend}
    fit = frame.gbreg.fit(**call, weights="w")
    shuffled = frame.sample(frac=1, random_state=1).gbreg.fit(**call, weights="w")
    pd.testing.assert_frame_equal(shuffled.params, fit.params, rtol=1e-7)
    alone = frame[frame["g"] == 3].gbreg.fit(**call, weights="w")
    np.testing.assert_array_equal(alone.estimates.params[0], fit.estimates.params[3])
    louder = frame.assign(w=frame["w"] * 4).gbreg.fit(**call, weights="w")
    pd.testing.assert_frame_equal(louder.params, fit.params, rtol=1e-8)
    pd.testing.assert_frame_equal(louder.bse, fit.bse, rtol=1e-8)
    far = frame.assign(y=frame["y"] * 1e-200, v=frame["v"] * 1e200).gbreg.fit(**call, weights="w")
    pd.testing.assert_frame_equal(far.params["y"] * 1e200, fit.params["y"], rtol=1e-8)
    pd.testing.assert_frame_equal(far.bse["v"] * 1e-200, fit.bse["v"], rtol=1e-8)
    silent = frame.assign(w=np.where(frame["x"] > 3.5, 0.0, frame["w"]))
    dropped = frame[frame["x"] <= 3.5].gbreg.fit(**call, weights="w")
    pd.testing.assert_frame_equal(
        silent.gbreg.fit(**call, weights="w").params, dropped.params, check_exact=True
    )


@pytest.mark.compiled
@pytest.mark.parametrize("loss", LOSSES)
def test_offsets_cost_no_digits(backend, loss):
    """The same data moved: what a sum of products would lose, this must not."""
    rng = np.random.default_rng(8)
    x, noise = rng.integers(-512, 512, (2, 10, 25)) / 512
    frame = pd.DataFrame({"g": np.repeat(np.arange(10), 25), "x": x.ravel()})
    frame["y"] = 2 * frame["x"] + 0.25 * noise.ravel() + np.where(np.arange(250) % 12 == 0, 8.0, 0.0)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "loss": loss, "backend": backend}
    near = frame.gbreg.fit(**call).params["y"]["x"]
    far = frame.assign(x=frame["x"] + 2.0**27, y=frame["y"] + 2.0**33).gbreg.fit(**call).params["y"]["x"]
    np.testing.assert_allclose(far, near, rtol=1e-8)
    whole = frame.assign(x=(frame["x"] * 512).astype("int64") + 2**60).gbreg.fit(**call)
    np.testing.assert_allclose(whole.params["y"]["x"] * 512, near, rtol=1e-8)
    np.testing.assert_allclose(
        whole.resid(frame.assign(x=(frame["x"] * 512).astype("int64") + 2**60))["y"],
        frame["y"] - frame.gbreg.fit(**call).predict(frame)["y"],
        atol=1e-8,
    )


def test_without_outliers_huber_is_least_squares(backend):
    frame = make_frame(10, share=0.0)
    plain = frame.gbreg.fit(**CALL, backend=backend)
    fit = frame.gbreg.fit(**CALL, loss="huber", tuning=50.0, backend=backend)
    np.testing.assert_allclose(fit.params, plain.params, rtol=1e-12)
    np.testing.assert_allclose(fit.rms, plain.rms, rtol=1e-14)
    np.testing.assert_allclose(fit.mad, plain.mad, rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_statuses(backend, loss):
    rng = np.random.default_rng(2)
    parts = {
        "fine": pd.DataFrame({"x": rng.normal(size=30), "z": rng.normal(size=30), "y": rng.normal(size=30)}),
        "few": pd.DataFrame({"x": [1.0, 2.0], "z": [1.0, 0.0], "y": [3.0, 4.0]}),
        "saturated": pd.DataFrame({"x": [1.0, 2, 4], "z": [1.0, 0, 2], "y": [3.0, 4, 8]}),
        "none": pd.DataFrame({"x": [np.nan], "z": [1.0], "y": [3.0]}),
        "dependent": pd.DataFrame({"x": np.arange(9.0), "z": 2 * np.arange(9.0), "y": rng.normal(size=9)}),
        "perfect": pd.DataFrame({"x": np.arange(9.0), "z": np.arange(9.0) ** 2, "y": 3 * np.arange(9.0)}),
        "constant": pd.DataFrame({"x": np.arange(9.0), "z": np.arange(9.0) ** 2, "y": 5.0}),
    }
    frame = pd.concat(parts, names=["g"]).reset_index("g")
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "loss": loss, "backend": backend}
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call)
    words = fit.status["y"].astype(str).to_dict()
    assert words == {
        "constant": "ok", "dependent": "rank_deficient", "few": "too_few_rows", "fine": "ok",
        "none": "no_data", "perfect": "ok", "saturated": "saturated",
    }  # fmt: skip
    assert fit.params.loc[["dependent", "few", "none"]].isna().all(axis=None)
    assert fit.bse.loc["saturated"].isna().all()
    np.testing.assert_allclose(fit.params.loc["perfect", "y"], [0, 3, 0], atol=1e-12)
    np.testing.assert_allclose(fit.params.loc["constant", "y"], [5, 0, 0], atol=0)
    assert fit.tvalues.loc["perfect"].isna().all()
    alone = frame[frame["g"] == "fine"].gbreg.fit(**call)
    np.testing.assert_array_equal(alone.params.loc["fine"], fit.params.loc["fine"])
    with pytest.warns(GbregWarning):
        dropped = frame.gbreg.fit(**call, on_collinear="drop")
    one = frame[frame["g"] == "dependent"].gbreg.fit(**{**call, "linear": ["x"]})
    for what in ("params", "bse"):
        got, want = (getattr(made, what).loc["dependent", "y"] for made in (dropped, one))
        np.testing.assert_allclose(got[["Intercept", "x"]], want, rtol=1e-9)
    np.testing.assert_allclose(dropped.rms.loc["dependent"], one.rms.loc["dependent"], rtol=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_most_rows_on_a_line(backend, loss):
    """Then the scale is 0, and nothing is left to tell errors by."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 20), "x": rng.normal(size=40), "z": rng.normal(size=40)})
    frame["y"] = 1 + 2 * frame["x"] - frame["z"]
    frame.loc[frame.index % 4 == 0, "y"] += rng.normal(size=10)
    frame = frame[frame["g"] == 0]  # in the other, Huber's loss has another minimum, as RLM finds it
    fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], loss=loss, backend=backend)
    assert (fit.status == "ok").all(axis=None)
    np.testing.assert_allclose(fit.params["y"], [[1, 2, -1]], rtol=1e-9)
    assert fit.flags["y"]["perfect_fit"].all()
    assert (fit.scale == 0).all(axis=None)
    assert fit.bse.isna().all(axis=None)
    assert fit.tvalues.isna().all(axis=None)
    assert (fit.rms > 0.1).all(axis=None)
    mostly = frame.assign(y=np.where(frame.index % 4 == 0, frame["y"], 0.0))
    zero = mostly.gbreg.fit(by="g", linear=[], targets=["y"], loss=loss, backend=backend)
    if loss != "huber":
        np.testing.assert_allclose(zero.params, 0, atol=1e-11)
        assert (zero.scale == 0).all(axis=None)


def test_bisquare_stays_on_the_line_it_has_found(backend):
    """The rows of a second pass are cut at some size; they are not those to look for a start among."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat(np.arange(30), 60), "x": rng.normal(size=1800)})
    frame["y"] = 1 + 2 * frame["x"]
    off = (np.arange(1800) % 60) < 26
    frame.loc[off, "y"] += 5 * rng.normal(size=off.sum())
    fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], loss="bisquare", backend=backend)
    on_it = (fit.scale["y"] < 1e-3).to_numpy()  # some end elsewhere: 43 % are more than the start survives
    assert on_it.sum() > 10
    assert (fit.scale["y"][on_it] == 0).all()
    assert fit.flags["y"]["perfect_fit"][on_it].all()
    np.testing.assert_allclose(fit.params[on_it], [[1.0, 2.0]] * on_it.sum(), rtol=1e-14)


@pytest.mark.compiled("numba")
def test_the_least_tuning_is_nearly_the_median(backend):
    frame = make_frame(8)
    call = {**CALL, "backend": backend, "maxiter": 5000}
    fit = frame.gbreg.fit(**call, loss="huber", tuning=0.001)
    want = frame.gbreg.fit(**call, loss="absolute")
    assert (fit.status == "ok").all(axis=None)
    for target in ("y", "v"):
        sums = [np.abs(one.resid(frame)[target]).groupby(frame["g"]).sum() for one in (fit, want)]
        np.testing.assert_allclose(*sums, rtol=1e-3)


@pytest.mark.compiled
def test_rows_that_the_fit_goes_through_leave_no_errors(backend):
    """A small tuning may leave weight to no more rows than there are coefficients."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(5, 1, (2400, 3)), columns=["x", "z", "y"])
    frame = frame.assign(g=np.repeat(np.arange(300), 8))
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "loss": "bisquare", "tuning": 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GbregWarning)
        fit = frame.gbreg.fit(**call, backend=backend)
    resid = fit.resid(frame)["y"].to_numpy().reshape(300, 8)
    inside = np.abs(resid) < 0.5 * fit.scale["y"].to_numpy()[:, None]
    few = (inside.sum(axis=1) <= 3) & (fit.status["y"] == "ok").to_numpy()
    assert few.sum() > 50
    assert fit.bse["y"][few].isna().all(axis=None)
    assert fit.flags["y"]["no_robust_errors"][few].all()
    rest = (fit.status["y"] == "ok").to_numpy() & ~few
    assert rest.sum() > 50
    assert (fit.bse["y"][rest] > 1e-6).all(axis=None)


@pytest.mark.compiled
def test_a_large_tuning_lets_far_values_pull_as_much(backend):
    """One of n, 1e20 off: as sum psi(u) = 0, the mean is tuning / n scales off that of the others."""
    y = np.random.default_rng(8).normal(size=100_000)
    y[7] = 1e20
    frame = pd.DataFrame({"g": 0, "y": y})
    fit = frame.gbreg.fit(by="g", linear=[], targets=["y"], loss="huber", tuning=3e4, backend=backend)
    mean, scale = fit.params.iloc[0, 0], fit.scale.iloc[0, 0]
    assert scale == pytest.approx(minimum.NORMAL * np.median(np.abs(y - mean)), rel=1e-9)
    assert mean == pytest.approx(np.delete(y, 7).mean() + 3e4 * scale / 99_999, rel=1e-9)


@pytest.mark.compiled
@pytest.mark.parametrize("far", [1e6, 1e20, -9.96e36, 1e150])
@pytest.mark.parametrize("loss", LOSSES)
def test_fill_values_bend_no_more_than_outliers_do(backend, loss, far):
    """A residual beyond all others pulls the same, however far: so do its rounding errors not."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"g": np.repeat(np.arange(8), 20), "x": rng.normal(5, 1, size=160)})
    frame["y"] = 1 + 2 * frame["x"] + 0.1 * rng.normal(size=160)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "loss": loss, "backend": backend}
    one, other = (
        frame.assign(y=frame["y"].where(frame.index % 10 > 0, value)).gbreg.fit(**call)
        for value in (np.sign(far) * 1e3, far)
    )
    assert (other.status == "ok").all(axis=None)
    np.testing.assert_allclose(other.params, one.params, rtol=1e-7)
    np.testing.assert_allclose(other.bse, one.bse, rtol=1e-6)
    np.testing.assert_allclose(other.scale, one.scale, rtol=1e-6)


@pytest.mark.compiled
@pytest.mark.parametrize("loss", LOSSES)
def test_ties_end_alike_on_numba_and_numpy(loss):
    """Small whole numbers: scales of 0, minima that are not unique, dependent predictors."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(4, 30, 150)
    columns = {name: rng.integers(0, high, sizes.sum()) for name, high in (("x", 3), ("z", 2), ("y", 4))}
    frame = pd.DataFrame({"g": np.repeat(np.arange(150), sizes), **columns})
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "loss": loss}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GbregWarning)
        one, other = (frame.gbreg.fit(**call, backend=name) for name in ("numba", "numpy"))
    assert one.status.equals(other.status)
    assert one.flags.equals(other.flags)
    assert one.bse.isna().equals(other.bse.isna())
    ended = one.status["y"] == "ok"
    sums = [np.abs(fit.resid(frame)["y"]).groupby(frame["g"]).sum()[ended] for fit in (one, other)]
    np.testing.assert_allclose(*sums, rtol=1e-9, atol=1e-12)
    if loss != "absolute":
        np.testing.assert_allclose(one.params[ended], other.params[ended], rtol=1e-7, atol=1e-9)


@pytest.mark.compiled
def test_starts_that_tie_end_alike_on_numba_and_numpy():
    """Targets of 0 and 1: many draws have the same trimmed sum, but for rounding, and lead elsewhere."""
    rng = np.random.default_rng(0)
    sizes = rng.choice([12, 21, 50], 2000)
    frame = pd.DataFrame({"g": np.repeat(np.arange(2000), sizes), "x": rng.normal(size=sizes.sum())})
    frame["y"] = (rng.random(len(frame)) < 0.4).astype(float)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "loss": "bisquare"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GbregWarning)
        one, other = (frame.gbreg.fit(**call, backend=name) for name in ("numba", "numpy"))
    assert one.status.equals(other.status)
    np.testing.assert_allclose(one.params, other.params, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(one.scale, other.scale, rtol=1e-7, atol=1e-12)


def test_starts_that_few_rows_tell_end_alike_on_numba_and_numpy():
    """One row in sixteen has the predictor: two draws in eighteen have a fit, where three are kept."""
    rng = np.random.default_rng(5)
    groups = 300 if COMPILED else 40
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), 16), "x": 0.0, "y": rng.normal(size=16 * groups)})
    frame.loc[np.arange(groups) * 16 + rng.integers(16, size=groups), "x"] = 1.0
    frame.loc[rng.random(len(frame)) < 0.3, "y"] += 8.0
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "loss": "bisquare"}
    one, other = (frame.gbreg.fit(**call, backend=name) for name in ("numba", "numpy"))
    assert one.status.equals(other.status)
    pd.testing.assert_frame_equal(one.scale, other.scale, rtol=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_group_all_of_whose_predictors_are_dropped(backend, loss):
    """Without intercept nothing is left to fit: no coefficients, as with least squares, and values of 0."""
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 12), "x": rng.normal(size=24), "y": rng.normal(size=24)})
    frame.loc[frame["g"] == 0, "x"] = 0.0
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "intercept": False, "on_collinear": "drop"}
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call, loss=loss, backend=backend)
    assert fit.status["y"].tolist() == ["rank_deficient", "ok"]
    assert fit.params.loc[0].isna().all()
    assert fit.scale.loc[0].isna().all()
    assert (fit.predict(frame)["y"][:12] == 0).all()
    alone = frame[12:].gbreg.fit(**call, loss=loss, backend=backend)
    pd.testing.assert_frame_equal(fit.params[1:], alone.params)


@pytest.mark.parametrize("loss", LOSSES)
def test_perfect_fits_have_a_scale_of_0_and_no_errors(backend, loss):
    """What rounding left of residuals differs between backends: no number is made of it."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat(np.arange(12), 20), "x": rng.normal(5, 1, 240)})
    frame["y"] = 1 + 2 * frame["x"]
    frame.loc[frame["g"] > 8, "y"] = 0.1
    frame.loc[frame["g"] == 11, "y"] += rng.normal(size=20)
    fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], loss=loss, backend=backend)
    assert (fit.status == "ok").all(axis=None)
    perfect = [True] * 11 + [False]
    assert fit.flags["y"]["perfect_fit"].tolist() == perfect
    assert (fit.scale["y"] == 0).tolist() == perfect
    errors = [fit.bse["y"]["x"], fit.conf_int()["y"]["x"]["lower"], fit.tvalues["y"]["x"]]
    for error in errors:
        assert error.isna().tolist() == perfect
    bounds = fit.predict(frame, interval="confidence")["y"]
    assert bounds["upper"].isna().tolist() == (frame["g"] < 11).tolist()
    assert not fit.flags["y"]["no_robust_errors"].any()


def test_errors_that_few_rows_do_not_tell_are_flagged(backend):
    """No bandwidth reaches the median of 4 or 5 rows: NaN, and a flag says so."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": np.repeat([0, 1, 2, 3], [4, 5, 30, 30]), "x": rng.normal(size=69)})
    frame["y"] = frame["x"] + rng.normal(size=69)
    frame.loc[frame["g"] == 3, "y"] = 1 + frame["x"]
    fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], loss="absolute", backend=backend)
    assert fit.bse["y"].isna().all(axis=1).tolist()[:3] == [True, True, False]
    assert fit.flags["y"]["no_robust_errors"].tolist() == [True, True, False, False]
    assert fit.flags["y"]["perfect_fit"].tolist() == [False, False, False, True]
    assert "there are no robust errors" in repr(fit.group(0))
    assert "cluster" not in repr(fit.group(0))


@pytest.mark.parametrize("loss", LOSSES)
def test_too_few_iterations_are_a_status(backend, loss):
    frame = make_frame(5)
    with pytest.warns(GbregWarning, match="not_converged"):
        fit = frame.gbreg.fit(**CALL, loss=loss, maxiter=1, backend=backend)
    assert (fit.status == "not_converged").all(axis=None)
    assert fit.params.notna().all(axis=None)


@pytest.mark.parametrize("loss", LOSSES)
def test_iterations_are_counted_alike(loss):
    """Statuses of ten groups that end one after the other."""
    frame, ended = make_frame(5), []
    for maxiter in (5, 9, 14, 18):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GbregWarning)
            call = {**CALL, "loss": loss, "maxiter": maxiter}
            fits = [frame.gbreg.fit(**call, backend=name) for name in ("numba", "numpy")]
        assert fits[0].status.equals(fits[1].status)
        ended.append(int((fits[0].status == "ok").sum(axis=None)))
    assert ended == {"huber": [0, 0, 0, 3], "bisquare": [0, 0, 2, 5], "absolute": [2, 7, 10, 10]}[loss]


@pytest.mark.compiled("numba")
@pytest.mark.parametrize("loss", LOSSES)
def test_each_target_has_its_rows(backend, loss):
    frame = make_frame(8)
    frame.loc[frame["x"] > 3.7, "v"] = np.nan
    frame.loc[frame["z"] > 1.5, "x"] = np.inf
    call = {**CALL, "loss": loss, "weights": "w", "backend": backend}
    chosen = frame["w"] > 0.5
    fit = frame.gbreg.fit(**call, where=chosen)
    alone = frame[chosen & frame["v"].notna()].gbreg.fit(**{**call, "targets": ["v"]})
    pd.testing.assert_frame_equal(fit.params[["v"]], alone.params, rtol=1e-9)
    pd.testing.assert_frame_equal(fit.bse[["v"]], alone.bse, rtol=1e-9)
    pd.testing.assert_frame_equal(fit.nobs[["v"]], alone.nobs)


@pytest.mark.parametrize("loss", LOSSES)
def test_residuals_and_what_is_made_of_them(backend, loss):
    frame = make_frame(6)
    fit = frame.gbreg.fit(**CALL, loss=loss, weights="w", backend=backend)
    resid = fit.resid(frame)["y"]
    parts = resid.groupby(frame["g"])
    rms = np.sqrt((frame["w"] * resid**2).groupby(frame["g"]).sum() / frame.groupby("g")["w"].sum())
    np.testing.assert_allclose(fit.rms["y"], rms, rtol=1e-9)
    mad = parts.agg(lambda r: (r - r.median()).abs().median())
    np.testing.assert_allclose(fit.mad["y"], mad, rtol=1e-9)
    b = fit.params["y"].loc[frame["g"]].to_numpy()
    np.testing.assert_allclose(fit.predict(frame)["y"], b[:, 0] + b[:, 1] * frame["x"] + b[:, 2] * frame["z"])
    extra = fit.augment(frame)
    want = np.sqrt(frame["w"]) * resid / fit.scale["y"].loc[frame["g"]].to_numpy()
    np.testing.assert_allclose(extra["y_std_resid"], want, rtol=1e-9)
    assert [name for name in extra if name.startswith("y_")] == ["y_fitted", "y_resid", "y_std_resid"]
    bounds = fit.predict(frame, interval="confidence")["y"]
    covariances = fit.cov_params("y")
    row = frame.iloc[0]
    a = np.array([1, row["x"], row["z"]])
    error = np.sqrt(a @ covariances.loc[row["g"]].to_numpy() @ a)
    np.testing.assert_allclose((bounds["upper"] - bounds["fitted"]).iloc[0], 1.959963984540054 * error)


def test_what_is_of_least_squares_says_so(tmp_path):
    fit = make_frame(6).gbreg.fit(**CALL, loss="huber")
    for name in ("aic", "bic", "llf", "rsquared", "rsquared_adj", "fvalue", "f_pvalue"):
        with pytest.raises(SpecError, match=f'{name} is of least squares, this fit has loss="huber"'):
            getattr(fit, name)
    with pytest.raises(SpecError, match="compare is of least squares"):
        fit.compare(fit)
    assert "aic" not in fit.glance()
    assert "loss huber 1.345" in repr(fit)
    assert "huber" in repr(fit.group(2))
    median = make_frame(6).gbreg.fit(**CALL, loss="absolute")
    with pytest.raises(SpecError, match="prediction"):
        median.predict(make_frame(6), interval="prediction")


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_stored_whole(tmp_path, loss):
    pytest.importorskip("pyarrow")
    frame = make_frame(6)
    fit = frame.gbreg.fit(**CALL, loss=loss)
    fit.to_parquet(tmp_path / "fit.parquet")
    for back in (gbreg.read_parquet(tmp_path / "fit.parquet"), pickle.loads(pickle.dumps(fit))):
        assert back.spec.loss == fit.spec.loss
        pd.testing.assert_frame_equal(back.bse, fit.bse, check_exact=True)
        pd.testing.assert_frame_equal(back.scale, fit.scale, check_exact=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hubr"}, "did you mean 'huber'"),
        ({"loss": None}, "loss must be one of"),
        ({"loss": "huber", "tuning": 0}, "tuning must be a positive number"),
        ({"loss": "huber", "tuning": "wide"}, "tuning must be a positive number"),
        ({"loss": "huber", "tuning": True}, "tuning must be a positive number"),
        (
            {"loss": "huber", "tuning": 1e-300},
            "tuning must be at least 0.001 standard deviations, got 1e-300",
        ),
        ({"loss": "bisquare", "tuning": 9e-4}, "tuning must be at least 0.001 standard deviations"),
        ({"loss": "absolute", "tuning": 2.0}, "loss='absolute' has no tuning"),
        ({"tuning": 2.0}, "loss='squared' has no tuning"),
        ({"quantile": 0.5}, "loss='squared' has no quantile"),
        ({"loss": "bisquare", "quantile": 0.5}, "loss='bisquare' has no quantile"),
        ({"loss": "absolute", "quantile": 1.0}, "quantile must be between 0 and 1"),
        ({"loss": "huber", "tuning": 10**400}, "tuning must be a positive number of standard deviations"),
        ({"loss": "huber", "maxiter": 0}, "maxiter must be a positive integer"),
        ({"loss": "huber", "maxiter": 2.5}, "maxiter must be a positive integer"),
        ({"maxiter": 10}, "loss='squared' has no maxiter"),
        ({"loss": "huber", "clip": 3.0}, "does not go with clip="),
        ({"loss": "huber", "cov_type": "HC1"}, "does not go with cov_type='HC1'"),
        ({"loss": "huber", "cov_type": "known", "weights": "w"}, "does not go with cov_type='known'"),
        (
            {"loss": "absolute", "weights": "w", "weights_type": "frequency", "mad": False},
            'does not go with weights_type="frequency"',
        ),
    ],
)
def test_options_are_checked(backend, options, message):
    with pytest.raises(SpecError, match=message):
        make_frame(3).gbreg.fit(**CALL, **options, backend=backend)


def test_another_backend_is_helped_out():
    class Own:
        name = "own"

        def fit(self, problem, options, progress):
            return NumbaBackend().fit(problem, options, progress)

    frame = make_frame(6)
    own = frame.gbreg.fit(**CALL, loss="huber", backend=Own())
    want = frame.gbreg.fit(**CALL, loss="huber", backend="numpy")
    pd.testing.assert_frame_equal(own.params, want.params, rtol=1e-9)


def test_limits_are_those_of_the_kernels():
    limits = {name: value for file in KERNELS for name, value in vars(file).items() if hasattr(minimum, name)}
    shared = {name for name in limits if name.isupper()}
    assert len(shared) == 14
    for name in shared:
        assert limits[name] == getattr(minimum, name)
    assert gbreg.problem.Status.NOT_CONVERGED == KERNELS[0].NOT_CONVERGED


def same(one: gbreg.GroupFit, other: gbreg.GroupFit) -> None:
    """To the last bit, whatever the order of the groups."""
    for what in ("params", "bse", "scale", "rms", "nobs", "status"):
        pd.testing.assert_frame_equal(
            getattr(one, what), getattr(other, what).loc[one.keys], check_exact=True, check_names=False
        )


@pytest.mark.compiled("numba")
@pytest.mark.parametrize("loss", LOSSES)
def test_other_options_are_honoured_beside_a_loss(backend, loss):
    frame = make_frame(10)
    frame["k"] = pd.Categorical(frame["g"].map(lambda g: "abcdefghij"[g]), categories=list("jihgfedcbaz"))
    call = {**CALL, "loss": loss, "weights": "w", "backend": backend}
    fit = frame.gbreg.fit(**call)
    sizes = frame.groupby("g").size()
    with pytest.warns(GbregWarning, match="too_few_rows"):
        large = frame.gbreg.fit(**call, min_nobs=20)
    assert ((large.status["y"] == "too_few_rows") == (sizes < 20)).all()
    kept = sizes.index[sizes >= 20]
    pd.testing.assert_frame_equal(large.params.loc[kept], fit.params.loc[kept], check_exact=True)
    extended = frame.gbreg.fit(**call, precision="extended")
    pd.testing.assert_frame_equal(extended.params, fit.params, rtol=1e-8)
    assert extended.flags.xs("extended", axis=1, level="flag").all(axis=None)
    bare = frame.gbreg.fit(**call, mad=False)
    same(bare, fit)
    with pytest.raises(SpecError, match="mad was not computed"):
        _ = bare.mad
    unsorted = frame.gbreg.fit(**call, sort=False)
    assert list(unsorted.keys) == list(frame["g"].unique())
    same(unsorted, fit)
    named = frame.gbreg.fit(**{**call, "by": "k"}, observed=True)
    np.testing.assert_array_equal(named.params.to_numpy()[::-1], fit.params.to_numpy())
    every = frame.gbreg.fit(**{**call, "by": "k"}, observed=False)
    assert every.status["y"].loc["z"] == "no_data"
    lost = frame.assign(g=frame["g"].astype("Int64").where(frame["g"] != 3))
    rest = fit.keys[fit.keys != 3]
    left = lost.gbreg.fit(**call)
    np.testing.assert_array_equal(left.params, fit.params.loc[rest])
    np.testing.assert_array_equal(left.bse, fit.bse.loc[rest])
    assert len(lost.gbreg.fit(**call, dropna=False)) == 10
    same(frame.gbreg.fit(**{**call, "by": frame.gbreg.group(by="g")}), fit)
    same(frame.gbreg.fit(**call, n_jobs=2), fit)
    holes = frame.assign(z=frame["z"].where(frame["z"] < 1))
    same(holes.gbreg.fit(**call), frame[frame["z"] < 1].gbreg.fit(**call))
    with pytest.raises(gbreg.MissingDataError, match="'z'"):
        holes.gbreg.fit(**call, missing="raise")
    twins = frame.assign(z=2 * frame["x"])
    with pytest.raises(gbreg.CollinearityError, match="'z'"):
        twins.gbreg.fit(**call, on_collinear="raise")
    through = frame.gbreg.fit(**call, intercept=False)
    assert through.terms == ("x", "z")
    resid = through.resid(frame)["y"]
    assert not np.allclose(resid, fit.resid(frame)["y"])
    served = frame.assign(g=np.where(frame["g"] == 2, np.arange(len(frame)) + 100, frame["g"]))
    with pytest.warns(GbregWarning, match="too_few_rows"):
        parents = served.gbreg.fit(**call, fallback="parent")
    whole = served.assign(g=0).gbreg.fit(**call)
    lonely = (served["g"] >= 100).to_numpy()
    np.testing.assert_allclose(
        parents.predict(served)["y"][lonely], whole.predict(served.assign(g=0))["y"][lonely], rtol=1e-7
    )


def test_formulas_take_a_loss(backend):
    pytest.importorskip("formulaic")
    frame = make_frame(8)
    made = gbreg.fit(frame, "y + v ~ x + z | g", weights="w", loss="huber", backend=backend)
    same(made, frame.gbreg.fit(**CALL, weights="w", loss="huber", backend=backend))


@pytest.mark.compiled
@pytest.mark.parametrize("loss", ["huber", "bisquare"])
def test_backends_agree_on_when_a_scale_that_goes_to_zero_is_there(loss):
    """A fit through most rows of small groups is reached in the limit: its last step is rounding."""
    rng, groups, n = np.random.default_rng(73), 4000, 5
    frame = pd.DataFrame(rng.integers(-2, 3, (groups * n, 3)), columns=list("aby"))
    frame["g"] = np.repeat(np.arange(groups), n)
    call = {"by": "g", "linear": ["a", "b"], "targets": ["y"], "loss": loss, "on_collinear": "drop"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)
        one, other = (frame.gbreg.fit(**call, backend=backend) for backend in ("numba", "numpy"))
    assert (one.status["y"] == other.status["y"]).all()
    assert (one.flags == other.flags).all(axis=None)
    perfect = one.flags["y"]["perfect_fit"] & (one.scale["y"] == 0)
    assert perfect.sum() > 700
    through = (one.resid(frame)["y"].abs() < 1e-12).groupby(frame["g"]).sum()  # of three coefficients
    left = perfect & (one.status["y"] == "not_converged")
    # Two rows, or equal ones, decide the median, or steps were too many.
    assert left.sum() == {"huber": 3, "bisquare": 0}[loss]
    assert (through[left] < 3).all()


def test_quantiles_through_zero_have_the_errors_of_quantreg(backend):
    """The deviation of the target is about its mean, whatever the fit goes through."""
    rng = np.random.default_rng(8)
    frame = pd.DataFrame({"g": np.arange(200) % 2, "x": rng.uniform(0.1, 1, 200)})
    frame["y"] = 10 + 0.1 * rng.normal(size=200)
    fit = frame.gbreg.fit(
        by="g", linear=["x"], targets=["y"], intercept=False, loss="absolute", backend=backend
    )
    for g, rows in frame.groupby("g"):
        want = sm.QuantReg(rows["y"], rows[["x"]]).fit(0.5, vcov="iid")
        np.testing.assert_allclose(fit.params.loc[g], want.params, rtol=1e-4)  # their steps end at 1e-6
        np.testing.assert_allclose(fit.bse.loc[g], want.bse, rtol=1e-4)
    times = frame["y"].mul(2.0**900)
    far = frame.assign(y=times).gbreg.fit(
        by="g", linear=["x"], targets=["y"], intercept=False, loss="absolute", backend=backend
    )
    np.testing.assert_allclose(far.bse / 2.0**900, fit.bse, rtol=1e-12)


def test_groups_that_did_not_converge_say_why_they_have_no_errors(backend):
    rng = np.random.default_rng(9)
    frame = pd.DataFrame({"g": np.repeat(np.arange(60), 8), "x": rng.normal(size=480)})
    frame["y"] = frame["x"] + rng.normal(size=480)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = frame.gbreg.fit(
            by="g", linear=["x"], targets=["y"], loss="bisquare", tuning=0.1, backend=backend
        )
    none = fit.bse["y"].isna().all(axis=1)
    assert (none & (fit.status["y"] == "not_converged")).sum() > 10
    assert fit.flags["y"]["no_robust_errors"][none].all()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_scale_of_0_is_no_fit_where_a_direction_is_left(backend):
    """Three of five rows decide the median of their residuals, and not four coefficients."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(1_000, 3)), columns=list("abc"))
    frame["g"] = np.arange(1_000) // 5
    frame["y"] = frame.sum(axis=1) + rng.standard_t(2, size=1_000)
    with pytest.warns(gbreg.GbregWarning, match="not_converged"):
        fit = frame.gbreg.fit(by="g", linear=list("abc"), targets=["y"], loss="huber", backend=backend)
    through = (fit.resid(frame)["y"].abs() < 1e-9).groupby(frame["g"]).sum()
    assert (through == 3).sum() > 10
    assert set(through[fit.status["y"] == "ok"]) == {0, 4}
    assert fit.bse["y"][through > 0].isna().all(axis=None)


@pytest.mark.parametrize("loss", ["huber", "bisquare", "absolute"])
def test_what_glance_has_of_another_loss(loss: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 20), "x": rng.normal(size=40), "y": rng.normal(size=40)})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], loss=loss, backend="numpy")
    assert list(fit.glance()) == ["g", "target", "nobs", "df_resid", "sigma", "rms", "mad", "status"]
