# SPDX-License-Identifier: MIT
"""What compiled fits share that minimise another loss than squares: rows in lanes, equations, scales.

`gbreg.reweight_kernels` has the losses of robust fits, `gbreg.quantile_kernels` those of quantiles; together
they are `gbreg.minimizers` in loops. ``Z`` (n, p + t + 1) holds p columns that are orthonormal within each
group, t targets of length 1 or less, and ones, as `gbreg.losses` makes it: so nothing here has a unit,
and sums of products are well conditioned.

Groups of up to SHORT rows stand side by side, one to a lane; a longer one is ``alone`` and takes all lanes,
row i in lane i % LANES. Each is copied to ``C`` (sections times ``room``, LANES): columns in sections 0 to
p - 1, then what `HERE` and the names after it say; ``longest`` is the most rows of a lane. Where a
lane ends before, columns and targets are 0, so that no sum has a term there. Apart from copying rows and
putting them in order, ``alone`` only says whether to sum over lanes. A lane that has ended keeps its
numbers while others go on. Groups have rows, and p is not 0.
"""

from __future__ import annotations

import math
from typing import Any

from gbreg._jit import inlined, kernel
from gbreg._lanes import LANES, gather, lane_max, lane_sum, load, magnitudes, spread, store, where
from gbreg.kernels import SHORT, clear_lanes, four, increase
from gbreg.median_kernels import lane_medians, median
from gbreg.problem import FloatArray, IntArray

# As in gbreg.minimum and gbreg.problem; a test holds all of these kernels' equal.
NORMAL = 1.482602218505602
FLOOR = 1e-14
ROUNDING = 1e-15
NOT_CONVERGED = 5

HERE, TARGET, RESID, WEIGHT, SIZE, ORDER = 0, 1, 2, 3, 4, 5  # sections of C, from p on; HERE is 1 in rows
SECTIONS = 6  # and p, and those of some losses


@inlined
def total(v: Any, alone: bool) -> Any:
    """The sum over the rows of a group of what is the sum over those of a lane."""
    return spread(lane_sum(v)) if alone else v


@inlined
def largest(v: Any, alone: bool) -> Any:
    """The largest over the rows of a group of what is the largest over those of a lane."""
    return spread(lane_max(v)) if alone else v


@inlined
def larger(a: Any, b: Any) -> Any:
    """The larger of two in each lane; b if one is NaN."""
    return where(a > b, a, b)


@inlined
def any_lane(mask: Any) -> bool:
    return lane_sum(where(mask, 1.0, 0.0)) > 0.0


@inlined
def next_lanes(offsets: IntArray, g: int, g1: int, group: IntArray, lo: IntArray, n: IntArray) -> int:
    """Groups from g on that are fitted together, to lanes; the group after them.

    One that is long is alone in all lanes; of short ones the last also takes lanes that are left.
    """
    last = g
    for m in range(LANES):
        rows = offsets[last + 1] - offsets[last]
        group[m] = last
        lo[m] = offsets[last]
        n[m] = rows
        following = min(last + 1, g1 - 1)
        if n[0] <= SHORT and offsets[following + 1] - offsets[following] <= SHORT:
            last = following
    return int(group[LANES - 1]) + 1


@kernel
def copy_rows(
    Z: FloatArray,
    lo: IntArray,
    n: IntArray,
    step: int,
    alone: bool,
    p: int,
    column: int,
    room: int,
    size: IntArray,
    C: FloatArray,
) -> int:
    """Rows lo, lo + step, ..., n of them, of each lane's group to C; how many its longest lane has.

    Their numbers in lanes go to size (LANES,).
    """
    longest = 0
    for m in range(LANES):
        size[m] = (n[m] - m + LANES - 1) // LANES if alone else n[m]
        longest = max(longest, size[m])
    stride = LANES * step if alone else 1
    apart = step if alone else 0
    sizes = four(size)
    for i in range(longest):
        r0 = lo[0] + stride * min(i, size[0] - 1)
        r1 = lo[1] + stride * min(i, size[1] - 1) + apart
        r2 = lo[2] + stride * min(i, size[2] - 1) + 2 * apart
        r3 = lo[3] + stride * min(i, size[3] - 1) + 3 * apart
        here = sizes > float(i)
        store(C, (p + HERE) * room + i, where(here, spread(1.0), 0.0))
        store(C, (p + TARGET) * room + i, where(here, gather(Z, r0, r1, r2, r3, column), 0.0))
        for j in range(p):
            store(C, j * room + i, where(here, gather(Z, r0, r1, r2, r3, j), 0.0))
    return longest


@kernel
def add_equations(
    C: FloatArray, p: int, room: int, longest: int, right: int, A: FloatArray, v: FloatArray
) -> None:
    """A (lower triangle) = sum weight q q', v = sum weight q C[right], over the rows of lanes."""
    clear_lanes(v, p)
    clear_lanes(A, p * p)
    for i in range(longest):
        w = load(C, (p + WEIGHT) * room + i)
        r = load(C, right * room + i)
        for j in range(p):
            scaled = w * load(C, j * room + i)
            increase(v, j, scaled * r)
            for m in range(j + 1):
                increase(A, j * p + m, scaled * load(C, m * room + i))


@kernel
def normal_equations(
    C: FloatArray, p: int, room: int, longest: int, alone: bool, right: int, A: FloatArray, v: FloatArray
) -> None:
    """A (lower triangle) = sum weight q q', v = sum weight q C[right]."""
    add_equations(C, p, room, longest, right, A, v)
    if alone:
        for j in range(p):
            store(v, j, spread(lane_sum(load(v, j))))
            for m in range(j + 1):
                store(A, j * p + m, spread(lane_sum(load(A, j * p + m))))


@kernel
def factorize(p: int, A: FloatArray, smallest: float) -> Any:
    """L D L' in place, with 1 / D on the diagonal; 1 in lanes where pivots are above ``smallest``, else 0.

    A pivot that is not is infinite: its coefficient is 0.
    """
    full = spread(1.0)
    for j in range(p):
        size = load(A, j * p + j)
        pivot = size
        for m in range(j):
            a = load(A, j * p + m)
            pivot = pivot - a * a * load(A, m * p + m)
        above = pivot > smallest * size
        full = where(above, full, 0.0)
        store(A, j * p + j, where(above, 1.0 / pivot, 0.0))
        for i in range(j + 1, p):
            rest = load(A, i * p + j)
            for m in range(j):
                rest = rest - load(A, i * p + m) * load(A, j * p + m) * load(A, m * p + m)
            store(A, i * p + j, rest)
    return full


@kernel
def substitute(p: int, A: FloatArray, v: FloatArray) -> None:
    """``v = A^-1 v`` of a factorized A: below its diagonal are the columns of L times D."""
    for j in range(p):
        x = load(v, j)
        for m in range(j):
            x = x - load(A, j * p + m) * load(A, m * p + m) * load(v, m)
        store(v, j, x)
    for j in range(p - 1, -1, -1):
        x = load(v, j)
        for m in range(j + 1, p):
            x = x - load(A, m * p + j) * load(v, m)
        store(v, j, x * load(A, j * p + j))


@inlined
def combine(C: FloatArray, p: int, room: int, i: int, theta: FloatArray) -> Any:
    """Sum of columns times theta in a row of the lanes."""
    s = load(C, i) * load(theta, 0)
    for j in range(1, p):
        s = s + load(C, j * room + i) * load(theta, j)
    return s


@kernel
def find_residuals(C: FloatArray, p: int, room: int, longest: int, theta: FloatArray) -> None:
    """RESID = target - columns theta, and SIZE its absolute value."""
    for i in range(longest):
        r = load(C, (p + TARGET) * room + i) - combine(C, p, room, i, theta)
        store(C, (p + RESID) * room + i, r)
        store(C, (p + SIZE) * room + i, magnitudes(r))


@inlined
def copy_sizes(
    C: FloatArray, p: int, room: int, longest: int, n: int, alone: bool, sizes: FloatArray
) -> None:
    """SIZE to ``sizes`` (n,) where a group is alone, else to ORDER, with infinities behind the rows."""
    if alone:
        for i in range(n):
            sizes[i] = C[(p + SIZE) * room + i // LANES, i % LANES]
    else:
        for i in range(longest):
            here = load(C, (p + HERE) * room + i) > 0.0
            store(C, (p + ORDER) * room + i, where(here, load(C, (p + SIZE) * room + i), math.inf))


@kernel
def find_scale(
    C: FloatArray, p: int, room: int, longest: int, alone: bool, n: IntArray, sizes: FloatArray
) -> Any:
    """1.4826 median(SIZE), not below what rounding leaves."""
    copy_sizes(C, p, room, longest, n[0], alone, sizes)
    if alone:
        middle = spread(median(sizes, n[0]))
    else:
        middle = lane_medians(C, (p + ORDER) * room, longest, n)
    return larger(spread(FLOOR), NORMAL * middle)  # NaN stays


@inlined
def write_lanes(
    group: IntArray,
    q: int,
    p: int,
    own: FloatArray,
    end: FloatArray,
    theta: FloatArray,
    scale: FloatArray,
    status: Any,
) -> None:
    """What lanes have found to their groups."""
    for m in range(LANES):
        for j in range(p):
            theta[group[m], q, j] = own[j, m]
        scale[group[m], q] = end[0, m]
        status[group[m], q] = 0 if end[1, m] > 0.0 else NOT_CONVERGED
