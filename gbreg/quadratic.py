# SPDX-License-Identifier: MIT
"""Variances and tests of several coefficients at once, about the means of the predictors.

The value at the mean and the slopes are uncorrelated, so with S = (Xc'WXc)^-1, the covariance of the
slopes per unit of scale, a linear form r0 b0 + r'b has variance r0^2 / sum w + a'S a, where
a = r - r0 mean: a deviation, which keeps its digits where the intercept's large variance and
covariances would cancel. Shapes as in `inference`; matrices come first, (k, k, g).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gbreg.inference import unpacked
from gbreg.problem import BoolArray, FloatArray, IntArray

Parts = Sequence[FloatArray]  # a number is their sum, the largest first: integers beyond 2**53
SINGULAR = 1e-8  # restrictions whose independent part is smaller have lost half of their digits
FAINT = 2.0**-36  # of the terms of a sum, what may be rounding in its fifth digit
BLURRED = 2.0**-40  # of the terms of a relation between predictors, what rounding may leave of it
RELATION = 1e-6  # where it may leave more, nothing is told by it
NEAR = 1e-9  # correlations in float64 hold a pivot of this size to seven digits


def cholesky(
    C: FloatArray, smallest: float = NEAR, otherwise: float = np.nan, skip: BoolArray | None = None
) -> FloatArray:
    """Lower G (k, k, g) with G G' = C, of correlations (k, k, g).

    Golub and Van Loan, Matrix Computations, section 4.2. A pivot that is not above ``smallest``
    gives a column of ``otherwise``: NaN for what is then not known, 0 for what is singular. Columns
    to ``skip`` (k, g) are 0: in their row stay their coordinates along the others before them.
    """
    G = np.zeros_like(C)
    for j in range(len(C)):
        pivot = C[j, j] - added(G[j, :j] ** 2, 0)
        low = pivot <= smallest
        G[j, j] = np.where(low, otherwise, np.sqrt(np.where(low, np.nan, pivot)))
        for i in range(j + 1, len(C)):
            rest = C[i, j] - added(G[i, :j] * G[j, :j], 0)
            G[i, j] = np.where(low, otherwise, rest / np.where(low, np.nan, G[j, j]))
        if skip is not None:
            G[j:, j] = np.where(skip[j], 0.0, G[j:, j])
    return G


def slope_factor(root: FloatArray, corr: FloatArray, intercept: bool) -> FloatArray:
    """Lower L (k, k, g) with L L' = S: from (g, p) and (g, p(p-1)/2)."""
    first = int(intercept)
    return certain(cholesky(unpacked(corr, root.shape[1])[first:, first:])) * root[:, first:].T[:, None]


def fit_factor(xcorr: FloatArray, dropped: BoolArray) -> FloatArray:
    """Lower G (k, k, g) of the correlations (g, k(k-1)/2) of predictors that were not ``dropped`` (g, k).

    With d the deviations over `Estimates.norm`, a'S a = |G^-1 d|^2: where predictors are alike, so
    are their deviations, and what they differ by is found before it is divided by its size.
    """
    gone, k = dropped.T, dropped.shape[1]
    return certain(cholesky(np.where(gone[:, None] | gone, np.eye(k)[:, :, None], unpacked(xcorr, k))))


def certain(G: FloatArray) -> FloatArray:
    """G, and NaN where small pivots multiply: what rounding of G G' makes of an inverse square form."""
    return np.where(inverse_size(G) * NEAR <= 1, G, np.nan)


def inverse_size(G: FloatArray) -> FloatArray:
    """(g,) trace of (G G')^-1; of correlations this is the sum of the 1 / (1 - R2) of the predictors.

    A relative error u of correlations is one of u times this in the quadratic form of their inverse, or
    less (Golub and Van Loan, section 2.6).
    """
    with np.errstate(all="ignore"):
        return added(added(inverted(G.swapaxes(0, 1)) ** 2, 0), 0)


def inverted(R: FloatArray) -> FloatArray:
    """Inverses (p, p, g) of upper triangles; not finite where one is singular."""
    inverse = np.zeros(R.shape)
    for j in range(len(R)):
        for i in range(j):
            inverse[i, j] = -added(inverse[i, i:j] * R[i:j, j], 0) / R[j, j]
        inverse[j, j] = 1 / R[j, j]
    return inverse


def departure(
    xcorr: FloatArray,
    dropped: BoolArray,
    spread: FloatArray,
    center: FloatArray,
    deviations: FloatArray,
    groups: IntArray,
) -> FloatArray:
    """How far rows (n,) are from what their group makes of its dropped predictors, over what rounding allows.

    A dropped predictor is a combination of those before it, the same in every row of the group. A row
    where it is that combination too, to rounding (at most 1), has a value that the group determines.
    NaN where it cannot be told: a value is missing, or kept predictors are too near each other.

    Parameters
    ----------
    xcorr, dropped, spread, center
        (g, k(k-1)/2), (g, k) each; of groups with dropped predictors. ``spread`` is norm over the root of
        the sum of weights.
    deviations, groups
        (k, n), (n,); of rows in these groups.
    """
    k = dropped.shape[1]
    G = cholesky(unpacked(xcorr, k), skip=dropped.T)
    along: list[FloatArray] = []  # coordinates of the row, orthonormal
    blur: list[FloatArray] = []  # sizes of the terms whose rounding they hold
    out = np.zeros(len(groups))
    with np.errstate(all="ignore"):
        for i in range(k):
            length, gone = spread[groups, i], dropped[groups, i]
            rest, largest = deviations[i].copy(), np.abs(deviations[i]) + np.abs(center[groups, i])
            terms = largest.copy()
            for j in range(i):
                share, pivot = G[i, j][groups], G[j, j][groups]
                rest -= length * share * along[j]
                terms += length * (
                    np.abs(share) * blur[j] + np.where(pivot > 0, np.abs(along[j]) / pivot, 0.0)
                )
                largest += length * np.abs(share * along[j])
            largest += length  # what the predictor may be in other rows
            told = BLURRED * terms <= RELATION * largest
            far = np.where(told | (rest == 0), np.abs(rest) / (BLURRED * terms), np.nan)
            out = np.where(gone, np.maximum(out, np.where(rest == 0, 0.0, far)), out)
            scale = np.where(gone, np.inf, length * G[i, i][groups])
            along.append(rest / scale)
            blur.append(terms / scale)
    return out


def sandwich_factor(
    factor: FloatArray, resid_norm: FloatArray, wsum: FloatArray, norm: FloatArray, intercept: bool
) -> FloatArray:
    """F (p, p, g) with F F' the covariance of the level and the slopes, in the units of the data.

    From what `gbreg.sandwich` gives: (g, p p), (g,), (g,), (g, k).
    """
    with np.errstate(all="ignore"):  # the norm of a constant is 0, and there is no factor
        unit = 1 / norm.T
        if intercept:
            unit = np.concatenate([1 / np.sqrt(wsum)[None], unit])
        F: FloatArray = np.moveaxis(factor.reshape(len(factor), len(unit), len(unit)), 0, -1)
        return F * (unit * resid_norm)[:, None]


def leverage_root(
    G: FloatArray,
    norm: FloatArray,
    wsum: FloatArray,
    deviations: FloatArray,
    groups: IntArray,
    intercept: bool,
) -> FloatArray:
    """Standard deviation of fitted values at scale 1: (k, k, g), (g, k), (g,), (k, n), (n,) -> (n,).

    ``norm`` is inf for predictors that take no part. NaN for rows in group -1.
    """
    mean = 1 / np.sqrt(wsum) if intercept else np.zeros_like(wsum)
    out: FloatArray = np.append(mean, np.nan)[groups]
    known: list[FloatArray] = []
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for i in range(len(G)):
            own = deviations[i] / np.append(norm[:, i], np.nan)[groups]
            for j, other in enumerate(known):
                own = own - np.append(G[i, j], np.nan)[groups] * other
            known.append(own / np.append(G[i, i], np.nan)[groups])
            out = np.hypot(out, known[i])
    return out


def differences(
    R: FloatArray, values: FloatArray, level: Parts, slopes: FloatArray, center: Parts, intercept: bool
) -> FloatArray:
    """R b - values as r0 level - values + a'slopes: R (r, p), parts (g,), slopes (g, k) -> (r, g)."""
    out: FloatArray = np.broadcast_to(-values[:, None], (len(R), len(slopes)))
    for part in level if intercept else ():
        out = out + R[:, :1] * part
    out = out + added(about_center(R, center, intercept) * slopes.T, 1)
    return out


def about_center(R: FloatArray, center: Parts, intercept: bool) -> FloatArray:
    """Deviations a = r - r0 mean of each restriction: (r, p), (g, k) each -> (r, k, g)."""
    A = np.broadcast_to(R[:, int(intercept) :, None], (len(R), *center[0].T.shape))
    for part in center if intercept else ():
        A = A - R[:, :1, None] * part.T
    return A


def error_rows(R: FloatArray, L: FloatArray, center: Parts, wsum: FloatArray, intercept: bool) -> FloatArray:
    """M (r, k + intercept, g) with M M' the covariance of R b per unit of scale."""
    A = about_center(R, center, intercept)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        columns = [added(A * L[:, j], 1) for j in range(len(L))]
        if intercept:
            columns.append(R[:, :1] / np.sqrt(wsum))
    return np.stack(columns, axis=1)


def sandwich_rows(R: FloatArray, F: FloatArray, center: Parts, intercept: bool) -> FloatArray:
    """M (r, p, g) with M M' the covariance of R b, from a factor of that of the level and the slopes."""
    A = about_center(R, center, intercept)
    if intercept:
        A = np.concatenate([np.broadcast_to(R[:, :1, None], (len(R), 1, A.shape[2])), A], axis=1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return np.stack([added(A * F[:, j], 1) for j in range(len(F))], axis=1)


def sandwich_root(F: FloatArray, deviations: FloatArray, groups: IntArray, intercept: bool) -> FloatArray:
    """Standard deviation of fitted values: (p, p, g), (k, n), (n,) -> (n,).

    NaN for rows in group -1, and where it is rounding of its terms.
    """
    F = np.append(F, np.full((*F.shape[:2], 1), np.nan), axis=2)
    rows = [*deviations] if not intercept else [np.ones(len(groups)), *deviations]
    out, size = np.zeros(len(groups)), np.zeros(len(groups))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for j in range(len(F)):
            terms = np.array([F[i, j][groups] * rows[i] for i in range(len(F))])
            out = np.hypot(out, added(terms, 0))
            size = np.hypot(size, added(np.abs(terms), 0))
        return np.where(FAINT * size <= out, out, np.nan)


def squared_length(M: FloatArray, d: FloatArray) -> FloatArray:
    """d'(M M')^-1 d: (r, c, g), (r, g) -> (g,). NaN where the rows of M are dependent.

    By modified Gram-Schmidt on the rows of M (Golub and Van Loan, section 5.2), which does not
    square their condition.
    """
    with np.errstate(all="ignore"):
        sizes = np.abs(M).max(axis=1)
        M = M / sizes[:, None]
        lengths = np.sqrt(added(M * M, 1))
        Q, z = M / lengths[:, None], d / sizes / lengths
        total = np.zeros(M.shape[2])
        for i in range(len(Q)):
            rest = np.sqrt(added(Q[i] ** 2, 0))
            rest = np.where(rest > SINGULAR, rest, np.nan)
            unit, own = Q[i] / rest, z[i] / rest
            total += own * own
            for j in range(i + 1, len(Q)):
                along = added(Q[j] * unit, 0)
                Q[j] -= along * unit
                z[j] -= along * own
    return np.where(np.isfinite(total), total, np.nan)


def added(values: FloatArray, axis: int) -> FloatArray:
    """Sum along an axis, one by one: numpy's order depends on how many groups there are."""
    total: FloatArray = np.zeros(np.delete(values.shape, axis))
    for part in np.moveaxis(values, axis, 0):
        total = total + part
    return total
