# SPDX-License-Identifier: MIT
"""The fast path: plain float64, four groups at a time, each in its lane of `gbreg.sum_kernels`.

Inputs and outputs are those of `gbreg.kernels`; Pg and Tg are lanes with what four groups have in P and T.

An array that is last used on one side of a branch keeps its reference count: variables here end after
loops or at the end of functions.
"""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import entry, inlined, prefetch
from gbreg._lanes import LANES, gather, load, magnitudes, put_beside, spread, sqrts, store, where
from gbreg.kernels import (
    ASKED,
    CENTER,
    CONSTANT_TARGET,
    LEVEL,
    LOG_WSUM,
    LONG,
    MAD,
    NO_DATA,
    OK,
    PARAMS,
    PERFECT_FIT,
    PIVOT,
    RESID_NORM,
    SATURATED,
    SHORT,
    SMALLEST_NORMAL,
    TARGET_NORM,
    TOO_FEW_ROWS,
    WSUM,
    Settings,
    clear_lanes,
    log_sum,
    places,
    two_product,
    two_sum,
)
from gbreg.median_kernels import median_deviation
from gbreg.problem import FloatArray, IntArray
from gbreg.sum_kernels import (
    all_equal,
    final_residuals,
    set_deviations,
    set_first,
    set_lanes,
    set_reference,
    sum_kept_logs,
    sum_moments,
    sum_residuals,
)

CANCELLED = 1 / SHORT  # least centred over uncentred sum of squares before the reference is moved
CANCELLED_DEPENDENT = 0.5  # the same of predictors whose smallest pivot is below
DEPENDENT = 1 / 64


@inlined
def centre(token: Any, intercept: bool, moments: FloatArray, mean: FloatArray, before: FloatArray) -> None:
    """Means about the reference, and cross products about the mean; before (c,) keeps the sums of squares."""
    k = len(token)
    c = mean.shape[0]
    base = k * (k + 1) // 2 + (c - k) * (k + 1)
    for j in range(c):
        store(mean, j, load(moments, base + j) / load(moments, base + c) if intercept else spread(0.0))
    a = 0
    for j in range(c):
        total = load(moments, base + j)
        stop = j if j < k else k
        store(before, j, load(moments, a + stop))
        if intercept:
            for m in range(stop + 1):
                store(moments, a + m, load(moments, a + m) - total * load(mean, j if m == stop else m))
        a += stop + 1


@inlined
def set_away(
    token: Any,
    smallest: FloatArray,
    mean: FloatArray,
    moments: FloatArray,
    before: FloatArray,
    away: FloatArray,
    near: FloatArray,
) -> None:
    """The mean into away (c,) where its distance has cost too many digits, else 0; near (1,) is 0 if any has.

    Predictors that are nearly dependent, by their smallest pivot, have less to spare. Each column by
    itself, so that targets do not depend on each other.
    """
    k = len(token)
    left = where(load(smallest, 0) < DEPENDENT, CANCELLED_DEPENDENT, CANCELLED)
    store(near, 0, 1.0)
    a = 0
    for j in range(mean.shape[0]):
        a += j if j < k else k
        fine = load(moments, a) >= load(before, j) * (left if j < k else spread(CANCELLED))
        store(away, j, where(fine, 0.0, load(mean, j)))
        store(near, 0, where(fine, load(near, 0), 0.0))
        a += 1


@inlined
def move_reference(away: FloatArray, ref: FloatArray) -> None:
    """To the mean, once that is known, where it is far away."""
    for j in range(ref.shape[0]):
        store(ref, j, load(ref, j) + load(away, j))


@inlined
def settle_reference(ref: FloatArray, mean: FloatArray) -> None:
    """To the mean as rounded, ``mean`` keeps the rest: a reference far out would cost residuals digits."""
    for j in range(ref.shape[0]):
        there, rest = two_sum(load(ref, j), load(mean, j))
        store(ref, j, there)
        store(mean, j, rest)


@inlined
def factorise(
    token: Any,
    rows: FloatArray,
    ref: FloatArray,
    mean: FloatArray,
    first: FloatArray,
    moments: FloatArray,
    factor: FloatArray,
    diag: FloatArray,
    smallest: FloatArray,
    s: Settings,
) -> None:
    """S = L D L' with unit lower L; smallest (1,) is the least pivot relative to its S_jj.

    On the diagonal of ``factor`` (k k,) are the reciprocals of D: divisions are slow. rows (1,) are the
    sizes of the groups.

    NaN where the fast path must not go on: sums out of range, a pivot that is not
    positive, a first row so far out that it is another kind of number, or a column so nearly
    constant that rounding of the data may be all that varies.
    """
    k = len(token)
    wsum = load(moments, moments.shape[0] - 1)
    n = load(rows, 0)
    least = where((wsum > s.tiny) & (wsum < s.huge), 1.0, math.nan)
    a = 0
    for i in range(k):
        for j in range(i):
            v = load(moments, a + j)
            for m in range(j):
                v -= load(factor, i * k + m) * load(diag, m) * load(factor, j * k + m)
            store(factor, i * k + j, v * load(factor, j * k + j))
        own = load(moments, a + i)
        v = load(moments, a + i)
        for m in range(i):
            v -= load(factor, i * k + m) * load(diag, m) * load(factor, i * k + m)  # L alone may be tiny
        store(diag, i, v)
        store(factor, i * k + i, 1.0 / v)
        center = (load(ref, i) + load(mean, i)) * s.rank
        distance = load(first, i)
        fine = own * s.pivot > n * (wsum * center * center + own * (s.rank * s.rank))
        fine &= own > wsum * s.spread * distance * distance
        fine &= (own > s.tiny) & (own < s.huge) & (v > 0.0)
        ratio = v / own
        least = where(fine, where(ratio < least, ratio, least), math.nan)
        a += i + 1
    store(smallest, 0, least)


@inlined
def solve(token: Any, factor: FloatArray, v: FloatArray) -> None:
    """Solve L D L' x = v (k,) in place."""
    k = len(token)
    for j in range(k):
        x = load(v, j)
        for m in range(j):
            x -= load(factor, j * k + m) * load(v, m)
        store(v, j, x)
    for j in range(k):
        store(v, j, load(v, j) * load(factor, j * k + j))
    for j in range(k - 1, -1, -1):
        x = load(v, j)
        for m in range(j + 1, k):
            x -= load(factor, m * k + j) * load(v, m)
        store(v, j, x)


@inlined
def first_coef(
    token: Any,
    mean: FloatArray,
    moments: FloatArray,
    factor: FloatArray,
    step: FloatArray,
    coef: FloatArray,
    start: FloatArray,
) -> None:
    """Coefficients (t k,) and fitted values at the reference, (t,): before refinement."""
    k = len(token)
    a = k * (k + 1) // 2
    for q in range(start.shape[0]):
        for j in range(k):
            store(step, j, load(moments, a + j))
        solve(token, factor, step)
        there = load(mean, k + q)
        for j in range(k):
            store(coef, q * k + j, load(step, j))
            there -= load(step, j) * load(mean, j)
        store(start, q, there)
        a += k + 1


@inlined
def refine(
    token: Any,
    intercept: bool,
    moments: FloatArray,
    factor: FloatArray,
    grad: FloatArray,
    step: FloatArray,
    coef: FloatArray,
    low: FloatArray,
    shift: FloatArray,
    rss: FloatArray,
) -> None:
    """One Newton step from the residuals; low (t k,) keeps what rounding takes from the coefficients.

    shift (t,) is the fitted value at the mean, minus the mean of the target. The residual sum of
    squares is a parabola about its minimum, so rss (t,) after the step is that before, less
    step' gradient: rounding errors, nothing cancels.
    """
    k = len(token)
    wsum = load(moments, moments.shape[0] - 1)
    a = 0
    for q in range(shift.shape[0]):
        total = load(grad, a + k)
        moved = total / wsum if intercept else spread(0.0)
        store(shift, q, moved)
        left = load(grad, a + k + 1) - moved * total
        for j in range(k):
            store(step, j, load(grad, a + j))
        solve(token, factor, step)
        for j in range(k):
            left -= load(step, j) * load(grad, a + j)
            h, e = two_sum(load(coef, q * k + j), load(step, j))
            store(coef, q * k + j, h)
            store(low, q * k + j, e)
        store(rss, q, left)
        a += k + 2


@inlined
def set_base(origin: FloatArray, g: int, last: int, base: FloatArray) -> None:
    """The origin of each column into base (c,): what stored values and it add up to are the caller's."""
    last = min(last, origin.shape[0] - 1)
    for j in range(base.shape[0]):
        own = gather(origin, min(g, last), min(g + 1, last), min(g + 2, last), min(g + 3, last), j)
        store(base, j, own)


@inlined
def write_pattern(
    base: FloatArray,
    token: Any,
    intercept: bool,
    smallest: FloatArray,
    ref: FloatArray,
    mean: FloatArray,
    moments: FloatArray,
    factor: FloatArray,
    step: FloatArray,
    inverse: FloatArray,
    Pg: FloatArray,
) -> None:
    """What the targets share, in the order of P; inverse (k k,) is scratch."""
    k = len(token)
    norm, xcorr, root, slope, corr = places(k, intercept)
    wsum = load(moments, moments.shape[0] - 1)
    store(Pg, WSUM, wsum)
    store(Pg, PIVOT, load(smallest, 0))
    a = 0
    for i in range(k):
        store(Pg, CENTER + i, load(ref, i) + load(mean, i))
        own = sqrts(load(moments, a + i))
        store(Pg, norm + i, own)
        unit = 1.0 / own
        store(step, i, unit)
        for j in range(i):
            store(Pg, xcorr, load(moments, a + j) * unit * load(step, j))
            xcorr += 1
        a += i + 1
    for j in range(k):
        for i in range(k):
            store(step, i, 1.0 if i == j else 0.0)
        solve(token, factor, step)
        for i in range(k):
            store(inverse, i * k + j, load(step, i))
    spread_out = 1.0 / wsum
    for i in range(k if intercept else 0):
        v = spread(0.0)
        for j in range(k):
            v += load(inverse, i * k + j) * (load(ref, j) + load(mean, j) + load(base, j))
        store(step, i, v)
        spread_out += v * (load(ref, i) + load(mean, i) + load(base, i))
    spread_out = sqrts(spread_out)
    if intercept:
        store(Pg, root, spread_out)
    spread_out = -1.0 / spread_out
    for i in range(k):
        own = sqrts(load(inverse, i * k + i))
        store(Pg, slope + i, own)
        unit = 1.0 / own
        store(inverse, i * k + i, unit)
        if intercept:
            store(Pg, corr, load(step, i) * spread_out * unit)
            corr += 1
        for j in range(i):
            store(Pg, corr, load(inverse, i * k + j) * unit * load(inverse, j * k + j))
            corr += 1


@inlined
def set_typical(
    token: Any, ref: FloatArray, mean: FloatArray, moments: FloatArray, typical: FloatArray
) -> None:
    """Root mean square of each predictor, into typical (k,)."""
    spread_out = 1.0 / load(moments, moments.shape[0] - 1)
    a = 0
    for j in range(len(token)):
        center = load(ref, j) + load(mean, j)
        store(typical, j, sqrts(center * center + load(moments, a + j) * spread_out))
        a += j + 1


@inlined
def judge_target(
    token: Any,
    q: int,
    s: Settings,
    rss: FloatArray,
    ref: FloatArray,
    mean: FloatArray,
    first: FloatArray,
    moments: FloatArray,
    typical: FloatArray,
    coef: FloatArray,
    good: FloatArray,
    noise: FloatArray,
) -> None:
    """Whether numbers of the target are in range, good (t,), and residuals too small, noise (t,): 1 or 0."""
    k = len(token)
    column = k + q
    wsum = load(moments, moments.shape[0] - 1)
    tss = load(moments, k * (k + 1) // 2 + q * (k + 1) + k)
    left = load(rss, q)
    level = load(ref, column) + load(mean, column)
    far = load(first, column)
    spread_out = 1.0 / wsum
    size = sqrts(level * level + tss * spread_out)  # of the terms: far below it, residuals are rounding noise
    fine = (left < math.inf) & (tss > s.tiny) & (tss < s.huge) & (tss > wsum * s.spread * far * far)
    for j in range(k):
        b = magnitudes(load(coef, q * k + j))
        size += b * load(typical, j)
        fine &= (b == 0.0) | ((b >= SMALLEST_NORMAL) & (b < math.inf))
    least = sqrts(where(left > 0.0, left, 0.0) * spread_out)
    store(good, q, where(fine, 1.0, 0.0))
    store(noise, q, where((left < tss * s.rss) | (least <= size * s.perfect), 1.0, 0.0))


@inlined
def decide(
    Z: FloatArray,
    lo: int,
    hi: int,
    token: Any,
    q: int,
    lane: int,
    intercept: bool,
    moments: FloatArray,
    good: FloatArray,
    noise: FloatArray,
) -> int:
    """Status and flags of a target, ``status + 16 * flags``; -1 if it needs the extended path."""
    k = len(token)
    column = k + q
    saturated = hi - lo == (k + 1 if intercept else k)
    flat = moments[k * (k + 1) // 2 + q * (k + 1) + k, lane] == 0.0
    first = Z[lo, column]
    same = all_equal(Z, column, lo, hi if flat else lo, first if intercept else 0.0)
    constant = flat and same
    fine = good[q, lane] == 1.0
    small = noise[q, lane] == 1.0
    code = SATURATED if saturated else OK
    if constant:
        code += 16 * (CONSTANT_TARGET if saturated else CONSTANT_TARGET | PERFECT_FIT)
    elif not fine or (small and not saturated):
        code = -1
    return code


@inlined
def write_target(
    base: FloatArray,
    q: int,
    token: Any,
    intercept: bool,
    rss: FloatArray,
    ref: FloatArray,
    mean: FloatArray,
    moments: FloatArray,
    coef: FloatArray,
    low: FloatArray,
    shift: FloatArray,
    Tg: FloatArray,
) -> None:
    """Coefficients and norms of one target, in the order of T.

    The intercept is summed with the parts that rounding took (Ogita, Rump, Oishi 2005), so
    that it is as good as the slopes when it is small beside the data.
    """
    k = len(token)
    column = k + q
    slope = PARAMS + 1 if intercept else PARAMS
    own = q * (slope + k)
    level, level_low = two_sum(load(ref, column), load(mean, column))
    level, e = two_sum(level, load(shift, q))
    level_low += e
    total, total_low = spread(0.0), spread(0.0)  # coef * center, as the caller's values
    for j in range(k):
        b = load(coef, q * k + j)
        store(Tg, own + slope + j, b)
        center, rest = two_sum(load(ref, j), load(mean, j))
        level_low -= b * rest  # the level is the value at the rounded center
        there = center + load(base, j)
        h, e = two_product(b, there)
        total_low += e + load(low, q * k + j) * there
        total, e = two_sum(total, h)
        total_low += e
    store(Tg, own + LEVEL, level + level_low if intercept else spread(0.0))
    h, e = two_sum(level, -total)
    constant = h + (e + (level_low - total_low)) + load(base, column)
    if intercept:
        store(Tg, own + PARAMS, constant)
    left = load(rss, q)
    store(Tg, own + TARGET_NORM, sqrts(load(moments, k * (k + 1) // 2 + q * (k + 1) + k)))
    store(Tg, own + RESID_NORM, sqrts(where(left > 0.0, left, 0.0)))


@inlined
def hand_out(values: FloatArray, g: int, last: int, columns: FloatArray) -> None:
    """``columns[:, g:last + 1]``, from lanes."""
    for c in range(values.shape[0]):
        if last - g == LANES - 1:
            put_beside(columns, c, g, load(values, c))
        else:
            for m in range(last - g + 1):
                columns[c, g + m] = values[c, m]


@entry
def fit_groups(
    Z: FloatArray,
    offsets: IntArray,
    origin: FloatArray,
    row0: int,
    g0: int,
    g1: int,
    token: Any,
    s: Settings,
    lo: IntArray,
    n: IntArray,
    start: IntArray,
    size: IntArray,
    rows: FloatArray,
    near: FloatArray,
    smallest: FloatArray,
    logs: FloatArray,
    good: FloatArray,
    noise: FloatArray,
    ref: FloatArray,
    mean: FloatArray,
    first: FloatArray,
    before: FloatArray,
    away: FloatArray,
    base: FloatArray,
    D: FloatArray,
    row: FloatArray,
    S: FloatArray,
    own: FloatArray,
    own_coef: FloatArray,
    own_there: FloatArray,
    moments: FloatArray,
    factor: FloatArray,
    diag: FloatArray,
    inverse: FloatArray,
    step: FloatArray,
    typical: FloatArray,
    coef: FloatArray,
    low: FloatArray,
    there: FloatArray,
    shift: FloatArray,
    grad: FloatArray,
    rss: FloatArray,
    R: FloatArray,
    deviation: FloatArray,
    Pg: FloatArray,
    Tg: FloatArray,
    resid: FloatArray,
    P: FloatArray,
    T: FloatArray,
    status: Any,
    flags: Any,
    rank: IntArray,
    todo: Any,
) -> None:
    """The fast path of groups g0:g1; what it cannot do is noted in ``todo``. The first row of Z is row0."""
    k = len(token)
    t = there.shape[0]
    p = k + 1 if s.intercept else k
    width = PARAMS + p
    for g in range(g0, g1, LANES):
        last = min(g + LANES, g1) - 1
        read = 0
        for m in range(LANES):
            i = min(g + m, last)
            n[m] = offsets[i + 1] - offsets[i] if g + m <= last and not s.force_extended else 0
            n[m] = n[m] if s.min_nobs <= n[m] <= s.long_rows else 0
            lo[m] = offsets[i] - row0 if n[m] > 0 else 0
            rows[0, m] = n[m]
            read += n[m]
        ahead = offsets[min(g + 2 * LANES, g1)] - offsets[last + 1]
        for i in range(ahead if ahead <= LANES * SHORT else 0):
            prefetch(Z, offsets[last + 1] - row0 + i)
        store(smallest, 0, math.nan)
        if read > 0:
            clear_lanes(ref, ref.shape[0])
            if s.intercept:
                set_reference(Z, lo, ref)
            again = True
            for attempt in range(2):  # again about the mean, if the reference was far from it
                if again:
                    if attempt > 0:
                        move_reference(away, ref)
                    sum_moments(Z, lo, n, token, ref, start, size, D, row, S, own, moments, logs)
                    centre(token, s.intercept, moments, mean, before)
                    set_first(Z, lo, s.intercept, ref, mean, first)
                    factorise(token, rows, ref, mean, first, moments, factor, diag, smallest, s)
                    set_away(token, smallest, mean, moments, before, away, near)
                    again = False
                    for m in range(LANES):
                        again = again or (n[m] > 0 and near[0, m] == 0.0)
            for j in range(mean.shape[0]):
                store(away, j, load(mean, j))
            settle_reference(ref, mean)
            first_coef(token, mean, moments, factor, step, coef, there)
            sum_residuals(
                *(Z, lo, n, token, ref, away, coef, there, start, size, D, row, S, own, own_coef, own_there),
                grad,
            )
            refine(token, s.intercept, moments, factor, grad, step, coef, low, shift, rss)
            sum_kept_logs(n, set_lanes(lo, n, start, size), D, mean.shape[0], S, logs)
            set_base(origin, g, last, base)
            write_pattern(base, token, s.intercept, smallest, ref, mean, moments, factor, step, inverse, Pg)
            set_typical(token, ref, mean, moments, typical)
            for q in range(t):
                judge_target(token, q, s, rss, ref, mean, first, moments, typical, coef, good, noise)
                write_target(base, q, token, s.intercept, rss, ref, mean, moments, coef, low, shift, Tg)
            longest = set_lanes(lo, n, start, size) if s.mad else 0
            if longest > 0:
                set_deviations(size, longest, token, coef, shift, D, R, deviation)
        for i in range(g, last + 1):
            m = i - g
            a = offsets[i] - row0
            b = offsets[i + 1] - row0
            if s.min_nobs <= b - a and b - a > s.long_rows:
                todo[i, 0] = LONG
                continue
            known = n[m] > 0 and smallest[0, m] >= s.pivot
            if not known:
                Pg[:, m] = math.nan
                Tg[:, m] = math.nan
            if b - a < s.min_nobs:
                for q in range(t):
                    status[i, q] = TOO_FEW_ROWS if b > a else NO_DATA
                continue
            summed = n[m] > 0 and logs[0, m] == logs[0, m]  # not NaN
            Pg[LOG_WSUM, m] = logs[0, m] if summed else log_sum(Z, a, b)
            if not known:
                todo[i, 0] = ASKED
                continue
            rank[i, 0] = p
            for q in range(t):
                code = decide(Z, a, b, token, q, m, s.intercept, moments, good, noise)
                if code < 0:
                    todo[i, 1 + q] = ASKED
                    for j in range(q * width, (q + 1) * width):
                        Tg[j, m] = math.nan
                    continue
                if code != OK:  # saturated or constant: there are no residuals
                    Tg[q * width + RESID_NORM, m] = 0.0
                mad = 0.0 if s.mad else math.nan
                if s.mad and Tg[q * width + RESID_NORM, m] > 0.0:
                    if b - a <= SHORT:
                        mad = deviation[q, m]
                    else:
                        final_residuals(Z, a, b, token, q, m, ref, mean, coef, shift, resid, 0)
                        mad = median_deviation(resid, b - a)
                Tg[q * width + MAD, m] = mad
                status[i, q] = code % 16
                flags[i, q] = code // 16
        hand_out(Pg, g, last, P)
        hand_out(Tg, g, last, T)
