# SPDX-License-Identifier: MIT
"""Labels, rows and tables of a fit; the statistics themselves are tested in test_inference.py."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib.util
import pickle
import subprocess
import sys
import warnings
import weakref
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg.problem import Flag, Status

STATISTICS = ["params", "bse", "tvalues", "pvalues", "nobs", "df_resid", "ssr", "scale", "rms", "mad"]
STATISTICS += [
    "rsquared",
    "rsquared_adj",
    "aic",
    "bic",
    "llf",
    "condition_number",
    "digits",
    "status",
    "flags",
]
WORDS = ["ok", "saturated", "too_few_rows", "no_data", "rank_deficient", "not_converged", "overflow"]
WORDS += ["fallback"]


def detector(n: int = 240, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"sector": rng.integers(0, 6, n), "row": rng.choice(["a", "b"], n)})
    frame["x"], frame["z"] = rng.normal(size=n), rng.normal(3, 2, n)
    frame["w"] = rng.uniform(0.5, 2, n)
    frame["dX"] = 1 + 2 * frame["x"] - frame["z"] + rng.normal(size=n)
    frame["dY"] = frame["sector"] - frame["x"] + rng.normal(size=n)
    frame.index = rng.permutation(n) // 3  # duplicates, out of order
    return frame


FRAME = detector()


def fitted(frame: pd.DataFrame = FRAME, **changes: object) -> gbreg.GroupFit:
    call = {"by": ["sector", "row"], "linear": ["x", "z"], "targets": ["dX", "dY"], "weights": "w"}
    return gbreg.fit(frame, **{**call, "backend": "numpy", **changes})


def rows_of(frame: pd.DataFrame, key: tuple[int, str]) -> np.ndarray:
    return ((frame["sector"] == key[0]) & (frame["row"] == key[1])).to_numpy()


def least_squares(frame: pd.DataFrame, target: str) -> np.ndarray:
    """Coefficients of numpy's lstsq, intercept first."""
    root = np.sqrt(frame["w"].to_numpy())
    X = np.column_stack([np.ones(len(frame)), frame[["x", "z"]]])
    return np.linalg.lstsq(X * root[:, None], frame[target].to_numpy() * root, rcond=None)[0]


# ---------------------------------------------------------------------- frames and their labels


def test_every_frame_is_indexed_by_the_keys() -> None:
    fit = fitted()
    keys = FRAME.groupby(["sector", "row"]).size().index
    pd.testing.assert_index_equal(fit.keys, keys)
    for name in STATISTICS:
        pd.testing.assert_index_equal(getattr(fit, name).index, keys)
    assert len(fit) == fit.n_groups == len(keys)


def test_columns_are_targets_or_targets_and_terms() -> None:
    fit = fitted()
    assert fit.terms == ("Intercept", "x", "z")
    pairs = [(target, term) for target in ("dX", "dY") for term in fit.terms]
    for name in ("params", "bse", "tvalues", "pvalues"):
        assert list(getattr(fit, name).columns) == pairs
        assert getattr(fit, name).columns.names == ["target", "term"]
    bounds = fit.conf_int()
    assert list(bounds.columns) == [(*pair, side) for pair in pairs for side in ("lower", "upper")]
    for name in ("nobs", "df_resid", "rms", "mad", "rsquared", "llf", "status", "digits"):
        assert list(getattr(fit, name).columns) == ["dX", "dY"]
        assert getattr(fit, name).columns.name == "target"
    assert (fit.nobs.dtypes == np.int64).all()
    words = [flag.word for flag in Flag]
    assert list(fit.flags.columns) == [(target, word) for target in ("dX", "dY") for word in words]
    assert all(dtype.kind == "b" for dtype in fit.flags.dtypes)


def test_the_numbers_stand_under_their_labels() -> None:
    fit = fitted()
    for key in fit.keys:
        rows = FRAME[rows_of(FRAME, key)]
        for target in ("dX", "dY"):
            want = least_squares(rows, target)
            np.testing.assert_allclose(fit.params.loc[key, target], want, rtol=1e-10, atol=1e-11)
            assert fit.nobs.loc[key, target] == len(rows)


def test_intervals_narrow_with_alpha_about_the_coefficients() -> None:
    fit = fitted()
    wide, narrow = fit.conf_int(alpha=0.01), fit.conf_int(alpha=0.5)
    low, high = (wide.xs(side, axis=1, level=2) for side in ("lower", "upper"))
    np.testing.assert_allclose((low + high) / 2, fit.params, rtol=1e-9, atol=1e-12)
    assert (low < narrow.xs("lower", axis=1, level=2)).all(axis=None)
    for alpha in (0, 1, -0.1, 2, np.nan):
        with pytest.raises(gbreg.SpecError, match="alpha"):
            fit.conf_int(alpha=alpha)


@pytest.mark.parametrize("by", [["sector", "row"], "sector", ["row"]])
def test_covariances_are_symmetric_with_the_errors_on_the_diagonal(by: object) -> None:
    fit = fitted(by=by)
    cov = fit.cov_params("dY")
    assert cov.index.names == [*fit.keys.names, "term"]
    assert list(cov.columns) == list(fit.terms)
    assert len(cov) == 3 * len(fit)
    for i, key in enumerate(fit.keys):
        block = cov.iloc[3 * i : 3 * i + 3]
        assert list(block.index) == [
            (*(key if isinstance(key, tuple) else (key,)), term) for term in fit.terms
        ]
        np.testing.assert_allclose(np.sqrt(np.diag(block)), fit.bse.loc[key, "dY"], rtol=1e-13)
        np.testing.assert_array_equal(block, block.T)
        assert cov.loc[key].shape == (3, 3)


def test_covariances_keep_keys_that_are_missing_or_categories() -> None:
    frame = FRAME.assign(row=FRAME["row"].astype("category"), sector=FRAME["sector"].astype(float))
    frame.loc[frame["sector"] == 2, "sector"] = np.nan
    cov = fitted(frame, by="sector", dropna=False).cov_params("dX")
    assert np.isnan(cov.index.get_level_values(0)[-3:]).all()
    cov = fitted(frame, by=["row", "sector"], dropna=False).cov_params("dX")
    assert cov.index.get_level_values("row").dtype == frame["row"].dtype
    assert cov.index.get_level_values("sector").isna().sum() == 6


def test_an_unknown_target_is_named_with_the_nearest() -> None:
    with pytest.raises(gbreg.SpecError, match=r"'dx' is not a target.*did you mean 'dX'"):
        fitted().cov_params("dx")


def test_mad_was_asked_for_or_is_refused() -> None:
    fit = fitted(mad=False)
    with pytest.raises(gbreg.SpecError, match="mad=True"):
        _ = fit.mad
    assert "dX_mad" not in fit.to_frame()
    with pytest.raises(gbreg.SpecError, match="mad=True"):
        fit.to_frame(stats=["mad"])
    assert fit.glance()["mad"].isna().all()


def test_tuples_are_single_labels() -> None:
    names = {"x": ("in", "x"), "dX": ("out", 1), "dY": ("out", 2)}
    frame = FRAME.drop(columns="z")
    frame.columns = pd.Index([names.get(c, c) for c in frame.columns], tupleize_cols=False)
    fit = fitted(frame, by="sector", linear=[("in", "x")], targets=[("out", 1), ("out", 2)])
    want = fitted(by="sector", linear=["x"])
    assert list(fit.params.columns) == [
        (target, term) for target in fit.targets for term in ("Intercept", ("in", "x"))
    ]
    assert list(fit.nobs.columns) == [("out", 1), ("out", 2)]
    np.testing.assert_array_equal(fit.params, want.params)
    assert fit.cov_params(("out", 2)).shape == (12, 2)
    assert list(fit.to_frame(stats=["params"]))[1:3] == ["out_1_intercept", "out_1_slope_in_x"]
    assert list(fit.predict(frame).columns) == [("out", 1), ("out", 2)]
    got = fit.augment(frame)
    np.testing.assert_array_equal(got["out_2_resid"], want.augment(FRAME)["dY_resid"])
    assert fit.tidy()["target"].iloc[-1] == ("out", 2)


def test_columns_of_several_levels() -> None:
    frame = FRAME.set_axis(pd.MultiIndex.from_tuples([(c, "") for c in FRAME.columns]), axis=1)
    names = {"by": [("sector", ""), ("row", "")], "linear": [("x", ""), ("z", "")], "weights": ("w", "")}
    fit = fitted(frame, targets=[("dX", ""), ("dY", "")], **names)
    np.testing.assert_array_equal(fit.params, fitted().params)
    np.testing.assert_array_equal(fit.resid(frame), fitted().resid(FRAME))


# ---------------------------------------------------------------------- status and accounting


def trouble() -> gbreg.GroupFit:
    frame = pd.DataFrame({"g": np.repeat(list("abcdef"), [5, 2, 1, 3, 4, 4])})
    frame["x"] = [0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 7, 7, 7, 7, 0, 1, 2, 3.0]
    frame["y"] = [1, 2, 4, 3, 5, 1, 2, 1, 3, 4, 3, 1, 2, 3, 4, 5, 5, 5, 5.0]
    frame.loc[frame["g"] == "d", "y"] = np.nan
    frame["v"] = np.arange(19.0) ** 2
    frame.loc[0, "v"] = np.inf
    with pytest.warns(gbreg.GbregWarning):
        return gbreg.fit(frame, by="g", linear=["x"], targets=["y", "v"], backend="numpy")


def test_status_says_why_in_words() -> None:
    fit = trouble()
    want = ["ok", "saturated", "too_few_rows", "no_data", "rank_deficient", "ok"]
    assert fit.status["y"].tolist() == want
    assert fit.status["v"].tolist() == [*want[:3], "ok", *want[4:]]
    for target in ("y", "v"):
        assert fit.status[target].cat.categories.tolist() == WORDS == [s.word for s in Status]
    numbers = fit.params["y", "x"].isna().tolist()
    assert numbers == [False, False, True, True, True, False]
    assert fit.bse["y", "x"].isna().tolist() == [False, True, True, True, True, False]


def test_statuses_are_counted_with_those_that_do_not_occur() -> None:
    counts = trouble().status_counts()
    assert counts.index.tolist() == WORDS
    assert counts["y"].tolist() == [2, 1, 1, 1, 1, 0, 0, 0]
    assert counts["v"].tolist() == [3, 1, 1, 0, 1, 0, 0, 0]


def test_flags_of_a_constant_target_and_of_dropped_rows() -> None:
    flags = trouble().flags
    assert flags["y", "constant_target"].tolist() == [False] * 5 + [True]
    assert flags["y", "perfect_fit"].tolist() == [False] * 5 + [True]
    assert flags["y", "rows_dropped"].tolist() == [False] * 3 + [True] + [False] * 2
    assert flags["v", "rows_dropped"].tolist() == [True] + [False] * 5
    assert np.isnan(trouble().rsquared.loc["f", "y"])
    assert trouble().tvalues.loc["f", "y"].isna().all()


def test_every_row_is_accounted_for() -> None:
    frame = FRAME.reset_index(drop=True).astype({"sector": float})
    frame.loc[::11, "sector"] = np.nan
    frame.loc[1::13, "w"] = 0
    frame.loc[2::7, "x"] = np.nan
    frame.loc[3::9, "dX"] = np.inf
    frame.loc[4::5, "dY"] = np.nan
    fit = fitted(frame, where=frame["z"] > 1)
    total = fit.accounting()
    assert list(total.columns) == [
        "rows", "used", "missing", "infinite", "clipped", "zero_weight", "not_selected", "without_key"
    ]  # fmt: skip
    assert total.index.tolist() == ["dX", "dY"]
    assert (total["rows"] == len(frame)).all()
    assert (total.iloc[:, 1:].sum(axis=1) == total["rows"]).all()
    keyed = frame["sector"].notna()
    selected = keyed & (frame["z"] > 1)
    weighted = selected & (frame["w"] > 0)
    assert (total["without_key"] == (~keyed).sum()).all()
    assert (total["not_selected"] == (keyed & ~selected).sum()).all()
    assert (total["zero_weight"] == (selected & ~weighted).sum()).all()
    for target in ("dX", "dY"):
        nan = weighted & (frame["x"].isna() | frame[target].isna())
        inf = weighted & ~nan & np.isinf(frame[target])
        assert total.loc[target, "missing"] == nan.sum()
        assert total.loc[target, "infinite"] == inf.sum()
    groups = fit.accounting(per_group=True)
    pd.testing.assert_index_equal(groups.index, fit.keys)
    assert "without_key" not in groups["dX"]
    for target in ("dX", "dY"):
        assert (groups[target].iloc[:, 1:].sum(axis=1) == groups[target, "rows"]).all()
        np.testing.assert_array_equal(groups[target, "used"], fit.nobs[target])
        sums = groups[target].drop(columns="rows").sum()
        assert (sums == total.loc[target, sums.index]).all()


# ---------------------------------------------------------------------- rows of a frame


def test_predictions_are_intercept_plus_slopes_on_the_callers_rows() -> None:
    fit = fitted()
    before = FRAME.copy()
    got = fit.predict(FRAME)
    pd.testing.assert_frame_equal(FRAME, before)
    pd.testing.assert_index_equal(got.index, FRAME.index)
    assert list(got.columns) == ["dX", "dY"]
    for key in fit.keys:
        rows = rows_of(FRAME, key)
        for target in ("dX", "dY"):
            a, b, c = fit.params.loc[key, target]
            want = a + b * FRAME["x"][rows] + c * FRAME["z"][rows]
            np.testing.assert_allclose(got[target][rows], want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(fit.resid(FRAME), FRAME[["dX", "dY"]] - got, atol=1e-13)


def test_fitted_values_are_predictions_also_of_rows_that_took_no_part() -> None:
    frame = FRAME.reset_index(drop=True)
    frame.loc[0, "dX"], frame.loc[1, "w"], frame.loc[2, "x"] = np.nan, 0.0, np.nan
    fit = fitted(frame, where=frame.index != 3)
    got = fit.fittedvalues(frame)
    pd.testing.assert_frame_equal(got, fit.predict(frame), check_exact=True)
    assert got.index[got["dX"].isna()].tolist() == [2]
    with pytest.raises(gbreg.MissingDataError, match="1 of 240 rows"):
        fit.fittedvalues(frame, missing="raise")
    renamed = frame.rename(columns={"sector": "s"})
    by = [renamed["s"], renamed["row"]]
    pd.testing.assert_frame_equal(fit.fittedvalues(renamed, by=by), got, check_exact=True)


@pytest.mark.parametrize("intercept", [True, False])
def test_residuals_are_orthogonal_to_the_design(intercept: bool) -> None:
    resid = fitted(intercept=intercept).resid(FRAME).mul(FRAME["w"].to_numpy(), axis=0)
    terms = FRAME[["x", "z"]].assign(one=1.0) if intercept else FRAME[["x", "z"]]
    for term in terms:
        product = resid.mul(terms[term].to_numpy(), axis=0)
        sums = product.groupby([FRAME["sector"].to_numpy(), FRAME["row"].to_numpy()]).sum()
        assert sums.abs().max(axis=None) < 1e-10


def test_a_shuffled_frame_gets_the_same_numbers_in_its_own_order() -> None:
    fit = fitted()
    order = np.random.default_rng(4).permutation(len(FRAME))
    got = fit.predict(FRAME.iloc[order])
    pd.testing.assert_frame_equal(got, fit.predict(FRAME).iloc[order], check_exact=True)


def test_groups_that_were_not_seen_are_nan_or_refused() -> None:
    fit = fitted()
    new = detector(30, seed=9).assign(row="a")
    new["sector"] = np.where(np.arange(30) % 3 == 0, 77, new["sector"])
    unseen = (new["sector"] == 77).to_numpy()
    got = fit.predict(new)
    np.testing.assert_array_equal(got["dX"].isna(), unseen)
    with pytest.raises(gbreg.MissingDataError, match=f"10 of 30 rows .*first at \\[{new.index[0]}, "):
        fit.predict(new, missing="raise")
    pd.testing.assert_frame_equal(fit.predict(new[~unseen], missing="raise"), got[~unseen], check_exact=True)
    with pytest.raises(gbreg.SpecError, match="missing must be"):
        fit.predict(new, missing="drop")


def test_missing_predictors_and_groups_without_a_fit_are_nan() -> None:
    frame = pd.DataFrame({"g": list("abcdef"), "x": [1.0, 1, 1, 1, 7, np.nan]})
    got = trouble().predict(frame)  # x is always 7 in e
    assert got["y"].isna().tolist() == [False, False, True, True, False, True]
    assert got["v"].isna().tolist() == [False, False, True, False, False, True]


def test_infinite_predictors_are_missing_as_they_are_in_a_fit() -> None:
    frame = pd.DataFrame({"g": list("aabf"), "x": [np.inf, -np.inf, 1.0, np.inf]})
    fit = trouble()
    assert fit.predict(frame)["y"].isna().tolist() == [True, True, False, True]
    with pytest.raises(gbreg.MissingDataError, match=r"3 of 4 rows .*3 with a predictor missing or infinite"):
        fit.predict(frame, missing="raise")


def test_each_reason_for_a_missing_prediction_is_counted() -> None:
    frame = pd.DataFrame(
        {"g": ["a", "c", "e", "zz", None, "a"], "x": [1.0, 1, 1, 1, 1, np.nan]}, index=list("uvwxyz")
    )
    counts = (
        "2 in groups that were not fitted or do not determine it, 1 with a predictor missing or infinite, "
        "2 without key or in groups"
    )
    with pytest.raises(gbreg.MissingDataError, match=rf"5 of 6 rows .*{counts}.*first at \['v', 'w', 'x'\]"):
        trouble().predict(frame, missing="raise")
    with pytest.raises(gbreg.MissingDataError, match="5 of 6"):
        trouble().resid(frame.assign(y=0.0, v=0.0), missing="raise")


def test_frames_without_rows_and_fits_without_groups() -> None:
    fit, none = fitted(), fitted(FRAME.iloc[:0])
    assert fit.predict(FRAME.iloc[:0]).shape == (0, 2)
    assert fit.augment(FRAME.iloc[:0]).shape == (0, FRAME.shape[1] + 10)
    got = none.predict(FRAME)
    assert got.isna().all(axis=None)
    pd.testing.assert_index_equal(got.index, FRAME.index)
    for name in STATISTICS:
        assert len(getattr(none, name)) == 0
    assert list(none.to_frame()) == list(fit.to_frame())
    assert list(none.tidy()) == list(fit.tidy())
    assert none.accounting()["rows"].tolist() == [0, 0]
    assert none.cov_params("dX").shape == (0, 3)
    assert none.status_counts().to_numpy().sum() == 0


def missing_keys() -> pd.DataFrame:
    frame = FRAME.reset_index(drop=True)
    frame["sector"] = frame["sector"].astype(float)
    frame["row"] = frame["row"].astype(object)
    frame.loc[frame["sector"] == 3, "sector"] = np.nan
    frame.loc[::4, "row"] = None
    return frame


@pytest.mark.parametrize("by", ["sector", "row", ["sector", "row"], ["row", "sector"]])
def test_missing_keys_are_groups_like_others_if_they_were_kept(by: object) -> None:
    frame = missing_keys()
    kept, dropped = fitted(frame, by=by, dropna=False), fitted(frame, by=by)
    got = kept.predict(frame)
    assert got.notna().all(axis=None)
    for rows in frame.groupby(by, dropna=False).indices.values() if isinstance(by, str) else ():
        alone = fitted(frame.iloc[rows], by=np.zeros(len(rows)))
        np.testing.assert_allclose(got.iloc[rows], alone.predict(frame.iloc[rows], by=np.zeros(len(rows))))
    given = frame[by] if isinstance(by, str) else [frame[key] for key in by]
    pd.testing.assert_frame_equal(kept.predict(frame, by=given), got, check_exact=True)
    keyless = frame[[by] if isinstance(by, str) else by].isna().any(axis=1)
    want = got.copy()
    want[keyless] = np.nan
    pd.testing.assert_frame_equal(dropped.predict(frame), want, check_exact=True)


@pytest.mark.parametrize(
    "recode",
    [
        pytest.param(lambda s: s.astype("category"), id="same categories"),
        pytest.param(lambda s: pd.Categorical(s, categories=["new", "b", "a"]), id="others in another order"),
        pytest.param(lambda s: s.astype("string"), id="string"),
        pytest.param(lambda s: s.astype(object), id="object"),
    ],
)
@pytest.mark.parametrize("by", ["row", ["row", "sector"]])
@pytest.mark.parametrize("observed", [True, False])
def test_keys_are_matched_by_value_not_by_dtype(recode: object, by: object, observed: bool) -> None:
    fit = fitted(FRAME.assign(row=FRAME["row"].astype("category")), by=by, observed=observed)
    got = fit.predict(FRAME.assign(row=recode(FRAME["row"])))
    pd.testing.assert_frame_equal(got, fitted(by=by).predict(FRAME), check_exact=True)


def test_nullable_and_integer_keys_match() -> None:
    frame = FRAME.assign(sector=FRAME["sector"].astype("Int64"))
    want = fitted(by="sector").predict(FRAME)
    pd.testing.assert_frame_equal(fitted(frame, by="sector").predict(FRAME), want, check_exact=True)
    pd.testing.assert_frame_equal(fitted(by="sector").predict(frame), want, check_exact=True)


@pytest.mark.parametrize("form", [np.asarray, pd.Series, list, pd.Categorical, pd.Index])
@pytest.mark.parametrize("several", [False, True])
def test_keys_beside_the_frame_are_not_kept_and_never_guessed(form: object, several: bool) -> None:
    frame = FRAME.reset_index(drop=True)
    keys = (frame["sector"] % 2).to_numpy()
    by = form(keys)
    if several or form is list:
        by = [by, "row"]
    fit = fitted(frame, by=by)
    parity = frame.assign(parity=keys)
    want = fitted(parity, by=["parity", "row"] if isinstance(by, list) else "parity").predict(parity)
    with pytest.raises(gbreg.SpecError, match="by="):  # the rows may be others, in another order
        fit.predict(frame)
    pd.testing.assert_frame_equal(fit.predict(frame, by=by), want, check_exact=True)
    part = [keys[:7], "row"] if isinstance(by, list) else keys[:7]
    pd.testing.assert_frame_equal(fit.predict(frame.iloc[:7], by=part), want.iloc[:7], check_exact=True)
    pd.testing.assert_frame_equal(
        fit.augment(frame, by=by)[["dX_fitted"]], want[["dX"]].set_axis(["dX_fitted"], axis=1)
    )


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        (lambda i: i % 3, lambda d: d.index % 3),
        ({i: i % 3 for i in range(200)}, lambda d: d.index % 3),
        (pd.Grouper(key="sector"), lambda d: d["sector"].to_numpy()),
        (pd.Grouper(level=0), lambda d: d.index),
        (["row", lambda i: i % 3], lambda d: [d["row"].to_numpy(), d.index % 3]),
    ],
)
def test_keys_that_are_code_are_kept_until_the_fit_is_stored(by: object, keys: object) -> None:
    fit = fitted(FRAME.sort_values("x"), by=by, linear=[])
    want = fitted(FRAME.sort_values("x"), by=keys(FRAME.sort_values("x")), linear=[])
    want = want.predict(FRAME, by=keys(FRAME))
    assert want.notna().all(axis=None)
    pd.testing.assert_frame_equal(fit.predict(FRAME), want, check_exact=True)
    stored = pickle.loads(pickle.dumps(fit))
    with pytest.raises(gbreg.SpecError, match="by="):
        stored.predict(FRAME)


def test_keys_given_for_one_call_may_be_fewer_or_missing() -> None:
    fit = fitted(by="sector")
    keys = pd.Series(np.where(FRAME["sector"] == 1, np.nan, FRAME["sector"]), index=FRAME.index)
    got, want = fit.predict(FRAME, by=keys), fit.predict(FRAME)
    want[FRAME["sector"].to_numpy() == 1] = np.nan
    pd.testing.assert_frame_equal(got, want, check_exact=True)
    with pytest.raises(gbreg.SpecError, match=r"the groups have 1 keys, .*, not 2"):
        fit.predict(FRAME, by=["sector", "row"])


def test_levels_of_the_index_are_keys_too() -> None:
    frame = FRAME.set_index(["sector", "row"])
    fit = fitted(frame, by=None, level=["sector", "row"])
    got = fit.predict(frame)
    np.testing.assert_array_equal(got, fitted().predict(FRAME))
    pd.testing.assert_index_equal(got.index, frame.index)


def test_offsets_cost_no_digits() -> None:
    rng = np.random.default_rng(11)
    frame = pd.DataFrame({"g": 0, "x": 1e8 + rng.uniform(-1, 1, 50)})
    frame["y"] = 3 * (frame["x"] - 1e8)  # exactly representable difference, times 3
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    assert fit.resid(frame).abs().max(axis=None) < 1e-14
    naive = fit.params.iloc[0, 0] + fit.params.iloc[0, 1] * frame["x"] - frame["y"]
    assert naive.abs().max() > 1e-10  # what the centre saves


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64"])
def test_integers_beyond_float64_are_subtracted_as_integers(dtype: str) -> None:
    start = 2**63 + 2**62 if dtype == "uint64" else 2**62
    steps = np.array([0, 1, 2, 5, 7, 0, 3, 4, 8, 9])
    frame = pd.DataFrame({"g": np.repeat([0, 1], 5)})
    frame["t"] = pd.array([start + 10**6 * g + int(s) for g, s in zip(frame["g"], steps, strict=True)], dtype)
    frame["y"] = 0.5 * steps + np.tile([0.01, -0.01], 5)
    fit = gbreg.fit(frame, by="g", linear=["t"], targets=["y"], backend="numpy")
    small = gbreg.fit(frame.assign(t=steps), by="g", linear=["t"], targets=["y"], backend="numpy")
    got, want = fit.predict(frame), small.predict(frame.assign(t=steps))
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14)
    shuffled = frame.sample(frac=1, random_state=0)  # another first row, the same origin
    np.testing.assert_allclose(fit.predict(shuffled).sort_index(), want, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(fit.resid(frame)["y"], frame["y"] - want["y"], atol=1e-14)


def test_integer_targets_beyond_float64_have_exact_residuals() -> None:
    noise = [0, 3, -1, -4, 2]
    frame = pd.DataFrame({"g": 0, "x": range(5), "y": [2**61 + 1 + 7 * i + e for i, e in enumerate(noise)]})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    small = frame.assign(y=frame["y"] - 2**61)
    want = gbreg.fit(small, by="g", linear=["x"], targets=["y"], backend="numpy").resid(small)
    np.testing.assert_allclose(fit.resid(frame), want, atol=1e-14)
    np.testing.assert_array_equal(fit.predict(frame)["y"], 2.0**61)


@pytest.mark.parametrize(("fit_dtype", "new_dtype"), [("int64", "uint64"), ("uint64", "int64")])
def test_another_integer_dtype_never_wraps(fit_dtype: str, new_dtype: str) -> None:
    start = {"int64": -(2**62), "uint64": 2**63 + 2**62}[fit_dtype]
    frame = pd.DataFrame({"g": 0, "x": np.array([start + 2**50 * i for i in range(5)], dtype=fit_dtype)})
    frame["y"] = 2.0 * np.arange(5) + [0.1, -0.1, 0, 0.1, -0.1]
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    x = {"int64": -(2**61) - 3, "uint64": 2**64 - 1}[new_dtype]
    got = fit.predict(pd.DataFrame({"g": [0], "x": np.array([x], dtype=new_dtype)})).iloc[0, 0]
    want = fit.params.iloc[0, 1] * float(x - start - 2**51) + fit.estimates.level[0, 0]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_integers_of_another_dtype_are_still_subtracted_exactly() -> None:
    start = 2**62 + 1
    frame = pd.DataFrame({"g": 0, "x": [start + i for i in range(6)], "y": [0.1, 1.0, 1.9, 3.1, 3.9, 5.0]})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    want = fit.predict(frame)["y"]
    mixed = pd.DataFrame({"g": [*[0] * 6, 9], "x": np.array([*frame["x"], 2**64 - 1], dtype=np.uint64)})
    np.testing.assert_array_equal(fit.predict(mixed)["y"][:6], want)
    gaps = pd.DataFrame({"g": 0, "x": pd.array([*frame["x"], None], dtype="Int64")})
    np.testing.assert_array_equal(fit.predict(gaps)["y"], [*want, np.nan])


def test_floats_at_an_integer_origin_are_taken_as_what_they_are() -> None:
    start = 2**60
    frame = pd.DataFrame({"g": 0, "x": [start + 1 + 256 * i for i in range(6)]})
    frame["y"] = np.arange(6) * 1.0 + [0.1, 0, -0.1, 0.1, -0.1, 0]
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    x = float(start + 512)  # exact; the reference start + 1 is not a float
    whole = fit.predict(pd.DataFrame({"g": [0], "x": [start + 512]}))
    np.testing.assert_array_equal(fit.predict(pd.DataFrame({"g": [0], "x": [x]})), whole)
    small = fit.predict(pd.DataFrame({"g": [0, 0, 0], "x": [0.5, np.nan, -np.inf]}))["y"].to_numpy()
    slope, level = fit.params.iloc[0, 1], fit.estimates.level[0, 0]
    np.testing.assert_allclose(small[0], level + slope * (0.5 - (start + 641)), rtol=1e-14)
    assert np.isnan(small[1:]).all()


def test_through_zero_large_integers_are_their_own_size() -> None:
    frame = pd.DataFrame({"g": 0, "x": [2**60 + 2**40 * i for i in range(6)]})
    frame["y"] = 3.0 * frame["x"].astype(float) * (1 + np.array([1, -1, 1, 1, -1, -1]) * 1e-3)
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], intercept=False, backend="numpy")
    x, y = frame["x"].to_numpy(float), frame["y"].to_numpy()
    np.testing.assert_allclose(fit.params.iloc[0, 0], (x / 2**60) @ (y / 2**60) / ((x / 2**60) @ (x / 2**60)))
    np.testing.assert_allclose(fit.predict(frame)["y"], fit.params.iloc[0, 0] * x, rtol=1e-12)
    np.testing.assert_allclose(fit.resid(frame)["y"], y - fit.params.iloc[0, 0] * x, rtol=1e-9)


@pytest.mark.parametrize("on_collinear", ["nan", "drop"])
def test_dropped_predictors_predict_nothing_that_the_others_do_not(on_collinear: str) -> None:
    frame = FRAME.assign(twice=2 * FRAME["x"])
    with pytest.warns(gbreg.GbregWarning, match="rank_deficient"):
        fit = fitted(frame, linear=["x", "twice"], on_collinear=on_collinear)
    got = fit.predict(frame)
    want = fitted(linear=["x"]).predict(FRAME)
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
    assert fit.predict(frame.assign(twice=np.nan)).isna().all(axis=None)
    if on_collinear == "nan":
        assert fit.predict(frame.assign(twice=1e9)).isna().all(axis=None)
    else:
        with pytest.warns(gbreg.GbregWarning, match="as if it had no effect"):
            moved = fit.predict(frame.assign(twice=1e9))
        pd.testing.assert_frame_equal(moved, got, check_exact=True)


def test_derived_columns_are_derived_again() -> None:
    fit = fitted(linear=["x", ("x2", lambda d: d["x"] ** 2)], targets=[("sum", lambda d: d["dX"] + d["dY"])])
    plain = FRAME.assign(x2=FRAME["x"] ** 2, sum=FRAME["dX"] + FRAME["dY"])
    want = fitted(plain, linear=["x", "x2"], targets=["sum"])
    pd.testing.assert_frame_equal(fit.predict(FRAME), want.predict(plain), check_exact=True)
    pd.testing.assert_frame_equal(fit.resid(FRAME), want.resid(plain), check_exact=True)


def test_missing_predictors_of_a_frame_are_named_at_once() -> None:
    with pytest.raises(gbreg.ColumnError, match=r"'x'.*'z'"):
        fitted().predict(FRAME.drop(columns=["x", "z"]))
    with pytest.raises(gbreg.ColumnError, match=r"'dY'"):
        fitted().resid(FRAME.drop(columns=["dY"]))


def test_augment_adds_to_the_frame_and_refuses_to_overwrite() -> None:
    fit = fitted()
    got = fit.augment(FRAME)
    added = ["fitted", "resid", "std_resid", "leverage", "cooks_distance"]
    made = [f"{target}_{what}" for target in ("dX", "dY") for what in added]
    assert list(got.columns) == [*FRAME.columns, *made]
    pd.testing.assert_frame_equal(got[list(FRAME.columns)], FRAME)
    np.testing.assert_array_equal(got[["dX_fitted", "dY_fitted"]], fit.predict(FRAME))
    np.testing.assert_array_equal(got[["dX_resid", "dY_resid"]], fit.resid(FRAME))
    with pytest.raises(gbreg.SpecError, match="dX_fitted"):
        fit.augment(got)


def test_augment_refuses_two_targets_of_one_name() -> None:
    frame = FRAME.assign(**{"1": FRAME["dX"]})
    frame[1] = FRAME["dY"]
    with pytest.raises(gbreg.SpecError, match="1_fitted"):
        fitted(frame, targets=["1", 1]).augment(frame)


def test_augment_of_a_frame_with_columns_of_several_levels() -> None:
    frame = FRAME.set_axis(pd.MultiIndex.from_tuples([(c, "") for c in FRAME.columns]), axis=1)
    added = ["fitted", "resid", "std_resid", "leverage", "cooks_distance"]
    fit = fitted(frame, by=("sector", ""), linear=[("x", "")], targets=[("dX", "")], weights=("w", ""))
    got = fit.augment(frame)
    assert list(got.columns) == [*frame.columns, *((f"dX__{what}", "") for what in added)]
    np.testing.assert_array_equal(got["dX__fitted", ""], fit.predict(frame)[("dX", "")])
    with pytest.raises(gbreg.SpecError, match="dX__fitted"):
        fit.augment(got)


def test_frames_are_the_callers_own() -> None:
    fit = fitted()
    want = fit.params.copy(), fit.mad.copy(), fit.nobs.copy()
    for frame in (fit.params, fit.mad, fit.nobs):
        frame.iloc[:, :] = 7
    for got, before in zip((fit.params, fit.mad, fit.nobs), want, strict=True):
        pd.testing.assert_frame_equal(got, before, check_exact=True)
    assert fit.n_rows == len(FRAME)


# ---------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", ["params", "bse", "rms", "nobs", "status", "flags"])
def test_what_is_done_to_a_frame_stays_there(name: str) -> None:
    frame = pd.DataFrame({"g": [1, 1, 1, 2, 2, 2], "x": [0, 1, 2, 0, 1, 2.0], "y": [1, 3, 5, 0, 1, 5.0]})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    want = getattr(fit, name)
    got = getattr(fit, name)
    got.index.name = "other"
    got.columns.names = ["other"] * got.columns.nlevels
    got.iloc[0, 0] = got.iloc[1, 0]
    pd.testing.assert_frame_equal(getattr(fit, name), want)
    assert want.index.name == "g"


def test_tidy_has_one_row_per_number() -> None:
    fit = fitted()
    got = fit.tidy(conf_level=0.9)
    want = ["sector", "row", "target", "term", "estimate", "std_error", "statistic", "p_value"]
    assert list(got.columns) == [*want, "conf_low", "conf_high"]
    assert len(got) == len(fit) * 2 * 3
    rows = got.set_index(["sector", "row", "target", "term"])
    bounds = fit.conf_int(alpha=0.1)
    for key in fit.keys:
        for target, term in fit.params.columns:
            row = rows.loc[(*key, target, term)]
            assert row["estimate"] == fit.params.loc[key, (target, term)]
            assert row["std_error"] == fit.bse.loc[key, (target, term)]
            assert row["statistic"] == fit.tvalues.loc[key, (target, term)]
            assert row["p_value"] == fit.pvalues.loc[key, (target, term)]
            assert row["conf_low"] == pytest.approx(bounds.loc[key, (target, term, "lower")], rel=1e-12)
            assert row["conf_high"] == pytest.approx(bounds.loc[key, (target, term, "upper")], rel=1e-12)
    for level in (0, 1, 95):
        with pytest.raises(gbreg.SpecError, match="conf_level"):
            fit.tidy(conf_level=level)


def test_glance_has_one_row_per_model() -> None:
    fit = fitted()
    got = fit.glance()
    names = {
        "nobs": "nobs", "df_resid": "df_resid", "r_squared": "rsquared", "adj_r_squared": "rsquared_adj",
        "rms": "rms", "mad": "mad", "aic": "aic", "bic": "bic", "log_lik": "llf", "status": "status",
    }  # fmt: skip
    assert list(got.columns) == ["sector", "row", "target", *list(names)[:4], "sigma", *list(names)[4:]]
    for target in ("dX", "dY"):
        rows = got[got["target"] == target].set_index(["sector", "row"])
        for name, own in names.items():
            assert rows[name].tolist() == getattr(fit, own)[target].tolist()
        np.testing.assert_allclose(rows["sigma"] ** 2, fit.scale[target], rtol=1e-14)
    assert got["status"].cat.categories.tolist() == WORDS


@pytest.mark.parametrize("name", ["status", "target", "nobs"])
def test_keys_named_like_a_column_of_the_table_are_refused(name: str) -> None:
    fit = fitted(FRAME.rename(columns={"sector": name}), by=name)
    with pytest.raises(gbreg.SpecError, match=name):
        fit.glance()


def test_keys_without_names_get_some() -> None:
    sector, row = FRAME["sector"].to_numpy(), FRAME["row"].to_numpy()
    assert list(fitted(by=sector).to_frame(stats=["nobs"])) == ["group", "dX_nobs", "dY_nobs"]
    assert list(fitted(by=[sector, row]).glance())[:3] == ["level_0", "level_1", "target"]


FLAT = [
    "{}_intercept{}", "{}_slope_x{}", "{}_slope_z{}", "{}_intercept_err{}", "{}_slope_x_err{}",
    "{}_slope_z_err{}", "{}_rms{}", "{}_mad{}", "{}_nobs{}", "{}_status{}",
]  # fmt: skip


@pytest.mark.parametrize("suffix", ["", "_v2", " (new)"])
def test_the_flat_contract_to_the_letter(suffix: str) -> None:
    fit = fitted()
    got = fit.to_frame(suffix)
    assert list(got) == ["sector", "row", *(name.format(t, suffix) for t in ("dX", "dY") for name in FLAT)]
    assert got.index.equals(pd.RangeIndex(len(fit)))
    for i, term in enumerate(fit.terms):
        assert got.iloc[:, 2 + i].tolist() == fit.params["dX", term].tolist()
        assert got.iloc[:, 5 + i].tolist() == fit.bse["dX", term].tolist()
        assert got.iloc[:, 12 + i].tolist() == fit.params["dY", term].tolist()
    for name in ("rms", "mad", "nobs", "status"):
        assert got[f"dY_{name}{suffix}"].tolist() == getattr(fit, name)["dY"].tolist()
    assert got["dX_nobs" + suffix].dtype == np.int64
    assert got["dX_status" + suffix].dtype == "category"


def test_the_flat_table_of_chosen_statistics() -> None:
    fit = fitted(by="sector", linear=["x"], targets=["dX"])
    stats = ["df_resid", "pvalues", "params", "tvalues", "rsquared", "condition_number", "digits", "llf"]
    got = fit.to_frame("_s", stats=stats)
    assert list(got) == [
        "sector", "dX_df_resid_s", "dX_intercept_pvalue_s", "dX_slope_x_pvalue_s", "dX_intercept_s",
        "dX_slope_x_s", "dX_intercept_tvalue_s", "dX_slope_x_tvalue_s", "dX_rsquared_s",
        "dX_condition_number_s", "dX_digits_s", "dX_llf_s",
    ]  # fmt: skip
    assert got["dX_slope_x_pvalue_s"].tolist() == fit.pvalues["dX", "x"].tolist()
    assert got["dX_digits_s"].tolist() == fit.digits["dX"].tolist()
    assert list(fit.to_frame(stats=[])) == ["sector"]
    assert list(fit.to_frame(stats=(name for name in ("rms", "nobs", "rms")))) == [
        "sector",
        "dX_rms",
        "dX_nobs",
    ]


@pytest.mark.parametrize("made", ["to_frame", "tidy", "glance"])
def test_writing_into_a_flat_table_changes_nothing_else(made: str) -> None:
    fit = fitted(by="sector")
    table, keys = getattr(fit, made)(), fit.keys.tolist()
    for name in table:
        before, fresh = table.copy(), getattr(fit, made)()
        table.loc[0, name] = table.loc[len(table) - 1, name]
        pd.testing.assert_frame_equal(table.drop(columns=name), before.drop(columns=name))
        pd.testing.assert_frame_equal(getattr(fit, made)(), fresh)
    assert fit.keys.tolist() == keys


def test_the_flat_table_refuses_what_it_cannot_name() -> None:
    fit = fitted()
    with pytest.raises(gbreg.SpecError, match=r"unknown stat 'rmse'.*did you mean 'rms'"):
        fit.to_frame(stats=["rmse"])
    with pytest.raises(gbreg.SpecError, match="list"):
        fit.to_frame(stats="rms")
    with pytest.raises(gbreg.SpecError, match="suffix"):
        fit.to_frame(suffix=2)
    clash = fitted(FRAME.rename(columns={"sector": "dX_rms"}), by="dX_rms")
    with pytest.raises(gbreg.SpecError, match="dX_rms"):
        clash.to_frame()
    frame = FRAME.assign(x_err=FRAME["z"])
    with pytest.raises(gbreg.SpecError, match="dX_slope_x_err"):
        fitted(frame, linear=["x", "x_err"]).to_frame()


@pytest.mark.parametrize("by", ["sector", ["sector", "row"]])
@pytest.mark.parametrize(
    ("names", "suffix"),
    [({}, ""), ({}, "_v2"), ({"x": "x (mm)", "dX": "d X", "z": "class"}, " 2"), ({"z": "sin"}, "")],
)
@pytest.mark.parametrize("intercept", [True, False])
def test_formulas_run_on_a_merged_frame(
    by: object, names: dict[str, str], suffix: str, intercept: bool
) -> None:
    frame = FRAME.rename(columns=names)
    call = {
        "linear": [names.get(n, n) for n in ("x", "z")],
        "targets": [names.get(n, n) for n in ("dX", "dY")],
    }
    fit = fitted(frame, by=by, intercept=intercept, **call)
    merged = frame.reset_index(drop=True).merge(fit.to_frame(suffix), on=by, how="left")
    fitted_rows, resid = fit.predict(frame), fit.resid(frame)
    formulas = fit.formulas(suffix)
    assert list(formulas) == list(fit.targets)
    for target, texts in formulas.items():
        got = merged.eval(texts["prediction"])
        np.testing.assert_allclose(got, fitted_rows[target], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(merged.eval(texts["residual"]), resid[target], atol=1e-11)
        pull = resid[target].to_numpy() / merged[f"{target}_rms{suffix}"]
        np.testing.assert_allclose(merged.eval(texts["pull"]), pull, atol=1e-10)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [("x", 1), ("z", 1), ("d", "X"), ("d", "Y")]])
def test_formulas_write_other_labels_as_the_flat_table_does(labels: list[object]) -> None:
    names = dict(zip(["x", "z", "dX", "dY"], labels, strict=True))
    frame = FRAME.reset_index(drop=True)
    frame.columns = pd.Index([names.get(c, c) for c in frame.columns], tupleize_cols=False)
    fit = fitted(frame, linear=labels[:2], targets=labels[2:])
    text = [
        c if isinstance(c, str) else "_".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame
    ]
    merged = frame.set_axis(text, axis=1).merge(fit.to_frame(), on=["sector", "row"])
    for target, texts in fit.formulas().items():
        want = fit.predict(merged.set_axis([*frame.columns, *merged.columns[len(text) :]], axis=1))[target]
        np.testing.assert_allclose(merged.eval(texts["prediction"]), want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"x": "inf"}, "something else"),  # pandas has a constant of this name
        ({"x": "a b_c", "z": "a_b c"}, "something else"),  # one name to pandas
        ({"x": "a`b"}, "backticks in"),
        ({"x": "`, 'dX': '`"}, "backticks in"),
        ({"x": "1", "z": 1}, "are called"),
    ],
)
def test_formulas_that_pandas_would_get_wrong_are_refused(names: dict[str, object], reason: str) -> None:
    frame = FRAME.rename(columns=names)
    fit = fitted(frame, linear=[names.get("x", "x"), names.get("z", "z")])
    with pytest.raises(gbreg.SpecError, match=reason):
        fit.formulas()
    with pytest.raises(gbreg.SpecError, match="suffix"):
        fitted().formulas(None)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("µ_x", NameError),  # Python's parser changes the letter
        ("a\tb", SyntaxError),
        ("a\nb", (TokenError, SyntaxError)),
        ("\ud800", (ValueError, SyntaxError)),  # no character at all
        ("\0", (SyntaxError, ValueError)),
    ],
)
def test_names_that_pandas_cannot_read_are_refused_with_its_reason(name: str, cause: Any) -> None:
    fit = fitted(linear=[(name, lambda frame: frame["x"]), "z"])
    with pytest.raises(gbreg.SpecError, match=r"cannot run .*; rename the columns") as refusal:
        fit.formulas()
    assert isinstance(refusal.value.__cause__, cause)


@pytest.mark.parametrize("rest", [".ran()+", "['q']+", "=", "+@ran+"])
def test_no_part_of_a_name_runs_as_code(monkeypatch: pytest.MonkeyPatch, rest: str) -> None:
    monkeypatch.setattr(pd.DataFrame, "eval", lambda *_: pytest.fail("evaluated"))
    name = f"x`{rest}`x"
    fit = fitted(FRAME.rename(columns={"z": name}), linear=["x", name])
    with pytest.raises(gbreg.SpecError, match="backticks"):
        fit.formulas()


@pytest.mark.filterwarnings("ignore::gbreg.errors.GbregWarning")
def test_formulas_of_too_many_terms_are_refused() -> None:
    names = [f"x{i}" for i in range(1000)]
    frame = pd.DataFrame(np.zeros((2, 1000)), columns=names).assign(g=1, y=1.0)
    fit = gbreg.fit(frame, by="g", linear=names, targets=["y"], backend="numpy")
    with pytest.raises(gbreg.SpecError, match="1001 terms make a formula too long"):
        fit.formulas()


def test_formulas_of_means() -> None:
    fit = fitted(linear=[])
    assert fit.formulas()["dX"] == {
        "prediction": "dX_intercept",
        "residual": "dX - (dX_intercept)",
        "pull": "(dX - (dX_intercept)) / dX_rms",
    }


# ---------------------------------------------------------------------- life of a result


def test_pickles_come_back_without_code() -> None:
    fit = fitted(linear=["x", ("x2", lambda d: d["x"] ** 2)])
    got = pickle.loads(pickle.dumps(fit))
    for name in STATISTICS:
        pd.testing.assert_frame_equal(getattr(got, name), getattr(fit, name), check_exact=True)
    pd.testing.assert_frame_equal(got.accounting(), fit.accounting())
    assert fit.spec.linear[1].label is None  # the original keeps its code
    for stored in (got, pickle.loads(pickle.dumps(got))):
        with pytest.raises(gbreg.ColumnError, match=r"code of \['x2'\] in linear= was not stored"):
            stored.predict(FRAME)
    frame = FRAME.assign(x2=FRAME["x"] ** 2)
    pd.testing.assert_frame_equal(got.predict(frame), fit.predict(FRAME), check_exact=True)


def test_derived_columns_called_like_others_are_not_mixed_up(tmp_path: Path) -> None:
    frame = FRAME.assign(x=FRAME["x"] + 100)
    centred, log = ("x", lambda d: d["x"] - 100), ("dX", lambda d: np.log(d["dX"] + 50))
    for call in ({"linear": [centred]}, {"linear": ["z"], "targets": [log]}):
        fit = fitted(frame, **call)
        want = fit.resid(frame)
        for same in (copy.copy(fit), copy.deepcopy(fit)):
            pd.testing.assert_frame_equal(same.resid(frame), want, check_exact=True)
        copy.deepcopy(fit).estimates.params[:] = 0.0  # of the copy alone
        pd.testing.assert_frame_equal(fit.resid(frame), want, check_exact=True)
        stored = [pickle.loads(pickle.dumps(fit))]
        stored.append(pickle.loads(pickle.dumps(stored[0])))
        if importlib.util.find_spec("pyarrow"):
            fit.to_parquet(tmp_path / "fit.parquet")
            stored.append(gbreg.read_parquet(tmp_path / "fit.parquet"))
        for one in stored:
            with pytest.raises(
                gbreg.ColumnError, match="were derived, the frame of the fit had other columns"
            ):
                one.resid(frame)
            assert one.params.equals(fit.params)
        for one in (fit, *stored):
            with pytest.raises(gbreg.SpecError, match="which formulas would take"):
                one.formulas()


def test_keys_of_another_dtype_are_pointed_out() -> None:
    fit = fitted()
    other = FRAME.assign(sector=FRAME["sector"].astype(str))
    message = "no row of the frame is in a group of the fit, .* 'sector' is (str|object), in the fit int64"
    with pytest.warns(gbreg.GbregWarning, match=message):
        assert fit.predict(other).isna().all(axis=None)
    with pytest.warns(gbreg.GbregWarning, match=message):
        fitted(fallback="parent").predict(other)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit.predict(FRAME.assign(sector=FRAME["sector"].astype("int16")))
        fit.predict(FRAME.assign(sector=FRAME["sector"] + 1000))  # groups it has not seen
        fit.predict(FRAME.iloc[:0])


@pytest.mark.parametrize(
    ("freq", "anchored"), [("D", True), ("2ME", True), ("W", True), ("7D", False), ("5h", False)]
)
def test_bins_of_a_grouper_are_those_of_the_fit(freq: str, anchored: bool) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"t": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(0, 960, 2), unit="h")})
    frame["x"] = rng.normal(size=len(frame))
    frame["dX"] = frame["x"] * frame["t"].dt.day
    call = {"linear": ["x"], "targets": ["dX"], "weights": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = fitted(frame, by=pd.Grouper(key="t", freq=freq), **call)
        pinned = fitted(frame, by=pd.Grouper(key="t", freq=freq, origin="epoch"), **call)
    for start in ("2020-01-17", "2020-01-19 05:00"):
        later = frame[frame["t"] > start]
        if anchored:
            pd.testing.assert_frame_equal(fit.predict(later), fit.predict(frame).loc[later.index])
        else:
            with pytest.raises(gbreg.SpecError, match="begin elsewhere in this frame"):
                fit.predict(later)
            one = [pd.Grouper(key="t", freq=freq)]
            with pytest.raises(gbreg.SpecError, match="begin elsewhere in this frame"):
                fitted(frame, by=one, **call).predict(later)
        pd.testing.assert_frame_equal(pinned.predict(later), pinned.predict(frame).loc[later.index])


@pytest.mark.parametrize("kind", ["labels", "Series", "Grouper", "layout"])
def test_the_frame_is_not_kept(kind: str) -> None:
    frame = FRAME.copy()
    frame.index = pd.Index([f"row {i}" for i in range(len(frame))], dtype=object)
    keys = frame["sector"]
    watched = [weakref.ref(frame), weakref.ref(frame.index), weakref.ref(keys)]
    by = {"labels": ["sector", "row"], "Series": keys, "Grouper": pd.Grouper(key="sector")}.get(kind)
    fit = fitted(frame, by=gbreg.group(frame, by=keys) if kind == "layout" else by)
    del frame, keys, by
    gc.collect()
    assert [ref() is None for ref in watched] == [True, True, True]
    assert len(fit.params) == len(fit)


def test_import_and_fit_load_no_scipy() -> None:
    code = (
        "import sys, pandas as pd; before = set(sys.modules); import gbreg\n"
        "df = pd.DataFrame({'g': [1, 1, 1], 'x': [0, 1, 2.0], 'y': [1, 3, 4.0]})\n"
        "fit = gbreg.fit(df, by='g', linear=['x'], targets=['y'], backend='numpy'); fit.bse; repr(fit)\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'scipy', 'numba', 'matplotlib', 'statsmodels'}), len(fit))"
    )
    root = Path(gbreg.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == "[] 1"


@pytest.mark.parametrize(
    "options",
    [{}, {"cov_type": "known"}, {"cov_type": "HC3"}, {"loss": "huber"}, {"ridge": 1.0}, {"backend": "numba"}],
    ids=str,
)
def test_writing_into_a_table_changes_no_other(options):
    fit = fitted(detector(2_000), **options)
    names = ["params", "bse", "tvalues", "pvalues", "nobs", "rms", "mad", "scale", "rsquared"]
    tables = [name for name in names if np.isfinite(_table(fit, name)).any()]
    assert len(tables) > 5
    before = {name: _table(fit, name).copy() for name in tables}
    for name in tables:
        table = getattr(fit, name)
        table.iloc[:, :] = 7
        assert (table == 7).all(axis=None)
    for name in tables:
        np.testing.assert_array_equal(_table(fit, name), before[name])


def _table(fit: gbreg.GroupFit, name: str) -> np.ndarray:
    try:
        return getattr(fit, name).to_numpy()
    except gbreg.SpecError:
        return np.full(1, np.nan)


@pytest.mark.parametrize("of", ["rms", "params"])
def test_labels_of_one_frame_are_not_those_of_another(of):
    """pandas 2 lets users write into the array of an Index."""
    frame = pd.DataFrame({"g": [1, 1, 1, 2, 2, 2], "x": [0.0, 1, 2, 0, 1, 2], "y": [1.0, 3, 4, 0, 1, 5]})

    def columns():
        made = getattr(gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy"), of).columns
        return made.levels[0] if isinstance(made, pd.MultiIndex) else made

    first = columns()
    with contextlib.suppress(TypeError, ValueError):
        first.values[0] = "hacked"
    if of == "rms":  # a level cannot be renamed
        first.name = "renamed"
    assert columns().tolist() == ["y"]
    assert columns().name == "target"


@pytest.mark.parametrize("method", ["augment", "durbin_watson", "clipped"])
def test_weights_of_rows_of_a_fit_that_has_none_are_refused(method: str) -> None:
    fit = fitted(weights=None, clip=4.0 if method == "clipped" else None)
    with pytest.raises(gbreg.SpecError, match=r"^weights= was given, and the fit has none"):
        getattr(fit, method)(FRAME, weights="w")
    getattr(fit, method)(FRAME)


def test_formulas_do_not_take_columns_of_the_fit_for_its_numbers() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(1, 2, size=(20, 3)), columns=["x", "y", "y_rms"]).assign(g=0)
    call = {"by": "g", "linear": ["x"], "backend": "numpy"}
    for more in ({"targets": ["y", "y_rms"]}, {"targets": ["y"], "weights": "y_rms"}):
        fit = gbreg.fit(frame, **call, **more)
        with pytest.raises(gbreg.SpecError, match=r"called .'y_rms'.*give a suffix="):
            fit.formulas()
        assert "y_rms_fit" in fit.formulas("_fit")["y"]["pull"]
