# SPDX-License-Identifier: MIT
"""Compiled Huber's and Tukey's estimates: a robust start, and iterated weighted least squares."""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import entry, inlined, kernel
from gbreg._lanes import LANES, gather, lane_sum, load, magnitudes, spread, store, where
from gbreg.kernels import SHORT, clear_lanes, four, increase
from gbreg.loss_kernels import (
    FLOOR,
    HERE,
    ORDER,
    RESID,
    ROUNDING,
    SIZE,
    TARGET,
    WEIGHT,
    any_lane,
    copy_rows,
    copy_sizes,
    factorize,
    find_residuals,
    find_scale,
    larger,
    next_lanes,
    normal_equations,
    substitute,
    total,
    write_lanes,
)
from gbreg.median_kernels import pick_lanes, select, sort_lanes
from gbreg.problem import FloatArray, IntArray

# As in gbreg.minimum.
SETTLED = 1e-10
FREE = 20
DEPENDENT = 1e-10
KEPT_STARTS = 3
CONCENTRATED = 1
TIE = 1e-8
SAMPLED = 128
HUBER, BISQUARE = 0, 1


@inlined
def solve(p: int, A: FloatArray, v: FloatArray) -> Any:
    """``v = A^-1 v``, A overwritten; 0 in lanes where A is singular, else 1."""
    full = factorize(p, A, DEPENDENT)
    substitute(p, A, v)
    return full


@kernel
def find_cut(
    C: FloatArray, p: int, room: int, longest: int, alone: bool, n: IntArray, h: IntArray, sizes: FloatArray
) -> Any:
    """The h-th smallest SIZE of each group."""
    copy_sizes(C, p, room, longest, n[0], alone, sizes)
    if alone:
        cut = spread(select(sizes, n[0], h[0] - 1))
    else:
        at = (p + ORDER) * room
        sort_lanes(C, at, longest, max(h[0], h[1], h[2], h[3]))
        cut = pick_lanes(C, at, h[0] - 1, h[1] - 1, h[2] - 1, h[3] - 1)
    return cut


@kernel
def weigh_within(C: FloatArray, p: int, room: int, longest: int, cut: Any) -> None:
    """WEIGHT 1 where SIZE is at most ``cut``, rounding aside, else 0."""
    limit = (1.0 + TIE) * cut + FLOOR
    for i in range(longest):
        inside = load(C, (p + SIZE) * room + i) <= limit
        store(C, (p + WEIGHT) * room + i, where(inside, spread(1.0), 0.0))


@kernel
def trimmed(C: FloatArray, p: int, room: int, longest: int, alone: bool, h: IntArray, cut: Any) -> Any:
    """Sum of the h smallest squares, the root of the largest of which is ``cut``."""
    squares = spread(0.0)
    within = spread(0.0)
    for i in range(longest):
        size = load(C, (p + SIZE) * room + i)
        inside = size < cut
        squares = squares + where(inside, size * size, 0.0)
        within = within + where(inside, load(C, (p + HERE) * room + i), 0.0)
    return total(squares, alone) + (four(h) - total(within, alone)) * cut * cut


@kernel
def clipped_sum(C: FloatArray, p: int, room: int, longest: int, alone: bool, bound: Any) -> Any:
    """Sum of min(SIZE, bound)^2; where there is no row, there is no size."""
    squares = spread(0.0)
    for i in range(longest):
        size = load(C, (p + SIZE) * room + i)
        size = where(size < bound, size, bound)
        squares = squares + size * size
    return total(squares, alone)


@kernel
def fit_drawn(
    Z: FloatArray,
    lo: IntArray,
    n: IntArray,
    step: int,
    alone: bool,
    p: int,
    column: int,
    draws: FloatArray,
    trial: int,
    row: IntArray,
    picked: IntArray,
    A: FloatArray,
    v: FloatArray,
) -> Any:
    """The fit through p rows, which a row of ``draws`` picks without repetition; 1 in lanes with one."""
    clear_lanes(v, p)
    clear_lanes(A, p * p)
    for j in range(p):
        for m in range(LANES):
            if m == 0 or not alone:
                k = max(int(draws[trial, j] * (n[m] - j)), 0)
                place = 0
                while place < j and k >= picked[m, place]:
                    k += 1
                    place += 1
                for i in range(j, place, -1):
                    picked[m, i] = picked[m, i - 1]
                picked[m, place] = k
                row[m] = lo[m] + step * min(k, n[m] - 1)
            else:
                row[m] = row[0]
        y = gather(Z, row[0], row[1], row[2], row[3], column)
        for a in range(p):
            x = gather(Z, row[0], row[1], row[2], row[3], a)
            increase(v, a, x * y)
            for b in range(a + 1):
                z = gather(Z, row[0], row[1], row[2], row[3], b)
                increase(A, a * p + b, x * z)
    return solve(p, A, v)


@inlined
def is_less(some: Any, other: Any) -> Any:
    """Whether by more than rounding: on ties backends would not keep the same."""
    return some < (1.0 - TIE) * other - FLOOR * FLOOR


@inlined
def keep_best(p: int, some: Any, v: FloatArray, best: FloatArray) -> Any:
    """Sums and coefficients v to their places in ``best`` (KEPT_STARTS times p + 1); 1 where there is one."""
    width = p + 1
    enters = is_less(some, load(best, KEPT_STARTS * width - 1))
    entered = where(enters, spread(1.0), 0.0)
    for b in range(KEPT_STARTS - 1, -1, -1):
        here = b * width
        before = max(b - 1, 0) * width
        passes = enters & is_less(some, load(best, before + p)) & (spread(float(b)) > 0.0)
        for j in range(p):
            new = where(passes, load(best, before + j), load(v, j))
            store(best, here + j, where(enters, new, load(best, here + j)))
        new = where(passes, load(best, before + p), some)
        store(best, here + p, where(enters, new, load(best, here + p)))
        enters = passes
    return entered


@kernel
def start_robust(
    Z: FloatArray,
    lo: IntArray,
    n: IntArray,
    step: int,
    alone: bool,
    p: int,
    column: int,
    room: int,
    longest: int,
    draws: FloatArray,
    C: FloatArray,
    theta: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    h: IntArray,
    row: IntArray,
    picked: IntArray,
    best: FloatArray,
) -> None:
    """Least trimmed squares, near enough: ``theta`` of the least sum of 70 % of the squares that is found.

    Rousseeuw and Van Driessen 2006: fits through p rows drawn at random, the best of them
    concentrated on the rows nearest to them; least squares where fewer have a fit.
    """
    for m in range(LANES):
        h[m] = n[m] - 3 * n[m] // 10
    for b in range(KEPT_STARTS):
        for j in range(p):
            store(best, b * (p + 1) + j, 0.0)
        store(best, b * (p + 1) + p, math.inf)
    bound = spread(0.0)
    beyond = four(n) - four(h)
    for trial in range(draws.shape[0]):
        full = fit_drawn(Z, lo, n, step, alone, p, column, draws, trial, row, picked, A, v)
        find_residuals(C, p, room, longest, v)
        # a bound of the sum tells without sorting, for most of the fits
        least = clipped_sum(C, p, room, longest, alone, bound) - beyond * bound * bound
        if any_lane((full > 0.0) & (least < load(best, KEPT_STARTS * (p + 1) - 1))):
            cut = find_cut(C, p, room, longest, alone, n, h, sizes)
            some = where(full > 0.0, trimmed(C, p, room, longest, alone, h, cut), math.inf)
            bound = where(keep_best(p, some, v, best) > 0.0, cut, bound)
    least = spread(math.inf)
    for b in range(KEPT_STARTS):
        some = load(best, b * (p + 1) + p)
        for j in range(p):
            store(v, j, load(best, b * (p + 1) + j))
        for steps in range(CONCENTRATED + 1):
            better = is_less(some, least)
            least = where(better, some, least)
            for j in range(p):
                store(theta, j, where(better, load(v, j), load(theta, j)))
            if steps < CONCENTRATED:
                find_residuals(C, p, room, longest, v)
                weigh_within(C, p, room, longest, find_cut(C, p, room, longest, alone, n, h, sizes))
                normal_equations(C, p, room, longest, alone, p + TARGET, A, v)
                able = solve(p, A, v) > 0.0
                find_residuals(C, p, room, longest, v)
                cut = find_cut(C, p, room, longest, alone, n, h, sizes)
                some = where(able, trimmed(C, p, room, longest, alone, h, cut), math.inf)


@kernel
def weigh(C: FloatArray, p: int, room: int, longest: int, which: int, limit: Any) -> None:
    """WEIGHT = psi(u) / u, u = SIZE / scale, limit = tuning scale."""
    for i in range(longest):
        size = load(C, (p + SIZE) * room + i)
        if which == HUBER:
            w = where(size <= limit, spread(1.0), limit / size)
        else:
            part = size / limit
            rest = larger(1.0 - part * part, spread(0.0))
            w = rest * rest
        store(C, (p + WEIGHT) * room + i, w)


@kernel
def reweight(
    n: IntArray,
    alone: bool,
    p: int,
    room: int,
    longest: int,
    which: int,
    tuning: float,
    inflated: Any,
    maxiter: int,
    C: FloatArray,
    theta: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    end: FloatArray,
) -> None:
    """Iterate weighted least squares from ``theta``; scales, and 1 where it ended, to ``end`` (2, LANES)."""
    find_residuals(C, p, room, longest, theta)
    scale = inflated * find_scale(C, p, room, longest, alone, n, sizes)
    done = spread(0.0)
    last = spread(0.0)
    going = spread(1.0)
    iteration = 0
    while iteration < maxiter and lane_sum(going) > 0.0:
        iteration += 1
        weigh(C, p, room, longest, which, tuning * scale)
        normal_equations(C, p, room, longest, alone, p + RESID, A, v)
        going = where(solve(p, A, v) > 0.0, going, 0.0)
        go = going > 0.0
        change = spread(0.0)
        for j in range(p):
            change = larger(magnitudes(load(v, j)), change)
            store(theta, j, where(go, load(theta, j) + load(v, j), load(theta, j)))
        find_residuals(C, p, room, longest, theta)
        wider = find_scale(C, p, room, longest, alone, n, sizes) - scale
        near = larger(SETTLED * (scale + wider), spread(ROUNDING))
        ended = (change <= near) & (magnitudes(wider) <= near)
        turned = (wider * last < 0.0) & (spread(float(iteration)) > float(FREE))
        scale = where(go, scale + where(ended, wider, where(turned, 0.5 * wider, wider)), scale)
        last = where(go, wider, last)
        done = where(go & ended, spread(1.0), done)
        going = where(ended, 0.0, going)
    store(end, 0, scale)
    store(end, 1, done)


@entry
def reweight_groups(
    Z: FloatArray,
    offsets: IntArray,
    g0: int,
    g1: int,
    p: int,
    which: int,
    tuning: float,
    draws: FloatArray,
    least_rows: int,
    maxiter: int,
    room: int,
    group: IntArray,
    lo: IntArray,
    n: IntArray,
    few: IntArray,
    size: IntArray,
    h: IntArray,
    row: IntArray,
    picked: IntArray,
    C: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    own: FloatArray,
    end: FloatArray,
    best: FloatArray,
    theta: FloatArray,
    scale: FloatArray,
    status: Any,
) -> None:
    """Huber's and Tukey's estimates of groups g0:g1; ``draws`` without rows start from least squares."""
    g = g0
    while g < g1:
        g = next_lanes(offsets, g, g1, group, lo, n)
        alone = n[0] > SHORT
        for q in range(theta.shape[1]):
            clear_lanes(own, p)
            inflated = spread(1.0)
            rows = four(n)
            if draws.shape[0] > 0 and max(n[0], n[1], n[2], n[3]) >= least_rows:
                step = (n[0] + SAMPLED - 1) // SAMPLED
                for m in range(LANES):
                    few[m] = (n[m] + step - 1) // step
                longest = copy_rows(Z, lo, few, step, alone, p, p + q, room, size, C)
                start_robust(
                    *(Z, lo, few, step, alone, p, p + q, room, longest, draws),
                    *(C, own, sizes, A, v, h, row, picked, best),
                )
                able = rows >= float(least_rows)
                for j in range(p):
                    store(own, j, where(able, load(own, j), 0.0))
                inflated = where(able, 1.0 + 5.0 / (rows - float(p)), inflated)
            longest = copy_rows(Z, lo, n, 1, alone, p, p + q, room, size, C)
            reweight(
                *(n, alone, p, room, longest, which, tuning, inflated, maxiter, C, own, sizes, A, v, end)
            )
            write_lanes(group, q, p, own, end, theta, scale, status)
