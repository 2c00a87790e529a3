# SPDX-License-Identifier: MIT
"""Medians: of a stretch of numbers, and of four groups side by side in lanes."""

from __future__ import annotations

from typing import Any

from gbreg._jit import inlined, kernel
from gbreg._lanes import beside, load, store, where
from gbreg.problem import FloatArray, IntArray


@inlined
def smaller_first(values: FloatArray, left: int, right: int, pivot: float, equal: bool) -> int:
    """Of values[left:right + 1] those below the pivot, and ``equal`` ones, to the front; their end."""
    end = left
    for i in range(left, right + 1):  # no branch: it would be mispredicted every other time
        v = values[i]
        values[i] = values[end]
        values[end] = v
        end += (v < pivot) | (equal & (v == pivot))
    return end


@kernel
def select(values: FloatArray, n: int, rank: int) -> float:
    """The rank-th smallest of values[:n], which is reordered so that it stands at its place."""
    left = 0
    right = n - 1
    seed = n
    while right - left > 16:
        # the middle of three from a pseudo-random place on: no order of the rows makes this quadratic
        size = right - left + 1
        seed = (seed * 1103515245 + 12345) % 2147483648
        a = values[left + seed % size]
        b = values[left + (seed + size // 3) % size]
        c = values[left + (seed + 2 * size // 3) % size]
        pivot = max(min(a, b), min(max(a, b), c))
        middle = smaller_first(values, left, right, pivot, False)
        if rank < middle:
            right = middle - 1
        elif middle > left:
            left = middle
        else:  # none is smaller
            middle = smaller_first(values, left, right, pivot, True)
            found = rank < middle or middle == left  # among those that are equal, or the pivot is NaN
            left = rank if found else middle
            right = rank if found else right
    # smallest to the front by exchanges without a branch: insertion mispredicts at every row
    for i in range(left, rank + 1):
        least = values[right]
        for j in range(right - 1, i - 1, -1):
            v = values[j]
            values[j + 1] = least if v < least else v
            least = v if v < least else least
        values[i] = least
    chosen: float = values[rank]
    return chosen


@kernel
def median(values: FloatArray, n: int) -> float:
    """Median of values[:n], which are reordered."""
    half = n // 2
    upper = select(values, n, half)
    lower = upper
    for i in range(0 if n % 2 == 1 else half):
        lower = values[i] if i == 0 else max(lower, values[i])
    return 0.5 * lower + 0.5 * upper


@kernel
def median_deviation(values: FloatArray, n: int) -> float:
    """median(|v - median(v)|) of values[:n], which are overwritten."""
    middle = median(values, n)
    for i in range(n):
        values[i] = abs(values[i] - middle)
    return median(values, n)


@inlined
def sort_lanes(R: FloatArray, at: int, longest: int, ranks: int) -> None:
    """In each lane of the rows from ``at`` on the ``ranks`` smallest to the front, one by one."""
    for i in range(at, at + ranks):
        least = load(R, at + longest - 1)
        for j in range(at + longest - 2, i - 1, -1):
            v = load(R, j)
            smaller = v < least
            store(R, j + 1, where(smaller, least, v))
            least = where(smaller, v, least)
        store(R, i, least)


@inlined
def pick_lanes(R: FloatArray, at: int, r0: int, r1: int, r2: int, r3: int) -> Any:
    """What lanes have in these rows from ``at`` on."""
    return beside(R[at + r0, 0], R[at + r1, 1], R[at + r2, 2], R[at + r3, 3])


@inlined
def lane_medians(R: FloatArray, at: int, longest: int, size: IntArray) -> Any:
    """`median` of the first ``size`` rows from ``at`` on in each lane of R; behind them are infinities."""
    sort_lanes(R, at, longest, longest // 2 + 1)
    h0, h1, h2, h3 = size[0] // 2, size[1] // 2, size[2] // 2, size[3] // 2
    upper = pick_lanes(R, at, h0, h1, h2, h3)
    h0, h1 = max(h0 - 1 + size[0] % 2, 0), max(h1 - 1 + size[1] % 2, 0)
    h2, h3 = max(h2 - 1 + size[2] % 2, 0), max(h3 - 1 + size[3] % 2, 0)
    return 0.5 * pick_lanes(R, at, h0, h1, h2, h3) + 0.5 * upper
