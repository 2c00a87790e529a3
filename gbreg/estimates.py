# SPDX-License-Identifier: MIT
"""What a backend found of each group, as arrays; dimensions are named as in `gbreg.problem`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbreg.problem import BoolArray, FloatArray, IntArray, Problem, Status


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What a backend returns. NaN where there is no number; the status says why.

    Targets with the same missing rows share one factorisation, a *pattern*:
    arrays with an ``m`` axis hold one entry per pattern, ``pattern[j]`` is the
    one of target j, and a single `Problem` always has ``m == 1``.

    Quantities are kept as roots (norms, root variances), which stay in the range of
    float64 when the data do.
    """

    # per target
    # Where predictors are dropped, `params` are of the others alone, and NaN for them; those that the data do
    # not determine have no `root`.
    params: FloatArray  # (g, t, p), intercept first
    level: FloatArray  # (g, t), fitted value at `place` as rounded; about the weighted mean of the target
    resid_norm: FloatArray  # (g, t), sqrt(sum w r^2)
    target_norm: FloatArray  # (g, t), sqrt(sum w (y - mean)^2), about 0 without intercept
    mad: FloatArray  # (g, t), median(|r - median(r)|); NaN if not asked for
    status: NDArray[np.uint8]  # (g, t), Status
    flags: NDArray[np.uint8]  # (g, t), Flag
    # per pattern
    nobs: IntArray  # (g, m)
    rank: IntArray  # (g, m), number of independent columns, intercept included; 0 if not fitted
    wsum: FloatArray  # (g, m), sum of weights
    log_wsum: FloatArray  # (g, m), sum of log(weights)
    root: FloatArray  # (g, m, p), sqrt(diag((X'WX)^-1)); NaN where not estimable
    corr: FloatArray  # (g, m, p(p-1)/2), correlations of coefficients: (1,0), (2,0), (2,1), ...
    center: FloatArray  # (g, m, k), weighted means of the stored predictors (0 without intercept)
    norm: FloatArray  # (g, m, k), sqrt(sum w (x - center)^2); NaN if out of range
    xcorr: FloatArray  # (g, m, k(k-1)/2), x_i'Wx_j / (norm_i norm_j), same order as corr
    pivot: FloatArray  # (g, m), smallest relative pivot of the independent predictors (1 if k == 0)
    dropped: BoolArray  # (g, m, k), predictor is a combination of the earlier ones
    pattern: IntArray  # (t,)
    # per target; (g, t, 0) unless asked for
    sandwich: FloatArray  # (g, t, p p), factor of the robust covariance as `gbreg.sandwich` gives it
    limit: FloatArray  # (g, t, 1), of sqrt(w) |r|, beyond which rows were set aside; inf for none
    spread: FloatArray  # (g, t, 2), of another loss than squares: scale, and what errors are multiples of
    freedom: FloatArray  # (g, t, 1), degrees of freedom of the coefficients, where these are not `rank`
    middle: FloatArray  # (g, t, k), where the level is, if not at `center`, which one row may move far off

    @classmethod
    def empty(cls, g: int, k: int, t: int, intercept: bool) -> Estimates:
        """Room for one problem: NaN everywhere, status ``no_data``."""
        p = k + intercept

        def nan(*shape: int) -> FloatArray:
            return np.full((g, *shape), np.nan)

        return cls(
            params=nan(t, p),
            level=nan(t),
            resid_norm=nan(t),
            target_norm=nan(t),
            mad=nan(t),
            status=np.full((g, t), Status.NO_DATA, dtype=np.uint8),
            flags=np.zeros((g, t), dtype=np.uint8),
            nobs=np.zeros((g, 1), dtype=np.int64),
            rank=np.zeros((g, 1), dtype=np.int64),
            wsum=nan(1),
            log_wsum=nan(1),
            root=nan(1, p),
            corr=nan(1, p * (p - 1) // 2),
            center=nan(1, k),
            norm=nan(1, k),
            xcorr=nan(1, k * (k - 1) // 2),
            pivot=nan(1),
            dropped=np.zeros((g, 1, k), dtype=np.bool_),
            pattern=np.zeros(t, dtype=np.int64),
            **unasked(g, t),
        )

    def place(self, q: int) -> FloatArray:
        """(g, k) predictors at which the `level` of target q is its fitted value."""
        return self.middle[:, q] if self.middle.shape[2] else self.center[:, self.pattern[q]]

    @property
    def known_params(self) -> FloatArray:
        """(g, t, p) those of `params` that the data determine, NaN for the others."""
        if not self.dropped.any():
            return self.params
        unknown = np.isnan(self.root) & self.dropped.any(axis=2, keepdims=True)
        return np.where(unknown[:, self.pattern], np.nan, self.params)

    def view(self, g0: int, g1: int) -> Estimates:
        """What belongs to groups g0:g1, without a copy."""
        return Estimates(**{name: values[g0:g1] for name, values in self.arrays()}, pattern=self.pattern)

    def of_groups(self, groups: IntArray) -> Estimates:
        """Copies of what belongs to some groups."""
        return Estimates(**{name: values[groups] for name, values in self.arrays()}, pattern=self.pattern)

    def of_target(self, q: int) -> Estimates:
        """Copies of what belongs to target q of a problem."""
        arrays = {name: values[:, [q]] if name in PER_TARGET else values for name, values in self.arrays()}
        return Estimates(**arrays, pattern=np.zeros(1, dtype=np.int64)).copied()

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Names and values of what has one entry per group: all but the pattern."""
        return ((name, getattr(self, name)) for name in ARRAYS)

    def copied(self, *names: str) -> Estimates:
        """With copies of these arrays, which may be written to; of all if none is named."""
        every = [field.name for field in fields(self)]
        return replace(self, **{name: getattr(self, name).copy() for name in names or every})

    def blank(self, which: Any) -> None:
        """Leave no numbers of the fit to these groups and targets (an index of both), in place."""
        for name in (*_FITTED, "freedom"):
            getattr(self, name)[which] = np.nan

    def put_groups(self, groups: IntArray | BoolArray, part: Estimates) -> None:
        """Estimates of some groups in the place of those they had; the arrays have to be writable."""
        for name, values in part.arrays():
            getattr(self, name)[groups] = values

    def settled(self, drop: bool) -> BoolArray:
        """(g, t) whether residuals have a scale; with ``drop`` also where predictors were left out."""
        fine: BoolArray = self.status == Status.OK
        if drop:
            fine |= self.status == Status.RANK_DEFICIENT
        return fine

    @classmethod
    def stack_groups(cls, parts: Sequence[Estimates]) -> Estimates:
        """Consecutive group ranges of one problem, put back together."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
        return cls(**arrays, pattern=parts[0].pattern)

    @classmethod
    def join_targets(cls, parts: Sequence[Estimates], targets: Sequence[Sequence[int]]) -> Estimates:
        """Problems that share their groups; part i holds targets ``targets[i]`` of the call."""
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(np.concatenate([np.asarray(ts, dtype=np.int64) for ts in targets]))
        pattern = np.repeat(np.arange(len(parts)), [len(ts) for ts in targets])[order]
        arrays = {}
        for name in ARRAYS:
            joined = np.concatenate([getattr(part, name) for part in parts], axis=1)
            arrays[name] = joined[:, order] if name in PER_TARGET else joined
        return cls(**arrays, pattern=pattern)


def unasked(g: int, t: int) -> dict[str, FloatArray]:
    """(g, t, 0) what there is only if it is asked for."""
    return {name: np.empty((g, t, 0)) for name in UNASKED}


_FITTED = ("params", "level", "resid_norm", "mad", "spread")
DECIDED = (*_FITTED, "status", "flags")  # by the minimum of a loss; the rest is of the data
UNASKED = ("sandwich", "limit", "spread", "freedom", "middle")
PER_TARGET = tuple(dict.fromkeys((*DECIDED, "target_norm", *UNASKED)))
ARRAYS = tuple(field.name for field in fields(Estimates) if field.name != "pattern")
PER_PATTERN = tuple(name for name in ARRAYS if name not in PER_TARGET)


@lru_cache(maxsize=64)
def pairs(p: int) -> tuple[IntArray, IntArray]:
    """Return the indices of (1,0), (2,0), (2,1), ...: the order of `Estimates.corr`."""
    i, j = np.tril_indices(p, -1)
    return i.astype(np.int64), j.astype(np.int64)


def residuals(
    problem: Problem, estimates: Estimates, q: int, rows: Any, groups: Any, own: IntArray
) -> FloatArray:
    """Of target q at these rows of these groups, which are indices; ``own`` (n,) are places in ``groups``.

    Deviations from the place of the level lose no digits. A dropped predictor counts as 0.
    """
    Z = problem.Z[rows]
    resid: FloatArray = Z[:, problem.n_predictors + q] - estimates.level[groups, q].take(own)
    for term in _slope_terms(Z, estimates, q, groups, own):
        resid -= term
    return resid


def _slope_terms(
    Z: FloatArray, estimates: Estimates, q: int, groups: Any, own: IntArray
) -> Iterator[FloatArray]:
    """(n,) what each predictor adds to the level of target q in rows of a problem."""
    k = estimates.center.shape[2]
    slopes = estimates.params[groups, q, estimates.params.shape[2] - k :]
    slopes = np.where(estimates.dropped[groups, 0], 0.0, slopes).T.copy()
    places = estimates.place(q)[groups].T.copy()
    for j in range(k):
        yield slopes[j].take(own) * (Z[:, j] - places[j].take(own))


def term_sizes(
    problem: Problem, estimates: Estimates, q: int, rows: Any, groups: IntArray, own: IntArray
) -> FloatArray:
    """(n,) sizes of the terms whose sum the fitted value of target q is; rounding is a part of these."""
    level: FloatArray = np.abs(estimates.level[groups, q]).take(own)
    return level + slope_sizes(problem, estimates, q, rows, groups, own)


def slope_sizes(
    problem: Problem, estimates: Estimates, q: int, rows: Any, groups: Any, own: IntArray
) -> FloatArray:
    """(n,) `term_sizes` without that of the level."""
    total = np.zeros(len(own))
    for term in _slope_terms(problem.Z[rows], estimates, q, groups, own):
        total += np.abs(term)
    return total


def mean_term_sizes(
    problem: Problem,
    estimates: Estimates,
    q: int,
    rows: Any,
    groups: IntArray,
    own: IntArray,
    side: FloatArray,
) -> FloatArray:
    """(g,) means of `term_sizes` times ``side`` (n,), 0 where that is 0."""
    terms = np.where(side > 0, side * term_sizes(problem, estimates, q, rows, groups, own), 0.0)
    return np.asarray(np.bincount(own, terms, len(groups)) / np.bincount(own, minlength=len(groups)))
