# SPDX-License-Identifier: MIT
"""Columns of the frame as numbers: the dtype is checked before anything is converted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.alignment import places
from gbreg.errors import ColumnError, DTypeError, SpecError
from gbreg.problem import BoolArray, FloatArray, IntArray, beyond_floats
from gbreg.suggest import expression, nearest

EXPRESSION: Any = getattr(pd.api.typing, "Expression", ())  # pandas.col came with pandas 3
# What numpy.asarray would lose missing values of.
ARRAYS: Any = (pd.Index, pd.api.extensions.ExtensionArray, np.ma.MaskedArray)
NAMED = 5  # labels that a message names at most


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the frame, or one derived from it."""

    name: Hashable  # what it is called in the result
    source: Any  # a label, a callable of the frame, or a pandas.col expression
    shadows: bool = False  # whether it is derived, and the frame has another column of its name

    @property
    def label(self) -> Hashable | None:
        """The label in the frame, None when derived."""
        return None if is_code(self.source) else self.source

    def seen(self, frame: pd.DataFrame) -> Column:
        """Itself, knowing whether it ``shadows`` a column of the frame of the fit."""
        return replace(self, shadows=True) if self.label is None and self.name in frame.columns else self

    def portable(self, *, formulas: bool = False) -> Column:
        """Without code: a derived column becomes the plain column of its name.

        With ``formulas`` those of a formula stay: they are text and numbers, which can be pickled.
        """
        keep = not is_code(self.source) or (formulas and isinstance(self.source, Part))
        return self if keep else Column(self.name, self.name, self.shadows)


@dataclass(frozen=True, slots=True)
class Part:
    """The source of one of several columns that are derived together."""

    whole: Callable[[pd.DataFrame], Mapping[str, Any]]  # hashable: is called once for all its parts
    name: str

    def __call__(self, frame: pd.DataFrame) -> Any:
        return self.whole(frame)[self.name]


def spread(n: int, most: int) -> IntArray:
    """At most so many of n rows, from the first to the last."""
    return np.unique(np.linspace(0, n - 1, min(most, n)).astype(np.int64))


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """What a column says, to the last bit.

    ``values`` is float64 with NaN where a value is missing. Only if the dtype is an
    integer and some ``|value| > 2**53`` it is int64 or uint64; ``missing`` then marks
    the rows without a value (their ``values`` are 0), or is None if there are none.
    """

    values: NDArray[Any]  # (n,) float64, int64 or uint64
    missing: BoolArray | None = None  # (n,), integers only

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers beyond 2**53."""
        return self.values.dtype.kind != "f"

    def is_missing(self) -> BoolArray:
        """(n,) rows without a value: NaN or NA."""
        if self.is_integer:
            return np.zeros(self.values.shape, dtype=np.bool_) if self.missing is None else self.missing
        return np.asarray(np.isnan(self.values))

    def as_float(self) -> FloatArray:
        """(n,) float64, NaN for missing; integers beyond 2**53 are rounded."""
        if not self.is_integer:
            return self.values
        out = self.values.astype(np.float64)
        if self.missing is not None:
            out[self.missing] = np.nan
        return out

    def take(self, rows: NDArray[Any]) -> Numbers:
        """Its rows in another order; rows -1 become missing."""
        absent = rows < 0
        if not len(self.values):
            return Numbers(np.full(rows.shape, np.nan))
        values = self.values.take(rows, mode="clip")
        if not self.is_integer:
            values[absent] = np.nan
            return Numbers(values)
        values[absent] = 0
        missing = absent | self.is_missing().take(rows, mode="clip")
        return Numbers(values, missing if missing.any() else None)


def is_label(value: object) -> bool:
    """Whether ``value`` can be one column label: a hashable scalar, or a tuple of such."""
    if isinstance(value, (str, bytes)):
        return True
    if isinstance(value, tuple):
        return all(part is None or is_label(part) for part in value)
    others = (pd.Grouper, Column, slice, Iterable)
    if value is None or callable(value) or isinstance(value, others):
        return False
    try:
        hash(value)
    except TypeError:
        return False
    return True


def is_label_list(value: object) -> bool:
    """Whether ``value`` is a list (a tuple is one label) of labels only."""
    return isinstance(value, list) and all(is_label(item) for item in value)


def as_columns(what: object, role: str) -> tuple[Column, ...]:
    """Columns of ``linear=`` or ``targets=``.

    Parameters
    ----------
    what : list
        Of labels, ``(name, callable)`` or ``(name, expression)`` pairs, and bare
        `pandas.col` expressions (named by their repr). One of these alone means a list of one.
    role : str
        The argument's name, for messages.

    Raises
    ------
    SpecError
        For anything else.
    """
    return tuple(_as_column(item, role) for item in (what if isinstance(what, list) else [what]))


def check_labels(frame: pd.DataFrame, labels: Sequence[Hashable], role: str) -> None:
    """Raise unless each label is exactly one column of the frame.

    Raises
    ------
    ColumnError
        Names all missing labels at once, each with the nearest label.
    SpecError
        Names the labels that stand for several columns.
    """
    columns = frame.columns
    if type(columns) is pd.Index and columns.is_unique and all(label in columns for label in labels):
        return  # the usual case, in a tenth of the time of the careful one
    found = [_locate(columns, label) for label in labels]
    if missing := [label for label, where in zip(labels, found, strict=True) if where is None]:
        hints = ", ".join(f"{label!r}{_hint(frame.columns, label, role)}" for label in missing[:NAMED])
        hints += f" and {len(missing) - NAMED} others" if len(missing) > NAMED else ""
        raise ColumnError(f"{role}= names what is not a column of the frame: {hints}")
    if several := [label for label, where in zip(labels, found, strict=True) if where == -1]:
        partial = isinstance(frame.columns, pd.MultiIndex) and any(
            label not in list(frame.columns) for label in several
        )
        advice = "give the full tuple of a column" if partial else "rename the duplicates"
        raise SpecError(f"{role}= needs one column per label, but {several} select several; {advice}")


def column_at(frame: pd.DataFrame, label: Hashable) -> pd.Series[Any]:
    """Return the one column called ``label``, which `check_labels` has found."""
    column: Any = frame  # a label may be any hashable, which the stubs do not allow
    if isinstance(frame.columns, pd.MultiIndex):  # [] warns about speed where columns are unsorted
        return column.iloc[:, _locate(frame.columns, label)]  # type: ignore[no-any-return]
    return column[label]  # type: ignore[no-any-return]


def read_columns(frame: pd.DataFrame, columns: Sequence[Column], role: str) -> list[Numbers]:
    """Read columns as exact numbers; see `Numbers`. Parts of one whole share its evaluation.

    Parameters
    ----------
    frame : DataFrame
    columns : sequence of Column
        A callable or expression may give a Series (aligned by index), an array of the
        frame's length, or a scalar. Errors inside a callable are not touched.
    role : str
        The argument's name, for messages.

    Raises
    ------
    ColumnError, SpecError
        Labels are not one column each, all named at once; or what was derived does not fit the frame.
    DTypeError
        A dtype is not numeric or boolean.
    """
    check_labels(frame, [column.label for column in columns if column.label is not None], role)
    wholes = {column.source.whole: None for column in columns if isinstance(column.source, Part)}
    made = {whole: whole(frame) for whole in wholes}

    def values(column: Column) -> Any:
        if isinstance(part := column.source, Part):
            return made[part.whole][part.name]
        return evaluate(frame, part, role) if column.label is None else column_at(frame, part)

    return [
        _on_rows(values(column), frame, f"{column.name!r} in {role}=", partly=False) for column in columns
    ]


def read_mask(frame: pd.DataFrame, where: object) -> BoolArray | None:
    """``where=`` as (n,) bool, or None.

    A Series is aligned by index, an array goes by length; labels, callables and
    expressions are evaluated first. A missing value is refused: it is neither.
    """
    if where is None:
        return None
    numbers = _on_rows(evaluate(frame, where, "where"), frame, "where=", kinds="b")
    if gaps := int(numbers.is_missing().sum()):
        raise SpecError(
            f"where= has no value for {gaps} of {len(frame)} rows; say which to take: .fillna(False)"
        )
    return numbers.values.astype(np.bool_)


def read_weights(frame: pd.DataFrame, weights: object) -> FloatArray | None:
    """``weights=`` as (n,) float64, or None; NaN stays NaN, nothing is judged here."""
    if weights is None:
        return None
    what = f"{weights!r} in weights=" if is_label(weights) else "weights="
    return _on_rows(evaluate(frame, weights, "weights"), frame, what).as_float()


def is_code(source: object) -> bool:
    """Whether values are computed of a frame: a callable or a `pandas.col` expression."""
    return isinstance(source, EXPRESSION) or callable(source)


def _as_column(item: object, role: str) -> Column:
    if isinstance(item, Column):
        return item
    if isinstance(item, EXPRESSION):
        return Column(repr(item), item)
    if is_label(item):
        return Column(item, item)
    if isinstance(item, tuple) and len(item) == 2 and is_label(item[0]) and is_code(item[1]):
        return Column(*item)
    if item is None:
        advice = "; give linear= and targets=, or a formula"
    elif callable(item):
        advice = "; a callable needs a name: ('name', callable)"
    elif isinstance(item, (pd.Index, np.ndarray)):
        advice = "; for several labels use list(...)"
    elif isinstance(item, (pd.Series, pd.DataFrame, tuple)):
        advice = "; put values into the frame first, with assign"
    elif isinstance(item, list):
        advice = " in the list"
    else:
        advice = ""
    raise SpecError(
        f"{role}= takes a list of labels, (name, callable) pairs or pandas.col expressions, "
        f"got {type(item).__name__}{advice}"
    )


def _locate(columns: pd.Index[Any], label: Hashable) -> int | None:
    """Position of the one column with this label; None if there is none, -1 if there are several."""
    if isinstance(columns, pd.MultiIndex):
        prefix = label if isinstance(label, tuple) else (label,)
        at = [i for i, column in enumerate(columns) if column[: len(prefix)] == prefix]
        if not at:
            return None
        return at[0] if len(at) == 1 and len(prefix) == columns.nlevels else -1
    try:
        where = columns.get_loc(label)
    except (KeyError, TypeError, pd.errors.InvalidIndexError):
        return None
    return int(where) if isinstance(where, (int, np.integer)) else -1


def _hint(columns: pd.Index[Any], label: Hashable, role: str) -> str:
    if isinstance(label, tuple) and label and all(_locate(columns, part) is not None for part in label):
        return " (a tuple is one label; for several columns give a list)"
    return expression(label, named=role in ("linear", "targets")) + nearest(label, columns)


def evaluate(frame: pd.DataFrame, source: Any, role: str) -> Any:
    """Evaluate a label, callable or expression; a row-aligned object stands for itself."""
    if isinstance(source, EXPRESSION):
        return _expression(frame, source, role)
    if callable(source):
        return source(frame)
    if is_label(source):
        check_labels(frame, (source,), role)
        return column_at(frame, source)
    return source


def _expression(frame: pd.DataFrame, expression: Any, role: str) -> Any:
    """Values of a `pandas.col` expression; ``assign`` is the public way to evaluate one."""
    if isinstance(frame.columns, pd.MultiIndex):  # assign wants plain labels; tuples stay labels
        frame = frame.set_axis(pd.Index(list(frame.columns), tupleize_cols=False), axis=1)
    name = "derived"
    while name in frame.columns:
        name += "_"
    try:
        return frame.assign(**{name: expression}).iloc[:, -1]
    except ValueError as error:
        if not str(error).startswith("Column "):  # pandas' words for one that is not there
            raise
        raise ColumnError(f"{role}= has {expression!r}: {str(error).splitlines()[0]}") from error


def _on_rows(value: Any, frame: pd.DataFrame, what: str, kinds: str = "biuf", partly: bool = True) -> Numbers:
    """Numbers of a Series (aligned by index), an array (by length) or a scalar, one per row."""
    if isinstance(value, pd.Series):
        numbers = _numbers(value, what, kinds)
        rows = places(value.index, frame.index, what, partly=partly)
        return numbers if rows is None else numbers.take(rows)
    if isinstance(value, ARRAYS) and value.ndim == 1:
        value = pd.Series(value)
    elif not isinstance(value, pd.DataFrame):
        if isinstance(value, (Mapping, Set, Iterator)):
            raise SpecError(
                f"{what} takes a Series, an array or a list of values, got {type(value).__name__}"
            )
        try:
            value = np.asarray(value)
        except ValueError as error:  # a list of lists of unlike lengths
            raise SpecError(f"{what} must have one value per row, {len(frame)}: {error}") from error
        if value.ndim == 0:
            value = np.full(len(frame), value[()])
    if value.shape != (len(frame),):
        raise SpecError(f"{what} must have one value per row, {len(frame)}, got shape {value.shape}")
    return _numbers(value, what, kinds)


def _numbers(values: Any, what: str, kinds: str) -> Numbers:
    """Numbers of a Series or a one-dimensional array."""
    if isinstance(values.dtype, pd.SparseDtype):
        values = np.asarray(values)
    dtype = values.dtype
    _check_dtype(dtype, what, kinds)
    plain = isinstance(dtype, np.dtype)
    kind, size = dtype.kind, dtype.itemsize
    if kind not in "iu" or size < 8:  # float64 holds them
        if plain:
            array = values.to_numpy() if isinstance(values, pd.Series) else values  # asarray is slower
            return Numbers(array.astype(np.float64, copy=False))
        return Numbers(values.to_numpy(dtype=np.float64, na_value=np.nan))
    whole = np.dtype(np.int64 if kind == "i" else np.uint64)
    if plain:
        integers, missing = np.asarray(values).astype(whole, copy=False), None
    else:
        gaps = np.asarray(values.isna(), dtype=np.bool_)
        integers = values.to_numpy(dtype=whole, na_value=0)
        missing = gaps if gaps.any() else None
    numbers = Numbers(integers, missing)
    return numbers if beyond_floats(integers) else Numbers(numbers.as_float())


def _check_dtype(dtype: Any, what: str, kinds: str) -> None:
    if kinds == "b":
        if dtype.kind != "b":
            raise DTypeError(f"{what} must be boolean, got dtype {dtype}; compare it with something first")
    elif dtype.kind not in kinds:
        advice = _ADVICE.get(dtype.kind, "convert it, with .astype('float64') or pandas.to_numeric")
        if isinstance(dtype, pd.CategoricalDtype):
            advice = "make indicator columns of it, or group by it"
        raise DTypeError(f"{what} has dtype {dtype}, which cannot be fitted; {advice}")
    elif dtype.kind == "f" and dtype.itemsize > 8:
        raise DTypeError(f"{what} has dtype {dtype}, wider than float64; use .astype('float64')")


_ADVICE = {
    "c": "fit its real and imaginary parts",
    "M": "subtract a time and divide by a unit: (t - t0) / pandas.Timedelta('1s')",
    "m": "divide it by a unit: dt / pandas.Timedelta('1s')",
}
