# SPDX-License-Identifier: MIT
"""Which rows of the frame take part in a fit, and in which of its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gbreg.columns import Column, Numbers, read_column, read_mask, read_weights
from gbreg.errors import MissingDataError, WeightsError
from gbreg.layout import GroupLayout
from gbreg.problem import BoolArray, FloatArray, IntArray, Problem, frozen
from gbreg.spec import FitSpec


@dataclass(frozen=True, slots=True)
class Data:
    """The columns a fit reads, as numbers, in the order of the frame."""

    X: list[Numbers]
    Y: list[Numbers]
    w: FloatArray | None
    where: BoolArray | None
    index: pd.Index[Any]

    @classmethod
    def read(cls, frame: pd.DataFrame, spec: FitSpec, weights: Any, where: Any) -> Data:
        """Every check of dtypes, before any work on the rows."""
        return cls(
            X=[read_column(frame, column, "linear") for column in spec.linear],
            Y=[read_column(frame, column, "targets") for column in spec.targets],
            w=read_weights(frame, weights),
            where=read_mask(frame, where),
            index=frame.index,
        )


class Part(NamedTuple):
    """The rows of a layout that take part, and per group how many do not, by reason."""

    layout: GroupLayout
    not_selected: IntArray  # (g,)
    zero_weight: IntArray  # (g,)
    missing: IntArray  # (g,) in a predictor
    infinite: IntArray  # (g,) in a predictor, and none missing


def rows_that_take_part(data: Data, layout: GroupLayout, spec: FitSpec) -> Part:
    """Leave out rows that are not selected, have no weight or lack a predictor.

    Raises
    ------
    WeightsError
        A row that is selected has a negative, missing or infinite weight.
    MissingDataError
        ``missing="raise"``, and a value is missing or infinite in a row with weight.
    """
    none = np.zeros(layout.n_groups, dtype=np.int64)
    selected = layout if data.where is None else layout.select(data.where)
    used = selected
    if data.w is not None and not (len(data.w) and data.w.min() > 0 and data.w.max() < np.inf):
        _raise_if_no_weights(data.w, selected, spec, data.index)
        used = selected.select(data.w > 0)
    lost = [_lost_rows(column) for column in data.X]
    if spec.missing == "raise":
        every = [*lost, *(_lost_rows(column) for column in data.Y)]
        for column, gone in zip((*spec.linear, *spec.targets), every, strict=True):
            _raise_if_missing(column, gone, used, data.index)
    nan = _any([rows for rows, _ in lost])
    whole = used if nan is None else used.select(~nan)
    inf = _any([rows for _, rows in lost])
    finite = whole if inf is None else whole.select(~inf)
    return Part(
        layout=finite,
        not_selected=none if selected is layout else layout.sizes - selected.sizes,
        zero_weight=none if used is selected else selected.sizes - used.sizes,
        missing=none if whole is used else used.sizes - whole.sizes,
        infinite=none if finite is whole else whole.sizes - finite.sizes,
    )


def _raise_if_no_weights(w: FloatArray, selected: GroupLayout, spec: FitSpec, index: pd.Index[Any]) -> None:
    bad = selected.order[~(np.isfinite(w) & (w >= 0))[selected.order]]
    if len(bad):
        first = bad.min()
        raise WeightsError(
            f"weights {spec.weights!r} must be finite and not negative: {len(bad)} rows that take part "
            f"are not, first {w[first]} at {index[first]!r}; set them to 0 to leave rows out"
        )


Lost = tuple[BoolArray | None, BoolArray | None]


def _lost_rows(column: Numbers) -> Lost:
    """Rows (n,) where the column is missing, and where it is infinite; None for nowhere."""
    if column.is_integer:
        return column.missing, None
    with np.errstate(all="ignore"):
        if np.isfinite(np.add.reduce(column.values)):  # one pass that most columns need no more than
            return None, None
    nan, inf = np.isnan(column.values), np.isinf(column.values)
    return nan if nan.any() else None, inf if inf.any() else None


def _any(masks: Sequence[BoolArray | None]) -> BoolArray | None:
    """Rows where any of them holds; None for nowhere."""
    given = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(given) if given else None


def _raise_if_missing(column: Column, lost: Lost, used: GroupLayout, index: pd.Index[Any]) -> None:
    for rows, what in zip(lost, ("missing (NaN)", "infinite (inf)"), strict=True):
        hits = used.order if rows is None else used.order[rows[used.order]]
        if rows is not None and len(hits):
            raise MissingDataError(
                f"column {column.name!r} is {what} in {len(hits)} rows, first at {index[hits.min()]!r}; "
                'missing="drop" leaves them out and counts them'
            )


@dataclass(frozen=True, slots=True)
class Pattern:
    """Targets with the same rows missing, and the problem without those rows."""

    problem: Problem
    targets: list[int]
    missing: IntArray  # (g,) rows where these targets are missing
    infinite: IntArray  # (g,)


def split_patterns(problem: Problem) -> list[Pattern]:
    """Split a problem whose targets may hold NaN and inf by what is missing in them."""
    with np.errstate(all="ignore"):
        whole = np.isfinite(np.add.reduce(problem.Y, axis=1))
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for q in range(problem.n_targets):
        lost = (b"", b"")
        if not whole[q] and not np.isfinite(problem.Y[q]).all():
            nan, inf = np.isnan(problem.Y[q]), np.isinf(problem.Y[q])
            lost = (np.packbits(nan).tobytes(), np.packbits(inf).tobytes())
        alike.setdefault(lost, []).append(q)
    none = np.zeros(problem.n_groups, dtype=np.int64)
    if list(alike) == [(b"", b"")]:
        return [Pattern(problem, list(range(problem.n_targets)), none, none)]
    made = []
    for qs in alike.values():
        y = problem.Y[qs[0]]
        keep = np.isfinite(y)
        ends = np.concatenate(([0], np.cumsum(keep)))
        k = problem.n_predictors
        picked = [*range(k), *(k + q for q in qs)]
        part = Problem(
            X=frozen(problem.X[:, keep]),
            Y=frozen(problem.Y[qs][:, keep]),
            w=frozen(problem.w[keep]),
            offsets=frozen(ends[problem.offsets]),
            origin=None if problem.origin is None else frozen(problem.origin[:, picked]),
        )
        made.append(Pattern(part, qs, _per_group(problem, np.isnan(y)), _per_group(problem, np.isinf(y))))
    return made


def _per_group(problem: Problem, rows: BoolArray) -> IntArray:
    """(g,) how many of these rows each group has."""
    return np.diff(np.searchsorted(np.flatnonzero(rows), problem.offsets))


def by_target(counts: Sequence[IntArray], targets: Sequence[Sequence[int]]) -> IntArray:
    """(g, t) from one (g,) per pattern."""
    out = np.empty((len(counts[0]), sum(map(len, targets))), dtype=np.int64)
    for count, qs in zip(counts, targets, strict=True):
        out[:, qs] = count[:, None]
    return out
