# SPDX-License-Identifier: MIT
"""Which row belongs to which group, and what the groups are called: as pandas says.

The keys are those of ``frame.groupby(...).size().index``, always. pandas finds them,
unless `gbreg.numbering` can number the columns faster.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.typing import DataFrameGroupBy

from gbreg import distinct
from gbreg.alignment import places
from gbreg.columns import EXPRESSION, check_labels, column_at, is_label, is_label_list
from gbreg.distinct import Keys
from gbreg.errors import ColumnError, DTypeError, GbregError, SpecError, warn
from gbreg.lookup import find_keys
from gbreg.numbering import Groups, find_digits, mixed_radix
from gbreg.problem import EXACT, IntArray
from gbreg.rowops import NUMPY, RowOps, code_type
from gbreg.spec import Grouping
from gbreg.suggest import nearest


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
    digits = find_digits(frame, grouping, ops)
    if digits is not None:
        return mixed_radix(digits, grouping.labels or (), ops)
    return _ask_pandas(frame, grouping)


# what is asked


def with_values(frame: pd.DataFrame, grouping: Grouping) -> Grouping:
    """As pandas has it, a list of one value per row, none of which is a label, is one key.

    Warns of a Series that does not have all rows.
    """
    by = grouping.by
    for item in _as_list(by, list):
        if isinstance(item, pd.Series):
            places(item.index, frame.index, "a Series in by=", partly=False)
    if not isinstance(by, list) or len(by) != len(frame) or len(by) < 2 or not is_label_list(by):
        return grouping
    known = {*frame.columns, *frame.index.names}
    return replace(grouping, by=[by]) if known.isdisjoint(by) else grouping


def check_grouping(frame: pd.DataFrame, grouping: Grouping) -> None:
    """Raise what `find_groups` raises of labels, levels and lengths, before it looks at any key."""
    if grouping.level is not None:
        _check_levels(frame, _as_list(grouping.level, (list, tuple)), "level")
        return
    items = _as_list(grouping.by, list)
    if not items:
        raise SpecError("by=[] names no key: what are the groups?")
    labels = [item for item in items if is_label(item)]
    groupers = [item for item in items if isinstance(item, pd.Grouper)]
    labels += [grouper.key for grouper in groupers if grouper.key is not None]
    _check_key_labels(frame, labels)
    _check_levels(frame, [g.level for g in groupers if g.level is not None], "level of a Grouper in by")
    for grouper in groupers:
        _check_frequency(frame, grouper)
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


def _check_levels(frame: pd.DataFrame, levels: Sequence[Any], role: str) -> None:
    index = frame.index
    if role == "level" and not levels:
        raise SpecError("level=[] names no key: what are the groups?")
    names = list(index.names)
    for level in levels:
        if names.count(level) > 1:
            raise SpecError(f"{role}=: {level!r} is the name of several index levels; give its number")
        number = isinstance(level, (int, np.integer)) and not isinstance(level, bool)
        if level not in names and not (number and -index.nlevels <= level < index.nlevels):
            hint = nearest(level, [name for name in names if name is not None])
            if role == "level" and is_label(level) and level in frame.columns:
                hint = f"; it is a column: by={level!r}"
            raise SpecError(f"{role}= {level!r} is not a level of the index, whose levels are {names}{hint}")


def _check_frequency(frame: pd.DataFrame, grouper: pd.Grouper) -> None:
    """A Grouper with a frequency needs dates, durations or periods."""
    if grouper.freq is None:
        return
    frequency = getattr(grouper.freq, "freqstr", grouper.freq)
    if grouper.key is not None:
        what, values = f"column {grouper.key!r}", pd.Index(column_at(frame, grouper.key)[:0])
    else:
        what, values = "the index", frame.index
        if grouper.level is not None:
            level: Any = grouper.level
            what, values = f"level {level!r}", frame.index.get_level_values(level)
    if not isinstance(values, (pd.DatetimeIndex, pd.TimedeltaIndex, pd.PeriodIndex)):
        raise SpecError(
            f"by= has a Grouper with freq={frequency!r}, which needs dates, but {what} has dtype "
            f"{values.dtype}; give key= a column of dates"
        )


def _check_values(frame: pd.DataFrame, item: Any) -> None:
    """Row-aligned keys and code."""
    kind = type(item).__name__
    if isinstance(item, pd.Series):
        places(item.index, frame.index, "a Series in by=")
    elif isinstance(item, np.ma.MaskedArray):
        raise SpecError("a masked array in by= would lose its mask; make a Series of it: pandas.Series(...)")
    elif isinstance(item, (list, np.ndarray, pd.Index, pd.api.extensions.ExtensionArray)):
        shape = (len(item),) if isinstance(item, list) else item.shape
        if shape != (len(frame),):
            raise SpecError(
                f"a key in by= ({kind}) must have one value per row, {len(frame)}, got shape {shape}"
            )
    elif isinstance(item, EXPRESSION) or not (callable(item) or isinstance(item, (dict, pd.Grouper))):
        advice = ""
        if isinstance(item, EXPRESSION):
            advice = "; put it into the frame first, with assign"
        elif isinstance(item, (pd.DataFrame, DataFrameGroupBy)):
            advice = "; give the frame, and by= what it is to be grouped by"
        raise SpecError(
            "by= takes a label, Series, array, dict, callable or Grouper, or a list of these, "
            f"got {kind}{advice}"
        )


def _as_list(value: Any, kinds: Any) -> list[Any]:
    return list(value) if isinstance(value, kinds) else [value]


# numbered by pandas


def _ask_pandas(frame: pd.DataFrame, grouping: Grouping) -> Groups:
    """Let pandas group the rows; those that differ, if it could not be interrupted with all of them."""
    grouping = _without_groupers(frame, grouping)
    _check_dtypes(frame, grouping)
    keys = _columns_and_levels(frame, grouping) if len(frame) > distinct.PIECE else []
    if not any(map(distinct.holds_the_interpreter, keys)):
        return _groups_of_all_rows(frame, grouping)
    with _hashing():
        first, place = distinct.distinct_rows(keys)
    few = pd.DataFrame(index=pd.RangeIndex(len(first)))
    by: list[Any] = [key.take(first) for key in keys]
    by = [key.set_axis(few.index) if isinstance(key, pd.Series) else key for key in by]
    groups = _groups_of_all_rows(few, replace(grouping, by=by, level=None))
    codes = groups.codes[place]
    return groups._replace(codes=codes, sizes=NUMPY.count(codes, len(groups.sizes)))


def _check_dtypes(frame: pd.DataFrame, grouping: Grouping) -> None:
    """Refuse numbers that pandas does not group by: half precision and foreign byte order."""
    for item in _as_list(grouping.by, list):
        is_column = is_label(item) and item not in frame.index.names
        dtype = getattr(column_at(frame, item) if is_column else item, "dtype", None)
        if isinstance(dtype, np.dtype) and (dtype == np.float16 or not dtype.isnative):
            plain = np.dtype(np.float32) if dtype == np.float16 else dtype.newbyteorder("=")
            name = repr(item) if is_column else f"({type(item).__name__})"
            raise DTypeError(
                f"key {name} in by= has dtype {dtype.str!r}, which pandas does not group by; "
                f"use .astype({plain.name!r})"
            )


def _columns_and_levels(frame: pd.DataFrame, grouping: Grouping) -> list[Keys]:
    """Values of the keys, levels as Index, whose dtype pandas keeps; none if there are other keys."""
    wanted: Any = grouping.labels or ()
    if grouping.level is not None:
        wanted = _as_list(grouping.level, (list, tuple))
    return [
        frame.index.get_level_values(key)
        if grouping.level is not None or key in frame.index.names
        else column_at(frame, key)
        for key in wanted
    ]


def _groups_of_all_rows(frame: pd.DataFrame, grouping: Grouping) -> Groups:
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
    bins = any(isinstance(item, pd.Grouper) for item in _as_list(grouping.by, list))
    with _hashing():
        try:
            groupby = frame.groupby(
                by=grouping.by,
                level=grouping.level,
                sort=grouping.sort,
                observed=grouping.observed,
                dropna=grouping.dropna,
            )
            groupby.ngroups  # noqa: B018  (lazy: unhashable keys are found here)
        except (NotImplementedError, ValueError) as error:
            if bins:  # kinds of frequency and of dates that do not go together
                raise SpecError(f"by= has a Grouper that pandas refuses: {error}") from error
            raise
    return groupby


@contextmanager
def _hashing() -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        raise SpecError(f"by= holds keys that cannot be hashed: {error}") from error


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
        if (np.isfinite(values) & (values > EXACT)).any():
            return (
                f"key {level.name!r} is {level.dtype} and beyond 2**53, where neighbouring integers are one "
                "number: groups may have merged; use Int64 or a string key"
            )
    return ""
