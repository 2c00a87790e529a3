# SPDX-License-Identifier: MIT
"""The numpy backend in double-double arithmetic, for groups that need it.

Groups of like size are padded to (m groups, r rows) with weight 0. Every column is
scaled twice by a power of two: so that its largest value is in [1/2, 1), and, once
centred, so that its weighted norm is in [1/2, 1); weights by an even power. All
quantities below are in these units until `_undo`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gbreg import doubledouble as dd
from gbreg.backends._numpy_common import (
    backward,
    cancelled,
    combination,
    correlations,
    forget,
    forward,
    settle,
)
from gbreg.doubledouble import DD
from gbreg.estimates import Estimates
from gbreg.problem import LIMITS, SMALLEST_NORMAL, BoolArray, FitOptions, Flag, FloatArray, IntArray
from gbreg.ragged import buckets, padded_mad, padded_rows

SMALLEST_ROOT = 2.0**-1030  # of a variance: 13 digits are left
CELLS = 1 << 18  # padded values per chunk, over all columns: a chunk stays in cache


@dataclass(slots=True)
class _Columns:
    """Columns of m groups with r rows, centred; c = k + t, predictors first."""

    C: DD  # (c, m, r), centred (as they are without intercept)
    w: FloatArray  # (m, r), 0 in the padding
    W: DD  # (m,)
    center: DD  # (c, m), weighted means; 0 without intercept
    square: DD  # (c, m), sum w C^2, in [1/4, 1) or 0
    largest: FloatArray  # (c, m), largest |value| before centring
    reach: FloatArray  # (c, m), largest w value^2 before centring
    n: IntArray  # (m,) rows
    constant: BoolArray  # (c, m), max == min; without intercept: all 0
    faint: BoolArray  # (c, m), not constant, but what varies may have underflowed
    exponent: IntArray  # (c, m), values times 2**-exponent are what is here
    w_exponent: IntArray  # (m,), even
    origin: DD  # (c, m)


@dataclass(slots=True)
class _Factor:
    """X'WX = L L' of the predictors that are kept; the columns of the others are those of I.

    Their rows hold what is left of them; solving passes over these with 0.
    """

    S: DD  # (k, k, m)
    L: DD  # (k, k, m)
    kept: BoolArray  # (k, m)
    flat: BoolArray  # (k, m), constant up to rounding noise
    noise: FloatArray  # (m,), LIMITS.rank * A
    ratio: FloatArray  # (m,), smallest sqrt(pivot) of those kept; 1 if none


def fit_extended(
    X: FloatArray,
    Y: FloatArray,
    w: FloatArray,
    starts: IntArray,
    counts: IntArray,
    origin: FloatArray | None,
    options: FitOptions,
) -> Estimates:
    """Estimates of m groups of at least one row.

    Parameters
    ----------
    X, Y, w
        (k, n), (t, n), (n,).
    starts, counts
        (m,), first row and number of rows of each group.
    origin
        (m, k + t) or None.
    """
    k, t = len(X), len(Y)
    out = Estimates.empty(len(starts), k, t, options.intercept)
    for members in buckets(counts, CELLS // (k + t)):
        n = counts[members]
        rows = padded_rows(starts[members], n)
        weights = np.where(np.arange(rows.shape[1]) < n[:, None], w[rows], 0.0)
        shift = None if origin is None else origin[members]
        part = _fit_padded(np.concatenate([X[:, rows], Y[:, rows]]), weights, n, shift, k, options)
        out.put_groups(members, part)
    return out


def _fit_padded(
    Z: FloatArray, w: FloatArray, n: IntArray, origin: FloatArray | None, k: int, options: FitOptions
) -> Estimates:
    """(c, m, r) values, (m, r) weights, (m,) rows, (m, c) origins -> Estimates of m groups."""
    cols = _prepare(Z, w, n, origin, options.intercept)
    factor = _factorise(cols, k, options.intercept)
    b, r = _solve(cols, factor, k)
    return _undo(cols, factor, b, r, n, k, options)


def _prepare(
    Z: FloatArray, w: FloatArray, n: IntArray, origin: FloatArray | None, intercept: bool
) -> _Columns:
    largest = np.abs(Z).max(axis=2)
    exponent = _exponent(largest)
    Z = np.ldexp(Z, -exponent[:, :, None])
    w_exponent = _exponent(w.max(axis=1))
    w_exponent += w_exponent % 2
    w = np.ldexp(w, -w_exponent[:, None])
    W = dd.tree_sum(dd.from_float(w))
    if intercept:
        constant = Z.max(axis=2) == Z.min(axis=2)
        C, center = _centre(Z, w, W)
    else:
        constant = largest == 0
        C, center = dd.from_float(Z), dd.zeros(largest.shape)
    reach = (w * Z * Z).max(axis=2)
    square = dd.tree_sum(dd.mul(dd.mul_float(C, w), C))
    faint = ~constant & ~(square[0] >= LIMITS.faint)
    again = _exponent(np.sqrt(square[0]))
    factor = np.ldexp(1.0, -again)
    exponent = exponent + again
    return _Columns(
        C=dd.scale(C, factor[:, :, None]),
        w=w,
        W=W,
        center=dd.scale(center, factor),
        square=dd.scale(square, factor * factor),
        largest=np.ldexp(largest, -exponent),
        reach=reach * factor * factor,
        n=n,
        constant=constant,
        faint=faint,
        exponent=exponent,
        w_exponent=w_exponent,
        origin=dd.from_float(np.zeros_like(largest) if origin is None else np.ldexp(origin.T, -exponent)),
    )


def _exponent(values: FloatArray) -> IntArray:
    """Exponent e with |value| in [2**(e-1), 2**e), but at least -1020; 0 for 0."""
    return np.asarray(np.maximum(np.frexp(values)[1], -1020), dtype=np.int64)


def _centre(Z: FloatArray, w: FloatArray, W: DD) -> tuple[DD, DD]:
    """Columns (c, m, r) less their weighted means, and the means (c, m).

    Sums are about the heaviest row, so that it cannot cancel the others however heavy it is.
    """
    heaviest = np.take_along_axis(Z, w.argmax(axis=1)[None, :, None], axis=2)
    D = dd.two_diff(Z, heaviest)
    mean = dd.div(dd.tree_sum(dd.mul_float(D, w)), W)
    C = dd.sub(D, dd.at(mean, (..., None)))
    return C, dd.add_float(mean, heaviest[:, :, 0])


def _factorise(cols: _Columns, k: int, intercept: bool) -> _Factor:
    """Cross products of the predictors, which of them are independent, and their Cholesky factor."""
    m = len(cols.w)
    S = dd.zeros((k, k, m))
    for i in range(k):
        dd.put(S, (i, i), dd.at(cols.square, i))
        if i + 1 < k:
            wC = dd.mul_float(dd.at(cols.C, i), cols.w)
            row = dd.tree_sum(dd.mul(wC, dd.at(cols.C, slice(i + 1, k))))
            dd.put(S, (i, slice(i + 1, k)), row)
            dd.put(S, (slice(i + 1, k), i), row)
    flat, noise = _noise(cols, k, intercept)
    L, kept, ratio = _cholesky(S, flat, noise)
    return _Factor(S, L, kept, flat, noise, ratio)


def _noise(cols: _Columns, k: int, intercept: bool) -> tuple[BoolArray, FloatArray]:
    """Which predictors are constant but for rounding (k, m), and LIMITS.rank * A (m,).

    A is the largest max|x| / sd(x), which is how much larger a rounding error of the data
    is beside the centred column; with weights, max|x|^2 is the largest w x^2 over the mean
    weight. A predictor whose own reaches 1 / LIMITS.rank is deficient whatever the others
    are. It is left out of A, or it would condemn all the others.
    """
    V, W = cols.W, cols.W[0]
    if intercept:
        rest = dd.sub(dd.at(cols.W, (slice(None), None)), dd.from_float(cols.w))
        V = dd.div(dd.tree_sum(dd.mul_float(rest, cols.w)), cols.W)
    own = LIMITS.rank * np.sqrt(cols.reach[:k] / cols.square[0][:k] * cols.n * (V[0] / W))
    flat = cols.constant[:k] | ~(own < 1)
    noise = np.full(len(cols.w), LIMITS.rank)
    for i in range(k):
        noise = np.maximum(noise, np.where(flat[i], 0.0, own[i]))
    return flat, noise


def _cholesky(S: DD, flat: BoolArray, noise: FloatArray) -> tuple[DD, BoolArray, FloatArray]:
    """L (k, k, m), kept (k, m), smallest sqrt(pivot) kept (m,)."""
    k = len(flat)
    L, rest = dd.zeros(S[0].shape), (S[0].copy(), S[1].copy())
    kept, ratio = np.empty_like(flat), np.ones_like(noise)
    for j in range(k):
        left = dd.at(rest, (j, j))
        root = np.sqrt(left[0] / S[0][j, j])  # NaN counts as deficient
        least = np.maximum(noise, LIMITS.lost * cancelled(L[0], S[0], kept, j))
        keep = kept[j] = ~flat[j] & (left[0] > 0) & (root > least)
        ratio = np.where(keep, np.minimum(ratio, root), ratio)
        diagonal = dd.sqrt(dd.where(keep, left, 1.0))
        dd.put(L, (j, j), diagonal)
        if j + 1 < k:
            below = slice(j + 1, k)
            column = dd.where(keep, dd.div(dd.at(rest, (below, j)), diagonal))
            dd.put(L, (below, j), column)
            outer = dd.mul(dd.at(column, (slice(None), None)), column)
            dd.put(rest, (below, below), dd.sub(dd.at(rest, (below, below)), outer))
    return L, kept, ratio


def _solve(cols: _Columns, factor: _Factor, k: int) -> tuple[DD, DD]:
    """Slopes (k, t, m), 0 where not kept, and residuals (t, m, r)."""
    Y = dd.at(cols.C, slice(k, None))
    b, r = dd.zeros((k, *Y[0].shape[:2])), Y
    for _ in range(3 if k else 0):  # solve, then refine twice with the residuals
        step = backward(factor.L, factor.kept, forward(factor.L, factor.kept, _gradient(cols, r, k)))
        b = dd.add(b, step)
        r = _residuals(cols, b, k)
    return b, r


def _gradient(cols: _Columns, r: DD, k: int) -> DD:
    """Sum w x r: (t, m, r) -> (k, t, m)."""
    wr = dd.mul_float(r, cols.w)
    out = dd.zeros((k, *r[0].shape[:2]))
    for j in range(k):
        dd.put(out, j, dd.tree_sum(dd.mul(wr, dd.at(cols.C, j))))
    return out


def _residuals(cols: _Columns, b: DD, k: int) -> DD:
    r = dd.at(cols.C, slice(k, None))
    for j in range(k):
        r = dd.sub(r, dd.mul(dd.at(b, (j, ..., None)), dd.at(cols.C, j)))
    return r


def _inverse(factor: _Factor) -> DD:
    """(X'WX)^-1 (k, k, m), 0 for predictors that are not kept."""
    k, m = factor.kept.shape
    identity = np.zeros((k, k, m))
    identity[np.arange(k), np.arange(k)] = 1.0
    return backward(factor.L, factor.kept, forward(factor.L, factor.kept, dd.from_float(identity)))


def _with_intercept(factor: _Factor, P: DD, W: DD, z: DD) -> DD:
    """Inverse (p, p, m) of the normal matrix that has the intercept in front; z (k, m) is its origin."""
    k, m = factor.kept.shape
    full = dd.zeros((k + 1, k + 1, m))
    inner = slice(1, None)
    dd.put(full, (inner, inner), P)
    u = forward(factor.L, factor.kept, dd.at(z, (slice(None), None)))
    top = dd.div(dd.from_float(np.ones(m)), W)
    for j in range(k):
        top = dd.add(top, dd.mul(dd.at(u, (j, 0)), dd.at(u, (j, 0))))
    side = dd.neg(dd.at(backward(factor.L, factor.kept, u), (slice(None), 0)))
    dd.put(full, (0, 0), top)
    dd.put(full, (0, inner), side)
    dd.put(full, (inner, 0), side)
    return full


def _estimable(cols: _Columns, factor: _Factor, z: DD, options: FitOptions) -> BoolArray:
    """Coefficients (m, p) that are the same however the collinear predictors are combined."""
    k, m = factor.kept.shape
    first = int(options.intercept)
    out = np.concatenate([np.ones((first, m), dtype=np.bool_), factor.kept]).T
    dropped = ~factor.kept
    if options.on_collinear == "drop" or not dropped.any():
        return np.ascontiguousarray(out)
    S = factor.S
    c = backward(factor.L, factor.kept, forward(factor.L, factor.kept, dd.where(~factor.flat, S)))
    c0 = dd.sub(z, combination(c, z))[0]
    norm = np.sqrt(cols.square[0][:k])
    tol = np.minimum(1e-6, factor.noise / factor.ratio)  # where rounding moves more, nothing can be told
    size = np.abs(c[0])
    reach = cols.largest[:k].copy()
    for j in range(k):
        near = size[j] * norm[j] <= tol * norm
        out[:, first + j] &= (near | ~dropped).all(axis=0)
        reach += size[j] * cols.largest[j]
    if first:
        small = np.abs(c0) <= tol * reach
        zero = np.where(factor.flat, (z[0] == 0) & cols.constant[:k], small)
        out[:, 0] &= (zero | ~dropped).all(axis=0)
    return np.ascontiguousarray(out)


def _undo(
    cols: _Columns, factor: _Factor, b: DD, r: DD, n: IntArray, k: int, options: FitOptions
) -> Estimates:
    """Everything back in the units of the data."""
    m, t, first = len(n), len(cols.square[0]) - k, int(options.intercept)
    est = Estimates.empty(m, k, t, options.intercept)
    ex, ey, half = cols.exponent[:k], cols.exponent[k:], cols.w_exponent // 2
    rss = dd.tree_sum(dd.mul(dd.mul_float(r, cols.w), r))
    slopes = np.ldexp(b[0], ey - ex[:, None])
    fine = ((np.abs(slopes) >= SMALLEST_NORMAL) & (np.abs(slopes) < np.inf)) | (b[0] == 0)
    est.params[:, :, first:] = np.where(fine, slopes, np.nan).transpose(2, 1, 0)
    rounded_off = dd.from_float(cols.center[1][:k])  # `center` is rounded: the level is the value there
    level = dd.sub(dd.at(cols.center, slice(k, None)), combination(b, rounded_off))
    est.level[:] = np.ldexp(level[0], ey).T
    est.resid_norm[:] = np.ldexp(dd.sqrt(rss)[0], ey + half).T
    est.target_norm[:] = np.ldexp(dd.sqrt(dd.at(cols.square, slice(k, None)))[0], ey + half).T
    if options.mad:
        est.mad[:] = np.ldexp(padded_mad(r[0], n), ey).T

    z = dd.add(dd.at(cols.center, slice(k)), dd.at(cols.origin, slice(k)))
    V, unit = _inverse(factor), -ex
    if first:
        y = dd.add(dd.at(cols.center, slice(k, None)), dd.at(cols.origin, slice(k, None)))
        est.params[:, :, 0] = np.ldexp(dd.sub(y, combination(b, z))[0], ey).T
        V = _with_intercept(factor, V, cols.W, z)
        unit = np.concatenate([np.zeros((1, m), dtype=np.int64), unit])
    _patterns(est, cols, factor, V, unit, n, first)
    estimable = _estimable(cols, factor, z, options)

    est.flags[:] = _flags(cols, factor, b, rss, est.rank[:, 0], n, k)
    perfect = (est.flags & Flag.PERFECT_FIT) > 0
    lost = cols.faint[k:].T | ((est.target_norm < SMALLEST_NORMAL) & ~cols.constant[k:].T)
    saturated = (n == k + first) & (est.rank[:, 0] == k + first)
    lost |= (est.resid_norm < SMALLEST_NORMAL) & (rss[0].T != 0) & ~perfect & ~saturated[:, None]
    if options.mad:
        lost |= ~np.isfinite(est.mad)
    shared = _shared_lost(est, cols, estimable, k)
    settle(est, options, estimable, lost | shared[:, None])
    forget(est, shared)
    return est


def _shared_lost(est: Estimates, cols: _Columns, estimable: BoolArray, k: int) -> BoolArray:
    """Groups (m,) of which something that the targets share left the range of float64."""
    root = est.root[:, 0]
    bad = estimable & ~((root >= SMALLEST_ROOT) & (root < np.inf))
    return np.asarray(bad.any(axis=1) | cols.faint[:k].any(axis=0) | np.isinf(est.wsum[:, 0]))


def _patterns(
    est: Estimates, cols: _Columns, factor: _Factor, V: DD, unit: IntArray, n: IntArray, first: int
) -> None:
    """Fill in what the targets share: roots, correlations, norms, rank."""
    k = len(factor.kept)
    p = k + first
    root = dd.sqrt(dd.at(V, (np.arange(p), np.arange(p))))[0]
    norm = dd.sqrt(dd.at(cols.square, slice(k)))[0]
    half = cols.w_exponent // 2
    est.nobs[:, 0] = n
    est.rank[:, 0] = first + factor.kept.sum(axis=0)
    est.wsum[:, 0] = np.ldexp(cols.W[0], cols.w_exponent)
    est.root[:, 0] = np.ldexp(root, unit - half).T
    est.corr[:, 0] = correlations(V[0], root)
    est.center[:, 0] = np.ldexp(cols.center[0][:k], cols.exponent[:k]).T
    size = np.ldexp(norm, cols.exponent[:k] + half)
    lost = np.isinf(size) | ((size < SMALLEST_NORMAL) & (norm != 0))
    est.norm[:, 0] = np.where(lost, np.nan, size).T  # diagnostics alone need it
    est.xcorr[:, 0] = correlations(factor.S[0], np.where(norm == 0, 1.0, norm))
    est.pivot[:, 0] = factor.ratio**2
    est.dropped[:, 0] = ~factor.kept.T


def _flags(cols: _Columns, factor: _Factor, b: DD, rss: DD, rank: IntArray, n: IntArray, k: int) -> IntArray:
    """`Flag` sums (m, t)."""
    W = cols.W[0]
    rms = np.hypot(cols.center[0], np.sqrt(cols.square[0] / W))
    size = rms[k:].copy()
    for j in range(k):
        size += np.abs(b[0][j]) * rms[j]
    perfect = (np.sqrt(rss[0] / W) <= LIMITS.perfect * size) & (n > rank)
    flags = np.where(perfect, int(Flag.PERFECT_FIT), 0) | int(Flag.EXTENDED)
    flags |= np.where(cols.constant[k:], int(Flag.CONSTANT_TARGET), 0)
    flags |= np.where(factor.ratio < LIMITS.ill, int(Flag.ILL_CONDITIONED), 0)
    return np.asarray(flags.T)
