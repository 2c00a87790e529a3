# SPDX-License-Identifier: MIT
"""Numbering rows and sorting them into groups, in numpy and pandas.

A backend may bring faster operations of its own as ``rows`` (`gbreg.backends._rowops`);
whoever does them, the results are the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.errors import GbregError
from gbreg.problem import BoolArray, FloatArray, IntArray, Spent

Codes = NDArray[Any]  # (n,) int32, or int64 if there are 2**31 groups or more; -1: in no group

WRONG_SIZES = "internal error: sizes of groups are not those of their rows; report these keys"


class Unsorted(Protocol):
    """The rest of a sort, range by range: groups ``edges[i]:edges[i + 1]``."""

    edges: IntArray
    longest: int  # rows of a range, at most

    def sort(self, g0: int, g1: int, rows: FloatArray) -> None:
        """The rows of range g0:g1, sorted, into rows (at least as many, columns); once only."""

    def put(self, g0: int, g1: int, rows: FloatArray) -> None:
        """What `sort` made of a range to its place in the problem."""

    def finish(self) -> None:
        """Both, for all ranges."""


class Packed(NamedTuple):
    """Rows sorted by group, their numbers side by side."""

    Z: FloatArray  # (n_used, columns)
    finite: BoolArray  # (columns,) whether every value is
    least: FloatArray  # (columns,) smallest value, inf for none
    spent: Spent | None = None  # takes rows of Z back, see `Problem`
    unsorted: Unsorted | None = None  # if rows are not in their groups yet, see `Problem`


class RowOps(Protocol):
    """What has to be done with all rows of a frame before they can be fitted."""

    def over(self, n: int, work: Callable[[int, int, int], None]) -> None:
        """``work(part, lo, hi)`` for each part of n rows."""

    def bounds(self, values: NDArray[Any]) -> tuple[int, int]:
        """Minimum and maximum of integers (n,), n > 0."""

    def number(self, digits: Sequence[tuple[NDArray[Any], int, int]], dtype: Any) -> Codes:
        """Mixed-radix numbers of rows; each digit is (values, smallest, base), the last varies fastest."""

    def distinct(self, values: IntArray) -> tuple[Codes, IntArray]:
        """Numbers of int64 values by size, and the distinct values, sorted."""

    def encode(self, words: Any, codes: Codes) -> NDArray[Any]:
        """The distinct ones of an array of Arrow's strings; their numbers into codes, -1 for missing ones."""

    def count(self, codes: Codes, n_codes: int) -> IntArray:
        """(n_codes,) rows of each code; negative ones are left out."""

    def pack(
        self, columns: Sequence[FloatArray], codes: Codes, offsets: IntArray, whole: bool = True
    ) -> Packed:
        """Rows with a code, sorted by it and otherwise in their order; ``offsets`` say where groups begin.

        Unless ``whole``, they may be left for ``unsorted`` to finish.
        """


def code_type(n_codes: int) -> Any:
    return np.int32 if n_codes <= np.iinfo(np.int32).max else np.int64


class NumpyRows:
    """`RowOps` in numpy."""

    def over(self, n: int, work: Callable[[int, int, int], None]) -> None:
        work(0, 0, n)

    def bounds(self, values: NDArray[Any]) -> tuple[int, int]:
        return int(values.min()), int(values.max())

    def number(self, digits: Sequence[tuple[NDArray[Any], int, int]], dtype: Any) -> Codes:
        codes = np.zeros(len(digits[0][0]), dtype=dtype)
        for values, low, base in digits:
            codes *= dtype(base)
            codes += (values - values.dtype.type(low)).astype(dtype)
        return codes

    def distinct(self, values: IntArray) -> tuple[Codes, IntArray]:
        codes, uniques = pd.factorize(values, sort=True)  # by hashing: twice as fast as np.unique at 5 M
        return codes.astype(code_type(len(uniques))), uniques

    def encode(self, words: Any, codes: Codes) -> NDArray[Any]:
        encoded = words.dictionary_encode()
        pieces = encoded.chunks if hasattr(encoded, "chunks") else [encoded]  # they share their dictionary
        if not pieces:
            return np.empty(0, dtype=object)
        indices = [piece.indices.fill_null(-1).to_numpy(zero_copy_only=False) for piece in pieces]
        np.concatenate(indices, out=codes)
        return pieces[-1].dictionary.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def count(self, codes: Codes, n_codes: int) -> IntArray:
        if codes.min(initial=0) < 0:
            codes = codes[codes >= 0]
        return np.bincount(codes, minlength=n_codes)

    def pack(
        self, columns: Sequence[FloatArray], codes: Codes, offsets: IntArray, whole: bool = True
    ) -> Packed:
        order = stable_order(codes, len(offsets) - 1)
        occupied = np.flatnonzero(np.diff(offsets))
        first, last = offsets[occupied], offsets[occupied + 1] - 1
        if len(order) != offsets[-1] or (codes[order[[first, last]]] != occupied).any():
            raise GbregError(WRONG_SIZES)
        rows = slice(None) if len(order) == len(codes) and is_range(order) else order
        Z = np.empty((len(order), len(columns)))
        finite = np.ones(len(columns), dtype=np.bool_)
        least = np.full(len(columns), np.inf)
        for j, column in enumerate(columns):
            values = column[rows]
            Z[:, j] = values
            with np.errstate(all="ignore"):  # the sum is one pass; most columns need no more
                finite[j] = np.isfinite(np.add.reduce(values)) or np.isfinite(values).all()
            least[j] = values.min(initial=np.inf)
        return Packed(Z, finite, least)


NUMPY = NumpyRows()


def stable_order(codes: Codes, n_codes: int) -> IntArray:
    """Rows sorted by code, equal ones in their order; without rows of negative code.

    numpy sorts uint16 by counting, so digits of 16 bits from the lowest up take linear time.
    """
    if len(codes) < 2 or (codes[1:] >= codes[:-1]).all():
        return np.arange(np.count_nonzero(codes < 0), len(codes))
    rows = None
    if codes.min() < 0:
        rows = np.flatnonzero(codes >= 0)
        codes = codes[rows]
    order = np.argsort(codes.astype(np.uint16), kind="stable")  # astype keeps the low digit
    shift = 16
    while (n_codes - 1) >> shift > 0:
        digit = (codes >> shift).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
        shift += 16
    return order if rows is None else rows[order]


def is_range(order: IntArray) -> bool:
    """Whether a permutation of range(n) is range(n) itself."""
    return len(order) == 0 or bool(
        order[0] == 0 and order[-1] == len(order) - 1 and (np.diff(order) > 0).all()
    )
