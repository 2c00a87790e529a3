# SPDX-License-Identifier: MIT
"""One group too long for one kernel call: the same stages, summed in fixed blocks.

Blocks are cut by position and merged in order, so the bits do not depend on the number
of threads, several cores share the group, and Ctrl-C arrives between pieces. The two
functions mirror `fast_kernels.fit_groups` and `extended_kernels.extend_groups`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gbreg import block_kernels, extended_kernels, fast_kernels, kernels, median_kernels, sum_kernels
from gbreg.backends._packed import ExtendedScratch, FastScratch, Run, lanes, quiet
from gbreg.backends._ranges import run_tasks
from gbreg.problem import FloatArray, IntArray

BLOCK_ROWS = 4096
BLOCKS_PER_TASK = 4


def block_edges(run: Run, g: int) -> IntArray:
    lo, hi = int(run.offsets[g]), int(run.offsets[g + 1])
    return np.append(np.arange(lo, hi, BLOCK_ROWS), hi)


def over_blocks(run: Run, edges: IntArray, stage: Callable[..., None], *parts: FloatArray | IntArray) -> None:
    """``stage(edges, *parts)`` over runs of blocks; each of parts has a row per block."""

    def task(b: int) -> None:
        stop = min(b + BLOCKS_PER_TASK, len(edges) - 1)
        with quiet():
            stage(edges[b : stop + 1], *(part[b:stop] for part in parts))

    starts = range(0, len(edges) - 1, BLOCKS_PER_TASK)
    run_tasks(task, starts, [0] * len(starts), run.threads, run.progress)


def fit_long_group(run: Run, g: int, token: object) -> None:
    """The fast path; notes in ``todo`` what needs the extended one."""
    k, t = run.n_predictors, run.n_targets
    s = run.settings
    edges = block_edges(run, g)
    lo, hi = int(edges[0]), int(edges[-1])
    run.todo[g, 0] = 0
    run.P[:, g], run.T[:, g] = np.nan, np.nan
    logs = np.empty((len(edges) - 1, 1))
    over_blocks(run, edges, lambda some, part: block_kernels.block_logs(run.Z, some, part), logs)
    run.P[kernels.LOG_WSUM, g] = in_order(logs)[0]
    if s.force_extended:
        run.todo[g, 0] = kernels.ASKED
        return
    f = FastScratch.make(k, k + s.intercept, t, hi - lo if s.mad else 0)
    f.lo[0], f.n[0], f.rows[:] = lo, hi - lo, hi - lo  # in the first lane

    def summed(stage: Callable[..., None], total: FloatArray, *args: FloatArray) -> None:
        parts = np.empty((len(edges) - 1, len(total)))
        fixed = [in_all_lanes(values) for values in (f.ref, *args)]

        def blocks(some_edges: IntArray, some: FloatArray) -> None:
            start, size = np.empty_like(f.start), np.empty_like(f.size)
            scratch = (start, size, *(lanes(len(a)) for a in (f.row, f.S)))
            stage(run.Z, some_edges, token, *fixed, *scratch, some)

        over_blocks(run, edges, blocks, parts)
        total[:, 0] = in_order(parts)

    f.ref[:] = 0.0
    if s.intercept:
        sum_kernels.set_reference(run.Z, f.lo, f.ref)
    about = (f.ref, f.mean, f.first, f.moments)
    for attempt in range(2):  # again about the mean, if the reference was far from it
        summed(block_kernels.block_moments, f.moments)
        fast_kernels.centre(token, s.intercept, f.moments, f.mean, f.before)
        sum_kernels.set_first(run.Z, f.lo, s.intercept, f.ref, f.mean, f.first)
        fast_kernels.factorise(token, f.rows, *about, f.factor, f.diag, f.smallest, s)
        fast_kernels.set_away(token, f.smallest, f.mean, f.moments, f.before, f.away, f.near)
        if attempt > 0 or f.near[0, 0] == 1:
            break
        fast_kernels.move_reference(f.away, f.ref)
    fast_kernels.settle_reference(f.ref, f.mean)
    if not f.smallest[0, 0] >= s.pivot:
        run.todo[g, 0] = kernels.ASKED
        return
    run.rank[g, 0] = k + s.intercept
    fast_kernels.first_coef(token, f.mean, f.moments, f.factor, f.step, f.coef, f.there)
    summed(block_kernels.block_residuals, f.grad, f.coef, f.there)
    solved = (f.moments, f.factor, f.grad, f.step, f.coef, f.low, f.shift, f.rss)
    fast_kernels.refine(token, s.intercept, *solved)
    shared = (f.smallest, f.ref, f.mean, f.moments, f.factor, f.step, f.inverse)
    fast_kernels.set_base(run.origin, g, g, f.base)
    fast_kernels.write_pattern(f.base, token, s.intercept, *shared, f.Pg)
    f.Pg[kernels.LOG_WSUM] = run.P[kernels.LOG_WSUM, g]
    run.P[:, g] = f.Pg[:, 0]
    fast_kernels.set_typical(token, f.ref, f.mean, f.moments, f.typical)
    for q in range(t):
        fast_kernels.judge_target(token, q, s, f.rss, *about, f.typical, f.coef, f.good, f.noise)
        code = fast_kernels.decide(run.Z, lo, hi, token, q, 0, s.intercept, f.moments, f.good, f.noise)
        if code < 0:
            run.todo[g, 1 + q] = kernels.ASKED
            continue
        if code != kernels.OK:
            f.rss[q] = 0.0
        fitted = (f.rss, f.ref, f.mean, f.moments, f.coef, f.low, f.shift)
        fast_kernels.write_target(f.base, q, token, s.intercept, *fitted, f.Tg)
        own = slice(q * len(f.Tg) // t, (q + 1) * len(f.Tg) // t)
        run.T[own, g] = f.Tg[own, 0]
        mad = 0.0 if s.mad else np.nan
        if s.mad and f.rss[q, 0] > 0:
            mad = _long_deviation(run, edges, token, q, f)
        run.T[own.start + kernels.MAD, g] = mad
        run.status[g, q] = code % 16
        run.flags[g, q] = code // 16


def in_all_lanes(values: FloatArray) -> FloatArray:
    """What the first lane has, in all of them."""
    own = lanes(len(values))
    own[:] = values[:, :1]
    return own


def _long_deviation(run: Run, edges: IntArray, token: object, q: int, f: FastScratch) -> float:
    lo = int(edges[0])

    def blocks(some: IntArray) -> None:
        block_kernels.block_deviations(run.Z, some, token, q, f.ref, f.mean, f.coef, f.shift, f.resid, lo)

    over_blocks(run, edges, blocks)
    return float(median_kernels.median_deviation(f.resid, int(edges[-1]) - lo))


def extend_long_group(run: Run, g: int) -> None:
    """The extended path of the group, or of those of its targets that asked for it."""
    k, t = run.n_predictors, run.n_targets
    s = run.settings
    edges = block_edges(run, g)
    lo, hi = int(edges[0]), int(edges[-1])
    e = ExtendedScratch.make(k, t, hi - lo if s.mad else 0)
    S, at = e.S, e.at

    def summed(base: int, width: int, stage: Callable[..., None]) -> None:
        """``stage(edges, row, parts)`` over blocks, merged into S[base:]."""
        parts = np.zeros((len(edges) - 1, width, 2))
        over_blocks(run, edges, lambda some, part: stage(some, np.empty_like(e.row), part), parts)
        block_kernels.dd_merge(parts, S, base)

    def sums(some: IntArray, row: FloatArray, part: FloatArray) -> None:
        block_kernels.block_dd_sums(run.Z, some, heavy, S, at, part)

    def cross(some: IntArray, row: FloatArray, part: FloatArray) -> None:
        block_kernels.block_dd_cross(run.Z, some, k, S, at, row, part)

    def gradient(some: IntArray, row: FloatArray, part: FloatArray) -> None:
        block_kernels.block_dd_gradient(run.Z, some, k, S, at, row, part)

    def squares(some: IntArray, row: FloatArray, part: FloatArray) -> None:
        block_kernels.block_dd_squares(run.Z, some, k, q, S, at, row, e.resid, lo, part)

    heavy = _scan_long_group(run, edges, e)
    extended_kernels.set_scale(run.Z, heavy, s.intercept, e.low, e.high, S, at, e.exponent)
    extended_kernels.set_reach(run.Z, lo, hi, k, S, at)
    summed(at.sums, at.reach - at.sums, sums)
    extended_kernels.dd_set_mean(run.Z, run.origin, g, k, heavy, s.intercept, S, at)
    summed(at.cross, at.factor - at.cross, cross)
    smallest = extended_kernels.dd_rank(run.origin, g, hi - lo, k, k + t, s, S, at, e.kept, e.known)
    for q in range(t):
        extended_kernels.dd_first_coef(k, q, S, at, e.kept)
    for _ in range(2):
        summed(at.grad, at.step - at.grad, gradient)
        extended_kernels.dd_refine(k, t, s.intercept, S, at, e.kept)
    whole = run.todo[g, 0] == kernels.ASKED
    fine = extended_kernels.all_vary(k, s.intercept, s.faint, S, at)
    if whole:
        near = extended_kernels.dd_write_pattern(
            g, k, s.intercept, smallest, S, at, e.exponent, e.kept, e.known, run.P, run.rank, run.dropped
        )
        fine = fine and near
        if not fine:
            extended_kernels.forget_pattern(g, run.P, run.rank, run.dropped)
    fitted = (S, at, e.exponent, e.kept, e.known, e.resid, run.T, run.status, run.flags)
    for q in range(t):
        if whole or run.todo[g, 1 + q] == kernels.ASKED:
            summed(at.rss + q, 1, squares)
            extended_kernels.dd_write_target(run.origin, g, q, hi - lo, s, smallest, fine, *fitted)


def _scan_long_group(run: Run, edges: IntArray, e: ExtendedScratch) -> int:
    """Fills e.low and e.high; returns the heaviest row."""
    low = np.empty((len(edges) - 1, len(e.low)))
    high = np.empty_like(low)
    heavy = np.empty(len(low), dtype=np.int64)

    def blocks(some: IntArray, low: FloatArray, high: FloatArray, heavy: IntArray) -> None:
        block_kernels.block_scan(run.Z, some, low, high, heavy)

    over_blocks(run, edges, blocks, low, high, heavy)
    e.low[:] = low.min(axis=0)
    e.high[:] = high.max(axis=0)
    return int(heavy[np.argmax(high[:, -1])])


def in_order(parts: FloatArray) -> FloatArray:
    """Sum over the blocks, first to last: (blocks, width) -> (width,)."""
    total: FloatArray = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total
