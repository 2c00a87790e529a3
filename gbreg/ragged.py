# SPDX-License-Identifier: MIT
"""Groups of different numbers of rows, in arrays: side by side and padded, or one after the other."""

from __future__ import annotations

import numpy as np

from gbreg.problem import FloatArray, IntArray


def buckets(counts: IntArray, cells: int) -> list[IntArray]:
    """Group numbers of like size, so that padding at most doubles the rows.

    A bucket is cut where it would hold more than ``cells`` padded rows, unless it
    is one group.
    """
    bits = np.frexp(np.maximum(counts - 1, 0).astype(np.float64))[1]
    out = []
    for bit in np.flatnonzero(np.bincount(bits)):
        members = np.flatnonzero(bits == bit)
        step = max(1, cells >> int(bit))
        out += [members[i : i + step] for i in range(0, len(members), step)]
    return out


def padded_rows(starts: IntArray, counts: IntArray) -> IntArray:
    """Row numbers (m, r) of groups, the last row repeated up to the longest."""
    steps = np.arange(int(counts.max()))
    return np.asarray(starts[:, None] + np.minimum(steps, counts[:, None] - 1))


def padded_mad(r: FloatArray, counts: IntArray) -> FloatArray:
    """Median of ``|r - median(r)|`` over the rows of (t, m, rows) that exist -> (t, m)."""
    r = np.where(np.arange(r.shape[-1]) < counts[:, None], r, np.inf)
    r.sort(axis=-1)
    r -= _middle(r, counts)[..., None]
    np.abs(r, out=r)
    r.sort(axis=-1)
    return _middle(r, counts)


def _middle(ordered: FloatArray, counts: IntArray) -> FloatArray:
    group = np.arange(len(counts))
    low, high = ordered[:, group, (counts - 1) // 2], ordered[:, group, counts // 2]
    return np.asarray(0.5 * (low + high))


def grouped_mad(r: FloatArray, starts: IntArray, counts: IntArray) -> FloatArray:
    """`padded_mad` of contiguous rows: (t, n) -> (t, m).

    Sorting padded rows was 16 times faster than np.lexsort by value and group
    (26 against 420 us for 1,000 groups of 5 rows).
    """
    out = np.empty((len(r), len(counts)))
    for members in buckets(counts, 1 << 20):
        rows = padded_rows(starts[members], counts[members])
        out[:, members] = padded_mad(r[:, rows], counts[members])
    return out


def size_of(values: FloatArray, own: IntArray, g: int) -> FloatArray:
    """(g,) the largest absolute values, 1 where all are 0: over it squares stay in the range of float64."""
    largest = np.zeros(g)
    np.maximum.at(largest, own, np.abs(values))
    largest[largest == 0] = 1.0
    return largest


def norm_of(values: FloatArray, own: IntArray, g: int) -> FloatArray:
    """(g,) roots of the sums of squares, which stay in the range of float64."""
    largest = size_of(values, own, g)
    return np.asarray(largest * np.sqrt(np.bincount(own, np.square(values / largest[own]), g)))
