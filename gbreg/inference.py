# SPDX-License-Identifier: MIT
"""From what a backend returns to what a regression reports: pure functions over arrays.

Shapes: ``g`` groups, ``t`` targets, ``p`` coefficients, ``k`` predictors; what a backend keeps per
pattern comes expanded to targets, or as (g, 1, ...) where numpy broadcasts it. NaN goes in where a group
was not fitted, and comes out again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gbreg.estimates import pairs
from gbreg.problem import SMALLEST_NORMAL, BoolArray, FloatArray, IntArray

UNIT = 2.0**-53  # relative rounding error of float64
MOST_DIGITS = 15.95  # -log10(UNIT)
CHUNK = 4096  # groups whose matrices fit in cache
SWEEPS = 30  # Jacobi's method needs less than ten


def df_resid(nobs: IntArray, taken: IntArray | FloatArray, wsum: FloatArray) -> FloatArray:
    """Degrees of freedom less those that the fit takes: the rank, or what a penalty or bounds leave of it.

    NaN where nothing was fitted (no sum of weights). (g, t) each.
    """
    return np.where(np.isnan(wsum), np.nan, nobs - taken)


def ssr(resid_norm: FloatArray) -> FloatArray:
    """Weighted sum of squared residuals, sum w r^2; NaN if out of the range of float64."""
    return _square_over(resid_norm, np.ones(()))


def scale(resid_norm: FloatArray, df: FloatArray) -> FloatArray:
    """Residual variance of a row of weight 1, ssr / df_resid; NaN if saturated or out of range."""
    return _square_over(resid_norm, _positive(df))


def sigma(resid_norm: FloatArray, df: FloatArray) -> FloatArray:
    """Residual standard deviation of a row of weight 1, sqrt(ssr / df_resid); NaN if saturated."""
    return resid_norm / np.sqrt(_positive(df))


def rms(resid_norm: FloatArray, wsum: FloatArray) -> FloatArray:
    """Weighted root mean square of the residuals, sqrt(sum w r^2 / sum w).

    NaN if float64 cannot hold the sum of the weights.
    """
    return resid_norm / np.sqrt(np.where(np.isinf(wsum), np.nan, wsum))


def bse(sigma: FloatArray, root: FloatArray, exact: BoolArray) -> FloatArray:
    """Compute standard errors sigma sqrt(diag((X'WX)^-1)): (g, t), (g, 1 or t, p), (g, t) -> (g, t, p).

    Greene, Econometric Analysis, section 4.3; statsmodels' ``WLS`` with its default covariance.
    NaN if out of the range of float64; 0 is one where fits are ``exact``.
    """
    try:
        with np.errstate(over="raise", under="raise"):  # one pass says whether any is out of range
            return _times(sigma, root)
    except FloatingPointError:
        with np.errstate(over="ignore", under="ignore"):
            errors = _times(sigma, root)
        return _representable(errors, exact=exact[:, :, None])


def _times(factors: FloatArray, values: FloatArray) -> FloatArray:
    """(g, t) times (g, 1 or t, p) -> (g, t, p), each column in one piece of memory."""
    (g, t), p = factors.shape, values.shape[2]
    if g < t * p:
        return factors[:, :, None] * values
    if values.shape[1] < t:
        values = np.broadcast_to(values, (g, t, p))
    out = np.empty((t, p, g))
    for lo in range(0, g, CHUNK):  # numpy's inner loop would be over p, which is short
        some = slice(lo, lo + CHUNK)
        for q in range(t):
            for j in range(p):
                np.multiply(factors[some, q], values[some, q, j], out=out[q, j, some])
    return np.moveaxis(out, -1, 0)


def bse_known(params: FloatArray, root: FloatArray) -> FloatArray:
    """Compute standard errors sqrt(diag((X'WX)^-1)) for weights that are 1/sigma^2: (g, t, p) twice.

    Greene, Econometric Analysis, section 9.4, with the variance of every row known; statsmodels'
    ``WLS`` with ``cov_type="fixed scale"``. NaN where there is no coefficient.
    """
    return np.where(np.isnan(params), np.nan, root)


def cov_params(errors: FloatArray, corr: FloatArray) -> FloatArray:
    """Covariance of the coefficients: errors (g, p), corr (g, p(p-1)/2) -> (g, p, p)."""
    with np.errstate(over="ignore", under="ignore"):
        sizes = errors[:, :, None] * errors[:, None, :]
    zero = (errors == 0)[:, :, None] | (errors == 0)[:, None, :]
    return _representable(sizes, zero) * np.moveaxis(unpacked(corr, errors.shape[1]), -1, 0)


def tvalues(params: FloatArray, errors: FloatArray, perfect: BoolArray) -> FloatArray:
    """Estimates over their standard errors; NaN for perfect fits, whose errors are rounding noise."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        t = params / errors
    return np.where(perfect[:, :, None], np.nan, t)


def pvalues(t: FloatArray, df: FloatArray | None) -> FloatArray:
    """Two-sided p values of Student's t, or of the normal for df None: (g, t, p), (g, t) -> (g, t, p)."""
    from scipy import special

    if df is None:
        return np.asarray(2 * special.ndtr(-np.abs(t)))
    return np.asarray(2 * special.stdtr(df[:, :, None], -np.abs(t)))


def conf_int(
    params: FloatArray, errors: FloatArray, df: FloatArray | None, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """Bounds of the 1 - alpha intervals, params -/+ quantile(alpha, df) bse: two (g, t, p)."""
    half = (quantile(alpha, df) if df is None else quantile(alpha, df)[:, :, None]) * errors
    return params - half, params + half


def quantile(alpha: float, df: FloatArray | None) -> FloatArray:
    """1 - alpha/2 quantile of Student's t, or of the normal for df None; as the shape of df."""
    from scipy import special

    return np.asarray(-(special.ndtri(alpha / 2) if df is None else special.stdtrit(df, alpha / 2)))


def chi2_pvalue(statistic: FloatArray, df: FloatArray) -> FloatArray:
    """Probability of a larger chi2 with df degrees of freedom; NaN where there are none."""
    from scipy import special

    return np.asarray(special.chdtrc(_positive(df), statistic))


def sandwich_errors(
    factor: FloatArray,
    resid_norm: FloatArray,
    wsum: FloatArray,
    norm: FloatArray,
    center: FloatArray,
    intercept: bool,
) -> tuple[FloatArray, FloatArray]:
    """Standard errors and correlations of the coefficients from what `gbreg.sandwich` gives.

    (g, t, p p), (g, t), (g, t), (g, t, k), (g, t, k) -> (g, t, p), (g, t, p(p-1)/2). The
    intercept is the level less slopes times ``center``, which is in the caller's units.
    """
    k = norm.shape[2]
    p = k + intercept
    F = factor.reshape(*factor.shape[:2], p, p).copy()
    with np.errstate(all="ignore"):
        unit = 1 / norm
        if intercept:
            side = np.sqrt(wsum)[:, :, None]
            for j in range(k):
                F[:, :, 0] -= (center[:, :, j, None] * side / norm[:, :, j, None]) * F[:, :, 1 + j]
            unit = np.concatenate([1 / side, unit], axis=2)
        root = np.zeros(F.shape[:3])
        for j in range(p):
            root = np.hypot(root, F[:, :, :, j])
        errors = resid_norm[:, :, None] * (root * unit)
        rows, columns = pairs(p)
        F = F / root[:, :, :, None]
        corr = np.zeros((*factor.shape[:2], len(rows)))
        for j in range(p):
            corr += F[:, :, rows, j] * F[:, :, columns, j]
    return _representable(errors, exact=(root == 0) | (resid_norm == 0)[:, :, None]), corr


def rsquared(resid_norm: FloatArray, target_norm: FloatArray) -> FloatArray:
    """1 - ssr / tss, tss about the weighted mean (about 0 without intercept); NaN for constant targets."""
    ratio = resid_norm / np.where(target_norm > 0, target_norm, np.nan)
    return 1 - ratio * ratio


def rsquared_adj(r2: FloatArray, nobs: IntArray, df: FloatArray, intercept: bool) -> FloatArray:
    """1 - (1 - R2) (n - intercept) / df_resid, as statsmodels; NaN if saturated."""
    return 1 - (1 - r2) * (nobs - int(intercept)) / _positive(df)


def df_model(rank: IntArray, intercept: bool) -> FloatArray:
    """Degrees of freedom of the slopes, rank - intercept; NaN where there are none. (g, t) -> (g, t)."""
    return _positive(np.where(rank > 0, rank - int(intercept), 0).astype(np.float64))


def fvalue(
    resid_norm: FloatArray,
    target_norm: FloatArray,
    df_slopes: FloatArray,
    df: FloatArray,
    perfect: BoolArray,
) -> FloatArray:
    """F of all slopes being zero, ((tss - ssr) / df_model) / (ssr / df_resid), as statsmodels.

    Greene, Econometric Analysis, section 5.3.2; tss about 0 without intercept. NaN for perfect and
    saturated fits and constant targets.
    """
    with np.errstate(over="ignore"):
        ratio = np.where(target_norm > 0, target_norm, np.nan) / _positive(resid_norm)
        explained = np.maximum((ratio - 1) * (ratio + 1), 0.0)  # (tss - ssr) / ssr
        values = explained * _positive(df) / df_slopes
    return np.where(perfect | (values == np.inf), np.nan, values)


def f_pvalue(values: FloatArray, df_num: FloatArray, df_denom: FloatArray) -> FloatArray:
    """Probability of a larger F."""
    from scipy import special

    return np.asarray(special.fdtrc(df_num, df_denom, values))


def llf(
    resid_norm: FloatArray, nobs: IntArray, df: FloatArray, log_wsum: FloatArray, perfect: BoolArray
) -> FloatArray:
    """Gaussian log-likelihood at its maximum over the variance, as statsmodels' ``WLS``.

    -n/2 (log(2 pi ssr / n) + 1) + sum(log w) / 2. NaN for perfect and saturated fits, where it
    is unbounded.
    """
    bounded = (df > 0) & ~perfect & (resid_norm > 0)
    norm = np.where(bounded, resid_norm, np.nan)
    n = np.where(bounded, nobs, np.nan)
    loglik: FloatArray = -n / 2 * (np.log(2 * np.pi / n) + 2 * np.log(norm) + 1) + log_wsum / 2
    return loglik


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
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = np.abs(center) * np.sqrt(wsum)[:, None] / norm
        gain = np.hypot(1, reach.max(axis=1, initial=0.0))
        supported: FloatArray = np.clip(-np.log10(UNIT * gain / np.sqrt(pivot)), 0.0, MOST_DIGITS)
    return supported


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

    As statsmodels. The largest comes from X'WX, the smallest from its inverse: each matrix
    holds its largest eigenvalue to full precision. ``center`` (g, k) is in the caller's units.
    NaN where a column is dependent on the others.
    """
    out = np.empty(len(wsum))
    for g0 in range(0, len(out), CHUNK):
        part = slice(g0, g0 + CHUNK)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            longest, gram = _gram(center[part].T, norm[part].T, xcorr[part], wsum[part], intercept)
            deepest = root[part].max(axis=1)
            unit = root[part].T / deepest
            inverse = unit[:, None] * unit[None, :] * unpacked(corr[part], len(unit))
            product = largest_eigenvalue(gram) * largest_eigenvalue(inverse)
            out[part] = longest * deepest * np.sqrt(product)
    return out


def _gram(
    center: FloatArray, norm: FloatArray, xcorr: FloatArray, wsum: FloatArray, intercept: bool
) -> tuple[FloatArray, FloatArray]:
    """X'WX (p, p, g) over the square of a size (g,), so that its entries are about 1: both."""
    side = np.sqrt(wsum)
    shift = center * side
    columns = np.concatenate([norm, np.abs(shift), side[None]] if intercept else [norm])
    longest = columns.max(axis=0)
    unit = norm / longest
    gram = unit[:, None] * unit[None, :] * unpacked(xcorr, len(unit))
    if intercept:
        first = np.concatenate([side[None], shift]) / longest
        whole = first[:, None] * first[None, :]
        whole[1:, 1:] += gram
        gram = whole
    return longest, gram


def unpacked(lower: FloatArray, p: int) -> FloatArray:
    """Correlation matrices (p, p, g) from (g, p(p-1)/2): (1,0), (2,0), (2,1), ..."""
    out = np.ones((p, p, len(lower)))
    rows, columns = pairs(p)
    out[rows, columns] = out[columns, rows] = lower.T
    return out


def largest_eigenvalue(A: FloatArray) -> FloatArray:
    """Of positive semidefinite matrices (p, p, g), by cyclic Jacobi rotations: (g,).

    Golub and Van Loan, Matrix Computations, section 8.5. Vectorised over g; no LAPACK,
    whose bits depend on the processor. A matrix that has converged is left alone, so no number
    depends on the other groups.
    """
    A = A.copy()
    diagonal = range(len(A))
    small = UNIT / 16 * A[diagonal, diagonal].max(axis=0)
    corners = [(i, j) for j in diagonal for i in range(j)]
    for _ in range(SWEEPS):
        turned = [_rotate(A, i, j, small) for i, j in corners]
        if not any(turned):
            break
    return np.asarray(A[diagonal, diagonal].max(axis=0))


def _rotate(A: FloatArray, i: int, j: int, small: FloatArray) -> bool:
    """Make A[i, j] zero in place by a rotation, where it is not ``small`` (g,); whether any was not."""
    off = A[i, j]
    needed = np.abs(off) > small  # NaN is not
    if not needed.any():
        return False
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        theta = (A[j, j] - A[i, i]) / (2 * off)
        tangent = np.copysign(1.0, theta) / (np.abs(theta) + np.sqrt(theta * theta + 1))
    tangent = np.where(needed, tangent, 0.0)
    c = 1 / np.sqrt(tangent * tangent + 1)
    s = tangent * c
    for view in (A, A.swapaxes(0, 1)):
        row_i, row_j = view[i].copy(), view[j].copy()
        view[i] = c * row_i - s * row_j
        view[j] = s * row_i + c * row_j
    A[i, j] = A[j, i] = np.where(needed, 0.0, A[i, j])  # but for rounding, which would keep the sweeps going
    return True


def _positive(values: FloatArray) -> FloatArray:
    return np.where(values > 0, values, np.nan)


def _square_over(norm: FloatArray, divisor: FloatArray) -> FloatArray:
    """norm^2 / divisor, NaN where float64 cannot hold it; only the result may be out of range."""
    mantissa, exponent = np.frexp(norm)
    with np.errstate(over="ignore", under="ignore"):
        square = np.ldexp(mantissa * mantissa / divisor, 2 * exponent)
    return _representable(square, exact=norm == 0)


def _representable(values: FloatArray, exact: NDArray[np.bool_]) -> FloatArray:
    """NaN for what overflowed, or underflowed although it is not exactly zero."""
    size = np.abs(values)
    return np.where((size == np.inf) | ((size < SMALLEST_NORMAL) & ~exact), np.nan, values)
