# SPDX-License-Identifier: MIT
"""From what a backend returns to what a regression reports: pure functions over arrays.

Shapes: ``g`` groups, ``t`` targets, ``p`` coefficients, ``k`` predictors. Arguments that a
backend keeps per pattern of missing targets come expanded to targets here. NaN goes in
where a group was not fitted and comes out again.
"""

from __future__ import annotations

import numpy as np

from gbreg.problem import BoolArray, FloatArray, IntArray

UNIT = 2.0**-53  # relative rounding error of float64
SMALLEST_NORMAL = 2.0**-1022


def df_resid(nobs: IntArray, rank: IntArray) -> FloatArray:
    """Degrees of freedom n - rank; NaN where nothing was fitted (rank 0). (g, t), (g, t) -> (g, t)."""
    return np.where(rank > 0, nobs - rank, np.nan)


def _square(norm: FloatArray) -> FloatArray:
    """Its square, NaN where float64 cannot hold it."""
    with np.errstate(over="ignore", under="ignore"):
        square = norm * norm
    return np.where(np.isinf(square) | ((square < SMALLEST_NORMAL) & (norm > 0)), np.nan, square)


def ssr(resid_norm: FloatArray) -> FloatArray:
    """Weighted sum of squared residuals, sum w r^2; NaN if out of the range of float64."""
    return _square(resid_norm)


def sigma(resid_norm: FloatArray, df: FloatArray) -> FloatArray:
    """Residual standard deviation of a row of weight 1, sqrt(ssr / df_resid); NaN if saturated."""
    return resid_norm / np.sqrt(np.where(df > 0, df, np.nan))


def scale(resid_norm: FloatArray, df: FloatArray) -> FloatArray:
    """Residual variance of a row of weight 1, ssr / df_resid; NaN if saturated or out of range."""
    return ssr(resid_norm) / np.where(df > 0, df, np.nan)


def rms(resid_norm: FloatArray, wsum: FloatArray) -> FloatArray:
    """Weighted root mean square of the residuals, sqrt(sum w r^2 / sum w)."""
    return resid_norm / np.sqrt(wsum)


def bse(resid_norm: FloatArray, df: FloatArray, root: FloatArray) -> FloatArray:
    """Standard errors sqrt(scale diag((X'WX)^-1)): (g, t), (g, t), (g, t, p) -> (g, t, p).

    Greene, Econometric Analysis, section 4.3; statsmodels' ``WLS`` with its default covariance.
    """
    return sigma(resid_norm, df)[:, :, None] * root


def cov_params(errors: FloatArray, corr: FloatArray) -> FloatArray:
    """Covariance of the coefficients: errors (g, p), corr (g, p(p-1)/2) -> (g, p, p)."""
    return symmetric(errors * errors, corr, errors)


def symmetric(diagonal: FloatArray, lower: FloatArray, unit: FloatArray) -> FloatArray:
    """Matrix (g, p, p) from its diagonal (g, p) and its lower triangle over unit_i unit_j."""
    p = diagonal.shape[1]
    out = np.empty((len(diagonal), p, p))
    out[:, range(p), range(p)] = diagonal
    place = 0
    for i in range(p):
        for j in range(i):
            out[:, i, j] = out[:, j, i] = lower[:, place] * unit[:, i] * unit[:, j]
            place += 1
    return out


def tvalues(params: FloatArray, errors: FloatArray, perfect: BoolArray) -> FloatArray:
    """Estimates over their standard errors; NaN for perfect fits, whose errors are rounding noise."""
    with np.errstate(divide="ignore", invalid="ignore"):
        t = params / errors
    return np.where(perfect[:, :, None], np.nan, t)


def pvalues(t: FloatArray, df: FloatArray) -> FloatArray:
    """Two-sided p values of Student's t: (g, t, p), (g, t) -> (g, t, p)."""
    from scipy import special

    return np.asarray(2 * special.stdtr(df[:, :, None], -np.abs(t)))


def conf_int(
    params: FloatArray, errors: FloatArray, df: FloatArray, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """Bounds of the 1 - alpha intervals, params -/+ t(1 - alpha/2, df) bse: two (g, t, p)."""
    from scipy import special

    half = special.stdtrit(df, 1 - alpha / 2)[:, :, None] * errors
    return params - half, params + half


def rsquared(resid_norm: FloatArray, target_norm: FloatArray) -> FloatArray:
    """1 - ssr / tss, tss about the weighted mean (about 0 without intercept); NaN for constant targets."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = resid_norm / target_norm
    return np.where(target_norm > 0, 1 - ratio * ratio, np.nan)


def rsquared_adj(r2: FloatArray, nobs: IntArray, df: FloatArray, intercept: bool) -> FloatArray:
    """1 - (1 - R2) (n - intercept) / df_resid, as statsmodels; NaN if saturated."""
    return 1 - (1 - r2) * (nobs - int(intercept)) / np.where(df > 0, df, np.nan)


def llf(
    resid_norm: FloatArray, nobs: IntArray, df: FloatArray, log_wsum: FloatArray, perfect: BoolArray
) -> FloatArray:
    """Gaussian log-likelihood at its maximum over the variance, as statsmodels' ``WLS``.

    -n/2 (log(2 pi ssr / n) + 1) + sum(log w) / 2. NaN for perfect and saturated fits, where it
    is unbounded.
    """
    usable = (df > 0) & ~perfect & (resid_norm > 0)
    norm = np.where(usable, resid_norm, np.nan)
    n = np.where(usable, nobs, np.nan)
    return -n / 2 * (np.log(2 * np.pi / n) + 2 * np.log(norm) + 1) + log_wsum / 2


def aic(loglik: FloatArray, rank: IntArray) -> FloatArray:
    """Akaike's criterion -2 llf + 2 rank, as statsmodels (the variance is not counted)."""
    return -2 * loglik + 2 * rank


def bic(loglik: FloatArray, rank: IntArray, nobs: IntArray) -> FloatArray:
    """Schwarz's criterion -2 llf + log(n) rank, as statsmodels."""
    return -2 * loglik + np.log(np.where(nobs > 0, nobs, np.nan)) * rank


def digits(center: FloatArray, norm: FloatArray, wsum: FloatArray, pivot: FloatArray) -> FloatArray:
    """Digits of the coefficients that the stored data support: (g, k), (g, k), (g,), (g,) -> (g,).

    -log10(u A / sqrt(pivot)): a relative rounding error u of the data is amplified by
    A = max rms(x_j) / sd(x_j) on centring and by 1 / sqrt(pivot) = 1 / sqrt(1 - R_j^2) on
    separating predictors (Stewart, Collinearity and least squares regression, 1987).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.abs(center) * np.sqrt(wsum)[:, None] / norm
        gain = np.sqrt(1 + (reach * reach).max(axis=1, initial=0.0))
        return np.asarray(np.clip(-np.log10(UNIT * gain / np.sqrt(pivot)), 0.0, 15.95))


def condition_number(
    center: FloatArray,
    norm: FloatArray,
    xcorr: FloatArray,
    wsum: FloatArray,
    root: FloatArray,
    corr: FloatArray,
    intercept: bool,
) -> FloatArray:
    """Ratio of the extreme singular values of sqrt(w) X, intercept column included: (g,).

    As statsmodels. The largest comes from X'WX, the smallest from its inverse, each of which
    holds it to full precision. ``center`` (g, k) is in the caller's units; inf where
    columns are dependent.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        side = np.sqrt(wsum)[:, None]
        lengths = [side] if intercept else []
        top = np.concatenate([*lengths, norm, np.abs(center) * side], axis=1).max(axis=1, initial=0.0)
        unit = norm / top[:, None]
        gram = symmetric(unit * unit, xcorr, unit)
        if intercept:
            first = np.concatenate([side, side * center], axis=1) / top[:, None]
            whole = first[:, :, None] * first[:, None, :]
            whole[:, 1:, 1:] += gram
            gram = whole
        inverse_top = root.max(axis=1, initial=0.0)
        unit = root / inverse_top[:, None]
        inverse = symmetric(unit * unit, corr, unit)
        product = largest_eigenvalue(gram) * largest_eigenvalue(inverse)
        return np.asarray(top * inverse_top * np.sqrt(product))


def largest_eigenvalue(A: FloatArray, sweeps: int = 12) -> FloatArray:
    """Of symmetric matrices (g, p, p), by cyclic Jacobi rotations: (g,).

    Golub and Van Loan, Matrix Computations, section 8.5. Vectorised over g; no LAPACK,
    whose bits depend on the processor.
    """
    A = A.copy()
    p = A.shape[1]
    for _ in range(sweeps):
        off = [np.abs(A[:, i, j]).max(initial=0.0) for i in range(p) for j in range(i)]
        if not off or max(off) <= 1e-17:
            break
        for i in range(p):
            for j in range(i):
                _rotate(A, j, i)
    return np.asarray(A[:, range(p), range(p)].max(axis=1))


def _rotate(A: FloatArray, i: int, j: int) -> None:
    """Make A[:, i, j] zero by a rotation of rows and columns i and j, in place."""
    off = A[:, i, j]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        theta = (A[:, j, j] - A[:, i, i]) / (2 * off)
        tangent = np.copysign(1.0, theta) / (np.abs(theta) + np.sqrt(theta * theta + 1))
    tangent = np.where(off == 0, 0.0, tangent)
    c = 1 / np.sqrt(tangent * tangent + 1)
    s = tangent * c
    for view in (A, A.transpose(0, 2, 1)):
        rows_i = view[:, i].copy()
        rows_j = view[:, j].copy()
        view[:, i] = c[:, None] * rows_i - s[:, None] * rows_j
        view[:, j] = s[:, None] * rows_i + c[:, None] * rows_j
