# SPDX-License-Identifier: MIT
"""What the compiled kernels of a fit share: plain loops that read inputs, write outputs, never raise.

The fast path is in `gbreg.fast_kernels` and its passes over rows in `gbreg.sum_kernels`, the extended
path in `gbreg.extended_kernels`, long groups in `gbreg.block_kernels`, medians in
`gbreg.median_kernels`, rows and keys in `gbreg.row_kernels`, other losses than squares in
`gbreg.loss_kernels` and two files that build on it.

``Z`` (n, c + 1) holds rows sorted by group: k predictors, t targets, ``c = k + t``, and the weight.
``origin`` (g, c) is one row of zeros when there is none. Cross products are kept flat: the lower triangle
of the predictors row by row (k (k + 1) / 2), then for each target its k products with the
predictors and its sum of squares.

``token`` carries the number of predictors: a tuple of that length makes it a constant
that unrolls the loops (one compilation per k), an array makes it a run-time value.

Outputs are columns, each of all groups (their arrays may be longer than there are groups):

- ``P`` (..., g) what targets share: sum of weights, sum of their logarithms, smallest pivot, then
  center (k), norm (k), xcorr (k (k - 1) / 2), root (p), corr (p (p - 1) / 2);
- ``T`` (t (4 + p), g) for each target level, resid_norm, target_norm, mad, then the coefficients;
- ``status``, ``flags`` (g, t), ``rank`` (g, 1), ``dropped`` (g, 1, k) as in `gbreg.problem.Estimates`;
- ``todo`` (g, 1 + t): the whole group, or one target, needs the extended path; ``LONG`` in the
  first column leaves the group to the block driver.

Kernels take plain arrays, not records of arrays, and leave by one exit: numba then drops its
reference counts, whose atomics cost four times the arithmetic of a group of five rows.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gbreg._jit import inlined, kernel, product_error
from gbreg._lanes import beside, load, store
from gbreg.problem import FloatArray, IntArray

# Status and Flag of gbreg.problem as plain integers; a test holds them equal.
OK, SATURATED, TOO_FEW_ROWS, NO_DATA, RANK_DEFICIENT, NOT_CONVERGED, OVERFLOW = 0, 1, 2, 3, 4, 5, 6
ILL_CONDITIONED, CONSTANT_TARGET, PERFECT_FIT, EXTENDED = 1, 2, 4, 8

WSUM, LOG_WSUM, PIVOT, CENTER = 0, 1, 2, 3  # places in P
LEVEL, RESID_NORM, TARGET_NORM, MAD, PARAMS = 0, 1, 2, 3, 4  # places in T
ASKED, LONG = 1, 2  # values in todo

SHORT = 32  # rows of the longest groups that stand side by side in lanes

SMALLEST_NORMAL = 2.0**-1022
SMALLEST_ROOT = 2.0**-1030  # of a variance; 13 digits are left


class Settings(NamedTuple):
    """Options and limits as numbers."""

    intercept: bool
    min_nobs: int
    force_extended: bool
    drop: bool  # on_collinear="drop"
    mad: bool
    long_rows: int  # groups with more rows are left to the block driver
    pivot: float
    rss: float
    tiny: float
    huge: float
    spread: float
    rank: float
    lost: float
    ill: float
    perfect: float
    faint: float


# --------------------------------------------------------------------------- double-double
# Dekker 1971, Knuth TAOCP 4.2.2, and Joldes, Muller, Popescu 2017 (relative error < 2^-103).


@inlined
def two_sum(a: float, b: float) -> tuple[float, float]:
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


@inlined
def quick_two_sum(a: float, b: float) -> tuple[float, float]:
    s = a + b
    return s, b - (s - a)


@inlined
def two_product(a: float, b: float) -> tuple[float, float]:
    p = a * b
    return p, product_error(a, b, p)


@inlined
def dd_add(ah: float, al: float, bh: float, bl: float) -> tuple[float, float]:
    s, e = two_sum(ah, bh)
    t, f = two_sum(al, bl)
    s, e = quick_two_sum(s, e + t)
    return quick_two_sum(s, e + f)


@inlined
def dd_mul(ah: float, al: float, bh: float, bl: float) -> tuple[float, float]:
    p, e = two_product(ah, bh)
    return quick_two_sum(p, e + (ah * bl + al * bh))


@inlined
def dd_mul_float(ah: float, al: float, b: float) -> tuple[float, float]:
    p, e = two_product(ah, b)
    return quick_two_sum(p, e + al * b)


@kernel
def dd_div(ah: float, al: float, bh: float, bl: float) -> tuple[float, float]:
    q1 = ah / bh
    ph, pl = dd_mul_float(bh, bl, q1)
    rh, rl = dd_add(ah, al, -ph, -pl)
    q2 = rh / bh
    ph, pl = dd_mul_float(bh, bl, q2)
    rh, rl = dd_add(rh, rl, -ph, -pl)
    q3 = rh / bh
    q1, q2 = quick_two_sum(q1, q2)
    return dd_add(q1, q2, q3, 0.0)


@kernel
def dd_sqrt(ah: float, al: float) -> float:
    """Square root of a double-double, rounded to a float."""
    if ah <= 0.0:
        return 0.0
    r = math.sqrt(ah)
    p, e = two_product(r, r)
    h, _ = dd_add(ah, al, -p, -e)
    return r + h / (2.0 * r)


@kernel
def accumulate(S: FloatArray, a: int, h: float, low: float) -> None:
    """Add a double-double to entry a of S (size, 2)."""
    S[a, 0], S[a, 1] = dd_add(S[a, 0], S[a, 1], h, low)


@kernel
def put(S: FloatArray, a: int, h: float, low: float) -> None:
    S[a, 0] = h
    S[a, 1] = low


# --------------------------------------------------------------------------- what both paths need


@inlined
def four(n: IntArray) -> Any:
    """Four integers as a vector."""
    return beside(float(n[0]), float(n[1]), float(n[2]), float(n[3]))


@inlined
def clear_lanes(S: FloatArray, size: int) -> None:
    for a in range(size):
        store(S, a, 0.0)


@inlined
def increase(S: FloatArray, a: int, v: Any) -> None:
    store(S, a, load(S, a) + v)


@inlined
def log_sum(Z: FloatArray, lo: int, hi: int) -> float:
    """Sum of the logarithms of the weights, with few logarithms; by fours, as factors wait for each other."""
    c = Z.shape[1] - 1
    total = 0.0
    product = 1.0
    stop = hi - (hi - lo) % 4
    for i in range(lo, stop, 4):
        two = Z[i, c] * Z[i + 1, c]
        four_of_them = two * (Z[i + 2, c] * Z[i + 3, c])
        if 1e-100 <= two <= 1e100 and 1e-100 <= four_of_them <= 1e100:
            product *= four_of_them
            if not (1e-100 <= product <= 1e100):
                total += math.log(product)
                product = 1.0
        else:
            for m in range(i, i + 4):
                total += math.log(Z[m, c])
    for i in range(stop, hi):
        total += math.log(Z[i, c])
    return total + math.log(product)


@inlined
def spot(origin: FloatArray, g: int, column: int, value: float) -> float:
    """A stored value of that column as the caller's value."""
    there: float = value + origin[min(g, origin.shape[0] - 1), column]
    return there


@inlined
def places(k: int, intercept: bool) -> tuple[int, int, int, int, int]:
    """Where norm, xcorr, root, its slopes and corr begin in P."""
    norm = CENTER + k
    xcorr = norm + k
    root = xcorr + k * (k - 1) // 2
    slope = root + 1 if intercept else root
    return norm, xcorr, root, slope, slope + k
