# SPDX-License-Identifier: MIT
"""Fits that minimise another loss than squares: what is minimised, and what follows from the minimum.

The minimum is found by the backend, see `gbreg.minimizers`, in coordinates where all is of size one:
columns that are orthonormal in each group, sqrt(w) X = Q R, and residuals of least squares over
their norm. So predictors that are nearly dependent, far from 0, or of any size cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from gbreg.backends import Progress
from gbreg.backends._numpy_common import grouped_mad
from gbreg.errors import GbregError
from gbreg.minimum import Minimize
from gbreg.problem import (
    BoolArray,
    Estimates,
    Flag,
    FloatArray,
    IntArray,
    Loss,
    Problem,
    Status,
    frozen,
    residuals,
)
from gbreg.sandwich import orthonormal, unit_design

CHUNK_ROWS = 1 << 18  # a group is never cut


def minimize_loss(
    problem: Problem,
    estimates: Estimates,
    loss: Loss,
    minimize: Minimize,
    progress: Progress,
    *,
    mad: bool,
    drop: bool,
) -> Estimates:
    """Go from least squares to the minimum of a loss.

    Parameters
    ----------
    problem : Problem
    estimates : Estimates
        Least squares.
    loss : Loss
    minimize : Minimize
    progress : callable
        Called with 0 between pieces of work; may raise.
    mad : bool
        Whether the median absolute deviation is wanted.
    drop : bool
        Whether groups with dependent predictors are fitted without these; else they are not.

    Returns
    -------
    Estimates
        Coefficients and residuals of the minimum, and `Estimates.spread`. Saturated groups and
        perfect fits stay as they are.
    """
    out = _copy(estimates)
    if not drop:
        _forget(out, estimates.status == Status.RANK_DEFICIENT)
    settled = estimates.status == Status.OK
    if drop:
        settled = settled | (estimates.status == Status.RANK_DEFICIENT)
    for groups in _alike(problem, estimates.dropped[:, 0], settled.any(axis=1)):
        progress(0)
        with np.errstate(all="ignore"):
            _minimize_groups(problem, out, loss, minimize, groups, settled[groups], mad, progress)
    return out


def _minimize_groups(
    problem: Problem,
    out: Estimates,
    loss: Loss,
    minimize: Minimize,
    groups: IntArray,
    settled: BoolArray,
    mad: bool,
    progress: Progress,
) -> None:
    """Of groups with the same independent predictors, in place."""
    k, t = problem.n_predictors, problem.n_targets
    first = out.params.shape[2] - k
    rows, own = problem.rows_of(groups)
    sizes = np.diff(problem.offsets)[groups]
    offsets = frozen(np.concatenate(([0], np.cumsum(sizes))))
    side = np.sqrt(problem.w[rows])
    kept = np.flatnonzero(~out.dropped[groups[0], 0])
    Q, inverse = orthonormal(unit_design(problem, out, groups, rows, own, side, kept), own, len(groups))
    norm = out.resid_norm[groups]
    unit = np.where(norm > 0, norm, 1.0)
    B = [side * residuals(problem, out, q, rows, groups[own]) / unit[own, q] for q in range(t)]
    Z = np.stack([*Q, *B, np.ones(len(own))], axis=1)
    found = minimize(Problem(frozen(Z), offsets, len(Q)), loss, progress)
    if found.theta.shape != (len(groups), t, len(Q)):
        raise GbregError(f"the backend returned coefficients of shape {found.theta.shape}")
    still = (out.flags[groups] & (Flag.PERFECT_FIT | Flag.CONSTANT_TARGET)) > 0
    moved = settled & ~still
    for q in range(t):
        theta = np.where(moved[:, q], found.theta[:, q].T, 0.0)  # (p, g)
        change = np.array([(inverse[j] * theta).sum(axis=0) for j in range(len(Q))]) * unit[:, q]
        slopes = change[first:] / out.norm[groups[:, None], 0, kept].T
        if first:
            level = change[0] / np.sqrt(out.wsum[groups, 0])
            center = out.center[groups[:, None], 0, kept].T
            if problem.origin is not None:
                center = center + problem.origin[groups[:, None], kept].T
            out.level[groups, q] += level
            out.params[groups, q, 0] += level - (slopes * center).sum(axis=0)
        for j, slope in zip(kept, slopes, strict=True):
            out.params[groups, q, first + j] += slope
        resid = residuals(problem, out, q, rows, groups[own])
        scaled = side * resid / unit[own, q]
        size = np.sqrt(np.bincount(own, scaled * scaled, len(groups)))
        out.resid_norm[groups, q] = np.where(moved[:, q], size * unit[:, q], norm[:, q])
        if mad:
            deviation = grouped_mad(resid[None], offsets[:-1], sizes)[0]
            out.mad[groups, q] = np.where(moved[:, q], deviation, out.mad[groups, q])
        scale = found.scale[:, q]
        deviation = out.target_norm[groups, q] / unit[:, q] / np.sqrt(sizes)
        error = error_of_loss(loss, scaled, own, scale, deviation, sizes, len(Q))
        spread = np.stack([scale, error], axis=1) * unit[:, [q]]
        out.spread[groups, q] = np.where(settled[:, [q]], spread, np.nan)
        lost = moved[:, q] & (found.status[:, q] != Status.OK)
        out.status[groups[lost], q] = Status.NOT_CONVERGED


def error_of_loss(
    loss: Loss,
    scaled: FloatArray,
    own: IntArray,
    scale: FloatArray,
    deviation: FloatArray,
    n: IntArray,
    p: int,
) -> FloatArray:
    """(g,) e such that e^2 (X'WX)^-1 is the covariance of the coefficients.

    For "huber" and "bisquare" as statsmodels' ``RLM`` ("H1"), Huber 1981, equation 6.5 of chapter 7:
    e^2 = K^2 sum psi(u)^2 s^2 / (n - p) / mean(psi')^2, u = r / s, K = 1 + p / n var(psi') / mean(psi')^2.
    For "absolute" as statsmodels' ``QuantReg`` with ``vcov="iid"``: e^2 = q (1 - q) / f(0)^2, with
    the density f of the residuals by Epanechnikov's kernel, of Hall and Sheather's bandwidth
    (Koenker 2005, section 3.4).

    Parameters
    ----------
    loss : Loss
    scaled : (n,)
        sqrt(w) r.
    own : (n,)
        Groups of the rows.
    scale : (g,)
        s.
    deviation : (g,)
        sqrt(sum w (y - mean)^2 / n).
    n : (g,)
        Rows.
    p : int
        Independent coefficients.
    """
    g = len(n)
    df = np.where(n > p, n - p, np.nan)
    if loss.name == "absolute":
        width = _bandwidth(n.astype(np.float64), loss.quantile)
        low, high = _quartiles(scaled, own, n)
        width = width * np.minimum(deviation, (high - low) / 1.34)
        near = scaled / width[own]
        density = np.bincount(own, np.where(np.abs(near) <= 1, 0.75 * (1 - near * near), 0.0), g) / (
            n * width
        )
        error = np.sqrt(loss.quantile * (1 - loss.quantile)) / density
        return np.where(np.isfinite(df), error, np.nan)
    u = scaled / scale[own]
    psi, slope = psi_and_slope(loss, u)
    mean = np.bincount(own, slope, g) / n
    variance = np.bincount(own, np.square(slope - mean[own]), g) / n
    factor = 1 + p / n * variance / np.square(mean)
    return np.asarray(factor * np.sqrt(np.bincount(own, psi * psi, g) / df) * scale / np.abs(mean))


def psi_and_slope(loss: Loss, u: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivative of the loss, and the derivative of that, at residuals over their scale."""
    c = loss.tuning
    if loss.name == "huber":
        return np.clip(u, -c, c), (np.abs(u) <= c).astype(np.float64)
    rest = np.maximum(1 - np.square(u / c), 0.0)
    return u * rest * rest, np.where(rest > 0, rest * (5 * rest - 4), 0.0)


def _bandwidth(n: FloatArray, quantile: float) -> FloatArray:
    """Hall and Sheather 1988, as a width in standard deviations; NaN where the rows are too few."""
    from scipy.special import ndtri

    z = ndtri(quantile)
    density = np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    h = n ** (-1 / 3) * ndtri(0.975) ** (2 / 3) * (1.5 * density**2 / (2 * z * z + 1)) ** (1 / 3)
    inside = (quantile + h < 1) & (quantile - h > 0)
    h = np.where(inside, h, np.nan)
    return np.asarray(ndtri(quantile + h) - ndtri(quantile - h))


def _quartiles(values: FloatArray, own: IntArray, n: IntArray) -> tuple[FloatArray, FloatArray]:
    """(g,) first and third of each group, interpolated."""
    ordered = values[np.lexsort((values, own))]
    ends = np.cumsum(n)
    made = []
    for share in (0.25, 0.75):
        place = share * (n - 1)
        below = np.floor(place).astype(np.int64)
        low = ordered[ends - n + below]
        high = ordered[ends - n + np.minimum(below + 1, n - 1)]
        made.append(low + (place - below) * (high - low))
    return made[0], made[1]


def _alike(problem: Problem, dropped: BoolArray, asked: BoolArray) -> Iterator[IntArray]:
    """Groups that were asked for, by what is dropped, about `CHUNK_ROWS` rows at a time."""
    sizes = np.diff(problem.offsets)
    patterns, which = np.unique(dropped[asked], axis=0, return_inverse=True)
    for m in range(len(patterns)):
        groups = np.flatnonzero(asked)[which.ravel() == m]
        cuts = np.flatnonzero(np.diff(np.cumsum(sizes[groups]) // CHUNK_ROWS)) + 1
        yield from np.split(groups, cuts)


def _copy(estimates: Estimates) -> Estimates:
    """With arrays that may be written to, and room for the spread."""
    names = ("params", "level", "resid_norm", "mad", "status")
    copies = {name: getattr(estimates, name).copy() for name in names}
    return replace(estimates, **copies, spread=np.full((*estimates.level.shape, 2), np.nan))


def _forget(out: Estimates, which: BoolArray) -> None:
    """What only least squares has found of these groups and targets."""
    for name in ("params", "level", "resid_norm", "mad"):
        getattr(out, name)[which] = np.nan
