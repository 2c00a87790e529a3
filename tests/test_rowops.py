# SPDX-License-Identifier: MIT
"""Row operations, compiled against numpy's: the same numbers to the last bit, whatever the threads."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import gbreg
from gbreg import row_kernels
from gbreg._jit import hash_place
from gbreg.backends import _rowops
from gbreg.backends._rowops import CompiledRows
from gbreg.errors import GbregError
from gbreg.problem import Problem
from gbreg.rowops import NUMPY, Packed

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
    monkeypatch.setattr(_rowops, "STREAM_BYTES", 1)
    return request.param


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
        assert got.unsorted is None


def packed_in_part(threads: int, steps: bool) -> tuple[Packed, np.ndarray]:
    """Rows that may wait for who reads them, and as they have to be then."""
    codes = make_codes("some without group", 600, 70)
    offsets = np.concatenate(([0], np.cumsum(np.bincount(codes[codes >= 0], minlength=70))))
    columns = [np.random.default_rng(2).normal(size=600), np.arange(600.0)]
    got = CompiledRows(threads).pack(columns, codes, offsets, whole=False)
    want = NUMPY.pack(columns, codes, offsets, whole=False)
    assert want.unsorted is None
    assert (got.unsorted is not None) == steps
    return got, want.Z


@pytest.mark.parametrize("threads", [1, 3])
def test_the_second_step_may_be_left_to_who_reads_the_rows(threads, steps):
    got, want = packed_in_part(threads, steps)
    if (rest := got.unsorted) is None:
        np.testing.assert_array_equal(got.Z, want)
        return
    assert (got.Z != want).any()
    own = np.empty((600, 2))
    row = 0
    for g0, g1 in pairwise(rest.edges.tolist()):
        rest.sort(g0, g1, own)
        n = int(np.diff(rest.offsets[[g0, g1]])[0])
        np.testing.assert_array_equal(own[:n], want[row : row + n])
        rest.put(g0, g1, own)
        row += n
    np.testing.assert_array_equal(got.Z, want)
    again, _ = packed_in_part(threads, steps)
    again.unsorted.finish()
    np.testing.assert_array_equal(again.Z, want)


def test_codes_that_are_not_those_of_the_offsets_are_an_internal_error(steps):
    codes = make_codes("shuffled", 600, 70)
    offsets = np.arange(71)  # a row for each: others would be written beyond their memory
    for ops in (NUMPY, CompiledRows(1), CompiledRows(2)):
        with pytest.raises(GbregError, match="sizes of groups are not those of their rows"):
            ops.pack([np.ones(600)], codes, offsets)


def test_a_stream_too_long_for_one_piece_of_work_is_sorted_at_once(monkeypatch):
    monkeypatch.setattr(_rowops, "UNSORTED_BYTES", 320)
    got, want = packed_in_part(2, False)
    np.testing.assert_array_equal(got.Z, want)


def test_rows_are_sorted_once_and_not_read_before(steps):
    got, _ = packed_in_part(1, steps)
    offsets = np.concatenate(([0], np.cumsum(np.bincount([0, 1, 1]))))
    problem = Problem(got.Z, offsets, 1, unsorted=got.unsorted)
    if (rest := got.unsorted) is None:
        assert problem.slice(0, 2).n_rows == 3
        return
    for read in (
        lambda: problem.slice(0, 1),
        lambda: problem.part(groups=np.array([0])),
        *(lambda name=name: getattr(problem, name) for name in "XYw"),
    ):
        with pytest.raises(GbregError, match="before they were sorted"):
            read()
    g0, g1 = rest.edges[:2].tolist()
    rest.sort(g0, g1, np.empty((600, 2)))
    with pytest.raises(GbregError, match="sorted twice"):
        rest.sort(g0, g1, np.empty((600, 2)))


@pytest.mark.compiled
@pytest.mark.parametrize(
    "options",
    [{}, {"cov_type": "HC1"}, {"mad": False}, {"clip": 3.0}, {"weights": "n", "weights_type": "frequency"}],
    ids=str,
)
@pytest.mark.parametrize("gaps", ["none", "predictor", "target"])
def test_no_number_depends_on_who_sorts_the_rows(monkeypatch, steps, gaps, options):
    """Groups of all kinds, some of which ask for the extended path, whose rows have to be in their place."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(900, 3)), columns=["x", "z", "y"])
    frame["g"] = rng.integers(0, 150, 900) * 1_000_003
    frame["w"] = rng.uniform(0.5, 2, 900)
    frame["n"] = rng.integers(1, 5, 900)
    for g, size in ((33, 1e-9), (70, 1e-5), (149, 0.0)):
        frame.loc[frame["g"] == g * 1_000_003, "z"] = frame["x"] + size * frame["z"]
    if gaps != "none":
        frame.loc[::50, {"predictor": "x", "target": "y"}[gaps]] = np.nan
    sorted_there = []
    real = _rowops.Rest.sort
    monkeypatch.setattr(_rowops.Rest, "sort", lambda *own: sorted_there.append(own[1]) or real(*own))
    asked = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w", **options}
    with pytest.warns(gbreg.GbregWarning):
        fits = [gbreg.fit(frame, n_jobs=n_jobs, **asked) for n_jobs in (1, 3)]
    assert bool(sorted_there) == steps  # by the fit, or all of them before it
    assert fits[0].flags["y", "extended"].sum() >= 2
    monkeypatch.setattr(_rowops, "DIRECT", 1 << 20)
    with pytest.warns(gbreg.GbregWarning):
        want = gbreg.fit(frame, **asked)
    for fit in fits:
        pd.testing.assert_frame_equal(fit.to_frame(), want.to_frame(), check_exact=True)


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


def make_words() -> list[str]:
    """Of every length up to 40, and each but the shortest with one of its bytes changed."""
    rng = np.random.default_rng(7)
    letters = "".join(chr(97 + i) for i in rng.integers(0, 26, 40))
    words = [letters[:length] for length in range(41)]
    words += [letters[:i] + "-" + letters[i + 1 : length] for length in range(1, 41) for i in range(length)]
    return [*words, "ÿ", "é", "😀", "a\0", "\0", "\0\0"]


@pytest.mark.parametrize("kind", ["string", "large_string"])
@pytest.mark.parametrize("cuts", [[0, 5000], [0, 1, 1, 2500, 5000], [17, 3000]], ids=str)
def test_words_are_numbered_by_their_bytes(kind, cuts):
    words = make_words()
    drawn = np.random.default_rng(2).integers(0, len(words), 5000)
    whole = pa.array([words[i] for i in drawn], type=kind)
    pieces = pa.chunked_array([whole.slice(a, b - a) for a, b in pairwise(cuts)])
    want = pieces.to_pylist()
    for ops in (NUMPY, CompiledRows(1)):
        codes = np.empty(len(want), dtype=np.int32)
        distinct = ops.encode(pieces, codes)
        assert len(set(distinct)) == len(distinct) == len(set(want))
        assert [distinct[i] for i in codes] == want
        assert ops.encode(whole.slice(3, 0), codes[:0]).tolist() == []


def test_missing_words_have_no_number():
    codes = np.empty(4, dtype=np.int32)
    for ops in (NUMPY, CompiledRows(1)):
        assert ops.encode(pa.array(["b", None, "a", "b"]), codes).tolist() == ["b", "a"]
        assert codes.tolist() == [0, -1, 1, 0]


def test_words_with_the_same_hash_are_told_apart():
    """The last word of a string is mixed in first, so one can be made to any other."""
    table = _rowops._Table(_rowops.LEAST_BITS, 4)
    one, other = b"0123456789abcdef", b"ABCDEFGH"
    first, last = (int.from_bytes(one[i : i + 8], "little") for i in (0, 8))
    begun = [int(row_kernels.word_hash(16, w)) for w in (last, int.from_bytes(other, "little"))]
    fake = (begun[0] ^ first ^ begun[1]) & (2**64 - 1)
    data = np.frombuffer(one + fake.to_bytes(8, "little") + other + one, dtype=np.uint8)
    codes = np.empty(3, dtype=np.int32)
    table.number_words(np.array([0, 16, 32, 48]), data.ctypes.data, 0, codes)
    assert codes.tolist() == [0, 1, 0]
    assert table.found[0, row_kernels.VALUE] == table.found[1, row_kernels.VALUE]


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 24, 31])
def test_no_byte_of_a_word_is_left_out_of_comparison(length):
    one = np.arange(length, dtype=np.uint8)
    for i in range(length):
        other = one.copy()
        assert row_kernels.same_bytes(one.ctypes.data, other.ctypes.data, length)
        other[i] ^= 1
        assert not row_kernels.same_bytes(one.ctypes.data, other.ctypes.data, length)


@pytest.mark.compiled
@pytest.mark.parametrize("n_distinct", [1, 100, 3_000, 60_000])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_table_begins_as_large_as_its_values_need(monkeypatch, n_distinct, ordered):
    monkeypatch.setattr(_rowops, "SAMPLE", 2_000)
    rng = np.random.default_rng(n_distinct)
    values = rng.integers(-(2**62), 2**62, n_distinct)[rng.integers(0, n_distinct, 64_000)]
    values = np.sort(values) if ordered else values
    room = 1 << (_rowops._expected(values, len(values))[0] - 1)
    found = len(np.unique(values))
    assert found <= 2 * room <= 2 * max(8 * found, 2048)
    few = _rowops._expected(values, 100)
    assert few == (_rowops.LEAST_BITS, None)  # no larger than a part of the rows can fill
    got = CompiledRows(2).distinct(values)
    np.testing.assert_array_equal(got[1][got[0]], values)


def scattered(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Distinct integers that lie in one of these ways."""
    if kind == "all over":
        ends = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        return np.concatenate([rng.integers(*ends, 5_000), ends])
    if kind == "dense":
        return np.arange(-2_500, 2_500)
    if kind == "three heaps":
        return np.concatenate([start + rng.integers(0, 10_000, 2_000) for start in (-(2**50), 0, 2**61)])
    return np.exp(rng.uniform(0, 43, 5_000)).astype(np.int64)  # most of them small


@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["all over", "dense", "three heaps", "most small"])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_integers_in_streams_are_numbered_by_size(monkeypatch, kind, threads):
    for name, value in (("SAMPLE", 500), ("STREAM_BITS", 4), ("CELL_BITS", 10), ("SERIAL_ROWS", 0)):
        monkeypatch.setattr(_rowops, name, value)
    asked = []
    real = CompiledRows._distinct_by_stream
    monkeypatch.setattr(
        CompiledRows, "_distinct_by_stream", lambda *own: asked.append(own[2].of_cell) or real(*own)
    )
    rng = np.random.default_rng(5)
    values = rng.choice(scattered(kind, rng), 20_000)
    uniques, codes = np.unique(values, return_inverse=True)
    got = CompiledRows(threads).distinct(values)
    np.testing.assert_array_equal(got[0], codes)
    np.testing.assert_array_equal(got[1], uniques)
    if kind in ("all over", "dense"):
        assert len(np.unique(asked[0])) > 0.8 * _rowops.STREAMS  # even shares
    elif _rowops.STREAMS > _rowops.UNEVEN:  # heaps are narrower than cells
        assert asked == []


def test_streams_are_judged_by_their_largest(monkeypatch):
    monkeypatch.setattr(_rowops, "STREAMS", 256)
    values = np.arange(8_192)
    assert _rowops._streams(values, 8_192) is not None
    heap = np.sort(np.concatenate([np.repeat(5, 4_096), values[:4_096]]))
    assert _rowops._streams(heap, 4_097) is None


@pytest.mark.compiled
def test_far_values_among_near_ones_of_the_sample():
    """A sample that tells nothing of the values, whose differences from it no int64 holds."""
    n = 32 * _rowops.SAMPLE + 40_000
    values = np.where(np.arange(n) % 2, 2**63 - 2, 2**63 - 1)
    sampled = np.unique(np.random.default_rng(0).integers(0, n, _rowops.SAMPLE))
    values[sampled] = np.arange(len(sampled)) - 10
    codes, uniques = CompiledRows(1).distinct(values)
    want = np.unique(values)
    np.testing.assert_array_equal(uniques, want)
    np.testing.assert_array_equal(want[codes], values)


@pytest.mark.compiled
@pytest.mark.parametrize("step", [1, 60, 102334155, 12586269025, 2**20, 2**32, 2**40, 365435296162, 10**9])
def test_arithmetic_progressions_are_not_put_side_by_side(step):
    """Places are as far apart as those of random numbers: else looking one up would take as long as n."""
    n, bits = 1 << 14, 16
    values = np.arange(n) * step
    places = np.sort([hash_place(value, 64 - bits) for value in values.tolist()]) - np.arange(n)
    taken = np.maximum.accumulate(places)  # of linear probing
    assert (taken - places).mean() < 1
