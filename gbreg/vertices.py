# SPDX-License-Identifier: MIT
"""Minima of quantile regression, told by the rows they go through.

The sum of losses is piecewise linear: some minimum is a vertex, a fit through p rows. It is one if the
multipliers of these rows, which balance the signs of all others, are between quantile - 1 and quantile
(Koenker 2005, section 2.2). Else the row whose multiplier is farthest out leaves, and the sum falls along
an edge until another row takes its place (Barrodale and Roberts 1974). An interior point method that
comes near a nearly flat edge loses the digits that tell its end; from there it is a few such steps.
"""

from __future__ import annotations

import numpy as np

from gbreg.backends import Progress
from gbreg.backends._numpy_common import buckets, padded_rows
from gbreg.minimizers import CELLS, Rows
from gbreg.minimum import GAP, ROUNDING, SEED, Minimum
from gbreg.problem import BoolArray, FloatArray, IntArray, Loss, Problem, Status

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
    first = np.cumsum(rows.counts) - rows.counts
    nudges = nudge * np.random.default_rng(SEED).random(int(rows.counts.max()))
    part = Rows(rows.Q, rows.b + nudges[np.arange(len(rows.own)) - first[rows.own]], rows.counts, rows.own)
    through = nearest_rows(part, theta)
    known, active = through.copy(), np.arange(g)  # rows of the whole, and of the part
    alone, minimal = np.zeros(g, dtype=np.bool_), np.zeros(g, dtype=np.bool_)
    for _ in range(STEPS * p):
        progress(0)
        corner = part.Q[:, through]  # (p, p, g): coefficient, row
        vertex = solve_square(np.swapaxes(corner, 0, 1), part.b[through])
        r = part.b - part.along(vertex)
        signs = np.where(r < 0, quantile - 1, quantile)
        signs[through.ravel()] = 0.0
        multipliers = solve_square(corner, -part.products(signs))
        size = np.abs(corner).sum(axis=0)
        out = np.maximum(multipliers - quantile, quantile - 1 - multipliers)
        slope = out * size
        ends = ~(slope > SLOPE).any(axis=0)
        minimal[active[ends]] = np.isfinite(multipliers[:, ends]).all(axis=0)
        alone[active[ends]] = (slope[:, ends] < -SLOPE).all(axis=0)
        if ends.any():
            stay = ~ends
            first_before = np.cumsum(part.counts) - part.counts
            moved = through[:, stay] - first_before[stay]
            active, part = active[stay], part.some(stay)
            if not len(active):
                break
            through = moved + (np.cumsum(part.counts) - part.counts)
            corner, slope, multipliers = corner[:, :, stay], slope[:, stay], multipliers[:, stay]
            out, vertex = out[:, stay], vertex[:, stay]
            r = part.b - part.along(vertex)
        groups = np.arange(len(active))
        leaving = np.argmax(slope, axis=0)
        sense = np.where(multipliers[leaving, groups] > quantile, 1.0, -1.0)
        away = np.zeros(vertex.shape)
        away[leaving, groups] = -sense
        edge = solve_square(np.swapaxes(corner, 0, 1), away)
        entering = first_level(part, r, edge, through, out[leaving, groups])
        stuck = entering < 0
        entering = np.where(stuck, through[leaving, groups], entering)
        through[leaving, groups] = entering
        known[:, active] = through - (np.cumsum(part.counts) - part.counts) + first[active]
        if stuck.all():
            break
    corner = rows.Q[:, known]
    return solve_square(np.swapaxes(corner, 0, 1), rows.b[known]), alone, minimal


def nearest_rows(rows: Rows, theta: FloatArray) -> IntArray:
    """(p, g) rows of each group with small residuals that determine a fit.

    Each is the one with the smallest residual for what it has that the ones before have not.
    """
    left, sizes = rows.Q.copy(), np.abs(rows.b - rows.along(theta)) + SMALLEST
    starts = np.cumsum(rows.counts) - rows.counts
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


def first_level(
    rows: Rows, r: FloatArray, edge: FloatArray, through: IntArray, slope: FloatArray
) -> IntArray:
    """(g,) the row at which the sum of losses no longer falls with ``slope`` along an edge; -1 for none."""
    change = rows.along(edge)
    change[np.abs(change) <= CANCELLED * rows_along(rows, edge)] = 0.0
    change[through.ravel()] = 0.0
    crossed = np.where(change > 0, r >= 0, (change < 0) & (r < 0))
    at = np.where(crossed, r / change, np.inf)
    found = np.full(len(rows.counts), -1)
    starts = np.cumsum(rows.counts) - rows.counts
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


def rows_along(rows: Rows, theta: FloatArray) -> FloatArray:
    """(n,) sum of the sizes of the terms of Q' theta."""
    return Rows(np.abs(rows.Q), rows.b, rows.counts, rows.own).along(np.abs(theta))


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
    for j in reversed(range(p)):
        for m in range(j + 1, p):
            x[j] -= A[j, m] * x[m]
        x[j] /= A[j, j]
    return x
