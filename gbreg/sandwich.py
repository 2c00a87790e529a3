# SPDX-License-Identifier: MIT
"""Covariances that do not trust the weights: heteroskedasticity-consistent and clustered.

One pass over the rows after any backend has fitted them, so all backends give the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from gbreg.backends import Progress
from gbreg.backends._ranges import map_ranges, piece_rows
from gbreg.estimates import Estimates, residuals
from gbreg.inference import sandwich_errors
from gbreg.influence import complement
from gbreg.problem import BoolArray, CovType, Flag, FloatArray, IntArray, Problem, Status
from gbreg.quadratic import cholesky
from gbreg.rows import Pattern

CHUNK_ROWS = 1 << 16  # rows in cache at once; a group is never cut
NOISE = 2.0**-40  # of an error, in those that residuals of their mean size would give
ROUNDING = 2.0**-50  # of a residual, in what it is the difference of
SEMIDEFINITE = 1e-12  # smaller pivots of a correlation matrix are what rounding left of 0


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
        leverage is 1 (HC2, HC3) or there is one cluster only.

    `add_sandwich` also takes out what is only rounding.
    """
    g, t = estimates.status.shape
    p = estimates.params.shape[2]
    out = np.full((g, t, p * p), np.nan)

    def work(g0: int, g1: int) -> None:
        progress(0)
        part = slice(g0, g1)
        rows = slice(int(problem.offsets[g0]), int(problem.offsets[g1]))
        own = np.repeat(np.arange(g1 - g0), np.diff(problem.offsets[g0 : g1 + 1]))
        with np.errstate(all="ignore"):
            side = np.sqrt(problem.w[rows])
            Q, inverse = orthonormal(unit_design(problem, estimates, part, rows, own, side), own, g1 - g0)
            leverage = sum((u * u for u in Q), np.zeros(len(own)))
            certain = np.sqrt(estimates.pivot[part, 0])[own]  # of orthonormal columns, not of their products
            left = complement(leverage, certain) if cov_type in ("HC2", "HC3") else None
            for q in range(t):
                norm = estimates.resid_norm[part, q]
                scores = side * _centred_residuals(problem, estimates, q, part, rows, own)
                scores /= np.where(norm > 0, norm, 1.0)[own]
                if left is not None:
                    scores /= np.sqrt(left) if cov_type == "HC2" else left
                groups = own
                columns = [scores * column for column in Q]
                if clusters is not None:
                    columns, groups = _summed(columns, own, clusters[rows])
                meat = _products(columns, groups, g1 - g0)
                meat *= _correction(estimates, part, cov_type, groups)
                factor = _product(inverse, _factor(meat))
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
    factor[_is_noise(factor, estimates)] = np.nan
    fitted = np.isin(estimates.status, (Status.OK, Status.RANK_DEFICIENT, Status.NOT_CONVERGED))
    none = fitted & np.isnan(factor).any(axis=2)
    flags = estimates.flags | np.where(none, Flag.NO_ROBUST_ERRORS, 0).astype(np.uint8)
    return replace(estimates, sandwich=factor, flags=flags)


def _is_noise(factor: FloatArray, estimates: Estimates) -> BoolArray:
    """(g, t) whether an error is no more than rounding leaves of one that is 0.

    So it is where the rows, or the clusters, that a coefficient depends on have scores that are 0
    whatever the data: a row alone at its level, a predictor that is constant in each of two clusters.
    """
    g, t = estimates.status.shape
    k, p = estimates.center.shape[2], estimates.params.shape[2]
    with np.errstate(all="ignore"):
        about = (estimates.wsum, estimates.norm, estimates.center)
        wsum, norm, center = (np.broadcast_to(a, (g, t, *a.shape[2:])) for a in about)
        errors, _ = sandwich_errors(factor, np.ones((g, t)), wsum, norm, center, p > k)
        size = np.abs(estimates.level) * np.sqrt(estimates.wsum) + estimates.target_norm
        noise = (NOISE + ROUNDING * size / estimates.resid_norm) / np.sqrt(estimates.nobs)
        small = (errors <= noise[:, :, None] * estimates.root).any(axis=2)
    perfect = (estimates.flags & Flag.PERFECT_FIT) > 0  # there errors are told to be noise anyway
    return np.asarray(small & (estimates.resid_norm > 0) & ~perfect)


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
    """Q of the columns of each group, by modified Gram-Schmidt, and R^-1 (p, p, g).

    Golub and Van Loan, Matrix Computations, section 5.2.
    """
    p = len(columns)
    Q: list[FloatArray] = []
    inverse = np.zeros((p, p, g))
    for j, column in enumerate(columns):
        along = np.zeros((p, g))
        for i, unit in enumerate(Q):
            along[i] = np.bincount(own, unit * column, minlength=g)
            column = column - along[i][own] * unit
        length = np.sqrt(np.bincount(own, column * column, minlength=g))
        Q.append(column / length[own])
        for i in range(j):
            inverse[i, j] = -sum((inverse[i, m] * along[m] for m in range(i, j)), np.zeros(g)) / length
        inverse[j, j] = 1 / length
    return Q, inverse


def _centred_residuals(
    problem: Problem, estimates: Estimates, q: int, part: slice, rows: slice, own: IntArray
) -> FloatArray:
    """(n,) of target q; with an intercept, their mean is what the level was rounded by."""
    resid = residuals(problem, estimates, q, rows, part, own)
    if estimates.params.shape[2] > problem.n_predictors:
        sums = np.bincount(own, problem.w[rows] * resid, minlength=part.stop - part.start)
        resid -= (sums / estimates.wsum[part, 0])[own]
    return resid


def _summed(
    columns: list[FloatArray], own: IntArray, clusters: IntArray
) -> tuple[list[FloatArray], IntArray]:
    """Scores summed over the clusters of each group, and the groups of these."""
    base = int(clusters.max(initial=0)) + 1
    numbers, uniques = pd.factorize(own * base + clusters)
    sums: list[FloatArray] = [
        np.bincount(numbers, column, minlength=len(uniques)).astype(np.float64, copy=False)
        for column in columns
    ]
    return sums, np.asarray(uniques // base, dtype=np.int64)


def _products(columns: list[FloatArray], own: IntArray, g: int) -> FloatArray:
    """(p, p, g) sums of products of columns in each group."""
    p = len(columns)
    out = np.empty((p, p, g))
    for i, j in _pairs(p):
        out[i, j] = out[j, i] = np.bincount(own, columns[i] * columns[j], minlength=g)
    return out


def _correction(estimates: Estimates, part: slice, cov_type: str, own: IntArray) -> FloatArray:
    """(g,) what makes up for the degrees of freedom; NaN where none is left."""
    n, p = estimates.nobs[part, 0].astype(np.float64), estimates.params.shape[2]
    left = np.where((n > p) & (estimates.rank[part, 0] == p), n - p, np.nan)
    if cov_type == "cluster":
        c = np.bincount(own, minlength=len(n)).astype(np.float64)
        return np.where(c > 1, c, np.nan) / (c - 1) * ((n - 1) / left)
    return (n if cov_type == "HC1" else left) / left


def _factor(A: FloatArray) -> FloatArray:
    """Lower L (p, p, g) with L L' = A, which may be singular, as where there are few clusters."""
    sizes = np.sqrt(A[range(len(A)), range(len(A))])
    unit = 1 / np.where(sizes == 0, 1.0, sizes)
    return cholesky(A * unit[:, None] * unit, smallest=SEMIDEFINITE, otherwise=0.0) * sizes[:, None]


def _product(A: FloatArray, B: FloatArray) -> FloatArray:
    """Matrix products (p, p, g), without BLAS, whose bits depend on the processor."""
    out = np.zeros(A.shape)
    for j in range(len(A)):
        out += A[:, j, None] * B[None, j]
    return out


def _pairs(p: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(p) for j in range(i + 1))
