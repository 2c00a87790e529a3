# SPDX-License-Identifier: MIT
"""Frame to contiguous groups of rows, and from there to plain frozen arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import Numbers
from gbreg.keys import Groups, find_groups
from gbreg.problem import BoolArray, FloatArray, IntArray, Problem
from gbreg.spec import Grouping


@dataclass(frozen=True, slots=True, eq=False)
class GroupLayout:
    """Rows sorted into contiguous groups.

    Group g is rows ``order[offsets[g]:offsets[g + 1]]`` of the frame, in their order
    there. Rows in no group are absent from ``order``; a group may have no rows.
    The arrays are read-only.
    """

    order: IntArray  # (n_used,), stable
    offsets: IntArray  # (g + 1,), offsets[0] == 0, offsets[-1] == n_used
    keys: pd.Index[Any]  # (g,), equal to groupby(...).size().index
    index: pd.Index[Any]  # (n_rows,), of the frame it was made for
    grouping: Grouping  # how it was made

    @property
    def n_rows(self) -> int:
        """Rows of the frame."""
        return len(self.index)

    @property
    def n_groups(self) -> int:
        """Groups, those without rows included."""
        return len(self.keys)

    @property
    def sizes(self) -> IntArray:
        """(g,) rows of each group."""
        return np.diff(self.offsets)

    def codes(self) -> IntArray:
        """(n_rows,) group of each row of the frame, -1 for none."""
        codes = np.full(self.n_rows, -1, dtype=np.int64)
        codes[self.order] = np.repeat(np.arange(self.n_groups), self.sizes)
        return codes

    def select(self, mask: BoolArray) -> GroupLayout:
        """Only the rows where ``mask`` (n_rows,) holds; every group stays. Itself if all hold."""
        keep = mask[self.order]
        if keep.all():
            return self
        ends = np.concatenate(([0], np.cumsum(keep)))
        return GroupLayout(
            order=_read_only(self.order[keep]),
            offsets=_read_only(ends[self.offsets]),
            keys=self.keys,
            index=self.index,
            grouping=self.grouping,
        )

    def count(self, mask: BoolArray) -> IntArray:
        """(g,) rows of each group where ``mask`` (n_rows,) holds."""
        if not mask.any():
            return np.zeros(self.n_groups, dtype=np.int64)
        hits = np.flatnonzero(mask[self.order])
        return np.diff(np.searchsorted(hits, self.offsets))


def make_layout(frame: pd.DataFrame, grouping: Grouping) -> GroupLayout:
    """Sort the rows of a frame into groups.

    Parameters
    ----------
    frame : DataFrame
    grouping : Grouping
        As `DataFrame.groupby` takes it.

    Returns
    -------
    GroupLayout
        ``keys`` equals ``frame.groupby(...).size().index``.

    Raises
    ------
    ColumnError, SpecError
        The keys are missing, ambiguous or do not fit the frame.

    Warns
    -----
    GbregWarning
        Keys are floats so large that integers may have merged.
    """
    return sort_rows(frame.index, find_groups(frame, grouping), grouping)


def sort_rows(index: pd.Index[Any], groups: Groups, grouping: Grouping) -> GroupLayout:
    """Bring the rows of each group together."""
    rows = None if groups.codes.min(initial=0) >= 0 else np.flatnonzero(groups.codes >= 0)
    codes = groups.codes if rows is None else groups.codes[rows]
    order = _stable_order(codes, groups.n_codes)
    sizes = np.bincount(codes, minlength=groups.n_codes)
    if groups.occupied is not None:
        sizes = sizes[groups.occupied]
    return GroupLayout(
        order=_read_only(order if rows is None else rows[order]),
        offsets=_read_only(np.concatenate(([0], np.cumsum(sizes)))),
        keys=groups.keys,
        index=index,
        grouping=grouping,
    )


def gather(
    layout: GroupLayout, X: Sequence[Numbers], Y: Sequence[Numbers], w: FloatArray | None
) -> tuple[Problem, dict[int, NDArray[Any]]]:
    """Columns in the order of the groups, as a `Problem`.

    Parameters
    ----------
    layout : GroupLayout
        Only rows that take part. A value missing in one of them becomes NaN.
    X, Y : sequence of Numbers, (n_rows,) each
        k predictors and t targets.
    w : (n_rows,) float64 or None
        None: ones.

    Returns
    -------
    Problem
    origins : dict of int to (g,) int64 or uint64
        For each integer column beyond 2**53, by its position in X + Y, what was
        subtracted from it: the first value in the group, 0 for a group without any.
    """
    n = len(layout.order)
    rows = None if _is_identity(layout) else layout.order
    x, y = np.empty((len(X), n)), np.empty((len(Y), n))
    origins: dict[int, NDArray[Any]] = {}
    for i, (column, out) in enumerate(zip([*X, *Y], [*x, *y], strict=True)):
        if column.is_integer:
            origins[i] = _references(layout, column)
            _subtract_groupwise(layout, column, origins[i], out)
        else:
            _take(column.values, rows, out)
    weights = np.ones(n) if w is None else np.empty(n)
    if w is not None:
        _take(w, rows, weights)
    problem = Problem(
        X=_read_only(x),
        Y=_read_only(y),
        w=_read_only(weights),
        offsets=layout.offsets,
        origin=_origin(origins, layout.n_groups, len(X) + len(Y)),
    )
    return problem, origins


def exact_difference(values: NDArray[Any], reference: NDArray[Any]) -> FloatArray:
    """``values - reference`` of int64 or uint64 arrays of one dtype, rounded once.

    The size of a difference always fits uint64, where subtraction is exact; nothing overflows.
    """
    a, b = values.view(np.uint64), reference.view(np.uint64)
    below = values < reference
    size = np.where(below, b - a, a - b).astype(np.float64)
    return np.where(below, -size, size)


def _stable_order(codes: IntArray, n_codes: int) -> IntArray:
    """Positions that sort ``codes`` (none negative), equal ones in their order.

    numpy sorts uint16 by counting, so digits of 16 bits from the lowest up take linear time.
    """
    n = len(codes)
    if n < 2 or (codes[1:] >= codes[:-1]).all():
        return np.arange(n)
    order = np.argsort(codes.astype(np.uint16), kind="stable")  # astype keeps the low digit
    shift = 16
    while (n_codes - 1) >> shift:
        digit = (codes >> shift).astype(np.uint16)
        order = order[np.argsort(digit[order], kind="stable")]
        shift += 16
    return order


def _is_identity(layout: GroupLayout) -> bool:
    order, n = layout.order, layout.n_rows
    if len(order) != n:
        return False
    return n == 0 or bool(order[0] == 0 and order[-1] == n - 1 and (order[1:] > order[:-1]).all())


def _take(values: FloatArray, rows: IntArray | None, out: FloatArray) -> None:
    if rows is None:
        out[...] = values
    elif len(rows):
        values.take(rows, out=out, mode="clip")  # the default mode would go through a buffer


def _references(layout: GroupLayout, column: Numbers) -> NDArray[Any]:
    """(g,) first value in each group, 0 where there is none."""
    if column.missing is not None:
        layout = layout.select(~column.missing)
    reference = np.zeros(layout.n_groups, dtype=column.values.dtype)
    occupied = layout.sizes > 0
    reference[occupied] = column.values[layout.order[layout.offsets[:-1][occupied]]]
    return reference


def _subtract_groupwise(
    layout: GroupLayout, column: Numbers, reference: NDArray[Any], out: FloatArray
) -> None:
    out[...] = exact_difference(column.values[layout.order], np.repeat(reference, layout.sizes))
    if column.missing is not None:
        out[column.missing[layout.order]] = np.nan


def _origin(origins: dict[int, NDArray[Any]], g: int, n_columns: int) -> FloatArray | None:
    """(g, k + t) what was subtracted, as float64; None if nothing was."""
    if not origins:
        return None
    origin = np.zeros((g, n_columns))
    for i, reference in origins.items():
        origin[:, i] = reference
    return _read_only(origin)


def _read_only(values: NDArray[Any]) -> NDArray[Any]:
    values.flags.writeable = False
    return values
