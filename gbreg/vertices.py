# SPDX-License-Identifier: MIT
"""Minima of quantile regression, told by the rows they go through.

The sum of losses is piecewise linear: some minimum is a vertex, a fit through p rows. It is one if the
multipliers of these rows, which balance the signs of all others, are between quantile - 1 and quantile
(Koenker 2005, section 2.2). Else the row whose multiplier is farthest out leaves, and the sum falls along
an edge until another row takes its place (Barrodale and Roberts 1974). An interior point method that
comes near a nearly flat edge loses the digits that tell its end; from there it is a few such steps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gbreg.activeset import solved
from gbreg.backends import Progress
from gbreg.minimizers import CELLS, Rows
from gbreg.minimum import GAP, ROUNDING, SEED, Minimum
from gbreg.problem import BoolArray, FloatArray, IntArray, Loss, Problem, Status
from gbreg.ragged import buckets, padded_rows

NUDGES = (1e-13, 1e-11, 1e-9)  # of targets, so that no rows tie: steps of length 0 could go round in circles
SLOPE = 1e-11  # of the sum of losses along an edge, that is none
STEPS = 100  # per coefficient, at most; nearly all groups need none
SMALLEST = 1e-26  # residual that is told from 0
CANCELLED = 1e-12  # of the terms of a sum, below which it is rounding


def to_vertices(problem: Problem, loss: Loss, found: Minimum, progress: Progress) -> Minimum:
    """Minima that were found, exactly where there is but one, and not converged where they are none.

    Parameters
    ----------
    problem : Problem
        As `gbreg.minimum.Minimize` takes it.
    loss : Loss
        "absolute".
    found : Minimum
    progress : callable
        Called with 0 between steps; may raise.
    """
    theta, scale, status = found.theta.copy(), found.scale.copy(), found.status.copy()
    Q, counts = np.ascontiguousarray(problem.X), np.diff(problem.offsets)
    with np.errstate(all="ignore"):
        for q, b in enumerate(problem.Y):
            done = np.asarray(status[:, q] == Status.OK)
            if not done.any():
                continue
            rows = Rows.of(Q, np.ascontiguousarray(b), counts).some(done)
            old = theta[done, q].T
            new, alone, minimal = walk_on(rows, old, loss.quantile, progress)
            before, after = (losses(rows, end, loss.quantile) for end in (old, new))
            lower = after < before - 10 * np.maximum(GAP, ROUNDING * rows.counts)  # where there are several
            better = lower | (alone & (after <= before + ROUNDING * rows.counts))
            where = np.flatnonzero(done)
            status[where[~minimal], q] = Status.NOT_CONVERGED
            if better.any():
                theta[where[better], q] = new[:, better].T
                moved = rows.some(better)
                scale[where[better], q] = moved.scale(moved.b - moved.along(new[:, better]))
    return Minimum(theta, scale, status)


def losses(rows: Rows, theta: FloatArray, quantile: float) -> FloatArray:
    """(g,) sum (quantile - [r < 0]) r."""
    r = rows.b - rows.along(theta)
    return rows.sums(np.where(r < 0, quantile - 1, quantile) * r)


def walk_on(
    rows: Rows, theta: FloatArray, quantile: float, progress: Progress
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """`walk`, again with larger nudges in groups where it goes round in circles."""
    vertex, alone, minimal = walk(rows, theta, quantile, progress, NUDGES[0])
    for nudge in NUDGES[1:]:
        if (left := ~minimal).any():
            again = walk(rows.some(left), theta[:, left], quantile, progress, nudge)
            vertex[:, left], alone[left], minimal[left] = again
    return vertex, alone, minimal


def walk(
    rows: Rows, theta: FloatArray, quantile: float, progress: Progress, nudge: float
) -> tuple[FloatArray, BoolArray, BoolArray]:
    """From theta (p, g) to a vertex nearby, and along edges to the lowest.

    Returns
    -------
    vertex : (p, g)
    alone : (g,)
        It is the only minimum.
    minimal : (g,)
        It is a minimum.
    """
    p, g = theta.shape
    nudges = nudge * np.random.default_rng(SEED).random(int(rows.counts.max()))
    b = rows.b + nudges[np.arange(len(rows.own)) - rows.starts[rows.own]]
    part, active = Rows(rows.Q, b, rows.counts, rows.own), np.arange(g)
    through = nearest_rows(part, theta) - rows.starts  # counted from the first of their group
    alone, minimal = np.zeros(g, dtype=np.bool_), np.zeros(g, dtype=np.bool_)
    for _ in range(STEPS * p):
        progress(0)
        here = Corner.of(part, through[:, active] + part.starts, quantile)
        ends = np.asarray(~(here.slope > SLOPE).any(axis=0))
        minimal[active[ends]] = np.isfinite(here.multipliers[:, ends]).all(axis=0)
        alone[active[ends]] = (here.slope[:, ends] < -SLOPE).all(axis=0)
        if ends.all():
            break
        if ends.any():
            active, part = active[~ends], part.some(~ends)
            here = Corner.of(part, through[:, active] + part.starts, quantile)
        leaving, entering = exchange(part, here, quantile)
        goes = entering >= 0
        through[leaving[goes], active[goes]] = (entering - part.starts)[goes]
        if not goes.any():
            break
        if not goes.all():
            active, part = active[goes], part.some(goes)
    corner = rows.Q[:, through + rows.starts]
    return solve_square(np.swapaxes(corner, 0, 1), rows.b[through + rows.starts]), alone, minimal


class Corner(NamedTuple):
    """Fits through p rows of each group."""

    rows: IntArray  # (p, g)
    Q: FloatArray  # (p, p, g), coefficient by row
    r: FloatArray  # (n,)
    multipliers: FloatArray  # (p, g)
    beyond: FloatArray  # (p, g), how far these are out of their bounds
    slope: FloatArray  # (p, g), the same in units of the coefficients

    @classmethod
    def of(cls, part: Rows, rows: IntArray, quantile: float) -> Corner:
        Q = part.Q[:, rows]
        r = part.b - part.along(solve_square(np.swapaxes(Q, 0, 1), part.b[rows]))
        signs = np.where(r < 0, quantile - 1, quantile)
        signs[rows.ravel()] = 0.0
        multipliers = solve_square(Q, -part.products(signs))
        beyond = np.maximum(multipliers - quantile, quantile - 1 - multipliers)
        return cls(rows, Q, r, multipliers, beyond, beyond * np.abs(Q).sum(axis=0))


def exchange(part: Rows, here: Corner, quantile: float) -> tuple[IntArray, IntArray]:
    """(g,) which of the p rows leaves each group, and the row that takes its place; -1 for none."""
    groups, leaving = np.arange(len(part.counts)), np.argmax(here.slope, axis=0)
    away = np.zeros(here.slope.shape)
    away[leaving, groups] = np.where(here.multipliers[leaving, groups] > quantile, -1.0, 1.0)
    edge = solve_square(np.swapaxes(here.Q, 0, 1), away)
    change = part.along(edge)
    terms = Rows(np.abs(part.Q), part.b, part.counts, part.own).along(np.abs(edge))
    change[np.abs(change) <= CANCELLED * terms] = 0.0
    change[here.rows.ravel()] = 0.0
    return leaving, first_level(part, here.r, change, here.beyond[leaving, groups])


def nearest_rows(rows: Rows, theta: FloatArray) -> IntArray:
    """(p, g) rows of each group with small residuals that determine a fit.

    Each is the one with the smallest residual for what it has that the ones before have not.
    """
    left, sizes = rows.Q.copy(), np.abs(rows.b - rows.along(theta)) + SMALLEST
    starts = rows.starts
    picked = np.empty(theta.shape, dtype=np.int64)
    for j in range(len(theta)):
        score = np.sqrt((left * left).sum(axis=0)) / sizes
        score[picked[:j].ravel()] = -1.0
        score = np.where(score >= 0, score, -1.0)  # each group has a largest one, NaN or not
        best = np.flatnonzero(score == np.maximum.reduceat(score, starts)[rows.own])
        picked[j] = best[np.unique(rows.own[best], return_index=True)[1]]
        if j == len(theta) - 1:
            break
        direction = left[:, picked[j]]
        direction = (direction / np.sqrt((direction * direction).sum(axis=0)))[:, rows.own]
        left -= direction * (direction * left).sum(axis=0)
    return picked


def first_level(rows: Rows, r: FloatArray, change: FloatArray, slope: FloatArray) -> IntArray:
    """(g,) the row from which on the sum of losses, falling with ``slope``, no longer does; -1 for none.

    Residuals r fall with ``change``; where one crosses 0 the sum falls by as much less.
    """
    crossed = np.where(change > 0, r >= 0, (change < 0) & (r < 0))
    at = np.where(crossed, r / change, np.inf)
    found = np.full(len(rows.counts), -1)
    starts = rows.starts
    for members in buckets(rows.counts, CELLS):
        padded = padded_rows(starts[members], rows.counts[members])
        beyond = np.arange(padded.shape[1]) >= rows.counts[members, None]
        times = np.where(beyond, np.inf, at[padded])
        order = np.argsort(times, axis=1, kind="stable")
        rows_in_order = np.take_along_axis(padded, order, axis=1)
        reached = np.isfinite(np.take_along_axis(times, order, axis=1))
        total = np.cumsum(np.where(reached, np.abs(change)[rows_in_order], 0.0), axis=1)
        enough = reached & (total >= slope[members, None])
        some = enough.any(axis=1)
        place = np.argmax(enough, axis=1)
        found[members[some]] = rows_in_order[np.arange(len(members)), place][some]
    return found


def solve_square(A: FloatArray, b: FloatArray) -> FloatArray:
    """A^-1 b of (p, p, g) and (p, g), by elimination with row pivots."""
    A, x = A.copy(), b.copy()
    p, groups = len(x), np.arange(x.shape[1])
    for j in range(p):
        pivot = j + np.argmax(np.abs(A[j:, j]), axis=0)
        A[j], A[pivot, :, groups] = A[pivot, :, groups].T, A[j].T.copy()
        x[j], x[pivot, groups] = x[pivot, groups], x[j].copy()
        for i in range(j + 1, p):
            factor = A[i, j] / A[j, j]
            A[i] -= factor * A[j]
            x[i] -= factor * x[j]
    return solved(A, x)  # which does not look below the diagonal
