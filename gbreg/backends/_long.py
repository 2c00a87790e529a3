# SPDX-License-Identifier: MIT
"""One group too long for one kernel call: the same stages, summed in fixed blocks.

Blocks are cut by position and merged in order, so the bits do not depend on the number
of threads, several cores share the group, and Ctrl-C arrives between pieces. The two
functions mirror ``fit_groups`` and ``extend_groups`` of `gbreg.kernels`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from gbreg import kernels
from gbreg.backends._packed import ExtendedScratch, FastScratch, Run, quiet
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
    k, t = run.X.shape[0], run.Y.shape[0]
    s = run.settings
    edges = block_edges(run, g)
    lo, hi = int(edges[0]), int(edges[-1])
    run.todo[g, 0] = 0
    logs = [kernels.log_sum(run.w, a, b) for a, b in pairwise(edges)]
    run.P[g, kernels.LOG_WSUM] = sum(logs)
    if s.force_extended:
        run.todo[g, 0] = kernels.ASKED
        return
    f = FastScratch.make(k, t, hi - lo if s.mad else 0)

    def summed(stage: Callable[..., None], total: FloatArray, *args: object) -> None:
        parts = np.zeros((len(edges) - 1, len(total)))

        def blocks(some_edges: IntArray, some: FloatArray) -> None:
            stage(run.X, run.Y, run.w, some_edges, token, f.ref, *args, some)

        over_blocks(run, edges, blocks, parts)
        total[:] = in_order(parts)

    kernels.set_reference(run.X, run.Y, lo, token, s.intercept, f.ref)
    summed(kernels.block_sums, f.sums)
    kernels.set_mean(f.sums, s.intercept, f.mean)
    summed(_with_row(kernels.block_cross, k), f.cross, f.mean)
    smallest = kernels.factorise(token, hi - lo, f.ref, f.sums, f.mean, f.cross, f.factor, f.diag, s)
    if not smallest >= s.pivot:
        run.todo[g, 0] = kernels.ASKED
        return
    wsum = float(f.sums[-1])
    run.rank[g, 0] = k + s.intercept
    kernels.first_coef(token, f.cross, f.factor, f.diag, f.step, f.coef)
    summed(_with_row(kernels.block_gradient, k), f.grad, f.mean, f.coef)
    kernels.refine(token, wsum, s.intercept, f.factor, f.diag, f.grad, f.step, f.coef, f.low, f.shift)
    kernels.write_pattern(
        run.origin,
        g,
        token,
        s.intercept,
        wsum,
        smallest,
        f.ref,
        f.mean,
        f.cross,
        f.factor,
        f.diag,
        f.step,
        f.inverse,
        run.P,
    )
    rss = np.empty(1)
    for q in range(t):
        summed(kernels.block_squares, rss, f.mean, f.coef, f.shift, q, f.resid, lo)
        code = kernels.judge_target(
            run.Y, q, lo, hi, token, s, wsum, float(rss[0]), f.ref, f.mean, f.cross, f.coef
        )
        if code < 0:
            run.todo[g, 1 + q] = kernels.ASKED
            continue
        if code != kernels.OK:
            rss[0] = 0.0
        kernels.write_target(
            run.origin,
            g,
            q,
            token,
            s.intercept,
            float(rss[0]),
            f.ref,
            f.mean,
            f.cross,
            f.coef,
            f.low,
            f.shift,
            run.T,
        )
        if s.mad:
            run.T[g, q, kernels.MAD] = kernels.median_deviation(f.resid, hi - lo) if rss[0] > 0 else 0.0
        run.status[g, q] = code % 16
        run.flags[g, q] = code // 16


def extend_long_group(run: Run, g: int) -> None:
    """The extended path of the group, or of those of its targets that asked for it."""
    k, t = run.X.shape[0], run.Y.shape[0]
    s = run.settings
    edges = block_edges(run, g)
    lo, hi = int(edges[0]), int(edges[-1])
    e = ExtendedScratch.make(k, t, hi - lo if s.mad else 0)
    S, at = e.S, e.at

    def summed(stage: Callable[..., None], base: int, width: int, *args: object) -> None:
        parts = np.zeros((len(edges) - 1, width, 2))

        def blocks(some_edges: IntArray, some: FloatArray) -> None:
            rows = () if stage is kernels.block_dd_sums else (np.empty_like(e.row),)
            before = args[:1] if stage in (kernels.block_dd_sums, kernels.block_dd_squares) else ()
            stage(*run.columns, some_edges, *before, S, at, *rows, *args[len(before) :], some)

        over_blocks(run, edges, blocks, parts)
        kernels.dd_merge(parts, S, base)

    heavy = _scan_long_group(run, edges, e)
    kernels.set_scale(run.X, run.Y, heavy, s.intercept, e.low, e.high, S, at, e.exponent)
    kernels.set_reach(run.X, run.w, lo, hi, k + t, S, at)
    summed(kernels.block_dd_sums, at.sums, at.reach - at.sums, heavy)
    kernels.dd_set_mean(run.w, run.origin, g, k, k + t, heavy, s.intercept, S, at)
    summed(kernels.block_dd_cross, at.cross, at.factor - at.cross)
    smallest = kernels.dd_rank(run.origin, g, hi - lo, k, k + t, s, S, at, e.kept, e.known)
    for q in range(t):
        kernels.dd_first_coef(k, q, S, at, e.kept)
    for _ in range(2):
        summed(kernels.block_dd_gradient, at.grad, at.step - at.grad)
        kernels.dd_refine(k, t, s.intercept, S, at, e.kept)
    whole = run.todo[g, 0] == kernels.ASKED
    fine = True
    if whole:
        fine = kernels.dd_write_pattern(
            g, k, s.intercept, smallest, S, at, e.exponent, e.kept, e.known, run.P, run.rank, run.dropped
        )
    for q in range(t):
        if whole or run.todo[g, 1 + q] == kernels.ASKED:
            summed(kernels.block_dd_squares, at.rss + q, 1, q, e.resid, lo)
            kernels.dd_write_target(
                run.origin,
                g,
                q,
                hi - lo,
                s,
                smallest,
                fine,
                S,
                at,
                e.exponent,
                e.kept,
                e.known,
                e.resid,
                run.T,
                run.status,
                run.flags,
            )


def _scan_long_group(run: Run, edges: IntArray, e: ExtendedScratch) -> int:
    """Fills e.low and e.high; returns the heaviest row."""
    low = np.empty((len(edges) - 1, len(e.low)))
    high = np.empty_like(low)
    heavy = np.empty(len(low), dtype=np.int64)

    def blocks(some: IntArray, low: FloatArray, high: FloatArray, heavy: IntArray) -> None:
        kernels.block_scan(*run.columns, some, low, high, heavy)

    over_blocks(run, edges, blocks, low, high, heavy)
    e.low[:] = low.min(axis=0)
    e.high[:] = high.max(axis=0)
    return int(heavy[np.argmax(high[:, -1])])


def _with_row(stage: Callable[..., None], k: int) -> Callable[..., None]:
    """The stage with scratch for one row of its own, as its last argument but one."""

    def with_row(*args: object) -> None:
        stage(*args[:-1], np.empty(k), args[-1])

    return with_row


def in_order(parts: FloatArray) -> FloatArray:
    """Sum over the blocks, first to last: (blocks, width) -> (width,)."""
    total: FloatArray = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total
