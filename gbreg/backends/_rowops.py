# SPDX-License-Identifier: MIT
"""`gbreg.rowops.RowOps`, compiled, in threads over ranges of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gbreg import row_kernels
from gbreg.backends._memory import rows_memory
from gbreg.backends._ranges import run_tasks, threads_for
from gbreg.errors import GbregError
from gbreg.problem import FloatArray, IntArray
from gbreg.rowops import NUMPY, WRONG_SIZES, Codes, Packed, code_type

T = TypeVar("T")

SERIAL_ROWS = 150_000  # below this a second thread costs more than it brings
MOST_PARTS = 8  # each part of the rows counts the rows of every group
BLOCK_ROWS = 1 << 9  # rows whose places are known before their columns are moved: they stay in cache
DIRECT = 1 << 14  # groups whose ends stay in cache: rows are moved once; those of more groups in two steps
STREAMS = 256  # places that rows are moved to in the first of them
STREAM_BYTES = 1 << 18  # of a place: to fit one takes some Python
SMALL_BYTES = 8 << 20  # rows that fit the cache are moved once
UNSORTED_BYTES = 8 << 20  # of a stream at most that is sorted by who reads it: it is to stay in cache
LEAST_BITS = 12  # of a hash table
GROWN = 1 << 16  # distinct values from which on it doubles instead of quadrupling
SAMPLE = 1 << 13  # values that tell how many are distinct
STREAM_BITS = 17  # of a hash table that the cache has no room for
CELL_BITS = 14  # of the cells that streams are made of
UNEVEN = 16  # times its share a stream may have
SPARSE_BITS = 3  # a table in cache has places for 8 to 16 times its values: few are found elsewhere
# 5 M rows of 48 bytes, 10,000 groups, two cores: 0.09 s moved once, 0.13 s in two steps. 10 M rows of 64
# bytes, 1 M groups: 0.37 s, and 0.39, 0.32, 0.36 s with 64, 256, 1,024 streams. Rows put together before they
# are moved, four rows by four columns moved as vectors, or the place of a row asked for ahead in either step,
# bring less than a tenth, or lose.


class Streams(NamedTuple):
    """Ranges of integers: see `gbreg.row_kernels.stream_values`."""

    low: int
    shift: int
    of_cell: NDArray[np.uint8]
    bits: int  # of a table for the values of one


class CompiledRows:
    """Row operations of the compiled backends.

    Parameters
    ----------
    n_jobs : int, optional
        Threads, as in `gbreg.backends._numba.NumbaBackend`.
    keep : bool
        Whether packed rows are memory like any other, not `rows_memory`, which cannot be sent to a process.
    """

    def __init__(self, n_jobs: int | None = None, keep: bool = False) -> None:
        self.n_jobs = n_jobs
        self.keep = keep

    def over(self, n: int, work: Callable[[int, int, int], None]) -> None:
        self._over(self._cuts(n), work)

    def bounds(self, values: NDArray[Any]) -> tuple[int, int]:
        cuts = self._cuts(len(values))
        first = int(values[0])  # parts may be empty
        found = self._over(cuts, lambda part, a, b: row_kernels.find_bounds(_plain(values[a:b]), first))
        return min(low for low, _ in found), max(high for _, high in found)

    def number(self, digits: Sequence[tuple[NDArray[Any], int, int]], dtype: Any) -> Codes:
        n = len(digits[0][0])
        codes = np.zeros(n, dtype=dtype)

        def work(part: int, a: int, b: int) -> None:
            for values, low, base in digits:
                row_kernels.add_digit(_plain(values[a:b]), low, base, codes[a:b])

        self._over(self._cuts(n), work)
        return codes

    def distinct(self, values: IntArray) -> tuple[Codes, IntArray]:
        cuts = self._cuts(len(values))
        codes = np.empty(len(values), dtype=code_type(len(values)))
        bits, streams = _expected(values, most=cuts[1])  # rows of the first part: of others one more at most
        if streams is not None:
            return codes, self._distinct_by_stream(_plain(values), streams, codes)
        tables = [_Table(bits, 1) for _ in cuts[1:]]
        self._over(cuts, lambda part, a, b: tables[part].number(_plain(values[a:b]), codes[a:b]))
        whole, numbers = tables[0], [np.arange(tables[0].n_found, dtype=codes.dtype)]
        for table in tables[1:]:  # what the other parts have found, in terms of the first
            own = np.empty(table.n_found, dtype=codes.dtype)
            whole.number(_plain(table.found[: table.n_found, row_kernels.VALUE]), own)
            numbers.append(own)
        uniques, rank = whole.ranked(codes.dtype)

        def sort(part: int, a: int, b: int) -> None:
            np.take(rank[numbers[part]], codes[a:b], out=codes[a:b], mode="clip")

        self._over(cuts, sort)
        return codes, uniques

    def _distinct_by_stream(self, values: IntArray, streams: Streams, codes: Codes) -> IntArray:
        """Numbers of values into codes: a table for each range of values, which stays in cache.

        10 M values, 1 M of them distinct, two cores: 0.13 s; with one table for each half of the rows 0.21 s.
        """
        cuts = self._cuts(len(values))
        ids, moved = np.empty(len(values), dtype=np.uint8), np.empty(len(values), dtype=np.int64)
        own = np.empty(len(values), dtype=codes.dtype)
        counts = np.zeros((len(cuts) - 1, STREAMS), dtype=np.int64)

        def choose(part: int, a: int, b: int) -> None:
            row_kernels.stream_values(
                values, streams.low, streams.shift, streams.of_cell, a, b, ids, counts[part]
            )

        self._over(cuts, choose)
        edges = np.concatenate(([0], np.cumsum(counts.sum(axis=0))))
        starts = edges[:-1] + np.cumsum(counts, axis=0) - counts

        def spread(part: int, a: int, b: int) -> None:
            row_kernels.spread_values(values, ids, a, b, starts[part].copy(), moved)

        def number(stream: int) -> IntArray:
            table, rows = _Table(streams.bits, 1), slice(edges[stream], edges[stream + 1])
            table.number(_plain(moved[rows]), own[rows])
            uniques, rank = table.ranked(own.dtype)
            np.take(rank, own[rows], out=own[rows], mode="clip")
            return uniques

        self._over(cuts, spread)
        uniques = run_tasks(number, range(STREAMS), [0] * STREAMS, len(cuts) - 1, lambda rows: None)
        first = np.cumsum([0, *map(len, uniques)])

        def collect(part: int, a: int, b: int) -> None:
            row_kernels.collect_codes(own, ids, a, b, starts[part].copy(), first, codes)

        self._over(cuts, collect)
        return np.concatenate(uniques)

    def encode(self, words: Any, codes: Codes) -> NDArray[Any]:
        if words.null_count or str(words.type) not in ("string", "large_string"):
            return NUMPY.encode(words, codes)
        table, row = _Table(LEAST_BITS, 4), 0
        for piece in words.chunks if hasattr(words, "chunks") else [words]:
            n = len(piece)
            _, ends, data = piece.buffers()
            if n == 0:
                continue
            dtype = np.int32 if piece.type == "string" else np.int64
            own = _plain(np.frombuffer(ends, dtype=dtype)[piece.offset : piece.offset + n + 1])
            table.number_words(own, 0 if data is None else data.address, row, codes[row : row + n])
            row += n
        first = table.found[: table.n_found, row_kernels.ROW]
        return words.take(first).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def count(self, codes: Codes, n_codes: int) -> IntArray:
        counts, _ = self._counts(_plain(codes), 0, n_codes)
        return np.asarray(counts.sum(axis=0, dtype=np.int64))

    def pack(
        self, columns: Sequence[FloatArray], codes: Codes, offsets: IntArray, whole: bool = True
    ) -> Packed:
        codes = _plain(codes)
        n_groups, n_used, width = len(offsets) - 1, int(offsets[-1]), len(columns)
        shift, size = 0, n_used * width * 8
        if size > SMALL_BYTES and n_groups > DIRECT:
            streams = min(STREAMS, size // STREAM_BYTES + 1)
            while (n_groups - 1) >> shift >= streams:
                shift += 1
        counts, ordered = self._counts(codes, shift, ((n_groups - 1) >> shift) + 1)
        if ordered and shift:  # nothing to sort: rows go where the last one went
            shift = 0
            counts, _ = self._counts(codes, 0, n_groups)
        ends = np.append(offsets[:-1][:: 1 << shift], n_used) if shift else offsets
        starts, sizes = ends[:-1], ends[1:] - ends[:-1]
        if (sizes != counts.sum(axis=0)).any():
            raise GbregError(WRONG_SIZES)  # before rows are written beyond their memory
        cursors = np.zeros(counts.shape, dtype=np.int64)
        counts[:-1].cumsum(axis=0, out=cursors[1:])
        cursors += starts
        Z, spent = (np.empty((n_used, width)), None) if self.keep else rows_memory(n_used, width)
        moved = np.empty(n_used if shift else 0, dtype=codes.dtype)
        # kept alive while their addresses are used
        columns = [_in_one_piece(column) for column in columns]
        addresses = np.array([column.ctypes.data for column in columns], dtype=np.int64)
        parts = len(counts)
        check, least = np.zeros((parts, width)), np.full((parts, width), np.inf)

        def move(part: int, lo: int, hi: int) -> None:
            found = (check[part], least[part], np.empty(BLOCK_ROWS, dtype=np.int64))
            row_kernels.pack_rows(codes, lo, hi, shift, cursors[part], addresses, Z, moved, *found)

        self.over(len(codes), move)
        rest = None
        if shift:
            edges = np.append(np.arange(0, n_groups, 1 << shift), n_groups)
            longest = int(sizes.max())
            rest = Rest(Z.view(), _plain(moved), offsets, offsets[:-1].copy(), edges, longest, parts)
            if whole or longest * width * 8 > UNSORTED_BYTES:
                rest.finish()
                rest = None
        return Packed(Z, check.sum(axis=0) == 0, least.min(axis=0), spent, rest)

    def _counts(self, codes: Codes, shift: int, size: int) -> tuple[Codes, bool]:
        """(parts, size) rows of each ``code >> shift`` in each part, and whether rows are in order."""
        cuts = self._cuts(len(codes))
        counts = np.zeros((len(cuts) - 1, size), dtype=code_type(len(codes)))  # int64 take twice as long

        def work(part: int, a: int, b: int) -> bool:
            return row_kernels.count_codes(codes, a, b, shift, counts[part])

        ordered = self._over(cuts, work)
        return counts, all(ordered)

    def _cuts(self, n: int) -> list[int]:
        """Where the parts of n rows begin and end."""
        parts = self._threads(n)
        return [n * part // parts for part in range(parts + 1)]

    def _threads(self, n: int) -> int:
        return min(threads_for(self.n_jobs, n, SERIAL_ROWS), MOST_PARTS)

    @staticmethod
    def _over(cuts: list[int], work: Callable[[int, int, int], T]) -> list[T]:
        return _at_once(lambda part: work(part, cuts[part], cuts[part + 1]), len(cuts) - 1)


@dataclass(slots=True, eq=False)
class Rest:
    """`gbreg.rowops.Unsorted`: rows that the first of two steps has moved to the stream of their group."""

    Z: FloatArray
    codes: Codes  # of the rows of Z
    offsets: IntArray
    cursor: IntArray  # (g,) where rows of each group go
    edges: IntArray
    longest: int
    threads: int

    def sort(self, g0: int, g1: int, rows: FloatArray) -> None:
        if not np.array_equal(self.cursor[g0:g1], self.offsets[g0:g1]):
            raise GbregError("internal error: rows of a range were to be sorted twice")
        lo, hi = int(self.offsets[g0]), int(self.offsets[g1])
        row_kernels.sort_stream(self.Z, lo, hi, self.codes, self.cursor, rows)

    def put(self, g0: int, g1: int, rows: FloatArray) -> None:
        lo, hi = int(self.offsets[g0]), int(self.offsets[g1])
        self.Z[lo:hi] = rows[: hi - lo]

    def finish(self) -> None:
        streams = list(pairwise(self.edges.tolist()))

        def work(part: int) -> None:
            rows = np.empty((self.longest, self.Z.shape[1]))
            for g0, g1 in streams[part :: self.threads]:
                self.sort(g0, g1, rows)
                self.put(g0, g1, rows)

        _at_once(work, self.threads)


def _at_once(work: Callable[[int], T], parts: int) -> list[T]:
    """``work(part)`` in a thread for each part, results in order."""
    if parts == 1:
        return [work(0)]
    return run_tasks(work, range(parts), [0] * parts, parts, lambda rows: None)


class _Table:
    """A hash table that grows: each value has the number of its first appearance.

    Integers have one of the ``facts`` of `gbreg.row_kernels`, strings four.
    """

    def __init__(self, bits: int, facts: int) -> None:
        self.n_found = 0
        self.facts = facts
        self._make(bits)

    def _make(self, bits: int) -> None:
        self.shift = 64 - bits
        self.table = np.zeros((1 << bits, max(self.facts, 2)), dtype=np.int64)
        self.found = np.empty((1 << (bits - 1), self.facts), dtype=np.int64)

    def number(self, values: IntArray, codes: Codes) -> None:
        """Numbers of all integers into codes."""
        self._number(partial(row_kernels.find_distinct, values, codes), len(codes))

    def number_words(self, ends: NDArray[Any], address: int, first: int, codes: Codes) -> None:
        """The same for strings, whose bytes begin at an address; ``first`` is the row of the first."""
        self._number(partial(row_kernels.find_words, ends, address, first, codes), len(codes))

    def ranked(self, dtype: Any) -> tuple[IntArray, Codes]:
        """The integers found, sorted, and the place among them of each number."""
        uniques = np.sort(self.found[: self.n_found, row_kernels.VALUE])  # argsort: 3x, with the look-up
        order = np.empty(len(uniques), dtype=dtype)
        self.number(_plain(uniques), order)
        rank = np.empty(len(order), dtype=dtype)
        rank[order] = np.arange(len(order))
        return uniques, rank

    def _number(self, find: Callable[..., tuple[int, int]], n: int) -> None:
        """``find(row, ...)`` until all n rows have a number; where it stops the table has to grow."""
        row = 0
        while True:
            row, self.n_found = find(row, self.shift, self.table, self.n_found, self.found)
            if row == n:
                return
            known = self.found
            self._make(64 - self.shift + (2 if len(known) < GROWN else 1))
            self.found[: len(known)] = known
            row_kernels.fill_table(known, self.shift, self.table)


def _expected(values: IntArray, most: int) -> tuple[int, Streams | None]:
    """Bits of a table for ``most`` of these values, and streams if it would be too large for the cache.

    A sample tells how many differ, and how they lie.
    """
    n, m = len(values), SAMPLE
    if n < 32 * m:
        return LEAST_BITS, None
    sample = np.sort(values[np.random.default_rng(0).integers(0, n, m)])
    found = 1 + int(np.count_nonzero(np.diff(sample)))
    if found < m // 2:  # so few that most of them were seen
        return LEAST_BITS, None
    n_values = min(most, m * m // (2 * max(m - found, 1)))
    bits = max(LEAST_BITS, n_values.bit_length() + 1)
    return bits, _streams(sample, n_values) if bits >= STREAM_BITS else None


def _streams(sample: IntArray, n_values: int) -> Streams | None:
    """Ranges that have about equally many values, judged by a sorted sample; None if there are none."""
    low, high = int(sample[0]), int(sample[-1])
    shift = max(1, (high - low).bit_length() - CELL_BITS)  # 1: twice as near, any difference fits int64
    cells = np.array([(value - low) >> shift for value in sample.tolist()])  # may be beyond int64 before
    below = np.searchsorted(cells, np.arange(1 << CELL_BITS))
    of_cell = (below * STREAMS // len(sample)).clip(max=STREAMS - 1).astype(np.uint8)
    if np.bincount(of_cell[cells]).max() > UNEVEN * len(sample) // STREAMS:
        return None
    return Streams(low, shift, of_cell, max(LEAST_BITS, (n_values // STREAMS).bit_length() + SPARSE_BITS))


def _in_one_piece(column: FloatArray) -> FloatArray:
    """Aligned too: kernels read it by its address."""
    flags = column.flags  # np.require takes ten times as long to look at them
    return column if flags.c_contiguous and flags.aligned else np.require(column, requirements=["C", "A"])


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Of the one flavour that kernels are compiled for: contiguous and read-only."""
    view = np.ascontiguousarray(values).view()
    view.flags.writeable = False
    return view
