# SPDX-License-Identifier: MIT
"""Keys and groups against pandas' own result and against lists of rows made by hand."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_index_equal
from thorough import examples

import gbreg
from gbreg import distinct, keys, lookup, numbering
from gbreg.backends._rowops import CompiledRows
from gbreg.errors import ColumnError, DTypeError, GbregWarning, SpecError
from gbreg.layout import make_layout
from gbreg.rowops import NUMPY
from gbreg.spec import Grouping

PANDAS3 = int(pd.__version__.split(".")[0]) >= 3
SEEDED = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
DAYS = pd.to_datetime(["2020-01-05", "2020-01-01", "2020-03-09", None])
TUPLES = [("b", 2), ("a", 1), ("b", 1)]


def objects(values: list[Any]) -> pd.Series:
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return pd.Series(out)


def picked(values: list[Any]) -> Any:
    """A column maker: small numbers pick from these values."""
    return lambda rows: [values[i % len(values)] for i in rows]


KINDS: dict[str, Any] = {
    "int": lambda r: np.array(r, dtype=np.int64) - 2,
    "int8": lambda r: np.array(picked([127, -128, 0, 5])(r), dtype=np.int8),
    "gaps": lambda r: np.array(picked([0, 2_000_000_000, -7])(r), dtype=np.int64),
    "extremes": lambda r: np.array(picked([2**63 - 1, -(2**63), 0])(r), dtype=np.int64),
    "low": lambda r: np.array(picked([-(2**63), -(2**63) + 3])(r), dtype=np.int64),
    "uint64": lambda r: np.array(picked([2**64 - 1, 2**64 - 3, 2**64 - 2])(r), dtype=np.uint64),
    "uint8": lambda r: np.array(picked([255, 0, 9])(r), dtype=np.uint8),
    "bool": lambda r: np.array(picked([True, False])(r), dtype=np.bool_),
    "float": lambda r: np.array(picked([0.5, np.nan, -0.0, 0.0, -3.0])(r), dtype=np.float64),
    "str": lambda r: picked(["b", "a", None, "Z"])(r),
    "tuples": lambda r: objects(picked(TUPLES)(r)),
    "category": lambda r: pd.Categorical(picked(["b", "a", None, "c"])(r), categories=["c", "x", "a", "b"]),
    "full": lambda r: pd.Categorical(picked([3, 1, 2])(r), categories=[1, 2, 3, 4]),
    "ordered": lambda r: pd.Categorical(picked(["lo", "hi"])(r), ["lo", "mid", "hi"], ordered=True),
    "cut": lambda r: pd.cut(np.array(picked([0.5, 2.5, 9.0])(r), dtype=float), [0, 1, 2, 3]),
    "Int64": lambda r: pd.array(picked([2**60, None, 2**60 + 1, -1])(r), dtype="Int64"),
    "boolean": lambda r: pd.array(picked([True, None, False])(r), dtype="boolean"),
    "day": lambda r: pd.DatetimeIndex(picked(list(DAYS))(r)),
    "zone": lambda r: pd.DatetimeIndex(picked(list(DAYS.tz_localize("Europe/Rome")))(r), tz="Europe/Rome"),
    "gap": lambda r: pd.to_timedelta(picked([3, 1, None])(r), unit="h"),
    "period": lambda r: pd.PeriodIndex(picked(["2020-03", "2020-01", None])(r), freq="M"),
}


def frame_of(rows: list[int], index: pd.Index | None = None, kinds: Collection[str] = KINDS) -> pd.DataFrame:
    """Only the columns that are needed: to make all of them takes longer than what is tested."""
    numbered = [(j, kind) for j, kind in enumerate(KINDS) if kind in kinds]
    columns = {kind: KINDS[kind]([r + 3 * j for r in rows]) for j, kind in numbered}
    frame = pd.DataFrame(columns, index=None if columns else range(len(rows)))
    if index is not None:
        frame.index = index
    return frame


rows_lists = st.lists(st.integers(0, 6), max_size=14)
flags = st.fixed_dictionaries({name: st.booleans() for name in ("sort", "observed", "dropna")})


def plain(value: Any) -> Any:
    """One spelling for every missing value."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return "missing"
    return value


def rows_by_hand(*values: Any, dropna: bool) -> dict[Any, list[int]]:
    """Rows of each key, from the keys' values alone."""
    groups: dict[Any, list[int]] = {}
    for row, key in enumerate(zip(*[[plain(v) for v in column] for column in values], strict=True)):
        if not (dropna and "missing" in key):
            groups.setdefault(key, []).append(row)
    return groups


def rows_of(layout: Any) -> list[list[int]]:
    return [layout.order[a:b].tolist() for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]


def key_tuples(index: pd.Index) -> list[Any]:
    levels = [index.get_level_values(i) for i in range(index.nlevels)]
    return list(zip(*[[plain(v) for v in level] for level in levels], strict=True))


def check(frame: pd.DataFrame, by: Any, *values: Any, level: Any = None, **options: bool) -> None:
    """Keys are pandas', rows are the ones listed by hand from the keys' values."""
    layout = make_layout(frame, Grouping(by, level, **options))
    assert_index_equal(layout.keys, frame.groupby(by, level=level, **options).size().index, exact=True)
    want = rows_by_hand(*values, dropna=options.get("dropna", True))
    got = rows_of(layout)
    assert len(got) == len(layout.keys)
    assert [want.pop(key, []) for key in key_tuples(layout.keys)] == got
    assert not want


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::gbreg.errors.GbregWarning")
@given(rows=rows_lists, options=flags, as_list=st.booleans())
@settings(SEEDED, max_examples=examples(25))
def test_one_label_of_every_kind(kind: str, rows: list[int], options: dict[str, bool], as_list: bool) -> None:
    frame = frame_of(rows, kinds=[kind])
    check(frame, [kind] if as_list else kind, frame[kind], **options)


def test_missing_among_tuples() -> None:
    """Apart: with dropna=False pandas 3 warns of its own way to sort these."""
    frame = pd.DataFrame({"k": objects([("b", 2), None, ("a", 1), ("b", 2)])})
    check(frame, "k", frame["k"])
    check(frame, "k", frame["k"], sort=False, dropna=False)


@pytest.mark.compiled
@given(
    rows=rows_lists,
    options=flags,
    by=st.lists(st.sampled_from(list(KINDS)), min_size=2, max_size=3, unique=True),
)
@settings(SEEDED, max_examples=examples(300))
def test_several_labels(rows: list[int], options: dict[str, bool], by: list[str]) -> None:
    frame = frame_of(rows, kinds=by)
    check(frame, by, *[frame[kind] for kind in by], **options)


@pytest.mark.parametrize("n_keys", [31, 32, 33, 70])
def test_more_keys_than_an_array_has_dimensions(n_keys: int) -> None:
    labels = [f"k{i}" for i in range(n_keys)]
    frame = pd.DataFrame(np.random.default_rng(n_keys).integers(0, 2, (200, n_keys)), columns=labels)
    frame[labels[7:-7]] = 5  # the product of what keys may be has to stay in int64
    for ops in (NUMPY, CompiledRows(1)):
        got = make_layout(frame, Grouping(labels), ops)
        assert numbering.find_digits(frame, Grouping(labels), ops) is not None
        assert_index_equal(got.keys, frame.groupby(labels).size().index, exact=True)


@pytest.mark.parametrize(
    "by", [["int", "bool"], ["full", "int8"], ["uint64", "category", "int"], ["low", "cut"]]
)
@given(rows=rows_lists.filter(bool), options=flags)
@settings(SEEDED, max_examples=examples(40))
def test_numbered_here_and_by_pandas_alike(by: list[str], rows: list[int], options: dict[str, bool]) -> None:
    frame = frame_of(rows, kinds=by)
    for labels in (by, by[:1]):
        grouping = Grouping(labels, **options)
        digits = numbering.find_digits(frame, grouping, NUMPY)
        if digits is None:
            continue
        got, want = numbering.mixed_radix(digits, labels, NUMPY), keys._ask_pandas(frame, grouping)
        assert_index_equal(got.keys, want.keys, exact=True)
        renumbered = got.codes
        if got.occupied is not None:
            place = np.full(len(got.sizes) + 1, -1)
            place[got.occupied] = np.arange(len(got.occupied))
            renumbered = place[got.codes]
        np.testing.assert_array_equal(renumbered, want.codes)


@pytest.mark.parametrize(
    ("by", "mine"),
    [
        ("int", True),
        ("bool", True),
        ("uint64", True),
        ("low", True),
        ("category", True),
        (["int", "bool", "category"], True),
        ("gaps", True),
        ("extremes", True),
        ("Int64", False),
        ("float", False),
        (["int", "gaps"], True),
    ],
)
def test_which_keys_are_numbered_here(by: Any, mine: bool) -> None:
    frame = frame_of([0, 1, 2, 3])
    assert (numbering.find_digits(frame, Grouping(by), NUMPY) is not None) == mine
    assert numbering.find_digits(frame, Grouping(by, sort=False), NUMPY) is None


@pytest.mark.compiled
@pytest.mark.parametrize("ops", [NUMPY, CompiledRows(1), CompiledRows(2)])
def test_ranges_too_wide_for_a_table_are_hashed(ops: Any) -> None:
    long = np.r_[np.zeros(16384, dtype=int), 65539]  # 4 n is 65540
    for column in (np.array([65535, 0]), np.array([0, 65536]), long, long * 65540 // 65539):
        frame = pd.DataFrame({"k": column, "j": np.arange(len(column)) % 3, "c": pd.Categorical(column > 7)})
        frame.loc[0, "c"] = None
        for by in ("k", ["k", "j"], ["j", "k"], ["c", "k", "j"]):
            layout = make_layout(frame, Grouping(by), ops)
            assert_index_equal(layout.keys, frame.groupby(by, observed=True).size().index, exact=True)
            want = frame.groupby(by, observed=True).ngroup().fillna(-1)
            np.testing.assert_array_equal(layout.codes, want)


@given(rows=rows_lists, options=flags, seed=st.integers(0, 99))
@settings(SEEDED, max_examples=examples(50))
def test_row_aligned_keys_and_code(rows: list[int], options: dict[str, bool], seed: int) -> None:
    n = len(rows)
    index = pd.Index([f"r{i}" for i in range(n)])
    frame = frame_of(rows, index, ["int", "bool", "float", "str", "category", "Int64", "day"])
    shuffled = frame.sample(frac=1, random_state=seed)
    aligned = shuffled["Int64"].rename("aligned")
    check(frame, aligned, frame["Int64"], **options)
    check(frame, [aligned, "bool"], frame["Int64"], frame["bool"], **options)
    check(frame, frame["int"].to_numpy(), frame["int"], **options)
    check(frame, [frame["float"].to_numpy(), "category"], frame["float"], frame["category"], **options)
    check(frame, pd.Categorical(frame["category"]), frame["category"], **options)
    check(frame, pd.Index(frame["day"], name="when"), frame["day"], **options)
    table = {f"r{i}": i % 3 for i in range(0, n, 2)}
    check(frame, table, [table.get(f"r{i}") for i in range(n)], **options)
    check(frame, lambda label: int(label[1:]) % 2, [i % 2 for i in range(n)], **options)
    mixed = [lambda label: len(label), table, "str"]
    check(frame, mixed, map(len, frame.index), [table.get(i) for i in frame.index], frame["str"], **options)


def test_series_that_lacks_rows_leaves_them_out() -> None:
    frame = pd.DataFrame({"x": range(4)}, index=list("abcd"))
    layout = make_layout(frame, Grouping(pd.Series([1, 2, 1], index=list("dba"))))
    assert layout.codes.tolist() == [0, 1, -1, 0]


@given(rows=rows_lists, options=flags)
@settings(SEEDED, max_examples=examples(50))
def test_levels(rows: list[int], options: dict[str, bool]) -> None:
    n = len(rows)
    frame = frame_of(rows, kinds=["bool", "str"])
    flat = frame.set_axis(pd.Index([r % 3 for r in rows], name="lev"))
    for level in (0, "lev", -1, ["lev"]):
        check(flat, None, flat.index, level=level, **options)
    check(flat, "lev", flat.index, **options)
    check(flat, ["lev", "str"], flat.index, flat["str"], **options)
    two = frame.set_axis(
        pd.MultiIndex.from_arrays([frame["str"], [i % 2 for i in range(n)]], names=["p", None])
    )
    second = two.index.get_level_values(1)
    check(two, None, two["str"], level="p", **options)
    check(two, None, second, level=1, **options)
    check(two, None, second, two["str"], level=[1, 0], **options)
    check(two, ["p", "bool"], two["str"], two["bool"], **options)


@given(rows=rows_lists, options=flags, own=st.tuples(st.booleans(), st.booleans()))
@settings(SEEDED, max_examples=examples(60))
def test_plain_groupers(rows: list[int], options: dict[str, bool], own: tuple[bool, bool]) -> None:
    kinds = ["int", "float", "str", "Int64", "day"]
    frame = frame_of(rows, pd.Index([r % 4 for r in rows], name="lev"), [*kinds, "bool"])
    for kind in kinds:
        grouper = pd.Grouper(key=kind, sort=own[0], dropna=own[1])
        layout = make_layout(frame, Grouping(grouper, **options))
        assert_index_equal(layout.keys, frame.groupby(grouper, **options).size().index)
        want = rows_by_hand(frame[kind], dropna=own[1])  # alone, its own options count
        assert rows_of(layout) == [want[key] for key in key_tuples(layout.keys)]
    in_list = [pd.Grouper(key="float"), pd.Grouper(level="lev"), "bool"]
    check(frame, in_list, frame["float"], frame.index, frame["bool"], **options)


def test_sorting_grouper_in_a_list_gets_its_own_rows() -> None:
    """pandas 2.2 and 3.1 number the rows of a sorted frame here, and so group the wrong ones."""
    frame = pd.DataFrame({"k": [2, 1, 2, 1], "c": list("aabb")})
    layout = make_layout(frame, Grouping([pd.Grouper(key="k", sort=True), "c"]))
    assert key_tuples(layout.keys) == [(1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert rows_of(layout) == [[1], [3], [0], [2]]


@given(rows=rows_lists.filter(bool), options=flags, freq=st.sampled_from(["2D", "7D", "MS", "12h"]))
@settings(SEEDED, max_examples=examples(60))
def test_frequency_groupers(rows: list[int], options: dict[str, bool], freq: str) -> None:
    when = [DAYS[r % 4] for r in rows]
    index = pd.Index([r % 2 for r in rows])  # duplicates: no way to align by label
    frame = pd.DataFrame({"t": when, "k": [r % 3 for r in rows]}, index=index)
    by_index = frame.set_axis(pd.DatetimeIndex(frame["t"], name="ti"))
    if frame["t"].isna().all():
        return
    first = frame["t"].min()
    edges = pd.date_range(
        pd.Timestamp("2019-12-31") if freq == "MS" else first.normalize(), "2020-04-01", freq=freq
    )
    if freq == "MS":
        edges = edges[edges <= pd.Timestamp("2020-03-31")]
    bins = [pd.NaT if pd.isna(t) else edges[edges <= t][-1] for t in when]
    for data, grouper in [
        (frame, pd.Grouper(key="t", freq=freq)),
        (by_index, pd.Grouper(level=0, freq=freq)),
        (by_index, pd.Grouper(freq=freq)),
    ]:
        options_of_bins = {**options, "dropna": True}  # a bin has no place for a missing time
        layout = make_layout(data, Grouping(grouper, **options))
        assert_index_equal(layout.keys, data.groupby(grouper, **options).size().index)
        want = rows_by_hand(bins, dropna=True)
        assert rows_of(layout) == [want.get(key, []) for key in key_tuples(layout.keys)]
        check(data, [grouper, "k"], bins, data["k"], **options_of_bins)


OBJECTS: dict[str, list[Any]] = {
    "words": ["b", "a", None, "Z", np.nan],
    "pairs": [("b", 2), ("a", 1), ("b", 1), None, np.nan],
    "gaps in pairs": [("b", np.nan), ("a", 1.0), ("b", float("nan")), (None, 1.0), ("a", 1)],
    "lengths": [("b",), ("b", 2), (), ("a", "z", 0)],
    "one hash": [(-1, "a"), (-2, "a"), (-2, "b"), (-1, "b")],
    "mixed": ["b", 3, "a", 1, None, 2.0],
    "unlike": [("a", 1), "a", 1, frozenset("a"), None],
    "numbers": [1, 1.0, True, 2, 0, False, -0.0, 0.5],
    "bools": [True, None, False],
    "missing": [None, np.nan, pd.NaT, pd.NA],
    "days": [pd.Timestamp("2020-01-05"), pd.NaT, pd.Timestamp("2020-01-01"), None],
}


BESIDE = ("int", "str", "category", "ordered", "float", "zone")


def objects_of(rows: list[int], kinds: Collection[str] = (*OBJECTS, *BESIDE)) -> pd.DataFrame:
    """Rows by number, so that the same key comes from different objects; other kinds beside them."""
    numbered = [(j, kind, OBJECTS[kind]) for j, kind in enumerate(OBJECTS) if kind in kinds]
    made = {kind: objects([v[(r + j) % len(v)] for r in rows]) for j, kind, v in numbered}
    return pd.DataFrame(made).astype(object).join(frame_of(rows, kinds=kinds))


def agree(frame: pd.DataFrame, by: Any, level: Any = None, **options: bool) -> None:
    """Pieces of rows give what pandas gives for all of them, to the spelling of the keys."""
    groupby = frame.groupby(by, level=level, **options)
    try:
        want = groupby.size()
    except TypeError as error:  # pandas cannot sort them
        with pytest.raises(TypeError, match=re.escape(str(error))):
            keys._ask_pandas(frame, Grouping(by, level, **options))
        return
    got = keys._ask_pandas(frame, Grouping(by, level, **options))
    assert_index_equal(got.keys, want.index, exact=True)
    assert repr(got.keys) == repr(want.index)  # 1, 1.0 and True are equal, None and nan are not
    sizes = np.bincount(got.codes[got.codes >= 0], minlength=len(want))
    np.testing.assert_array_equal(sizes, want)
    np.testing.assert_array_equal(got.sizes, want)
    if options.get("observed", True):  # else pandas numbers the groups that have rows
        np.testing.assert_array_equal(got.codes, groupby.ngroup().fillna(-1))


TWO_OF_ANY = st.lists(st.sampled_from([*OBJECTS, *BESIDE]), max_size=2, unique=True)


@pytest.mark.compiled
@pytest.mark.filterwarnings(
    "ignore:Constructing a DataFrame", "ignore:Dtype inference", "ignore:.*unable to sort"
)
@given(
    rows=st.lists(st.integers(0, 9), min_size=4, max_size=30),
    one=st.sampled_from(list(OBJECTS)),
    others=TWO_OF_ANY,
    options=flags,
    place=st.integers(0, 2),
    few=st.sampled_from([0.0, 1.0]),
)
@settings(SEEDED, max_examples=examples(130))
def test_objects_in_pieces(
    rows: list[int], one: str, others: list[str], options: dict[str, bool], place: int, few: float
) -> None:
    by = list(dict.fromkeys([*others[:place], one, *others[place:]]))
    frame = objects_of(rows, by)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distinct, "PIECE", 2)
        patch.setattr(distinct, "FEW", few)
        agree(frame, by, **options)
        agree(frame, one, **options)
        agree(frame.set_index(one), one, **options)
        moved = frame.set_index(by)
        agree(moved, None, level=by, **options)
        agree(moved.rename_axis([None] * len(by)), None, level=list(range(len(by))), **options)
        if len(by) > 1:
            agree(frame.set_index(by[0]), by, **options)
            agree(moved, None, level=-1, **options)


def test_which_keys_are_numbered_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = distinct.distinct_rows
    monkeypatch.setattr(distinct, "distinct_rows", lambda columns: seen.append(len(columns)) or real(columns))
    monkeypatch.setattr(distinct, "PIECE", 2)
    frame = objects_of([0, 1, 2, 3, 4, 5, 1, 2])
    for by in ("pairs", ["int", "numbers"], ["words", "mixed"]):
        keys._ask_pandas(frame, Grouping(by))
        keys._ask_pandas(frame.iloc[:3], Grouping(by))
    assert seen == [1, 2, 2]
    for by in ("words", "str", ["float", "category"], frame["pairs"], [lambda i: i, "pairs"]):
        keys._ask_pandas(frame, Grouping(by))
    assert seen == [1, 2, 2]
    with pytest.raises(SpecError, match=r"by= holds keys that cannot be hashed: .*list"):
        keys._ask_pandas(frame.assign(bad=objects([[i] for i in range(8)])), Grouping(["int", "bad"]))


def test_labels_of_any_type_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distinct, "PIECE", 2)
    pairs = objects_of([0, 1, 2, 1, 0, 2])["pairs"]
    frame = pd.DataFrame({0: pairs, 1: [2, 1, 2, 1, 2, 2]})
    frame.columns = pd.Index([("a", "b"), 7], tupleize_cols=False)
    for by in ([("a", "b")], [7, ("a", "b")], [("a", "b"), ("a", "b")]):
        agree(frame, by)
    frame.columns = pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])
    agree(frame, [("a", "b"), ("a", "c")])


def test_empty_frames_keep_the_dtype_of_the_keys() -> None:
    frame = frame_of([])
    for by in (*KINDS, ["int", "category"], ["str", "Int64"]):
        check(frame, by, **{"observed": True})
    assert len(make_layout(frame, Grouping("category", observed=False)).keys) == 4


def test_labels_of_any_type_and_columns_of_two_levels() -> None:
    frame = pd.DataFrame(
        {0: [2, 1, 2], ("a", "b"): list("xyx"), 1.5: [1, 1, 2], pd.Timestamp("2020"): [1, 2, 1]}
    )
    frame.columns = pd.Index(list(frame.columns), tupleize_cols=False)
    for label in frame.columns:
        check(frame, label, frame[label])
    check(frame, [0, ("a", "b")], frame[0], frame[("a", "b")])
    two = pd.DataFrame(
        [[1, 2, 3], [1, 5, 6]], columns=pd.MultiIndex.from_tuples([("b", "x"), ("a", "y"), ("a", "x")])
    )
    check(two, ("b", "x"), [1, 1])
    check(two, [("a", "y"), ("b", "x")], [2, 5], [1, 1])
    with pytest.raises(SpecError, match="full tuple"):
        make_layout(two, Grouping("a"))


@given(rows=rows_lists, others=rows_lists, by=st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=3))
@settings(SEEDED, max_examples=examples(150))
@pytest.mark.filterwarnings("ignore::gbreg.errors.GbregWarning")
def test_keys_are_found_by_value(rows: list[int], others: list[int], by: list[str]) -> None:
    by = list(dict.fromkeys(by))
    here = make_layout(frame_of(rows, kinds=by), Grouping(by, dropna=False)).keys
    grouping = Grouping(by, dropna=False, sort=False, observed=False)
    there = make_layout(frame_of(others, kinds=by), grouping).keys
    place = {key: i for i, key in enumerate(key_tuples(here))}
    want = [place.get(key, -1) for key in key_tuples(there)]
    assert lookup.find_keys(here, there).tolist() == want


def test_keys_of_other_dtypes_are_found() -> None:
    have = pd.CategoricalIndex(["b", "a", None], categories=["a", "b"])
    assert lookup.find_keys(have, pd.CategoricalIndex(["z", "a", None, "b"])).tolist() == [-1, 1, 2, 0]
    assert lookup.find_keys(have, pd.Index(["a", "q"])).tolist() == [1, -1]
    assert lookup.find_keys(pd.Index([2, 1]), pd.Index([1, None, 2], dtype="Int64")).tolist() == [1, -1, 0]
    overlapping = pd.IntervalIndex.from_tuples([(0, 2), (1, 3)])
    assert lookup.find_keys(overlapping, overlapping[::-1]).tolist() == [1, 0]
    assert lookup.find_keys(pd.Index([1.0, 2.0]), pd.Index([np.nan, 2.0])).tolist() == [-1, 1]
    cuts = pd.CategoricalIndex(pd.cut([0.5, 1.5], [0, 1, 2]))
    assert lookup.find_keys(cuts, pd.CategoricalIndex(pd.cut([1.5], [0.0, 1.0, 2.0, 9.0]))).tolist() == [1]
    with pytest.raises(SpecError, match=r"the groups have 1 keys, .*, not 2"):
        lookup.find_keys(cuts, pd.MultiIndex.from_tuples([(1, 2)]))


def test_grouping_leaves_the_frame_alone() -> None:
    frame = frame_of([3, 1, 2, 1])
    before = frame.copy(deep=True)
    for kind in KINDS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GbregWarning)
            make_layout(frame, Grouping(kind))
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("missing", [np.nan, 5.0])
def test_wide_float_keys_warn(missing: float) -> None:
    frame = pd.DataFrame({"id": [2.0**60, missing], "j": [1, 2]})
    with pytest.warns(GbregWarning, match=r"key 'id' is float64 and beyond 2\*\*53"):
        gbreg.group(frame, by="id")
    with pytest.warns(GbregWarning, match="key 'id'"):
        gbreg.group(frame, by=["j", "id"])


@pytest.mark.parametrize("value", [2.0**53, np.inf, -np.inf, np.nan])
def test_narrow_and_infinite_float_keys_do_not_warn(value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gbreg.group(pd.DataFrame({"id": [value, 1.0]}), by="id")


FRAME = pd.DataFrame(
    {
        "sector": [1, 2],
        "row": [1, 1],
        "bad": objects([[1], [2]]).to_numpy(),
        "half": np.array([1, 2], dtype=np.float16),
        "big": np.array([1, 2], dtype=">f8"),
    },
    index=pd.Index([7, 8], name="i"),
)


@pytest.mark.parametrize(
    ("by", "level", "error", "message"),
    [
        (
            ["sectr", "row", "rwo"],
            None,
            ColumnError,
            r"'sectr'; did you mean 'sector'\?, 'rwo'; did you mean 'row'",
        ),
        ("nothing", None, ColumnError, r"index levels are \['i'\]"),
        (["u", "v"], None, ColumnError, "'u', 'v'"),  # pandas takes two labels for the values of two rows
        (pd.Grouper(key="sectr"), None, ColumnError, "did you mean 'sector'"),
        (("sector", "row"), None, ColumnError, "a tuple is one label; for several columns give a list"),
        ([], None, SpecError, "names no key"),
        (np.arange(3), None, SpecError, r"ndarray\) must have one value per row, 2, got shape \(3,\)"),
        ([np.arange(2), [1, 2, 3]], None, SpecError, r"list\) must have one value per row"),
        (np.ones((2, 1)), None, SpecError, r"got shape \(2, 1\)"),
        (pd.Series([1, 2, 3], index=[7, 7, 8]), None, SpecError, "index differs and has duplicates"),
        (FRAME[["row"]], None, SpecError, "got DataFrame"),
        ({"sector"}, None, SpecError, "got set"),
        ("bad", None, SpecError, "cannot be hashed"),
        (["row", "bad"], None, SpecError, "cannot be hashed"),
        (lambda i: [i], None, SpecError, "cannot be hashed"),
        (None, "j", SpecError, "level= 'j' is not a level of the index, whose levels are"),
        (None, 1, SpecError, "level= 1 is not a level"),
        (None, [], SpecError, "names no key"),
        (pd.Grouper(level="j"), None, SpecError, "level of a Grouper in by"),
        (None, "row", SpecError, "level= 'row' is not a level .*; it is a column: by='row'"),
        (pd.Grouper(freq="D"), None, SpecError, "freq='D', which needs dates, but the index has dtype int64"),
        (pd.Grouper(key="row", freq="D"), None, SpecError, "needs dates, but column 'row' has dtype int64"),
        (pd.Grouper(level="i", freq="D"), None, SpecError, "needs dates, but level 'i' has dtype int64"),
        (["row", pd.Grouper(key="bad", freq="h")], None, SpecError, "needs dates, but column 'bad'"),
        ("half", None, DTypeError, r"key 'half' in by= has dtype '<f2', which .*; use .astype\('float32'\)"),
        (["row", "big"], None, DTypeError, r"key 'big' in by= has dtype '>f8', .*; use .astype\('float64'\)"),
        (np.array([1, 2], dtype=">f4"), None, DTypeError, r"key \(ndarray\) in by= has dtype '>f4'"),
    ],
)
def test_wrong_keys_are_named(by: Any, level: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make_layout(FRAME, Grouping(by, level))


def test_ambiguous_and_duplicated_labels() -> None:
    frame = pd.DataFrame({"k": [1, 2]}, index=pd.Index([1, 2], name="k"))
    with pytest.raises(SpecError, match=r"ambiguous: \['k'\]"):
        make_layout(frame, Grouping("k"))
    twice = pd.DataFrame([[1, 2]], columns=["k", "k"])
    with pytest.raises(SpecError, match=r"\['k'\] select several; rename"):
        make_layout(twice, Grouping(["k"]))
    index = pd.MultiIndex.from_arrays([[1], [2]], names=["a", "a"])
    with pytest.raises(SpecError, match="several index levels"):
        make_layout(pd.DataFrame({"x": [1]}, index=index), Grouping(level="a"))


def test_errors_of_a_callable_are_not_touched() -> None:
    def broken(label: Any) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        make_layout(FRAME, Grouping(broken))


def make_hashed_keys(n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    words = np.array(["bb", "a", "ÿ", "zz", "", "A", "é", "😀", "\uffff"], dtype=object)
    frame = pd.DataFrame({"x": rng.normal(size=n), "y": rng.normal(size=n), "i": rng.integers(0, 3, n)})
    frame["str"] = pd.Series(words[rng.integers(0, len(words), n)]).astype("string[pyarrow]")
    frame["gaps"] = frame["str"].where(rng.random(n) > 0.1)
    frame["python"] = frame["gaps"].astype("string[python]")
    halves = [["q", "p"] * (n // 4), ["p", "r"] * (n // 4)]
    frame["chunks"] = pd.Series(
        pd.arrays.ArrowStringArray(
            pa.chunked_array([pa.array(half, type=pa.large_string()) for half in halves])
        )
    )
    frame["id"] = rng.integers(-(2**60), 2**60, 50)[rng.integers(0, 50, n)]
    frame["uint"] = frame["id"].to_numpy().view(np.uint64) >> np.uint64(1)
    return frame


@pytest.mark.parametrize("options", [{}, {"sort": False}, {"dropna": False}], ids=str)
@pytest.mark.parametrize(
    "by",
    ["str", "gaps", "python", "chunks", "id", "uint", ["str", "i"], ["id", "str"], ["gaps", "chunks", "i"]],
    ids=str,
)
def test_hashed_keys_are_those_of_pandas_on_any_number_of_threads(by: Any, options: dict[str, bool]) -> None:
    frame = make_hashed_keys()
    want = keys._ask_pandas(frame, Grouping(by, **options))
    assert_index_equal(want.keys, frame.groupby(by, **options).size().index, exact=True)
    for ops in (NUMPY, CompiledRows(1), CompiledRows(3)):
        layout = make_layout(frame, Grouping(by, **options), ops)
        assert_index_equal(layout.keys, want.keys, exact=True)
        np.testing.assert_array_equal(layout.codes, want.codes)


@pytest.mark.parametrize("n_distinct", [1, 2047, 2048, 2049, 9000])
def test_hash_tables_grow(n_distinct: int) -> None:
    rng = np.random.default_rng(n_distinct)
    values = rng.integers(-(2**63), 2**63 - 1, n_distinct)[rng.integers(0, n_distinct, 12000)]
    uniques, codes = np.unique(values, return_inverse=True)
    for threads in (1, 2, 5):
        got = CompiledRows(threads).distinct(values)
        np.testing.assert_array_equal(got[0], codes)
        np.testing.assert_array_equal(got[1], uniques)


def test_hash_tables_of_words_grow() -> None:
    words = np.array([f"sensor-{i * 7919:x}" for i in range(9000)], dtype=object)
    drawn = np.random.default_rng(4).integers(0, len(words), 12000)
    frame = pd.DataFrame({"g": pd.Series(words[drawn]).astype("string[pyarrow]")})
    want = keys._ask_pandas(frame, Grouping("g"))
    for threads in (1, 2, 5):
        layout = make_layout(frame, Grouping("g"), CompiledRows(threads))
        assert_index_equal(layout.keys, want.keys, exact=True)
        np.testing.assert_array_equal(layout.codes, want.codes)


@pytest.mark.parametrize("labels", [(1, 2), (1, 0), ("k", 0), (2, 0, 1), (1.0, True), (0, 1)])
def test_labels_that_are_positions_of_other_keys(labels: tuple[Any, ...], tmp_path: Path) -> None:
    """pandas takes the number of a level for its name, if one is called so."""
    rng = np.random.default_rng(71)
    labels = ("k", True) if labels == (1.0, True) else labels
    plain = pd.DataFrame({"x": rng.normal(size=240), "y": rng.normal(size=240)})
    names = [f"key {i}" for i in range(len(labels))]
    for i, name in enumerate(names):
        plain[name] = 10 * (i + 1) + rng.integers(0, 3 - (i == 1), 240)
    plain.loc[plain.index[plain[names[0]] == 10][3:], names[0]] = 11  # some groups are too small
    frame = plain.rename(columns=dict(zip(names, labels, strict=True)))

    def fitted(data: pd.DataFrame, by: list[Any], **options: Any) -> gbreg.GroupFit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GbregWarning)
            return gbreg.fit(data, by=by, linear=["x"], targets=["y"], backend="numpy", **options)

    for options in ({}, {"fallback": "parent"}):
        want, got = fitted(plain, names, **options), fitted(frame, list(labels), **options)
        assert list(got.keys.names) == list(labels)
        np.testing.assert_array_equal(got.predict(frame), want.predict(plain))
        by = [frame[label].to_numpy() for label in labels]
        np.testing.assert_array_equal(got.predict(frame, by=by), want.predict(plain))
        np.testing.assert_array_equal(got.durbin_watson(frame), want.durbin_watson(plain))
        np.testing.assert_array_equal(
            got.augment(frame)[["y_fitted", "y_leverage"]], want.augment(plain)[["y_fitted", "y_leverage"]]
        )
        for table in ("to_frame", "tidy", "glance"):
            flat, right = getattr(got, table)(), getattr(want, table)()
            assert flat.columns[: len(labels)].tolist() == list(labels)
            np.testing.assert_array_equal(flat.iloc[:, : len(labels)], right.iloc[:, : len(labels)])
        key = got.keys[-1]
        assert str(got.group(key)) == str(want.group(key))
        for one, own in zip(got.parents.values(), want.parents.values(), strict=True):
            pd.testing.assert_index_equal(one.keys, own.keys, check_names=False)
        if all(type(label) is type(labels[0]) for label in labels):
            got.to_parquet(tmp_path / "fit.parquet")
            pd.testing.assert_index_equal(gbreg.read_parquet(tmp_path / "fit.parquet").keys, got.keys)
    layout = frame.gbreg.group(by=list(labels))
    again = fitted(frame, layout)
    np.testing.assert_array_equal(again.params, want.params)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_more_unused_categories_than_are_numbered(backend: str) -> None:
    """Every category is a group, also where they are so many that numbers of rows are made anew."""
    if backend == "numba":
        pytest.importorskip("numba")
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 70_000, 40)
    frame = pd.DataFrame({"g": pd.Categorical.from_codes(codes, np.arange(70_000)), "x": rng.normal(size=40)})
    fit = gbreg.fit(frame, by="g", linear=[], targets=["x"], observed=False, backend=backend)
    want = frame.groupby("g", observed=False)["x"].mean()
    assert fit.keys.equals(want.index)
    np.testing.assert_allclose(fit.params["x", "Intercept"], want, rtol=1e-15)


@pytest.mark.skipif(not PANDAS3, reason="pandas 2 warns of bins of periods")
def test_periods_are_binned_and_predicted() -> None:
    rng = np.random.default_rng(4)
    index = pd.period_range("2024-01-01", periods=48, freq="h")
    frame = pd.DataFrame({"y": rng.normal(size=48)}, index=index)
    fit = gbreg.fit(frame, by=pd.Grouper(freq="12h"), linear=[], targets=["y"], backend="numpy")
    want = frame["y"].groupby(np.repeat(range(4), 12)).transform("mean")
    np.testing.assert_allclose(fit.predict(frame)["y"], want, rtol=1e-14)
    named = frame.rename_axis("t").reset_index()
    with pytest.raises(gbreg.SpecError, match="by= has a Grouper that pandas refuses: "):
        gbreg.fit(named, by=pd.Grouper(key="t", freq="D"), linear=[], targets=["y"], backend="numpy")


WIDE = ["int64", "uint64", "Int64", "UInt64", "int64[pyarrow]", "uint64[pyarrow]", object]


@pytest.mark.parametrize("have", WIDE)
@pytest.mark.parametrize("want", WIDE)
def test_integers_beyond_floats_are_found_in_any_dtype(have: Any, want: Any) -> None:
    keys = pd.Index([2**53, 2**53 + 1, 5])
    assert lookup.find_keys(keys.astype(have), keys[::-1].astype(want)).tolist() == [2, 1, 0]
    one = pd.Index([2.0**53, 2.0**54, 5.0])
    assert lookup.find_keys(keys.astype(have), one).tolist() == [0, -1, 2]
    both = [pd.MultiIndex.from_arrays([some, some]) for some in (keys.astype(have), keys.astype(want))]
    assert lookup.find_keys(*both).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        (pd.to_timedelta([0, 1], unit="s"), ["1", "00:00:01.4"]),
        (pd.PeriodIndex(["2020-01", "2020-02"], freq="M"), ["2020", "2020-02"]),
        (pd.to_datetime(["2020-01-01", "2020-07-01"]), ["2020", "July 2020"]),
        (pd.to_datetime(["2020-01-01", "2020-07-01"], utc=True), ["2020", "2020-07-01"]),
    ],
)
@pytest.mark.parametrize("dtype", [object, "str", "string"])
def test_text_is_not_read_as_a_time(keys: Any, asked: list[str], dtype: Any) -> None:
    """It would be cut off, or completed."""
    assert lookup.find_keys(keys, pd.Index(asked, dtype=dtype)).tolist() == [-1, -1]
    assert lookup.find_keys(pd.Index(asked, dtype=dtype), keys).tolist() == [-1, -1]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize(("freq", "cut"), [("7D", 3), ("36h", 17), ("2W", 9), ("2ME", 40)])
def test_bins_beside_another_key_that_begin_elsewhere_are_refused(
    freq: str, cut: int, zone: str | None
) -> None:
    times = pd.date_range("2024-01-01", periods=120, tz=zone)
    frame = pd.DataFrame({"t": times, "h": np.tile([0, 1], 60), "y": np.arange(120.0)})
    by = [pd.Grouper(key="t", freq=freq), "h"]
    fit = gbreg.fit(frame, by=by, linear=[], targets=["y"], fallback=[["h"]], backend="numpy")
    assert (fit.predict(frame, source=True)[("y", "source")] == "own").all()
    with pytest.raises(SpecError, match=r"the bins of pandas\.Grouper begin elsewhere"):
        fit.predict(frame[cut:])
    whole = gbreg.fit(
        frame, by=[pd.Grouper(key="t", freq="D"), "h"], linear=[], targets=["y"], backend="numpy"
    )
    np.testing.assert_array_equal(whole.predict(frame[cut:])["y"], frame["y"][cut:])


def test_true_is_not_one() -> None:
    """Whatever holds it."""
    numbers, booleans = pd.Index([0, 1, 2**60]), pd.Index([False, True])
    for dtype in ("bool", object, "boolean", "bool[pyarrow]"):
        assert lookup.find_keys(numbers, booleans.astype(dtype)).tolist() == [-1, -1]
        assert lookup.find_keys(booleans.astype(dtype), numbers).tolist() == [-1] * 3
        assert lookup.find_keys(booleans.astype(dtype), pd.Index([True, None], dtype=object)).tolist() == [
            1,
            -1,
        ]


@pytest.mark.parametrize("dtype", ["uint8", "UInt8", "uint8[pyarrow]", "int8", "Int8"])
@pytest.mark.parametrize("other", ["int64", "Int64", "int64[pyarrow]", "float64", "Float64"])
def test_integers_of_other_widths_are_found(dtype: str, other: str) -> None:
    keys = pd.Index([3, 7, 100]).astype(dtype)
    asked = pd.Index([100, 300, -1, 7]).astype(other)
    assert lookup.find_keys(keys, asked).tolist() == [2, -1, -1, 1]
    assert lookup.find_keys(asked, keys).tolist() == [-1, 3, 0]
