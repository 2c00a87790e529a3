# SPDX-License-Identifier: MIT
"""Rows in order of groups, selections of them, and the arrays gathered from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from thorough import examples

from gbreg import SpecError
from gbreg.columns import Numbers
from gbreg.layout import GroupLayout, exact_difference, gather, make_layout
from gbreg.problem import Problem
from gbreg.rowops import stable_order
from gbreg.spec import Grouping

SEEDED = settings(derandomize=True, deadline=None, max_examples=examples(80))
keys = st.lists(st.sampled_from([0, 1, 2, 5, None]), max_size=25)


def layout_of(codes: list[int | None]) -> GroupLayout:
    return make_layout(pd.DataFrame({"k": pd.array(codes, dtype="Int64")}), Grouping("k"))


def rows_of(layout: GroupLayout) -> list[list[int]]:
    return [layout.order[a:b].tolist() for a, b in zip(layout.offsets[:-1], layout.offsets[1:], strict=True)]


@given(codes=keys)
@SEEDED
def test_sizes_codes_and_order_describe_the_same_rows(codes: list[int | None]) -> None:
    layout = layout_of(codes)
    present = sorted({code for code in codes if code is not None})
    assert layout.keys.tolist() == present
    assert rows_of(layout) == [[i for i, code in enumerate(codes) if code == key] for key in present]
    assert layout.sizes.tolist() == [codes.count(key) for key in present]
    assert layout.codes.tolist() == [-1 if code is None else present.index(code) for code in codes]
    assert layout.n_rows == len(codes)
    assert layout.n_groups == len(present)
    assert layout.offsets[0] == 0
    assert layout.order.dtype == layout.offsets.dtype == np.int64
    assert layout.codes.dtype == np.int32


@given(codes=keys, data=st.data())
@SEEDED
def test_select_keeps_groups_and_count_counts(codes: list[int | None], data: Any) -> None:
    layout = layout_of(codes)
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))), dtype=bool)
    got = layout.select(mask)
    want = [[row for row in rows if mask[row]] for rows in rows_of(layout)]
    assert rows_of(got) == want
    assert layout.count(mask).tolist() == [len(rows) for rows in want]
    assert got.keys is layout.keys
    assert got.index is layout.index
    assert rows_of(got.select(mask)) == want  # nothing left to take away


def test_select_of_everything_is_itself() -> None:
    layout = layout_of([1, None, 2])
    assert layout.select(np.array([True, True, True])) is layout
    assert rows_of(layout.select(np.array([True, False, True]))) == rows_of(layout)
    assert layout.select(np.array([False, True, True])).sizes.tolist() == [0, 1]


def test_arrays_are_read_only() -> None:
    layout = layout_of([2, 1, 2])
    for chosen in (layout, layout.select(np.array([True, False, True]))):
        for array in (chosen.codes, chosen.order, chosen.offsets):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 1


@pytest.mark.parametrize("n_codes", [1, 2, 65535, 65536, 65537, 2**20, 2**32 + 5, 2**49])
def test_order_is_the_stable_one(n_codes: int) -> None:
    rng = np.random.default_rng(n_codes)
    codes = rng.integers(max(0, n_codes - 40_000), n_codes, 3000) // 7 * 7 % n_codes
    codes[::10] = rng.integers(0, n_codes, 300)
    for given_codes in (codes, np.sort(codes), codes[:1], codes[:0]):
        np.testing.assert_array_equal(
            stable_order(given_codes, n_codes), np.argsort(given_codes, kind="stable")
        )


def test_many_groups_through_every_digit() -> None:
    rng = np.random.default_rng(5)
    k = rng.permutation(np.repeat(np.arange(70_000), 2)) - 35_000
    layout = make_layout(pd.DataFrame({"k": k}), Grouping("k"))
    np.testing.assert_array_equal(layout.order, np.argsort(k, kind="stable"))
    np.testing.assert_array_equal(layout.keys, np.arange(-35_000, 35_000))
    assert set(layout.sizes) == {2}


@given(codes=keys, weighted=st.booleans(), seed=st.integers(0, 9))
@SEEDED
def test_gather_takes_each_column_in_order(codes: list[int | None], weighted: bool, seed: int) -> None:
    layout = layout_of(codes)
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(len(codes), 4))  # its columns are strided
    x, z, y, w = (table[:, j] for j in range(4))
    problem, origins, _ = gather(layout, [Numbers(x), Numbers(z)], [Numbers(y)], w if weighted else None)
    rows = [row for group in rows_of(layout) for row in group]
    assert problem.X.tolist() == [x[rows].tolist(), z[rows].tolist()]
    assert problem.Y.tolist() == [y[rows].tolist()]
    assert problem.w.tolist() == (w[rows].tolist() if weighted else [1.0] * len(rows))
    assert problem.offsets.tolist() == layout.offsets.tolist()
    assert problem.origin is None
    assert origins == {}


@pytest.mark.parametrize("codes", [[0, 0, 1, 2], [2, 0, 1, 0], [0, 0, 1, None]])
def test_gathered_arrays_are_frozen_and_owned(codes: list[int | None]) -> None:
    big = np.array([2**60, 2**60 + 1, 2**60, 5])
    x, w = np.arange(4.0), np.ones(4)
    problem, _, _ = gather(layout_of(codes), [Numbers(x)], [Numbers(big)], w)
    for array in (problem.Z, problem.offsets, problem.origin):
        assert array is not None
        assert array.flags.c_contiguous
        assert array.flags.owndata
        assert not array.flags.writeable
    for array in (problem.Z,):
        assert not np.shares_memory(array, x)
        assert not np.shares_memory(array, w)
    assert problem.X.dtype == problem.Y.dtype == problem.w.dtype == np.float64


@pytest.mark.parametrize("rows", [None, [True, False, True, True, False, True]])
@pytest.mark.parametrize("groups", [None, [2, 0], [1]])
@pytest.mark.parametrize("targets", [None, [0, 1], [1]])
def test_parts_of_a_problem(
    rows: list[bool] | None, groups: list[int] | None, targets: list[int] | None
) -> None:
    X, Y, w = np.arange(6.0)[None], np.arange(10.0, 22).reshape(2, 6), np.arange(30.0, 36)
    origin = np.arange(9.0).reshape(3, 3)
    problem = Problem.from_columns(X, Y, w, np.array([0, 3, 3, 6]), origin)
    part = problem.part(
        None if rows is None else np.array(rows), None if groups is None else np.array(groups), targets
    )
    at = [[i for i in own if rows is None or rows[i]] for own in ([0, 1, 2], [], [3, 4, 5])]
    chosen, own = [0, 1] if targets is None else targets, [0, 1, 2] if groups is None else groups
    every = [i for g in own for i in at[g]]
    assert part.X.tolist() == X[:, every].tolist()
    assert part.Y.tolist() == Y[chosen][:, every].tolist()
    assert part.w.tolist() == w[every].tolist()
    assert np.diff(part.offsets).tolist() == [len(at[g]) for g in own]
    assert part.offsets[0] == 0
    assert part.origin is not None
    assert part.origin.tolist() == origin[own][:, [0, *(1 + q for q in chosen)]].tolist()
    for array in (part.Z, part.offsets, part.origin):
        assert array.flags.c_contiguous
        assert not array.flags.writeable
    nothing_cut = rows is None and groups is None and len(chosen) == 2
    assert (part is problem) == nothing_cut


def test_gather_without_predictors_or_rows() -> None:
    y = Numbers(np.arange(3.0))
    problem, _, _ = gather(layout_of([1, 0, 1]), [], [y], None)
    assert problem.X.shape == (0, 3)
    assert problem.Y.tolist() == [[1.0, 0.0, 2.0]]
    problem, _, _ = gather(layout_of([None] * 3), [y], [y], np.ones(3))
    assert problem.X.shape == problem.Y.shape == (1, 0)
    assert problem.offsets.tolist() == [0]


INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(2**60 - 3, 2**60 + 3),
    st.sampled_from([2**63 - 1, -(2**63)]),
)
UINT64 = st.one_of(st.integers(0, 2**64 - 1), st.integers(2**64 - 5, 2**64 - 1), st.sampled_from([0, 2**63]))


@pytest.mark.parametrize(("dtype", "values"), [("int64", INT64), ("uint64", UINT64)])
@given(data=st.data())
@SEEDED
def test_differences_are_exact_before_they_are_rounded(dtype: str, values: Any, data: Any) -> None:
    pairs = data.draw(st.lists(st.tuples(values, values), max_size=20))
    a = np.array([pair[0] for pair in pairs], dtype=dtype)
    b = np.array([pair[1] for pair in pairs], dtype=dtype)
    assert exact_difference(a, b).tolist() == [float(x - y) for x, y in pairs]  # Python's integers


@pytest.mark.parametrize(("dtype", "values"), [("int64", INT64), ("uint64", UINT64)])
@given(data=st.data())
@SEEDED
def test_big_integers_lose_nothing_to_their_reference(dtype: str, values: Any, data: Any) -> None:
    codes = data.draw(st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=15))
    n = len(codes)
    big = np.array(data.draw(st.lists(values, min_size=n, max_size=n)), dtype=dtype)
    gaps = data.draw(arrays.arrays(np.bool_, n))
    missing = gaps if gaps.any() else None
    layout = layout_of(codes).select(np.arange(n) % 4 != 3)  # some groups may be empty now
    problem, origins, _ = gather(layout, [Numbers(np.ones(n))], [Numbers(big, missing)], None)
    want, references = [], []
    for rows in rows_of(layout):
        known = [row for row in rows if not gaps[row]]
        references.append(int(big[known[0]]) if known else 0)
        want += [np.nan if gaps[row] else float(int(big[row]) - references[-1]) for row in rows]
    assert list(origins) == [1]
    assert origins[1].dtype == dtype
    assert origins[1].tolist() == references
    np.testing.assert_array_equal(problem.Y[0], want)
    assert problem.origin is not None
    assert problem.origin.tolist() == [[0.0, float(reference)] for reference in references]


def test_nanosecond_steps_survive() -> None:
    stamps = 1_700_000_000_000_000_000 + np.array([0, 1, 2, 3])
    problem, origins, _ = gather(layout_of([0, 1, 0, 1]), [Numbers(stamps)], [Numbers(np.arange(4.0))], None)
    assert problem.X.tolist() == [[0.0, 2.0, 0.0, 2.0]]
    assert origins[0].tolist() == [1_700_000_000_000_000_000, 1_700_000_000_000_000_001]


@pytest.mark.parametrize(
    "columns", [range(3), pd.MultiIndex.from_tuples([("k", ""), ("s", "x"), ("s", "y")])]
)
def test_other_keys_are_seen_whatever_the_columns_are_called(columns):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(12, 3)))
    frame[0] = np.repeat([1, 2], 6)
    frame.columns = columns
    key, x, y = frame.columns
    layout = frame.gbreg.group(by=[key])
    other = frame.copy()
    other[key] = frame[key].to_numpy()[::-1].copy()
    with pytest.raises(SpecError, match="layout"):
        other.gbreg.fit(by=layout, linear=[x], targets=[y], backend="numpy")
