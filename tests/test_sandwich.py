# SPDX-License-Identifier: MIT
"""Robust covariances: against statsmodels, against laws, and where there is none."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from mpmath import mp

import gbreg
from gbreg import sandwich
from gbreg.errors import ColumnError, GbregWarning, MissingDataError, SpecError

HC = ["HC0", "HC1", "HC2", "HC3"]
BACKENDS = ["numba", "numpy", "loky"]


def make_frame(groups: int = 12, seed: int = 5) -> pd.DataFrame:
    """Unbalanced groups, variance growing with x, several rows a run, weights."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(14, 40, groups)
    n = int(sizes.sum())
    x, z = rng.normal(3, 1, n), rng.normal(size=n)
    return pd.DataFrame(
        {
            "g": np.repeat(np.arange(groups), sizes),
            "x": x,
            "z": z,
            "run": rng.choice(list("abcde"), n),
            "y": 1 + 2 * x - z + rng.normal(size=n) * x**2,
            "v": rng.normal(size=n),
            "w": rng.uniform(0.5, 2, n),
        }
    ).sample(frac=1, random_state=seed)


FRAME = make_frame()


@cache
def reference_of(g: int, target: str, cov_type: str, weights: bool = True, intercept: bool = True):
    return reference(FRAME[FRAME["g"] == g], target, cov_type, weights=weights, intercept=intercept)


def reference(rows: pd.DataFrame, target: str, cov_type: str, *, weights: bool, intercept: bool):
    design = rows[["x", "z"]]
    if intercept:
        design = sm.add_constant(design).rename(columns={"const": "Intercept"})
    more = {"cov_kwds": {"groups": rows["run"]}} if cov_type == "cluster" else {}
    return sm.WLS(rows[target], design, weights=rows["w"] if weights else 1.0).fit(cov_type=cov_type, **more)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weights", ["w", None])
@pytest.mark.parametrize("cov_type", [*HC, "cluster"])
def test_every_figure_is_that_of_statsmodels(cov_type, weights, intercept, backend):
    fit = FRAME.gbreg.fit(
        by="g",
        linear=["x", "z"],
        targets=["y", "v"],
        weights=weights,
        intercept=intercept,
        cov_type=cov_type,
        groups="run" if cov_type == "cluster" else None,
        backend=backend,
    )
    bse, t, pvalues, intervals = fit.bse, fit.tvalues, fit.pvalues, fit.conf_int(alpha=0.1)
    covariances = {target: fit.cov_params(target) for target in ("y", "v")}
    for g in fit.keys:
        for target in ("y", "v"):
            want = reference_of(g, target, cov_type, weights is not None, intercept)
            own = {"rtol": 1e-8, "err_msg": f"{target} of group {g}"}
            np.testing.assert_allclose(bse[target].loc[g], want.bse, **own)
            np.testing.assert_allclose(covariances[target].loc[g], want.cov_params(), atol=1e-12, **own)
            np.testing.assert_allclose(t[target].loc[g], want.tvalues, **own)
            np.testing.assert_allclose(pvalues[target].loc[g], want.pvalues, atol=1e-14, **own)
            bounds = np.reshape(intervals[target].loc[g].to_numpy(), (-1, 2))
            np.testing.assert_allclose(bounds, want.conf_int(alpha=0.1), **own)


@pytest.mark.parametrize("cov_type", [*HC, "cluster"])
def test_tests_and_intervals_are_those_of_statsmodels(cov_type):
    frame = make_frame()
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "weights": "w", "cov_type": cov_type}
    fit = frame.gbreg.fit(**call, groups="run" if cov_type == "cluster" else None)
    tests = fit.wald_test("x = 1, z + x = 0.5")
    mean = fit.predict(frame, interval="confidence", alpha=0.1)
    new = fit.predict(frame, interval="prediction", alpha=0.1, weights="w")
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            want = reference_of(g, target, cov_type)
            test = want.wald_test("x = 1, z + x = 0.5", scalar=True)
            got = tests[target].loc[g]
            np.testing.assert_allclose(got["statistic"], test.statistic, rtol=1e-8)
            np.testing.assert_allclose(got["p_value"], test.pvalue, rtol=1e-8)
            assert np.isnan(got["df_denom"])
            at = sm.add_constant(rows[["x", "z"]]).rename(columns={"const": "Intercept"})
            bounds = want.get_prediction(at, weights=rows["w"].to_numpy()).summary_frame(alpha=0.1)
            for made, name in ((mean, "mean_ci"), (new, "obs_ci")):
                own = made[target].loc[rows.index, ["lower", "upper"]]
                np.testing.assert_allclose(own, bounds[[f"{name}_lower", f"{name}_upper"]], rtol=1e-8)


def test_two_clusters_leave_a_test_of_one_restriction():
    """The covariance has rank 1 then; a single restriction is still that of its coefficient."""
    frame = make_frame().assign(run=lambda f: np.arange(len(f)) % 2)
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w"}
    fit = frame.gbreg.fit(**call, cov_type="cluster", groups="run")
    one = fit.wald_test("x = 0")["y"]["statistic"]
    np.testing.assert_allclose(one, fit.tvalues["y"]["x"] ** 2, rtol=1e-6)
    assert fit.wald_test("x = 0, z = 0")["y"]["statistic"].isna().all()


def test_counts_do_not_go_with_them():
    frame = make_frame().assign(w=2)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "weights": "w", "weights_type": "frequency"}
    with pytest.raises(SpecError, match="repeat the rows"):
        frame.gbreg.fit(**call, cov_type="HC1")
    with pytest.raises(SpecError, match="repeat the rows"):
        frame.gbreg.fit(**call, clip=4.0)


def test_coefficients_and_all_that_needs_no_errors_stay():
    frame = make_frame()
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w"}
    plain, robust = frame.gbreg.fit(**call), frame.gbreg.fit(**call, cov_type="HC3")
    for name in ("params", "scale", "rms", "mad", "rsquared", "aic", "condition_number", "status", "flags"):
        pd.testing.assert_frame_equal(getattr(robust, name), getattr(plain, name))


def test_progress_counts_every_row_once(capfd):
    FRAME.gbreg.fit(by="g", linear=["x"], targets=["y"], cov_type="HC3", progress=True)
    last = capfd.readouterr()[1].rstrip("\n").rpartition("\r")[2]
    assert f"{len(FRAME)}/{len(FRAME)}" in last


def test_a_cluster_per_row_is_hc1():
    """c / (c - 1) (n - 1) / (n - p) is n / (n - p) where every row is a cluster."""
    frame = make_frame().assign(row=lambda f: np.arange(len(f)))
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "weights": "w"}
    clustered = frame.gbreg.fit(**call, cov_type="cluster", groups="row")
    np.testing.assert_allclose(clustered.bse, frame.gbreg.fit(**call, cov_type="HC1").bse, rtol=1e-12)


def test_clusters_of_rows_that_are_selected_and_of_targets_with_gaps():
    frame = make_frame()
    frame["where"] = np.random.default_rng(2).random(len(frame)) > 0.2
    frame.loc[frame.index[::7], "v"] = np.nan
    frame.loc[frame.index[::11], "x"] = np.nan
    frame.loc[~frame["where"], "run"] = None  # no matter: these rows take no part
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "weights": "w", "where": "where"}
    fit = frame.gbreg.fit(**call, cov_type="cluster", groups="run")
    for g, rows in frame[frame["where"]].dropna(subset="x").groupby("g"):
        for target in ("y", "v"):
            want = reference(rows.dropna(subset=target), target, "cluster", weights=True, intercept=True)
            np.testing.assert_allclose(fit.bse[target].loc[g], want.bse, rtol=1e-8)


@pytest.mark.parametrize("kind", ["label", "Series", "array", "categories", "callable"])
def test_clusters_are_given_as_keys_are(kind):
    frame = make_frame()
    given = {
        "label": "run",
        "Series": frame["run"].sample(frac=1, random_state=1).rename("other"),
        "array": frame["run"].to_numpy(),
        "categories": frame["run"].astype("category"),
        "callable": lambda f: f["run"],
    }
    frame.index = np.arange(len(frame)) if kind in ("array", "callable") else frame.index
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "cov_type": "cluster"}
    want = frame.gbreg.fit(**call, groups="run").bse
    pd.testing.assert_frame_equal(frame.gbreg.fit(**call, groups=given[kind]).bse, want)


def errors(frame: pd.DataFrame, cov_type: str) -> pd.DataFrame:
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w", "cov_type": cov_type}
    return frame.gbreg.fit(**call, groups="run" if cov_type == "cluster" else None).bse["y"]


@pytest.mark.parametrize("cov_type", [*HC, "cluster"])
def test_units_only_scale_the_errors(cov_type):
    """Powers of two change no bit of what is computed in units of the columns' sizes."""
    frame = make_frame()
    want = errors(frame, cov_type)
    scaled = frame.assign(x=frame["x"] * 2.0**100, y=frame["y"] * 2.0**-100, w=frame["w"] * 2.0**40)
    got = errors(scaled, cov_type)
    np.testing.assert_array_equal(got["z"], want["z"] * 2.0**-100)
    np.testing.assert_array_equal(got["x"], want["x"] * 2.0**-200)


@pytest.mark.parametrize("cov_type", [*HC, "cluster"])
def test_sizes_whose_squares_no_float_holds(cov_type):
    frame = make_frame()
    want = errors(frame, cov_type)
    scaled = frame.assign(x=frame["x"] * 2.0**300, y=frame["y"] * 2.0**-300, w=frame["w"] * 2.0**400)
    got = errors(scaled, cov_type)
    np.testing.assert_allclose(got["z"], want["z"] * 2.0**-300, rtol=1e-10)
    np.testing.assert_allclose(got["x"], want["x"] * 2.0**-600, rtol=1e-10)


@pytest.mark.parametrize("cov_type", [*HC, "cluster"])
def test_a_far_origin_costs_no_digits(cov_type):
    frame = make_frame().assign(x=lambda f: f["x"].round(8))
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w", "cov_type": cov_type}
    groups = "run" if cov_type == "cluster" else None
    want = frame.gbreg.fit(**call, groups=groups).bse["y"]
    shift = 2.0**20
    far = frame.assign(x=(frame["x"] * 2.0**26).round() * 2.0**-26 + shift)
    near = far.assign(x=far["x"] - shift)
    got = far.gbreg.fit(**call, groups=groups).bse["y"]
    same = near.gbreg.fit(**call, groups=groups).bse["y"]
    np.testing.assert_allclose(got[["x", "z"]], same[["x", "z"]], rtol=1e-11)
    np.testing.assert_allclose(same, want, rtol=1e-6)  # rounded x


def exact_errors(rows: pd.DataFrame, cov_type: str) -> list[float]:
    """By 60 digits of mpmath."""
    with mp.workdps(60):
        X = mp.matrix([[1.0, a, b] for a, b in zip(rows["x"], rows["z"], strict=True)])
        y, w = mp.matrix(rows["y"].tolist()), [mp.mpf(value) for value in rows["w"]]
        A = (X.T * mp.diag(w) * X) ** -1
        resid = y - X * (A * (X.T * mp.diag(w) * y))
        meat = mp.zeros(3, 3)
        for i in range(len(w)):
            row = X[i, :].T
            near = 1 - w[i] * (row.T * A * row)[0]
            score = w[i] * resid[i] / {"HC0": 1, "HC2": mp.sqrt(near), "HC3": near}[cov_type]
            meat += score**2 * (row * row.T)
        made = A * meat * A
        return [float(mp.sqrt(made[i, i])) for i in range(3)]


@pytest.mark.parametrize(("apart", "rtol"), [(1e-3, 1e-12), (1e-5, 1e-10), (1e-7, 1e-8)])
@pytest.mark.parametrize("cov_type", ["HC0", "HC3"])
def test_nearly_dependent_predictors_cost_no_more_digits_than_they_must(cov_type, apart, rtol):
    """About the rounding of the data over ``apart``, which is what they differ by."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=25)
    frame = pd.DataFrame({"g": 0, "x": x, "z": x + apart * rng.normal(size=25), "w": rng.uniform(0.5, 2, 25)})
    frame["y"] = x + rng.normal(size=25)
    fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], weights="w", cov_type=cov_type)
    np.testing.assert_allclose(fit.bse["y"].iloc[0], exact_errors(frame, cov_type), rtol=rtol)


@pytest.mark.parametrize("level", [1e12, 4e15])
@pytest.mark.parametrize("cov_type", ["HC0", "HC3"])
def test_a_target_far_from_zero_costs_no_digits(cov_type, level):
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"g": 0, "x": rng.normal(size=25), "z": rng.normal(size=25), "w": 1.0})
    frame["y"] = level + np.round(4 * frame["x"] + 2 * rng.normal(size=25))
    fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], weights="w", cov_type=cov_type)
    np.testing.assert_allclose(fit.bse["y"].iloc[0], exact_errors(frame, cov_type), rtol=1e-12)


@pytest.mark.parametrize("cov_type", ["HC0", "HC3"])
def test_errors_that_rounding_would_make_are_none(cov_type, backend):
    """Residuals lose digits as they get small beside the terms that they are left of."""
    rng = np.random.default_rng(6)
    sizes = 10.0 ** -np.arange(15)
    parts = [pd.DataFrame(rng.normal(size=(9, 2)), columns=["x", "z"]).assign(g=size) for size in sizes]
    frame = pd.concat(parts, ignore_index=True).assign(w=1.0)
    frame.loc[::9, "x"] *= 1e4  # a row of a leverage near 1
    frame["y"] = 1 + 2 * frame["x"] - 3 * frame["z"] + frame["g"] * rng.normal(size=len(frame))
    fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], cov_type=cov_type, backend=backend)
    none = fit.flags["y"]["no_robust_errors"]
    told = none | fit.flags["y"]["perfect_fit"]
    assert none.any()
    assert told[fit.keys < 1e-11].all()
    assert not told[fit.keys > 1e-3].any()
    assert fit.bse[none].isna().all(axis=None)
    for g, errors in fit.bse["y"][~told].iterrows():
        np.testing.assert_allclose(errors, exact_errors(frame[frame["g"] == g], cov_type), rtol=1e-5)


@pytest.mark.parametrize("cov_type", ["HC2", "HC3"])
@pytest.mark.parametrize("far", [1e2, 1e4, 1e6])
def test_a_row_of_a_leverage_near_1_costs_few_digits(far, cov_type, backend):
    """1 - leverage is down to 1e-10, and this row's residual as much less than the others'."""
    frame = pd.DataFrame({"g": 0, "x": [1.0, 2, 4, 5, 7, 8, 11, 12, 14, far], "w": 1.0})
    frame["z"] = [0.0, 1, 0, 2, 1, 3, 0, 1, 2, far / 3]  # no combination leaves the far row out
    frame["y"] = [3.0, 1, 4, 1, 5, 9, 2, 6, 5, far / 2]
    fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], cov_type=cov_type, backend=backend)
    np.testing.assert_allclose(fit.bse["y"].iloc[0], exact_errors(frame, cov_type), rtol=1e-9)


def test_intervals_where_a_row_speaks_for_itself_alone(backend):
    """There HC0 has an error that is far less than those of the coefficients, or none."""
    frame = pd.DataFrame({"x": [0.0, 1, 2, 3, 4, 1e7], "z": [0.0, 1, 0, 2, 1, -3], "w": 1.0, "g": 0})
    frame["y"] = [1.0, 3, 2, 5, 4, 7]
    fit = frame.gbreg.fit(by="g", linear=["x", "z"], targets=["y"], cov_type="HC0", backend=backend)
    got = fit.predict(frame, interval="confidence")["y"]
    half = (got["upper"] - got["lower"]) / 2
    for i, row in frame.iterrows():  # the error of a fitted value is that of the constant about its row
        about = frame.assign(x=frame["x"] - row["x"], z=frame["z"] - row["z"])
        np.testing.assert_allclose(half[i], 1.959963984540054 * exact_errors(about, "HC0")[0], rtol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_more_restrictions_than_clusters_tell_nothing(seed):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(30, 3)) + 100, columns=list("abd"))
    frame = frame.assign(y=frame["a"] + rng.normal(size=30), g=0, run=np.arange(30) % 3)
    call = {"by": "g", "linear": list("abd"), "targets": ["y"], "intercept": False}
    fit = frame.gbreg.fit(**call, cov_type="cluster", groups="run")
    assert fit.wald_test("a = 1, b = 0, d = 0")["y"]["statistic"].isna().all()
    assert fit.wald_test("a = 1")["y"]["statistic"].notna().all()


def test_no_errors_of_constant_targets_either_where_there_are_none():
    frame = make_frame().assign(y=3.0, run=1)
    call = {"by": "g", "linear": ["x"], "targets": ["y", "v"], "weights": "w"}
    with pytest.warns(
        gbreg.GbregWarning, match=r"^no group has errors .*a group is one cluster if groups= is"
    ):
        fit = frame.gbreg.fit(**call, cov_type="cluster", groups="run")
    assert fit.bse.isna().all(axis=None)
    assert fit.flags["y"]["no_robust_errors"].all()


def test_groups_of_any_size_and_order_are_fitted_alike(monkeypatch):
    """The rows are read in chunks of groups; where they are cut does not matter."""
    frame = make_frame()
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "weights": "w"}
    for more in ({"cov_type": "HC3"}, {"cov_type": "cluster", "groups": "run"}):
        want = frame.gbreg.fit(**call, **more).bse
        with monkeypatch.context() as patch:
            patch.setattr(sandwich, "CHUNK_ROWS", 50)
            for n_jobs in (1, 3):
                pd.testing.assert_frame_equal(frame.gbreg.fit(**call, **more, n_jobs=n_jobs).bse, want)


def test_where_there_is_no_error():
    """Perfect fits have errors of 0; saturated groups, one cluster and a leverage of 1 have none."""
    x = [0.0, 1, 2, 3, 4]
    groups = {
        "fine": (x, [1.0, 2, 2, 5, 4], list("aabbc")),
        "perfect": (x, [0.0, 0, 0, 0, 0], list("aabbc")),
        "saturated": (x[:2], [1.0, 2], list("ab")),
        "one cluster": (x, [1.0, 2, 2, 5, 4], list("aaaaa")),
        "one lever": ([0.0, 0, 0, 0, 1], [1.0, 2, 2, 5, 4], list("aabbc")),
        "constant x": ([1.0] * 5, [1.0, 2, 2, 5, 4], list("aabbc")),
    }
    frame = pd.concat(
        pd.DataFrame({"g": name, "x": xs, "y": ys, "run": runs}) for name, (xs, ys, runs) in groups.items()
    )
    call = {"by": "g", "linear": ["x"], "targets": ["y"]}
    fits = {}
    for cov_type in ("HC0", "HC3", "cluster"):
        with pytest.warns(GbregWarning, match="1 rank_deficient"):
            fits[cov_type] = frame.gbreg.fit(
                **call, cov_type=cov_type, groups="run" if cov_type == "cluster" else None
            )
    nothing = {
        "HC0": {"saturated", "constant x"},
        "HC3": {"saturated", "constant x", "one lever"},
        "cluster": {"saturated", "constant x", "one cluster"},
    }
    for cov_type, fit in fits.items():
        errors = fit.bse["y"]
        assert set(errors.index[errors.isna().any(axis=1)]) == nothing[cov_type], cov_type
        assert (errors.loc["perfect"] == 0).all()
        marked = fit.flags["y"]["no_robust_errors"]
        assert set(marked.index[marked]) == nothing[cov_type] - {"saturated"}


def test_what_cannot_be_asked_for():
    frame = make_frame()
    call = {"by": "g", "linear": ["x"], "targets": ["y"]}
    with pytest.raises(SpecError, match='cov_type="cluster" needs groups='):
        frame.gbreg.fit(**call, cov_type="cluster")
    with pytest.raises(SpecError, match="groups= is for cov_type=\"cluster\", got cov_type='HC1'"):
        frame.gbreg.fit(**call, cov_type="HC1", groups="run")
    with pytest.raises(SpecError, match="did you mean 'HC1'"):
        frame.gbreg.fit(**call, cov_type="hc1")
    with pytest.raises(ColumnError, match=r"groups= names what is not a column.*'rum'.*'run'"):
        frame.gbreg.fit(**call, cov_type="cluster", groups="rum")
    with pytest.raises(SpecError, match="groups= must have one value per row"):
        frame.gbreg.fit(**call, cov_type="cluster", groups=np.arange(3))
    frame.loc[frame.index[3], "run"] = None
    with pytest.raises(MissingDataError, match="no cluster for 1 rows"):
        frame.gbreg.fit(**call, cov_type="cluster", groups="run")


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("clip", [None, 2.5])
def test_rows_that_take_no_part_need_no_cluster(backend, clip):
    frame = make_frame()
    call = {"by": "g", "linear": ["x"], "weights": "w", "cov_type": "cluster", "groups": "run", "clip": clip}
    gone = frame.index[[3, 40, 41]]
    frame.loc[gone, "y"] = [np.nan, np.inf, np.nan]
    want = frame.drop(gone).gbreg.fit(**call, targets=["y"], backend=backend)
    frame.loc[gone, "run"] = None
    got = frame.gbreg.fit(**call, targets=["y"], backend=backend)
    pd.testing.assert_frame_equal(got.bse, want.bse, check_exact=True)
    frame["z"] = frame["y"].where(np.isfinite(frame["y"]), 1.0)
    with pytest.raises(MissingDataError, match="no cluster for 3 rows"):  # one of the targets has them
        frame.gbreg.fit(**call, targets=["y", "z"], backend=backend)


def test_robust_errors_survive_storage(tmp_path):
    frame = make_frame()
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "weights": "w"}
    fit = frame.gbreg.fit(**call, cov_type="cluster", groups="run")
    fit.to_parquet(tmp_path / "fit.parquet")
    back = gbreg.read_parquet(tmp_path / "fit.parquet")
    assert back.spec.cov_type == "cluster"
    pd.testing.assert_frame_equal(back.bse, fit.bse)
    pd.testing.assert_frame_equal(back.pvalues, fit.pvalues)


@pytest.mark.parametrize("cov_type", ["HC1", "HC3"])
def test_a_constant_predictor_has_no_robust_errors_and_no_warning_of_numpy(cov_type):
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 8), "x": rng.normal(size=16), "y": rng.normal(size=16)})
    frame.loc[frame["g"] == 0, "x"] = 2.0
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], cov_type=cov_type, backend="numpy")
    bounds = fit.predict(frame, interval="confidence")["y"]
    assert bounds.loc[frame["g"] == 0, "lower"].isna().all()
    test = fit.wald_test("x = 0", target="y")
    assert np.isnan(test.loc[0, "statistic"])
    alone = frame[frame["g"] == 1].gbreg.fit(
        by="g", linear=["x"], targets=["y"], cov_type=cov_type, backend="numpy"
    )
    pd.testing.assert_frame_equal(bounds[8:], alone.predict(frame[8:], interval="confidence")["y"])
    pd.testing.assert_frame_equal(test[1:], alone.wald_test("x = 0", target="y"))


def test_clusters_keep_their_numbers_where_a_series_lacks_rows():
    """Beyond 2**53 floats would merge neighbours; 1 and "1" in a list are two."""
    rng = np.random.default_rng(12)
    cluster = np.arange(120) // 6
    frame = pd.DataFrame({"g": 1, "x": rng.normal(size=120)})
    frame["y"] = rng.normal(size=20)[cluster] + rng.normal(size=120)
    used = pd.Series(np.arange(120) < 102)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "cov_type": "cluster", "where": used}
    want = frame.gbreg.fit(**call, groups=cluster, backend="numpy").bse
    ids = pd.Series(2**53 + cluster)
    mixed = [str(i // 2) if i % 2 else i // 2 for i in cluster.tolist()]
    gap = [*(2**53 + cluster[:110]).tolist(), *[None] * 10]
    for groups in (ids, ids[used], pd.Series(cluster)[used], mixed, gap):
        got = frame.gbreg.fit(**call, groups=groups, backend="numpy").bse
        pd.testing.assert_frame_equal(got, want, check_exact=True)
    with pytest.raises(gbreg.MissingDataError, match="groups= has no cluster for 2 rows"):
        frame.gbreg.fit(**call, groups=ids[:100], backend="numpy")


@pytest.mark.parametrize("intercept", [True, False])
def test_leverages_near_one_of_nearly_dependent_predictors_are_not_noise(intercept, backend):
    """With one row more than coefficients HC2 is classical, and standardised residuals are 1."""
    rng = np.random.default_rng(13)
    g = np.repeat(np.arange(5_000), 3 + intercept)
    frame = pd.DataFrame({"g": g, "x": rng.normal(size=len(g)), "y": rng.normal(size=len(g))})
    frame["z"] = frame["x"] + 1e-4 * rng.normal(size=len(g))
    if not intercept:
        frame["x"], frame["z"] = frame["x"] + 1e4, rng.normal(1e4, 1, len(g))
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "intercept": intercept, "backend": backend}
    plain = frame.gbreg.fit(**call)
    robust = frame.gbreg.fit(**call, cov_type="HC2")
    ratio = (robust.bse / plain.bse)["y"]
    none = ratio.isna().any(axis=1)
    assert none.mean() < 0.01
    assert (robust.flags["y"]["no_robust_errors"] == none).all()
    np.testing.assert_allclose(ratio[~none], 1, rtol=2.0**-13)
    added = plain.augment(frame)
    sizes = added["y_std_resid"].abs().dropna()
    assert len(sizes) > 0.6 * len(frame)
    np.testing.assert_allclose(sizes, 1, rtol=3e-4)  # leverages are right to 2**-53 / (1 - R2) or so
    assert added["y_leverage"].max() <= 1


def test_the_first_row_without_a_cluster_is_the_first_of_the_frame() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": [1, 0] * 10, "x": rng.normal(size=20), "y": rng.normal(size=20)})
    clusters = np.where(np.arange(20) < 14, np.arange(20) // 2, np.nan)  # of group 0 first 15, of 1 first 14
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "cov_type": "cluster", "groups": clusters}
    with pytest.raises(gbreg.MissingDataError, match="no cluster for 6 rows that take part, first at 14;"):
        gbreg.fit(frame, **call, backend="numpy")
