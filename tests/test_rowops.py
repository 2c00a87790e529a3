# SPDX-License-Identifier: MIT
"""Row operations, compiled against numpy's: the same numbers to the last bit, whatever the threads."""

from __future__ import annotations

import numpy as np
import pytest

from gbreg.backends import _rowops
from gbreg.backends._rowops import CompiledRows
from gbreg.rowops import NUMPY

KINDS = ["shuffled", "sorted", "some without group", "none in a group"]


def make_codes(kind: str, n: int, g: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1 if kind == "some without group" else 0, g, n).astype(np.int32)
    if kind == "none in a group":
        codes[:] = -1
    return np.sort(codes) if kind == "sorted" else codes


@pytest.fixture(params=[False, True], ids=["one step", "two steps"], autouse=True)
def steps(request, monkeypatch):
    """Small enough that blocks, streams and both ways of sorting take part."""
    monkeypatch.setattr(_rowops, "SMALL_BYTES", 100 if request.param else 1 << 40)
    monkeypatch.setattr(_rowops, "DIRECT", 5)
    monkeypatch.setattr(_rowops, "BLOCK_ROWS", 37)
    monkeypatch.setattr(_rowops, "STREAMS", 8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("g", [1, 3, 8, 9, 70, 500])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 100, 600])
def test_rows_are_packed_as_a_stable_sort_has_them(n, g, kind):
    codes = make_codes(kind, n, g)
    sizes = np.bincount(codes[codes >= 0], minlength=g)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    rng = np.random.default_rng(n)
    columns = [rng.normal(size=n), rng.normal(size=(n, 2))[:, 1], np.broadcast_to(1.0, n)]
    rows = np.flatnonzero(codes >= 0)
    rows = rows[np.argsort(codes[rows], kind="stable")]
    for ops in (NUMPY, CompiledRows(1), CompiledRows(2), CompiledRows(5)):
        np.testing.assert_array_equal(ops.count(codes, g), sizes)
        got = ops.pack(columns, codes, offsets)
        np.testing.assert_array_equal(got.Z, np.array(columns).T[rows])
        assert got.finite.tolist() == [True] * 3
        np.testing.assert_array_equal(got.least, [c[rows].min(initial=np.inf) for c in columns])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen_in_its_column_unless_its_row_is_left_out(bad):
    x, y = np.arange(6.0), np.arange(6.0)
    y[3] = bad
    codes = np.array([1, 0, 1, 0, 1, 0], dtype=np.int32)
    for ops in (NUMPY, CompiledRows(1), CompiledRows(2)):
        assert ops.pack([x, y], codes, np.array([0, 3, 6])).finite.tolist() == [True, False]
        without = np.where(np.arange(6) == 3, -1, codes).astype(np.int32)
        assert ops.pack([x, y], without, np.array([0, 2, 5])).finite.tolist() == [True, True]


def test_huge_values_are_finite():
    """Their sum is not."""
    big = np.full(8, 1e308)
    for ops in (NUMPY, CompiledRows(1)):
        assert ops.pack([big], np.zeros(8, dtype=np.int32), np.array([0, 8])).finite.all()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_mixed_radix_numbers(dtype):
    rng = np.random.default_rng(3)
    digits = [
        (rng.integers(low, low + base, 300), low, base) for low, base in ((-5, 7), (0, 3), (10**12, 20))
    ]
    want = np.zeros(300, dtype=np.int64)
    for values, low, base in digits:
        want = want * base + (values - low)
    for ops in (NUMPY, CompiledRows(1), CompiledRows(3)):
        got = ops.number(digits, dtype)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, want)


def test_bounds():
    values = np.random.default_rng(1).integers(-(2**62), 2**62, 1000)
    for ops in (NUMPY, CompiledRows(1), CompiledRows(3)):
        assert ops.bounds(values) == (values.min(), values.max())
        assert ops.bounds(values[:1]) == (values[0], values[0])
