# SPDX-License-Identifier: MIT
"""Parents of groups that cannot be fitted: their numbers, and who is told that they were used."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg.errors import GbregWarning, SpecError
from gbreg.fallback import coarser

BY = ["sector", "row", "zbin"]
CALL: dict[str, Any] = {"by": BY, "linear": ["x", "z"], "targets": ["u", "v"], "fallback": "parent"}
PREFIXES: dict[str, list[str]] = {"sector/row": ["sector", "row"], "sector": ["sector"], "all": []}
BAD = {"too_few_rows", "no_data", "rank_deficient", "not_converged", "overflow"}


def detector(seed: int = 5) -> pd.DataFrame:
    """30 groups of 12 rows; three are too small, and with one all of its row, with one its sector."""
    rng = np.random.default_rng(seed)
    sizes = {(s, r, z): 12 for s in range(3) for r in "ab" for z in range(5)}
    sizes |= {(0, "a", 0): 2, (0, "a", 3): 1, (1, "b", 2): 2}
    sizes = {key: n for key, n in sizes.items() if key[:2] != (2, "b")}
    sizes |= {(2, "b", 0): 2, (3, "a", 0): 1}  # too few in the row, too few in the sector
    keys = [key for key, n in sizes.items() for _ in range(n)]
    frame = pd.DataFrame(keys, columns=BY)
    n = len(frame)
    frame["x"], frame["z"], frame["w"] = rng.normal(3, 1, n), rng.normal(size=n), rng.uniform(0.3, 3, n)
    frame["keep"] = rng.random(n) < 0.8
    frame["run"] = rng.integers(0, 12, n)
    frame["u"] = frame["sector"] + 2 * frame["x"] - frame["z"] + rng.normal(size=n)
    frame["v"] = frame["zbin"] - frame["x"] + rng.normal(size=n)
    frame.index = rng.permutation(n) // 2  # duplicates, out of order
    return frame.sample(frac=1, random_state=seed)


def quiet(frame: pd.DataFrame, **options: Any) -> gbreg.GroupFit:
    """A fit that must warn of its failures."""
    with pytest.warns(GbregWarning, match="no complete fit"):
        return gbreg.fit(frame, **{**CALL, "backend": "numpy", **options})


def lstsq(rows: pd.DataFrame, target: str, w: str | None = None) -> np.ndarray:
    side = np.ones(len(rows)) if w is None else np.sqrt(rows[w].to_numpy())
    X = np.column_stack([np.ones(len(rows)), rows[["x", "z"]]])
    return np.linalg.lstsq(X * side[:, None], rows[target].to_numpy() * side, rcond=None)[0]


def predicted(coef: np.ndarray, rows: pd.DataFrame) -> np.ndarray:
    return coef[0] + rows[["x", "z"]].to_numpy() @ coef[1:]


def check_by_hand(fit: gbreg.GroupFit, frame: pd.DataFrame, fitted_rows: pd.DataFrame, **more: Any) -> None:
    """Every row's prediction by numpy, from the finest level with 3 rows or more."""
    got = fit.predict(frame, source=True)
    for target in ("u", "v"):
        there = fitted_rows[fitted_rows[target].notna()]
        for key, rows in frame.groupby(BY):
            masks = [np.ones(len(there), dtype=bool)]
            for level, value in zip(BY, key, strict=True):
                masks.append(masks[-1] & (there[level] == value).to_numpy())
            n = max(n for n, mask in enumerate(masks) if mask.sum() >= 3)
            name, mask = ["all", "sector", "sector/row", "own"][n], masks[n]
            here = (frame[BY] == list(key)).all(axis=1).to_numpy()
            want = predicted(lstsq(there[mask], target, **more), rows)
            np.testing.assert_allclose(got[here][target]["fitted"].astype(float), want, rtol=1e-9, atol=1e-9)
            assert (got[here][target]["source"] == name).all()


# ---------------------------------------------------------------------- numbers


def test_predictions_are_those_of_the_finest_parent(backend: str) -> None:
    frame = detector()
    fit = quiet(frame, backend=backend)
    check_by_hand(fit, frame, frame)
    assert fit.fallbacks.loc[(0, "a", 0), ("u", "source")] == "sector/row"
    assert fit.fallbacks.loc[(2, "b", 0), ("u", "source")] == "sector"
    assert fit.fallbacks.loc[(3, "a", 0), ("u", "source")] == "all"
    np.testing.assert_array_equal(fit.fittedvalues(frame), fit.predict(frame))
    want = frame[["u", "v"]].to_numpy() - fit.predict(frame).to_numpy()
    np.testing.assert_allclose(fit.resid(frame), want, atol=1e-12)


def test_weights_where_and_gaps(backend: str) -> None:
    frame = detector()
    frame.loc[(frame["sector"] == 1) & (frame["zbin"] == 4), "v"] = np.nan  # targets differ in their parents
    frame.iloc[::11, frame.columns.get_loc("u")] = np.nan
    fit = quiet(frame, backend=backend, weights="w", where="keep")
    check_by_hand(fit, frame, frame[frame["keep"]], w="w")
    source = fit.fallbacks.xs("source", axis=1, level="fallback")
    assert (source["u"].astype(str) != source["v"].astype(str)).any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "w", "cov_type": "HC1"},
        {"cov_type": "cluster", "groups": "run"},
        {"weights": "w", "cov_type": "known"},
        {"clip": 3.0},
        {"intercept": False, "precision": "extended", "min_nobs": 3},
        {"weights": "run", "weights_type": "frequency"},
        {"min_nobs": 9, "mad": False},
    ],
)
def test_parents_are_fits_by_the_other_keys(backend: str, options: dict[str, Any]) -> None:
    """To the last bit what `fit` makes of the prefix; and their intervals are those of its rows."""
    frame = detector()
    fit = quiet(frame, backend=backend, **options)
    assert list(fit.parents) == list(PREFIXES)
    kind = {"interval": "prediction", "alpha": 0.1}
    got = fit.predict(frame, source=True, **kind)
    for name, by in PREFIXES.items():
        call = {**CALL, **options, "backend": backend, "fallback": None, "by": by}
        rows = frame.assign(every="all")
        if not by:
            call["by"] = "every"
        if (frame.groupby(call["by"] if by else "sector").size() < 12).any() and by:
            with pytest.warns(GbregWarning):
                want = gbreg.fit(rows, **call)
        else:
            want = gbreg.fit(rows, **call)
        pd.testing.assert_index_equal(fit.parents[name].keys, want.keys, check_names=bool(by))
        for field in want.estimates.__dataclass_fields__:
            np.testing.assert_array_equal(
                getattr(fit.parents[name].estimates, field), getattr(want.estimates, field), err_msg=field
            )
        pd.testing.assert_frame_equal(
            fit.parents[name].accounting(per_group=True).reset_index(drop=True),
            want.accounting(per_group=True).reset_index(drop=True),
        )
        theirs = want.predict(rows, **kind)
        for target in ("u", "v"):
            here = (got[target]["source"] == name).to_numpy()
            assert here.any()
            np.testing.assert_array_equal(
                got[target][["fitted", "lower", "upper"]].to_numpy(dtype=float)[here],
                theirs[target].to_numpy()[here],
            )


def test_weights_of_new_rows_and_derived_columns() -> None:
    """A parent sees the columns as they are in the whole frame, and its own weights."""
    frame = detector()
    linear = [("x", lambda d: d["x"] - d["x"].mean()), "z"]
    fit = quiet(frame, weights="w", linear=linear)
    want = gbreg.fit(frame.assign(one=1), by="one", linear=linear, targets=["u", "v"], weights="w")
    kind = {"interval": "prediction", "weights": "w"}
    here = ((frame["sector"] == 3) & (frame["zbin"] == 0)).to_numpy()
    got, theirs = fit.predict(frame, **kind)[here], want.predict(frame.assign(one=1), **kind)[here]
    np.testing.assert_allclose(got, theirs, rtol=1e-12)


def test_groups_that_where_leaves_out_are_predicted_and_no_failure() -> None:
    frame = detector()
    frame = frame[frame.groupby(BY)["x"].transform("size") == 12]
    out = (frame["sector"] == 1) & (frame["row"] == "b") & (frame["zbin"] == 0)
    fit = gbreg.fit(frame, **CALL, where=~out, backend="numpy")  # without a warning
    assert fit.status.loc[(1, "b", 0)].tolist() == ["fallback", "fallback"]
    assert fit.fallbacks.loc[(1, "b", 0), ("u", "own_status")] == "no_data"
    rest = frame[(frame["sector"] == 1) & (frame["row"] == "b") & ~out]
    np.testing.assert_allclose(
        fit.predict(frame[out])["u"], predicted(lstsq(rest, "u"), frame[out]), rtol=1e-10
    )


def test_groups_that_were_never_seen(backend: str) -> None:
    frame = detector()
    fit = quiet(frame, backend=backend)
    new = frame.head(6).copy()
    new[BY] = [(0, "a", 9), (0, "c", 0), (9, "a", 0), (2, "b", 7), (0, "b", 1), (3, "a", 5)]
    got = fit.predict(new, source=True)
    assert got["u"]["source"].tolist() == ["sector/row", "sector", "all", "sector", "own", "all"]
    rows = [
        frame[(frame["sector"] == 0) & (frame["row"] == "a")],
        frame[frame["sector"] == 0],
        frame,
        frame[frame["sector"] == 2],
        frame[(frame["sector"] == 0) & (frame["row"] == "b") & (frame["zbin"] == 1)],
        frame,
    ]
    for i, group in enumerate(rows):
        for target in ("u", "v"):
            want = predicted(lstsq(group, target), new.iloc[[i]])[0]
            assert got.iloc[i][target, "fitted"] == pytest.approx(want, rel=1e-10)
    pd.testing.assert_frame_equal(fit.predict(new, missing="raise"), fit.predict(new))


@pytest.mark.filterwarnings("error")
def test_where_no_group_fails_no_bit_changes(backend: str) -> None:
    frame = detector()
    frame = frame[frame.groupby(BY)["x"].transform("size") == 12]
    plain = gbreg.fit(frame, **{**CALL, "fallback": None}, backend=backend)
    fit = gbreg.fit(frame, **CALL, backend=backend)
    pd.testing.assert_frame_equal(fit.status, plain.status)
    for call in ({}, {"interval": "confidence"}, {"interval": "prediction"}):
        pd.testing.assert_frame_equal(
            fit.predict(frame, **call), plain.predict(frame, **call), check_exact=True
        )
    pd.testing.assert_frame_equal(fit.resid(frame), plain.resid(frame), check_exact=True)
    more = fit.augment(frame)
    assert more.columns[-2:].tolist() == ["u_source", "v_source"]
    pd.testing.assert_frame_equal(more.iloc[:, :-2], plain.augment(frame), check_exact=True)
    assert (fit.fallbacks.xs("source", axis=1, level=1) == "own").all(axis=None)
    new = frame.head(1).assign(zbin=77)
    assert plain.predict(new).isna().all(axis=None)
    assert fit.predict(new).notna().all(axis=None)


def test_a_group_does_not_change_because_others_have_parents(backend: str) -> None:
    frame = detector()
    fit, plain = quiet(frame, backend=backend), quiet(frame, backend=backend, fallback=None)
    for name in ("params", "bse", "pvalues", "rms", "mad", "nobs", "rsquared", "flags"):
        pd.testing.assert_frame_equal(getattr(fit, name), getattr(plain, name), check_exact=True)
    pd.testing.assert_frame_equal(fit.durbin_watson(frame), plain.durbin_watson(frame))
    own = plain.predict(frame).notna()
    pd.testing.assert_frame_equal(fit.predict(frame).where(own), plain.predict(frame), check_exact=True)


def test_large_integers_keep_their_digits() -> None:
    """A parent has its own origins: a prediction is not about those of the group."""
    frame = detector()
    base = 2**60
    frame["u"] = base + (1000 * frame["u"]).round().astype("int64")
    frame["x"] = base + np.arange(len(frame)) * 3
    fit = quiet(frame)
    small = frame.assign(u=frame["u"] - base, x=frame["x"] - base)
    want = quiet(small).resid(small)
    np.testing.assert_allclose(fit.resid(frame), want, rtol=1e-6, atol=1e-6)
    assert np.ptp(fit.resid(frame)["u"]) > 1


# ---------------------------------------------------------------------- who is told


def test_status_says_it_and_keeps_the_reason() -> None:
    frame = detector()
    frame.loc[(frame["sector"] == 1) & (frame["row"] == "a") & (frame["zbin"] == 1), "x"] = 3.0
    with pytest.warns(GbregWarning) as caught:
        fit = gbreg.fit(frame, **CALL, backend="numpy")
    message = str(caught[0].message)
    assert "5 too_few_rows" in message
    assert "1 rank_deficient" in message
    assert "of these, 6 are predicted by a parent and 0 by none; see .status" in message
    plain = quiet(frame, fallback=None)
    lost = ~plain.status.isin(["ok", "saturated"])
    assert lost.sum().tolist() == [6, 6]
    for target in ("u", "v"):
        assert ((fit.status[target] == "fallback") == lost[target]).all()
        assert (fit.fallbacks[target]["own_status"] == plain.status[target]).all()
        assert ((fit.fallbacks[target]["source"] == "own") == ~lost[target]).all()
        assert fit.params[target][lost[target]].drop(columns="z").isna().all(axis=None)  # never a substitute
    assert fit.status_counts().loc["fallback"].tolist() == [6, 6]
    assert fit.glance()["status"].tolist() == fit.status.to_numpy().ravel().tolist()
    assert (fit.to_frame()["u_status"].to_numpy() == fit.status["u"].to_numpy()).all()
    shown = repr(fit)
    assert "fallback sector/row, sector, all" in shown
    assert "6 fallback" in shown
    assert "fallback" in repr(fit.group((0, "a", 0)))
    more = fit.augment(frame)
    served = (more["u_source"] != "own").to_numpy()
    assert served.sum() == 2 + 1 + 2 + 2 + 1 + 12
    np.testing.assert_array_equal(more["u_fitted"], fit.predict(frame)["u"])
    assert more[["u_leverage", "u_std_resid", "u_cooks_distance"]][served].isna().all(axis=None)
    assert more["u_leverage"][~served].notna().all()


def test_without_parents_the_source_is_told_too() -> None:
    frame = detector()
    plain = quiet(frame, fallback=None)
    got = plain.predict(frame, source=True)
    assert list(got.columns) == [(t, what) for t in ("u", "v") for what in ("fitted", "source")]
    lost = plain.predict(frame)["u"].isna()
    assert (got["u"]["source"] == np.where(lost, "none", "own")).all()
    assert plain.parents == {}
    with pytest.raises(SpecError, match="fallbacks needs a fit with fallback="):
        _ = plain.fallbacks
    with pytest.raises(SpecError, match="source must be True or False, got 'yes'"):
        plain.predict(frame, source="yes")


def test_groups_no_parent_can_speak_for() -> None:
    frame = detector()
    fit = quiet(frame, fallback=[["sector", "row"]])
    key = (2, "b", 0)
    assert fit.status.loc[key, "u"] == "too_few_rows"
    assert fit.fallbacks.loc[key, ("u", "source")] == "none"
    rows = frame[(frame["sector"] == 2) & (frame["row"] == "b")]
    got = fit.predict(rows, source=True)
    assert got["u"]["fitted"].isna().all()
    assert (got["u"]["source"] == "none").all()
    with pytest.raises(gbreg.MissingDataError, match="2 of 2 rows have no fitted value"):
        fit.predict(rows, missing="raise")
    with pytest.raises(gbreg.MissingDataError, match="1 without key or in groups the fit has not seen"):
        fit.predict(rows.head(1).assign(row="q"), missing="raise")
    gap = frame[frame["zbin"] == 0].head(1).assign(x=np.nan, zbin=99)
    with pytest.raises(gbreg.MissingDataError, match="1 with a predictor missing or infinite"):
        fit.predict(gap, missing="raise")
    with pytest.warns(GbregWarning, match="3 are predicted by a parent and 2 by none"):
        gbreg.fit(frame, **{**CALL, "fallback": [["sector", "row"]]}, backend="numpy")


def test_what_is_usable() -> None:
    """Saturated groups and dropped predictors stay; what does not converge does not."""
    frame = detector()
    at = (frame["sector"] == 1) & (frame["row"] == "a")
    frame.loc[at & (frame["zbin"] == 1), "x"] = 3.0
    some = frame[~(at & (frame["zbin"] == 2)) | (frame.groupby(BY).cumcount() < 3)]
    fit = quiet(some, on_collinear="drop")
    assert fit.status.loc[(1, "a", 2), "u"] == "saturated"
    assert fit.status.loc[(1, "a", 1), "u"] == "rank_deficient"
    assert (fit.fallbacks.loc[[(1, "a", 1), (1, "a", 2)], ("u", "source")] == "own").all()
    with pytest.raises(gbreg.CollinearityError):
        gbreg.fit(some, **CALL, on_collinear="raise", backend="numpy")
    once = quiet(frame, clip=1.5, clip_iterations=1)
    late = once.fallbacks["u"]["own_status"] == "not_converged"
    plain = quiet(frame, clip=1.5, clip_iterations=1, fallback=None)
    assert late.any()
    assert (plain.status["u"] == "not_converged").eq(late).all()
    source = once.fallbacks["u"]["source"]
    usable = once.parents["all"].status["u"].isin(["ok", "saturated"]).all()
    assert usable or (source[late] == "own").any()  # where no parent is stable either, as without parents
    at_rows = once.predict(frame, source=True)["u"]
    own = (at_rows["source"] == "own").to_numpy()
    np.testing.assert_array_equal(
        at_rows["fitted"].to_numpy()[own], plain.predict(frame)["u"].to_numpy()[own]
    )


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("dropna", [True, False])
def test_keys_of_parents_are_those_of_pandas(sort: bool, observed: bool, dropna: bool) -> None:
    if not observed and pd.__version__ < "3":
        pytest.skip("pandas 2 has all combinations of keys, categories or not, if one key has categories")
    frame = detector().reset_index(drop=True)
    frame["row"] = pd.Categorical(frame["row"], categories=["c", "b", "a"], ordered=True)
    frame["sector"] = frame["sector"].astype("Int64").mask(frame.index % 17 == 3)
    options = {"sort": sort, "observed": observed, "dropna": dropna}
    kept = frame.dropna(subset=BY) if dropna else frame
    layout = gbreg.group(frame, by=BY, **options)
    for places in ((0, 1), (0,), (1,), (1, 2), (0, 2), (2,)):
        by = [BY[i] for i in places]
        want = kept.groupby(by if len(by) > 1 else by[0], **options).size()
        got = coarser(layout, places)
        pd.testing.assert_index_equal(got.keys, want.index)
        np.testing.assert_array_equal(got.sizes, want)
        np.testing.assert_array_equal(got.offsets, np.append(0, np.cumsum(want)))
        used = got.codes >= 0
        np.testing.assert_array_equal(used, layout.codes >= 0)
        for level, name in enumerate(by):
            words = np.array([str(value) for value in got.keys.get_level_values(level)])
            np.testing.assert_array_equal(words[got.codes[used]], [str(v) for v in frame[name][used]])


def test_unobserved_categories_and_missing_keys() -> None:
    frame = detector()
    frame["row"] = pd.Categorical(frame["row"], categories=["a", "b", "c"])
    fit = quiet(frame, observed=False)
    assert (fit.fallbacks.loc[(slice(None), "c"), ("u", "source")].isin(["sector", "all"])).all()
    frame = detector()
    frame["zbin"] = frame["zbin"].astype(float).mask(frame["zbin"] == 4)
    fit = quiet(frame)  # rows without key are in no group and in no parent
    assert fit.parents["all"].nobs["u"].tolist() == [frame["zbin"].notna().sum()]
    lost = frame["zbin"].isna()
    for by in (None, [frame[name] for name in BY]):
        got = fit.predict(frame, source=True, by=by)["u"]
        assert (got["fitted"].isna().to_numpy() == lost.to_numpy()).all()
        assert ((got["source"] == "none").to_numpy() == lost.to_numpy()).all()
    kept = quiet(frame, dropna=False)
    assert kept.parents["all"].nobs["u"].tolist() == [len(frame)]
    assert kept.predict(frame).notna().all(axis=None)
    new = frame.head(1).assign(zbin=np.nan, row="q", sector=1)
    assert kept.predict(new, source=True)["u", "source"].tolist() == ["sector"]


@pytest.mark.parametrize("how", ["level", "series", "arrays", "layout", "callable", "formula"])
def test_keys_asked_for_in_other_ways(backend: str, how: str) -> None:
    frame = detector().reset_index(drop=True)
    want = quiet(frame, backend=backend)
    call: dict[str, Any] = {**CALL, "backend": backend}
    again, keys = frame, None
    if how == "level":
        again = frame.set_index(BY)
        call |= {"by": None, "level": [0, "row", 2]}
    elif how == "series":
        call["by"] = keys = [frame[name] for name in BY]
    elif how == "arrays":
        call |= {"by": [frame[name].to_numpy() for name in BY], "fallback": [[0, 1], [-3], []]}
        keys = call["by"]
    elif how == "layout":
        call["by"] = gbreg.group(frame, by=BY)
    elif how == "callable":
        call["by"] = [frame[name].to_dict().get for name in BY]
    else:
        call |= {
            "formula": "u + v ~ x + z | sector + row + zbin",
            "by": None,
            "linear": None,
            "targets": None,
        }
    with pytest.warns(GbregWarning):
        fit = gbreg.fit(again, **call)

    got = fit.predict(again, by=keys, source=True)
    theirs = want.predict(frame, source=True)
    for target in ("u", "v"):
        np.testing.assert_array_equal(got[target]["fitted"], theirs[target]["fitted"])
        own = (got[target]["source"] == "own").to_numpy()
        np.testing.assert_array_equal(own, (theirs[target]["source"] == "own").to_numpy())
    if how == "arrays":
        assert list(fit.parents) == ["level_0/level_1", "level_0", "all"]
    elif how != "callable":
        assert list(fit.parents) == list(PREFIXES)
        parent = fit.parents["sector"].predict(again, by=None if keys is None else frame["sector"])
        np.testing.assert_array_equal(parent, want.parents["sector"].predict(frame))


def test_one_key_has_all_rows_as_its_parent(backend: str) -> None:
    frame = detector()
    fit = quiet(frame, by="sector", backend=backend)
    assert list(fit.parents) == ["all"]
    assert fit.parents["all"].keys.tolist() == ["all"]
    rows = frame[frame["sector"] == 3]
    np.testing.assert_allclose(fit.predict(rows)["u"], predicted(lstsq(frame, "u"), rows), rtol=1e-10)
    assert fit.status["u"].tolist() == ["ok", "ok", "ok", "fallback"]


def test_any_keys_in_any_order_of_trying() -> None:
    frame = detector()
    fit = quiet(frame, fallback=[["zbin", "sector"], "row"])
    assert list(fit.parents) == ["sector/zbin", "row"]
    assert fit.fallbacks.loc[(0, "a", 0), ("u", "source")] == "sector/zbin"
    assert fit.fallbacks.loc[(3, "a", 0), ("u", "source")] == "row"
    rows = frame[frame["sector"] == 3]
    want = predicted(lstsq(frame[frame["row"] == "a"], "u"), rows)
    np.testing.assert_allclose(fit.predict(rows)["u"], want, rtol=1e-10)


def test_no_rows_at_all() -> None:
    fit = gbreg.fit(detector().head(0), **CALL, backend="numpy")
    assert len(fit) == 0
    assert fit.predict(detector(), source=True)["u", "source"].unique().tolist() == ["none"]
    assert fit.fallbacks.shape == (0, 4)


@pytest.mark.parametrize(
    ("fallback", "message"),
    [
        (
            "parents",
            "fallback must be 'parent' or a list of lists of keys.*got 'parents'; did you mean 'parent'",
        ),
        (True, "fallback must be 'parent' or a list of lists of keys.*got True"),
        (("sector",), r"fallback must be 'parent' or a list.*got \('sector',\)"),
        ([], r"fallback=\[\] names no parent; \[\[\]\] is all rows"),
        ([["secto"]], r"'secto' in fallback= is no key of by=, whose keys are \[.*\]; did you mean 'sector'"),
        (["x"], "'x' in fallback= is no key of by="),
        ([[3]], "3 in fallback= is no key of by="),
        ([True], "True in fallback= is no key of by="),
        ([None], "None in fallback= is no key"),
        ([[{}]], "{} in fallback= is no key"),
        ([("sector", "row")], "a tuple is one label, for several keys give a list"),
        ([["row", "row"]], r"\['row', 'row'\] in fallback= names a key twice"),
        ([BY], "is all keys of by=, which are the groups themselves"),
        (
            [[], ["sector"]],
            r"\['sector'\] in fallback= comes after keys that it includes; the finest goes first",
        ),
        ([["sector"], "sector"], "'sector' in fallback= comes after keys that it includes"),
    ],
)
def test_names_of_what_cannot_be(fallback: Any, message: str) -> None:
    frame = detector()
    with pytest.raises(SpecError, match=message):
        gbreg.fit(frame, **{**CALL, "fallback": fallback}, backend="numpy")
    by = [frame[name] for name in BY]  # known by name only when they are grouped
    with pytest.raises(SpecError, match=message):
        gbreg.fit(frame, **{**CALL, "by": by, "fallback": fallback}, backend="numpy")


def test_names_that_would_be_taken_twice() -> None:
    frame = detector().rename(columns={"sector": "all"})
    with pytest.raises(SpecError, match=r"two fits would be called \['all'\]"):
        gbreg.fit(frame, **{**CALL, "by": ["all", "row"]}, backend="numpy")
    by = [frame["all"], frame["row"].rename("all")]
    with pytest.raises(SpecError, match="'all' in fallback= is the name of several keys; give its number"):
        gbreg.fit(frame, **{**CALL, "by": by, "fallback": ["all"]}, backend="numpy")


# ---------------------------------------------------------------------- kept


@pytest.mark.parametrize("how", ["pickle", "parquet"])
def test_parents_survive_storage(how: str, tmp_path: Any) -> None:
    frame = detector()
    frame["row"] = pd.Categorical(frame["row"])
    fit = quiet(frame, weights="w", clip=4.0)
    if how == "pickle":
        back = pickle.loads(pickle.dumps(fit))
    else:
        fit.to_parquet(tmp_path / "fit.parquet")
        back = gbreg.read_parquet(tmp_path / "fit.parquet")
    new = frame.assign(zbin=frame["zbin"] + 1)
    for name in ("status", "fallbacks", "params"):
        pd.testing.assert_frame_equal(getattr(back, name), getattr(fit, name))
    for interval in (None, "prediction"):
        pd.testing.assert_frame_equal(
            back.predict(new, interval=interval, source=True),
            fit.predict(new, interval=interval, source=True),
        )
    for name in PREFIXES:
        pd.testing.assert_frame_equal(back.parents[name].params, fit.parents[name].params)
        assert repr(back.parents[name]) == repr(fit.parents[name])


def test_derived_keys_and_columns_survive_pickling() -> None:
    frame = detector()
    call = {"by": [lambda i: 0, "sector"], "linear": [("same", lambda d: d["x"]), "z"]}
    fit = quiet(frame, **call)
    back = pickle.loads(pickle.dumps(fit))
    keys = [np.zeros(len(frame)), frame["sector"]]
    pd.testing.assert_frame_equal(back.predict(frame.assign(same=frame["x"]), by=keys), fit.predict(frame))


def test_parents_too_large_for_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    fit = quiet(detector())
    monkeypatch.setattr("gbreg.storage.LARGEST", 1000)
    with pytest.raises(SpecError, match=r"the parents of this fit are [\d,]+ bytes.*pickle the fit"):
        fit.to_parquet(tmp_path / "fit.parquet")


def test_progress_ends_full(capfd: pytest.CaptureFixture[str]) -> None:
    frame = detector()
    quiet(frame, progress=True)
    last = capfd.readouterr()[1].rstrip("\n").rpartition("\r")[2]
    assert "100%" in last
    total = f"{4 * len(frame) / 1000:.2f}k"
    assert f"{total}/{total}" in last


@pytest.mark.filterwarnings("ignore::gbreg.GbregWarning")
def test_rows_that_a_parent_speaks_for_have_no_standardised_residual_of_their_group() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"s": 0, "r": np.repeat(np.arange(60), 12), "x": rng.normal(size=720)})
    frame["y"] = rng.standard_t(2, size=720)
    call = {"linear": ["x"], "targets": ["y"], "loss": "huber", "maxiter": 20, "fallback": [["s"]]}
    fit = gbreg.fit(frame, by=["s", "r"], **call, backend="numpy")
    made = fit.augment(frame)
    served = made["y_source"] == "s"  # their own fits have not converged
    assert 0 < served.sum() < len(frame)
    pd.testing.assert_series_equal(made["y_std_resid"].isna(), served, check_names=False)
