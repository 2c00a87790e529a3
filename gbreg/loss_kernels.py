# SPDX-License-Identifier: MIT
"""Compiled kernels of fits that minimise another loss than squares; `gbreg.minimizers` in loops.

``Z`` (n, p + t + 1) holds p columns that are orthonormal within each group, t targets of length 1 or
less, and ones, as `gbreg.losses` makes it: so nothing here has a unit, and sums of products are
well conditioned.

Each group is copied to the rows of a scratch array ``C``: columns 0 to p - 1, then what `TARGET` and
the names after it say, and last p columns for products. Its width is a multiple of 4; where a
group ends before, columns and weights are 0, so that sums run four at a time in the same order
always. ``n`` is the number of rows, ``width`` the next multiple of 4.
"""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import entry, kernel
from gbreg.kernels import median, select
from gbreg.problem import FloatArray, IntArray

# As in gbreg.minimum and gbreg.problem; a test holds them equal.
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
CONCENTRATED = 1
TIE = 1e-8
SAMPLED = 128
HUBER, BISQUARE = 0, 1
NOT_CONVERGED = 5

FEW = 32  # rows whose order statistics are counted, which is faster than to select them
TARGET, RESID, WEIGHT, SIZE = 0, 1, 2, 3  # places in C, from p on
PRIMAL, DUAL_Z, DUAL_W, PRIMAL_STEP, Z_STEP, W_STEP, CHANGE, SLACK = 4, 5, 6, 7, 8, 9, 10, 11
PRODUCTS = 12
SCRATCH_ROWS = PRODUCTS  # and 2 p


@kernel
def copy_group(Z: FloatArray, lo: int, step: int, n: int, p: int, column: int, C: FloatArray) -> int:
    """Rows lo, lo + step, ..., n of them, into C; the width."""
    width = 4 * ((n + 3) // 4)
    for i in range(n):
        row = lo + i * step
        for j in range(p):
            C[j, i] = Z[row, j]
        C[p + TARGET, i] = Z[row, column]
    for i in range(n, width):
        for j in range(p):
            C[j, i] = 0.0
        C[p + TARGET, i] = 0.0
        C[p + WEIGHT, i] = 0.0
    return width


@kernel
def dot(C: FloatArray, a: int, b: int, width: int) -> float:
    """Sum of the products of two rows of C."""
    s0 = 0.0
    s1 = 0.0
    s2 = 0.0
    s3 = 0.0
    for block in range(width // 4):
        i = 4 * block
        s0 += C[a, i] * C[b, i]
        s1 += C[a, i + 1] * C[b, i + 1]
        s2 += C[a, i + 2] * C[b, i + 2]
        s3 += C[a, i + 3] * C[b, i + 3]
    return (s0 + s1) + (s2 + s3)


@kernel
def normal_equations(C: FloatArray, p: int, right: int, width: int, A: FloatArray, v: FloatArray) -> None:
    """A (lower triangle) = sum weight q q', v = sum weight q C[right]."""
    for j in range(p):
        for i in range(width):
            C[p + PRODUCTS + j, i] = C[p + WEIGHT, i] * C[j, i]
    for j in range(p):
        v[j] = dot(C, p + PRODUCTS + j, right, width)
        for m in range(j + 1):
            A[j, m] = dot(C, p + PRODUCTS + j, m, width)


@kernel
def factorize(p: int, A: FloatArray, smallest: float) -> bool:
    """L D L' in place, with 1 / D on the diagonal; False if a pivot is not above ``smallest``.

    A pivot that is not is infinite: its coefficient is 0.
    """
    full = True
    for j in range(p):
        size = A[j, j]
        pivot = size
        for m in range(j):
            pivot -= A[j, m] * A[j, m] * A[m, m]
        above = pivot > smallest * size
        full = full and above
        A[j, j] = 1.0 / pivot if above else 0.0
        for i in range(j + 1, p):
            rest = A[i, j]
            for m in range(j):
                rest -= A[i, m] * A[j, m] * A[m, m]
            A[i, j] = rest
    return full


@kernel
def substitute(p: int, A: FloatArray, v: FloatArray) -> None:
    """``v = A^-1 v`` of a factorized A: below its diagonal are the columns of L times D."""
    for j in range(p):
        for m in range(j):
            v[j] -= A[j, m] * A[m, m] * v[m]
    for j in range(p - 1, -1, -1):
        for m in range(j + 1, p):
            v[j] -= A[m, j] * v[m]
        v[j] *= A[j, j]


@kernel
def solve(p: int, A: FloatArray, v: FloatArray) -> bool:
    """``v = A^-1 v``, A overwritten; False if A is singular."""
    full = factorize(p, A, DEPENDENT)
    substitute(p, A, v)
    return full


@kernel
def combine(C: FloatArray, p: int, theta: FloatArray, width: int, to: int) -> None:
    """C[to] = sum of columns times theta."""
    for block in range(width // 4):
        i = 4 * block
        s0 = 0.0
        s1 = 0.0
        s2 = 0.0
        s3 = 0.0
        for j in range(p):
            b = theta[j]
            s0 += C[j, i] * b
            s1 += C[j, i + 1] * b
            s2 += C[j, i + 2] * b
            s3 += C[j, i + 3] * b
        C[to, i] = s0
        C[to, i + 1] = s1
        C[to, i + 2] = s2
        C[to, i + 3] = s3


@kernel
def find_residuals(C: FloatArray, p: int, theta: FloatArray, width: int) -> None:
    """RESID = target - columns theta, and SIZE its absolute value."""
    combine(C, p, theta, width, p + RESID)
    for i in range(width):
        r = C[p + TARGET, i] - C[p + RESID, i]
        C[p + RESID, i] = r
        C[p + SIZE, i] = abs(r)


@kernel
def order_statistic(C: FloatArray, row: int, n: int, rank: int, sizes: FloatArray) -> float:
    """The rank-th smallest, from 0, of C[row, :n]."""
    chosen = -math.inf
    if n <= FEW:  # the largest of those that at most ``rank`` are less than
        for i in range(n):
            value = C[row, i]
            less = 0
            for m in range(n):
                less += C[row, m] < value
            able = value if less <= rank else -math.inf
            chosen = able if able > chosen else chosen
    else:
        for i in range(n):
            sizes[i] = C[row, i]
        chosen = select(sizes, n, rank)
    return chosen


@kernel
def find_scale(C: FloatArray, p: int, n: int, sizes: FloatArray) -> float:
    """1.4826 median(SIZE), not below what rounding leaves."""
    row = p + SIZE
    if n <= FEW:
        half = n // 2
        other = half - 1 + n % 2
        upper = -math.inf
        lower = -math.inf
        for i in range(n):
            value = C[row, i]
            less = 0
            for m in range(n):
                less += C[row, m] < value
            able = value if less <= half else -math.inf
            upper = able if able > upper else upper
            able = value if less <= other else -math.inf
            lower = able if able > lower else lower
        middle = 0.5 * lower + 0.5 * upper
    else:
        for i in range(n):
            sizes[i] = C[row, i]
        middle = median(sizes, n)
    return max(NORMAL * middle, FLOOR)


@kernel
def weigh_within(C: FloatArray, p: int, n: int, cut: float) -> int:
    """WEIGHT 1 where SIZE is at most ``cut``, rounding aside, else 0; how many there are."""
    within = 0
    limit = (1.0 + TIE) * cut + FLOOR
    for i in range(n):
        inside = C[p + SIZE, i] <= limit
        C[p + WEIGHT, i] = 1.0 if inside else 0.0
        within += inside
    return within


@kernel
def trimmed(C: FloatArray, p: int, n: int, width: int, h: int, cut: float) -> float:
    """Sum of the h smallest squares, the root of the largest of which is ``cut``."""
    within = 0
    for i in range(n):
        inside = C[p + SIZE, i] < cut
        C[p + WEIGHT, i] = C[p + SIZE, i] if inside else 0.0
        within += inside
    return dot(C, p + WEIGHT, p + WEIGHT, width) + (h - within) * cut * cut


@kernel
def fit_drawn(
    C: FloatArray,
    p: int,
    n: int,
    draws: FloatArray,
    trial: int,
    picked: IntArray,
    A: FloatArray,
    v: FloatArray,
) -> bool:
    """The fit through p rows, which a row of ``draws`` picks without repetition; False if there is none."""
    for j in range(p):
        v[j] = 0.0
        for m in range(j + 1):
            A[j, m] = 0.0
    for j in range(p):
        k = int(draws[trial, j] * (n - j))
        place = 0
        while place < j and k >= picked[place]:
            k += 1
            place += 1
        for m in range(j, place, -1):
            picked[m] = picked[m - 1]
        picked[place] = k
        for a in range(p):
            v[a] += C[a, k] * C[p + TARGET, k]
            for b in range(a + 1):
                A[a, b] += C[a, k] * C[b, k]
    return solve(p, A, v)


@kernel
def clipped_sum(C: FloatArray, p: int, width: int, bound: float) -> float:
    """Sum of min(SIZE, bound)^2; rows from n on have no size."""
    s0 = 0.0
    s1 = 0.0
    s2 = 0.0
    s3 = 0.0
    for block in range(width // 4):
        i = 4 * block
        a = min(C[p + SIZE, i], bound)
        b = min(C[p + SIZE, i + 1], bound)
        c = min(C[p + SIZE, i + 2], bound)
        d = min(C[p + SIZE, i + 3], bound)
        s0 += a * a
        s1 += b * b
        s2 += c * c
        s3 += d * d
    return (s0 + s1) + (s2 + s3)


@kernel
def is_less(total: float, other: float) -> bool:
    """Whether by more than rounding: on ties backends would not keep the same."""
    return total < (1.0 - TIE) * other - FLOOR * FLOOR


@kernel
def start_robust(
    p: int,
    n: int,
    width: int,
    draws: FloatArray,
    C: FloatArray,
    theta: FloatArray,
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
    h = n - 3 * n // 10
    last = KEPT_STARTS - 1
    for b in range(KEPT_STARTS):
        best[b, p] = math.inf
    bound = 0.0
    for trial in range(draws.shape[0]):
        if fit_drawn(C, p, n, draws, trial, picked, A, v):
            find_residuals(C, p, v, width)
            worst = best[last, p]
            # a bound of the sum tells without sorting, for most of the fits
            if worst == math.inf or clipped_sum(C, p, width, bound) - (n - h) * bound * bound < worst:
                cut = order_statistic(C, p + SIZE, n, h - 1, sizes)
                total = trimmed(C, p, n, width, h, cut)
                if is_less(total, worst):
                    b = last
                    while b > 0 and is_less(total, best[b - 1, p]):
                        for j in range(p + 1):
                            best[b, j] = best[b - 1, j]
                        b -= 1
                    for j in range(p):
                        best[b, j] = v[j]
                    best[b, p] = total
                    bound = cut
    least = math.inf
    for b in range(KEPT_STARTS):
        total = best[b, p]
        for j in range(p):
            v[j] = best[b, j]
        steps = 0
        while steps <= CONCENTRATED and total < math.inf:
            steps += 1
            if is_less(total, least):
                least = total
                for j in range(p):
                    theta[j] = v[j]
            total = math.inf
            if steps <= CONCENTRATED:
                find_residuals(C, p, v, width)
                weigh_within(C, p, n, order_statistic(C, p + SIZE, n, h - 1, sizes))
                normal_equations(C, p, p + TARGET, width, A, v)
                if solve(p, A, v):
                    find_residuals(C, p, v, width)
                    cut = order_statistic(C, p + SIZE, n, h - 1, sizes)
                    total = trimmed(C, p, n, width, h, cut)


@kernel
def reweight(
    p: int,
    n: int,
    width: int,
    which: int,
    tuning: float,
    inflated: float,
    maxiter: int,
    C: FloatArray,
    theta: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
) -> tuple[float, bool]:
    """Iterate weighted least squares from ``theta`` to the end; the scale, and whether it was reached."""
    find_residuals(C, p, theta, width)
    scale = inflated * find_scale(C, p, n, sizes)
    done = False
    last = 0.0
    iteration = 0
    while iteration < maxiter and not done:
        iteration += 1
        limit = tuning * scale
        if which == HUBER:
            for i in range(n):
                size = C[p + SIZE, i]
                C[p + WEIGHT, i] = 1.0 if size <= limit else limit / size
        else:
            for i in range(n):
                part = C[p + SIZE, i] / limit
                rest = max(1.0 - part * part, 0.0)
                C[p + WEIGHT, i] = rest * rest
        normal_equations(C, p, p + RESID, width, A, v)
        if solve(p, A, v):
            largest = 0.0
            for j in range(p):
                theta[j] += v[j]
                largest = max(largest, abs(v[j]))
            find_residuals(C, p, theta, width)
            change = find_scale(C, p, n, sizes) - scale
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
    draws: FloatArray,
    least_rows: int,
    maxiter: int,
    C: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    picked: IntArray,
    best: FloatArray,
    theta: FloatArray,
    scale: FloatArray,
    status: Any,
) -> None:
    """Huber's and Tukey's estimates of groups g0:g1; ``draws`` without rows start from least squares."""
    for g in range(g0, g1):
        lo = offsets[g]
        n = offsets[g + 1] - lo
        for q in range(theta.shape[1]):
            own = theta[g, q]
            for j in range(p):
                own[j] = 0.0
            inflated = 1.0
            if draws.shape[0] > 0 and n >= least_rows:
                step = (n + SAMPLED - 1) // SAMPLED
                few = (n + step - 1) // step
                width = copy_group(Z, lo, step, few, p, p + q, C)
                start_robust(p, few, width, draws, C, own, sizes, A, v, picked, best)
                inflated += 5.0 / (n - p)
            width = copy_group(Z, lo, 1, n, p, p + q, C)
            size, done = reweight(p, n, width, which, tuning, inflated, maxiter, C, own, sizes, A, v)
            scale[g, q] = size
            status[g, q] = 0 if done else NOT_CONVERGED


@kernel
def longest_step(C: FloatArray, values: int, change: int, sign: float, n: int) -> float:
    """1 over the largest step for which C[values] + sign step C[change] is not negative."""
    most = 0.0
    for i in range(n):
        most = max(most, -sign * C[change, i] / C[values, i])
    return most


@kernel
def find_steps(C: FloatArray, p: int, n: int) -> tuple[float, float]:
    """How far multipliers, and their slacks, can go and stay positive; at most 1."""
    primal = max(
        longest_step(C, p + PRIMAL, p + PRIMAL_STEP, 1.0, n),
        longest_step(C, p + SLACK, p + PRIMAL_STEP, -1.0, n),
    )
    dual = max(
        longest_step(C, p + DUAL_Z, p + Z_STEP, 1.0, n), longest_step(C, p + DUAL_W, p + W_STEP, 1.0, n)
    )
    return STEP / max(primal, STEP), STEP / max(dual, STEP)


@kernel
def find_quantile(
    p: int,
    n: int,
    width: int,
    quantile: float,
    maxiter: int,
    C: FloatArray,
    theta: FloatArray,
    A: FloatArray,
    v: FloatArray,
    right: FloatArray,
) -> bool:
    """Minimise sum (quantile - [r < 0]) r, r = target - Z theta; whether the minimum was reached.

    The Frisch-Newton interior point method with Mehrotra's predictor and corrector, on the dual:
    Portnoy and Koenker 1997. PRIMAL and SLACK = 1 - PRIMAL are the multipliers of rows,
    DUAL_Z - DUAL_W is minus the residual.
    """
    for j in range(p):
        theta[j] = 0.0
    for i in range(n):
        C[p + PRIMAL, i] = 1.0 - quantile
        C[p + SLACK, i] = quantile
        C[p + DUAL_Z, i] = max(-C[p + TARGET, i], 0.0) + START
        C[p + DUAL_W, i] = max(C[p + TARGET, i], 0.0) + START
    for row in range(p + PRIMAL, p + PRODUCTS):
        for i in range(n, width):
            C[row, i] = 0.0
    gap = math.inf
    enough = max(GAP, ROUNDING * n)
    iteration = 0
    while iteration < maxiter and gap > enough:
        iteration += 1
        for i in range(n):
            z = C[p + DUAL_Z, i]
            w = C[p + DUAL_W, i]
            C[p + WEIGHT, i] = 1.0 / (z / C[p + PRIMAL, i] + w / C[p + SLACK, i])
            C[p + RESID, i] = z - w
        for i in range(n, width):
            C[p + RESID, i] = 0.0
        normal_equations(C, p, p + RESID, width, A, v)
        for j in range(p):
            right[j] = v[j]
        factorize(p, A, FAINT)  # flat directions stay as they are
        substitute(p, A, v)
        combine(C, p, v, width, p + SIZE)
        for i in range(n):
            step = C[p + WEIGHT, i] * (C[p + SIZE, i] - C[p + RESID, i])
            C[p + PRIMAL_STEP, i] = step
            C[p + Z_STEP, i] = -C[p + DUAL_Z, i] * (1.0 + step / C[p + PRIMAL, i])
            C[p + W_STEP, i] = -C[p + DUAL_W, i] * (1.0 - step / C[p + SLACK, i])
        primal, dual = find_steps(C, p, n)
        if min(primal, dual) < 1.0:
            now = dot(C, p + DUAL_Z, p + PRIMAL, width) + dot(C, p + DUAL_W, p + SLACK, width)
            along = dot(C, p + DUAL_Z, p + PRIMAL_STEP, width) - dot(C, p + DUAL_W, p + PRIMAL_STEP, width)
            across = dot(C, p + Z_STEP, p + PRIMAL, width) + dot(C, p + W_STEP, p + SLACK, width)
            both = dot(C, p + Z_STEP, p + PRIMAL_STEP, width) - dot(C, p + W_STEP, p + PRIMAL_STEP, width)
            then = now + primal * along + dual * across + primal * dual * both
            ratio = max(then, 0.0) / now
            mu = now * ratio * ratio * ratio / (2.0 * n)
            for i in range(n):
                x = C[p + PRIMAL, i]
                s = C[p + SLACK, i]
                xz = (mu - C[p + PRIMAL_STEP, i] * C[p + Z_STEP, i]) / x
                sw = (mu + C[p + PRIMAL_STEP, i] * C[p + W_STEP, i]) / s
                C[p + CHANGE, i] = xz - sw
                C[p + Z_STEP, i] = xz
                C[p + W_STEP, i] = sw
            for j in range(p):
                v[j] = right[j] - dot(C, p + PRODUCTS + j, p + CHANGE, width)
            substitute(p, A, v)
            combine(C, p, v, width, p + SIZE)
            for i in range(n):
                step = C[p + WEIGHT, i] * (C[p + SIZE, i] - C[p + RESID, i] + C[p + CHANGE, i])
                C[p + PRIMAL_STEP, i] = step
                C[p + Z_STEP, i] += -C[p + DUAL_Z, i] * (1.0 + step / C[p + PRIMAL, i])
                C[p + W_STEP, i] += -C[p + DUAL_W, i] * (1.0 - step / C[p + SLACK, i])
            primal, dual = find_steps(C, p, n)
        for j in range(p):
            theta[j] -= dual * v[j]
        for i in range(n):
            C[p + PRIMAL, i] += primal * C[p + PRIMAL_STEP, i]
            C[p + SLACK, i] -= primal * C[p + PRIMAL_STEP, i]
            C[p + DUAL_Z, i] += dual * C[p + Z_STEP, i]
            C[p + DUAL_W, i] += dual * C[p + W_STEP, i]
        gap = dot(C, p + DUAL_Z, p + PRIMAL, width) + dot(C, p + DUAL_W, p + SLACK, width)
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
    C: FloatArray,
    sizes: FloatArray,
    A: FloatArray,
    v: FloatArray,
    right: FloatArray,
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
            width = copy_group(Z, lo, 1, n, p, p + q, C)
            done = find_quantile(p, n, width, quantile, maxiter, C, own, A, v, right)
            find_residuals(C, p, own, width)
            scale[g, q] = find_scale(C, p, n, sizes)
            status[g, q] = 0 if done else NOT_CONVERGED
