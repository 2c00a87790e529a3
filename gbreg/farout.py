# SPDX-License-Identifier: MIT
"""Rows so far out in a predictor that beside them all others look alike, and fits that leave these rows out.

Predictors that are orthonormal over all rows have no digits for rows that are near each other when one
is 1e9 times farther off: without that row they are dependent, and no start that leaves it out is
found. So "bisquare" is tried a second time, in coordinates of the other rows. A minimum where each row
that was left out has weight 0 is one of the whole; the lesser of the two is the fit.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gbreg.estimates import DECIDED, Estimates, residuals, term_sizes
from gbreg.minimizers import Rows
from gbreg.minimum import EXACT, NORMAL, START_ROWS
from gbreg.problem import BoolArray, Flag, FloatArray, IntArray, Loss, Problem, Status
from gbreg.ragged import norm_of
from gbreg.sandwich import orthonormal

FAR_OUT = 2e3  # times the size that 70 % of the rows do not exceed; from about 5e3 on starts are missed
ROUNDS = 8  # in which rows that are not outliers after all come back
LEFT = 1e-7  # of the length of a predictor, what the others do not explain: less is dependent
LEFT_ROUNDING = 2.0**-46  # of its values
ALIKE = 1e-6  # difference of minima, relative, that is none

Again = Callable[[Estimates, IntArray, BoolArray, FloatArray, BoolArray], None]


def survive_far_rows(
    problem: Problem, out: Estimates, loss: Loss, groups: IntArray, asked: BoolArray, again: Again
) -> None:
    """Try groups with rows far out without these, in place.

    Parameters
    ----------
    problem : Problem
    out : Estimates
        Of "bisquare", found from all rows; written to.
    loss : Loss
    groups : (g,)
        With the same dropped predictors.
    asked : (g, t)
        Targets that may have another minimum.
    again : callable
        ``again(trial, groups, asked, unit, away)`` goes on from ``trial`` to a minimum, in place, with
        residuals of size ``unit`` (g, t), without the rows ``away`` (n,) of the problem.
    """
    kept = np.flatnonzero(~out.dropped[groups[0], 0])
    p = out.params.shape[2] - problem.n_predictors + len(kept)
    enough = (np.diff(problem.offsets)[groups] >= START_ROWS * p) & asked.any(axis=1)
    groups, asked = groups[enough], asked[enough]
    some = may_have_far_rows(problem, out, groups, kept)
    groups, asked = groups[some], asked[some]
    if not len(groups):
        return
    far, middle, told = far_rows(problem, out, groups, kept)
    rows, own = problem.rows_of(groups)
    share = np.bincount(own, far, len(groups))
    some = told & (share > 0) & (share <= 3 * np.diff(problem.offsets)[groups] // 10)
    groups, asked, middle, far = groups[some], asked[some], middle[some], far[some[own]]
    rows, own = problem.rows_of(groups)
    taken = np.zeros(asked.shape, dtype=np.bool_)
    trials = []
    for q in range(problem.n_targets):
        trial, left, fits = _leave_out(problem, out, loss, groups, asked[:, q], q, middle, far, again)
        better = _is_less(problem, loss, (out, trial), groups, rows, own, q)
        taken[:, q] = asked[:, q] & left & fits & better
        out.status[groups[asked[:, q] & ~fits], q] = Status.NOT_CONVERGED
        trials.append(trial)
    for q, trial in enumerate(trials):
        which = groups[taken[:, q]]
        for name in (*DECIDED, "middle"):
            getattr(out, name)[which, q] = getattr(trial, name)[which, q]
        out.spread[which, q, 1] = np.nan  # errors about the means of all rows are none


def may_have_far_rows(problem: Problem, out: Estimates, groups: IntArray, kept: IntArray) -> BoolArray:
    """(g,) false where none is, told without sorting: neighbours differ by too much of the range.

    If 70 % of the rows are within s of the middle, 40 % of neighbours are within 2 s of each other,
    whatever the order of the rows.
    """
    if not len(groups):
        return np.zeros(0, dtype=np.bool_)
    counts = np.diff(problem.offsets)[groups]
    rows, own = problem.rows_at(groups)
    starts = np.cumsum(counts) - counts
    side = np.sqrt(problem.w[rows])
    with np.errstate(all="ignore"):
        ratio = np.maximum.reduceat(side, starts) / np.minimum.reduceat(side, starts)
        may = ratio > FAR_OUT
        for j in kept:
            x = problem.Z[rows, j]
            if out.params.shape[2] == problem.n_predictors:  # about 0: sizes may differ, not values
                x = np.abs(x)
            reach = np.maximum.reduceat(x, starts) - np.minimum.reduceat(x, starts)
            close = np.abs(np.diff(x, append=x[-1])) <= (2 / FAR_OUT * ratio * reach)[own]
            may |= np.add.reduceat(close.astype(np.int64), starts) >= 0.4 * counts - 2
            may |= ~(reach < np.inf)
    return may


def far_rows(
    problem: Problem, out: Estimates, groups: IntArray, kept: IntArray
) -> tuple[BoolArray, FloatArray, BoolArray]:
    """Rows of the groups that are far out, medians of predictors, and whether other rows tell these apart.

    (n,), (g, k), which is 0 without intercept, and (g,). Sizes are of sqrt(w) and sqrt(w) (x - median),
    then of what predictors do not share over the other rows.
    """
    g, counts = len(groups), np.diff(problem.offsets)[groups]
    rows, own = problem.rows_of(groups)
    side = np.sqrt(problem.w[rows])
    middle = out.center[groups, 0].copy()
    none = np.empty((0, len(own)))
    cut = counts - 3 * counts // 10 - 1
    far = np.zeros(len(own), dtype=np.bool_)
    first = out.params.shape[2] - problem.n_predictors
    limits = np.ones((problem.n_predictors, g))
    columns = [side / np.sqrt(np.bincount(own, side * side, g))[own]] if first else []

    def beyond(size: FloatArray, limit: FloatArray) -> BoolArray:
        return np.asarray((limit > 0)[own] & (size > FAR_OUT * limit[own]))

    with np.errstate(all="ignore"):
        far |= beyond(side, Rows.of(none, side, counts).smallest(side, cut))
        for j in kept:
            x = problem.Z[rows, j]
            if first:
                middle[:, j] = Rows.of(none, x, counts).smallest(x, counts // 2)
            column = side * (x - middle[own, j])
            limit = Rows.of(none, column, counts).smallest(np.abs(column), cut)
            limits[j] = limit
            far |= beyond(np.abs(column), limit)
            columns.append(column / np.where(limit > 0, limit, 1.0)[own])
        for _ in range(ROUNDS):
            near = [np.where(far, 0.0, column) for column in columns]
            Q, R = orthonormal(near, own, g)
            before = far.sum()
            for column in Q:
                size = np.where(far, np.inf, np.where(np.isnan(column), 0.0, np.abs(column)))
                limit = Rows.of(none, size, counts).smallest(size, cut)
                far = far | (beyond(size, limit) & (limit < np.inf)[own])
            if far.sum() == before:
                break
        lengths = [norm_of(column, own, g) for column in near]
        left = np.array([R[j, j] / length for j, length in enumerate(lengths)])
        origin = 0.0 if problem.origin is None else problem.origin[groups][:, : problem.n_predictors]
        reach = norm_of(np.where(far, 0.0, side), own, g)[:, None] * np.abs(middle + origin)
        rounding = np.zeros(g)
        for j, length in zip(kept, lengths[first:], strict=True):
            scaled = np.where(limits[j] > 0, limits[j], 1.0) * length
            rounding += reach[:, j] / scaled
    return far, middle, np.asarray((left > LEFT + LEFT_ROUNDING * rounding).all(axis=0))


def _leave_out(
    problem: Problem,
    out: Estimates,
    loss: Loss,
    groups: IntArray,
    asked: BoolArray,
    q: int,
    middle: FloatArray,
    far: BoolArray,
    again: Again,
) -> tuple[Estimates, BoolArray, BoolArray]:
    """Minima without the far rows; (g,) where any are left out; where these have weight 0.

    Where they have weight 0 the minima are of all rows. Far rows that would have another come back.
    """
    trial = out.copied(*DECIDED, "center", "norm", "middle")
    k, counts = problem.n_predictors, np.diff(problem.offsets)
    first = out.params.shape[2] - k
    fits = np.zeros(len(groups), dtype=np.bool_)
    owner = np.repeat(np.arange(len(groups)), counts[groups])
    place, far = np.flatnonzero(asked), far.copy()
    for _ in range(ROUNDS):
        if not len(place):
            break
        rows, own = problem.rows_of(groups[place])
        part = np.isin(owner, place)
        away, some, g = far[part], groups[place], len(place)
        side = np.where(away, 0.0, np.sqrt(problem.w[rows]))
        y = problem.Z[rows, k + q]
        with np.errstate(all="ignore"):
            for j in range(k):
                deviation = np.where(away, 0.0, problem.Z[rows, j] - middle[place, j][own])
                trial.norm[some, 0, j] = norm_of(side * deviation, own, g)
            trial.params[some, q, first:] = np.where(out.dropped[some, 0], np.nan, 0.0)
            if first:
                trial.center[some, 0] = trial.middle[some, q] = middle[place]
                trial.level[some, q] = Rows.of(np.empty((0, len(own))), y, counts[some]).smallest(
                    y, counts[some] // 2
                )
                origin = 0.0 if problem.origin is None else problem.origin[some, k + q]
                trial.params[some, q, 0] = trial.level[some, q] + origin
            unit = np.ones((g, problem.n_targets))
            unit[:, q] = norm_of(side * (y - trial.level[some, q][own]), own, g)
        only = np.zeros(unit.shape, dtype=np.bool_)
        only[:, q] = True
        trial.flags[some, q] &= ~np.uint8(Flag.PERFECT_FIT)
        mask = np.zeros(problem.n_rows, dtype=np.bool_)
        mask[rows[away]] = True
        again(trial, some, only, np.where(unit > 0, unit, 1.0), mask)
        with np.errstate(all="ignore"):
            size = np.sqrt(problem.w[rows]) * np.abs(residuals(problem, trial, q, rows, some, own))
            inside = away & ~(size > loss.tuning * trial.spread[some, q, 0][own])
        back = np.bincount(own, inside, g) > 0
        fits[place[~back]] = True
        far[np.flatnonzero(part)[inside]] = False
        place = place[back]
    return trial, np.bincount(owner, far, len(groups)) > 0, fits


def _is_less(
    problem: Problem,
    loss: Loss,
    pair: tuple[Estimates, Estimates],
    groups: IntArray,
    rows: IntArray,
    own: IntArray,
    q: int,
) -> BoolArray:
    """(g,) whether the second has a lesser sum of the loss, or an equal one, at the lesser of both scales."""
    g, counts, none = len(groups), np.diff(problem.offsets)[groups], np.empty((0, len(own)))
    with np.errstate(all="ignore"):
        side, y = np.sqrt(problem.w[rows]), problem.Z[rows, problem.n_predictors + q]
        sizes = [side * _blurred(problem, made, q, rows, groups, own) for made in pair]
        sizes = [np.where(np.isnan(size), np.inf, size) for size in sizes]
        scales = [NORMAL * Rows.of(none, size, counts).smallest(size, counts // 2) for size in sizes]
        size = side * np.abs(y)
        noise = EXACT * Rows.of(none, size, counts).smallest(size, counts // 2)
        scale = np.maximum(np.minimum(*scales), noise)
        sums = []
        for size in sizes:
            inside = np.maximum(1 - np.square(size / (loss.tuning * scale)[own]), 0.0)
            sums.append(np.bincount(own, 1 - inside**3, g))
        return np.asarray((scales[0] > noise) & (sums[1] <= sums[0] * (1 + ALIKE)))


def _blurred(
    problem: Problem, made: Estimates, q: int, rows: IntArray, groups: IntArray, own: IntArray
) -> FloatArray:
    """(n,) sizes of residuals and of their rounding: where level and slope cancel they are 0 by chance."""
    terms = term_sizes(problem, made, q, rows, groups, own)
    return np.asarray(np.abs(residuals(problem, made, q, rows, groups, own)) + EXACT / 2 * terms)
