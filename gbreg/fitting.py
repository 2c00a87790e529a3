# SPDX-License-Identifier: MIT
"""From columns and groups to a fit: every row is fitted, or counted with the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from gbreg import minimizers
from gbreg.accounting import RowCounts, added, anywhere
from gbreg.backends import Backend
from gbreg.columns import Numbers
from gbreg.estimates import Estimates
from gbreg.fitted import Origins
from gbreg.interrupt import Ticker
from gbreg.layout import GroupLayout, gather
from gbreg.losses import minimize_loss
from gbreg.problem import ROBUST, Flag, IntArray, Problem
from gbreg.result import GroupFit
from gbreg.robust import clip_outliers
from gbreg.rowops import RowOps
from gbreg.rows import (
    Data,
    Part,
    Pattern,
    check_counts,
    counted,
    select_rows,
    sorted_clusters,
    split_patterns,
    whole_rows,
)
from gbreg.sandwich import add_sandwich
from gbreg.shrinkage import shrink
from gbreg.spec import FitSpec
from gbreg.statistics import of_repeated_rows


def fit_rows(
    data: Data, layout: GroupLayout, spec: FitSpec, engine: Backend, ops: RowOps, tick: Ticker
) -> GroupFit:
    """Select rows, gather them, fit each pattern of missing targets, account for every row."""
    tick(0)
    part, blocks, origins = _gather_patterns(data, layout, spec, engine, ops, tick)
    repeats = [counted(block.problem, layout.keys) for block in blocks] if spec.frequency else []
    blocks, parts = _fit_patterns(data, part.layout, blocks, spec, engine, tick)
    targets = [block.targets for block in blocks]
    missing = _side_by_side([added(part.missing, block.missing) for block in blocks])
    infinite = _side_by_side([added(part.infinite, block.infinite) for block in blocks])
    clipped = _side_by_side([block.clipped for block in blocks])
    del blocks  # the rows: nothing below needs them, and it has arrays of its own
    estimates = Estimates.join_targets(parts, targets)
    counts = RowCounts(
        n_rows=layout.n_rows,
        n_without_key=layout.n_rows - layout.n_used,
        rows=layout.sizes,
        not_selected=part.not_selected,
        zero_weight=part.zero_weight,
        missing=missing,
        infinite=infinite,
        clipped=clipped,
        used=estimates.nobs,
    )
    counts.check()
    if spec.frequency:
        estimates = of_repeated_rows(estimates, np.stack(repeats, axis=1), spec.n_free)
    estimates = _flagged(estimates, counts)
    counts = counts.by_target(estimates.pattern)
    return GroupFit(estimates, layout.keys, spec, counts, origins, engine.name)


def _gather_patterns(
    data: Data, layout: GroupLayout, spec: FitSpec, engine: Backend, ops: RowOps, tick: Ticker
) -> tuple[Part, list[Pattern], Origins]:
    """Rows that take part, by patterns of missing targets, and what integers are differences from."""
    part = select_rows(data, layout)
    if spec.frequency:
        check_counts(data, part.layout, spec)
    X, Y, k = data.X, data.Y, len(data.X)
    if not spec.options.intercept:  # through zero: differences from an origin would be another model
        X, Y = ([Numbers(column.as_float()) for column in columns] for columns in (X, Y))
    once = not spec.needs_rows and vars(type(engine)).get("reads_once", False)
    whole = not once or spec.frequency  # whether anybody but the engine's fit reads the rows
    # Rows are presumed to be whole. Only if a column says otherwise (predictors, targets, weight: that is
    # their order) are they looked at one by one, and those that are left gathered again.
    problem, origins, packed = gather(part.layout, X, Y, data.w, ops, whole)
    tick(0)
    finite = bool(packed.finite[k:-1].all())
    if not (packed.finite[:k].all() and packed.finite[-1] and packed.least[-1] > 0) or (
        spec.missing == "raise" and not finite
    ):
        del problem, packed
        part = whole_rows(data, part, spec)
        tick(0)
        problem, origins, packed = gather(part.layout, X, Y, data.w, ops, whole)
        finite = bool(packed.finite[k:-1].all())
    tick(0)
    if once and finite:
        problem = replace(problem, spent=packed.spent, unsorted=packed.unsorted)
    elif packed.unsorted is not None:
        packed.unsorted.finish()
    return part, split_patterns(problem, finite), origins


def _fit_patterns(
    data: Data,
    layout: GroupLayout,
    blocks: list[Pattern],
    spec: FitSpec,
    engine: Backend,
    tick: Ticker,
) -> tuple[list[Pattern], list[Estimates]]:
    """Least squares of each pattern, and what is asked for beyond it; patterns as `clip` leaves them."""
    parts = _least_squares(blocks, layout.n_rows, spec, engine, tick)
    drop = spec.options.on_collinear == "drop"

    def again(problem: Problem) -> Estimates:
        return engine.fit(problem, spec.options, lambda rows: tick(0))

    if spec.shrunk:
        parts = [shrink(b.problem, e, spec, again, tick) for b, e in zip(blocks, parts, strict=True)]
    if spec.clip is not None:
        clip, most = spec.clip, spec.clip_iterations
        blocks, parts = clip_outliers(blocks, parts, again, clip=clip, iterations=most, drop=drop)
    threads = engine.threads(layout.n_used) if hasattr(engine, "threads") else 1
    if spec.robust:
        minimize = getattr(engine, "minimize", minimizers.minimize)
        mad = spec.options.mad
        parts = [
            minimize_loss(block.problem, own, spec.loss, minimize, tick, mad=mad, drop=drop, threads=threads)
            for block, own in zip(blocks, parts, strict=True)
        ]
    if spec.cov_type in ROBUST:
        clusters = sorted_clusters(data, layout, blocks)
        parts = [
            add_sandwich(*own, spec.cov_type, clusters, tick, threads)
            for own in zip(blocks, parts, strict=True)
        ]
    return blocks, parts


def _flagged(estimates: Estimates, counts: RowCounts) -> Estimates:
    """With flags for groups that lost rows, and for those with rows of no weight; counts are by pattern."""
    flags = estimates.flags
    if anywhere(counts.missing) or anywhere(counts.infinite):
        lost = np.where(counts.missing + counts.infinite > 0, Flag.ROWS_DROPPED, 0).astype(np.uint8)
        flags = flags | lost[:, estimates.pattern]
    if anywhere(counts.zero_weight):
        flags = flags | np.where(counts.zero_weight > 0, Flag.ZERO_WEIGHTS, 0).astype(np.uint8)[:, None]
    return estimates if flags is estimates.flags else replace(estimates, flags=flags)


def _side_by_side(counts: list[IntArray]) -> IntArray:
    """(g,) counts of each pattern as (g, m)."""
    return counts[0][:, None] if len(counts) == 1 else np.stack(counts, axis=1)


def _least_squares(
    blocks: Sequence[Pattern], n_rows: int, spec: FitSpec, engine: Backend, tick: Ticker
) -> list[Estimates]:
    """Estimates of each pattern; the ticks add up to the rows of the frame."""
    n_targets, done = len(spec.targets), 0

    def advance(fitted: int, rows: int) -> None:  # by the share of the targets that these rows are done for
        nonlocal done
        step = rows * fitted // n_targets
        done += step
        tick(step)

    parts = []
    for block in blocks:
        parts.append(engine.fit(block.problem, spec.options, partial(advance, len(block.targets))))
    tick(max(n_rows - done, 0))
    return parts
