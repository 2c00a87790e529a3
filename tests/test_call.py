# SPDX-License-Identifier: MIT
"""What a call promises whatever it is asked: rows accounted for, one warning, nothing kept."""

from __future__ import annotations

import gc
import inspect
import sys
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

import gbreg
from gbreg import ColumnError, GbregWarning, GroupLayout, SpecError
from gbreg.accounting import RowCounts

CALL: dict[str, Any] = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "backend": "numpy"}


def table(n: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["x", "z", "y"])
    return frame.assign(g=np.arange(n) % 4)


# accounting: every row is counted once

VALUES = [0.0, 1.0, -2.5, 3.25, np.nan, np.inf, -np.inf]


def categories(keys: list[Any]) -> pd.Series:
    return pd.Series(pd.Categorical(keys, categories=["a", "c", "b", "unseen"]))


LETTERS = ["a", "b", "c", None]
KINDS: dict[str, Callable[[list[int]], Any]] = {
    "int": lambda rows: pd.Series(rows, dtype="int64"),
    "huge int": lambda rows: pd.Series([r * 2**61 for r in rows], dtype="int64"),
    "float with NaN": lambda rows: pd.Series([[0.5, -1.0, 2.0, np.nan][r] for r in rows], dtype=float),
    "Int64 with NA": lambda rows: pd.Series([[7, -1, 2, None][r] for r in rows], dtype="Int64"),
    "bool": lambda rows: pd.Series([r > 1 for r in rows], dtype=bool),
    "str with None": lambda rows: pd.Series([LETTERS[r] for r in rows], dtype=object),
    "category": lambda rows: categories([LETTERS[r] for r in rows]),
    "datetime": lambda rows: pd.Series(
        [[pd.Timestamp("2024"), pd.Timestamp("2020"), pd.Timestamp("2022"), pd.NaT][r] for r in rows],
        dtype="datetime64[ns]",
    ),
    "tuple": lambda rows: pd.Series(
        [[(1, "a"), (0, "b"), (0, "a"), (2, "c")][r] for r in rows], dtype=object
    ),
    "two keys": lambda rows: pd.Series([[0.0, np.nan][r % 2] for r in rows], dtype=float),
}


def frames(kind: str) -> st.SearchStrategy[pd.DataFrame]:
    row = st.tuples(
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from(VALUES),
        st.sampled_from(VALUES),
        st.sampled_from(VALUES),
        st.sampled_from([0.0, 1.0, 2.5]),
        st.booleans(),
        st.integers(0, 5),  # of the index: duplicates
    )

    def build(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
        g, h, x, y, u, w, keep, index = (
            (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 8
        )
        made = pd.DataFrame({"x": x, "y": y, "u": u, "w": w}, dtype=float).assign(
            keep=np.array(keep, dtype=bool)
        )
        made["g"], made["h"] = KINDS[kind](g), KINDS["category"](h)
        return made.set_axis(pd.Index(index, dtype="int64"), axis=0)

    return st.lists(row, max_size=25).map(build)


def fate(row: Any, target: str, keys: list[str], options: dict[str, Any]) -> str:
    """What becomes of a row, said in the plainest way."""
    if options["dropna"] and any(not isinstance(row[k], tuple) and pd.isna(row[k]) for k in keys):
        return "without_key"
    if options["where"] and not row["keep"]:
        return "not_selected"
    if options["weights"] and row["w"] == 0:
        return "zero_weight"
    for value in (row["x"], row[target]):
        if np.isnan(value):
            return "missing"
        if np.isinf(value):
            return "infinite"
    return "used"


COUNTS = ["rows", "used", "missing", "infinite", "zero_weight", "not_selected"]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=examples(20))
@given(data=st.data())
def test_every_row_is_accounted_for(kind: str, data: Any) -> None:
    frame = data.draw(frames(kind))
    options: dict[str, Any] = {"dropna": data.draw(st.booleans()), "observed": data.draw(st.booleans())}
    options |= {"sort": data.draw(st.booleans())}
    options |= {
        "where": data.draw(st.sampled_from([None, "keep"])),
        "weights": data.draw(st.sampled_from([None, "w"])),
    }
    keys = ["g", "h"] if kind == "two keys" else ["g"]
    before = pd.util.hash_pandas_object(frame.drop(columns="g" if kind == "tuple" else [])).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GbregWarning)
        made = gbreg.fit(frame, by=keys, linear=["x"], targets=["y", "u"], backend="numpy", **options)

    grouping = {name: options[name] for name in ("sort", "observed", "dropna")}
    by = frame.groupby(keys, **grouping)
    pd.testing.assert_index_equal(made.keys, by.size().index)  # every key once
    assert made.keys.is_unique
    totals, per_group = made.accounting(), made.accounting(per_group=True)
    group_of = made_groups(frame, keys, grouping)
    for target in ("y", "u"):
        fates = [fate(row, target, keys, options) for _, row in frame.iterrows()]
        for name in ("used", "missing", "infinite", "zero_weight", "not_selected", "without_key"):
            assert totals.loc[target, name] == fates.count(name), (target, name)
        assert totals.loc[target, "rows"] == len(frame) == totals.loc[target].drop("rows").sum()
        want = np.zeros((made.n_groups, len(COUNTS)), dtype=int)
        for g, name in zip(group_of, fates, strict=True):
            assert (g < 0) == (name == "without_key")
            if g >= 0:
                want[g, 0] += 1
                want[g, COUNTS.index(name)] += 1
        assert per_group[target][COUNTS].to_numpy().tolist() == want.tolist()
        lost = (want[:, 2] + want[:, 3]) > 0
        assert made.flags[target]["rows_dropped"].tolist() == lost.tolist()
        assert made.flags[target]["zero_weights"].tolist() == (want[:, 4] > 0).tolist()
        assert made.nobs[target].tolist() == want[:, 1].tolist()
        assert ((made.status[target] == "no_data") == (want[:, 1] == 0)).all()
        assert ((made.status[target] == "too_few_rows") == (want[:, 1] == 1)).all()
    assert pd.util.hash_pandas_object(frame.drop(columns="g" if kind == "tuple" else [])).tolist() == before


def made_groups(frame: pd.DataFrame, keys: list[str], grouping: dict[str, Any]) -> list[int]:
    """The group of each row, by transforming row numbers: not by the numbering the library reads."""
    numbered = frame.reset_index(drop=True).assign(row=np.arange(len(frame)))
    out = [-1] * len(frame)
    by = numbered.groupby(keys, **grouping)["row"]
    lists = by.agg(list)
    for g, rows in enumerate(lists):
        for row in rows if isinstance(rows, list) else []:
            out[row] = g
    return out


def test_counts_that_do_not_add_up_are_an_internal_error() -> None:
    one, none = np.array([2]), np.array([0])
    fine = {"n_rows": 3, "n_without_key": 1, "rows": one, "not_selected": none, "zero_weight": none}
    fine |= {name: none[:, None] for name in ("missing", "infinite", "clipped")} | {"used": one[:, None]}
    RowCounts(**fine).check()
    for name, value in {"n_rows": 4, "n_without_key": 0, "used": none[:, None], "zero_weight": one}.items():
        with pytest.raises(gbreg.GbregError, match="internal error"):
            RowCounts(**{**fine, name: value}).check()


# warnings


def line() -> int:
    """Number of the caller's line."""
    return inspect.currentframe().f_back.f_lineno  # type: ignore[union-attr]


def bad_table() -> pd.DataFrame:
    """Groups 0 to 3 are fine, 4 to 9 are not."""
    frame = pd.concat([table(), table(2).assign(g=4), table(1).assign(g=5)], ignore_index=True)
    more = pd.concat([table(8).assign(g=g) for g in (6, 7, 8, 9)], ignore_index=True)
    more.loc[more["g"] <= 8, "z"] = 7.1
    more.loc[more["g"] == 9, "y"] = np.nan
    return pd.concat([frame, more], ignore_index=True)


def test_one_warning_with_counts_by_reason_and_the_first_keys(backend: str) -> None:
    with pytest.warns(GbregWarning) as caught:
        made = gbreg.fit(bad_table(), **{**CALL, "backend": backend})
    assert [str(w.message) for w in caught] == [
        "6 of 10 groups have no complete fit: 2 too_few_rows (4, 5), 1 no_data (9), "
        "3 rank_deficient (6, 7, 8; predictors 'z'); see .status"
    ]
    assert made.status["y"].value_counts()[["ok", "too_few_rows", "no_data", "rank_deficient"]].tolist() == [
        4,
        2,
        1,
        3,
    ]
    many = pd.concat([table(), pd.DataFrame({"g": np.arange(100, 200), "x": 1.0, "z": 2.0, "y": 3.0})])
    with pytest.warns(GbregWarning, match=r": 100 too_few_rows \(100, 101, 102, \.\.\.\);") as caught:
        gbreg.fit(many, **{**CALL, "backend": backend})
    assert len(caught) == 1


def test_several_targets_are_one_warning() -> None:
    frame = bad_table().assign(q=1.0)
    with pytest.warns(GbregWarning, match=r"2 too_few_rows \(4, 5\), 1 no_data \(9\), 4 rank") as caught:
        gbreg.fit(frame.assign(z=frame["z"].where(frame["g"] != 9, 1.0)), **{**CALL, "targets": ["y", "q"]})
    assert len(caught) == 1


def lines_of(caught: list[warnings.WarningMessage]) -> list[tuple[str, int]]:
    assert all(w.category is GbregWarning for w in caught)
    return [(w.filename, w.lineno) for w in caught]


def test_the_warning_points_at_the_callers_line(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = bad_table()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gbreg.fit(frame, **CALL)
        lines = [line() - 1]
        frame.gbreg.fit(**CALL)
        lines += [line() - 1]
        frame.pipe(gbreg.fit, **CALL)
        lines += [line() - 1]
        (lambda: gbreg.fit(frame, **CALL))()  # in a function of the user's
        lines += [line() - 1]
        monkeypatch.setattr("gbreg.regression.INTERRUPTIBLE_ROWS", 1)  # in a helper thread
        frame.gbreg.fit(**CALL)
        lines += [line() - 1]
    assert lines_of(caught) == [(__file__, number) for number in lines]


def test_warnings_about_keys_point_at_the_callers_line(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table().assign(g=lambda d: 2.0**60 * (1 + d["g"]))
    monkeypatch.setattr("gbreg.regression.INTERRUPTIBLE_ROWS", 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = frame.gbreg.fit(**CALL)
        lines = [line() - 1]
        layout = frame.gbreg.group(by="g")
        lines += [line() - 1]
        gbreg.group(frame, by="g")
        lines += [line() - 1]
        made.predict(frame)
        lines += [line() - 1]
    assert lines_of(caught) == [(__file__, number) for number in lines]
    assert all("key 'g' is float64 and beyond 2**53" in str(w.message) for w in caught)
    gbreg.fit(frame, **{**CALL, "by": layout})  # said when the layout was made


def test_what_is_no_failure_does_not_warn(backend: str) -> None:
    frame = table()
    frame = frame[(frame["g"] != 3) | (frame.index < 12)]
    assert (frame["g"] == 3).sum() == 3
    made = gbreg.fit(frame, **{**CALL, "backend": backend})
    assert made.status["y"].tolist() == ["ok", "ok", "ok", "saturated"]
    gone = gbreg.fit(frame, **{**CALL, "backend": backend}, where=frame["g"] > 1)
    assert gone.status["y"].tolist() == ["no_data", "no_data", "ok", "saturated"]
    with pytest.warns(GbregWarning, match=r"1 too_few_rows \(0\)"):  # selected, but not enough of it
        gbreg.fit(frame, **{**CALL, "backend": backend}, where=(frame["g"] > 0) | (frame.index == 0))


# the accessor


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        table(),
        table().rename(columns={"x": "z"}),
        table().set_axis(pd.MultiIndex.from_product([["a"], list("wxyz")]), axis=1),
        pd.DataFrame([[1, 2]], columns=[0, 0]),
        pd.DataFrame({"gbreg": [1]}, index=[pd.NaT]),
        pd.DataFrame({None: [object()]}),
    ],
    ids=["none", "empty", "plain", "duplicates", "two levels", "int duplicates", "its own name", "None"],
)
def test_looking_at_a_frame_is_safe(frame: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "gbreg" in dir(frame)
        assert hasattr(frame, "gbreg")
        assert hasattr(frame.gbreg, "fit")
        assert not hasattr(frame.gbreg, "nothing")
        assert {"fit", "group"} <= set(dir(frame.gbreg))
        assert isinstance(repr(frame.gbreg), str)


def test_the_accessor_is_the_function(backend: str) -> None:
    call = {**CALL, "backend": backend}
    frame = table()
    want = gbreg.fit(frame, **call)
    for made in (frame.gbreg.fit(**call), frame.pipe(gbreg.fit, **call)):
        pd.testing.assert_frame_equal(made.params, want.params)
        pd.testing.assert_frame_equal(made.bse, want.bse)
        pd.testing.assert_frame_equal(made.status, want.status)


def test_a_fit_keeps_no_frame(backend: str) -> None:
    frame = table()
    frame.index = pd.Index([f"row {i}" for i in range(len(frame))])
    call = {**CALL, "backend": backend, "weights": frame["x"].abs() + 1, "where": lambda d: d["x"] < 9}
    made = frame.gbreg.fit(**call)
    refs = [weakref.ref(frame), weakref.ref(frame.index), weakref.ref(call["weights"])]
    del frame, call
    if any(ref() is not None for ref in refs):
        gc.collect()  # pandas 2.2 keeps an accessor and its frame in a cycle
    assert [ref() for ref in refs] == [None] * 3
    assert made.n_groups == 4


@pytest.mark.skipif(
    int(pd.__version__.partition(".")[0]) < 3, reason="pandas 2.2 caches accessors in a cycle"
)
def test_a_frame_goes_at_once() -> None:
    frame = table()
    gc.disable()
    try:
        frame.gbreg.fit(**CALL)
        ref = weakref.ref(frame)
        del frame
        assert ref() is None
    finally:
        gc.enable()


def test_typos_in_options_have_their_nearest_name() -> None:
    frame = table()
    for fit in (frame.gbreg.fit, partial(gbreg.fit, frame)):
        with pytest.raises(TypeError, match="argument 'weigths'; did you mean 'weights'"):
            fit(**CALL, weigths="w")
        with pytest.raises(TypeError, match="other than formula= go by their names"):
            fit("g", ["x"], ["y"])

        def broken(d: pd.DataFrame) -> Any:
            raise TypeError("in the caller's code")

        with pytest.raises(TypeError, match=r"^in the caller's code$"):
            fit(**{**CALL, "linear": [("new", broken)]})
    assert list(inspect.signature(gbreg.fit).parameters)[1:3] == ["formula", "linear"]


def test_advice_for_what_is_often_given() -> None:
    frame = table()
    for wrong, message in (
        ({"linear": None}, "got NoneType; give linear= and targets=, or a formula"),
        ({"linear": [["x"]]}, "got list in the list"),
        ({"by": frame.groupby("g")}, "got DataFrameGroupBy; give the frame, and by="),
        ({"bounds": [(0, None), (0, None)]}, "one pair is for all predictors, a mapping of terms to pairs"),
    ):
        with pytest.raises(SpecError, match=message):
            frame.gbreg.fit(**{**CALL, **wrong})
    fit = frame.gbreg.fit(**CALL, n_jobs=np.int64(2))
    with pytest.raises(SpecError, match=r"gbreg takes a pandas.DataFrame, got numpy.ndarray"):
        fit.predict(frame.to_numpy())
    with pytest.raises(SpecError, match=r"restrictions are one string such as .* got list"):
        fit.wald_test(["x = 0"])


def test_a_list_of_values_is_a_key() -> None:
    frame = table()
    want = gbreg.fit(frame, **CALL)
    for by in (frame["g"].tolist(), [frame["g"].tolist()]):
        fit = gbreg.fit(frame, **{**CALL, "by": by})
        assert fit.params.reset_index(drop=True).equals(want.params.reset_index(drop=True))
        assert fit.predict(frame, by=by).equals(want.predict(frame))
        assert gbreg.group(frame, by=by).sizes.tolist() == [10] * 4
    with pytest.raises(ColumnError, match=r"names what is not a column of the frame: 'a'.* and 34 others"):
        gbreg.fit(frame, **{**CALL, "by": ["a"] * 39})
    with pytest.raises(ColumnError, match="'typo'"):
        gbreg.fit(frame.iloc[:2], **{**CALL, "by": ["g", "typo"]})


def test_masks_are_missing_values(backend: str) -> None:
    frame, call = table(), {**CALL, "backend": backend}
    hidden = np.arange(40) < 6
    wild = np.ma.masked_array(np.where(hidden, 1e6, frame["x"]), mask=hidden)
    want = gbreg.fit(frame[~hidden], **call).params
    fit = gbreg.fit(frame, **{**call, "linear": [("x", lambda d: wild), "z"]})
    pd.testing.assert_frame_equal(fit.params, want)
    assert fit.nobs["y"].sum() == 34
    ones = np.ma.masked_array(np.ones(40), mask=hidden)
    with pytest.raises(gbreg.WeightsError, match="6 rows with a key are not, first nan"):
        gbreg.fit(frame, **call, weights=ones)
    with pytest.raises(gbreg.GbregError, match="where="):
        gbreg.fit(frame, **call, where=ones.astype(bool))
    with pytest.raises(gbreg.MissingDataError, match="no cluster for 6 rows"):
        gbreg.fit(frame, **call, groups=np.ma.masked_array(np.arange(40), mask=hidden), cov_type="cluster")
    with pytest.raises(SpecError, match="a masked array in by= would lose its mask"):
        gbreg.fit(frame, **{**call, "by": np.ma.masked_array(np.arange(40) % 4, mask=hidden)})


def test_a_series_in_by_that_shares_no_label_is_refused() -> None:
    frame = table()
    with pytest.raises(SpecError, match="a Series in by= shares no index label with the frame"):
        gbreg.fit(frame, **{**CALL, "by": frame["g"].set_axis(frame.index + 1000)})


# group


@pytest.mark.parametrize("dropna", [True, False])
def test_a_layout_of_rows_in_another_order_is_refused(dropna: bool) -> None:
    frame = table().reset_index(drop=True)
    frame["c"] = pd.Categorical(frame["g"].map({0: "a", 1: "b", 2: "c"}))  # missing in the last group
    other = frame.sample(frac=1, random_state=0).reset_index(drop=True)
    for by in ("g", "c", ["g", "c"]):
        layout = gbreg.group(frame, by=by, dropna=dropna)
        with pytest.raises(SpecError, match="rows in another order: row 0 of the frame"):
            gbreg.fit(
                frame.assign(g=pd.array([pd.NA] * 40, dtype="Int64"), c=None),
                **{**CALL, "by": layout, "dropna": dropna},
            )
        call = {**CALL, "by": layout, "dropna": dropna}
        want = gbreg.fit(frame, **{**call, "by": by})
        assert gbreg.fit(frame.drop(columns="c"), **call).params.equals(want.params)
        with pytest.raises(
            SpecError, match=r"rows in another order: row \d+ of the frame has other keys there"
        ):
            gbreg.fit(other, **call)


def test_group() -> None:
    frame = table().sample(frac=1, random_state=2)
    layout = gbreg.group(frame, by="g")
    assert isinstance(layout, GroupLayout)
    assert layout.keys.tolist() == [0, 1, 2, 3]
    assert layout.sizes.tolist() == [10] * 4
    for g in range(4):
        rows = layout.order[layout.offsets[g] : layout.offsets[g + 1]]
        assert frame["g"].to_numpy()[rows].tolist() == [g] * 10
        assert (np.diff(rows) > 0).all()
    for same in (frame.gbreg.group(by=["g"]), gbreg.group(frame.set_index("g"), level="g")):
        assert same.order.tolist() == layout.order.tolist()
        assert same.offsets.tolist() == layout.offsets.tolist()
    assert gbreg.group(frame, by="g", sort=False).keys.tolist() == frame["g"].unique().tolist()
    with pytest.raises(SpecError, match="give by= or level=, one of them"):
        gbreg.group(frame)
    with pytest.raises(
        gbreg.ColumnError, match="by= names what is not a column of the frame: 'G'; did you mean 'g'"
    ):
        gbreg.group(frame, by="G")


def test_public_names_are_there() -> None:
    assert sorted(gbreg.__all__) == gbreg.__all__
    assert all(hasattr(gbreg, name) for name in gbreg.__all__)
    assert isinstance(gbreg.__version__, str)
    assert sys.modules["gbreg.accessor"].GbregAccessor is pd.DataFrame.gbreg


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"X": ["x"]}, "gbreg calls it linear="),
        ({"groupby": "g"}, "gbreg calls it by="),
        ({"sigma": "s"}, r"gbreg calls it weights=, which takes 1/sigma\*\*2"),
        ({"subset": None}, "gbreg calls it where="),
        ({"cluster": "g"}, "gbreg calls it groups=, with cov_type='cluster'"),
    ],
)
def test_options_of_other_libraries_are_recognised(option: dict[str, Any], hint: str) -> None:
    for call in (gbreg.fit, lambda frame, **options: frame.gbreg.fit(**options)):
        with pytest.raises(TypeError, match=f"unexpected keyword argument.*; {hint}$"):
            call(table(), **CALL, **option)


@pytest.mark.parametrize(
    ("option", "ending"),
    [
        ({"cov_type": "nonrobust"}, "got 'nonrobust'; gbreg calls it 'classical'"),
        ({"cov_type": "Fixed scale"}, "got 'Fixed scale'; gbreg calls it 'known'"),
        ({"loss": "Tukey"}, "got 'Tukey'; gbreg calls it 'bisquare'"),
        ({"loss": "quantile"}, "got 'quantile'; gbreg calls it 'absolute'"),
        ({"cov_type": None}, "got None"),
        ({"missing": "nonrobust"}, "got 'nonrobust'"),  # of another option
    ],
)
def test_choices_of_other_libraries_are_recognised(option: dict[str, Any], ending: str) -> None:
    with pytest.raises(SpecError, match=f"{ending}$"):
        gbreg.fit(table(), **{**CALL, **option})


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"where": "x > 0"}, r"'x > 0'; for an expression give a callable: lambda d: d.eval\('x > 0'\)"),
        ({"weights": "1/z**2"}, r"give a callable: lambda d: d.eval\('1/z\*\*2'\)"),
        ({"linear": ["x", "x*z"]}, r"give a callable: \('x\*z', lambda d: d.eval\('x\*z'\)\)"),
        ({"weights": "z-score"}, "'z-score'$"),
    ],
)
def test_what_looks_like_code_is_told_how_to_be_asked_for(option: dict[str, Any], hint: str) -> None:
    with pytest.raises(gbreg.ColumnError, match=hint):
        gbreg.fit(table(), **{**CALL, **option})


def test_series_that_lack_rows(backend: str) -> None:
    frame = table()
    call = {**CALL, "backend": backend}
    with pytest.warns(
        GbregWarning, match=r"^a Series in by= has no value for 3 of \d+ rows, whose labels"
    ) as told:
        fit = gbreg.fit(frame, **{**call, "by": frame["g"].iloc[3:]})
    assert len(told) == 1
    assert fit.accounting()["without_key"].tolist() == [3] * len(fit.targets)
    with pytest.raises(
        gbreg.WeightsError, match=r"3 rows with a key are not, first nan.*; a Series is aligned"
    ):
        gbreg.fit(frame, **{**call, "weights": frame["x"].abs().iloc[3:]})


def test_only_weights_that_alignment_lost_are_said_to_be_aligned() -> None:
    frame = pd.DataFrame({"g": 0, "x": [1.0, 2, 4], "y": [1.0, 3, 2]})
    weights = pd.Series([1.0, -1.0, 1.0])
    with pytest.raises(gbreg.WeightsError, match=r"set them to 0 to leave rows out$"):
        gbreg.fit(frame, by="g", linear=["x"], targets=["y"], weights=weights, backend="numpy")
