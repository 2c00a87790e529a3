# SPDX-License-Identifier: MIT
"""The rows of groups and those of their penalty, as triangles about the groups' centres.

A ridge is least squares with one more row per predictor, sqrt(ridge_j) e_j with target 0 (Hastie,
Tibshirani and Friedman, The Elements of Statistical Learning, exercise 3.12). Columns and targets are
in units of their lengths; nothing is squared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gbreg.activeset import Rows, inverse, triangular
from gbreg.estimates import Estimates, pairs
from gbreg.problem import LIMITS, BoolArray, Flag, FloatArray, IntArray, Problem
from gbreg.quadratic import added

# Of a column, what the earlier ones leave: float64 loses as many digits as its square (Golub and Van
# Loan, section 5.3.7), and data rounded once more are other data.
BLUR = 2.0**-20  # refused: fewer than four digits are left
ILL = 2.0**-13  # flagged: fewer than eight


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Weighted deviations from the centre, Q R, and Q'Y; what is ``gone`` is left out."""

    R: FloatArray  # (p, p, g), the constant first
    Z: FloatArray  # (p, t, g)
    unit: FloatArray  # (k, g), what columns were divided by
    length: FloatArray  # (k, g), the same, but the root of the ridge where a predictor is constant
    penalty: FloatArray  # (k, g), roots of the ridge, in these units; 1 where a predictor is constant
    through: FloatArray  # (k, g), the same where the intercept is held, and so tells constants apart
    constant: BoolArray  # (k, g), penalised predictors that do not vary
    target_unit: FloatArray  # (t, g)
    gone: BoolArray  # (k, g)
    weak: BoolArray  # (k, g), nothing but rounding tells the predictor from the earlier ones
    ill: BoolArray  # (g,)
    first: int  # 1 if there is a constant

    @property
    def slopes(self) -> FloatArray:
        """R (k, k, g) of the predictors."""
        return self.R[self.first :, self.first :]


def make_design(
    problem: Problem,
    estimates: Estimates,
    own: IntArray,
    gone: BoolArray,
    intercept: bool,
    ridge: FloatArray,
    standardize: bool,
) -> Design:
    """Design of groups, all of which have rows.

    Parameters
    ----------
    problem : Problem
    estimates : Estimates
        A plain fit of that problem: centres, levels and norms.
    own : (n,) int64
        Group of each row.
    gone : (g, k) bool
    intercept : bool
    ridge : (k,)
    standardize : bool
        Whether the ridge is for predictors in their standard deviations.
    """
    k, g = problem.n_predictors, problem.n_groups
    root_w, center = np.sqrt(estimates.wsum[:, 0]), estimates.center[:, 0].T
    side = np.sqrt(problem.w)
    constant = _constant(problem, estimates, intercept) & (ridge > 0)[:, None]
    norm = estimates.norm[:, 0].T
    unit, penalty, through = _units(norm, root_w, center, constant, ridge, standardize)
    unit = np.where(gone.T, 1.0, unit)  # may be 0
    length = unit if standardize else np.where(constant & ~gone.T, np.sqrt(ridge)[:, None], unit)
    long, short = [], []
    if intercept:
        long.append(side / root_w[own])
        short.append(np.zeros((k, g)))
    for j, x in enumerate(problem.X):
        column = side * (x - center[j][own]) / unit[j][own]
        long.append(np.where(constant[j][own], 0.0, column) if constant[j].any() else column)
        short.append(np.where(np.arange(k)[:, None] == j, penalty[j], 0.0))
    target_unit = np.where(estimates.target_norm > 0, estimates.target_norm, 1.0).T
    same = (estimates.flags & Flag.CONSTANT_TARGET).T > 0
    for q, y in enumerate(problem.Y):
        column = side * (y - estimates.level[:, q][own]) / target_unit[q][own]
        long.append(np.where(same[q][own], 0.0, column) if same[q].any() else column)
        short.append(np.zeros((k, g)))
    first, out = int(intercept), gone.T
    R, Z = triangular(Rows(long, own, short), k + first, np.pad(out, ((first, 0), (0, 0))))
    reach = np.where(constant | out, 0.0, np.abs(center) * root_w / unit)
    noise = np.maximum(BLUR, LIMITS.rank * np.hypot(1.0, reach.max(axis=0, initial=0.0)))
    diagonal = np.arange(first, k + first)
    left = np.where(out, 1.0, R[diagonal, diagonal])
    weak, ill = left <= noise, left.min(axis=0, initial=1.0) < ILL
    return Design(R, Z, unit, length, penalty, through, constant, target_unit, out, weak, ill, first)


def _constant(problem: Problem, estimates: Estimates, intercept: bool) -> BoolArray:
    """Predictors (k, g) that do not vary but for rounding: their penalised slopes are 0."""
    starts, X = problem.offsets[:-1], problem.X
    if not intercept:
        zero = [np.logical_or.reduceat(x != 0, starts) for x in X]
        return ~np.array(zero, dtype=np.bool_).reshape(len(X), len(starts))
    flat = [np.maximum.reduceat(x, starts) == np.minimum.reduceat(x, starts) for x in X]
    reach = np.abs(estimates.center[:, 0]) * np.sqrt(estimates.wsum)
    faint: BoolArray = (estimates.norm[:, 0] <= LIMITS.rank * reach).T
    return np.asarray(faint | np.array(flat, dtype=np.bool_).reshape(faint.shape))


def _units(
    norm: FloatArray,
    root_w: FloatArray,
    center: FloatArray,
    constant: BoolArray,
    ridge: FloatArray,
    standardize: bool,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Lengths of the columns with the penalty's rows, and roots of the penalty in these: (k, g) each.

    The slope of a constant is 0 whatever its penalty, which is then 1, unless the intercept is held:
    its penalty comes last.
    """
    penalty = np.sqrt(ridge)[:, None] * (norm / root_w if standardize else np.ones(norm.shape))
    unit = np.hypot(norm, penalty)
    any_will_do = np.where(center == 0, 1.0, np.abs(center) * root_w)  # a slope of 0 has no size
    unit = np.where(constant, any_will_do, unit)
    known = np.where(constant, unit, penalty) / unit
    return unit, known, np.where(center == 0, known, penalty / unit)


def describe(estimates: Estimates, design: Design, origin: FloatArray | None) -> None:
    """Put into estimates what their penalty makes of errors, correlations and pivots.

    Of the inverse of X'WX + diag(ridge), so that `condition_number` and `digits` are those of the
    rows with the penalty's.
    """
    first, gone = design.first, design.gone
    k, g = gone.shape
    inner = inverse(design.slopes) / design.length[:, None]
    E = np.zeros((k + first, k + first, g))  # E E' is the inverse
    E[first:, first:] = inner
    if first:
        center = estimates.center[:, 0].T if origin is None else (estimates.center[:, 0] + origin[:, :k]).T
        E[0, 0] = 1 / np.sqrt(estimates.wsum[:, 0])
        E[0, 1:] = -added(np.where(gone, 0.0, center)[:, None] * inner, 0)
    sizes = np.abs(E).max(axis=1, initial=0.0)
    E /= sizes[:, None]
    lengths = np.sqrt(added(E * E, 1))
    E /= lengths[:, None]
    i, j = pairs(k + first)
    lost = np.pad(gone, ((first, 0), (0, 0)))
    estimates.root[:, 0] = np.where(lost, np.nan, sizes * lengths).T
    estimates.corr[:, 0] = np.where(lost[i] | lost[j], np.nan, added(E[i] * E[j], 1)).T
    i, j = pairs(k)
    ratio = estimates.norm[:, 0].T / design.length
    estimates.xcorr[:, 0] *= (ratio[i] * ratio[j]).T
    estimates.norm[:, 0] = np.where(gone, estimates.norm[:, 0].T, design.length).T
    diagonal = np.arange(k)
    pivots = np.where(gone, 1.0, design.slopes[diagonal, diagonal] ** 4)  # the digits that float64 loses
    estimates.pivot[:, 0] = pivots.min(axis=0, initial=1.0)
    estimates.rank[:, 0] = first + k - gone.sum(axis=0)
