# SPDX-License-Identifier: MIT
"""Which row belongs to which group, and what the groups are called: as pandas says.

The keys are those of ``frame.groupby(...).size().index``, always. pandas finds them,
unless the columns are small integers, booleans or categories: those are numbered here,
without hashing.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import check_labels, column_at, is_label
from gbreg.errors import ColumnError, GbregError, SpecError, warn
from gbreg.problem import IntArray
from gbreg.rowops import NUMPY, Codes, RowOps, code_type
from gbreg.spec import Grouping
from gbreg.suggest import nearest


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


def find_groups(frame: pd.DataFrame, grouping: Grouping) -> Groups:
    """Find the group of each row and the keys, in the order of ``groupby(...).size().index``.

    Raises
    ------
    ColumnError
        Names all labels that are neither a column nor an index level.
    SpecError
        Ambiguous or duplicated labels, keys of the wrong length, unhashable keys.

    Warns
    -----
    GbregWarning
        Keys are floats so large that integers may have merged.
    """
    groups = number_rows(frame, grouping)
    if trouble := wide_floats(groups.keys):
        warn(trouble)
    return groups


def number_rows(frame: pd.DataFrame, grouping: Grouping, ops: RowOps = NUMPY) -> Groups:
    """`find_groups` without its warning."""
    check_grouping(frame, grouping)
    digits = _digits(frame, grouping, ops)
    if digits is not None:
        return _mixed_radix(digits, grouping.labels or (), ops)
    return _ask_pandas(frame, grouping)


def find_keys(keys: pd.Index[Any], wanted: pd.Index[Any]) -> IntArray:
    """Positions of ``wanted`` keys in ``keys`` (no duplicates); -1 for those not there.

    As ``get_indexer``, but right for missing values in a MultiIndex (pandas 2.2 and 3.1 find
    them or not, depending on how they are stored), and by value for categories and intervals.

    Returns
    -------
    (len(wanted),) int64
    """
    if keys.nlevels != wanted.nlevels:
        raise SpecError(f"keys have {keys.nlevels} levels, not {wanted.nlevels}")
    n = len(keys)
    codes = np.zeros(n + len(wanted), dtype=np.int64)
    absent = np.zeros(len(wanted), dtype=np.bool_)
    for i in range(keys.nlevels):
        own, base = _level_codes(keys.get_level_values(i), wanted.get_level_values(i))
        absent |= own[n:] < 0
        codes = pd.factorize(codes * base + own)[0].astype(np.int64)  # dense again: never overflows
    place = np.full(len(codes), -1, dtype=np.int64)
    place[codes[:n]] = np.arange(n)
    found: IntArray = np.where(absent, -1, place[codes[n:]])
    return found


def _level_codes(have: pd.Index[Any], want: pd.Index[Any]) -> tuple[IntArray, int]:
    """Give each value of both a number, and their bound; -1: not among ``have``."""
    present = _by_value(have[have.notna()])
    uniques = present.unique()
    codes = np.full(len(have) + len(want), len(uniques), dtype=np.int64)  # a missing value
    codes[: len(have)][have.notna()] = uniques.get_indexer(present)
    codes[len(have) :][want.notna()] = uniques.get_indexer(_by_value(want[want.notna()]))
    return codes, len(uniques) + 1


def _by_value(values: pd.Index[Any]) -> pd.Index[Any]:
    if isinstance(values, pd.CategoricalIndex):
        values = values.categories.take(values.codes)
    return values.astype(object) if isinstance(values.dtype, pd.IntervalDtype) else values


# what is asked


def check_grouping(frame: pd.DataFrame, grouping: Grouping) -> None:
    """Raise what `find_groups` raises of labels, levels and lengths, before it looks at any key."""
    if grouping.level is not None:
        _check_levels(frame.index, _as_list(grouping.level, (list, tuple)), "level")
        return
    items = _as_list(grouping.by, list)
    if not items:
        raise SpecError("by=[] names no key: what are the groups?")
    labels = [item for item in items if is_label(item)]
    groupers = [item for item in items if isinstance(item, pd.Grouper)]
    labels += [grouper.key for grouper in groupers if grouper.key is not None]
    _check_key_labels(frame, labels)
    _check_levels(frame.index, [g.level for g in groupers if g.level is not None], "level of a Grouper in by")
    for item in items:
        if not is_label(item):
            _check_values(frame, item)


def _check_key_labels(frame: pd.DataFrame, labels: Sequence[Hashable]) -> None:
    names = list(frame.index.names)
    if both := [label for label in labels if label in names and label in frame.columns]:
        raise SpecError(f"by= is ambiguous: {both} are columns and index levels; rename one of them")
    others = [label for label in labels if label not in names]
    try:
        check_labels(frame, others, "by")
    except ColumnError as error:
        if any(label is not None for label in names):
            raise ColumnError(f"{error}; index levels are {names}") from None
        raise


def _check_levels(index: pd.Index[Any], levels: Sequence[Any], role: str) -> None:
    if role == "level" and not levels:
        raise SpecError("level=[] names no key: what are the groups?")
    names = list(index.names)
    for level in levels:
        if names.count(level) > 1:
            raise SpecError(f"{role}=: {level!r} is the name of several index levels; give its number")
        number = isinstance(level, (int, np.integer)) and not isinstance(level, bool)
        if level not in names and not (number and -index.nlevels <= level < index.nlevels):
            raise SpecError(
                f"{role}= {level!r} is not a level of the index, whose levels are {names}"
                f"{nearest(level, [name for name in names if name is not None])}"
            )


def _check_values(frame: pd.DataFrame, item: Any) -> None:
    """Row-aligned keys and code."""
    kind = type(item).__name__
    if isinstance(item, pd.Series):
        if not item.index.is_unique and not item.index.equals(frame.index):
            raise SpecError("a Series in by= cannot be aligned: its index differs and has duplicates")
    elif isinstance(item, (list, np.ndarray, pd.Index, pd.api.extensions.ExtensionArray)):
        shape = (len(item),) if isinstance(item, list) else item.shape
        if shape != (len(frame),):
            raise SpecError(
                f"a key in by= ({kind}) must have one value per row, {len(frame)}, got shape {shape}"
            )
    elif not (callable(item) or isinstance(item, (dict, pd.Grouper))):
        raise SpecError(
            "by= takes a label, Series, array, dict, callable or Grouper, or a list of these, got " + kind
        )


def _as_list(value: Any, kinds: Any) -> list[Any]:
    return list(value) if isinstance(value, kinds) else [value]


# numbered here


def _digits(frame: pd.DataFrame, grouping: Grouping, ops: RowOps) -> list[_Digit] | None:
    """Turn each key into a digit, if all are columns of integers, booleans, strings or categories.

    Strings only where Arrow holds them: Python's would have to be looked at one by one.
    """
    labels = grouping.labels
    if labels is None or not grouping.sort or not len(frame):
        return None
    digits, total = [], 1
    limit = max(4 * len(frame), 65536)  # of numbers, most of which may be of no group
    for label in labels:
        if label in frame.index.names:
            return None
        column = column_at(frame, label, "by")
        if isinstance(column.dtype, pd.CategoricalDtype):
            digit = _category_digit(column, grouping, alone=len(labels) == 1)
        elif isinstance(column.dtype, pd.StringDtype):
            digit = _string_digit(column, grouping, ops)
        else:
            digit = _integer_digit(column, limit, ops)
        if digit is None or (total := total * digit.base) > limit:
            return None
        digits.append(digit)
    return digits


def _integer_digit(column: pd.Series[Any], limit: int, ops: RowOps) -> _Digit | None:
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
    codes, base, distinct = values, high - low + 1, None
    if base > limit:
        codes, distinct = ops.distinct(values)
        low, base = 0, len(distinct)

    def level(present: IntArray, name: Hashable = None) -> pd.Index[Any]:
        own = present + low if distinct is None else distinct[present]
        return pd.Index(own.astype(dtype) + dtype.type(start), name=name)

    return _Digit(codes, low, base, False, level)


def _string_digit(column: pd.Series[Any], grouping: Grouping, ops: RowOps) -> _Digit | None:
    """None where Arrow does not hold the strings, or a missing one is a group."""
    arrow = getattr(column.array, "__arrow_array__", lambda: None)()
    if arrow is None or (arrow.null_count and not grouping.dropna):
        return None
    codes = np.empty(len(column), dtype=np.int32)
    words: dict[int, pd.Index[Any]] = {}

    def encode(part: int, lo: int, hi: int) -> None:
        whole = arrow.slice(lo, hi - lo).dictionary_encode()
        pieces = whole.chunks if hasattr(whole, "chunks") else [whole]  # they share their dictionary
        if not pieces:
            words[part] = pd.Index([], dtype=column.dtype)
            return
        words[part] = pd.Index(pieces[-1].dictionary.to_numpy(zero_copy_only=False), dtype=column.dtype)
        indices = [piece.indices.fill_null(-1).to_numpy(zero_copy_only=False) for piece in pieces]
        np.concatenate(indices, out=codes[lo:hi])

    ops.over(len(column), encode)
    found = [words[part] for part in sorted(words)]
    numbers, distinct = pd.factorize(found[0].append(found[1:]), sort=True)
    places = np.split(numbers.astype(np.int32), np.cumsum([len(some) for some in found])[:-1])

    def number(part: int, lo: int, hi: int) -> None:  # the last place is for -1
        np.take(np.append(places[part], np.int32(-1)), codes[lo:hi], out=codes[lo:hi], mode="wrap")

    ops.over(len(column), number)

    def level(present: IntArray, name: Hashable = None) -> pd.Index[Any]:
        return distinct.take(present).rename(name)

    return _Digit(codes, 0, max(len(distinct), 1), bool(arrow.null_count), level)


def _category_digit(column: pd.Series[Any], grouping: Grouping, alone: bool) -> _Digit | None:
    """None where pandas adds groups: a missing category, or (several keys) all combinations."""
    dtype: Any = column.dtype
    codes = column.cat.codes.to_numpy().astype(np.int64)
    missing = bool(codes.min() < 0)
    if (missing and not grouping.dropna) or not (grouping.observed or alone):
        return None

    def level(present: IntArray, name: Hashable = None) -> pd.Index[Any]:
        if not grouping.observed:
            present = np.arange(len(dtype.categories))
        values = pd.Categorical.from_codes(present, dtype=dtype)  # type: ignore[arg-type, unused-ignore]
        return pd.CategoricalIndex(values, name=name)

    return _Digit(codes, 0, max(len(dtype.categories), 1), missing, level)


def _mixed_radix(digits: list[_Digit], labels: Sequence[Hashable], ops: RowOps) -> Groups:
    """Combine the numbers of the keys; the order of the result is that of the sorted keys."""
    n_codes = math.prod(digit.base for digit in digits)
    codes = ops.number([(d.values, d.low, d.base) for d in digits], code_type(n_codes))
    for digit in digits:
        if digit.missing:
            codes[digit.values < digit.low] = -1
    sizes = ops.count(codes, n_codes)
    occupied = np.flatnonzero(sizes)
    if len(digits) == 1:
        keys = digits[0].level(occupied, labels[0])
        return Groups(codes, sizes, None if len(keys) == n_codes else occupied, keys)
    levels, positions, rest = [], [], occupied
    for digit in reversed(digits):
        rest, own = np.divmod(rest, digit.base)
        seen = np.zeros(digit.base, dtype=np.bool_)
        seen[own] = True
        levels.append(digit.level(np.flatnonzero(seen)))
        positions.append((np.cumsum(seen) - 1)[own])
    order: Any = {"levels": levels[::-1], "codes": positions[::-1], "names": list(labels)}
    keys = pd.MultiIndex(**order, verify_integrity=False)
    return Groups(codes, sizes, None if len(occupied) == n_codes else occupied, keys)


# numbered by pandas


def _ask_pandas(frame: pd.DataFrame, grouping: Grouping) -> Groups:
    grouping = _without_groupers(frame, grouping)
    seen = _groupby(frame, replace(grouping, observed=True))
    codes = _row_codes(seen)
    sizes = seen.size()
    if not grouping.observed:  # other keys in another order, while ngroup() counts the ones seen
        every = _groupby(frame, grouping).size()
        codes = np.append(find_keys(every.index, sizes.index), -1)[codes]
        sizes = every
    counts = np.bincount(codes[codes >= 0], minlength=len(sizes))
    if not np.array_equal(counts, sizes.to_numpy()):
        raise GbregError("internal error: pandas' groups and group numbers disagree; report these keys")
    return Groups(codes.astype(code_type(len(sizes)), copy=False), counts, None, sizes.index)


def _groupby(frame: pd.DataFrame, grouping: Grouping) -> Any:
    """``frame.groupby`` with all its arguments, and its factorisation done."""
    try:
        groupby = frame.groupby(
            by=grouping.by,
            level=grouping.level,
            sort=grouping.sort,
            observed=grouping.observed,
            dropna=grouping.dropna,
        )
        groupby.ngroups  # noqa: B018  (lazy: unhashable keys are found here)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        raise SpecError(f"by= holds keys that cannot be hashed: {error}") from error
    return groupby


def _row_codes(groupby: Any) -> IntArray:
    numbers = groupby.ngroup().to_numpy()
    if numbers.dtype.kind == "f":  # NaN: no group
        numbers = np.where(np.isnan(numbers), -1, numbers)
    return numbers.astype(np.int64, copy=False)  # type: ignore[no-any-return]


def _without_groupers(frame: pd.DataFrame, grouping: Grouping) -> Grouping:
    """Ask for the same groups in a way that keeps the rows' order.

    With a Grouper alone ``ngroup()`` numbers the rows of a sorted frame; in a list, one
    with ``sort=True`` and no frequency numbers the wrong rows (pandas 2.2 and 3.1).
    """
    if isinstance(grouping.by, pd.Grouper) and grouping.by.freq is None:  # alone, its own options count
        own = grouping.by
        grouping = replace(grouping, by=[own], sort=bool(own.sort), dropna=bool(own.dropna))
    if isinstance(grouping.by, (list, pd.Grouper)):
        items = _as_list(grouping.by, list)
        return replace(grouping, by=[_plain_key(frame, item) for item in items])
    return grouping


def _plain_key(frame: pd.DataFrame, item: Any) -> Any:
    if not isinstance(item, pd.Grouper) or item.freq is not None:
        return item
    if item.key is not None:
        return item.key
    level: Any = 0 if item.level is None else item.level
    return frame.index.get_level_values(level)


def wide_floats(keys: pd.Index[Any]) -> str:
    """Say which level has float keys beyond 2**53; an empty string if none has."""
    for level in keys.levels if isinstance(keys, pd.MultiIndex) else [keys]:
        if level.dtype.kind != "f":
            continue
        values = np.abs(level.to_numpy(dtype=np.float64, na_value=np.nan))
        if (np.isfinite(values) & (values > 2**53)).any():
            return (
                f"key {level.name!r} is {level.dtype} and beyond 2**53, where neighbouring integers are one "
                "number: groups may have merged; use Int64 or a string key"
            )
    return ""
