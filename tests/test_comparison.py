# SPDX-License-Identifier: MIT
"""Nested fits against each other, as statsmodels compares them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from frames import KINDS, random_groups

import gbreg
from gbreg import SpecError

FRAME = random_groups(70)
COLUMNS = ["f", "df_diff", "p_value", "delta_aic", "delta_bic"]


def fitted(linear: list[str], backend: str = "numpy", frame: Any = None, **options: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": linear, "targets": ["y", "v"], "backend": backend, **options}
    return gbreg.fit(FRAME if frame is None else frame, **call)


def wls(rows: pd.DataFrame, names: list[str], target: str, w: Any, intercept: bool) -> Any:
    X = rows[names].to_numpy()
    X = np.column_stack([np.ones(len(rows)), X]) if intercept else X
    return sm.WLS(rows[target].to_numpy(), X, weights=w, hasconst=intercept).fit()


@pytest.mark.parametrize("small", [["x"], ["u", "x"], []])
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_those_of_statsmodels(backend: str, kind: str, small: list[str]) -> None:
    if kind == "through zero" and not small:
        small = ["z"]
    large = ["x", "z", "u"]
    got = fitted(large, backend, **KINDS[kind]).compare(fitted(small, backend, **KINDS[kind]))
    assert got.columns.names == ["target", "comparison"]
    assert list(got["y"].columns) == COLUMNS
    intercept = KINDS[kind].get("intercept", True)
    for key, rows in FRAME.groupby("g"):
        used = rows.loc[rows.index.repeat(rows["n"])] if kind == "counts" else rows
        w = used["w"].to_numpy() if "w" in KINDS[kind].values() else np.ones(len(used))
        for target in ("y", "v"):
            full, part = (wls(used, names, target, w, intercept) for names in (large, small))
            f, p, df = full.compare_f_test(part)
            own = got.loc[key, target]
            # F is a difference of two sums of squares, known to some 1e-15 x df_resid
            np.testing.assert_allclose(own[["f", "df_diff"]], [f, df], rtol=1e-8, atol=1e-12)
            np.testing.assert_allclose(own["p_value"], p, rtol=1e-8, atol=1e-300)
            deltas = [full.aic - part.aic, full.bic - part.bic]
            np.testing.assert_allclose(own[["delta_aic", "delta_bic"]], deltas, rtol=1e-8, atol=1e-10)


def test_the_order_does_not_matter() -> None:
    large, small = fitted(["z", "x"], weights="w"), fitted(["x"], "numba", weights="w")
    pd.testing.assert_frame_equal(large.compare(small), small.compare(large), check_exact=True)


def test_all_slopes_against_none_are_fvalue_and_the_intercept_is_a_term() -> None:
    large = fitted(["x", "z"], weights="w")
    got = large.compare(fitted([], weights="w"))
    np.testing.assert_allclose(got.xs("f", axis=1, level="comparison"), large.fvalue, rtol=1e-9)
    through = large.compare(fitted(["x", "z"], weights="w", intercept=False))
    want = large.wald_test("Intercept = 0").xs("statistic", axis=1, level="test")
    np.testing.assert_allclose(through.xs("f", axis=1, level="comparison"), want, rtol=1e-8)


def test_groups_without_comparison() -> None:
    frame = pd.DataFrame(
        {
            "g": [0] * 3 + [1] * 5 + [2] * 5 + [3] * 2,
            "x": [0.0, 1, 2, 0, 1, 2, 4, 5, 0, 1, 2, 3, 4, 1, 2],
            "z": [1.0, 0, 1, 3, 3, 3, 3, 3, 0, 1, 0, 0, 1, 1, 1],
        }
    )
    frame["y"] = [1.0, 2, 4, 1, 3, 5, 9, 1, 2, 4, 4, 6, 8, 1, 2]
    frame.loc[8:12, "y"] = frame["x"] + 2 * frame["z"]
    frame["v"] = frame["y"]
    small = fitted(["x"], frame=frame)
    with pytest.warns(gbreg.GbregWarning):
        large = fitted(["x", "z"], frame=frame)
    got = large.compare(small)["y"]
    assert large.status["y"].tolist() == ["saturated", "rank_deficient", "ok", "too_few_rows"]
    assert got["f"].isna().all()
    assert got["p_value"].isna().all()
    np.testing.assert_array_equal(got["df_diff"], [1, 0, 1, np.nan])
    assert got["delta_aic"].notna().tolist() == [False, True, False, False]


def test_rank_deficient_groups_count_independent_terms() -> None:
    frame = FRAME.assign(c=lambda d: d["x"] - d["z"])
    with pytest.warns(gbreg.GbregWarning):
        large = fitted(["x", "z", "c"], frame=frame)
    got = large.compare(fitted(["x"], frame=frame))
    want = fitted(["x", "z"]).compare(fitted(["x"]))
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def test_what_cannot_be_compared() -> None:
    frame = FRAME
    fit = fitted(["x", "z"], weights="w")
    cases: list[tuple[Any, str]] = [
        (3, "compare takes another GroupFit, got int"),
        (fitted(["x", "z"], weights="w"), "both fits have the terms"),
        (fitted(["u"], weights="w"), r"not nested: \['u'\] are terms of the one with .*'Intercept', 'u'"),
        (fitted(["x"], weights="w", targets=["y"]), r"targets \['y', 'v'\] and \['y'\]"),
        (fitted(["x"], weights="w", cov_type="known"), "compare needs cov_type='classical'"),
        (fitted(["x"], frame=frame[frame["g"] > 2], weights="w"), "10 and 7 keys, 7 in common"),
        (fitted(["x"]), "sums of the weights differ: in 10 of 10 groups, first 0 for target 'y'"),
        (fitted(["x"], weights="n", weights_type="frequency"), "weights_type is 'analytic' and 'frequency'"),
        (fitted(["x"], frame=frame.assign(v=-2 * frame["v"]), weights="w"), "values of the target differ"),
    ]
    less = frame.assign(v=frame["v"].where(frame.index != frame.index[frame["g"] == 4][0]))
    match = "nobs differ; fit both on the same rows.*in 1 of 10 groups, first 4 for target 'v'"
    cases.append((fitted(["x"], frame=less, weights="w"), match))
    for other, message in cases:
        with pytest.raises(SpecError, match=message):
            fit.compare(other)
    with pytest.raises(SpecError, match="compare needs cov_type='classical', this fit has 'known'"):
        fitted(["x", "z"], weights="w", cov_type="known").compare(fit)


def test_other_rows_are_found_whatever_the_intercepts_are() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 40), "x": rng.normal(size=80), "y": rng.normal(size=80)})
    first = np.arange(80) % 2 == 0
    one = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], where=first)
    other = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], where=~first, intercept=False)
    with pytest.raises(gbreg.SpecError, match="the values of the target differ"):
        one.compare(other)
    same = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], where=first, intercept=False)
    assert one.compare(same)["y"]["f"].notna().all()


def test_code_of_one_name_may_be_other_code() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(
        {"g": 0, "x": rng.normal(size=40), "z": rng.normal(size=40), "y": rng.normal(size=40)}
    )
    square = ("u", lambda f: f["x"] ** 2)
    large = frame.gbreg.fit(by="g", linear=[square, "z"], targets=["y"])
    assert frame.gbreg.fit(by="g", linear=[square], targets=["y"]).compare(large)["y"]["f"].notna().all()
    other = frame.gbreg.fit(by="g", linear=[("u", lambda f: f["x"])], targets=["y"])
    with pytest.raises(gbreg.SpecError, match="'u' is computed by code that may differ"):
        other.compare(large)


def test_a_stored_fit_has_the_same_groups(tmp_path):
    """Missing keys are the same keys, however an index stores them."""
    pytest.importorskip("pyarrow")
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"a": rng.integers(0, 2, 80) * 1.0, "b": rng.integers(0, 2, 80)})
    frame.loc[:9, "a"] = np.nan
    frame[["x", "z", "y"]] = rng.normal(size=(80, 3))
    call = {"by": ["a", "b"], "targets": ["y"], "dropna": False, "backend": "numpy"}
    small, large = (frame.gbreg.fit(linear=linear, **call) for linear in (["x"], ["x", "z"]))
    small.to_parquet(tmp_path / "small.parquet")
    stored = gbreg.read_parquet(tmp_path / "small.parquet")
    want = small.compare(large).reset_index(drop=True)
    pd.testing.assert_frame_equal(stored.compare(large).reset_index(drop=True), want, check_exact=True)
    with pytest.raises(SpecError, match="6 and 4 keys, 4 in common"):
        small.compare(frame[10:].gbreg.fit(linear=["x", "z"], **call))


def test_a_predictor_that_was_changed_between_the_fits_is_refused(backend: str) -> None:
    small = fitted(["x"], backend)
    with pytest.raises(SpecError, match="the values of 'x' differ"):
        small.compare(fitted(["x", "z"], backend, FRAME.assign(x=np.exp(FRAME["x"]))))
    whole = FRAME.assign(x=np.arange(len(FRAME)) % 7)
    moved = whole.assign(x=whole["x"] + 1)
    with pytest.raises(SpecError, match="the values of 'x' differ"):
        fitted(["x"], backend, whole).compare(fitted(["x", "z"], backend, moved))
