# SPDX-License-Identifier: MIT
"""Columns as exact numbers, and the words for what cannot be one."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

from gbreg.columns import (
    Column,
    Numbers,
    as_columns,
    check_labels,
    column_at,
    is_label,
    is_label_list,
    read_columns,
    read_mask,
    read_weights,
)
from gbreg.errors import ColumnError, DTypeError, GbregWarning, SpecError

SEEDED = settings(derandomize=True, deadline=None, max_examples=examples(150))
NAN = float("nan")
needs_col = pytest.mark.skipif(not hasattr(pd, "col"), reason="pandas.col came with pandas 3")


class Name(enum.Enum):
    X = 1


def read(values: Any) -> Numbers:
    frame = pd.DataFrame({"other": np.zeros(len(values)), "x": values})
    return read_columns(frame, [Column("x", "x")], "linear")[0]


# labels


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "",
        0,
        -1,
        1.5,
        True,
        NAN,
        b"x",
        ("a", "b"),
        ("a", 1),
        ("a", None),
        (),
        (("a", 1), "b"),
        Name.X,
        np.int64(3),
        np.str_("x"),
        dt.date(2020, 1, 1),
        pd.Timestamp("2020"),
        pd.Interval(0, 1),
        pd.NaT,
        decimal.Decimal(1),
        pd.Period("2020"),
        ("name", "x"),
    ],
)
def test_labels(value: Any) -> None:
    assert is_label(value)
    assert is_label_list([value, "x"])
    assert as_columns(value, "linear") == as_columns([value], "linear") == (Column(value, value),)


@pytest.mark.parametrize(
    "value",
    [
        None,
        len,
        ["x"],
        {"x"},
        frozenset("x"),
        {"x": 1},
        np.array(3),
        np.arange(2),
        pd.Series([1]),
        pd.Index([1]),
        pd.DataFrame(),
        pd.Grouper(key="x"),
        pd.Categorical([1]),
        iter("x"),
        range(2),
        ("x", len),
        ("x", [1]),
        ("x", np.arange(2)),
        Column("x", "x"),
        (c for c in "xy"),
        slice(2),
    ],
)
def test_what_is_no_label(value: Any) -> None:
    assert not is_label(value)
    assert not is_label_list(["x", value])


def test_label_lists_are_lists() -> None:
    assert is_label_list([])
    assert not is_label_list(("x", "y"))
    assert not is_label_list("x")


def test_columns_from_labels_and_pairs() -> None:
    def square(frame: pd.DataFrame) -> Any:
        return frame["x"] ** 2

    assert as_columns([], "linear") == ()
    assert as_columns(("x2", square), "linear") == (Column("x2", square),)
    got = as_columns(["x", ("x2", square), ("a", "b"), 3, Column("q", "r")], "linear")
    assert [column.name for column in got] == ["x", "x2", ("a", "b"), 3, "q"]
    assert [column.label for column in got] == ["x", None, ("a", "b"), 3, "r"]
    assert got[1].portable() == Column("x2", "x2")
    assert got[0].portable() is got[0]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (None, "linear= takes a list of labels.*got NoneType"),
        ([["x"]], "got list"),
        (len, r"a callable needs a name: \('name', callable\)"),
        (pd.Index(["x"]), r"got .*Index; for several labels use list"),
        (np.array(["x"]), "got ndarray; for several labels use list"),
        (("x", pd.Series([1])), "got tuple; put values into the frame first"),
        ([pd.Series([1])], "got Series; put values into the frame first"),
        ({"x"}, "got set$"),
    ],
)
def test_what_is_no_column(what: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        as_columns(what, "linear")


def test_all_missing_labels_are_named_at_once() -> None:
    frame = pd.DataFrame({"speed": [1.0], "angle": [1.0], 1: [1.0]})
    check_labels(frame, ["speed", 1], "linear")
    with pytest.raises(ColumnError) as caught:
        check_labels(frame, ["sped", "speed", "Angle", 7], "targets")
    assert str(caught.value) == (
        "targets= names what is not a column of the frame: "
        "'sped'; did you mean 'speed'?, 'Angle'; did you mean 'angle'?, 7"
    )
    with pytest.raises(ColumnError, match=r"a tuple is one label; for several columns give a list"):
        check_labels(frame, [("speed", "angle")], "linear")


def test_labels_of_several_columns() -> None:
    twice = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["x", "x", "y"])
    assert column_at(twice, "y").tolist() == [3.0]
    with pytest.raises(SpecError, match=r"linear= needs one column.*\['x'\] select several; rename"):
        check_labels(twice, ["y", "x"], "linear")
    tuples = [("b", "p", 1), ("a", "p", 2), ("b", "p", 3), ("a", "q", 1), ("a", "q", 1)]
    two = pd.DataFrame([[1.0, 2.0, 3.0, 4.0, 5.0]], columns=pd.MultiIndex.from_tuples(tuples))
    assert column_at(two, ("b", "p", 3)).tolist() == [3.0]  # unsorted columns, no warning
    for partial in ("a", ("b", "p"), ("a", "p")):
        with pytest.raises(SpecError, match="select several; give the full tuple of a column"):
            check_labels(two, [partial], "linear")
    with pytest.raises(SpecError, match="rename the duplicates"):
        check_labels(two, [("a", "q", 1)], "linear")
    with pytest.raises(ColumnError, match=r"\('c', 'p', 3\)"):
        check_labels(two, [("c", "p", 3), ("b", "p", 3)], "linear")


def test_dates_as_labels_are_exact() -> None:
    frame = pd.DataFrame([[1.0, 2.0]], columns=pd.to_datetime(["2020-01-01", "2020-01-02"]))
    assert column_at(frame, pd.Timestamp("2020-01-02")).tolist() == [2.0]
    with pytest.raises(SpecError, match="select several"):
        check_labels(frame, ["2020"], "linear")  # pandas reads a year as a range of columns


# numbers

MISSING = [1.5, None, -2.0]


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (np.array([1.5, np.nan, -np.inf]), [1.5, NAN, -np.inf]),
        (np.array([1.5, np.nan, 0.1], dtype=np.float32), [1.5, NAN, float(np.float32(0.1))]),
        (np.array([1.5, 2.0], dtype=np.float16), [1.5, 2.0]),
        (np.array([1.5, 2.0], dtype=">f8"), [1.5, 2.0]),
        (np.array([127, -128], dtype=np.int8), [127.0, -128.0]),
        (np.array([255, 0], dtype=np.uint8), [255.0, 0.0]),
        (np.array([2**53, -(2**53)]), [2.0**53, -(2.0**53)]),
        (np.array([2**53, 0], dtype=np.uint64), [2.0**53, 0.0]),
        (np.array([True, False]), [1.0, 0.0]),
        (pd.array(MISSING, dtype="Float64"), [1.5, NAN, -2.0]),
        (pd.array([1, None, -2], dtype="Int64"), [1.0, NAN, -2.0]),
        (pd.array([1, None, 2], dtype="UInt8"), [1.0, NAN, 2.0]),
        (pd.array([True, None, False], dtype="boolean"), [1.0, NAN, 0.0]),
        (pd.array(MISSING, dtype="double[pyarrow]"), [1.5, NAN, -2.0]),
        (pd.array(MISSING, dtype="float[pyarrow]"), [1.5, NAN, -2.0]),
        (pd.array([1, None, -2], dtype="int64[pyarrow]"), [1.0, NAN, -2.0]),
        (pd.array([1, None, 2], dtype="uint8[pyarrow]"), [1.0, NAN, 2.0]),
        (pd.array([True, None, False], dtype="bool[pyarrow]"), [1.0, NAN, 0.0]),
        (pd.arrays.SparseArray([0.0, 1.5, np.nan]), [0.0, 1.5, NAN]),
        (pd.arrays.SparseArray([0, 3]), [0.0, 3.0]),
        (np.array([], dtype=np.int64), []),
        (pd.array([], dtype="Int64"), []),
    ],
)
def test_numeric_dtypes_become_float64(values: Any, want: list[float]) -> None:
    got = read(values)
    assert got.values.dtype == np.dtype("=f8")
    assert not got.is_integer
    np.testing.assert_array_equal(got.values, want)
    np.testing.assert_array_equal(got.as_float(), want)
    np.testing.assert_array_equal(got.is_missing(), np.isnan(want))


def test_float64_is_not_copied() -> None:
    frame = pd.DataFrame({"x": np.arange(4.0)})
    assert np.shares_memory(
        read_columns(frame, [Column("x", "x")], "linear")[0].values, frame["x"].to_numpy()
    )


BIG = [2**53 + 1, -(2**63), 0]


@pytest.mark.parametrize(
    ("values", "want", "missing"),
    [
        (np.array([2**53 + 1, 5]), [2**53 + 1, 5], None),
        (np.array([-(2**53) - 1, 5]), [-(2**53) - 1, 5], None),
        (np.array(BIG, dtype=">i8"), BIG, None),
        (np.array([2**64 - 1, 0], dtype=np.uint64), [2**64 - 1, 0], None),
        (pd.array(BIG, dtype="Int64"), BIG, None),
        (pd.array([2**60 + 1, None, 3], dtype="Int64"), [2**60 + 1, 0, 3], [False, True, False]),
        (pd.array([2**64 - 1, None], dtype="UInt64"), [2**64 - 1, 0], [False, True]),
        (pd.array([None, 2**60 + 1], dtype="int64[pyarrow]"), [0, 2**60 + 1], [True, False]),
        (pd.array([None, 2**64 - 1], dtype="uint64[pyarrow]"), [0, 2**64 - 1], [True, False]),
    ],
)
def test_integers_beyond_float64_stay_integers(values: Any, want: list[int], missing: Any) -> None:
    got = read(values)
    assert got.is_integer
    assert got.values.dtype == np.dtype(np.uint64 if max(want) > 2**63 else np.int64)
    assert got.values.tolist() == want
    assert (None if got.missing is None else got.missing.tolist()) == missing
    gaps = missing or [False] * len(want)
    assert got.is_missing().tolist() == gaps
    floats = [NAN if gap else float(value) for gap, value in zip(gaps, want, strict=True)]
    np.testing.assert_array_equal(got.as_float(), floats)


@given(
    values=st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-9, 9)), max_size=9)
)
@SEEDED
@pytest.mark.parametrize("dtype", ["Int64", "int64[pyarrow]"])
def test_every_integer_comes_back(dtype: str, values: list[int | None]) -> None:
    got = read(pd.array(values, dtype=dtype))
    back = [None if gap else int(v) for gap, v in zip(got.is_missing(), got.values, strict=True)]
    assert back == values
    assert got.is_integer == any(abs(value) > 2**53 for value in values if value is not None)


@pytest.mark.parametrize(
    ("values", "dtype", "advice"),
    [
        (pd.Series([1.0, 2.0], dtype=object), "object", "convert it"),
        (pd.array(["1", "2"], dtype="string"), "string", "convert it"),
        (pd.array(["1", "2"], dtype=pd.ArrowDtype(pa.string())), "string", "convert it"),
        (pd.Categorical([1, 2]), "category", "indicator columns"),
        (pd.to_datetime(["2020", "2021"]), "datetime64", "subtract a time"),
        (pd.to_datetime(["2020", "2021"]).tz_localize("UTC"), r"datetime64\[.*UTC", "subtract a time"),
        (
            pd.array(pd.to_datetime(["2020", "2021"]), dtype="timestamp[ns][pyarrow]"),
            "timestamp",
            "subtract a time",
        ),
        (pd.to_timedelta([1, 2], unit="s"), "timedelta64", "divide it by a unit"),
        (pd.period_range("2020", periods=2, freq="D"), "period", "convert it"),
        (pd.IntervalIndex.from_breaks([0, 1, 2]), "interval", "convert it"),
        (np.array([1 + 2j, 1]), "complex128", "real and imaginary"),
        (np.array([1, 2], dtype=np.longdouble), np.dtype(np.longdouble).name, "wider than float64"),
        (np.array([decimal.Decimal(1)] * 2), "object", "convert it"),
        (
            pd.array([decimal.Decimal(1)] * 2, dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
            "decimal128",
            "convert it",
        ),
        (pd.array([None, None], dtype=pd.ArrowDtype(pa.null())), "null", "convert it"),
    ],
)
def test_other_dtypes_are_refused_by_name(values: Any, dtype: str, advice: str) -> None:
    if dtype == "longdouble" or (values.dtype == np.longdouble and np.longdouble(1).itemsize == 8):
        pytest.skip("longdouble is float64 here")
    with pytest.raises(DTypeError, match=rf"^'x' in linear= has dtype {dtype}.*[;,] .*{advice}"):
        read(values)
    with pytest.raises(DTypeError, match="in weights= has dtype"):
        read_weights(pd.DataFrame({"x": values}), "x")


# derived columns

FRAME = pd.DataFrame({"x": [1.0, 2.0, 3.0], "n": [4, 5, 6]}, index=list("abc"))


@pytest.mark.parametrize(
    ("source", "want"),
    [
        (lambda d: d["x"] ** 2, [1.0, 4.0, 9.0]),
        (lambda d: (d["x"] * 2).sort_values(ascending=False), [2.0, 4.0, 6.0]),
        (lambda d: d["x"].to_numpy() + 1, [2.0, 3.0, 4.0]),
        (lambda d: [7, 8, 9], [7.0, 8.0, 9.0]),
        (lambda d: pd.array([7, None, 9], dtype="Int64"), [7.0, NAN, 9.0]),
        (lambda d: pd.Index([7, 8, 9]), [7.0, 8.0, 9.0]),
        (lambda d: 5, [5.0, 5.0, 5.0]),
        (lambda d: np.float32(0.5), [0.5, 0.5, 0.5]),
        (lambda d: True, [1.0, 1.0, 1.0]),
        (lambda d: d["x"].max(), [3.0, 3.0, 3.0]),
    ],
)
def test_derived_columns(source: Any, want: list[float]) -> None:
    before = FRAME.copy(deep=True)
    got = read_columns(FRAME, [Column("new", source)], "linear")[0]
    np.testing.assert_array_equal(got.values, want)
    pd.testing.assert_frame_equal(FRAME, before)


def test_derived_series_that_lack_rows_are_told() -> None:
    for source, want in (
        (lambda d: d["x"].iloc[1:], [NAN, 2.0, 3.0]),
        (lambda d: d["x"].iloc[:1], [1.0, NAN, NAN]),
    ):
        missing = sum(np.isnan(want))
        with pytest.warns(
            GbregWarning, match=f"^'new' in linear= has no value for {missing} of 3 rows, whose"
        ):
            got = read_columns(FRAME, [Column("new", source)], "linear")[0]
        np.testing.assert_array_equal(got.values, want)


def test_derived_integers_align_exactly() -> None:
    big = pd.Series([2**60 + 1, 2**60 + 2], index=list("cb"))
    with pytest.warns(GbregWarning, match="no value for 1 of 3 rows"):
        got = read_columns(FRAME, [Column("new", lambda d: big)], "linear")[0]
    assert got.values.tolist() == [0, 2**60 + 2, 2**60 + 1]
    assert got.is_missing().tolist() == [True, False, False]
    assert (
        read_columns(FRAME, [Column("new", lambda d: 2**60 + 1)], "linear")[0].values.tolist()
        == [2**60 + 1] * 3
    )


def test_repeated_frame_labels_take_the_same_value() -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]}, index=[7, 8, 7])
    assert read_weights(frame, pd.Series([0.5, 2.0], index=[8, 7])).tolist() == [2.0, 0.5, 2.0]
    assert read_weights(frame, pd.Series([1.0, 2.0, 3.0], index=[7, 8, 7])).tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (
            lambda d: np.arange(2),
            SpecError,
            r"'new' in linear= must have one value per row, 3, got shape \(2,\)",
        ),
        (lambda d: np.ones((3, 1)), SpecError, r"got shape \(3, 1\)"),
        (lambda d: d[["x"]], SpecError, r"got shape \(3, 1\)"),
        (lambda d: d["x"].set_axis([0, 0, 1]), SpecError, "cannot be aligned.*duplicates"),
        (lambda d: d["x"].reset_index(drop=True), SpecError, "shares no index label"),
        (lambda d: None, DTypeError, "has dtype object"),
        (lambda d: "x", DTypeError, "has dtype <U1"),
        (lambda d: d["x"].astype(str), DTypeError, "'new' in linear= has dtype"),
        (lambda d: 1 / 0, ZeroDivisionError, "division by zero"),
        (lambda d: d["y"], KeyError, "^'y'$"),
    ],
)
def test_derived_columns_that_do_not_fit(source: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_columns(FRAME, [Column("new", source)], "linear")[0]


@needs_col
def test_expressions() -> None:
    col: Any = pd.col  # type: ignore[attr-defined, unused-ignore]
    (bare,) = as_columns(col("x") ** 2, "linear")
    assert bare.name == "col('x') ** 2"
    assert bare.label is None
    assert bare.portable() == Column(bare.name, bare.name)
    named, other = as_columns([("x2", col("x") ** 2), col("n")], "linear")
    assert named.name == "x2"
    for frame in (FRAME, FRAME.assign(derived=0.0, last=1.0)):
        assert read_columns(frame, [named], "linear")[0].values.tolist() == [1.0, 4.0, 9.0]
        assert read_columns(frame, [other], "linear")[0].values.tolist() == [4.0, 5.0, 6.0]
    assert not is_label(col("x"))
    assert not is_label(("x2", col("x")))
    two = pd.DataFrame([[1.0, 2.0]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")]))
    assert read_columns(two, [Column("s", col(("a", "y")) * 3)], "linear")[0].values.tolist() == [6.0]
    with pytest.raises(ColumnError, match=r"^weights= has col\('zz'\) \* 2: Column 'zz' not found"):
        read_weights(FRAME, col("zz") * 2)
    with pytest.raises(ValueError, match=r"^could not convert"):  # errors inside are not touched
        read_weights(FRAME.assign(t="a"), col("t").astype(float))
    assert read_mask(FRAME, col("x") > 1).tolist() == [False, True, True]
    assert read_weights(FRAME, col("n") / 2).tolist() == [2.0, 2.5, 3.0]


# masks and weights


@pytest.mark.parametrize(
    "where",
    [
        np.array([True, False, True]),
        [True, False, True],
        pd.Series([False, True, True], index=list("bca")),
        pd.Series([True, False, True], index=list("abc"), dtype="boolean"),
        pd.Series([True, False, True], index=list("abc"), dtype="bool[pyarrow]"),
        pd.array([True, False, True], dtype="boolean"),
        lambda d: d["x"] != 2,
        "flag",
    ],
)
def test_masks(where: Any) -> None:
    got = read_mask(FRAME.assign(flag=[True, False, True]), where)
    assert got is not None
    assert got.dtype == np.bool_
    assert got.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (
            pd.Series([True, None, True], index=list("abc"), dtype="boolean"),
            SpecError,
            "no value for 1 of 3 rows",
        ),
        (pd.Series([True, True], index=list("ab")), SpecError, "no value for 1 of 3 rows"),
        (np.array([True]), SpecError, r"where= must have one value per row, 3, got shape \(1,\)"),
        (np.array([1, 0, 1]), DTypeError, "where= must be boolean, got dtype int64"),
        ("x", DTypeError, "where= must be boolean, got dtype float64"),
        (pd.Series([True, None, True], index=list("abc"), dtype=object), DTypeError, "got dtype object"),
        ("flg", ColumnError, "where= names.*'flg'"),
        ({"a": True}, SpecError, "where= takes a Series, an array or a list of values, got dict"),
        ((x for x in [True] * 3), SpecError, "where= takes .*, got generator"),
        (
            [[True], [True, False], [True]],
            SpecError,
            "where= must have one value per row, 3: setting an array",
        ),
    ],
)
def test_wrong_masks(where: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_mask(FRAME, where)


def test_nothing_given() -> None:
    assert read_mask(FRAME, None) is None
    assert read_weights(FRAME, None) is None


@pytest.mark.parametrize(
    ("weights", "want"),
    [
        ("n", [4.0, 5.0, 6.0]),
        (np.array([1.0, np.nan, -1.0]), [1.0, NAN, -1.0]),
        ([1, 2, 0], [1.0, 2.0, 0.0]),
        (pd.Series([3.0, 1.0, 2.0], index=list("cab")), [1.0, 2.0, 3.0]),
        (pd.Series([3.0, 1.0], index=list("ca")), [1.0, NAN, 3.0]),
        (pd.Series([2**60 + 1, None, 1], index=list("abc"), dtype="Int64"), [float(2**60), NAN, 1.0]),
        (lambda d: 1 / d["x"], [1.0, 0.5, 1 / 3]),
    ],
)
def test_weights(weights: Any, want: list[float]) -> None:
    got = read_weights(FRAME, weights)
    assert got is not None
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, want)


def test_weights_say_what_is_wrong() -> None:
    with pytest.raises(ColumnError, match=r"weights= names.*'m'"):
        read_weights(FRAME, "m")
    with pytest.raises(SpecError, match=r"weights= must have one value per row, 3, got shape \(2,\)"):
        read_weights(FRAME, np.ones(2))


def test_empty_frames() -> None:
    none = FRAME.iloc[:0]
    assert read_columns(none, [Column("x", "x")], "linear")[0].values.shape == (0,)
    assert read_columns(none, [Column("c", lambda d: 1)], "linear")[0].values.shape == (0,)
    assert read_mask(none, pd.Series([True], index=["z"])).tolist() == []
    assert read_weights(
        FRAME, pd.Series([], dtype=float, index=pd.Index([], dtype=object)).reindex(["a"])
    ).shape == (3,)
