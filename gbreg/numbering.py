# SPDX-License-Identifier: MIT
"""Keys that are numbered here, faster than pandas does: integers, booleans, categories, Arrow's strings.

Each key is a digit; several make a mixed-radix number.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import column_at
from gbreg.problem import IntArray
from gbreg.rowops import Codes, RowOps, code_type
from gbreg.spec import Grouping


class Groups(NamedTuple):
    """The group of each row.

    Group c of the numbering is called ``keys[i]`` where ``occupied[i] == c``; numbers
    that are not in ``occupied`` (None: all are) have no row and no key.
    """

    codes: Codes  # (n,), -1: in no group
    sizes: IntArray  # rows of each number; all codes are below its length
    occupied: IntArray | None  # (g,), increasing
    keys: pd.Index[Any]  # (g,)


class _Digit(NamedTuple):
    """One key, numbered: its part of a mixed-radix number."""

    values: NDArray[Any]  # (n,) integers
    low: int  # the smallest, which counts as 0
    base: int
    missing: bool  # whether values below low stand for a missing key
    level: Any  # (present codes, name) -> Index of their values


def find_digits(frame: pd.DataFrame, grouping: Grouping, ops: RowOps) -> list[_Digit] | None:
    """Turn each key into a digit, if all are columns of integers, booleans, strings or categories.

    Strings only where Arrow holds them: Python's would have to be looked at one by one.
    """
    labels = grouping.labels
    if labels is None or not grouping.sort or not len(frame):
        return None
    digits, total = [], 1
    for label in labels:
        if label in frame.index.names:
            return None
        column = column_at(frame, label)
        if isinstance(column.dtype, pd.CategoricalDtype):
            digit = _category_digit(column, grouping, alone=len(labels) == 1)
        elif isinstance(column.dtype, pd.StringDtype):
            digit = _string_digit(column, grouping, ops)
        else:
            digit = _integer_digit(column, ops)
        if digit is None or (total := total * digit.base) > np.iinfo(np.int64).max:
            return None
        digits.append(digit)
    return digits


def _limit(n: int) -> int:
    """Up to which number the keys of n rows need no hashing, although most numbers may be of no group."""
    return max(4 * n, 65536)


def _integer_digit(column: pd.Series[Any], ops: RowOps) -> _Digit | None:
    dtype = column.dtype
    if not isinstance(dtype, np.dtype) or dtype.kind not in "biu":
        return None
    values = column.to_numpy()
    if dtype.kind == "b":
        values = values.view(np.uint8)
    start = 0
    if dtype == np.uint64:  # differences from the smallest may fit where the values do not
        start = int(values.min())
        values = values - values.min()
        if values.max() > np.iinfo(np.int64).max:
            return None
    values = values.astype(np.int64, copy=False)
    low, high = ops.bounds(values)
    codes, base, uniques = values, high - low + 1, None
    if base > _limit(len(values)):
        codes, uniques = ops.distinct(values)
        low, base = 0, len(uniques)

    def level(present: IntArray, name: Hashable = None) -> pd.Index[Any]:
        if uniques is None:
            own = present + low
        else:
            own = uniques if len(present) == len(uniques) else uniques[present]
        values: Any = own.astype(dtype, copy=False)
        if start:
            values = values + dtype.type(start)
        keys: pd.Index[Any] = pd.Index(values, name=name, copy=False)
        return keys

    return _Digit(codes, low, base, False, level)


def _string_digit(column: pd.Series[Any], grouping: Grouping, ops: RowOps) -> _Digit | None:
    """None where Arrow does not hold the strings, or a missing one is a group."""
    if getattr(column.dtype, "storage", None) != "pyarrow":
        return None
    arrow: Any = column.array.__arrow_array__()  # type: ignore[attr-defined, unused-ignore]
    if arrow.null_count and not grouping.dropna:
        return None
    codes = np.empty(len(column), dtype=np.int32)
    words: dict[int, pd.Index[Any]] = {}

    def encode(part: int, lo: int, hi: int) -> None:
        words[part] = pd.Index(ops.encode(arrow.slice(lo, hi - lo), codes[lo:hi]), dtype=column.dtype)

    ops.over(len(column), encode)
    found = [words[part] for part in sorted(words)]
    numbers, uniques = pd.factorize(found[0].append(found[1:]), sort=True)
    places = np.split(numbers.astype(np.int32), np.cumsum([len(some) for some in found])[:-1])

    def number(part: int, lo: int, hi: int) -> None:  # the last place is for -1
        np.take(np.append(places[part], np.int32(-1)), codes[lo:hi], out=codes[lo:hi], mode="wrap")

    ops.over(len(column), number)

    def level(present: IntArray, name: Hashable = None) -> pd.Index[Any]:
        keys: pd.Index[Any] = pd.Index(uniques.take(present), name=name)
        return keys

    return _Digit(codes, 0, max(len(uniques), 1), bool(arrow.null_count), level)


def _category_digit(column: pd.Series[Any], grouping: Grouping, alone: bool) -> _Digit | None:
    """None where pandas adds groups: a missing category, all combinations of several keys, or very many."""
    dtype: Any = column.dtype
    codes = column.cat.codes.to_numpy().astype(np.int64)
    missing = bool(codes.min() < 0)
    few = alone and len(dtype.categories) <= _limit(len(codes))  # others are numbered anew, if they have rows
    if (missing and not grouping.dropna) or not (grouping.observed or few):
        return None

    def level(present: IntArray, name: Hashable = None) -> pd.Index[Any]:
        if not grouping.observed:
            present = np.arange(len(dtype.categories))
        values = pd.Categorical.from_codes(present, dtype=dtype)  # type: ignore[arg-type, unused-ignore]
        return pd.CategoricalIndex(values, name=name)

    return _Digit(codes, 0, max(len(dtype.categories), 1), missing, level)


def mixed_radix(digits: list[_Digit], labels: Sequence[Hashable], ops: RowOps) -> Groups:
    """Combine the numbers of the keys; the order of the result is that of the sorted keys."""
    n_codes = math.prod(digit.base for digit in digits)
    dtype = code_type(n_codes)
    if len(digits) == 1 and digits[0].low == 0 and digits[0].values.dtype == dtype:
        codes = digits[0].values  # numbered already
    else:
        codes = ops.number([(d.values, d.low, d.base) for d in digits], dtype)
    for digit in digits:
        if digit.missing:
            codes[digit.values < digit.low] = -1
    if n_codes > _limit(len(codes)):
        codes, occupied = ops.distinct(codes.astype(np.int64, copy=False))
        if len(occupied) and occupied[0] < 0:
            codes, occupied = codes - codes.dtype.type(1), occupied[1:]
        sizes = ops.count(codes, len(occupied))
        n_codes = len(occupied)
    else:
        sizes = ops.count(codes, n_codes)
        occupied = np.flatnonzero(sizes)
    if len(digits) == 1:
        keys = digits[0].level(occupied, labels[0])
        return Groups(codes, sizes, None if len(keys) == n_codes else occupied, keys)
    levels: list[Any] = []
    positions: list[Any] = []
    for digit, own in zip(digits, _apart(occupied, [d.base for d in digits]), strict=True):
        seen = np.zeros(digit.base, dtype=np.bool_)
        seen[own] = True
        levels.append(digit.level(np.flatnonzero(seen)))
        places = np.cumsum(seen) - 1
        positions.append(places.astype(np.min_scalar_type(-digit.base))[own])  # as small as pandas keeps them
    keys = pd.MultiIndex(levels=levels, codes=positions, names=list(labels), verify_integrity=False)
    return Groups(codes, sizes, None if len(occupied) == n_codes else occupied, keys)


def _apart(numbers: IntArray, bases: list[int]) -> list[IntArray]:
    """Digits of mixed-radix numbers; arrays of numpy before 2 have 32 dimensions at most."""
    if len(bases) <= 32:
        return list(np.unravel_index(numbers, bases))
    rest, *last = np.unravel_index(numbers, [math.prod(bases[:-31]), *bases[-31:]])
    return [*_apart(rest, bases[:-31]), *last]
