# SPDX-License-Identifier: MIT
"""What a fit could not do, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbreg.errors import CollinearityError
from gbreg.fallback import usable
from gbreg.problem import ROBUST, Flag, Status
from gbreg.result import GroupFit


def _first_keys(fit: GroupFit, groups: NDArray[Any]) -> str:
    shown = ", ".join(repr(key) for key in fit.keys[groups[:3]])
    return f"{shown}, ..." if len(groups) > 3 else shown


def _dropped_names(fit: GroupFit) -> str:
    dropped = np.flatnonzero(fit.estimates.dropped.any(axis=(0, 1)))
    return ", ".join(repr(fit.predictors[j]) for j in dropped)


def raise_if_collinear(fit: GroupFit) -> None:
    groups = np.flatnonzero((fit.estimates.status == Status.RANK_DEFICIENT).any(axis=1))
    if len(groups):
        raise CollinearityError(
            f"predictors {_dropped_names(fit)} are constant or linear combinations of the others in "
            f"{len(groups)} of {fit.n_groups} groups, first {_first_keys(fit, groups)}"
        )


def failures(fit: GroupFit) -> str:
    """Say what was not fitted, counted by reason; groups that were selected away are no failure."""
    status = fit.estimates.status
    if fit.n_rows and not fit.n_groups:
        return "there are no groups: no row of the frame has a key"
    if fit.n_rows and int(fit.counts.not_selected.sum()) == int(fit.counts.rows.sum()):
        return "where= selects no row that has a key"
    if int(status.max(initial=0)) <= Status.SATURATED:
        return _without_errors(fit)
    asked = (fit.counts.rows > fit.counts.not_selected)[:, None]
    reasons = []
    every: set[int] = set()
    for reason in (
        Status.TOO_FEW_ROWS,
        Status.NO_DATA,
        Status.RANK_DEFICIENT,
        Status.NOT_CONVERGED,
        Status.OVERFLOW,
    ):
        groups = np.flatnonzero(((status == reason) & asked).any(axis=1))
        if len(groups):
            every.update(groups.tolist())
            about = ""
            if reason is Status.RANK_DEFICIENT:
                about = f"; predictors {_dropped_names(fit)}"
            elif reason is Status.NOT_CONVERGED and not fit.spec.shrunk:
                option = "maxiter" if fit.spec.robust else "clip_iterations"
                about = f"; they keep the numbers of the last iteration, more {option}= may help"
            reasons.append(f"{len(groups)} {reason.word} ({_first_keys(fit, groups)}{about})")
    told = [_without_errors(fit)]
    if reasons:
        some = f"{len(every)} of {fit.n_groups} groups have no complete fit: {', '.join(reasons)}"
        told = [f"{some}; {_spoken_for(fit)}see .status", *told]
    return "; ".join(filter(None, told))


def _without_errors(fit: GroupFit) -> str:
    """Say so if no group that was fitted has the robust errors that were asked for."""
    e = fit.estimates
    fitted = e.status == Status.OK
    if (
        fit.spec.cov_type not in ROBUST
        or not fitted.any()
        or not (e.flags[fitted] & Flag.NO_ROBUST_ERRORS).all()
    ):
        return ""
    why = ""
    if fit.spec.cov_type == "cluster":
        why = ": a group is one cluster if groups= is what by= is; groups= are clusters within a group"
    return f"no group has errors (flag no_robust_errors{why})"


def _spoken_for(fit: GroupFit) -> str:
    """How many of the groups that failed a parent predicts."""
    if fit.fallback is None:
        return ""
    asked = (fit.counts.rows > fit.counts.not_selected)[:, None]
    failed = ~usable(fit) & asked
    spoken = failed & (fit.fallback.used > 0)
    counts = int(spoken.any(axis=1).sum()), int((failed & ~spoken).any(axis=1).sum())
    return "of these, {} are predicted by a parent and {} by none; ".format(*counts)
