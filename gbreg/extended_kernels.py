# SPDX-License-Identifier: MIT
"""The extended path: groups that the fast one leaves, in double-double arithmetic.

Scratch S (size, 2) holds double-doubles in sections named by At. Everything in it is in
scaled units: columns and weights times powers of two that bring them near 1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gbreg._jit import entry, inlined, kernel, ldexp
from gbreg.kernels import (
    ASKED,
    CENTER,
    CONSTANT_TARGET,
    EXTENDED,
    ILL_CONDITIONED,
    LEVEL,
    LOG_WSUM,
    MAD,
    OK,
    OVERFLOW,
    PARAMS,
    PERFECT_FIT,
    PIVOT,
    RANK_DEFICIENT,
    RESID_NORM,
    SATURATED,
    SMALLEST_NORMAL,
    SMALLEST_ROOT,
    TARGET_NORM,
    WSUM,
    Settings,
    accumulate,
    dd_add,
    dd_div,
    dd_mul,
    dd_mul_float,
    dd_sqrt,
    places,
    put,
    spot,
    two_product,
    two_sum,
)
from gbreg.median_kernels import median_deviation
from gbreg.problem import FloatArray, IntArray


class At(NamedTuple):
    """Where the sections of S begin."""

    low: int  # c + 1: minimum of the columns, then of the weights, unscaled
    high: int  # c + 1: maximum
    scale: int  # c + 1
    largest: int  # c: max |x|
    ref: int  # c: heaviest row, 0 without intercept
    sums: int  # c + 2: sum w x about ref; sum w, sum w^2 without the heaviest row
    reach: int  # k: max w x^2
    gain: int  # k: max|x| / sd, inf for constants
    wsum: int  # 1
    mean: int  # c, about ref
    cross: int  # k (k + 1) / 2 + t (k + 1)
    factor: int  # k * k
    diag: int  # k
    inverse: int  # k * k
    coef: int  # t * k
    shift: int  # t
    grad: int  # t * (k + 1)
    step: int  # k
    spot: int  # k: centre plus origin
    rss: int  # t
    size: int


@kernel
def scan(Z: FloatArray, lo: int, hi: int, low: FloatArray, high: FloatArray) -> int:
    """Minimum and maximum of columns and weights into low, high (c + 1,); returns the first heaviest row."""
    c = Z.shape[1] - 1
    for j in range(c):
        least = math.inf
        most = -math.inf
        for i in range(lo, hi):
            x = Z[i, j]
            least = min(least, x)
            most = max(most, x)
        low[j] = least
        high[j] = most
    heavy = lo
    least = Z[lo, c]
    for i in range(lo + 1, hi):
        least = min(least, Z[i, c])
        if Z[i, c] > Z[heavy, c]:
            heavy = i
    low[c] = least
    high[c] = Z[heavy, c]
    return heavy


@kernel
def set_scale(
    Z: FloatArray,
    heavy: int,
    intercept: bool,
    low: FloatArray,
    high: FloatArray,
    S: FloatArray,
    at: At,
    exponent: IntArray,
) -> None:
    """Powers of two, largest magnitudes and the reference row; exponent (c + 1,), even for weights."""
    c = Z.shape[1] - 1
    for j in range(c + 1):
        put(S, at.low + j, low[j], 0.0)
        put(S, at.high + j, high[j], 0.0)
        size = max(abs(low[j]), abs(high[j]))
        e = 0
        if size > 0.0:
            e = max(math.frexp(size)[1], -1020)
        if j == c:
            e += e % 2
        exponent[j] = e
        scale = ldexp(1.0, -e)
        put(S, at.scale + j, scale, 0.0)
        if j < c:
            put(S, at.largest + j, size * scale, 0.0)
            put(S, at.ref + j, Z[heavy, j] * scale if intercept else 0.0, 0.0)


@kernel
def dd_add_sums(
    Z: FloatArray,
    lo: int,
    hi: int,
    heavy: int,
    S: FloatArray,
    at: At,
    total: FloatArray,
    base: int,
) -> None:
    """Add sum w (x - ref), then sum w and sum w^2 without the heaviest row, to total[base:]."""
    c = Z.shape[1] - 1
    for i in range(lo, hi):
        wi = Z[i, c] * S[at.scale + c, 0]
        for j in range(c):
            h, low = two_sum(Z[i, j] * S[at.scale + j, 0], -S[at.ref + j, 0])
            h, low = dd_mul_float(h, low, wi)
            accumulate(total, base + j, h, low)
        if i != heavy:
            accumulate(total, base + c, wi, 0.0)
            h, low = two_product(wi, wi)
            accumulate(total, base + c + 1, h, low)


@kernel
def dd_set_mean(
    Z: FloatArray,
    origin: FloatArray,
    g: int,
    k: int,
    heavy: int,
    intercept: bool,
    S: FloatArray,
    at: At,
) -> None:
    c = Z.shape[1] - 1
    h, low = dd_add(S[at.sums + c, 0], S[at.sums + c, 1], Z[heavy, c] * S[at.scale + c, 0], 0.0)
    put(S, at.wsum, h, low)
    for j in range(c):
        h, low = 0.0, 0.0
        if intercept:
            h, low = dd_div(S[at.sums + j, 0], S[at.sums + j, 1], S[at.wsum, 0], S[at.wsum, 1])
        put(S, at.mean + j, h, low)
    for j in range(k):
        h, low = dd_add(S[at.mean + j, 0], S[at.mean + j, 1], S[at.ref + j, 0], 0.0)
        h, low = dd_add(h, low, spot(origin, g, j, 0.0) * S[at.scale + j, 0], 0.0)
        put(S, at.spot + j, h, low)


@kernel
def centre_row(Z: FloatArray, i: int, S: FloatArray, at: At, row: FloatArray) -> None:
    """Row i, scaled and centred, into row (c, 2)."""
    for j in range(Z.shape[1] - 1):
        h, low = two_sum(Z[i, j] * S[at.scale + j, 0], -S[at.ref + j, 0])
        h, low = dd_add(h, low, -S[at.mean + j, 0], -S[at.mean + j, 1])
        put(row, j, h, low)


@kernel
def dd_add_cross(
    Z: FloatArray,
    lo: int,
    hi: int,
    k: int,
    S: FloatArray,
    at: At,
    row: FloatArray,
    total: FloatArray,
    base: int,
) -> None:
    """Add centred cross products to total[base:]; row (c, 2) is scratch."""
    c = Z.shape[1] - 1
    for i in range(lo, hi):
        centre_row(Z, i, S, at, row)
        wi = Z[i, c] * S[at.scale + c, 0]
        a = base
        for j in range(c):
            vh, vl = dd_mul_float(row[j, 0], row[j, 1], wi)
            stop = j + 1 if j < k else k + 1
            for m in range(stop):
                other = m if m < k else j
                h, low = dd_mul(vh, vl, row[other, 0], row[other, 1])
                accumulate(total, a + m, h, low)
            a += stop


@kernel
def set_reach(Z: FloatArray, lo: int, hi: int, k: int, S: FloatArray, at: At) -> None:
    """Largest w x^2 of each predictor, in scaled units."""
    c = Z.shape[1] - 1
    for j in range(k):
        reach = 0.0
        for i in range(lo, hi):
            x = Z[i, j] * S[at.scale + j, 0]
            reach = max(reach, Z[i, c] * S[at.scale + c, 0] * x * x)
        put(S, at.reach + j, reach, 0.0)


@kernel
def amplification(n: int, k: int, c: int, intercept: bool, rank: float, S: FloatArray, at: At) -> float:
    """A = max|x_j| / sd_j: how much larger rounding errors of the data are once centred.

    With weights max|x|^2 is the largest w x^2 over the mean weight, and the variance divides
    by V = sum w_i (W - w_i) / W, the weighted n - 1, summed without cancellation because the
    heaviest row is apart. Columns in which rounding is all that varies count as constants
    and leave the others alone.
    """
    wsum = S[at.wsum, 0]
    others = S[at.sums + c, 0]
    v = wsum
    if intercept:
        v = others * ((wsum - others) / wsum) + (others - S[at.sums + c + 1, 0] / wsum)
    largest = 1.0
    a = at.cross
    for j in range(k):
        own = S[a + j, 0]
        least = S[at.low + j, 0]
        flat = least == S[at.high + j, 0] and (intercept or least == 0.0)
        gain = math.inf if flat or own <= 0.0 else math.sqrt(S[at.reach + j, 0] / own * n * (v / wsum))
        put(S, at.gain + j, gain, 0.0)
        if rank * gain < 1.0:
            largest = max(largest, gain)
        a += j + 1
    return largest


@inlined
def in_range(scaled: float, value: float) -> bool:
    """Whether a positive number has all its digits, or is 0 because it was before it was scaled back."""
    return scaled == 0.0 or SMALLEST_NORMAL <= value < math.inf


@kernel
def varies(column: int, square: int, intercept: bool, faint: float, S: FloatArray, at: At) -> bool:
    """Whether S[square], the centred sum of squares of a column, can be built upon.

    Products of weights and values below 2^-1074 of the largest are lost, and error terms sooner.
    Sums above ``faint`` keep the digits of double-double whatever was lost; a sum below
    it says nothing unless the column is constant.
    """
    least = S[at.low + column, 0]
    constant = least == S[at.high + column, 0] and (intercept or least == 0.0)
    return constant or S[square, 0] >= faint


@kernel
def all_vary(k: int, intercept: bool, faint: float, S: FloatArray, at: At) -> bool:
    """`varies` of the predictors."""
    fine = True
    for j in range(k):
        fine = fine and varies(j, at.cross + j * (j + 1) // 2 + j, intercept, faint, S, at)
    return fine


@kernel
def dd_subtract_explained(
    k: int, i: int, j: int, S: FloatArray, at: At, kept: Any, h: float, low: float
) -> tuple[float, float]:
    """Take off sum_m L_im D_m L_jm over the kept predictors m before j."""
    for m in range(j):
        if kept[m] == 1:
            fi = at.factor + i * k + m
            fj = at.factor + j * k + m
            ph, pl = dd_mul(S[fi, 0], S[fi, 1], S[fj, 0], S[fj, 1])
            ph, pl = dd_mul(ph, pl, S[at.diag + m, 0], S[at.diag + m, 1])
            h, low = dd_add(h, low, -ph, -pl)
    return h, low


@kernel
def dd_factorise(k: int, rank: float, lost: float, noise: float, S: FloatArray, at: At, kept: Any) -> float:
    """S = L D L' over the independent predictors; returns the smallest relative pivot kept.

    Predictor j is dropped if it is constant up to rounding or sqrt(pivot) <= noise, or if the
    pivot is what rounding leaves of sum_m c_m x_m, which explains it by earlier ones.
    """
    smallest = 1.0
    a = at.cross
    for i in range(k):
        for j in range(i):
            h, low = 0.0, 0.0
            if kept[j] == 1:
                h, low = dd_subtract_explained(k, i, j, S, at, kept, S[a + j, 0], S[a + j, 1])
                h, low = dd_div(h, low, S[at.diag + j, 0], S[at.diag + j, 1])
            put(S, at.factor + i * k + j, h, low)
        own = S[a + i, 0]
        h, low = dd_subtract_explained(k, i, i, S, at, kept, own, S[a + i, 1])
        put(S, at.diag + i, h, low)
        for j in range(i):
            put(S, at.step + j, S[at.factor + i * k + j, 0], S[at.factor + i * k + j, 1])
        dd_back_substitute(k, i, S, at, kept, at.step)
        terms = 1.0
        for j in range(i):
            if kept[j] == 1:
                terms += abs(S[at.step + j, 0]) * math.sqrt(S[at.cross + j * (j + 1) // 2 + j, 0] / own)
        least = max(noise, lost * terms)
        if rank * S[at.gain + i, 0] >= 1.0 or not (h > 0.0) or math.sqrt(h / own) <= least:
            kept[i] = 0
        else:
            kept[i] = 1
            smallest = min(smallest, h / own)
        a += i + 1
    return smallest


@kernel
def dd_solve(k: int, S: FloatArray, at: At, kept: Any, v: int) -> None:
    """Solve L D L' x = S[v:v + k] in place over the kept predictors; the others become 0."""
    for j in range(k):
        if kept[j] == 1:
            for m in range(j):
                if kept[m] == 1:
                    f = at.factor + j * k + m
                    h, low = dd_mul(S[f, 0], S[f, 1], S[v + m, 0], S[v + m, 1])
                    accumulate(S, v + j, -h, -low)
        else:
            put(S, v + j, 0.0, 0.0)
    for j in range(k):
        if kept[j] == 1:
            h, low = dd_div(S[v + j, 0], S[v + j, 1], S[at.diag + j, 0], S[at.diag + j, 1])
            put(S, v + j, h, low)
    dd_back_substitute(k, k, S, at, kept, v)


@kernel
def dd_back_substitute(k: int, stop: int, S: FloatArray, at: At, kept: Any, v: int) -> None:
    """Solve L' x = S[v:v + stop] in place over the kept predictors before ``stop``."""
    for j in range(stop - 1, -1, -1):
        for m in range(j + 1, stop):
            if kept[j] == 1 and kept[m] == 1:
                f = at.factor + m * k + j
                h, low = dd_mul(S[f, 0], S[f, 1], S[v + m, 0], S[v + m, 1])
                accumulate(S, v + j, -h, -low)


@kernel
def find_known(
    origin: FloatArray,
    g: int,
    k: int,
    drop: bool,
    rank: float,
    loss: float,
    S: FloatArray,
    at: At,
    kept: Any,
    known: Any,
) -> None:
    """Which coefficients the data determine: known (k + 1,), the intercept last.

    A dropped predictor d is c0 + sum_j c_j x_j over kept ones. Any multiple of that relation
    may be added to a solution, so coefficient j is determined only if every c_j is zero,
    and the intercept only if every c0 is. c_j of later predictors are zero but for rounding,
    which may be all that d has beside earlier ones. ``loss`` is how far rounding of the data
    may move a c that is zero; where that is too far to tell, it is not.
    """
    for j in range(k):
        known[j] = kept[j]
    known[k] = 1
    for d in range(k):
        if kept[d] == 1 or drop:
            continue
        constant = rank * S[at.gain + d, 0] >= 1.0
        for j in range(k):
            f = at.cross + max(d, j) * (max(d, j) + 1) // 2 + min(d, j)
            put(S, at.step + j, S[f, 0], S[f, 1])
        dd_solve(k, S, at, kept, at.step)
        h, low = S[at.spot + d, 0], S[at.spot + d, 1]
        size = S[at.largest + d, 0] + abs(spot(origin, g, d, 0.0)) * S[at.scale + d, 0]
        own = math.sqrt(S[at.cross + d * (d + 1) // 2 + d, 0])
        for j in range(k):
            if kept[j] == 1 and not constant:
                c = S[at.step + j, 0]
                if abs(c) * math.sqrt(S[at.cross + j * (j + 1) // 2 + j, 0]) > min(1e-6, loss) * own:
                    known[j] = 0
                ph, pl = dd_mul(c, S[at.step + j, 1], S[at.spot + j, 0], S[at.spot + j, 1])
                h, low = dd_add(h, low, -ph, -pl)
                size += abs(c) * (S[at.largest + j, 0] + abs(spot(origin, g, j, 0.0)) * S[at.scale + j, 0])
        if abs(h) > min(1e-6, loss) * size:
            known[k] = 0


@kernel
def dd_first_coef(k: int, q: int, S: FloatArray, at: At, kept: Any) -> None:
    """Coefficients of target q from the normal equations."""
    a = at.cross + k * (k + 1) // 2 + q * (k + 1)
    for j in range(k):
        put(S, at.coef + q * k + j, S[a + j, 0], S[a + j, 1])
    dd_solve(k, S, at, kept, at.coef + q * k)
    put(S, at.shift + q, 0.0, 0.0)


@kernel
def dd_residual(k: int, q: int, S: FloatArray, at: At, row: FloatArray) -> tuple[float, float]:
    """Residual of target q at a centred row (c, 2)."""
    rh, rl = dd_add(row[k + q, 0], row[k + q, 1], -S[at.shift + q, 0], -S[at.shift + q, 1])
    for j in range(k):
        b = at.coef + q * k + j
        h, low = dd_mul(S[b, 0], S[b, 1], row[j, 0], row[j, 1])
        rh, rl = dd_add(rh, rl, -h, -low)
    return rh, rl


@kernel
def dd_add_gradient(
    Z: FloatArray,
    lo: int,
    hi: int,
    k: int,
    S: FloatArray,
    at: At,
    row: FloatArray,
    total: FloatArray,
    base: int,
) -> None:
    """Add products of the residuals with the centred predictors and with 1 to total[base:]."""
    c = Z.shape[1] - 1
    t = c - k
    for i in range(lo, hi):
        centre_row(Z, i, S, at, row)
        wi = Z[i, c] * S[at.scale + c, 0]
        for q in range(t):
            h, low = dd_residual(k, q, S, at, row)
            vh, vl = dd_mul_float(h, low, wi)
            a = base + q * (k + 1)
            for j in range(k):
                h, low = dd_mul(vh, vl, row[j, 0], row[j, 1])
                accumulate(total, a + j, h, low)
            accumulate(total, a + k, vh, vl)


@kernel
def dd_refine(k: int, t: int, intercept: bool, S: FloatArray, at: At, kept: Any) -> None:
    """One Newton step of every target."""
    for q in range(t):
        a = at.grad + q * (k + 1)
        for j in range(k):
            put(S, at.step + j, S[a + j, 0], S[a + j, 1])
        dd_solve(k, S, at, kept, at.step)
        for j in range(k):
            accumulate(S, at.coef + q * k + j, S[at.step + j, 0], S[at.step + j, 1])
        if intercept:
            h, low = dd_div(S[a + k, 0], S[a + k, 1], S[at.wsum, 0], S[at.wsum, 1])
            accumulate(S, at.shift + q, h, low)


@kernel
def dd_add_squares(
    Z: FloatArray,
    lo: int,
    hi: int,
    k: int,
    q: int,
    S: FloatArray,
    at: At,
    row: FloatArray,
    total: FloatArray,
    base: int,
    resid: FloatArray,
    first: int,
) -> None:
    """Add w r^2 of target q to total[base]; residual i goes to resid[i - first] if there is room."""
    c = Z.shape[1] - 1
    keep = resid.shape[0] > 0
    for i in range(lo, hi):
        centre_row(Z, i, S, at, row)
        rh, rl = dd_residual(k, q, S, at, row)
        vh, vl = dd_mul_float(rh, rl, Z[i, c] * S[at.scale + c, 0])
        h, low = dd_mul(vh, vl, rh, rl)
        accumulate(total, base, h, low)
        if keep:
            resid[i - first] = rh


@kernel
def dd_write_pattern(
    g: int,
    k: int,
    intercept: bool,
    smallest: float,
    S: FloatArray,
    at: At,
    exponent: IntArray,
    kept: Any,
    known: Any,
    P: FloatArray,
    rank: IntArray,
    dropped: Any,
) -> bool:
    """What the targets share, in the caller's units; False if root variances or weights leave the range.

    Norms out of range are NaN: only diagnostics need them. log_wsum is not touched.
    """
    c = exponent.shape[0] - 1
    norm, xcorr, root, slope, corr = places(k, intercept)
    half = exponent[c] // 2
    rank[g, 0] = 1 if intercept else 0
    P[WSUM, g] = ldexp(S[at.wsum, 0], exponent[c])
    P[PIVOT, g] = smallest
    a = at.cross
    for i in range(k):
        rank[g, 0] += kept[i]
        dropped[g, 0, i] = kept[i] == 0
        P[CENTER + i, g] = ldexp(S[at.ref + i, 0] + S[at.mean + i, 0], exponent[i])
        flat = S[at.low + i, 0] == S[at.high + i, 0] and (intercept or S[at.low + i, 0] == 0.0)
        own = 0.0 if flat else dd_sqrt(S[a + i, 0], S[a + i, 1])
        P[norm + i, g] = own  # scaled for now: the correlations need it
        for j in range(i):
            scale = own * P[norm + j, g]
            P[xcorr, g] = S[a + j, 0] / scale if scale > 0.0 else 0.0
            xcorr += 1
        a += i + 1
    for j in range(k):
        for i in range(k):
            put(S, at.step + i, 1.0 if i == j else 0.0, 0.0)
        dd_solve(k, S, at, kept, at.step)
        for i in range(k):
            put(S, at.inverse + i * k + j, S[at.step + i, 0], S[at.step + i, 1])
        P[slope + j, g] = dd_sqrt(S[at.step + j, 0], S[at.step + j, 1]) if known[j] == 1 else math.nan
    if intercept:
        qh, ql = dd_div(1.0, 0.0, S[at.wsum, 0], S[at.wsum, 1])
        for i in range(k):
            vh, vl = 0.0, 0.0
            for j in range(k):
                m = at.inverse + i * k + j
                h, low = dd_mul(S[m, 0], S[m, 1], S[at.spot + j, 0], S[at.spot + j, 1])
                vh, vl = dd_add(vh, vl, h, low)
            put(S, at.step + i, -vh, -vl)
            h, low = dd_mul(vh, vl, S[at.spot + i, 0], S[at.spot + i, 1])
            qh, ql = dd_add(qh, ql, h, low)
        P[root, g] = dd_sqrt(qh, ql) if known[k] == 1 else math.nan
    for i in range(k):
        if intercept:
            P[corr, g] = S[at.step + i, 0] / P[root, g] / P[slope + i, g]
            corr += 1
        for j in range(i):
            P[corr, g] = S[at.inverse + i * k + j, 0] / P[slope + i, g] / P[slope + j, g]
            corr += 1
    fine = bool(P[WSUM, g] < math.inf)
    for i in range(k):
        own = ldexp(P[norm + i, g], exponent[i] + half)
        P[norm + i, g] = own if in_range(P[norm + i, g], own) else math.nan
        P[slope + i, g] = ldexp(P[slope + i, g], -exponent[i] - half)
        fine = fine and (known[i] == 0 or SMALLEST_ROOT <= P[slope + i, g] < math.inf)
    if intercept:
        P[root, g] = ldexp(P[root, g], -half)
        fine = fine and (known[k] == 0 or SMALLEST_ROOT <= P[root, g] < math.inf)
    return fine


@kernel
def forget_pattern(g: int, P: FloatArray, rank: IntArray, dropped: Any) -> None:
    """Nothing was fitted; log_wsum stays."""
    log_wsum = P[LOG_WSUM, g]
    P[:, g] = math.nan
    P[LOG_WSUM, g] = log_wsum
    rank[g, 0] = 0
    dropped[g, 0, :] = False


@kernel
def dd_write_target(
    origin: FloatArray,
    g: int,
    q: int,
    n: int,
    s: Settings,
    smallest: float,
    shared: bool,
    S: FloatArray,
    at: At,
    exponent: IntArray,
    kept: Any,
    known: Any,
    resid: FloatArray,
    T: FloatArray,
    status: Any,
    flags: Any,
) -> None:
    """Coefficients, norms, status and flags of one target, in the caller's units.

    ``shared`` is whether what the targets share is in range.
    """
    k = kept.shape[0]
    c = exponent.shape[0] - 1
    p = k + 1 if s.intercept else k
    base = q * (PARAMS + p)
    column = k + q
    up = exponent[column]
    half = exponent[c] // 2
    wsum = S[at.wsum, 0]
    own = at.cross + k * (k + 1) // 2 + q * (k + 1) + k
    tss = S[own, 0]
    fine = shared and varies(column, own, s.intercept, s.faint, S, at)
    rank = p - k
    for j in range(k):
        rank += kept[j]
    saturated = n == p and rank == p
    least = S[at.low + column, 0]
    constant = least == S[at.high + column, 0] and (s.intercept or least == 0.0)
    exact = saturated or constant
    norm = 0.0 if exact else dd_sqrt(S[at.rss + q, 0], S[at.rss + q, 1])

    lh, ll = dd_add(S[at.mean + column, 0], S[at.mean + column, 1], S[at.ref + column, 0], 0.0)
    lh, ll = dd_add(lh, ll, S[at.shift + q, 0], S[at.shift + q, 1])
    ih, il = dd_add(lh, ll, spot(origin, g, column, 0.0) * S[at.scale + column, 0], 0.0)
    size = math.sqrt(lh * lh + tss / wsum)
    a = at.cross
    for j in range(k):
        bh, bl = S[at.coef + q * k + j, 0], S[at.coef + q * k + j, 1]
        center, rest = two_sum(S[at.ref + j, 0], S[at.mean + j, 0])
        h, low = dd_mul_float(bh, bl, rest + S[at.mean + j, 1])
        lh, ll = dd_add(lh, ll, -h, -low)  # level at the rounded centre
        h, low = dd_mul(bh, bl, S[at.spot + j, 0], S[at.spot + j, 1])
        ih, il = dd_add(ih, il, -h, -low)
        size += abs(bh) * math.sqrt(center * center + S[a + j, 0] / wsum)
        slope = ldexp(bh, up - exponent[j])
        if kept[j] == 1:
            good = bh == 0.0 or SMALLEST_NORMAL <= abs(slope) < math.inf
            T[base + PARAMS + p - k + j, g] = slope if good else math.nan
            fine = fine and (good or known[j] == 0)
        a += j + 1
    if s.intercept:
        T[base + PARAMS, g] = ldexp(ih, up)
        fine = fine and (math.isfinite(T[base + PARAMS, g]) or known[k] == 0)
    T[base + LEVEL, g] = ldexp(lh, up) if s.intercept else 0.0
    T[base + TARGET_NORM, g] = 0.0 if constant else ldexp(math.sqrt(tss), up + half)
    T[base + RESID_NORM, g] = ldexp(norm, up + half)
    perfect = not saturated and norm <= s.perfect * size * math.sqrt(wsum)
    if s.mad:
        T[base + MAD, g] = 0.0 if exact else ldexp(median_deviation(resid, n), up)
        fine = fine and math.isfinite(T[base + MAD, g])
    fine = fine and math.isfinite(T[base + LEVEL, g]) and math.isfinite(T[base + RESID_NORM, g])
    fine = fine and (constant or in_range(1.0, T[base + TARGET_NORM, g]))
    fine = fine and (perfect or in_range(norm, T[base + RESID_NORM, g]))

    status[g, q] = SATURATED if saturated else (RANK_DEFICIENT if rank < p else OK)
    mark = EXTENDED
    if math.sqrt(smallest) < s.ill:
        mark |= ILL_CONDITIONED
    if constant:
        mark |= CONSTANT_TARGET
    if perfect:
        mark |= PERFECT_FIT
    flags[g, q] = mark
    if not fine:
        status[g, q] = OVERFLOW
        flags[g, q] = EXTENDED
        T[base : base + PARAMS + p, g] = math.nan


@kernel
def dd_rank(
    origin: FloatArray,
    g: int,
    n: int,
    k: int,
    c: int,
    s: Settings,
    S: FloatArray,
    at: At,
    kept: Any,
    known: Any,
) -> float:
    """Rank, factor and estimability from the cross products; returns the smallest pivot."""
    noise = s.rank * amplification(n, k, c, s.intercept, s.rank, S, at)
    smallest = dd_factorise(k, s.rank, s.lost, noise, S, at, kept)
    find_known(origin, g, k, s.drop, s.rank, noise / math.sqrt(smallest), S, at, kept, known)
    return smallest


@kernel
def clear(S: FloatArray, start: int, stop: int) -> None:
    for a in range(start, stop):
        put(S, a, 0.0, 0.0)


@entry
def extend_groups(
    Z: FloatArray,
    offsets: IntArray,
    origin: FloatArray,
    groups: IntArray,
    s: Settings,
    low: FloatArray,
    high: FloatArray,
    S: FloatArray,
    at: At,
    row: FloatArray,
    exponent: IntArray,
    kept: Any,
    known: Any,
    resid: FloatArray,
    P: FloatArray,
    T: FloatArray,
    status: Any,
    flags: Any,
    rank: IntArray,
    dropped: Any,
    todo: Any,
) -> None:
    """The extended path of a list of groups, or of those of their targets that asked for it."""
    k = kept.shape[0]
    t = Z.shape[1] - 1 - k
    for m in range(groups.shape[0]):
        g = groups[m]
        lo = offsets[g]
        hi = offsets[g + 1]
        heavy = scan(Z, lo, hi, low, high)
        set_scale(Z, heavy, s.intercept, low, high, S, at, exponent)
        set_reach(Z, lo, hi, k, S, at)
        clear(S, at.sums, at.reach)
        dd_add_sums(Z, lo, hi, heavy, S, at, S, at.sums)
        dd_set_mean(Z, origin, g, k, heavy, s.intercept, S, at)
        clear(S, at.cross, at.factor)
        dd_add_cross(Z, lo, hi, k, S, at, row, S, at.cross)
        smallest = dd_rank(origin, g, hi - lo, k, k + t, s, S, at, kept, known)
        for q in range(t):
            dd_first_coef(k, q, S, at, kept)
        for _ in range(2):  # the second step is worth a digit on NIST's Filip
            clear(S, at.grad, at.step)
            dd_add_gradient(Z, lo, hi, k, S, at, row, S, at.grad)
            dd_refine(k, t, s.intercept, S, at, kept)
        whole = todo[g, 0] == ASKED
        fine = all_vary(k, s.intercept, s.faint, S, at)
        if whole:
            near = dd_write_pattern(
                g, k, s.intercept, smallest, S, at, exponent, kept, known, P, rank, dropped
            )
            fine = fine and near
            if not fine:
                forget_pattern(g, P, rank, dropped)
        clear(S, at.rss, at.size)
        for q in range(t):
            if whole or todo[g, 1 + q] == ASKED:
                dd_add_squares(Z, lo, hi, k, q, S, at, row, S, at.rss + q, resid, lo)
                dd_write_target(
                    origin,
                    g,
                    q,
                    hi - lo,
                    s,
                    smallest,
                    fine,
                    S,
                    at,
                    exponent,
                    kept,
                    known,
                    resid,
                    T,
                    status,
                    flags,
                )
