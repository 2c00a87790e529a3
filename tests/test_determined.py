# SPDX-License-Identifier: MIT
"""Fitted values of groups whose predictors are dependent: there where the group determines them, else not."""

from __future__ import annotations

import pickle
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import gbreg

LEVELS = pd.DataFrame(  # every level in every group but: no "hi" in a, no "mid" in b
    {
        "g": np.repeat(["a", "b", "c"], [8, 8, 12]),
        "z": ["lo", "mid"] * 4 + ["lo", "hi"] * 4 + ["lo", "mid", "hi"] * 4,
        "x": np.random.default_rng(61).normal(size=28),
        "w": np.random.default_rng(62).uniform(0.5, 3, 28),
    }
).assign(
    mid=lambda d: (d["z"] == "mid").astype(float),
    hi=lambda d: (d["z"] == "hi").astype(float),
    y=lambda d: 1 + d["x"] + 50 * d["mid"] + 5 * d["hi"] + 0.1 * np.random.default_rng(63).normal(size=28),
)
ASKED = pd.DataFrame({"g": list("aaabbbc"), "z": ["lo", "mid", "hi"] * 2 + ["hi"], "x": 0.5}).assign(
    mid=lambda d: (d["z"] == "mid").astype(float), hi=lambda d: (d["z"] == "hi").astype(float)
)
UNKNOWN = [False, False, True, False, True, False, False]  # the level was not there


def fitted(frame: pd.DataFrame = LEVELS, /, **options: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": ["x", "lo", "mid", "hi"], "targets": ["y"], "weights": "w", **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)
        return gbreg.fit(frame, **call)


def with_all(frame: pd.DataFrame) -> pd.DataFrame:
    """Indicators of all levels: their sum is the intercept, in every group."""
    return frame.assign(lo=(frame["z"] == "lo").astype(float))


@pytest.mark.parametrize("interval", ["confidence", "prediction"])
def test_rows_of_levels_that_the_group_has_are_predicted(backend: str, interval: str) -> None:
    fit = fitted(with_all(LEVELS), backend=backend)
    assert (fit.status["y"] == "rank_deficient").all()
    assert fit.params["y"].isna().to_numpy().tolist() == [[True, False, True, True, True]] * 3
    got = fit.predict(with_all(ASKED).assign(w=2.0), interval=interval)["y"]
    assert got.isna().to_numpy().tolist() == [[unknown] * 3 for unknown in UNKNOWN]
    for group, rows in LEVELS.groupby("g"):
        levels = sorted(set(rows["z"]))
        X, there = (
            np.column_stack([d["x"], *[(d["z"] == level).astype(float) for level in levels]])
            for d in (rows, ASKED[ASKED["g"] == group])
        )
        made = sm.WLS(rows["y"], X, weights=rows["w"]).fit().get_prediction(there, weights=2.0)
        table = made.summary_frame()
        kind = "mean_ci" if interval == "confidence" else "obs_ci"
        want = table[["mean", f"{kind}_lower", f"{kind}_upper"]].to_numpy()
        known = ~np.array(UNKNOWN)[ASKED["g"] == group]
        np.testing.assert_allclose(
            got[(ASKED["g"] == group).to_numpy()].to_numpy()[known], want[known], rtol=1e-9
        )


def test_what_follows_from_residuals_is_there_too(backend: str) -> None:
    whole, less = with_all(LEVELS), LEVELS
    fit = fitted(whole, backend=backend)
    same = fitted(less[less["g"] == "c"], linear=["x", "mid", "hi"], backend=backend)  # full rank there
    resid = fit.resid(whole)["y"]
    np.testing.assert_allclose(
        np.sqrt((whole["w"] * resid**2).groupby(whole["g"]).sum()), fit.ssr["y"] ** 0.5
    )
    some = whole["g"] == "c"
    np.testing.assert_allclose(resid[some], same.resid(less[some])["y"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        fit.durbin_watson(whole).loc["c"], same.durbin_watson(less[some]).loc["c"], rtol=1e-9
    )
    got, want = fit.augment(whole)[some], same.augment(less[some])
    for name in ("y_std_resid", "y_leverage", "y_cooks_distance"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-8)
    leverage = fit.augment(whole)["y_leverage"].groupby(whole["g"]).sum()
    np.testing.assert_allclose(leverage, [3, 3, 4], rtol=1e-12)  # the rank


def test_the_later_column_may_be_any(backend: str) -> None:
    """Which of the predictors is dropped changes no value that is determined."""
    frame, asked = with_all(LEVELS), with_all(ASKED)
    want = fitted(frame, backend=backend).predict(asked)
    for order in (["hi", "mid", "lo", "x"], ["mid", "x", "hi", "lo"]):
        got = fitted(frame, linear=order, backend=backend).predict(asked)
        assert got["y"].isna().tolist() == UNKNOWN
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_with_drop_every_row_is_predicted_and_a_warning_tells_which_are_doubtful(backend: str) -> None:
    frame, asked = with_all(LEVELS), with_all(ASKED).set_index(pd.Index(list("abcdefg")))
    fit = fitted(frame, on_collinear="drop", backend=backend)
    want = fitted(frame, backend=backend).predict(asked)["y"]
    with pytest.warns(
        gbreg.GbregWarning, match=r"^2 of 7 rows, first at \['c', 'e'\], .*dropped there"
    ) as told:
        got = fit.predict(asked)["y"]
    assert len(told) == 1
    assert got.notna().all()
    np.testing.assert_array_equal(got[want.notna()], want.dropna())
    b = fit.params["y"].loc["a"]
    np.testing.assert_allclose(got["c"], b["Intercept"] + 0.5 * b["x"], rtol=1e-12)  # as if hi had no effect
    fit.resid(frame)  # no warning: an error in this suite
    fit.augment(frame)


def test_parents_and_their_own_dependent_predictors(backend: str) -> None:
    frame = with_all(LEVELS).assign(s="s")
    frame.loc[[0, 1], "g"] = "few"
    fit = fitted(frame, by=["s", "g"], fallback="parent", on_collinear="drop", backend=backend)
    parent = fitted(frame, by="s", on_collinear="drop", backend=backend)
    asked = with_all(ASKED).assign(s="s", g="few", other=0.0)
    np.testing.assert_array_equal(fit.predict(asked), parent.predict(asked))
    asked["lo"] += 1.0
    with pytest.warns(gbreg.GbregWarning, match="7 of 7 rows"):
        fit.predict(asked)


def test_saved_fits_tell_the_same(tmp_path: Path) -> None:
    fit = fitted(with_all(LEVELS))
    fit.to_parquet(tmp_path / "fit.parquet")
    asked = with_all(ASKED).assign(w=1.0)
    want = fit.predict(asked, interval="prediction")
    assert want["y", "fitted"].isna().tolist() == UNKNOWN
    for again in (gbreg.read_parquet(tmp_path / "fit.parquet"), pickle.loads(pickle.dumps(fit))):
        pd.testing.assert_frame_equal(again.params, fit.params, check_exact=True)
        pd.testing.assert_frame_equal(again.predict(asked, interval="prediction"), want, check_exact=True)


@pytest.mark.parametrize("options", [{"ridge": {"x": 1.0}}, {"bounds": (-1e3, 1e3)}])
def test_ridge_and_bounds_give_no_part_of_an_answer(options: dict[str, Any], backend: str) -> None:
    assert fitted(with_all(LEVELS), backend=backend, **options).predict(with_all(ASKED)).isna().all(axis=None)


def in_row_space(X: list[list[int]], row: list[int]) -> bool:
    """Whether a row of integers is a combination of rows, by exact elimination."""
    left = [[Fraction(value) for value in r] for r in X]
    last = [Fraction(value) for value in row]
    for j in range(len(last)):
        pivot = next((r for r in left if r[j] != 0), None)
        if pivot is None:
            continue
        left.remove(pivot)
        left = [[a - r[j] / pivot[j] * b for a, b in zip(r, pivot, strict=True)] for r in left]
        last = [a - last[j] / pivot[j] * b for a, b in zip(last, pivot, strict=True)]
    return not any(last)


@pytest.mark.compiled("numba", "loky")
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("offset", [0, 10_000_000])
def test_values_are_there_exactly_where_rows_are_combinations_of_the_groups_rows(
    backend: str, intercept: bool, offset: int
) -> None:
    rng = np.random.default_rng(64 + intercept)
    names, frames, asked = ["p", "q", "r", "s"], [], []
    move = offset if intercept else 0
    for g in range(80):
        n = int(rng.integers(5, 11))
        X = rng.integers(-4, 5, (n, 4))
        which = rng.permutation(4)
        X[:, which[3]] = X[:, which[:3]] @ rng.integers(-2, 3, 3) + intercept * rng.integers(-3, 4)
        if g % 3 == 0:
            X[:, which[2]] = rng.integers(-3, 4) if intercept else 0
        new = np.concatenate([X[:2], rng.integers(-4, 5, (6, 4))])
        new[2:5, which[3]] = new[2:5, which[:3]] @ [1, 0, 2]
        new[5] = X[0] + X[1] - X[2]
        frames.append(pd.DataFrame(X + move, columns=names).assign(g=g, y=rng.normal(size=n)))
        asked.append(pd.DataFrame(new + move, columns=names).assign(g=g))
    frame, new = pd.concat(frames, ignore_index=True), pd.concat(asked, ignore_index=True)
    fit = fitted(frame, linear=names, weights=None, intercept=intercept, backend=backend)
    got = fit.predict(new)["y"].to_numpy()
    determined = 0
    for g, rows in frame.groupby("g"):
        one = np.ones((len(rows), 1), dtype=int)
        here, there = (d[d["g"] == g][names].to_numpy() - move for d in (frame, new))
        if intercept:
            here, there = np.hstack([one, here]), np.hstack([one[:1].repeat(len(there), 0), there])
        want = there @ np.linalg.lstsq(here, rows["y"], rcond=1e-10)[0]
        fitted_here = (
            fit.status["y"].loc[g] == "rank_deficient" or np.linalg.matrix_rank(here) == here.shape[1]
        )
        for row, value, right in zip(there, got[(new["g"] == g).to_numpy()], want, strict=True):
            if fitted_here and in_row_space(here.tolist(), row.tolist()):
                determined += 1
                np.testing.assert_allclose(value, right, rtol=1e-7, atol=1e-7)
            else:
                assert np.isnan(value), (g, row)
    assert determined > 250


def test_rows_of_the_fit_are_never_denied(backend: str) -> None:
    """Every row of a group is a combination of its rows, also one at the means of its predictors."""
    frame = pd.DataFrame(
        {"a": [0, 1, -1, 0, 0], "b": [-1, 1, 0, -1, -1], "c": [0, -1, 1, 0, 0], "z": range(5)}
    )
    got = fitted(frame.assign(g=0), linear=list("abc"), targets=["z"], weights=None, backend=backend)
    X = np.column_stack([np.ones(5), frame[list("abc")]])
    want = X @ np.linalg.lstsq(X, frame["z"])[0]
    np.testing.assert_allclose(got.predict(frame.assign(g=0))["z"], want, rtol=1e-12)


def test_a_group_that_no_parent_speaks_for_keeps_what_it_determines() -> None:
    frame = pd.DataFrame({"k": 0, "l": [0, 0, 0, 1, 1, 1], "x": 2.0, "y": [1.0, 2, 3, 4, 5, 6]})
    fit = fitted(frame, by=["k", "l"], linear=["x"], weights=None, fallback=[["k"]])
    got = fit.predict(frame, source=True)["y"]
    assert got["fitted"].tolist() == [2, 2, 2, 5, 5, 5]
    assert got["source"].tolist() == ["own"] * 6
    assert (fit.status["y"] == "rank_deficient").all()
