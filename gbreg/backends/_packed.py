# SPDX-License-Identifier: MIT
"""The arrays that kernels read, write and scribble on, made from a `Problem`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from gbreg import extended_kernels, kernels, loss_kernels, quantile_kernels, reweight_kernels
from gbreg._lanes import LANES
from gbreg.backends import Progress
from gbreg.estimates import Estimates, unasked
from gbreg.kernels import SHORT
from gbreg.problem import LIMITS, FitOptions, FloatArray, IntArray, Problem

LONG_ROWS = 1 << 18  # longer groups are summed in blocks, which several threads share
LONG_EXTENDED_ROWS = 1 << 16  # the same on the extended path, which is slower
UNROLLED = 8  # predictor counts that get a kernel of their own


@dataclass(frozen=True, slots=True)
class Run:
    """One problem on its way through the kernels; what the arrays hold is told in `gbreg.kernels`."""

    Z: FloatArray
    n_predictors: int
    offsets: IntArray
    origin: FloatArray
    settings: kernels.Settings
    P: FloatArray
    T: FloatArray
    status: Any
    flags: Any
    rank: IntArray
    dropped: Any
    todo: Any
    threads: int
    progress: Progress

    @classmethod
    def start(cls, problem: Problem, options: FitOptions, threads: int, progress: Progress) -> Run:
        g, k, t = problem.n_groups, problem.n_predictors, problem.n_targets
        p = k + options.intercept
        origin = problem.origin
        if origin is None:
            origin = np.zeros((1, k + t))
            origin.flags.writeable = False  # the type the kernels are compiled for
        settings = kernels.Settings(
            intercept=options.intercept,
            min_nobs=options.min_nobs,
            force_extended=options.precision == "extended",
            drop=options.on_collinear == "drop",
            mad=options.mad,
            long_rows=LONG_ROWS,
            **LIMITS._asdict(),
        )
        width = pattern_width(k, p)
        return cls(
            Z=problem.Z,
            n_predictors=k,
            offsets=problem.offsets,
            origin=origin,
            settings=settings,
            P=columns(width, g),
            T=columns(t * (kernels.PARAMS + p), g),
            status=np.zeros((g, t), dtype=np.uint8),
            flags=np.zeros((g, t), dtype=np.uint8),
            rank=np.zeros((g, 1), dtype=np.int64),
            dropped=np.zeros((g, 1, k), dtype=np.bool_),
            todo=np.zeros((g, 1 + t), dtype=np.uint8),
            threads=threads,
            progress=progress,
        )

    @property
    def n_targets(self) -> int:
        return int(self.status.shape[1])

    @property
    def data(self) -> tuple[FloatArray, IntArray, FloatArray]:
        return self.Z, self.offsets, self.origin

    @property
    def sizes(self) -> IntArray:
        return self.offsets[1:] - self.offsets[:-1]

    def estimates(self) -> Estimates:
        """Views of the columns under their names."""
        k, t, g = self.n_predictors, self.n_targets, len(self.status)
        p = k + self.settings.intercept
        shared = self.P[:, :g].T[:, None, :]
        own = self.T[:, :g].reshape(t, kernels.PARAMS + p, g).transpose(2, 0, 1)
        ends = accumulate([kernels.CENTER, k, k, k * (k - 1) // 2, p, p * (p - 1) // 2])
        center, norm, xcorr, root, corr = (shared[:, :, a:b] for a, b in pairwise(ends))
        return Estimates(
            params=own[:, :, kernels.PARAMS :],
            level=own[:, :, kernels.LEVEL],
            resid_norm=own[:, :, kernels.RESID_NORM],
            target_norm=own[:, :, kernels.TARGET_NORM],
            mad=own[:, :, kernels.MAD],
            status=self.status,
            flags=self.flags,
            nobs=self.sizes[:, None],
            rank=self.rank,
            wsum=shared[:, :, kernels.WSUM],
            log_wsum=shared[:, :, kernels.LOG_WSUM],
            root=root,
            corr=corr,
            center=center,
            norm=norm,
            xcorr=xcorr,
            pivot=shared[:, :, kernels.PIVOT],
            dropped=self.dropped,
            pattern=np.zeros(t, dtype=np.int64),
            **unasked(g, t),
        )


def pattern_width(k: int, p: int) -> int:
    """Columns of P."""
    return kernels.CENTER + 2 * k + k * (k - 1) // 2 + p + p * (p - 1) // 2


def columns(c: int, g: int) -> FloatArray:
    """(c, at least g) memory for columns of g groups that do not all compete for the same places in cache."""
    line = 8  # floats
    return np.empty((c, line * (g // line + 1 | 1)))


def quiet() -> Any:
    """No floating-point warnings of numpy: kernels that are not compiled would give them."""
    return np.errstate(all="ignore")


def as_token(k: int) -> Any:
    """See `gbreg.kernels`: a tuple for the unrolled counts, an array for the others."""
    return (0,) * k if k <= UNROLLED else np.zeros(k, dtype=np.int8)


def lanes(rows: int) -> FloatArray:
    """(rows, LANES), no row of which straddles two cache lines: those are slower to load and store."""
    size, line = rows * LANES, 64
    memory = np.empty(size + line // 8)
    start = -memory.ctypes.data % line // 8
    return memory[start : start + size].reshape(rows, LANES)


def carved(heights: dict[str, int]) -> dict[str, Any]:
    """Arrays (height, LANES) by name, of one piece of memory."""
    memory, made = lanes(sum(heights.values())), {}
    for (name, height), end in zip(heights.items(), accumulate(heights.values()), strict=True):
        made[name] = memory[end - height : end]
    return made


def integers(*names: str) -> dict[str, Any]:
    """Integers (LANES,) by name."""
    return dict(zip(names, np.zeros((len(names), LANES), dtype=np.int64), strict=True))


class FastScratch(NamedTuple):
    """Scratch of the fast path, in the order `fast_kernels.fit_groups` takes it."""

    lo: IntArray
    n: IntArray
    start: IntArray
    size: IntArray
    rows: FloatArray
    near: FloatArray
    smallest: FloatArray
    logs: FloatArray
    good: FloatArray
    noise: FloatArray
    ref: FloatArray
    mean: FloatArray
    first: FloatArray
    before: FloatArray
    away: FloatArray
    base: FloatArray
    D: FloatArray
    row: FloatArray
    S: FloatArray
    own: FloatArray
    own_coef: FloatArray
    own_there: FloatArray
    moments: FloatArray
    factor: FloatArray
    diag: FloatArray
    inverse: FloatArray
    step: FloatArray
    typical: FloatArray
    coef: FloatArray
    low: FloatArray
    there: FloatArray
    shift: FloatArray
    grad: FloatArray
    rss: FloatArray
    R: FloatArray
    deviation: FloatArray
    Pg: FloatArray
    Tg: FloatArray
    resid: FloatArray

    @classmethod
    def make(cls, k: int, p: int, t: int, rows: int) -> FastScratch:
        c = k + t
        width = k * (k + 1) // 2 + t * (k + 1) + c + 1
        gradients = t * (k + 2)
        heights = {
            "D": SHORT * (c + 1),
            "row": c + 1,
            "S": max(width, gradients),
            "moments": width,
            "grad": gradients,
        }
        heights |= dict.fromkeys(("rows", "near", "smallest", "logs"), 1)
        heights |= dict.fromkeys(("ref", "mean", "first", "before", "away", "base", "own"), c)
        heights |= dict.fromkeys(("good", "noise", "there", "own_there", "shift", "rss", "deviation"), t)
        heights |= dict.fromkeys(("coef", "low", "own_coef"), t * k)
        heights |= {"R": t * SHORT, "factor": k * k, "inverse": k * k, "diag": k, "step": k, "typical": k}
        heights |= {"Pg": pattern_width(k, p), "Tg": t * (kernels.PARAMS + p)}
        start = np.zeros(LANES + 1, dtype=np.int64)  # the last: rows to the next one
        return cls(**carved(heights), **integers("lo", "n", "size"), start=start, resid=np.empty(rows))


class ExtendedScratch(NamedTuple):
    """Scratch of the extended path, in the order `extended_kernels.extend_groups` takes it."""

    low: FloatArray
    high: FloatArray
    S: FloatArray
    at: extended_kernels.At
    row: FloatArray
    exponent: IntArray
    kept: Any
    known: Any
    resid: FloatArray

    @classmethod
    def make(cls, k: int, t: int, rows: int) -> ExtendedScratch:
        c = k + t
        widths = {
            "low": c + 1,
            "high": c + 1,
            "scale": c + 1,
            "largest": c,
            "ref": c,
            "sums": c + 2,
            "reach": k,
            "gain": k,
            "wsum": 1,
            "mean": c,
            "cross": k * (k + 1) // 2 + t * (k + 1),
            "factor": k * k,
            "diag": k,
            "inverse": k * k,
            "coef": t * k,
            "shift": t,
            "grad": t * (k + 1),
            "step": k,
            "spot": k,
            "rss": t,
        }
        starts = [0, *accumulate(widths.values())]
        return cls(
            low=np.empty(c + 1),
            high=np.empty(c + 1),
            S=np.zeros((starts[-1], 2)),
            at=extended_kernels.At(**dict(zip(widths, starts[:-1], strict=True)), size=starts[-1]),
            row=np.empty((c, 2)),
            exponent=np.empty(c + 1, dtype=np.int64),
            kept=np.empty(k, dtype=np.uint8),
            known=np.empty(k + 1, dtype=np.uint8),
            resid=np.empty(rows),
        )


class ReweightScratch(NamedTuple):
    """Scratch of `reweight_kernels.reweight_groups`, in the order it takes it."""

    room: int
    group: IntArray
    lo: IntArray
    n: IntArray
    few: IntArray
    size: IntArray
    h: IntArray
    row: IntArray
    picked: IntArray
    C: FloatArray
    sizes: FloatArray
    A: FloatArray
    v: FloatArray
    own: FloatArray
    end: FloatArray
    best: FloatArray

    @classmethod
    def make(cls, p: int, rows: int) -> ReweightScratch:
        room = lane_rows(rows)
        heights = {"C": (p + loss_kernels.SECTIONS) * room, "A": p * p, "v": p, "own": p, "end": 2}
        heights["best"] = reweight_kernels.KEPT_STARTS * (p + 1)
        made = carved(heights) | integers("group", "lo", "n", "few", "size", "h", "row")
        return cls(room=room, picked=np.zeros((LANES, p), dtype=np.int64), sizes=np.empty(rows), **made)


class QuantileScratch(NamedTuple):
    """Scratch of `quantile_kernels.quantile_groups`, in the order it takes it."""

    room: int
    group: IntArray
    lo: IntArray
    n: IntArray
    size: IntArray
    C: FloatArray
    sizes: FloatArray
    A: FloatArray
    v: FloatArray
    own: FloatArray
    right: FloatArray
    corrected: FloatArray
    steps: FloatArray
    end: FloatArray

    @classmethod
    def make(cls, p: int, rows: int) -> QuantileScratch:
        room = lane_rows(rows)
        heights = {"C": (p + quantile_kernels.ALL_SECTIONS) * room, "A": p * p, "steps": 2, "end": 2}
        made = carved(heights | dict.fromkeys(("v", "own", "right", "corrected"), p))
        return cls(room=room, sizes=np.empty(rows), **made, **integers("group", "lo", "n", "size"))


def lane_rows(rows: int) -> int:
    """Rows of lanes that groups of at most so many rows need."""
    return max(min(rows, SHORT), -(-rows // LANES))
