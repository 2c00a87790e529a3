# SPDX-License-Identifier: MIT
"""Rows set aside: against a plain loop, against laws, and where nothing can be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg.errors import GbregWarning, SpecError
from gbreg.robust import NORMAL

BACKENDS = ["numba", "numpy", "loky"]
CALL = {"by": "g", "linear": ["x", "z"], "targets": ["y", "v"], "weights": "w", "clip": 4.0}


def make_frame(groups: int = 60, seed: int = 3) -> pd.DataFrame:
    """Weighted groups of 15 to 40 rows, 5 % of each target far off."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(15, 40, groups)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), sizes)})
    frame["x"], frame["z"] = rng.normal(3, 1, n), rng.normal(size=n)
    frame["w"] = rng.uniform(0.2, 5, n)
    for target, slope in (("y", 2.0), ("v", -1.0)):
        noise = rng.normal(size=n) / np.sqrt(frame["w"])
        frame[target] = 1 + slope * frame["x"] - frame["z"] + noise
        frame.loc[rng.random(n) < 0.05, target] += rng.choice([-40.0, 60.0])
    return frame.sample(frac=1, random_state=seed)


def clipped_by_hand(rows: pd.DataFrame, target: str, clip: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients and the rows kept, by numpy's lstsq."""
    design = np.column_stack([np.ones(len(rows)), rows[["x", "z"]]])
    side = np.sqrt(rows["w"].to_numpy())
    keep = np.ones(len(rows), dtype=bool)
    for _ in range(50):
        coef = np.linalg.lstsq(
            design[keep] * side[keep, None], rows[target].to_numpy()[keep] * side[keep], rcond=None
        )[0]
        sizes = side * np.abs(rows[target].to_numpy() - design @ coef)
        now = sizes <= clip * NORMAL * np.median(sizes)
        if (now == keep).all():
            return coef, keep
        keep = now
    raise AssertionError("not stable")


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_the_plain_loop(backend):
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, backend=backend)
    mask = fit.clipped(frame)
    assert (fit.status == "ok").all(axis=None)
    for g, rows in frame.groupby("g"):
        for target in ("y", "v"):
            coef, keep = clipped_by_hand(rows, target, 4.0)
            np.testing.assert_allclose(fit.params[target].loc[g], coef, rtol=1e-9, atol=1e-9)
            np.testing.assert_array_equal(mask.loc[rows.index, target], ~keep)
            assert fit.nobs.loc[g, target] == keep.sum()
            assert fit.nobs_clipped.loc[g, target] == (~keep).sum()
    assert mask.sum().min() > 50  # of about 1,600 rows, 5 % were moved


@pytest.mark.parametrize("cov_type", ["classical", "HC1", "cluster", "known"])
def test_everything_else_is_that_of_the_rows_kept(cov_type):
    """Errors, diagnostics and robust covariances are those of a fit of the rows that are left."""
    frame = make_frame().assign(run=lambda f: np.arange(len(f)) % 6)
    more = {"cov_type": cov_type, "groups": "run" if cov_type == "cluster" else None}
    fit = frame.gbreg.fit(**CALL, **more)
    mask = fit.clipped(frame)
    plain = {name: value for name, value in CALL.items() if name not in ("clip", "targets")}
    for target in ("y", "v"):
        want = frame[~mask[target]].gbreg.fit(**plain, targets=[target], **more)
        for name in ("params", "bse", "tvalues", "rms", "mad", "rsquared", "aic", "nobs", "condition_number"):
            got = getattr(fit, name)[[target]]
            pd.testing.assert_frame_equal(got, getattr(want, name), rtol=1e-12, obj=name)


def test_far_limits_change_no_bit():
    frame = make_frame()
    plain = frame.gbreg.fit(**{**CALL, "clip": None})
    clipped = frame.gbreg.fit(**{**CALL, "clip": 1e6})
    assert not clipped.clipped(frame).any(axis=None)
    for name in ("params", "bse", "rms", "mad", "status", "nobs"):
        pd.testing.assert_frame_equal(getattr(clipped, name), getattr(plain, name))


@pytest.mark.compiled
def test_targets_do_not_depend_on_each_other_or_on_the_order_of_rows():
    frame = make_frame()
    both = frame.gbreg.fit(**CALL)
    alone = frame.gbreg.fit(**{**CALL, "targets": ["v"]})
    pd.testing.assert_frame_equal(both.params[["v"]], alone.params)
    shuffled = frame.sample(frac=1, random_state=9)
    again = shuffled.gbreg.fit(**CALL)
    pd.testing.assert_frame_equal(again.params, both.params, rtol=1e-9)
    pd.testing.assert_frame_equal(again.clipped(frame), both.clipped(frame))


def test_gaps_and_rows_that_take_no_part_are_counted_apart():
    frame = make_frame()
    frame.loc[frame.index[::9], "v"] = np.nan
    frame.loc[frame.index[::13], "x"] = np.nan
    frame["on"] = np.arange(len(frame)) % 5 > 0
    fit = frame.gbreg.fit(**CALL, where="on")
    counts = fit.accounting()
    parts = ["used", "missing", "infinite", "clipped", "zero_weight", "not_selected"]
    assert (counts[parts].sum(axis=1) == len(frame)).all()
    took_part = frame["on"] & frame["x"].notna()
    for target in ("y", "v"):
        mask = fit.clipped(frame)[target] & took_part
        assert counts.loc[target, "clipped"] == mask.sum() == fit.nobs_clipped[target].sum()


def test_groups_that_keep_all_their_rows():
    """Perfect fits, saturated groups, and groups most of whose rows lie on the fit."""
    x = np.arange(6.0)
    parts = {
        "perfect": (x, 1 + 2 * x),
        "saturated": (x[:2], np.array([1.0, 5.0])),
        "few": (x[:1], np.array([1.0])),
        "constant": (x, np.zeros(6)),
    }
    frame = pd.concat(pd.DataFrame({"g": g, "x": a, "y": b}) for g, (a, b) in parts.items())
    with pytest.warns(GbregWarning, match="1 too_few_rows"):
        fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], clip=3.0)
    with pytest.warns(GbregWarning, match="1 too_few_rows"):
        plain = frame.gbreg.fit(by="g", linear=["x"], targets=["y"])
    pd.testing.assert_frame_equal(fit.params, plain.params)
    pd.testing.assert_frame_equal(fit.status, plain.status)
    assert fit.nobs_clipped["y"].sum() == 0


def test_rows_on_a_line_that_is_fitted_perfectly_without_the_others_come_back():
    rng = np.random.default_rng(8)
    parts = []
    for g in range(200):
        x = rng.normal(size=12)
        y = 2 * x + 1
        y[rng.choice(12, 3, replace=False)] += rng.normal(size=3) * 6
        parts.append(pd.DataFrame({"g": g, "x": x, "y": y}))
    frame = pd.concat(parts, ignore_index=True)
    fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], clip=1.5)
    stable = fit.status["y"] == "ok"
    aside = fit.clipped(frame)["y"].groupby(frame["g"]).sum()
    np.testing.assert_array_equal(aside[stable], fit.nobs_clipped["y"][stable])
    perfect = fit.flags["y"]["perfect_fit"]
    assert perfect.sum() > 20
    off = (np.abs(frame["y"] - 2 * frame["x"] - 1) > 1e-9).groupby(frame["g"]).sum()
    assert (fit.nobs_clipped["y"][perfect] <= off[perfect]).all()


@pytest.mark.compiled
def test_dependent_predictors_are_clipped_if_the_later_goes():
    frame = make_frame()
    call = {**CALL, "linear": ["x", ("twice", lambda f: 2 * f["x"])], "on_collinear": "drop"}
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call)
    want = frame.gbreg.fit(**{**CALL, "linear": ["x"]})
    np.testing.assert_allclose(fit.params["y"][["Intercept", "x"]], want.params["y"], rtol=1e-9)
    pd.testing.assert_frame_equal(fit.nobs_clipped, want.nobs_clipped)
    assert fit.nobs_clipped["y"].sum() > 0


def test_what_is_not_stable_says_so():
    frame = make_frame()
    with pytest.warns(GbregWarning, match="not_converged"):
        once = frame.gbreg.fit(**{**CALL, "clip": 2.0}, clip_iterations=1)
    late = once.status["y"] == "not_converged"
    assert late.any()
    assert not late.all()
    assert once.params["y"][late].notna().all(axis=None)  # those of the last fit


@pytest.mark.compiled
def test_names_of_what_cannot_be():
    frame = make_frame()
    for bad in (0.5, True, "4", np.inf, np.nan):
        with pytest.raises(SpecError, match="clip must be a number of standard deviations"):
            frame.gbreg.fit(**{**CALL, "clip": bad})
    with pytest.raises(SpecError, match="clip_iterations must be a positive integer"):
        frame.gbreg.fit(**CALL, clip_iterations=0)
    plain = frame.gbreg.fit(**{**CALL, "clip": None})
    with pytest.raises(SpecError, match="clipped needs a fit with clip="):
        plain.clipped(frame)
    with pytest.raises(SpecError, match="nobs_clipped needs a fit with clip="):
        _ = plain.nobs_clipped
    fit = frame.gbreg.fit(**{**CALL, "weights": frame["w"].to_numpy()})
    with pytest.raises(SpecError, match="give weights="):
        fit.clipped(frame)
    named = frame.gbreg.fit(**{**CALL, "weights": frame["w"] * 2})  # called like a column, but another one
    with pytest.raises(SpecError, match="give weights="):
        named.clipped(frame)
    with pytest.raises(SpecError, match="clip_iterations= needs clip="):
        frame.gbreg.fit(**{**CALL, "clip": None}, clip_iterations=3)
    pd.testing.assert_frame_equal(fit.clipped(frame, weights="w"), frame.gbreg.fit(**CALL).clipped(frame))


def test_limits_survive_storage(tmp_path):
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL)
    fit.to_parquet(tmp_path / "fit.parquet")
    back = gbreg.read_parquet(tmp_path / "fit.parquet")
    pd.testing.assert_frame_equal(back.clipped(frame), fit.clipped(frame))
    pd.testing.assert_frame_equal(back.nobs_clipped, fit.nobs_clipped)


def test_rounding_is_no_scale(backend):
    """Of groups with most rows on a line, all rows are kept, however the fit rounds."""
    rng, frames = np.random.default_rng(91), []
    for g in range(400):
        x = np.arange(9) * 0.1
        y = 0.5 - 1.1 * x
        y[rng.permutation(9)[:4]] += [0.5, -0.5, 0.5, -0.5]
        frames.append(pd.DataFrame({"g": g, "x": x, "y": y}))
    frame = pd.concat(frames, ignore_index=True)
    fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], clip=4.0, backend=backend)
    kept = fit.nobs["y"]
    line = frame.assign(off=(frame["y"] - 0.5 + 1.1 * frame["x"]).abs() > 0.1)
    # The median is 0 if the line is the fit of all rows; else it is a number like others.
    plain = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], backend="numpy").resid(frame)["y"].abs()
    on_line = plain.groupby(frame["g"]).median() < 1e-12
    assert on_line.sum() > 5
    assert (kept[on_line] == 9).all()
    assert set(kept) <= {5, 6, 7, 8, 9}
    assert not (fit.clipped(frame)["y"] & ~line["off"]).any()


def test_no_errors_beside_a_clip_that_did_not_converge_are_flagged() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 40), "x": np.tile(np.arange(40) / 40, 2)})
    frame["y"], frame["c"] = rng.standard_t(1, size=80), np.r_[np.zeros(40), np.arange(40)]
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "clip": 2, "clip_iterations": 1}
    with pytest.warns(gbreg.GbregWarning, match="not_converged"):
        fit = gbreg.fit(frame, **call, cov_type="cluster", groups="c", backend="numpy")
    assert fit.status.loc[0, "y"] == "not_converged"
    assert fit.bse.loc[0].isna().all()  # one cluster
    assert fit.flags["y"]["no_robust_errors"][0]
