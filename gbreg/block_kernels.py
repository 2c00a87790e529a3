# SPDX-License-Identifier: MIT
"""Groups too long for one kernel call, in blocks: both paths of a fit, for `gbreg.backends._long`.

Sums over fixed blocks by position, merged in order by the driver: the same bits for any number of threads,
and a place to stop between blocks. Each kernel does the blocks between ``edges``, one row of ``parts``
(and so on) a block.
"""

from __future__ import annotations

from typing import Any

from gbreg._jit import entry
from gbreg._lanes import lane_sum, load
from gbreg.extended_kernels import (
    At,
    clear,
    dd_add_cross,
    dd_add_gradient,
    dd_add_squares,
    dd_add_sums,
    scan,
)
from gbreg.kernels import accumulate, clear_lanes, log_sum
from gbreg.problem import FloatArray, IntArray
from gbreg.sum_kernels import add_moments, add_residuals, deal_rows, final_residuals

# --------------------------------------------------------------------------- the fast path


@entry
def block_logs(Z: FloatArray, edges: IntArray, parts: FloatArray) -> None:
    for b in range(parts.shape[0]):
        parts[b, 0] = log_sum(Z, edges[b], edges[b + 1])


@entry
def block_moments(
    Z: FloatArray,
    edges: IntArray,
    token: Any,
    ref: FloatArray,
    start: IntArray,
    size: IntArray,
    D: FloatArray,
    S: FloatArray,
    parts: FloatArray,
) -> None:
    """All lanes of ref are the group's."""
    for b in range(parts.shape[0]):
        deal_rows(edges[b], edges[b + 1] - edges[b], start, size)
        clear_lanes(S, parts.shape[1])
        add_moments(Z, start, size, size[0], token, ref, D, S)
        for a in range(parts.shape[1]):
            parts[b, a] = lane_sum(load(S, a))


@entry
def block_residuals(
    Z: FloatArray,
    edges: IntArray,
    token: Any,
    ref: FloatArray,
    coef: FloatArray,
    there: FloatArray,
    start: IntArray,
    size: IntArray,
    D: FloatArray,
    S: FloatArray,
    parts: FloatArray,
) -> None:
    """All lanes of ref, coef and there are the group's."""
    for b in range(parts.shape[0]):
        deal_rows(edges[b], edges[b + 1] - edges[b], start, size)
        add_residuals(Z, start, size, size[0], token, ref, coef, there, D, S)
        for a in range(parts.shape[1]):
            parts[b, a] = lane_sum(load(S, a))


@entry
def block_deviations(
    Z: FloatArray,
    edges: IntArray,
    token: Any,
    q: int,
    ref: FloatArray,
    mean: FloatArray,
    coef: FloatArray,
    shift: FloatArray,
    resid: FloatArray,
    place: int,
) -> None:
    final_residuals(Z, edges[0], edges[-1], token, q, 0, ref, mean, coef, shift, resid, edges[0] - place)


# --------------------------------------------------------------------------- the extended path


@entry
def block_scan(
    Z: FloatArray,
    edges: IntArray,
    low: FloatArray,
    high: FloatArray,
    heavy: IntArray,
) -> None:
    for b in range(low.shape[0]):
        heavy[b] = scan(Z, edges[b], edges[b + 1], low[b], high[b])


@entry
def block_dd_sums(
    Z: FloatArray,
    edges: IntArray,
    heavy: int,
    S: FloatArray,
    at: At,
    parts: FloatArray,
) -> None:
    for b in range(parts.shape[0]):
        dd_add_sums(Z, edges[b], edges[b + 1], heavy, S, at, parts[b], 0)


@entry
def block_dd_cross(
    Z: FloatArray,
    edges: IntArray,
    k: int,
    S: FloatArray,
    at: At,
    row: FloatArray,
    parts: FloatArray,
) -> None:
    for b in range(parts.shape[0]):
        dd_add_cross(Z, edges[b], edges[b + 1], k, S, at, row, parts[b], 0)


@entry
def block_dd_gradient(
    Z: FloatArray,
    edges: IntArray,
    k: int,
    S: FloatArray,
    at: At,
    row: FloatArray,
    parts: FloatArray,
) -> None:
    for b in range(parts.shape[0]):
        dd_add_gradient(Z, edges[b], edges[b + 1], k, S, at, row, parts[b], 0)


@entry
def block_dd_squares(
    Z: FloatArray,
    edges: IntArray,
    k: int,
    q: int,
    S: FloatArray,
    at: At,
    row: FloatArray,
    resid: FloatArray,
    first: int,
    parts: FloatArray,
) -> None:
    for b in range(parts.shape[0]):
        dd_add_squares(Z, edges[b], edges[b + 1], k, q, S, at, row, parts[b], 0, resid, first)


@entry
def dd_merge(parts: FloatArray, S: FloatArray, base: int) -> None:
    """Sum of parts (blocks, width, 2) over the blocks, in order, into S[base:base + width]."""
    clear(S, base, base + parts.shape[1])
    for b in range(parts.shape[0]):
        for a in range(parts.shape[1]):
            accumulate(S, base + a, parts[b, a, 0], parts[b, a, 1])
