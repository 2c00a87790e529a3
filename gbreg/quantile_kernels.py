# SPDX-License-Identifier: MIT
"""Compiled quantile regression, by an interior point method."""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import entry, inlined, kernel
from gbreg._lanes import lane_sum, load, spread, store, where
from gbreg.kernels import SHORT, clear_lanes, four, increase
from gbreg.loss_kernels import (
    HERE,
    RESID,
    ROUNDING,
    SECTIONS,
    TARGET,
    WEIGHT,
    any_lane,
    combine,
    copy_rows,
    factorize,
    find_residuals,
    find_scale,
    larger,
    largest,
    next_lanes,
    normal_equations,
    substitute,
    total,
    write_lanes,
)
from gbreg.problem import FloatArray, IntArray

# As in gbreg.minimum.
FAINT = 1e-14
GAP = 1e-12
STEP = 0.99995
START = 1e-3

# sections of C, from p on, after those of all losses
PRIMAL, SLACK, DUAL_Z, DUAL_W = SECTIONS, SECTIONS + 1, SECTIONS + 2, SECTIONS + 3
PRIMAL_STEP, Z_STEP, W_STEP = SECTIONS + 4, SECTIONS + 5, SECTIONS + 6
Z_CHANGE, W_CHANGE = SECTIONS + 7, SECTIONS + 8
ALL_SECTIONS = SECTIONS + 9


@inlined
def reach(values: Any, change: Any, least: Any) -> Any:
    """1 over the longest step for which values + step change is not negative; at least ``least``."""
    return larger(-change / values, least)


@kernel
def find_steps(C: FloatArray, p: int, room: int, longest: int, alone: bool, steps: FloatArray) -> None:
    """How far multipliers, and their slacks, can go and stay positive, to steps (2, LANES); at most 1."""
    primal = spread(STEP)
    dual = spread(STEP)
    for i in range(longest):
        dx = load(C, (p + PRIMAL_STEP) * room + i)
        primal = reach(load(C, (p + PRIMAL) * room + i), dx, primal)
        primal = reach(load(C, (p + SLACK) * room + i), -dx, primal)
        dual = reach(load(C, (p + DUAL_Z) * room + i), load(C, (p + Z_STEP) * room + i), dual)
        dual = reach(load(C, (p + DUAL_W) * room + i), load(C, (p + W_STEP) * room + i), dual)
    store(steps, 0, STEP / largest(primal, alone))
    store(steps, 1, STEP / largest(dual, alone))


@kernel
def start_quantile(C: FloatArray, p: int, room: int, longest: int, quantile: float) -> None:
    """PRIMAL and SLACK = 1 - PRIMAL are the multipliers of rows, DUAL_Z - DUAL_W is minus the residual.

    The latter are 0 where there is no row, and stay so.
    """
    for i in range(longest):
        here = load(C, (p + HERE) * room + i) > 0.0
        y = load(C, (p + TARGET) * room + i)
        store(C, (p + PRIMAL) * room + i, 1.0 - quantile)
        store(C, (p + SLACK) * room + i, quantile)
        store(C, (p + DUAL_Z) * room + i, where(here, larger(-y, spread(0.0)) + START, 0.0))
        store(C, (p + DUAL_W) * room + i, where(here, larger(y, spread(0.0)) + START, 0.0))


@kernel
def weigh_multipliers(C: FloatArray, p: int, room: int, longest: int) -> None:
    """WEIGHT of the equations that a step solves, and RESID = DUAL_Z - DUAL_W."""
    for i in range(longest):
        here = load(C, (p + HERE) * room + i) > 0.0
        z = load(C, (p + DUAL_Z) * room + i)
        w = load(C, (p + DUAL_W) * room + i)
        weight = 1.0 / (z / load(C, (p + PRIMAL) * room + i) + w / load(C, (p + SLACK) * room + i))
        store(C, (p + WEIGHT) * room + i, where(here, weight, 0.0))
        store(C, (p + RESID) * room + i, z - w)


@kernel
def predict_steps(C: FloatArray, p: int, room: int, longest: int, v: FloatArray) -> None:
    """Newton's steps of the multipliers toward the boundary."""
    for i in range(longest):
        weight = load(C, (p + WEIGHT) * room + i)
        dx = weight * (combine(C, p, room, i, v) - load(C, (p + RESID) * room + i))
        store(C, (p + PRIMAL_STEP) * room + i, dx)
        dz = -load(C, (p + DUAL_Z) * room + i) * (1.0 + dx / load(C, (p + PRIMAL) * room + i))
        store(C, (p + Z_STEP) * room + i, dz)
        dw = -load(C, (p + DUAL_W) * room + i) * (1.0 - dx / load(C, (p + SLACK) * room + i))
        store(C, (p + W_STEP) * room + i, dw)


@kernel
def find_centre(
    C: FloatArray, p: int, room: int, longest: int, alone: bool, primal: Any, dual: Any, rows: Any
) -> Any:
    """Mehrotra's mu: what products of multipliers and slacks should become."""
    now = spread(0.0)
    then = spread(0.0)
    for i in range(longest):
        x = load(C, (p + PRIMAL) * room + i)
        s = load(C, (p + SLACK) * room + i)
        z = load(C, (p + DUAL_Z) * room + i)
        w = load(C, (p + DUAL_W) * room + i)
        dx = primal * load(C, (p + PRIMAL_STEP) * room + i)
        now = now + (z * x + w * s)
        z = z + dual * load(C, (p + Z_STEP) * room + i)
        w = w + dual * load(C, (p + W_STEP) * room + i)
        then = then + (z * (x + dx) + w * (s - dx))
    now = total(now, alone)
    ratio = total(then, alone) / now
    return now * ratio * ratio * ratio / (2.0 * rows)


@kernel
def correct_equations(C: FloatArray, p: int, room: int, longest: int, mu: Any, v: FloatArray) -> None:
    """Z_CHANGE and W_CHANGE of second order, and v = sum weight q (Z_CHANGE - W_CHANGE) over lanes."""
    clear_lanes(v, p)
    for i in range(longest):
        here = load(C, (p + HERE) * room + i) > 0.0
        dx = load(C, (p + PRIMAL_STEP) * room + i)
        xz = (mu - dx * load(C, (p + Z_STEP) * room + i)) / load(C, (p + PRIMAL) * room + i)
        sw = (mu + dx * load(C, (p + W_STEP) * room + i)) / load(C, (p + SLACK) * room + i)
        xz = where(here, xz, 0.0)
        sw = where(here, sw, 0.0)
        store(C, (p + Z_CHANGE) * room + i, xz)
        store(C, (p + W_CHANGE) * room + i, sw)
        scaled = load(C, (p + WEIGHT) * room + i) * (xz - sw)
        for j in range(p):
            increase(v, j, load(C, j * room + i) * scaled)


@kernel
def correct_steps(C: FloatArray, p: int, room: int, longest: int, short: Any, v: FloatArray) -> None:
    """Steps of second order, in lanes that are ``short`` of the full step."""
    for i in range(longest):
        xz = load(C, (p + Z_CHANGE) * room + i)
        sw = load(C, (p + W_CHANGE) * room + i)
        resid = load(C, (p + RESID) * room + i) - (xz - sw)
        dx = load(C, (p + WEIGHT) * room + i) * (combine(C, p, room, i, v) - resid)
        dz = xz - load(C, (p + DUAL_Z) * room + i) * (1.0 + dx / load(C, (p + PRIMAL) * room + i))
        dw = sw - load(C, (p + DUAL_W) * room + i) * (1.0 - dx / load(C, (p + SLACK) * room + i))
        place = (p + PRIMAL_STEP) * room + i
        store(C, place, where(short, dx, load(C, place)))
        place = (p + Z_STEP) * room + i
        store(C, place, where(short, dz, load(C, place)))
        place = (p + W_STEP) * room + i
        store(C, place, where(short, dw, load(C, place)))


@inlined
def step_row(C: FloatArray, place: int, change: int, step: Any, go: Any) -> Any:
    """Add step times C[change] to C[place] where lanes go on; what is there then."""
    old = load(C, place)
    new = where(go, old + step * load(C, change), old)
    store(C, place, new)
    return new


@kernel
def take_steps(
    C: FloatArray, p: int, room: int, longest: int, alone: bool, primal: Any, dual: Any, go: Any
) -> Any:
    """Move the multipliers of lanes that go on; the gap between the sum of losses and its bound."""
    gap = spread(0.0)
    for i in range(longest):
        x = step_row(C, (p + PRIMAL) * room + i, (p + PRIMAL_STEP) * room + i, primal, go)
        s = step_row(C, (p + SLACK) * room + i, (p + PRIMAL_STEP) * room + i, -primal, go)
        z = step_row(C, (p + DUAL_Z) * room + i, (p + Z_STEP) * room + i, dual, go)
        w = step_row(C, (p + DUAL_W) * room + i, (p + W_STEP) * room + i, dual, go)
        gap = gap + (z * x + w * s)
    return total(gap, alone)


@kernel
def find_quantile(
    n: IntArray,
    alone: bool,
    p: int,
    room: int,
    longest: int,
    quantile: float,
    maxiter: int,
    C: FloatArray,
    theta: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    right: FloatArray,
    corrected: FloatArray,
    steps: FloatArray,
    end: FloatArray,
) -> None:
    """Minimise sum (quantile - [r < 0]) r, r = target - Z theta; ``end`` as in `reweight`.

    The Frisch-Newton interior point method with Mehrotra's predictor and corrector, on the dual:
    Portnoy and Koenker 1997.
    """
    start_quantile(C, p, room, longest, quantile)
    clear_lanes(theta, p)
    rows = four(n)
    enough = larger(ROUNDING * rows, spread(GAP))
    done = spread(0.0)
    going = spread(1.0)
    iteration = 0
    while iteration < maxiter and lane_sum(going) > 0.0:
        iteration += 1
        go = going > 0.0
        weigh_multipliers(C, p, room, longest)
        normal_equations(C, p, room, longest, alone, p + RESID, A, v)
        for j in range(p):
            store(right, j, load(v, j))
        factorize(p, A, FAINT)  # flat directions stay as they are
        substitute(p, A, v)
        predict_steps(C, p, room, longest, v)
        find_steps(C, p, room, longest, alone, steps)
        primal = load(steps, 0)
        dual = load(steps, 1)
        short = (primal < 1.0) | (dual < 1.0)
        if any_lane(go & short):
            mu = find_centre(C, p, room, longest, alone, primal, dual, rows)
            correct_equations(C, p, room, longest, mu, corrected)
            for j in range(p):
                store(corrected, j, load(right, j) - total(load(corrected, j), alone))
            substitute(p, A, corrected)
            correct_steps(C, p, room, longest, short, corrected)
            find_steps(C, p, room, longest, alone, steps)
            for j in range(p):
                store(v, j, where(short, load(corrected, j), load(v, j)))
            primal = where(short, load(steps, 0), primal)
            dual = where(short, load(steps, 1), dual)
        able = go
        for j in range(p):
            able = able & (load(v, j) == load(v, j))
        for j in range(p):
            store(theta, j, where(able, load(theta, j) - dual * load(v, j), load(theta, j)))
        gap = take_steps(C, p, room, longest, alone, primal, dual, go)
        done = where(go & (gap <= enough), spread(1.0), done)
        going = where(go & (gap > enough) & (gap < math.inf), spread(1.0), 0.0)
    find_residuals(C, p, room, longest, theta)
    store(end, 0, find_scale(C, p, room, longest, alone, n, sizes))
    store(end, 1, done)


@entry
def quantile_groups(
    Z: FloatArray,
    offsets: IntArray,
    g0: int,
    g1: int,
    p: int,
    quantile: float,
    maxiter: int,
    room: int,
    group: IntArray,
    lo: IntArray,
    n: IntArray,
    size: IntArray,
    C: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    own: FloatArray,
    right: FloatArray,
    corrected: FloatArray,
    steps: FloatArray,
    end: FloatArray,
    theta: FloatArray,
    scale: FloatArray,
    status: Any,
) -> None:
    """Quantile regression of groups g0:g1, and the scale of the residuals."""
    g = g0
    while g < g1:
        g = next_lanes(offsets, g, g1, group, lo, n)
        alone = n[0] > SHORT
        for q in range(theta.shape[1]):
            longest = copy_rows(Z, lo, n, 1, alone, p, p + q, room, size, C)
            find_quantile(
                *(n, alone, p, room, longest, quantile, maxiter),
                *(C, own, sizes, A, v, right, corrected, steps, end),
            )
            write_lanes(group, q, p, own, end, theta, scale, status)
