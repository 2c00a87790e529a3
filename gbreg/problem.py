# SPDX-License-Identifier: MIT
"""What crosses the line between frames and backends: plain, frozen arrays.

Dimensions are named the same everywhere: ``n`` rows, ``g`` groups, ``k``
predictors, ``p`` coefficients (``k`` plus the intercept, which comes first),
``t`` targets, ``m`` patterns of missing target values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gbreg.errors import GbregError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SMALLEST_NORMAL = 2.0**-1022  # below, float64 loses digits
EXACT = 2**53  # float64 holds every integer up to here

CovType = Literal["classical", "known", "HC0", "HC1", "HC2", "HC3", "cluster"]
Spent = Callable[[int, int], None]
LossName = Literal["squared", "huber", "bisquare", "absolute"]
ROBUST = ("HC0", "HC1", "HC2", "HC3", "cluster")  # those that need the rows


class Status(IntEnum):
    """Why a group's numbers are there, or are not."""

    OK = 0
    SATURATED = 1  # as many rows as coefficients: coefficients good, errors NaN unless known
    TOO_FEW_ROWS = 2
    NO_DATA = 3
    RANK_DEFICIENT = 4
    NOT_CONVERGED = 5
    OVERFLOW = 6  # a coefficient, an error or a sum they need leaves the range of float64
    FALLBACK = 7  # a parent speaks for the group; no backend says so, and estimates keep the reason

    @property
    def word(self) -> str:
        return self.name.lower()


class Flag(IntFlag):
    """Remarks beside a status; several may hold."""

    ILL_CONDITIONED = 1
    CONSTANT_TARGET = 2  # slopes are 0, R2 is NaN
    PERFECT_FIT = 4  # residuals are rounding noise: errors kept, t and p NaN
    EXTENDED = 8  # double-double arithmetic was used
    ROWS_DROPPED = 16
    ZERO_WEIGHTS = 32
    NO_ROBUST_ERRORS = 64  # errors are NaN: README.md has the reasons

    @property
    def word(self) -> str:
        return str(self.name).lower()


class Limits(NamedTuple):
    """Where the numerics change course; handed to every backend, so they agree."""

    pivot: float = 1e-3  # fast path: smallest relative pivot (1 - R_j^2) it may divide by
    rss: float = 1e-8  # fast path: smallest RSS / TSS it may report; at 1e-10 a digit less was left
    tiny: float = 1e-280  # fast path: range of its cross products
    huge: float = 1e280
    spread: float = 1e-8  # fast path: smallest centred over uncentred (about the first row) sum of squares
    rank: float = 64 * 2.0**-53  # deficient if sqrt(pivot) <= rank * A
    lost: float = 2.0**-49  # or sqrt(pivot) <= lost * size of the terms whose difference it is
    ill: float = 1e-7  # flag ill_conditioned if sqrt(pivot) is below this
    perfect: float = 4 * 2.0**-53  # flag perfect_fit if rms <= perfect * size of the terms
    faint: float = 2.0**-800  # overflow if a sum w (x - center)^2 is below this, max|x| and max w near 1


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What a backend must honour beyond the arrays."""

    intercept: bool = True
    min_nobs: int = 1  # groups with fewer rows are ``too_few_rows``; below p only if penalised later
    precision: Literal["auto", "extended"] = "auto"
    on_collinear: Literal["nan", "drop", "raise"] = "nan"  # a backend treats "raise" as "nan"
    mad: bool = True


class Loss(NamedTuple):
    """What is minimised, of residuals times sqrt(w)."""

    name: LossName = "squared"
    tuning: float = 0.0  # "huber" and "bisquare", in standard deviations
    quantile: float = 0.5  # "absolute"
    maxiter: int = 500  # all but "squared"


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Rows sorted by group, or ``unsorted``; all arrays C-contiguous and read-only.

    Group g is rows ``offsets[g]:offsets[g + 1]``. Every value is finite and every weight
    positive: rows that take no part are not here. A row's numbers lie side by side, so that
    sorting moves a row at once and a group is one stretch of memory.
    """

    Z: FloatArray  # (n, k + t + 1): predictors, targets, weight (1 when unweighted)
    offsets: IntArray  # (g + 1,), offsets[0] == 0, offsets[-1] == n
    n_predictors: int
    # Integer columns beyond 2**53 are stored as differences from a value per
    # group; the stored values plus origin are the data. None: no such column.
    origin: FloatArray | None = None  # (g, k + t)
    # To be told of rows lo:hi that have been read for the last time, each once: they may be zeros from
    # then on. None if anybody else will read them.
    spent: Spent | None = None
    unsorted: Any = None  # `gbreg.rowops.Unsorted`, if rows are in their range of groups only

    @classmethod
    def from_columns(
        cls, X: FloatArray, Y: FloatArray, w: FloatArray, offsets: IntArray, origin: FloatArray | None = None
    ) -> Problem:
        """From predictors (k, n), targets (t, n) and weights (n,), sorted by group."""
        Z = np.concatenate([X, Y, w[None]]).T
        return cls(frozen(Z), frozen(np.asarray(offsets)), len(X), None if origin is None else frozen(origin))

    @property
    def X(self) -> FloatArray:
        """(k, n) view of the predictors."""
        self.check_sorted()
        return self.Z[:, : self.n_predictors].T

    @property
    def Y(self) -> FloatArray:
        """(t, n) view of the targets."""
        self.check_sorted()
        return self.Z[:, self.n_predictors : -1].T

    @property
    def w(self) -> FloatArray:
        """(n,) view of the weights."""
        self.check_sorted()
        return self.Z[:, -1]

    @property
    def n_rows(self) -> int:
        return len(self.Z)

    @property
    def n_groups(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_targets(self) -> int:
        return int(self.Z.shape[1]) - 1 - self.n_predictors

    def slice(self, g0: int, g1: int) -> Problem:
        """Groups g0:g1 as a problem of their own (copies of its rows)."""
        self.check_sorted()
        lo, hi = int(self.offsets[g0]), int(self.offsets[g1])
        origin = None if self.origin is None else frozen(self.origin[g0:g1])
        return Problem(
            frozen(self.Z[lo:hi]), frozen(self.offsets[g0 : g1 + 1] - lo), self.n_predictors, origin
        )

    def check_sorted(self) -> None:
        """Raise `GbregError` if rows are not in their groups yet: an internal error."""
        if self.unsorted is not None:
            raise GbregError("internal error: rows were to be read before they were sorted")

    def part(
        self,
        rows: BoolArray | None = None,
        groups: IntArray | None = None,
        targets: Sequence[int] | None = None,
    ) -> Problem:
        """Those rows (a mask of all) of those groups, with those targets; None for all of them."""
        if targets is not None and list(targets) == list(range(self.n_targets)):
            targets = None
        if rows is None and groups is None and targets is None:
            return self
        self.check_sorted()
        Z, offsets, origin = self.Z, self.offsets, self.origin
        if groups is not None:
            chosen, own = self.rows_of(groups)
            if rows is not None:
                kept = rows[chosen]
                chosen, own = chosen[kept], own[kept]
            Z = Z[chosen]
            offsets = np.concatenate(([0], np.cumsum(np.bincount(own, minlength=len(groups)))))
            origin = None if origin is None else origin[groups]
        elif rows is not None:
            Z, offsets = Z[rows], np.concatenate(([0], np.cumsum(rows)))[offsets]
        if targets is not None:
            columns = [*range(self.n_predictors), *(self.n_predictors + q for q in targets)]
            Z, origin = Z[:, [*columns, -1]], None if origin is None else origin[:, columns]
        return Problem(
            Z=Z if Z is self.Z else frozen(Z),
            offsets=offsets if offsets is self.offsets else frozen(offsets),
            n_predictors=self.n_predictors,
            origin=origin if origin is None or origin is self.origin else frozen(origin),
        )

    def rows_of(self, groups: IntArray) -> tuple[IntArray, IntArray]:
        """Rows of these groups, in order, and the place in ``groups`` of each row's group."""
        starts, sizes = self.offsets[groups], np.diff(self.offsets)[groups]
        own = np.repeat(np.arange(len(groups)), sizes)
        return np.arange(len(own)) + (starts - (np.cumsum(sizes) - sizes))[own], own

    def rows_at(self, groups: IntArray) -> tuple[Any, IntArray]:
        """`rows_of`, as a slice where the groups are neighbours."""
        if groups[-1] - groups[0] < len(groups):
            own = np.repeat(np.arange(len(groups)), np.diff(self.offsets[groups[0] : groups[-1] + 2]))
            return slice(int(self.offsets[groups[0]]), int(self.offsets[groups[-1] + 1])), own
        return self.rows_of(groups)

    def split(self, rows: int) -> Iterator[tuple[int, int]]:
        """Group ranges of about ``rows`` rows each, in order; a group is never cut.

        Groups without rows cost time too, so a range also ends after ``rows`` groups.
        """
        g0, g = 0, self.n_groups
        while g0 < g:
            target = self.offsets[g0] + rows
            g1 = int(self.offsets.searchsorted(target, side="right")) - 1
            g1 = min(max(g1, g0 + 1), g0 + rows, g)
            yield g0, g1
            g0 = g1


def beyond_floats(integers: Any) -> bool:
    """Whether any of an array or index of integers is one that float64 may not hold."""
    return bool(len(integers) and (integers.max() > EXACT or integers.min() < -EXACT))


def exact_parts(integers: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
    """Two floats for each int64 or uint64, whose sum it is: multiples of 2048, and what is left."""
    low = integers & 2047
    return (integers - low).astype(np.float64), low.astype(np.float64)


def frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A read-only C-contiguous array that owns its data (copies if it must)."""
    out = np.ascontiguousarray(values)
    if out is values or out.base is not None:
        out = out.copy()
    out.flags.writeable = False
    return out
