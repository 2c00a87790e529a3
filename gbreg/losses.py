# SPDX-License-Identifier: MIT
"""Fits that minimise another loss than squares: what is minimised, and what follows from the minimum.

The minimum is found by the backend, see `gbreg.minimizers`, in coordinates where all is of size one:
columns that are orthonormal in each group, sqrt(w) X = Q R, and residuals of least squares over
their norm. So predictors that are nearly dependent, far from 0, or of any size cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from gbreg.backends import Progress
from gbreg.backends._ranges import map_ranges, piece_rows
from gbreg.errors import GbregError
from gbreg.estimates import DECIDED, Estimates, mean_term_sizes, residuals
from gbreg.farout import survive_far_rows
from gbreg.minimum import EXACT, Minimize, Minimum
from gbreg.problem import BoolArray, Flag, FloatArray, IntArray, Loss, Problem, Status, frozen
from gbreg.quadratic import inverted
from gbreg.ragged import buckets, grouped_mad, norm_of, padded_rows
from gbreg.sandwich import orthonormal, unit_design
from gbreg.vertices import to_vertices

CHUNK_ROWS = 1 << 18  # of a piece of work, at most; a group is never cut
PASSES = 24  # at most; more than one is for values more than 1e5 scales away, one for each 1e14
COARSE = 1e-5  # least scale in units of the residuals: below it they have less than 11 digits of the scale
NO_PULL = 1e-10  # residual, in scales, that is rounding if no row with weight has a larger one
CIRCLING = 64 * EXACT  # the same as `EXACT`, of a scale that goes to 0 and does not end there
FAR = 1e4  # units beyond which a residual is cut, at least


def minimize_loss(
    problem: Problem,
    estimates: Estimates,
    loss: Loss,
    minimize: Minimize,
    progress: Progress,
    *,
    mad: bool,
    drop: bool,
    threads: int,
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
    threads : int
        Threads over group ranges, which call ``minimize`` and ``progress``. Changes no bit.

    Returns
    -------
    Estimates
        Coefficients and residuals of the minimum, and `Estimates.spread`. Saturated groups and
        perfect fits stay as they are.
    """
    room = np.full((*estimates.level.shape, 2), np.nan)
    far = loss.name == "bisquare"  # may leave out rows so far off that the mean has no digits for others
    middle = np.repeat(estimates.center, estimates.level.shape[1], axis=1) if far else estimates.middle
    out = replace(estimates, spread=room, middle=middle).copied(*DECIDED)

    def work(g0: int, g1: int) -> None:
        progress(0)
        part = problem if g1 - g0 == problem.n_groups else problem.slice(g0, g1)
        _minimize_range(part, out.view(g0, g1), loss, minimize, progress, mad, drop)

    rows = piece_rows(problem.n_rows, threads, CHUNK_ROWS)
    map_ranges(work, problem, problem.split(rows), threads, lambda done: progress(0))
    return out


def _minimize_range(
    problem: Problem,
    out: Estimates,
    loss: Loss,
    minimize: Minimize,
    progress: Progress,
    mad: bool,
    drop: bool,
) -> None:
    """`minimize_loss` in place."""
    if not drop:
        out.blank(out.status == Status.RANK_DEFICIENT)
    settled = out.settled(drop) & (out.rank > 0)  # else there is nothing to move

    def find(
        to: Estimates, groups: IntArray, asked: BoolArray, unit: FloatArray, away: BoolArray | None = None
    ) -> None:
        for turn in range(PASSES):
            progress(0)
            with np.errstate(all="ignore"):
                work = _Work(problem, to, loss, groups, asked, np.where(unit > 0, unit, 1.0), turn, away)
                coarse, scale = work.minimize(minimize, progress, mad)
            some = coarse.any(axis=1)
            if not some.any():
                break
            groups, asked, unit = groups[some], coarse[some], scale[some]

    for groups in _alike(out.dropped[:, 0], np.asarray(settled.any(axis=1))):
        find(out, groups, settled[groups], out.resid_norm[groups])
        if loss.name == "bisquare":
            constant = (out.flags[groups] & Flag.CONSTANT_TARGET) > 0
            survive_far_rows(problem, out, loss, groups, settled[groups] & ~constant, find)
    told = (out.flags & (Flag.PERFECT_FIT | Flag.CONSTANT_TARGET)) > 0
    fitted = out.settled(drop) | (out.status == Status.NOT_CONVERGED)
    none = settled & fitted & np.isnan(out.spread[:, :, 1]) & ~told
    out.flags[none] |= np.uint8(Flag.NO_ROBUST_ERRORS)


class _Design(NamedTuple):
    """Rows of the groups in the units in which a loss is minimised, and the way back."""

    rows: slice | IntArray  # of the problem
    own: IntArray  # (n,)
    sizes: IntArray  # (g,)
    side: FloatArray  # (n,), sqrt(w)
    near: FloatArray  # (n,), the same, but 0 for the rows that are away
    kept: IntArray  # (k',), the independent predictors
    standard: Problem  # orthonormal columns, residuals over their unit, weights of 1
    inverse: FloatArray  # (p, p, g), makes coefficients of unit columns of those of orthonormal ones


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """Groups with the same independent predictors, and what is asked for of their targets."""

    problem: Problem
    out: Estimates  # written to
    loss: Loss
    groups: IntArray
    asked: BoolArray  # (g, t)
    unit: FloatArray  # (g, t), size of the residuals
    turn: int  # passes before this one
    away: BoolArray | None = None  # (n,), rows whose weight is 0 whatever the coefficients, of the problem

    def minimize(self, minimize: Minimize, progress: Progress, mad: bool) -> tuple[BoolArray, FloatArray]:
        """Find minima; where the scale is so much less than the unit that rounding shows, and the scale.

        A value far off, 1e20 say where others are near 1, leaves its rounding in the residuals of
        least squares. Those of the first minimum are free of it, and are the start of a second pass.
        """
        design = self._design()
        found = minimize(design.standard, self.loss, progress, self.turn > 0)
        if found.theta.shape != (*self.asked.shape, design.standard.n_predictors):
            raise GbregError(f"the backend returned coefficients of shape {found.theta.shape}")
        if self.loss.name == "absolute":
            found = to_vertices(design.standard, self.loss, found, progress)
        still = (self.out.flags[self.groups] & (Flag.PERFECT_FIT | Flag.CONSTANT_TARGET)) > 0
        moved, coarse = self.asked & ~still, np.zeros(self.asked.shape, dtype=np.bool_)
        for q in range(self.problem.n_targets):
            self._move(design, q, np.where(moved[:, q], found.theta[:, q].T, 0.0))
            coarse[:, q] = self._settle(design, q, found, moved[:, q], mad)
        return coarse, found.scale * self.unit

    def _design(self) -> _Design:
        problem, out, groups = self.problem, self.out, self.groups
        rows, own = problem.rows_at(groups)
        sizes = np.diff(problem.offsets)[groups]
        offsets = frozen(np.concatenate(([0], np.cumsum(sizes))))
        side = np.sqrt(problem.w[rows])
        kept = np.flatnonzero(~out.dropped[groups[0], 0])
        columns, near = unit_design(problem, out, groups, rows, own, side, kept), side
        if self.away is not None:
            away = self.away[rows]
            columns, near = [np.where(away, 0.0, column) for column in columns], np.where(away, 0.0, side)
        Q, R = orthonormal(columns, own, len(groups))
        far = max(FAR, 10 * self.loss.tuning)
        B = []
        for q in range(problem.n_targets):
            b = side * residuals(problem, out, q, rows, groups, own) / self.unit[own, q]
            b = np.clip(b, -far, far)  # a row so far off pulls no more if it is farther
            B.append(b if self.away is None else np.where(away, far, b))
        Z = np.stack([*Q, *B, np.ones(len(own))], axis=1)
        Z.flags.writeable = False
        return _Design(rows, own, sizes, side, near, kept, Problem(Z, offsets, len(Q)), inverted(R))

    def _move(self, design: _Design, q: int, theta: FloatArray) -> None:
        """Add what was found to the coefficients of a target: (p, g), 0 where they stay as they are."""
        problem, out, groups, kept = self.problem, self.out, self.groups, design.kept
        first = out.params.shape[2] - problem.n_predictors
        change = np.array([_sum(row * theta) for row in design.inverse]) * self.unit[:, q]
        slopes = change[first:] / out.norm[groups[:, None], 0, kept].T
        out.params[groups[:, None], q, first + kept] += slopes.T
        if not first:
            return
        out.level[groups, q] += change[0] / np.sqrt(out.wsum[groups, 0])
        # The constant is made anew: what was there may be large, and cancel.
        place = out.place(q)[groups[:, None], kept].T
        if problem.origin is not None:
            place = place + problem.origin[groups[:, None], kept].T
        b = out.params[groups[:, None], q, first + kept].T
        constant = out.level[groups, q] - _sum(b * place)
        if problem.origin is not None:
            constant += problem.origin[groups, problem.n_predictors + q]
        changed = theta.any(axis=0)
        out.params[groups[changed], q, 0] = constant[changed]

    def _settle(self, design: _Design, q: int, found: Minimum, moved: BoolArray, mad: bool) -> BoolArray:
        """Write what follows from the coefficients of a target; (g,) whether they need another pass."""
        problem, out, groups, unit = self.problem, self.out, self.groups, self.unit[:, q]
        rows, own, sizes, kept = design.rows, design.own, design.sizes, design.kept
        first = out.params.shape[2] - problem.n_predictors
        resid = residuals(problem, out, q, rows, groups, own)
        scaled, scale = design.side * resid / unit[own], found.scale[:, q]
        coarse = moved & (scale < COARSE)
        exact = moved & ((scale < COARSE) | (self.turn > 0))
        settled = found.status[:, q] == Status.OK  # else rounding may go round in circles
        if exact.any():
            zeros = np.bincount(own, problem.Z[rows, problem.n_predictors + q] == 0, len(groups))
            nothing = zeros > sizes / 2  # the target has no size
            size = mean_term_sizes(problem, out, q, rows, groups, own, design.near)
            rounding = scale * unit <= np.where(settled, EXACT, CIRCLING) * size
            exact &= rounding | (nothing & (scale < COARSE))
            coarse &= ~exact
            through = np.bincount(own, np.abs(scaled) * unit[own] <= (CIRCLING * size)[own], len(groups))
            settled |= exact & (through >= first + len(kept))  # through fewer rows there are many fits
        length = out.target_norm[groups, q]
        if self.loss.name == "absolute" and not first:  # the norm is about 0, the deviation is not
            length = _norm_about_mean(
                design.side, problem.Z[rows, problem.n_predictors + q], own, len(groups)
            )
        deviation = length / unit / np.sqrt(sizes)
        error = error_of_loss(self.loss, scaled, own, scale, deviation, sizes, design.standard.n_predictors)
        spread = np.stack([scale, error], axis=1) * unit[:, None]
        spread[~np.isfinite(spread)] = np.nan
        perfect = (out.flags[groups, q] & Flag.PERFECT_FIT) > 0
        spread[exact | (self.asked[:, q] & perfect)] = 0.0, np.nan  # of rounding noise
        out.spread[groups[self.asked[:, q]], q] = spread[self.asked[:, q]]
        size = norm_of(scaled, own, len(groups)) * unit
        out.resid_norm[groups[moved], q] = size[moved]
        if mad:
            deviations = grouped_mad(resid[None], design.standard.offsets[:-1], sizes)[0]
            out.mad[groups[moved], q] = deviations[moved]
        out.flags[groups[exact], q] |= np.uint8(Flag.PERFECT_FIT)
        good = Status.OK if len(kept) == problem.n_predictors else Status.RANK_DEFICIENT
        out.status[groups[moved], q] = np.where(settled, good, Status.NOT_CONVERGED)[moved]
        own_terms = [*range(first), *(first + kept)]
        numbers = np.column_stack([out.params[groups[:, None], q, own_terms], spread[:, 0], size])
        fine = np.isfinite(numbers).all(axis=1) & ~(coarse & (self.turn == PASSES - 1))
        beyond = groups[moved & ~fine]
        out.status[beyond, q] = Status.OVERFLOW
        out.blank((beyond, q))
        return coarse


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
        low, high = _quartiles(scaled, n)
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
    error = factor * np.sqrt(np.bincount(own, psi * psi, g) / df) * scale / np.abs(mean)
    if loss.name == "bisquare":  # maybe only rows that the fit goes through have weight
        noise = np.maximum.reduceat(np.abs(psi), np.cumsum(n) - n) <= NO_PULL
        error = np.where(noise, np.nan, error)
    return np.asarray(error)


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


def _quartiles(values: FloatArray, n: IntArray) -> tuple[FloatArray, FloatArray]:
    """(g,) first and third of each group, interpolated."""
    starts, made = np.cumsum(n) - n, np.empty((2, len(n)))
    for members in buckets(n, CHUNK_ROWS):
        counts, some = n[members], np.arange(len(members))
        ordered = values[padded_rows(starts[members], counts)]
        ordered[np.arange(ordered.shape[1]) >= counts[:, None]] = np.inf
        ordered.sort(axis=1)
        for quartile, share in zip(made, (0.25, 0.75), strict=True):
            place = share * (counts - 1)
            below = np.floor(place).astype(np.int64)
            low, high = ordered[some, below], ordered[some, np.minimum(below + 1, counts - 1)]
            quartile[members] = low + (place - below) * (high - low)
    return made[0], made[1]


def _alike(dropped: BoolArray, asked: BoolArray) -> Iterator[IntArray]:
    """Groups that were asked for, by what is dropped."""
    which = np.zeros(np.count_nonzero(asked), dtype=np.int64)
    if dropped[asked].any():
        which = np.unique(dropped[asked], axis=0, return_inverse=True)[1]
    for m in range(which.max(initial=-1) + 1):
        yield np.flatnonzero(asked)[which.ravel() == m]


def _norm_about_mean(side: FloatArray, y: FloatArray, own: IntArray, g: int) -> FloatArray:
    """(g,) sqrt(sum w (y - mean)^2), about the weighted mean; side (n,) is sqrt(w)."""
    w = np.square(side / norm_of(side, own, g)[own])  # their sum is 1: the mean is in the range of y
    mean = np.bincount(own, w * y, g)
    return norm_of(side * (y - mean[own]), own, g)


def _sum(terms: FloatArray) -> FloatArray:
    """(g,) sums of (p, g) in the order of p, which numpy changes where there is one group."""
    return np.asarray(sum(terms, np.zeros(terms.shape[1])))
