# SPDX-License-Identifier: MIT
"""Covariances that do not trust the weights: heteroskedasticity-consistent and clustered.

One pass over the rows after any backend has fitted them, so all backends give the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from gbreg.backends import Progress
from gbreg.backends._ranges import map_ranges, piece_rows
from gbreg.estimates import Estimates, residuals, slope_sizes
from gbreg.problem import CovType, Flag, FloatArray, IntArray, Problem, Status
from gbreg.quadratic import added, inverted
from gbreg.rows import Pattern

CHUNK_ROWS = 1 << 16  # rows in cache at once; a group is never cut
ROUNDING = 2.0**-50  # of a sum, in its terms
DOUBTFUL = 2.0**-16  # of an error, what rounding may be of it
LEVER = 2.0**-10  # 1 - leverage of rows for which it is not taken from 1


def sandwich(
    problem: Problem,
    estimates: Estimates,
    cov_type: CovType,
    progress: Progress,
    clusters: IntArray | None = None,
    *,
    threads: int,
) -> FloatArray:
    """Factor F of the covariance F F' of the level and the slopes of each target, in units of their sizes.

    B (sum u u') B with bread B = (X'WX)^-1 and scores u = w r x of rows ("HC0") or summed over
    clusters, times n / (n - p) ("HC1"), with w r / sqrt(1 - h) ("HC2") or w r / (1 - h) ("HC3"),
    h the leverage, or times c / (c - 1) (n - 1) / (n - p) for c clusters ("cluster"): MacKinnon and
    White 1985; Cameron and Miller 2015, section II. As statsmodels' WLS.

    With sqrt(w) X = Q R, the covariance is R^-1 (sum Q'e e'Q) R^-T, so predictors that are nearly
    dependent cost as many digits as they do in a QR decomposition, not twice as many.

    Parameters
    ----------
    problem : Problem
    estimates : Estimates
        Of that problem.
    cov_type : {"HC0", "HC1", "HC2", "HC3", "cluster"}
    progress : callable
        Called with 0 between pieces of work; may raise.
    clusters : (n,) int64, optional
        Cluster of each row of the problem, from 0; within a group, equal numbers are one cluster.
    threads : int
        Threads over group ranges. Changes no bit.

    Returns
    -------
    (g, t, p p)
        Rows of F for a = (level, slopes), where a_0 is in units of resid_norm / sqrt(wsum), slope j of
        resid_norm / norm_j. NaN where coefficients are missing, no degree of freedom is left, a
        leverage is 1 (HC2, HC3), there is one cluster only, or rounding may be more than `DOUBTFUL` of
        the error of a coefficient: of a perfect fit, whose flag tells that, it is left in.
    """
    g, t = estimates.status.shape
    p = estimates.params.shape[2]
    out = np.full((g, t, p * p), np.nan)
    perfect = (estimates.flags & Flag.PERFECT_FIT) > 0

    def work(g0: int, g1: int) -> None:
        progress(0)
        part = slice(g0, g1)
        rows = slice(int(problem.offsets[g0]), int(problem.offsets[g1]))
        own = np.repeat(np.arange(g1 - g0), np.diff(problem.offsets[g0 : g1 + 1]))
        with np.errstate(all="ignore"):
            side = np.sqrt(problem.w[rows])
            Q, R = orthonormal(unit_design(problem, estimates, part, rows, own, side), own, g1 - g0)
            inverse = inverted(R)
            certain = np.sqrt(estimates.pivot[part, 0])[own]  # of orthonormal columns, not of their products
            left = np.ones(len(own))
            levers: list[_Levers] = []
            if cov_type in ("HC2", "HC3"):
                left, levers = _complements(Q, own)
                left[~(np.sqrt(left) * certain > ROUNDING / DOUBTFUL)] = np.nan
            divisor = np.sqrt(left) if cov_type == "HC2" else left
            numbers, groups = _numbered(own, None if clusters is None else clusters[rows])
            pulls = _pulls(Q, inverse, estimates, part, own)
            correction = np.sqrt(_correction(estimates, part, cov_type, groups))
            for q in range(t):
                norm = estimates.resid_norm[part, q]
                unit = side / np.where(norm > 0, norm, 1.0)[own]
                scores = unit * _centred_residuals(problem, estimates, q, part, rows, own)
                doubt = ROUNDING * unit * slope_sizes(problem, estimates, q, rows, part, own)
                for lever in levers:
                    scores[lever.row] = -lever.sum(lever.cross * scores[lever.others])
                    doubt[lever.row] = lever.sum(np.abs(lever.cross) * doubt[lever.others])
                scores /= divisor
                doubt = doubt / divisor + ROUNDING * np.abs(scores) / (np.sqrt(left) * certain)
                sums = [_summed(scores * column, numbers) for column in Q]
                _, meat = orthonormal(sums, groups, g1 - g0)  # R'R is the sum of products
                factor = _product(inverse, meat.swapaxes(0, 1)) * correction
                for pull, size in pulls:
                    noise = np.abs(pull) * doubt + ROUNDING * size * np.abs(scores)
                    lost = np.bincount(groups, _summed(noise, numbers) ** 2, g1 - g0)
                    error = np.bincount(groups, _summed(pull * scores, numbers) ** 2, g1 - g0)
                    factor[..., ~((lost <= DOUBTFUL**2 * error) | perfect[part, q])] = np.nan
                out[part, q] = np.moveaxis(factor, -1, 0).reshape(g1 - g0, p * p)

    rows_each = piece_rows(problem.n_rows, threads, CHUNK_ROWS)
    map_ranges(work, problem, problem.split(rows_each), threads, lambda rows: progress(0))
    return out


def add_sandwich(
    block: Pattern,
    estimates: Estimates,
    cov_type: CovType,
    clusters: IntArray | None,
    progress: Progress,
    threads: int,
) -> Estimates:
    """With the covariances of the targets of a block, and a flag where there should be one but is not."""
    if clusters is not None and block.keep is not None:
        clusters = clusters[block.keep]
    factor = sandwich(block.problem, estimates, cov_type, progress, clusters, threads=threads)
    fitted = np.isin(estimates.status, (Status.OK, Status.RANK_DEFICIENT, Status.NOT_CONVERGED))
    none = fitted & np.isnan(factor).any(axis=2)
    flags = estimates.flags | np.where(none, Flag.NO_ROBUST_ERRORS, 0).astype(np.uint8)
    return replace(estimates, sandwich=factor, flags=flags)


def unit_design(
    problem: Problem,
    estimates: Estimates,
    groups: slice | IntArray,
    rows: slice | IntArray,
    own: IntArray,
    side: FloatArray,
    kept: Iterable[int] | None = None,
) -> list[FloatArray]:
    """Columns (n,) of sqrt(w) X about the centre as it is stored, each of length about 1 in each group.

    The constant, if there is one, and the predictors that are ``kept``, by default all. ``own`` is the
    place in ``groups`` of each row's group, ``side`` the root of its weight.
    """
    columns = []
    if estimates.params.shape[2] > problem.n_predictors:
        columns.append(side / np.sqrt(estimates.wsum[groups, 0])[own])
    for j in range(problem.n_predictors) if kept is None else kept:
        deviation = problem.Z[rows, j] - estimates.center[groups, 0, j][own]
        columns.append(deviation * side / estimates.norm[groups, 0, j][own])
    return columns


def orthonormal(columns: list[FloatArray], own: IntArray, g: int) -> tuple[list[FloatArray], FloatArray]:
    """Q of the columns of each group, 0 for one that is 0, and R (p, p, g), by modified Gram-Schmidt.

    Golub and Van Loan, Matrix Computations, section 5.2.
    """
    Q: list[FloatArray] = []
    R = np.zeros((len(columns), len(columns), g))
    for j, column in enumerate(columns):
        for i, unit in enumerate(Q):
            R[i, j] = np.bincount(own, unit * column, minlength=g)
            column = column - R[i, j][own] * unit
        R[j, j] = np.sqrt(np.bincount(own, column * column, minlength=g))
        Q.append(column / np.where(R[j, j] == 0, 1.0, R[j, j])[own])
    return Q, R


def _centred_residuals(
    problem: Problem, estimates: Estimates, q: int, part: slice, rows: slice, own: IntArray
) -> FloatArray:
    """(n,) of target q; with an intercept, their mean is what the level was rounded by."""
    resid = residuals(problem, estimates, q, rows, part, own)
    if estimates.params.shape[2] > problem.n_predictors:
        sums = np.bincount(own, problem.w[rows] * resid, minlength=part.stop - part.start)
        resid -= (sums / estimates.wsum[part, 0])[own]
    return resid


class _Levers(NamedTuple):
    """Rows of leverages near 1, one in each of some groups, and the rows beside them."""

    row: IntArray  # (r,)
    others: IntArray  # (n',)
    place: IntArray  # (n',), in ``row``
    cross: FloatArray  # (n',), q_i'q_j of row i and another
    leverage: FloatArray  # (r,)

    def sum(self, values: FloatArray) -> FloatArray:
        """(r,) sums of values (n',) over the others, by leverage."""
        return np.asarray(np.bincount(self.place, values, len(self.row)) / self.leverage)


def _complements(Q: list[FloatArray], own: IntArray) -> tuple[FloatArray, list[_Levers]]:
    """1 - leverage (n,), and rows of which it, and the residual, would be what is left of a difference.

    The hat matrix H = QQ' is a projection, HH = H and Hr = 0: for row i, h (1 - h) is the sum of
    squares of h_ij over the other rows, and h r_i is -sum h_ij r_j.
    """
    leverage = sum((u * u for u in Q), np.zeros(len(own)))
    left = 1 - leverage
    levers = []
    near = np.flatnonzero(left < LEVER)
    while len(near):
        first = np.unique(own[near], return_index=True)[1]  # of each group
        row, near = near[first], np.delete(near, first)
        place = np.full(own[-1] + 1, -1)
        place[own[row]] = np.arange(len(row))
        others = np.flatnonzero(place[own] >= 0)
        others = others[row[place[own[others]]] != others]
        at = place[own[others]]
        cross = added(np.array([u[row[at]] * u[others] for u in Q]), 0)
        levers.append(_Levers(row, others, at, cross, leverage[row]))
        left[row] = levers[-1].sum(cross * cross)
    return left, levers


def _numbered(own: IntArray, clusters: IntArray | None) -> tuple[IntArray | None, IntArray]:
    """Numbers (n,) of the clusters of all groups, and the group of each: by default, of each row."""
    if clusters is None:
        return None, own
    base = int(clusters.max(initial=0)) + 1
    numbers, uniques = pd.factorize(own * base + clusters)
    return np.asarray(numbers, dtype=np.int64), np.asarray(uniques // base, dtype=np.int64)


def _summed(values: FloatArray, numbers: IntArray | None) -> FloatArray:
    return values if numbers is None else np.asarray(np.bincount(numbers, values), dtype=np.float64)


def _pulls(
    Q: list[FloatArray], inverse: FloatArray, estimates: Estimates, part: slice, own: IntArray
) -> list[tuple[FloatArray, FloatArray]]:
    """What each coefficient changes by with a row's residual (n,), and the size of the terms of that (n,)."""
    p, k = len(Q), estimates.center.shape[2]
    rows_of = inverse
    if p > k:
        far = estimates.center[part, 0] * np.sqrt(estimates.wsum[part]) / estimates.norm[part, 0]
        rows_of = inverse.copy()
        for j in range(k):
            rows_of[0] -= far[:, j] * inverse[1 + j]
    out = []
    for i in range(p):
        terms = np.array([rows_of[i, j][own] * Q[j] for j in range(i, p)])
        out.append((added(terms, 0), added(np.abs(terms), 0)))
    return out


def _correction(estimates: Estimates, part: slice, cov_type: str, own: IntArray) -> FloatArray:
    """(g,) what makes up for the degrees of freedom; NaN where none is left."""
    n, p = estimates.nobs[part, 0].astype(np.float64), estimates.params.shape[2]
    left = np.where((n > p) & (estimates.rank[part, 0] == p), n - p, np.nan)
    if cov_type == "cluster":
        c = np.bincount(own, minlength=len(n)).astype(np.float64)
        return np.where(c > 1, c, np.nan) / (c - 1) * ((n - 1) / left)
    return (n if cov_type == "HC1" else left) / left


def _product(A: FloatArray, B: FloatArray) -> FloatArray:
    """Matrix products (p, p, g), without BLAS, whose bits depend on the processor."""
    out = np.zeros(A.shape)
    for j in range(len(A)):
        out += A[:, j, None] * B[None, j]
    return out
