# SPDX-License-Identifier: MIT
"""Covariances that do not trust the weights: heteroskedasticity-consistent and clustered.

One pass over the rows after any backend has fitted them, so all backends give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from gbreg.inference import FULL, unpacked
from gbreg.problem import CovType, Estimates, Flag, FloatArray, IntArray, Problem, Status
from gbreg.rows import Pattern

CHUNK_ROWS = 1 << 16  # rows in cache at once; a group is never cut


def sandwich(
    problem: Problem,
    estimates: Estimates,
    cov_type: CovType,
    progress: Callable[[int], None],
    clusters: IntArray | None = None,
) -> FloatArray:
    """Covariance of the level and the slopes of each target, in units of their sizes.

    B (sum u u') B with bread B = (X'WX)^-1 and scores u = w r x of rows ("HC0") or summed over
    clusters, times n / (n - p) ("HC1"), with w r / sqrt(1 - h) ("HC2") or w r / (1 - h) ("HC3"),
    h the leverage, or times c / (c - 1) (n - 1) / (n - p) for c clusters ("cluster"): MacKinnon and
    White 1985; Cameron and Miller 2015, section II. As statsmodels' WLS.

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

    Returns
    -------
    (g, t, p (p + 1) / 2)
        Lower triangle by rows, (0,0), (1,0), (1,1), ... of the covariance of a = (level, slopes)
        where a_0 is in units of resid_norm / sqrt(wsum), slope j of resid_norm / norm_j. NaN
        where coefficients are missing, no degree of freedom is left, a leverage is 1 (HC2, HC3)
        or there is one cluster only.
    """
    g, t = estimates.status.shape
    p = estimates.params.shape[2]
    out = np.full((g, t, p * (p + 1) // 2), np.nan)
    for g0, g1 in problem.split(CHUNK_ROWS):
        progress(0)
        part = slice(g0, g1)
        rows = slice(int(problem.offsets[g0]), int(problem.offsets[g1]))
        own = np.repeat(np.arange(g1 - g0), np.diff(problem.offsets[g0 : g1 + 1]))
        with np.errstate(all="ignore"):
            side = np.sqrt(problem.w[rows])
            unit = _unit_design(problem, estimates, part, rows, own, side)
            bread = _unit_bread(estimates, part)
            near = _near(unit, bread, own) if cov_type in ("HC2", "HC3") else None
            for q in range(t):
                scores = side * _residuals(problem, estimates, q, part, rows, own)
                scores /= estimates.resid_norm[part, q][own]
                if near is not None:
                    scores /= np.sqrt(near) if cov_type == "HC2" else near
                groups = own
                columns = [scores * column for column in unit]
                if clusters is not None:
                    columns, groups = _summed(columns, own, clusters[rows])
                meat = _products(columns, groups, g1 - g0)
                meat *= _correction(estimates, part, cov_type, groups)
                out[part, q] = _between(bread, meat)
        nothing = (estimates.resid_norm[part] == 0) & (estimates.rank[part] == p)
        out[part][nothing & (estimates.nobs[part] > p)] = 0.0
    return out


def add_sandwich(
    block: Pattern,
    estimates: Estimates,
    cov_type: CovType,
    clusters: IntArray | None,
    progress: Callable[[int], None],
) -> Estimates:
    """With the covariances of the targets of a block, and a flag where there should be one but is not."""
    if clusters is not None and block.keep is not None:
        clusters = clusters[block.keep]
    lower = sandwich(block.problem, estimates, cov_type, progress, clusters)
    none = (estimates.status == Status.OK) & np.isnan(lower).any(axis=2)
    flags = estimates.flags | np.where(none, Flag.NO_ROBUST_ERRORS, 0).astype(np.uint8)
    return replace(estimates, sandwich=lower, flags=flags)


def _unit_design(
    problem: Problem, estimates: Estimates, part: slice, rows: slice, own: IntArray, side: FloatArray
) -> list[FloatArray]:
    """Columns (n,) of sqrt(w) X about the means, each of length 1 in each group.

    Without what rounding left of the mean in the centre, which for a far origin is not little.
    """
    columns = []
    intercept = estimates.params.shape[2] > problem.n_predictors
    if intercept:
        columns.append(side / np.sqrt(estimates.wsum[part, 0])[own])
    for j, x in enumerate(problem.X):
        deviation = x[rows] - estimates.center[part, 0, j][own]
        if intercept:
            share = columns[0] * columns[0]
            deviation -= np.bincount(own, share * deviation, minlength=part.stop - part.start)[own]
        columns.append(deviation * side / estimates.norm[part, 0, j][own])
    return columns


def _unit_bread(estimates: Estimates, part: slice) -> FloatArray:
    """(p, p, g) inverse of the products of the unit columns: with an intercept, 1 and the slopes' block."""
    norm = estimates.norm[part, 0].T
    k, p = len(norm), estimates.params.shape[2]
    size = estimates.root[part, 0].T[p - k :] * norm
    corr = unpacked(estimates.corr[part, 0], p)[p - k :, p - k :]
    bread = np.zeros((p, p, norm.shape[1]))
    bread[0, 0] = 1.0
    bread[p - k :, p - k :] = size[:, None] * size[None, :] * corr
    return bread


def _near(unit: list[FloatArray], bread: FloatArray, own: IntArray) -> FloatArray:
    """(n,) 1 - leverage; NaN where the leverage is 1 but for rounding."""
    leverage = np.zeros(len(own))
    for i, j in _pairs(len(unit)):
        leverage += (1 if i == j else 2) * bread[i, j][own] * unit[i] * unit[j]
    near = 1 - leverage
    return np.where(near > FULL, near, np.nan)


def _residuals(
    problem: Problem, estimates: Estimates, q: int, part: slice, rows: slice, own: IntArray
) -> FloatArray:
    """(n,) of target q; deviations from the centre lose no digits."""
    k = problem.n_predictors
    slopes = estimates.params[part, q, estimates.params.shape[2] - k :]
    resid = problem.Y[q, rows] - estimates.level[part, q][own]
    for j, x in enumerate(problem.X):
        resid -= slopes[own, j] * (x[rows] - estimates.center[part, 0, j][own])
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


def _between(bread: FloatArray, meat: FloatArray) -> FloatArray:
    """Lower triangle of bread meat bread, (g, p (p + 1) / 2)."""
    rows, columns = np.tril_indices(len(bread))
    lower: FloatArray = _product(_product(bread, meat), bread)[rows, columns].T
    return lower


def _product(A: FloatArray, B: FloatArray) -> FloatArray:
    """Matrix products (p, p, g), without BLAS, whose bits depend on the processor."""
    out = np.zeros(A.shape)
    for j in range(len(A)):
        out += A[:, j, None] * B[None, j]
    return out


def _pairs(p: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(p) for j in range(i + 1))
