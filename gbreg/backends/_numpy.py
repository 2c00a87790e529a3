# SPDX-License-Identifier: MIT
"""Vectorised over groups; needs nothing but numpy.

The rows of a range are reduced per group with ``np.add.reduceat``. Groups whose
numbers float64 cannot vouch for are done again in double-double arithmetic
(`_numpy_extended`). No BLAS or LAPACK: their bits depend on the processor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gbreg import doubledouble as dd
from gbreg.backends import Progress, check_jobs
from gbreg.backends._numpy_common import correlations, settle
from gbreg.backends._numpy_extended import fit_extended
from gbreg.backends._ranges import cores, map_ranges
from gbreg.estimates import PER_PATTERN, PER_TARGET, Estimates
from gbreg.problem import (
    LIMITS,
    SMALLEST_NORMAL,
    BoolArray,
    FitOptions,
    Flag,
    FloatArray,
    IntArray,
    Problem,
    Status,
)
from gbreg.ragged import grouped_mad

ROWS = 2**17  # per range


class NumpyBackend:
    """The reference engine: one weighted regression per group, in numpy alone.

    Parameters
    ----------
    n_jobs
        Threads over group ranges; None is 1, -1 all cores. Changes no bit of the result.
    """

    name = "numpy"

    def __init__(self, n_jobs: int | None = None) -> None:
        check_jobs(n_jobs)
        self.n_jobs = n_jobs

    def __repr__(self) -> str:
        return f"NumpyBackend(n_jobs={self.n_jobs})"

    def threads(self, n_rows: int) -> int:
        """How many a problem of that size gets: see `Backend`."""
        return cores() if self.n_jobs == -1 else self.n_jobs or 1

    def fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates:
        def work(g0: int, g1: int) -> Estimates:
            return fit_range(problem, g0, g1, options)

        parts = map_ranges(work, problem, problem.split(ROWS), self.threads(problem.n_rows), progress)
        if not parts:
            return Estimates.empty(0, problem.n_predictors, problem.n_targets, options.intercept)
        return parts[0] if len(parts) == 1 else Estimates.stack_groups(parts)


@dataclass(frozen=True, slots=True)
class Rows:
    """Contiguous rows of m groups, none of them empty; c = k + t columns, predictors first."""

    Z: FloatArray  # (c, n)
    w: FloatArray  # (n,)
    unweighted: bool  # every weight is 1: multiplying by it is left out
    starts: IntArray  # (m,)
    counts: IntArray  # (m,)
    origin: FloatArray | None  # (c, m)
    k: int

    def sums(self, values: FloatArray) -> FloatArray:
        """Sum per group: (..., n) -> (..., m)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1))

    def spread(self, values: FloatArray) -> FloatArray:
        """Repeat a value per group for its rows: (..., m) -> (..., n), or (..., 1) for a single group.

        `np.repeat` holds the interpreter: seconds for one long group, deaf to Ctrl-C.
        """
        if len(self.counts) == 1:
            return values
        return np.repeat(values, self.counts, axis=-1)

    def weighted(self, values: FloatArray) -> FloatArray:
        return values if self.unweighted else values * self.w


@dataclass(slots=True)
class Moments:
    """Centred cross products of the predictors and with the targets."""

    W: FloatArray  # (m,)
    center: FloatArray  # (c, m), weighted means; 0 without intercept
    rest: FloatArray  # (c, m), what rounding took from center
    mean: FloatArray  # (c, m), weighted means about the first row
    S: FloatArray  # (k, k, m)
    B: FloatArray  # (k, t, m)
    tss: FloatArray  # (t, m)


def fit_range(problem: Problem, g0: int, g1: int, options: FitOptions) -> Estimates:
    """Estimates of groups g0:g1."""
    counts = np.diff(problem.offsets[g0 : g1 + 1])
    fitted = counts >= max(options.min_nobs, 1)
    if fitted.all():
        with np.errstate(all="ignore"):
            return fit_groups(_rows(problem, g0, g1, counts, None), options)
    out = Estimates.empty(g1 - g0, problem.n_predictors, problem.n_targets, options.intercept)
    out.nobs[:, 0] = counts
    out.status[counts > 0] = Status.TOO_FEW_ROWS
    if fitted.any():
        with np.errstate(all="ignore"):
            part = fit_groups(_rows(problem, g0, g1, counts, fitted), options)
        out.put_groups(fitted, part)
    return out


def _rows(problem: Problem, g0: int, g1: int, counts: IntArray, fitted: BoolArray | None) -> Rows:
    """Rows of the fitted groups among g0:g1 (None: all of them)."""
    rows: slice | IntArray = slice(int(problem.offsets[g0]), int(problem.offsets[g1]))
    origin = None if problem.origin is None else problem.origin[g0:g1].T
    if fitted is not None:
        rows = np.flatnonzero(np.repeat(fitted, counts)) + problem.offsets[g0]
        counts = counts[fitted]
        origin = None if origin is None else origin[:, fitted]
    columns = np.ascontiguousarray(problem.Z[rows].T)
    w = columns[-1]
    return Rows(
        Z=columns[:-1],
        w=w,
        unweighted=bool((w == 1).all()),
        starts=np.cumsum(counts) - counts,
        counts=counts,
        origin=origin,
        k=problem.n_predictors,
    )


def fit_groups(rows: Rows, options: FitOptions) -> Estimates:
    """Estimates of m groups, in float64 where that will do."""
    m = len(rows.counts)
    if options.precision == "extended":
        est = _extended(rows, np.arange(m), options)
    else:
        est, whole, single = fit_fast(rows, options)
        again = np.flatnonzero(whole | single.any(axis=1))
        if again.size:
            part = _extended(rows, again, options)
            picked = whole[again]
            for name in PER_PATTERN:
                getattr(est, name)[again[picked]] = getattr(part, name)[picked]
            picked_targets = picked[:, None] | single[again]
            i, j = np.nonzero(picked_targets)
            for name in PER_TARGET:
                getattr(est, name)[again[i], j] = getattr(part, name)[picked_targets]
    est.log_wsum[:, 0] = 0.0 if rows.unweighted else rows.sums(np.log(rows.w))
    return est


def _extended(rows: Rows, members: IntArray, options: FitOptions) -> Estimates:
    return fit_extended(
        rows.Z[: rows.k],
        rows.Z[rows.k :],
        rows.w,
        rows.starts[members],
        rows.counts[members],
        None if rows.origin is None else rows.origin.T[members],
        options,
    )


def fit_fast(rows: Rows, options: FitOptions) -> tuple[Estimates, BoolArray, BoolArray]:
    """Estimates, groups (m,) and targets (m, t) that are to be done again."""
    k, first = rows.k, int(options.intercept)
    C, mom = moments(rows, options.intercept)
    P, pivot = inverse(mom.S)
    b, low, drift, r = solve(rows, C, mom.B, P, mom.W, options.intercept)
    rss = rows.sums(rows.weighted(r) * r)
    level = mom.center[k:] + (drift + mom.rest[k:] - sum(b[j] * mom.rest[j] for j in range(k)))
    slopes_ok = (((np.abs(b) >= SMALLEST_NORMAL) & (np.abs(b) < np.inf)) | (b == 0)).all(axis=0)
    whole = _unsafe_group(rows, mom, pivot)
    constant, single = _unsafe_target(rows, C, mom, b, level, rss, k + first)
    single |= ~(slopes_ok & np.isfinite(level))

    est = Estimates.empty(len(rows.counts), k, len(level), options.intercept)
    if constant.any():
        b, low = np.where(constant, 0.0, b), np.where(constant, 0.0, low)
    est.params[:, :, first:] = b.transpose(2, 1, 0)
    est.level[:] = level.T
    est.resid_norm[:] = np.sqrt(rss).T
    est.target_norm[:] = np.sqrt(mom.tss).T
    if options.mad:
        est.mad[:] = grouped_mad(r, rows.starts, rows.counts).T
    est.flags[:] = _flags(constant, rows.counts > k + first).T
    _patterns(est, rows, mom, P, pivot, options.intercept)
    if options.intercept:
        est.params[:, :, 0] = intercepts(mom, b, low, drift, rows.origin).T
    settle(est, options, None, None)
    return est, whole, single.T


def moments(rows: Rows, intercept: bool) -> tuple[FloatArray, Moments]:
    """Centred columns (c, n) and their cross products.

    Columns are first shifted by the group's first row: exact for columns far from 0.
    """
    Z, k = rows.Z, rows.k
    W = rows.sums(rows.w)
    if intercept:
        first = Z[:, rows.starts]
        C = Z - rows.spread(first)
        mean = rows.sums(rows.weighted(C)) / W
        C -= rows.spread(mean)
        center, rest = dd.two_sum(first, mean)
    else:
        C, mean = Z, np.zeros((len(Z), len(W)))
        center = rest = mean
    S, B = np.empty((k, k, len(W))), np.empty((k, len(Z) - k, len(W)))
    wC = rows.weighted(C)
    for i in range(k):
        row = rows.sums(wC[i] * C[i:])
        S[i, i:] = S[i:, i] = row[: k - i]
        B[i] = row[k - i :]
    return C, Moments(W, center, rest, mean, S, B, rows.sums(wC[k:] * C[k:]))


def inverse(S: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inverse (k, k, m) by Cholesky in the given order, and the smallest relative pivot (m,)."""
    k, m = S.shape[1:]
    if k == 1:
        return 1.0 / S, S[0, 0] / S[0, 0]
    pivot = np.ones(m)
    rest, inv = S.copy(), np.zeros_like(S)  # inv is to be L^-1
    for j in range(k):
        pivot = np.minimum(pivot, rest[j, j] / S[j, j])
        root = np.sqrt(rest[j, j])
        inv[j, j] = 1.0
        inv[j, : j + 1] /= root
        column = rest[j + 1 :, j] / root
        rest[j + 1 :, j + 1 :] -= column[:, None] * column
        inv[j + 1 :, : j + 1] -= column[:, None] * inv[j, : j + 1]
    P = np.zeros_like(S)
    for i in range(k):
        P[: i + 1, : i + 1] += inv[i, : i + 1, None] * inv[i, : i + 1]
    return P, pivot


def times(P: FloatArray, B: FloatArray) -> FloatArray:
    """Product per group of (k, k, m) and (k, ..., m)."""
    out = np.zeros_like(B)
    for j in range(len(P)):
        column = P[:, j] if B.ndim == 2 else P[:, j, None]
        out += column * B[j]
    return out


def solve(
    rows: Rows, C: FloatArray, B: FloatArray, P: FloatArray, W: FloatArray, intercept: bool
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Slopes (k, t, m), what rounding took from them, correction of the level (t, m), residuals (t, n)."""
    k, none = rows.k, np.zeros(B.shape[1:])
    b = times(P, B)
    r = residuals(rows, C, b, none)
    wr = rows.weighted(r)
    gradient = np.empty_like(B)
    for j in range(k):
        gradient[j] = rows.sums(wr * C[j])
    b, low = dd.two_sum(b, times(P, gradient))
    drift = rows.sums(wr) / W if intercept else none
    return b, low, drift, residuals(rows, C, b, drift)


def intercepts(
    mom: Moments, b: FloatArray, low: FloatArray, drift: FloatArray, origin: FloatArray | None
) -> FloatArray:
    """Fitted values at 0 (t, m): level less slopes times centers, which may nearly cancel."""
    k = len(b)
    middle = mom.center, mom.rest
    if origin is not None:
        middle = dd.add_float(middle, origin)
    total = dd.add_float(dd.at(middle, slice(k, None)), drift)
    for j in range(k):
        total = dd.sub(total, dd.mul((b[j], low[j]), dd.at(middle, j)))
    return total[0]


def residuals(rows: Rows, C: FloatArray, b: FloatArray, drift: FloatArray) -> FloatArray:
    """Centred targets less slopes (k, t, m) times centred predictors less (t, m) -> (t, n)."""
    r = C[rows.k :] - rows.spread(drift)
    for j in range(rows.k):
        r -= rows.spread(b[j]) * C[j]
    return r


def _unsafe_group(rows: Rows, mom: Moments, pivot: FloatArray) -> BoolArray:
    """Find groups (m,) whose predictors float64 cannot be trusted with.

    The last test finds groups that the rule for rank could call deficient: max|x| far above sd(x).
    """
    k = rows.k
    squares = mom.S[np.arange(k), np.arange(k)]
    safe = (squares > LIMITS.tiny) & (squares < LIMITS.huge)
    safe &= squares > _times_square(LIMITS.spread * mom.W, mom.mean[:k])  # the first row is not too far out
    reach = _times_square(mom.W, LIMITS.rank * mom.center[:k]) + LIMITS.rank**2 * squares
    safe &= squares * LIMITS.pivot > rows.counts * reach  # an upper bound of what the rule takes
    ok = safe.all(axis=0) & (pivot >= LIMITS.pivot) & (mom.W > LIMITS.tiny) & (mom.W < LIMITS.huge)
    return np.asarray(~ok)


def _times_square(a: FloatArray, b: FloatArray) -> FloatArray:
    """``a * b**2``, where ``b**2`` alone might underflow."""
    return (a * b) * b


def _unsafe_target(
    rows: Rows, C: FloatArray, mom: Moments, b: FloatArray, level: FloatArray, rss: FloatArray, p: int
) -> tuple[BoolArray, BoolArray]:
    """Find targets (t, m) that are constant, and those float64 cannot be trusted with."""
    k, tss, W = rows.k, mom.tss, mom.W
    size = np.sqrt(level**2 + tss / W)
    for j in range(k):
        size += np.abs(b[j]) * np.sqrt(mom.center[j] ** 2 + mom.S[j, j] / W)
    close = (rss < LIMITS.rss * tss) | (np.sqrt(rss / W) <= LIMITS.perfect * size)
    safe = (tss > LIMITS.tiny) & (tss < LIMITS.huge)
    safe &= tss > _times_square(LIMITS.spread * W, mom.mean[k:])
    unsafe = ~safe | (close & (rows.counts > p))
    constant = tss == 0
    if constant.any():
        constant &= ~np.logical_or.reduceat(C[k:] != 0, rows.starts, axis=1)
        unsafe &= ~constant
    return constant, unsafe


def _flags(constant: BoolArray, spare: BoolArray) -> IntArray:
    """(t, m) from which targets are constant (t, m) and which groups have n > p (m,)."""
    flags = np.where(constant, int(Flag.CONSTANT_TARGET), 0)
    return np.asarray(flags | np.where(constant & spare, int(Flag.PERFECT_FIT), 0))


def _patterns(
    est: Estimates,
    rows: Rows,
    mom: Moments,
    P: FloatArray,
    pivot: FloatArray,
    intercept: bool,
) -> None:
    """Fill in what the targets share."""
    k, V = rows.k, P
    norm = np.sqrt(mom.S[np.arange(k), np.arange(k)])
    est.nobs[:, 0] = rows.counts
    est.rank[:, 0] = k + intercept
    est.wsum[:, 0] = mom.W
    est.center[:, 0] = mom.center[:k].T
    est.norm[:, 0] = norm.T
    est.xcorr[:, 0] = correlations(mom.S, norm)
    est.pivot[:, 0] = pivot
    if intercept:
        z = mom.center if rows.origin is None else mom.center + rows.origin
        V = with_intercept(P, mom.W, z[:k])
    p = len(V)
    root = np.sqrt(V[np.arange(p), np.arange(p)])
    est.root[:, 0] = root.T
    est.corr[:, 0] = correlations(V, root)


def with_intercept(P: FloatArray, W: FloatArray, z: FloatArray) -> FloatArray:
    """Inverse (p, p, m) of the normal matrix that has the intercept in front; z (k, m) is its origin."""
    k, m = len(P), len(W)
    V = np.empty((k + 1, k + 1, m))
    V[1:, 1:] = P
    side = times(P, z)
    top = 1.0 / W
    for j in range(k):
        top = top + z[j] * side[j]
    V[0, 0] = top
    V[0, 1:] = V[1:, 0] = -side
    return V
