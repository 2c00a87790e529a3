# SPDX-License-Identifier: MIT
"""Fits that set outlying rows aside, whichever backend fits the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gbreg.estimates import Estimates, mean_term_sizes, residuals
from gbreg.minimum import EXACT, NORMAL
from gbreg.problem import BoolArray, Flag, FloatArray, IntArray, Problem, Status
from gbreg.rows import Pattern

Fit = Callable[[Problem], Estimates]


def clip_outliers(
    blocks: Sequence[Pattern],
    parts: Sequence[Estimates],
    fit: Fit,
    *,
    clip: float,
    iterations: int,
    drop: bool,
) -> tuple[list[Pattern], list[Estimates]]:
    """Set aside rows far from the fit and fit the others again, until the rows set aside are the same.

    A row is set aside if sqrt(w) |r| > clip x 1.4826 median(sqrt(w) |r|), the median over all rows of
    its group, those set aside included: it may come back. After half of the iterations, and once
    the fit is perfect, the limit stays as it is: from then on each fit lowers
    sum min(w r^2, limit^2), which has to end. Groups that could not be fitted, perfect fits and
    groups whose median is 0, or rounding noise, keep all their rows.

    Parameters
    ----------
    blocks : sequence of Pattern
    parts : sequence of Estimates
        Of the problems of the blocks.
    fit : callable
        The backend.
    clip : float
    drop : bool
        Whether groups with dependent predictors are fitted without these, and so clipped.
    iterations : int
        How often a group is fitted again at most; one that is not stable then has the status
        ``not_converged``, and the numbers of its last fit.

    Returns
    -------
    list of Pattern, list of Estimates
        One per target, with the rows that are left and the limit of sqrt(w) |r|.
    """
    targets = [
        _Target(block, q, own)
        for block, own in zip(blocks, parts, strict=True)
        for q in range(len(block.targets))
    ]
    made = [_clip(target, fit, clip, iterations, drop) for target in targets]
    return [pattern for pattern, _ in made], [own for _, own in made]


@dataclass(frozen=True, slots=True, eq=False)
class _Target:
    """One target of a block: its rows by group."""

    block: Pattern
    q: int
    estimates: Estimates


def _clip(target: _Target, fit: Fit, clip: float, iterations: int, drop: bool) -> tuple[Pattern, Estimates]:
    whole, made = target.block.problem.part(targets=[target.q]), target.estimates.of_target(target.q)
    keep = np.ones(whole.n_rows, dtype=np.bool_)
    limit = np.full(whole.n_groups, np.inf)
    asked = np.flatnonzero(made.settled(drop)[:, 0] & ~_perfect(made))
    for done in range(iterations + 1):
        rows, own = whole.rows_of(asked)
        with np.errstate(all="ignore"):
            side = np.sqrt(whole.w[rows])
            sizes = side * np.abs(residuals(whole, made, 0, rows, asked, own))
        limits = limit[asked]
        if done <= iterations // 2:
            with np.errstate(all="ignore"):
                noise = EXACT * mean_term_sizes(whole, made, 0, rows, asked, own, side)
            limits = np.where(_perfect(made)[asked], limits, _limits(sizes, own, limits, clip, noise))
        beyond = sizes > limits[own]
        moved = np.zeros(len(asked), dtype=np.bool_)
        moved[own[beyond == keep[rows]]] = True  # set aside and kept, or the other way round
        if done == iterations:
            made.status[asked[moved]] = Status.NOT_CONVERGED
            break
        limit[asked] = limits
        keep[rows] = ~beyond
        asked = asked[moved]
        if not len(asked):
            break
        made.put_groups(asked, fit(whole.part(keep, groups=asked)))
        asked = asked[made.settled(drop)[asked, 0]]
    clipped = np.bincount(np.searchsorted(whole.offsets, np.flatnonzero(~keep), side="right") - 1)
    return (
        Pattern(
            problem=whole.part(None if keep.all() else keep),
            targets=[target.block.targets[target.q]],
            missing=target.block.missing,
            infinite=target.block.infinite,
            clipped=np.pad(clipped, (0, whole.n_groups - len(clipped))),
            keep=_nested(target.block.keep, keep),
        ),
        replace(made, limit=limit[:, None, None]),
    )


def _limits(
    sizes: FloatArray, own: IntArray, before: FloatArray, clip: float, noise: FloatArray
) -> FloatArray:
    """(g,) limit of each group; that before where most rows lie on the fit, but for ``noise`` (g,)."""
    medians = pd.Series(sizes).groupby(own).median().reindex(range(len(before))).to_numpy(dtype=np.float64)
    return np.where(medians > noise, clip * NORMAL * medians, before)


def _perfect(estimates: Estimates) -> BoolArray:
    perfect: BoolArray = (estimates.flags[:, 0] & Flag.PERFECT_FIT) > 0
    return perfect


def _nested(outer: BoolArray | None, inner: BoolArray) -> BoolArray | None:
    """Rows kept by both; ``inner`` is of those that ``outer`` keeps."""
    if outer is None:
        return None if inner.all() else inner
    both = outer.copy()
    both[outer] = inner
    return both
