# SPDX-License-Identifier: MIT
"""Frame to contiguous groups of rows, and from there to plain frozen arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import Numbers
from gbreg.keys import number_rows
from gbreg.numbering import Groups
from gbreg.problem import BoolArray, FloatArray, IntArray, Problem, exact_parts
from gbreg.rowops import NUMPY, Codes, Packed, RowOps, stable_order
from gbreg.spec import Grouping


@dataclass(frozen=True, eq=False, repr=False)
class GroupLayout:
    """Which group each row of a frame belongs to, and where groups begin once rows are sorted.

    Group g is rows ``order[offsets[g]:offsets[g + 1]]`` of the frame, in their order
    there. Rows in no group are absent from ``order``; a group may have no rows.
    The arrays are read-only.
    """

    codes: Codes  # (n_rows,) group of each row of the frame, -1 for none
    offsets: IntArray  # (g + 1,), offsets[0] == 0, offsets[-1] == n_used
    keys: pd.Index[Any]  # (g,), equal to groupby(...).size().index
    index: pd.Index[Any]  # (n_rows,), of the frame it was made for
    grouping: Grouping  # how it was made

    def __repr__(self) -> str:
        by = self.grouping.labels
        named = "" if by is None else f" by {by!r}"
        return f"GroupLayout: {self.n_groups:,} groups{named}, {self.n_used:,} of {self.n_rows:,} rows"

    @property
    def n_rows(self) -> int:
        """Rows of the frame."""
        return len(self.codes)

    @property
    def n_used(self) -> int:
        """Rows in groups."""
        return int(self.offsets[-1])

    @property
    def n_groups(self) -> int:
        """Groups, those without rows included."""
        return len(self.offsets) - 1

    @property
    def sizes(self) -> IntArray:
        """(g,) rows of each group."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def groups(self) -> Groups:
        """The same without the frame."""
        return Groups(self.codes, self.sizes, None, self.keys)

    @cached_property
    def order(self) -> IntArray:
        """(n_used,) rows sorted by group, stable."""
        return read_only(stable_order(self.codes, self.n_groups))

    def select(self, mask: BoolArray) -> GroupLayout:
        """Only the rows where ``mask`` (n_rows,) holds; every group stays. Itself if all hold."""
        if mask.all():
            return self
        codes = np.where(mask, self.codes, self.codes.dtype.type(-1))
        sizes = np.bincount(codes[codes >= 0], minlength=self.n_groups)
        return replace(self, codes=read_only(codes), offsets=_offsets(sizes))

    def count(self, mask: BoolArray) -> IntArray:
        """(g,) rows of each group where ``mask`` (n_rows,) holds."""
        codes = self.codes[mask]
        return np.bincount(codes[codes >= 0], minlength=self.n_groups)


def make_layout(frame: pd.DataFrame, grouping: Grouping, ops: RowOps = NUMPY) -> GroupLayout:
    """Find the group of each row.

    Parameters
    ----------
    frame : DataFrame
    grouping : Grouping
        As `DataFrame.groupby` takes it.
    ops : RowOps
        Who does the work.

    Returns
    -------
    GroupLayout
        ``keys`` equals ``frame.groupby(...).size().index``.

    Raises
    ------
    ColumnError, SpecError
        The keys are missing, ambiguous or do not fit the frame.
    """
    groups = number_rows(frame, grouping, ops)
    codes, sizes = groups.codes, groups.sizes
    if groups.occupied is not None:
        place = np.full(len(sizes) + 1, -1, dtype=codes.dtype)  # the last one is for -1
        place[groups.occupied] = np.arange(len(groups.occupied))
        codes, sizes = place[codes], sizes[groups.occupied]
    return GroupLayout(
        codes=read_only(codes),
        offsets=_offsets(sizes),
        keys=groups.keys,
        index=frame.index,
        grouping=grouping,
    )


def gather(
    layout: GroupLayout,
    X: Sequence[Numbers],
    Y: Sequence[Numbers],
    w: FloatArray | None,
    ops: RowOps = NUMPY,
    whole: bool = True,
) -> tuple[Problem, dict[int, NDArray[Any]], Packed]:
    """Columns in the order of the groups, as a `Problem`.

    Parameters
    ----------
    layout : GroupLayout
        Only rows that take part. A value missing in one of them becomes NaN.
    X, Y : sequence of Numbers, (n_rows,) each
        k predictors and t targets.
    w : (n_rows,) float64 or None
        None: ones.
    ops : RowOps
        Who does the work.
    whole : bool
        Whether rows have to be sorted now, see `RowOps.pack`.

    Returns
    -------
    Problem
    origins : dict of int to (g,) int64 or uint64
        For each integer column beyond 2**53, by its position in X + Y, what was
        subtracted from it: the first value in the group, 0 for a group without any.
    Packed
        What the values are: finite, positive.
    """
    origins: dict[int, NDArray[Any]] = {}
    columns = []
    for i, column in enumerate([*X, *Y]):
        if column.is_integer:
            origins[i] = _references(layout, column)
            columns.append(_differences(layout, column, origins[i]))
        else:
            columns.append(column.values)
    columns.append(np.broadcast_to(1.0, layout.n_rows) if w is None else w)
    packed = ops.pack(columns, layout.codes, layout.offsets, whole)
    problem = Problem(
        Z=read_only(packed.Z),
        offsets=layout.offsets,
        n_predictors=len(X),
        origin=_origin(origins, layout.n_groups, len(X) + len(Y)),
    )
    return problem, origins, packed


def exact_difference(values: NDArray[Any], reference: NDArray[Any]) -> FloatArray:
    """``values - reference`` of int64 or uint64 arrays of one dtype, rounded once.

    The size of a difference always fits uint64, where subtraction is exact; nothing overflows.
    """
    a, b = values.view(np.uint64), reference.view(np.uint64)
    below = values < reference
    size = np.where(below, b - a, a - b).astype(np.float64)
    return np.where(below, -size, size)


def stored_values(column: Numbers, origin: NDArray[Any] | None, groups: IntArray) -> FloatArray:
    """(n,) values less the origin of their group, without rounding either to float64 first.

    The frame may hold the column as another kind of number than the fit's did.
    """
    if origin is None:
        return column.as_float()
    reference = np.append(origin, np.zeros(1, dtype=origin.dtype))[groups]
    if column.is_integer:
        out = _integer_difference(column.values, reference)
    else:  # the reference in two parts, both exact as floats; near it the first difference is exact
        high, low = exact_parts(reference)
        out = (column.values - high) - low
    out[column.is_missing()] = np.nan
    return out


def _integer_difference(values: NDArray[Any], reference: NDArray[Any]) -> FloatArray:
    if values.dtype == reference.dtype:
        return exact_difference(values, reference)
    out = values.astype(np.float64) - reference.astype(np.float64)  # nothing cancels if signs differ
    alike = (values >= 0) & (reference >= 0)
    out[alike] = exact_difference(values[alike].astype(np.uint64), reference[alike].astype(np.uint64))
    return out


def _references(layout: GroupLayout, column: Numbers) -> NDArray[Any]:
    """(g,) first value in each group, 0 where there is none."""
    if column.missing is not None:
        layout = layout.select(~column.missing)
    reference = np.zeros(layout.n_groups, dtype=column.values.dtype)
    occupied = layout.sizes > 0
    reference[occupied] = column.values[layout.order[layout.offsets[:-1][occupied]]]
    return reference


def _differences(layout: GroupLayout, column: Numbers, reference: NDArray[Any]) -> FloatArray:
    """(n_rows,) values less the reference of their group; NaN where a value is missing."""
    own = np.append(reference, reference.dtype.type(0))[layout.codes]  # the last one is for code -1
    out = exact_difference(column.values, own)
    if column.missing is not None:
        out[column.missing] = np.nan
    return out


def _origin(origins: dict[int, NDArray[Any]], g: int, n_columns: int) -> FloatArray | None:
    """(g, k + t) what was subtracted, as float64; None if nothing was."""
    if not origins:
        return None
    origin = np.zeros((g, n_columns))
    for i, reference in origins.items():
        origin[:, i] = reference
    return read_only(origin)


def _offsets(sizes: IntArray) -> IntArray:
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return read_only(offsets)


def read_only(values: NDArray[Any]) -> NDArray[Any]:
    values.flags.writeable = False
    return values
