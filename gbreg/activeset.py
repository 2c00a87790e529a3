# SPDX-License-Identifier: MIT
"""Small least squares problems in bulk: triangular factors, and solutions within bounds.

Matrices come first, (r, k, m) for m problems. Sums are written as loops: bits do not depend on how
many problems stand beside each other.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gbreg.problem import BoolArray, FloatArray, IntArray
from gbreg.quadratic import added

NOISE = 2.0**-46  # of gradients, relative to the terms whose sum they are
OPTIMAL = 2.0**-43  # what the proof of optimality allows them
SNAP = 2.0**-44  # of the size of a coefficient's terms: so near a bound, it is at it
ROUNDS = 30  # per coefficient: a problem takes a few in all


class Rows(NamedTuple):
    """Columns of stacked systems: long ones side by side, and a few rows more of each system."""

    long: list[FloatArray]  # (n,) each
    own: IntArray  # (n,) system of each row
    short: list[FloatArray]  # (r, m) each

    def along(self, i: int, j: int) -> FloatArray:
        """Products of columns (m,)."""
        m = self.short[i].shape[1]
        return np.asarray(
            np.bincount(self.own, self.long[i] * self.long[j], minlength=m)
            + added(self.short[i] * self.short[j], 0)
        )


def triangular(rows: Rows, p: int, gone: BoolArray) -> tuple[FloatArray, FloatArray]:
    """R (p, p, m) of the first p columns, and what Q' makes of the others, (p, t, m).

    Modified Gram-Schmidt with the right-hand sides as further columns, which is as stable as
    Householder's method (Bjorck 1967; Golub and Van Loan, Matrix Computations, section 5.2). Columns
    that are ``gone`` (p, m) count as 0, and as orthogonal to the others.
    """
    long, short = list(rows.long), list(rows.short)
    m, columns = short[0].shape[1], len(short)
    R, Z = np.zeros((p, p, m)), np.zeros((p, columns - p, m))
    for j in np.flatnonzero(gone.any(axis=1)).tolist():
        long[j] = np.where(gone[j][rows.own], 0.0, long[j])
        short[j] = np.where(gone[j], 0.0, short[j])
    for j in range(p):
        now = Rows(long, rows.own, short)
        length = np.where(gone[j], 1.0, np.sqrt(now.along(j, j)))
        long[j], short[j] = long[j] / length[rows.own], short[j] / length
        R[j, j] = length
        for i in range(j + 1, columns):
            share = now.along(j, i)
            long[i], short[i] = long[i] - share[rows.own] * long[j], short[i] - share * short[j]
            if i < p:
                R[j, i] = share
            else:
                Z[j, i - p] = share
    return R, Z


def dense(A: FloatArray, z: FloatArray, gone: BoolArray) -> tuple[FloatArray, FloatArray]:
    """`triangular` of A (r, k, m) and one right-hand side (r, m): (k, k, m), (k, m)."""
    k = A.shape[1]
    none = [np.empty(0)] * (k + 1)
    rows = Rows(none, np.empty(0, dtype=np.int64), [*A.swapaxes(0, 1), z])
    R, Z = triangular(rows, k, gone)
    return R, Z[:, 0]


def solved(R: FloatArray, Z: FloatArray) -> FloatArray:
    """R^-1 Z for upper triangular R (p, p, m) and Z (p, ..., m)."""
    out = Z.copy()
    for j in range(len(R) - 1, -1, -1):
        out[j] /= R[j, j]
        for i in range(j):
            out[i] -= R[i, j] * out[j]
    return out


def inverse(R: FloatArray) -> FloatArray:
    """R^-1 (p, p, m) of upper triangular R."""
    return solved(R, np.broadcast_to(np.eye(len(R))[:, :, None], R.shape))


class Bounded(NamedTuple):
    """Solutions within bounds."""

    x: FloatArray  # (k, m)
    free: BoolArray  # (k, m), not at a bound
    side: NDArray[np.int8]  # (k, m), -1 at the lower bound, 1 at the upper, else 0
    optimal: BoolArray  # (m,), by the conditions of Karush, Kuhn and Tucker


def bounded_least_squares(
    R: FloatArray, z: FloatArray, low: FloatArray, high: FloatArray, gone: BoolArray
) -> Bounded:
    """Minimise |R x - z| subject to low <= x <= high, all problems at once.

    An active set method, started from the clipped solution without bounds: of the coefficients at a
    bound, the one whose gradient points inward most is freed, and the way to the solution of those that
    are free ends at the first bound (Lawson and Hanson, Solving Least Squares Problems, chapter
    23; Stark and Parker 1995). Each step lowers the sum of squares, so that it ends; that it
    ended at the minimum is checked.

    Parameters
    ----------
    R : (k, k, m)
        Upper triangular, of full rank, columns of length about 1.
    z : (k, m)
    low, high : (k, m)
        May be infinite.
    gone : (k, m)
        Coefficients that are 0 whatever their bounds.

    Returns
    -------
    Bounded
    """
    x = np.where(gone, 0.0, np.clip(solved(R, z), low, high))
    free = (x > low) & (x < high) & ~gone
    fixed = gone | (low == high)
    left = np.flatnonzero(~(free | gone).all(axis=0) & np.isfinite(x).all(axis=0))
    barred = np.zeros(x.shape, dtype=np.bool_)  # freed, and at once stopped: rounding, not a way down
    last = np.full(x.shape[1], -1)
    for _ in range(ROUNDS * len(R)):
        if not len(left):
            break
        own = R[:, :, left], z[:, left], low[:, left], high[:, left]
        x[:, left], free[:, left], share, hit = _step(*own, x[:, left], free[:, left])
        stuck = np.flatnonzero((share <= 0) & (last[left] >= 0))
        stuck = stuck[hit[last[left[stuck]], stuck]]
        barred[last[left[stuck]], left[stuck]] = True
        full = left[share >= 1]
        went = full[(last[full] >= 0) & free[last[full], full]]
        barred[:, went] = False
        pull, noise = _pull(R[:, :, full], z[:, full], x[:, full])
        inward = np.where(x[:, full] == low[:, full], pull, -pull)
        inward[free[:, full] | barred[:, full] | fixed[:, full]] = -np.inf
        best = inward.argmax(axis=0)
        more = inward.max(axis=0) > NOISE * noise
        free[best[more], full[more]] = True
        last[full] = np.where(more, best, -1)
        left = np.concatenate([left[share < 1], full[more]])
    near = free & (snapped(x, low, high, 2.0**-20 * (1 + np.abs(x))) != x)
    if some := np.flatnonzero(near.any(axis=0)).tolist():
        roots = np.sqrt(added(np.square(np.where(free[:, some], inverse(R[:, :, some]), 0.0)), 1))
        size = added(np.abs(z[:, some]), 0) + added(np.abs(x[:, some]), 0)
        x[:, some] = np.where(
            free[:, some], snapped(x[:, some], low[:, some], high[:, some], SNAP * roots * size), x[:, some]
        )
        free &= (x > low) & (x < high)
    pull, noise = _pull(R, z, x)
    inside = (x >= low) & (x <= high)
    kind = np.where(
        x == low, np.maximum(pull, 0.0), np.where(x == high, np.maximum(-pull, 0.0), np.abs(pull))
    )
    wrong = (kind > OPTIMAL * noise) & ~fixed
    optimal = ~(wrong | ~(inside | gone)).any(axis=0) & np.isfinite(noise)
    optimal[left] = False
    side = np.where(free | gone, 0, np.where(x == low, -1, 1)).astype(np.int8)
    return Bounded(x, free, side, optimal)


def snapped(x: FloatArray, low: FloatArray, high: FloatArray, blur: FloatArray) -> FloatArray:
    """x, or the bound that it is not farther from than ``blur``."""
    return np.where(np.abs(x - low) <= blur, low, np.where(np.abs(x - high) <= blur, high, x))


def _step(
    R: FloatArray, z: FloatArray, low: FloatArray, high: FloatArray, x: FloatArray, free: BoolArray
) -> tuple[FloatArray, BoolArray, FloatArray, BoolArray]:
    """From x to the solution of the coefficients that are free, or to the first bound on the way.

    Returns where that is, what is free there, which share of the way it is (m,), and what was hit.
    """
    rest = z - added(R * np.where(free, 0.0, x), 1)
    aim = np.where(free, solved(*dense(R, rest, ~free)), x)
    below, above = free & (aim < low), free & (aim > high)
    ends = np.where(below, low, high)
    shares = np.full(x.shape, np.inf)
    np.divide(ends - x, aim - x, out=shares, where=below | above)
    share = np.minimum(shares.min(axis=0), 1.0)
    hit = (below | above) & (shares <= share)
    way = np.clip(x + share * (aim - x), low, high)
    x = np.where(hit, ends, np.where(share >= 1, aim, np.where(free, way, x)))
    # Rounding, or the solution itself, may end on another bound. Who has not moved was freed from there.
    hit |= free & (share > 0) & ((x == low) | (x == high))
    return x, free & ~hit, share, hit


def _pull(R: FloatArray, z: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Half of the negative gradient, R'(z - R x) (k, m), and the size of what it is the sum of (m,)."""
    rest = z - added(R * x, 1)
    size = added(np.abs(z), 0) + added(np.abs(x), 0)
    return np.array([added(R[:, j] * rest, 0) for j in range(len(R))]).reshape(x.shape), size
