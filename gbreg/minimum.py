# SPDX-License-Identifier: MIT
"""What backends agree on that find the minimum of a loss: the contract, the limits, the random draws."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gbreg.backends import Progress
from gbreg.problem import FloatArray, Loss, Problem, Status, frozen

NORMAL = 1.482602218505602  # median absolute deviation to standard deviation: 1 / ndtri(3/4)
OUTLIERS = 0.3  # share of the rows that the start of "bisquare" survives
MISSED = 1e-5  # probability that none of its draws is without outliers, if that many are
START_ROWS = 5  # per coefficient, from which on there is such a start: Rousseeuw and Leroy 1987, chapter 5
MOST_TRIALS = 1000
SEED = 20_061_031
FLOOR = 1e-14  # of the scale: what rounding leaves of residuals of a target of size 1
SETTLED = 1e-10  # change of coefficients, in scales, that ends the iteration
ROUNDING = 1e-15
EXACT = 16 * 2.0**-53  # scale that is rounding noise, in sizes of the terms
FREE = 20  # iterations from which on the scale is halfway where it turns back: some groups would cycle
DEPENDENT = 1e-10  # pivots of rows, relative, that are rounding noise
FAINT = 1e-14  # the same where weights differ by many orders of magnitude
GAP = 1e-12  # between the sum of absolute residuals and a bound of the least one
STEP = 0.99995  # share of the way to the boundary: Portnoy and Koenker 1997
START = 1e-3  # how far multipliers start from their bounds
KEPT_STARTS = 3  # fits through drawn rows that are concentrated
CONCENTRATED = 1  # steps; the iteration that follows goes on
TIE = 1e-8  # of a trimmed sum or of a residual: less is no difference, and an earlier draw is kept
SAMPLED = 128  # rows of a group that the start looks at, at most about


def draws(loss: Loss, p: int, near: bool) -> FloatArray:
    """(trials, p) random numbers in [0, 1) that choose the rows a robust start is tried with, or none.

    None also ``near`` the minimum: of targets that are cut at some size another one may be the least.
    """
    if near or loss.name != "bisquare":
        return frozen(np.empty((0, p)))
    trials = int(np.ceil(np.log(MISSED) / np.log1p(-((1 - OUTLIERS) ** p))))
    return frozen(np.random.default_rng(SEED).random((min(trials, MOST_TRIALS), p)))


class Minimum(NamedTuple):
    """Of a problem whose predictors are orthonormal and whose targets are of size one."""

    theta: FloatArray  # (g, t, p)
    scale: FloatArray  # (g, t), 1.4826 median(|r|)
    status: NDArray[np.uint8]  # (g, t), ok or not_converged

    @classmethod
    def empty(cls, problem: Problem) -> Minimum:
        g, t = problem.n_groups, problem.n_targets
        status = np.full((g, t), Status.NOT_CONVERGED, dtype=np.uint8)
        return cls(np.zeros((g, t, problem.n_predictors)), np.full((g, t), np.nan), status)


class Minimize(Protocol):
    """How a backend finds the minimum of a loss for all groups of a problem without weights.

    ``near`` says that 0 is near it, so that it starts there.
    """

    def __call__(self, problem: Problem, loss: Loss, progress: Progress, near: bool) -> Minimum: ...
