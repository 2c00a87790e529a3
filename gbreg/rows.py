# SPDX-License-Identifier: MIT
"""Which rows of the frame take part in a fit, and in which of its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gbreg.accounting import nowhere
from gbreg.alignment import places
from gbreg.columns import ARRAYS, Column, Numbers, evaluate, read_columns, read_mask, read_weights
from gbreg.errors import MissingDataError, SpecError, WeightsError
from gbreg.layout import GroupLayout
from gbreg.problem import EXACT, BoolArray, FloatArray, IntArray, Problem
from gbreg.spec import FitSpec, Unkept


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """The columns a fit reads, as numbers, in the order of the frame."""

    X: list[Numbers]
    Y: list[Numbers]
    w: FloatArray | None
    where: BoolArray | None
    clusters: IntArray | None  # (n,), -1 where missing
    index: pd.Index[Any]

    @classmethod
    def read(cls, frame: pd.DataFrame, spec: FitSpec, weights: Any, where: Any, groups: Any = None) -> Data:
        """Every check of dtypes, before any work on the rows."""
        return cls(
            X=read_columns(frame, spec.linear, "linear"),
            Y=read_columns(frame, spec.targets, "targets"),
            w=read_weights(frame, weights),
            where=read_mask(frame, where),
            clusters=read_clusters(frame, groups),
            index=frame.index,
        )


def read_clusters(frame: pd.DataFrame, groups: object) -> IntArray | None:
    """``groups=`` as (n,) numbers of clusters in order of appearance, -1 where missing; or None."""
    if groups is None:
        return None
    values = evaluate(frame, groups, "groups")
    rows = None
    if isinstance(values, pd.Series):
        rows = places(values.index, frame.index, "groups=")
    elif isinstance(values, list):
        values = pd.Series(values, dtype=object)  # as they are: 1 is not "1", nor a float beside None
    elif isinstance(values, np.ma.MaskedArray) and values.ndim == 1:
        values = pd.Series(values)
    elif not isinstance(values, ARRAYS):
        values = np.asarray(values)
    if rows is None and values.shape != (len(frame),):
        raise SpecError(f"groups= must have one value per row, {len(frame)}, got shape {values.shape}")
    try:
        numbers: IntArray = pd.factorize(values)[0].astype(np.int64, copy=False)
    except TypeError as error:
        raise SpecError(f"groups= cannot tell clusters apart: {error}") from error
    return numbers if rows is None else np.append(numbers, -1)[rows]


class Part(NamedTuple):
    """The rows of a layout that take part, and per group how many do not, by reason."""

    layout: GroupLayout
    not_selected: IntArray  # (g,)
    zero_weight: IntArray  # (g,)
    missing: IntArray  # (g,) in a predictor
    infinite: IntArray  # (g,) in a predictor, and none missing


def select_rows(data: Data, layout: GroupLayout) -> Part:
    """Leave out the rows that are not selected; the others are presumed to be whole."""
    none = nowhere(layout.n_groups)
    if data.where is None:
        return Part(layout, none, none, none, none)
    selected = layout.select(data.where)
    return Part(selected, layout.sizes - selected.sizes, none, none, none)


def whole_rows(data: Data, part: Part, spec: FitSpec) -> Part:
    """Leave out rows that have no weight or lack a predictor.

    Raises
    ------
    WeightsError
        A row that is selected has a negative, missing or infinite weight.
    MissingDataError
        ``missing="raise"``, and a value is missing or infinite in a row with weight.
    """
    used = selected = part.layout
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
    return part._replace(
        layout=finite,
        zero_weight=selected.sizes - used.sizes,
        missing=used.sizes - whole.sizes,
        infinite=whole.sizes - finite.sizes,
    )


def _raise_if_no_weights(w: FloatArray, selected: GroupLayout, spec: FitSpec, index: pd.Index[Any]) -> None:
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)) & (selected.codes >= 0))
    if len(bad):
        first = bad[0]
        aligned = isinstance(spec.weights, Unkept) and spec.weights.kind.startswith("Series")
        hint = "; a Series is aligned by its index" if aligned and np.isnan(w[first]) else ""
        raise WeightsError(
            f"weights {spec.weights!r} must be finite and not negative: {len(bad)} rows with a key "
            f"are not, first {w[first]} at {_spelt(index, first)}; set them to 0 to leave rows out{hint}"
        )


def positive_weights(frame: pd.DataFrame, weights: Any) -> FloatArray:
    """(n,) weights of new rows, checked."""
    w = np.asarray(read_weights(frame, weights), dtype=np.float64)
    bad = np.flatnonzero(~((w > 0) & (w < np.inf)))
    if len(bad):
        raise WeightsError(
            f"weights= of new rows must be finite and positive: {len(bad)} are not, "
            f"first {w[bad[0]]} at {_spelt(frame.index, bad[0])}"
        )
    return w


def check_counts(data: Data, selected: GroupLayout, spec: FitSpec) -> None:
    """Raise `WeightsError` unless weights of selected rows are whole numbers."""
    w = data.w
    if w is None:
        return
    bad = np.flatnonzero((w > 0) & (w != np.rint(w)) & (selected.codes >= 0))  # others are judged later
    if len(bad):
        first = bad[0]
        raise WeightsError(
            f"weights {spec.weights!r} must be whole numbers to be counts: {len(bad)} rows that take part "
            f'are not, first {w[first]} at {_spelt(data.index, first)}; weights_type="analytic" takes any'
        )


def counted(problem: Problem, keys: pd.Index[Any]) -> IntArray:
    """(g,) sum of the weights of each group, which are counts.

    Raises
    ------
    WeightsError
        A sum reaches 2**53, where float64 no longer counts.
    """
    groups = np.repeat(np.arange(problem.n_groups), np.diff(problem.offsets))
    sums = np.bincount(groups, weights=problem.w, minlength=problem.n_groups)
    beyond = np.flatnonzero(sums >= EXACT)
    if len(beyond):
        raise WeightsError(f"the counts of group {keys[beyond[:1]].tolist()[0]!r} add up to 2**53 or more")
    return sums.astype(np.int64)


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


def _spelt(index: pd.Index[Any], row: int) -> str:
    """The label of a row as Python has it, ``3`` and not ``np.int64(3)``."""
    return repr(index[[row]].tolist()[0])


def _any(masks: Sequence[BoolArray | None]) -> BoolArray | None:
    """Rows where any of them holds; None for nowhere."""
    given = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(given) if given else None


def _raise_if_missing(column: Column, lost: Lost, used: GroupLayout, index: pd.Index[Any]) -> None:
    for rows, what in zip(lost, ("missing (NaN)", "infinite (inf)"), strict=True):
        hits: Any = [] if rows is None else np.flatnonzero(rows & (used.codes >= 0))
        if len(hits):
            raise MissingDataError(
                f"column {column.name!r} is {what} in {len(hits)} rows, first at {_spelt(index, hits[0])}; "
                'missing="drop" leaves them out and counts them'
            )


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """Targets with the same rows missing, and the problem without those rows."""

    problem: Problem
    targets: list[int]
    missing: IntArray  # (g,) rows where these targets are missing
    infinite: IntArray  # (g,)
    clipped: IntArray  # (g,) rows set aside
    keep: BoolArray | None = None  # (n,) rows of the whole problem that are in this one; None for all


def sorted_clusters(data: Data, layout: GroupLayout, patterns: Sequence[Pattern]) -> IntArray | None:
    """Clusters of the rows of a layout, in the order of the groups.

    Raises
    ------
    MissingDataError
        A row has no cluster and takes part: one of the patterns keeps it.
    """
    if data.clusters is None:
        return None
    clusters: IntArray = data.clusters[layout.order]
    without = clusters < 0
    kept = [pattern.keep for pattern in patterns if pattern.keep is not None]
    if len(kept) == len(patterns):
        without &= np.logical_or.reduce(kept)
    if len(lost := np.flatnonzero(without)):
        row = int(layout.order[lost].min())
        raise MissingDataError(
            f"groups= has no cluster for {len(lost)} rows that take part, first at "
            f"{_spelt(data.index, row)}; leave them out with where="
        )
    return clusters


def split_patterns(problem: Problem, finite: bool) -> list[Pattern]:
    """Split a problem by what is missing in its targets: NaN and inf, unless all are ``finite``."""
    none = nowhere(problem.n_groups)
    if finite:
        return [Pattern(problem, list(range(problem.n_targets)), none, none, none)]
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for q, y in enumerate(problem.Y):
        nan, inf = np.isnan(y), np.isinf(y)
        alike.setdefault((np.packbits(nan).tobytes(), np.packbits(inf).tobytes()), []).append(q)
    made = []
    for qs in alike.values():
        y = problem.Y[qs[0]]
        keep = np.isfinite(y)
        rows = None if keep.all() else keep
        missing, infinite = _per_group(problem, np.isnan(y)), _per_group(problem, np.isinf(y))
        made.append(Pattern(problem.part(rows, targets=qs), qs, missing, infinite, none, rows))
    return made


def _per_group(problem: Problem, rows: BoolArray) -> IntArray:
    """(g,) how many of these rows each group has."""
    return np.diff(np.searchsorted(np.flatnonzero(rows), problem.offsets))
