# SPDX-License-Identifier: MIT
"""Which rows differ in their keys, found in pieces: Ctrl-C need not wait for the whole column.

Python hashes and compares its objects itself, so pandas holds the interpreter for the whole of a
column of tuples, and no signal arrives: 1 s at 2 million rows, where pieces hold it for 0.05 s. Then
pandas has only the rows that differ, but these it sorts in one go: 0.04 s for 20,000 tuples, 2 s for
400,000. Strings, numbers and dates stay with pandas: it numbers a million in 0.03 to 0.5 s, which rows
that differ did not make faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import eq
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.problem import IntArray

Keys: TypeAlias = "pd.Index[Any] | pd.Series[Any]"

PIECE = 50_000  # rows: 0.05 s
FEW = 0.1  # values by row of a piece: up to here it pays to let pandas thin out each piece first


def holds_the_interpreter(keys: Keys) -> bool:
    """Whether pandas would keep signals waiting while it numbers these keys."""
    if len(keys) <= 2 * PIECE or keys.dtype != object:
        return False
    return pd.api.types.infer_dtype(keys, skipna=True) != "string"


def distinct_rows(keys: Sequence[Keys]) -> tuple[IntArray, IntArray]:
    """Find rows that differ in some key: their first occurrences, and which of them each row is like.

    Keys that pandas takes for one may still count as different, as NaN in tuples do; never the reverse.

    Returns
    -------
    first : (d,) int64, increasing
    place : (n,) int64, rows ``first[place]`` have the keys of all rows
    """
    place = numbered(keys[0])
    for key in keys[1:]:
        own = numbered(key)
        place = _by_appearance(place * (own.max() + 2) + own)  # dense each time: never overflows
    place = _by_appearance(place)
    return _first_of_each(place), place


def numbered(keys: Keys) -> IntArray:
    """(n,) equal values have equal numbers, below 2 n; missing values -1."""
    if not holds_the_interpreter(keys):
        return _by_appearance(keys)
    objects = keys.to_numpy()
    if len(pd.unique(objects[:PIECE])) > FEW * PIECE:
        return _numbered_objects(objects)
    pieces = [pd.factorize(objects[piece]) for piece in _pieces(np.arange(len(objects)))]
    numbers = _numbered_objects(np.concatenate([values for _, values in pieces]))
    ends = np.cumsum([len(values) for _, values in pieces])
    parts = zip(pieces, np.split(numbers, ends[:-1]), strict=True)
    return np.concatenate([np.append(own, -1)[codes] for (codes, _), own in parts])


def _numbered_objects(objects: NDArray[Any]) -> IntArray:
    """By their hashes, each then compared with the first of its hash; no table as large as the column."""
    made = np.full(len(objects), -1, dtype=np.int64)
    rows = np.concatenate([piece[pd.notna(objects[piece])] for piece in _pieces(np.arange(len(objects)))])
    hashes = [np.fromiter(map(hash, objects[piece]), np.int64) for piece in _pieces(rows)]
    made[rows] = _by_appearance(np.concatenate(hashes))
    first = rows[_first_of_each(made[rows])]
    for piece in _pieces(rows):
        alike = np.fromiter(map(eq, objects[piece], objects[first[made[piece]]]), np.bool_)
        others = piece[~alike]  # another value of this hash, or one that is not even like itself
        made[others] = len(objects) + others
    return made


def _pieces(rows: IntArray) -> Iterator[IntArray]:
    return (rows[start : start + PIECE] for start in range(0, max(len(rows), 1), PIECE))


def _by_appearance(values: Any) -> IntArray:
    return pd.factorize(values)[0].astype(np.int64, copy=False)  # type: ignore[no-any-return]


def _first_of_each(numbers: IntArray) -> IntArray:
    """(d,) first row of each of the numbers below d, all of which occur."""
    first = np.empty(numbers.max(initial=-1) + 1, dtype=np.int64)
    first[numbers[::-1]] = np.arange(len(numbers))[::-1]
    return first
