# SPDX-License-Identifier: MIT
"""What both precisions of the numpy backend share: triangular solves, statuses.

Quantities of many groups keep the groups on the last axis, (k, t, m) for m groups;
`Estimates` has them first. Sums over coefficients are written as loops: numpy picks
the order of a reduction by the shape of the array, and a group's bits must not
depend on how many groups stand beside it.
"""

from __future__ import annotations

import numpy as np

from gbreg import doubledouble as dd
from gbreg.doubledouble import DD
from gbreg.estimates import Estimates, pairs
from gbreg.problem import BoolArray, FitOptions, Flag, FloatArray, Status


def correlations(V: FloatArray, root: FloatArray) -> FloatArray:
    """Off-diagonal of (p, p, m) over roots (p, m) of its diagonal -> (m, p(p-1)/2)."""
    i, j = pairs(len(root))
    return np.ascontiguousarray((V[i, j] / root[i] / root[j]).T)


def settle(est: Estimates, options: FitOptions, estimable: BoolArray | None, lost: BoolArray | None) -> None:
    """Statuses of fitted groups, and the NaNs they ask for, in place.

    Parameters
    ----------
    est
        Of fitted groups only, with every number as computed.
    options
        Only the intercept is used.
    estimable
        (m, p); None: all are.
    lost
        (m, t), a number is not 0 but below the normal numbers, or cannot be told; None: nowhere.
    """
    p = est.params.shape[2]
    rank = est.rank[:, 0]
    saturated = (est.nobs[:, 0] == p) & (rank == p)
    full = np.where(saturated, Status.SATURATED, Status.OK).astype(np.uint8)
    est.status[:] = np.where(rank < p, np.uint8(Status.RANK_DEFICIENT), full)[:, None]
    if saturated.any():
        est.resid_norm[saturated] = 0.0
        if options.mad:
            est.mad[saturated] = 0.0
    finite_params = np.isfinite(est.params)
    finite_root: BoolArray = np.isfinite(est.root[:, 0])
    if estimable is not None:
        gone = np.broadcast_to(est.dropped, (*est.status.shape, est.dropped.shape[2]))
        est.params[:, :, p - gone.shape[2] :][gone] = np.nan
        finite_params |= ~estimable[:, None]
        est.root[:, 0][~estimable] = np.nan
        i, j = pairs(p)
        est.corr[:, 0][~(estimable[:, i] & estimable[:, j])] = np.nan
        finite_root = finite_root | ~estimable
    fine = finite_params.all(axis=2) & np.isfinite(est.resid_norm) & np.isfinite(est.target_norm)
    fine &= np.isfinite(est.level)
    fine &= np.all(finite_root, axis=1, keepdims=True)
    if lost is not None:
        fine &= ~lost
    if not fine.all():
        est.blank(~fine)
        est.target_norm[~fine] = np.nan
        est.status[~fine] = Status.OVERFLOW
        est.flags[~fine] &= np.uint8(Flag.EXTENDED)


def forget(est: Estimates, which: BoolArray) -> None:
    """What the targets share of groups (m,) that could not be fitted."""
    for name in ("wsum", "root", "corr", "center", "norm", "xcorr", "pivot"):
        getattr(est, name)[which] = np.nan
    est.rank[which] = 0
    est.dropped[which] = False


def forward(L: DD, kept: BoolArray, R: DD) -> DD:
    """L^-1 R for R (k, q, m); 0 for predictors that are not kept."""
    k = len(kept)
    out = (R[0].copy(), R[1].copy())
    for j in range(k):
        x = dd.where(kept[j], dd.div(dd.at(out, j), dd.at(L, (j, j))))
        dd.put(out, j, x)
        below = slice(j + 1, k)
        if j + 1 < k:
            known = dd.mul(dd.at(L, (below, j, None)), x)
            dd.put(out, below, dd.sub(dd.at(out, below), known))
    return out


def backward(L: DD, kept: BoolArray, R: DD) -> DD:
    """L'^-1 R for R (k, q, m); 0 for predictors that are not kept."""
    out = (R[0].copy(), R[1].copy())
    for j in range(len(kept) - 1, -1, -1):
        x = dd.where(kept[j], dd.div(dd.at(out, j), dd.at(L, (j, j))))
        dd.put(out, j, x)
        if j:
            known = dd.mul(dd.at(L, (j, slice(j), None)), x)
            dd.put(out, slice(j), dd.sub(dd.at(out, slice(j)), known))
    return out


def combination(b: DD, z: DD) -> DD:
    """Sum over j of b (k, t, m) times z (k, m) -> (t, m)."""
    total = dd.zeros(b[0].shape[1:])
    for j in range(len(z[0])):
        total = dd.add(total, dd.mul(dd.at(b, j), dd.at(z, j)))
    return total


def cancelled(L: FloatArray, S: FloatArray, kept: BoolArray, j: int) -> FloatArray:
    """1 and the sizes (m,) of what explains predictor j, in its own: a pivot is known to their square."""
    c = L[j, :j].copy()
    total = np.ones(S.shape[2])
    for i in range(j - 1, -1, -1):
        c[i] = np.where(kept[i], c[i] / L[i, i], 0.0)
        c[:i] -= L[i, :i] * c[i]
        total += np.abs(c[i]) * np.sqrt(S[i, i] / S[j, j])
    return total
