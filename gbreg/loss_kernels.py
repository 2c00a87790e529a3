# SPDX-License-Identifier: MIT
"""Compiled kernels of fits that minimise another loss than squares; `gbreg.minimizers` in loops.

``Z`` (n, p + t + 1) holds p columns that are orthonormal within each group, t targets of length 1 or
less, and ones, as `gbreg.losses` makes it: so nothing here has a unit, and sums of products are
well conditioned. A group is rows lo:hi, and ``row`` (hi - lo) arrays belong to these.
"""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import entry, kernel
from gbreg.kernels import median, select
from gbreg.problem import FloatArray, IntArray

# As in gbreg.losses and gbreg.problem; a test holds them equal.
NORMAL = 1.482602218505602
FLOOR = 1e-14
SETTLED = 1e-10
ROUNDING = 1e-15
FREE = 20
DEPENDENT = 1e-10
FAINT = 1e-14
GAP = 1e-12
STEP = 0.99995
START = 1e-3
KEPT_STARTS = 3
SAMPLED = 128
HUBER, BISQUARE = 0, 1
NOT_CONVERGED = 5


@kernel
def add_row(Z: FloatArray, i: int, p: int, weight: float, value: float, A: FloatArray, v: FloatArray) -> None:
    """``A += weight q q'`` (lower triangle), ``v += weight q value`` for row i."""
    for j in range(p):
        scaled = weight * Z[i, j]
        v[j] += scaled * value
        for m in range(j + 1):
            A[j, m] += scaled * Z[i, m]


@kernel
def clear(p: int, A: FloatArray, v: FloatArray) -> None:
    for j in range(p):
        v[j] = 0.0
        for m in range(j + 1):
            A[j, m] = 0.0


@kernel
def factorize(p: int, A: FloatArray, smallest: float) -> bool:
    """Cholesky in place; False if a pivot is not above ``smallest``: it is infinite, its coefficient 0."""
    full = True
    for j in range(p):
        size = A[j, j]
        pivot = size
        for m in range(j):
            pivot -= A[j, m] * A[j, m]
        above = pivot > smallest * size
        full = full and above
        root = math.sqrt(pivot) if above else math.inf
        A[j, j] = root
        for i in range(j + 1, p):
            rest = A[i, j]
            for m in range(j):
                rest -= A[i, m] * A[j, m]
            A[i, j] = rest / root
    return full


@kernel
def substitute(p: int, A: FloatArray, v: FloatArray) -> None:
    """``v = (A A')^-1 v``."""
    for j in range(p):
        for m in range(j):
            v[j] -= A[j, m] * v[m]
        v[j] /= A[j, j]
    for j in range(p - 1, -1, -1):
        for m in range(j + 1, p):
            v[j] -= A[m, j] * v[m]
        v[j] /= A[j, j]


@kernel
def solve(p: int, A: FloatArray, v: FloatArray) -> bool:
    """``v = A^-1 v``, A overwritten; False if A is singular."""
    full = factorize(p, A, DEPENDENT)
    substitute(p, A, v)
    return full


@kernel
def find_residuals(
    Z: FloatArray, lo: int, step: int, n: int, p: int, column: int, theta: FloatArray, r: FloatArray
) -> None:
    """Of rows lo, lo + step, ..., n of them."""
    for i in range(n):
        value = Z[lo + i * step, column]
        for j in range(p):
            value -= Z[lo + i * step, j] * theta[j]
        r[i] = value


@kernel
def find_scale(r: FloatArray, n: int, sizes: FloatArray) -> float:
    """1.4826 median(|r|), not below what rounding leaves."""
    for i in range(n):
        sizes[i] = abs(r[i])
    return max(NORMAL * median(sizes, n), FLOOR)


@kernel
def trimmed(r: FloatArray, n: int, h: int, sizes: FloatArray) -> tuple[float, float]:
    """Sum of the h smallest squares of r, and the root of the largest of these."""
    for i in range(n):
        sizes[i] = abs(r[i])
    cut = select(sizes, n, h - 1)
    total = 0.0
    for i in range(h):
        total += sizes[i] * sizes[i]
    return total, cut


@kernel
def may_be_below(
    Z: FloatArray,
    lo: int,
    step: int,
    n: int,
    p: int,
    column: int,
    theta: FloatArray,
    h: int,
    bound: float,
    worst: float,
    r: FloatArray,
) -> bool:
    """Find residuals; False if the h smallest squares must add up to ``worst`` or more.

    Those of them beyond ``bound`` tell without sorting, for most of the fits through outliers.
    """
    within = 0
    for i in range(n):
        value = Z[lo + i * step, column]
        for j in range(p):
            value -= Z[lo + i * step, j] * theta[j]
        r[i] = value
        within += abs(value) <= bound
    return (h - within) * bound * bound < worst


@kernel
def start_robust(
    Z: FloatArray,
    lo: int,
    hi: int,
    p: int,
    column: int,
    draws: IntArray,
    theta: FloatArray,
    r: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    picked: IntArray,
    best: FloatArray,
) -> None:
    """Least trimmed squares, near enough: ``theta`` of the least sum of 70 % of the squares that is found.

    Rousseeuw and Van Driessen 2006: fits through p rows drawn at random, the best of them
    concentrated on the rows nearest to them.
    """
    step = (hi - lo + SAMPLED - 1) // SAMPLED
    n = (hi - lo + step - 1) // step
    h = n - 3 * n // 10
    for b in range(KEPT_STARTS):
        best[b, p] = math.inf
    bound = 0.0
    for trial in range(draws.shape[0]):
        clear(p, A, v)
        for j in range(p):
            k = draws[trial, j] % (n - j)
            place = 0
            while place < j and k >= picked[place]:
                k += 1
                place += 1
            for m in range(j, place, -1):
                picked[m] = picked[m - 1]
            picked[place] = k
            row = lo + k * step
            add_row(Z, row, p, 1.0, Z[row, column], A, v)
        worst = best[KEPT_STARTS - 1, p]
        if solve(p, A, v) and may_be_below(Z, lo, step, n, p, column, v, h, bound, worst, r):
            total, cut = trimmed(r, n, h, sizes)
            if total < worst:
                b = KEPT_STARTS - 1
                while b > 0 and total < best[b - 1, p]:
                    for j in range(p + 1):
                        best[b, j] = best[b - 1, j]
                    b -= 1
                for j in range(p):
                    best[b, j] = v[j]
                best[b, p] = total
                bound = max(cut, bound) if worst == math.inf else cut
    least = math.inf
    for b in range(KEPT_STARTS):
        total = best[b, p]
        for j in range(p):
            v[j] = best[b, j]
        falling = total < math.inf
        while falling:
            if total < least:
                least = total
                for j in range(p):
                    theta[j] = v[j]
            find_residuals(Z, lo, step, n, p, column, v, r)
            before, cut = trimmed(r, n, h, sizes)
            clear(p, A, v)
            for i in range(n):
                if abs(r[i]) <= cut:
                    add_row(Z, lo + i * step, p, 1.0, Z[lo + i * step, column], A, v)
            falling = solve(p, A, v)
            if falling:
                find_residuals(Z, lo, step, n, p, column, v, r)
                total, cut = trimmed(r, n, h, sizes)
                falling = total < before * (1.0 - SETTLED)


@kernel
def reweight(
    Z: FloatArray,
    lo: int,
    hi: int,
    p: int,
    column: int,
    which: int,
    tuning: float,
    inflated: float,
    maxiter: int,
    theta: FloatArray,
    r: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
) -> tuple[float, bool]:
    """Iterate weighted least squares from ``theta`` to the end; the scale, and whether it was reached."""
    n = hi - lo
    find_residuals(Z, lo, 1, n, p, column, theta, r)
    scale = inflated * find_scale(r, n, sizes)
    done = False
    last = 0.0
    iteration = 0
    while iteration < maxiter and not done:
        iteration += 1
        clear(p, A, v)
        limit = tuning * scale
        for i in range(n):
            size = abs(r[i])
            if which == HUBER:
                weight = 1.0 if size <= limit else limit / size
            else:
                part = size / limit
                weight = (1.0 - part * part) * (1.0 - part * part) if part < 1.0 else 0.0
            if weight > 0.0:
                add_row(Z, lo + i, p, weight, r[i], A, v)
        if solve(p, A, v):
            largest = 0.0
            for j in range(p):
                theta[j] += v[j]
                largest = max(largest, abs(v[j]))
            find_residuals(Z, lo, 1, n, p, column, theta, r)
            change = find_scale(r, n, sizes) - scale
            near = max(SETTLED * (scale + change), ROUNDING)
            done = largest <= near and abs(change) <= near
            turned = iteration > FREE and change * last < 0.0
            scale += 0.5 * change if turned and not done else change
            last = change
        else:
            iteration = maxiter
    return scale, done


@entry
def reweight_groups(
    Z: FloatArray,
    offsets: IntArray,
    g0: int,
    g1: int,
    p: int,
    which: int,
    tuning: float,
    draws: IntArray,
    least_rows: int,
    maxiter: int,
    rows: FloatArray,
    A: FloatArray,
    v: FloatArray,
    picked: IntArray,
    best: FloatArray,
    theta: FloatArray,
    scale: FloatArray,
    status: Any,
) -> None:
    """Huber's and Tukey's estimates of groups g0:g1; ``draws`` without rows start from least squares."""
    r = rows[0]
    sizes = rows[1]
    for g in range(g0, g1):
        lo = offsets[g]
        hi = offsets[g + 1]
        for q in range(theta.shape[1]):
            own = theta[g, q]
            for j in range(p):
                own[j] = 0.0
            inflated = 1.0
            if draws.shape[0] > 0 and hi - lo >= least_rows:
                start_robust(Z, lo, hi, p, p + q, draws, own, r, sizes, A, v, picked, best)
                inflated += 5.0 / (hi - lo - p)
            size, done = reweight(Z, lo, hi, p, p + q, which, tuning, inflated, maxiter, own, r, sizes, A, v)
            scale[g, q] = size
            status[g, q] = 0 if done else NOT_CONVERGED


@kernel
def find_steps(
    x: FloatArray,
    s: FloatArray,
    z: FloatArray,
    w: FloatArray,
    dx: FloatArray,
    dz: FloatArray,
    dw: FloatArray,
    n: int,
) -> tuple[float, float]:
    """How far multipliers, and their slacks, can go and stay positive; at most 1."""
    primal = math.inf
    dual = math.inf
    for i in range(n):
        if dx[i] < 0.0:
            primal = min(primal, -x[i] / dx[i])
        if dx[i] > 0.0:
            primal = min(primal, s[i] / dx[i])
        if dz[i] < 0.0:
            dual = min(dual, -z[i] / dz[i])
        if dw[i] < 0.0:
            dual = min(dual, -w[i] / dw[i])
    return min(STEP * primal, 1.0), min(STEP * dual, 1.0)


@kernel
def find_quantile(
    Z: FloatArray,
    lo: int,
    hi: int,
    p: int,
    column: int,
    quantile: float,
    maxiter: int,
    theta: FloatArray,
    rows: FloatArray,
    A: FloatArray,
    v: FloatArray,
    rhs: FloatArray,
) -> bool:
    """Minimise sum (quantile - [r < 0]) r, r = target - Z theta; whether the minimum was reached.

    The Frisch-Newton interior point method with Mehrotra's predictor and corrector, on the dual:
    Portnoy and Koenker 1997. x and s = 1 - x are the multipliers of rows, z - w = -r.
    """
    n = hi - lo
    x = rows[0]
    s = rows[1]
    z = rows[2]
    w = rows[3]
    dx = rows[4]
    dz = rows[5]
    dw = rows[6]
    weight = rows[7]
    for j in range(p):
        theta[j] = 0.0
    for i in range(n):
        x[i] = 1.0 - quantile
        s[i] = quantile
        r = -Z[lo + i, column]
        z[i] = max(r, 0.0) + START
        w[i] = max(-r, 0.0) + START
    gap = math.inf
    enough = max(GAP, ROUNDING * n)
    iteration = 0
    while iteration < maxiter and gap > enough:
        iteration += 1
        clear(p, A, v)
        for i in range(n):
            weight[i] = 1.0 / (z[i] / x[i] + w[i] / s[i])
            add_row(Z, lo + i, p, weight[i], z[i] - w[i], A, v)
        for j in range(p):
            rhs[j] = v[j]
        # the predictor
        factorize(p, A, FAINT)  # flat directions stay as they are
        substitute(p, A, v)
        for i in range(n):
            along = 0.0
            for j in range(p):
                along += Z[lo + i, j] * v[j]
            dx[i] = weight[i] * (along - (z[i] - w[i]))
            dz[i] = -z[i] * (1.0 + dx[i] / x[i])
            dw[i] = -w[i] * (1.0 - dx[i] / s[i])
        primal, dual = find_steps(x, s, z, w, dx, dz, dw, n)
        if min(primal, dual) < 1.0:
            now = 0.0
            then = 0.0
            for i in range(n):
                now += z[i] * x[i] + w[i] * s[i]
                then += (z[i] + dual * dz[i]) * (x[i] + primal * dx[i])
                then += (w[i] + dual * dw[i]) * (s[i] - primal * dx[i])
            ratio = then / now
            mu = now * ratio * ratio * ratio / (2.0 * n)
            for j in range(p):
                v[j] = rhs[j]
            for i in range(n):
                second = dx[i] * dz[i] / x[i] + dx[i] * dw[i] / s[i] - mu * (1.0 / x[i] - 1.0 / s[i])
                for j in range(p):
                    v[j] += weight[i] * second * Z[lo + i, j]
            substitute(p, A, v)
            for i in range(n):
                along = 0.0
                for j in range(p):
                    along += Z[lo + i, j] * v[j]
                xz = dx[i] * dz[i]
                sw = -dx[i] * dw[i]
                change = mu * (1.0 / x[i] - 1.0 / s[i]) - xz / x[i] + sw / s[i]
                dx[i] = weight[i] * (along - (z[i] - w[i]) + change)
                dz[i] = mu / x[i] - z[i] - z[i] * dx[i] / x[i] - xz / x[i]
                dw[i] = mu / s[i] - w[i] + w[i] * dx[i] / s[i] - sw / s[i]
            primal, dual = find_steps(x, s, z, w, dx, dz, dw, n)
        for j in range(p):
            theta[j] -= dual * v[j]
        gap = 0.0
        for i in range(n):
            x[i] += primal * dx[i]
            s[i] -= primal * dx[i]
            z[i] += dual * dz[i]
            w[i] += dual * dw[i]
            gap += z[i] * x[i] + w[i] * s[i]
        if not gap < math.inf:
            gap = math.inf
            iteration = maxiter
    return gap <= enough


@entry
def quantile_groups(
    Z: FloatArray,
    offsets: IntArray,
    g0: int,
    g1: int,
    p: int,
    quantile: float,
    maxiter: int,
    rows: FloatArray,
    A: FloatArray,
    v: FloatArray,
    rhs: FloatArray,
    theta: FloatArray,
    scale: FloatArray,
    status: Any,
) -> None:
    """Quantile regression of groups g0:g1, and the scale of the residuals."""
    for g in range(g0, g1):
        lo = offsets[g]
        n = offsets[g + 1] - lo
        for q in range(theta.shape[1]):
            own = theta[g, q]
            done = find_quantile(Z, lo, lo + n, p, p + q, quantile, maxiter, own, rows, A, v, rhs)
            find_residuals(Z, lo, 1, n, p, p + q, own, rows[0])
            scale[g, q] = find_scale(rows[0], n, rows[1])
            status[g, q] = 0 if done else NOT_CONVERGED
