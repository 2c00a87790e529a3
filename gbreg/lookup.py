# SPDX-License-Identifier: MIT
"""Keys of one frame among those of another, by their values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gbreg.errors import SpecError, warn
from gbreg.problem import IntArray, beyond_floats


def level_values(keys: pd.Index[Any], i: int) -> pd.Index[Any]:
    """The level at a position, which pandas would take for a name first, if some level is called so."""
    if keys.nlevels == 1 or i not in keys.names:
        return keys.get_level_values(i)
    return keys.set_names(range(keys.nlevels)).get_level_values(i).rename(keys.names[i])


def find_keys(keys: pd.Index[Any], wanted: pd.Index[Any]) -> IntArray:
    """Positions of ``wanted`` keys in ``keys`` (no duplicates); -1 for those not there.

    As ``get_indexer``, but right for missing values in a MultiIndex (pandas 2.2 and 3.1 find
    them or not, depending on how they are stored), and by value for categories and intervals.

    Returns
    -------
    (len(wanted),) int64
    """
    if keys.nlevels != wanted.nlevels:
        raise SpecError(f"the groups have {keys.nlevels} keys, {list(keys.names)}, not {wanted.nlevels}")
    n = len(keys)
    codes = np.zeros(n + len(wanted), dtype=np.int64)
    absent = np.zeros(len(wanted), dtype=np.bool_)
    for i in range(keys.nlevels):
        own, base = _level_codes(level_values(keys, i), level_values(wanted, i))
        absent |= own[n:] < 0
        codes = pd.factorize(codes * base + own)[0].astype(np.int64)  # dense again: never overflows
    place = np.full(len(codes), -1, dtype=np.int64)
    place[codes[:n]] = np.arange(n)
    found: IntArray = np.where(absent, -1, place[codes[n:]])
    return found


def _level_codes(have: pd.Index[Any], want: pd.Index[Any]) -> tuple[IntArray, int]:
    """Give each value of both a number, and their bound; -1: not among ``have``."""
    present, wanted = _alike(_by_value(have[have.notna()]), _by_value(want[want.notna()]))
    uniques = present.unique()
    codes = np.full(len(have) + len(want), len(uniques), dtype=np.int64)  # a missing value
    codes[: len(have)][have.notna()] = uniques.get_indexer(present)
    codes[len(have) :][want.notna()] = uniques.get_indexer(wanted)
    return codes, len(uniques) + 1


def _by_value(values: pd.Index[Any]) -> pd.Index[Any]:
    if isinstance(values, pd.CategoricalIndex):
        values = values.categories.take(values.codes)
    return values.astype(object) if isinstance(values.dtype, pd.IntervalDtype) else values


def _alike(have: pd.Index[Any], want: pd.Index[Any]) -> tuple[pd.Index[Any], pd.Index[Any]]:
    """Both as objects where pandas would compare them as floats, read text as times, or fail."""
    if have.dtype == want.dtype:
        return have, want
    kinds = {have.dtype.kind, want.dtype.kind}
    if kinds & {"O", "U"} or (kinds & {"i", "u"} and (_is_wide(have) or _is_wide(want))):
        return _as_objects(have), _as_objects(want)
    return _as_numpy(have), _as_numpy(want)


def _as_objects(values: pd.Index[Any]) -> pd.Index[Any]:
    """Python's objects, of which True is not to be 1."""
    objects = values.astype(object)
    if pd.api.types.infer_dtype(objects) not in ("boolean", "mixed", "mixed-integer"):
        return objects
    told = [("bool", value) if isinstance(value, (bool, np.bool_)) else value for value in objects]
    return pd.Index(told, dtype=object, tupleize_cols=False)


def _as_numpy(values: pd.Index[Any]) -> pd.Index[Any]:
    """Numbers of nullable and Arrow dtypes, none missing, as those of numpy, which convert to each other."""
    dtype = {"i": np.int64, "u": np.uint64, "f": np.float64, "b": np.bool_}.get(values.dtype.kind)
    if dtype is None or isinstance(values.dtype, np.dtype):
        return values
    made: pd.Index[Any] = pd.Index(values.to_numpy(dtype=dtype))
    return made


def _is_wide(values: pd.Index[Any]) -> bool:
    """Whether any is an integer that float64 may not hold."""
    return values.dtype.kind in "iu" and beyond_floats(values)


def check_bins(by: Any, keys: pd.Index[Any], found: pd.Index[Any]) -> None:
    """Raise `SpecError` if bins of a Grouper begin elsewhere in this frame than in that of the fit."""
    for i, item in enumerate(by if isinstance(by, list) else [by]):
        if not isinstance(item, pd.Grouper) or item.freq is None or not len(keys) or not len(found):
            continue
        own, here = level_values(keys, i), level_values(found, i)
        if getattr(own, "tz", None) != getattr(here, "tz", None) or isinstance(own, pd.PeriodIndex):
            continue  # none is like another; periods begin where they begin
        shifted = _is_shifted(own, here, item.freq)
        if keys.nlevels == 1:  # then the fit has every bin between its first and its last
            shifted |= not here[(here > own[0]) & (here < own[-1])].isin(own).all()
        if shifted:
            raise SpecError(
                "the bins of pandas.Grouper begin elsewhere in this frame than in that of the fit; give the "
                "keys of the rows as by=, or the Grouper an origin="
            )


def _is_shifted(own: Any, here: Any, freq: Any) -> bool:
    """Whether bins of one frequency cannot be of one row of bins."""
    own, here, step = own.dropna(), here.dropna(), None
    if not len(own) or not len(here):
        return False
    if isinstance(freq, pd.offsets.Day):
        if getattr(own, "tz", None) is None:  # with a zone some days are longer
            step = pd.Timedelta(days=freq.n)
    elif isinstance(freq, pd.offsets.Tick):
        step = pd.Timedelta(freq)
    if step is not None:
        return bool(((here - own[0]) % step).any())
    bins = pd.date_range(own.min(), max(own.max(), here.max()), freq=freq)
    return bool(own.isin(bins).all()) and not here[here >= own.min()].isin(bins).all()


def warn_of_dtypes(keys: pd.Index[Any], found: pd.Index[Any]) -> None:
    """Of keys none of which is one of the fit's, say which are of another dtype."""
    pairs = [(level_values(keys, i), level_values(found, i)) for i in range(keys.nlevels)]
    if others := [f"{a.name!r} is {b.dtype}, in the fit {a.dtype}" for a, b in pairs if a.dtype != b.dtype]:
        warn(f"no row of the frame is in a group of the fit, and keys differ in dtype: {'; '.join(others)}")
