# SPDX-License-Identifier: MIT
"""Rows of groups into lanes: what is summed over them, and their residuals.

What a group has is a lane, a column of arrays (..., LANES), and all arithmetic is that of lanes.
Groups of up to SHORT rows are read together, row by row; a longer one takes all lanes for itself, LANES
rows at a time, row i always in lane i % LANES. A row that is not there has weight 0. Sums depend
on nothing but the rows of the group.
"""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import inlined, kernel
from gbreg._lanes import LANES, gather, lane_sum, load, magnitudes, spread, store, where
from gbreg.kernels import SHORT, SMALLEST_NORMAL, clear_lanes, four, increase, log_sum
from gbreg.median_kernels import lane_medians
from gbreg.problem import FloatArray, IntArray

TILE = 256  # rows of a long group that are read for sums, then for logarithms; a multiple of LANES
# One pass over long groups, about a fit to a few of their rows, took 0.6 of the time of these kernels at
# 200,000 rows a group, 0.9 to 1.1 at 500, and cost up to a digit: the step from there is not tiny.


@inlined
def set_lanes(lo: IntArray, n: IntArray, start: IntArray, size: IntArray) -> int:
    """Each short group to its lane: first rows into start, numbers of rows into size; returns the most rows.

    lo, n (LANES,) are the first rows and sizes of the groups, size 0 of those that are not read. The last
    entry of start is how many rows a lane moves on: numba would compile a kernel anew for each constant.
    """
    longest = 0
    start[LANES] = 1
    for m in range(LANES):
        short = 0 < n[m] <= SHORT
        start[m] = lo[m] if short else 1  # the row before it is there
        size[m] = n[m] if short else 0
        longest = max(longest, size[m])
    return longest


@inlined
def deal_rows(lo: int, n: int, start: IntArray, size: IntArray) -> None:
    """The rows of one group to all lanes."""
    start[LANES] = LANES
    for m in range(LANES):
        start[m] = lo + m
        size[m] = n - m


@inlined
def load_rows(
    Z: FloatArray, start: IntArray, size: IntArray, i: int, ref: FloatArray, D: FloatArray, at: int
) -> None:
    """Row i of each lane, less ref, into D[at:at + c + 1]; weights come last."""
    c = ref.shape[0]
    r0 = start[0] + min(i, size[0] - 1)
    r1 = start[1] + min(i, size[1] - 1)
    r2 = start[2] + min(i, size[2] - 1)
    r3 = start[3] + min(i, size[3] - 1)
    for j in range(c):
        store(D, at + j, gather(Z, r0, r1, r2, r3, j) - load(ref, j))
    store(D, at + c, where(four(size) > float(i), gather(Z, r0, r1, r2, r3, c), 0.0))


@inlined
def copy_lane(A: FloatArray, lane: int, own: FloatArray) -> None:
    """What one lane has, to all."""
    for a in range(A.shape[0]):
        store(own, a, spread(A[a, lane]))


@inlined
def sum_lanes(S: FloatArray, size: int, lane: int, sums: FloatArray) -> None:
    """The sums over all lanes of S to one of sums."""
    for a in range(size):
        sums[a, lane] = lane_sum(load(S, a))


@inlined
def set_reference(Z: FloatArray, lo: IntArray, ref: FloatArray) -> None:
    """The first row of each group into ref (c,).

    Sums of squares about one of n rows of equal weight are at most n times those about the mean.
    """
    for j in range(ref.shape[0]):
        store(ref, j, gather(Z, lo[0], lo[1], lo[2], lo[3], j))


@inlined
def set_first(
    Z: FloatArray, lo: IntArray, intercept: bool, ref: FloatArray, mean: FloatArray, first: FloatArray
) -> None:
    """How far the mean is from the first row."""
    for j in range(ref.shape[0]):
        row = gather(Z, lo[0], lo[1], lo[2], lo[3], j)
        store(first, j, (load(ref, j) - row) + load(mean, j) if intercept else spread(0.0))


@kernel
def add_moments(
    Z: FloatArray,
    start: IntArray,
    size: IntArray,
    longest: int,
    token: Any,
    ref: FloatArray,
    D: FloatArray,
    S: FloatArray,
) -> None:
    """Cross products about ref, then weighted sums of the columns, then of the weights, to S.

    Rows of short groups stay in D, (c + 1) lanes each.
    """
    k = len(token)
    c = ref.shape[0]
    base = k * (k + 1) // 2 + (c - k) * (k + 1)
    kept = c + 1 if start[LANES] == 1 else 0
    at = i = 0
    while i < longest:
        load_rows(Z, start, size, i, ref, D, at)
        w = load(D, at + c)
        a = 0
        for j in range(k):
            v = load(D, at + j) * w
            increase(S, base + j, v)
            for m in range(j + 1):
                increase(S, a + m, v * load(D, at + m))
            a += j + 1
        for q in range(k, c):
            y = load(D, at + q)
            v = y * w
            increase(S, base + q, v)
            for m in range(k):
                increase(S, a + m, v * load(D, at + m))
            increase(S, a + k, v * y)
            a += k + 1
        increase(S, base + c, w)
        i += start[LANES]
        at += kept


@inlined
def sum_moments(
    Z: FloatArray,
    lo: IntArray,
    n: IntArray,
    token: Any,
    ref: FloatArray,
    start: IntArray,
    size: IntArray,
    D: FloatArray,
    row: FloatArray,
    S: FloatArray,
    own: FloatArray,
    moments: FloatArray,
    logs: FloatArray,
) -> None:
    """What `add_moments` says, of each group; row (c + 1,) is scratch.

    logs (1,) gets sums of the logarithms of the weights of long groups, whose rows would be far away later.
    """
    longest = set_lanes(lo, n, start, size)
    clear_lanes(moments, moments.shape[0])
    add_moments(Z, start, size, longest, token, ref, D, moments)
    for m in range(LANES):
        if n[m] > SHORT:
            copy_lane(ref, m, own)
            clear_lanes(S, moments.shape[0])
            total = 0.0
            for i in range(lo[m], lo[m] + n[m], TILE):
                stop = min(i + TILE, lo[m] + n[m])
                deal_rows(i, stop - i, start, size)
                add_moments(Z, start, size, stop - i, token, own, row, S)
                total += log_sum(Z, i, stop)
            sum_lanes(S, moments.shape[0], m, moments)
            logs[0, m] = total


@inlined
def add_products(
    token: Any, D: FloatArray, at: int, coef: FloatArray, there: FloatArray, S: FloatArray
) -> None:
    """For each target, products of the weighted residuals with the predictors, with 1 and r, to S."""
    k = len(token)
    t = there.shape[0]
    w = load(D, at + k + t)
    a = 0
    for q in range(t):
        r = load(D, at + k + q) - load(there, q)
        for j in range(k):
            r -= load(coef, q * k + j) * load(D, at + j)
        v = r * w
        for j in range(k):
            increase(S, a + j, v * load(D, at + j))
        increase(S, a + k, v)
        increase(S, a + k + 1, v * r)
        a += k + 2


@kernel
def add_residuals(
    Z: FloatArray,
    start: IntArray,
    size: IntArray,
    longest: int,
    token: Any,
    ref: FloatArray,
    coef: FloatArray,
    there: FloatArray,
    D: FloatArray,
    S: FloatArray,
) -> None:
    """`add_products` of all rows, about ref."""
    clear_lanes(S, there.shape[0] * (len(token) + 2))
    i = 0
    while i < longest:
        load_rows(Z, start, size, i, ref, D, 0)
        add_products(token, D, 0, coef, there, S)
        i += start[LANES]


@kernel
def add_kept_residuals(
    longest: int,
    token: Any,
    away: FloatArray,
    coef: FloatArray,
    there: FloatArray,
    D: FloatArray,
    S: FloatArray,
) -> None:
    """The same of rows that `add_moments` has left in D, which are moved by away first."""
    c = away.shape[0]
    clear_lanes(S, there.shape[0] * (len(token) + 2))
    for i in range(longest):
        at = i * (c + 1)
        for j in range(c):
            store(D, at + j, load(D, at + j) - load(away, j))
        add_products(token, D, at, coef, there, S)


@inlined
def sum_kept_logs(n: IntArray, longest: int, D: FloatArray, c: int, S: FloatArray, logs: FloatArray) -> None:
    """Sums of logarithms of weights in D into logs (1,), NaN where products leave the range of float64."""
    v = spread(1.0)
    least = spread(1.0)
    most = spread(1.0)
    for i in range(longest):
        w = load(D, i * (c + 1) + c)
        v = where(w > 0.0, v * w, v)
        least = where(v < least, v, least)
        most = where(v > most, v, most)
    store(S, 0, where((least > SMALLEST_NORMAL) & (most < math.inf), v, math.nan))
    for m in range(LANES):
        if n[m] <= SHORT:
            logs[0, m] = math.log(S[0, m])


@inlined
def sum_residuals(
    Z: FloatArray,
    lo: IntArray,
    n: IntArray,
    token: Any,
    ref: FloatArray,
    away: FloatArray,
    coef: FloatArray,
    there: FloatArray,
    start: IntArray,
    size: IntArray,
    D: FloatArray,
    row: FloatArray,
    S: FloatArray,
    own: FloatArray,
    own_coef: FloatArray,
    own_there: FloatArray,
    grad: FloatArray,
) -> None:
    """What `add_products` says, of each group, about its mean.

    ``away`` is how far that is from what rows of short groups are about in D; ``there`` (t,) are fitted
    values at ref, which is the mean but for rounding, less those of ref.
    """
    t = there.shape[0]
    clear_lanes(own_there, t)
    add_kept_residuals(set_lanes(lo, n, start, size), token, away, coef, own_there, D, grad)
    for m in range(LANES):
        if n[m] > SHORT:
            deal_rows(lo[m], n[m], start, size)
            copy_lane(ref, m, own)
            copy_lane(coef, m, own_coef)
            copy_lane(there, m, own_there)
            add_residuals(Z, start, size, n[m], token, own, own_coef, own_there, row, S)
            sum_lanes(S, grad.shape[0], m, grad)


@inlined
def final_residuals(
    Z: FloatArray,
    lo: int,
    hi: int,
    token: Any,
    q: int,
    lane: int,
    ref: FloatArray,
    mean: FloatArray,
    coef: FloatArray,
    shift: FloatArray,
    resid: FloatArray,
    place: int,
) -> None:
    """Residuals of a target of the group in that lane at the final coefficients."""
    k = len(token)
    for i in range(lo, hi):
        r = ((Z[i, k + q] - ref[k + q, lane]) - mean[k + q, lane]) - shift[q, lane]
        for j in range(k):
            r -= coef[q * k + j, lane] * ((Z[i, j] - ref[j, lane]) - mean[j, lane])
        resid[place + i - lo] = r


@kernel
def set_deviations(
    size: IntArray,
    longest: int,
    token: Any,
    coef: FloatArray,
    shift: FloatArray,
    D: FloatArray,
    R: FloatArray,
    deviation: FloatArray,
) -> None:
    """`median_deviation` of each target (t,) of short groups, whose rows about their means are in D.

    R has room for all of their residuals.
    """
    k = len(token)
    t = deviation.shape[0]
    for i in range(longest):
        at = i * (k + t + 1)
        there = load(D, at + k + t) > 0.0
        for q in range(t):
            r = load(D, at + k + q) - load(shift, q)
            for j in range(k):
                r -= load(coef, q * k + j) * load(D, at + j)
            store(R, q * longest + i, where(there, r, math.inf))
    for q in range(t):
        at = q * longest
        middle = lane_medians(R, at, longest, size)
        for i in range(at, at + longest):
            store(R, i, magnitudes(load(R, i) - middle))
        store(deviation, q, lane_medians(R, at, longest, size))


@kernel
def all_equal(Z: FloatArray, column: int, lo: int, hi: int, value: float) -> bool:
    same = True
    for i in range(lo, hi):
        same = same and Z[i, column] == value
    return same
