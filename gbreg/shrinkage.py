# SPDX-License-Identifier: MIT
"""Penalised and bounded coefficients, whichever backend made the plain fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gbreg import doubledouble as dd
from gbreg.activeset import SNAP, bounded_least_squares, dense, inverse, snapped, solved
from gbreg.augmented import BLUR, Design, describe, make_design
from gbreg.estimates import PER_TARGET, Estimates, residuals
from gbreg.influence import FULL
from gbreg.problem import LIMITS, SMALLEST_NORMAL, BoolArray, Flag, FloatArray, Problem, Status, frozen
from gbreg.quadratic import added
from gbreg.ragged import grouped_mad
from gbreg.spec import FitSpec

CHUNK_ROWS = 1 << 16  # rows in cache at once; a group is never cut
FITTED = (Status.OK, Status.SATURATED, Status.RANK_DEFICIENT)

Fit = Callable[[Problem], Estimates]


def shrink(
    problem: Problem, estimates: Estimates, spec: FitSpec, fit: Fit, progress: Callable[[int], None]
) -> Estimates:
    """Estimates with the coefficients that minimise sum w r^2 + sum ridge b^2 within the bounds.

    Hoerl and Kennard 1970; Lawson and Hanson, Solving Least Squares Problems, chapter 23. Without
    ridge, a plain fit that keeps the bounds stays as it is.

    Parameters
    ----------
    problem : Problem
    estimates : Estimates
        The plain fit of that problem, by any backend.
    spec : FitSpec
        With ``ridge`` or ``bounds``.
    fit : callable
        The backend: it finds which predictors without penalty are dependent.
    progress : callable
        Called with 0 between pieces of work; may raise.
    """
    made = replace(estimates.copied(), freedom=np.full((*estimates.status.shape, 1), np.nan))
    wanted = np.asarray(np.isin(made.status, FITTED))
    if spec.penalised:
        gone, unknown = _undetermined(problem, estimates, spec, fit)
    else:
        gone, unknown = estimates.dropped[:, 0], np.isnan(made.known_params)
    if spec.bounds is not None:
        low, high = spec.limits[:, int(spec.options.intercept) :]
        nonzero = (low > 0) | (high < 0)  # what is dropped is 0, which these must not be
        barred = nonzero if spec.options.on_collinear == "drop" else np.ones_like(nonzero)
        lost = wanted & (gone & barred).any(axis=1, keepdims=True)  # bounds may determine what data do not
        _forget(made, lost, Status.RANK_DEFICIENT)
        wanted &= ~lost
    if not spec.penalised:
        made.params[:] = _snapped(made, problem, spec)
        low, high = spec.limits
        broken = ((made.params < low) | (made.params > high)).any(axis=2)
        spare = (made.status == Status.SATURATED) & spec.held(made.params).any(axis=2)
        wanted &= broken | spare  # one that is held leaves a row more than there are coefficients
    groups = np.flatnonzero(wanted.any(axis=1))
    part = problem
    if len(groups) < problem.n_groups:
        part = problem.part(groups=groups)
    for g0, g1 in part.split(CHUNK_ROWS):
        progress(0)
        own = groups[g0:g1]
        with np.errstate(all="ignore"):
            before = made.of_groups(own)
            after = _fit_groups(part.slice(g0, g1), made.of_groups(own), gone[own], unknown[own], spec)
        for name in PER_TARGET:
            getattr(after, name)[~wanted[own]] = getattr(before, name)[~wanted[own]]
        made.put_groups(own, after)
    if not spec.penalised:
        known = (made.rank[:, [0]] > 0) & np.isfinite(made.level)
        free = made.rank[:, [0]] - spec.held(made.params).sum(axis=2)
        made.freedom[:, :, 0] = np.where(known, free, np.nan)
    return made


def _snapped(made: Estimates, problem: Problem, spec: FitSpec) -> FloatArray:
    """Coefficients (g, t, p), those within rounding of a bound exactly there: else it would be chance."""
    first = int(spec.options.intercept)
    blur = SNAP * made.target_norm[:, :, None] * made.root
    if first:
        center, origin = _centers(problem, made)[0].T, _origins(problem)[problem.n_predictors :].T
        reach = np.abs(center)[:, None]
        terms = np.where(reach == 0, 0.0, reach * np.abs(made.params[:, :, 1:]))
        size = np.abs(made.level + origin) + made.target_norm / np.sqrt(made.wsum)
        blur[:, :, 0] = SNAP * (size + added(terms, 2))
        blur[:, :, 0] += added(np.where(reach == 0, 0.0, reach * blur[:, :, 1:]), 2)
    low, high = spec.limits
    return snapped(made.params, low, high, blur)


def _undetermined(
    problem: Problem, estimates: Estimates, spec: FitSpec, fit: Fit
) -> tuple[BoolArray, BoolArray]:
    """Predictors (g, k) that go, and coefficients (g, t, p) that the data do not determine.

    Those of a fit of the predictors without penalty: what the penalised sum does not see is 0
    in the others.
    """
    k, first = problem.n_predictors, int(spec.options.intercept)
    gone = np.zeros((problem.n_groups, k), dtype=np.bool_)
    unknown = np.zeros(estimates.params.shape, dtype=np.bool_)
    free = np.flatnonzero(np.array(spec.ridge) == 0)
    if len(free):
        picked = [*free, *range(k, problem.Z.shape[1])]
        origin = None if problem.origin is None else frozen(problem.origin[:, picked[:-1]])
        made = fit(Problem(frozen(problem.Z[:, picked]), problem.offsets, len(free), origin))
        gone[:, free] = made.dropped[:, 0]
        unknown[:, :, [*range(first), *(first + free)]] = np.isnan(made.known_params)
    return gone, unknown


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """Of one target, in the units of the design."""

    slopes: FloatArray  # (k, g)
    side: NDArray[np.int8]  # (k, g), -1 at the lower bound, 1 at the upper, else 0
    step: FloatArray  # (g,), of the level from that of the plain fit
    freedom: FloatArray  # (g,)
    held: FloatArray  # (g,), the bound that the intercept is at; NaN for none
    optimal: BoolArray  # (g,)
    blurred: BoolArray  # (g,), nothing but rounding tells constants apart once the intercept is held


def _fit_groups(
    problem: Problem, made: Estimates, gone: BoolArray, unknown: BoolArray, spec: FitSpec
) -> Estimates:
    """Fit all groups of a problem, whose plain estimates are changed in place."""
    own = np.repeat(np.arange(problem.n_groups), np.diff(problem.offsets))
    ridge = np.array(spec.ridge if spec.penalised else (0.0,) * problem.n_predictors)
    design = make_design(problem, made, own, gone, spec.options.intercept, ridge, spec.ridge_standardize)
    sizes = np.hypot(made.center[:, 0], made.norm[:, 0] / np.sqrt(made.wsum))
    made.dropped[:, 0] = gone
    answers = []
    for q in range(problem.n_targets):
        answer = _solve(design, q, problem, made, spec)
        slopes = _in_units(answer.slopes, answer.side, design, q, spec)
        level, intercept = _level(answer, slopes, design, q, problem, made)
        made.params[:, q] = np.concatenate([intercept, slopes]).T
        made.level[:, q] = level
        made.freedom[:, q, 0] = answer.freedom
        resid = residuals(problem, made, q, slice(None), slice(None), own)
        scaled = np.sqrt(problem.w) * resid / design.target_unit[q][own]
        norm = np.sqrt(np.bincount(own, scaled * scaled, minlength=problem.n_groups))
        made.resid_norm[:, q] = norm * design.target_unit[q]
        if spec.options.mad:
            made.mad[:, q] = grouped_mad(resid[None], problem.offsets[:-1], np.diff(problem.offsets))[0]
        answers.append(answer)
    if spec.penalised:
        describe(made, design, problem.origin)
    for q, answer in enumerate(answers):
        _settle(made, q, answer, gone, unknown[:, q], sizes, design.ill, spec)
    weak = design.weak.T
    lost = weak.any(axis=1, keepdims=True) & (made.status != Status.OVERFLOW)
    _forget(made, lost, Status.RANK_DEFICIENT if spec.penalised else Status.NOT_CONVERGED)
    if spec.penalised:  # else the plain fit tells them apart, and other targets may have it
        made.dropped[:, 0] |= weak
        made.rank[:, 0] -= weak.sum(axis=1)
    return made


def _solve(design: Design, q: int, problem: Problem, made: Estimates, spec: FitSpec) -> _Solution:
    """Slopes and level of one target."""
    R, right, g = design.slopes, design.Z[design.first :, q], problem.n_groups
    never, sure, apart = np.full(g, np.nan), np.ones(g, dtype=np.bool_), np.zeros(g, dtype=np.bool_)
    if spec.bounds is None:
        slopes = solved(R, right)
        freedom = design.first + _freedom(R, ~design.gone, design.penalty, spec)
        nowhere = np.zeros(slopes.shape, dtype=np.int8)
        return _Solution(slopes, nowhere, _step(design, q, slopes), freedom, never, sure, apart)
    low, high = (ends[:, None] for ends in spec.limits)
    scale = design.unit / design.target_unit[q]
    found = bounded_least_squares(
        R, right, low[design.first :] * scale, high[design.first :] * scale, design.gone
    )
    freedom = design.first + _freedom(R, found.free, design.penalty, spec)
    step = _step(design, q, found.x)
    plain = _Solution(found.x, found.side, step, freedom, never, found.optimal, apart)
    if not (design.first and np.isfinite(spec.limits)[:, 0].any()):
        return plain
    slopes = _in_units(found.x, found.side, design, q, spec)
    intercept = _level(plain, slopes, design, q, problem, made)[1][0]
    blur = _snap_of_intercept(slopes, design, q, problem, made)
    inside = snapped(intercept, low[0], high[0], blur)
    held = np.where(inside <= low[0], low[0], np.where(inside >= high[0], high[0], np.nan))
    return _held_at(plain, held, design, q, problem, made, spec)


def _held_at(
    plain: _Solution,
    held: FloatArray,
    design: Design,
    q: int,
    problem: Problem,
    made: Estimates,
    spec: FitSpec,
) -> _Solution:
    """Solution with the intercept ``held`` (g,) at a bound where that is not NaN.

    Where a minimum without one bound breaks it, the minimum with it is at that bound: the sum of
    squares is convex.
    """
    some = np.flatnonzero(~np.isnan(held))
    center = _centers(problem, made)[0][:, some]
    origin = _origins(problem)[problem.n_predictors + q, some]
    R, unit, target_unit = design.R[:, :, some], design.unit[:, some], design.target_unit[q, some]
    root_w, out = np.sqrt(made.wsum[some, 0]), design.gone[:, some]
    A, z = R[:, 1:].copy(), design.Z[:, q, some].copy()
    through, constant = design.through[:, some], design.constant[:, some]
    diagonal = np.arange(len(unit))
    A[1 + diagonal, diagonal] = np.where(constant, through, A[1 + diagonal, diagonal])
    A[0] += np.where(out, 0.0, R[0, 0] * (center * root_w / unit))
    z[0] -= R[0, 0] * (((held[some] - origin) - made.level[some, q]) * root_w / target_unit)
    lengths = np.sqrt(added(A * A, 0))
    inner, right = dense(A / lengths, z, out)
    low, high = (ends[1:, None] * (unit / target_unit * lengths) for ends in spec.limits)
    found = bounded_least_squares(inner, right, low, high, out)
    slopes, side = plain.slopes.copy(), plain.side.copy()
    freedom, optimal, blurred = plain.freedom.copy(), plain.optimal.copy(), plain.blurred.copy()
    slopes[:, some], side[:, some], optimal[some] = found.x / lengths, found.side, found.optimal
    blurred[some] = (constant & ~out & ~(inner[diagonal, diagonal] > BLUR)).any(axis=0)
    freedom[some] = _freedom(inner, found.free, through / lengths, spec)
    return _Solution(slopes, side, plain.step, freedom, held, optimal, blurred)


def _snap_of_intercept(
    slopes: FloatArray, design: Design, q: int, problem: Problem, made: Estimates
) -> FloatArray:
    """(g,) what rounding leaves of the intercept, given slopes (k, g) in the units of the data."""
    center = np.abs(_centers(problem, made)[0])
    level = np.abs(made.level[:, q] + _origins(problem)[problem.n_predictors + q])
    level += design.target_unit[q] / np.sqrt(made.wsum[:, 0])
    doubt = np.abs(slopes) + design.target_unit[q] / design.unit
    return np.asarray(SNAP * (level + added(np.where(design.gone, 0.0, center * doubt), 0)))


def _step(design: Design, q: int, slopes: FloatArray) -> FloatArray:
    """(g,) coefficient of the constant, given those of the predictors."""
    if not design.first:
        return np.zeros(slopes.shape[1])
    return np.asarray((design.Z[0, q] - added(design.R[0, 1:] * slopes, 0)) / design.R[0, 0])


def _freedom(R: FloatArray, free: BoolArray, penalty: FloatArray, spec: FitSpec) -> FloatArray:
    """Effective number (g,) of the slopes that are ``free`` (k, g).

    trace X (X'X + D^2)^-1 X' = p - trace D^2 (X'X + D^2)^-1: Hastie, Tibshirani and Friedman, The
    Elements of Statistical Learning, equation 3.50. Within bounds, of the coefficients at none:
    Meyer and Woodroofe 2000.
    """
    count: FloatArray = free.sum(axis=0).astype(np.float64)
    if not spec.penalised:
        return count
    if spec.bounds is not None:
        R = dense(R, np.zeros(free.shape), ~free)[0]
    roots: list[FloatArray] = [np.sqrt(added(row * row, 0)) for row in inverse(R)]
    shrunk = [np.where(on, (d * root) ** 2, 0.0) for on, d, root in zip(free, penalty, roots, strict=True)]
    return np.asarray(count - sum(shrunk, np.zeros(len(count))))


def _origins(problem: Problem) -> FloatArray:
    """(k + t, g) what was subtracted from columns."""
    if problem.origin is None:
        return np.zeros((problem.Z.shape[1] - 1, problem.n_groups))
    return problem.origin.T


def _centers(problem: Problem, made: Estimates) -> dd.DD:
    """Centres (k, g) in the caller's units."""
    return dd.two_sum(made.center[:, 0].T, _origins(problem)[: problem.n_predictors])


def _level(
    answer: _Solution, slopes: FloatArray, design: Design, q: int, problem: Problem, made: Estimates
) -> tuple[FloatArray, FloatArray]:
    """Fitted value at the centre (g,), and the intercept (1, g), or (0, g) without."""
    if not design.first:
        return np.zeros(problem.n_groups), np.empty((0, problem.n_groups))
    center, origin = _centers(problem, made), _origins(problem)[problem.n_predictors + q]
    level = made.level[:, q] + answer.step * design.target_unit[q] / np.sqrt(made.wsum[:, 0])
    total, away = dd.two_sum(level, origin), dd.two_sum(answer.held, -origin)
    for j, slope in enumerate(np.where(design.gone, 0.0, slopes)):
        rise = dd.mul(dd.from_float(slope), dd.at(center, j))
        total, away = dd.sub(total, rise), dd.add(away, rise)
    free = np.isnan(answer.held)
    return np.where(free, level, away[0]), np.where(free, total[0], answer.held)[None]


def _in_units(
    slopes: FloatArray, side: NDArray[np.int8], design: Design, q: int, spec: FitSpec
) -> FloatArray:
    """Slopes (k, g) in the units of the data, within bounds to the last bit, and at them exactly."""
    slopes = slopes * design.target_unit[q] / design.unit
    if spec.bounds is None:
        return slopes
    low, high = (np.broadcast_to(ends[design.first :, None], slopes.shape) for ends in spec.limits)
    inside = np.where(design.gone, slopes, np.clip(slopes, low, high))
    return np.where(side < 0, low, np.where(side > 0, high, inside))


def _settle(
    made: Estimates,
    q: int,
    answer: _Solution,
    gone: BoolArray,
    unknown: BoolArray,
    sizes: FloatArray,
    ill: BoolArray,
    spec: FitSpec,
) -> None:
    """Statuses and flags of target q, and the NaNs they ask for; ``sizes`` (g, k) are of predictors."""
    params, norm, level = made.params[:, q].copy(), made.resid_norm[:, q], made.level[:, q]
    first, nobs, root_w = int(spec.options.intercept), made.nobs[:, 0], np.sqrt(made.wsum[:, 0])
    deficient, held = gone.any(axis=1), np.zeros(params.shape, dtype=np.bool_)
    if spec.bounds is not None:
        held = spec.held(params)
    faint = (np.abs(params) < SMALLEST_NORMAL) & ~held
    faint = (faint[:, first:] & (answer.slopes.T != 0)).any(axis=1)
    fine = np.isfinite(params).all(axis=1) & np.isfinite(norm + level + answer.freedom) & ~faint
    exact = (nobs == spec.n_free) & ~deficient & ~held.any(axis=1)
    made.resid_norm[exact, q] = 0.0
    if spec.options.mad:
        made.mad[exact, q] = 0.0
    saturated = exact | (nobs - answer.freedom <= FULL * nobs)  # what is left is rounding
    made.freedom[saturated, q, 0] = nobs[saturated]
    size = np.hypot(level, made.target_norm[:, q] / root_w)
    size = size + added(np.where(gone, 0.0, np.abs(params[:, first:]) * sizes), 1)
    perfect = ~saturated & (norm / root_w <= LIMITS.perfect * size)
    flags = made.flags[:, q] & np.uint8(Flag.CONSTANT_TARGET | Flag.ILL_CONDITIONED)
    if spec.penalised:  # the rows alone may have been worse
        flags &= np.uint8(Flag.CONSTANT_TARGET)
    flags |= np.where(ill, Flag.ILL_CONDITIONED, 0).astype(np.uint8)
    made.flags[:, q] = flags | np.where(perfect, Flag.PERFECT_FIT, 0).astype(np.uint8)
    status = np.where(saturated, Status.SATURATED, Status.OK)
    made.status[:, q] = np.where(deficient, Status.RANK_DEFICIENT, status)
    made.params[:, q] = np.where(unknown | np.pad(gone, ((0, 0), (first, 0))), np.nan, params)
    failed = np.zeros(made.status.shape, dtype=np.bool_)
    failed[:, q] = ~fine | (unknown.any(axis=1) & ~deficient)
    _forget(made, failed, Status.OVERFLOW)
    failed[:, q] = fine & ~answer.optimal
    _forget(made, failed, Status.NOT_CONVERGED)
    failed[:, q] = answer.blurred
    _forget(made, failed, Status.RANK_DEFICIENT)


def _forget(made: Estimates, which: BoolArray, status: Status) -> None:
    """Leave no numbers to these groups and targets (g, t), and say why."""
    made.blank(which)
    made.target_norm[which] = np.nan
    made.flags[which] &= np.uint8(Flag.EXTENDED)
    made.status[which] = status
