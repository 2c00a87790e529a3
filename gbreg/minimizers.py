# SPDX-License-Identifier: MIT
"""Minima of losses for all groups at once, by numpy; `gbreg.loss_kernels` begins the same in loops.

Problems are as `gbreg.losses` makes them: p predictors that are orthonormal in each group, targets of
length 1 or less, no weights. Groups that have settled leave, so late iterations are cheap. Sums over
the rows of a group are in their order, whichever groups stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gbreg.backends import Progress
from gbreg.minimum import (
    CONCENTRATED,
    DEPENDENT,
    FAINT,
    FLOOR,
    FREE,
    GAP,
    KEPT_STARTS,
    NORMAL,
    ROUNDING,
    SAMPLED,
    SETTLED,
    START,
    START_ROWS,
    STEP,
    TIE,
    Minimum,
    draws,
)
from gbreg.problem import BoolArray, FloatArray, IntArray, Loss, Problem, Status
from gbreg.quadratic import cholesky
from gbreg.ragged import buckets, padded_rows

CELLS = 1 << 20  # padded rows sorted at once


@dataclass(slots=True, eq=False)
class Rows:
    """Rows of some groups, of one target."""

    Q: FloatArray  # (p, n)
    b: FloatArray  # (n,)
    counts: IntArray  # (g,)
    own: IntArray  # (n,)

    @classmethod
    def of(cls, Q: FloatArray, b: FloatArray, counts: IntArray) -> Rows:
        return cls(Q, b, counts, np.repeat(np.arange(len(counts)), counts))

    @property
    def starts(self) -> IntArray:
        """(g,) first row of each group."""
        return np.cumsum(self.counts) - self.counts

    def some(self, groups: BoolArray) -> Rows:
        """Of some of the groups."""
        rows = groups[self.own]
        return Rows.of(self.Q[:, rows], self.b[rows], self.counts[groups])

    def sums(self, values: FloatArray) -> FloatArray:
        sums: FloatArray = np.bincount(self.own, values, len(self.counts)).astype(np.float64, copy=False)
        return sums

    def along(self, theta: FloatArray) -> FloatArray:
        """(n,) Q' theta of (p, g)."""
        total = np.zeros(len(self.own))
        for column, coefficient in zip(self.Q, theta, strict=True):
            total += column * coefficient[self.own]
        return total

    def products(self, values: FloatArray) -> FloatArray:
        """(p, g) sums of q value."""
        return np.array([self.sums(column * values) for column in self.Q])

    def factor(self, weights: FloatArray, *, skip: bool = False) -> FloatArray:
        """(p, p, g) Cholesky factor of sum weight q q'.

        NaN where it is singular, or, with ``skip``, infinite pivots, which make coefficients 0.
        """
        p = len(self.Q)
        A = np.empty((p, p, len(self.counts)))
        for j in range(p):
            scaled = weights * self.Q[j]
            for m in range(j + 1):
                A[j, m] = A[m, j] = self.sums(scaled * self.Q[m])
        size = np.sqrt(A[range(p), range(p)])
        if not skip:
            return cholesky(A / size[:, None] / size, smallest=DEPENDENT) * size[:, None]
        L = cholesky(A / size[:, None] / size, smallest=FAINT, otherwise=0.0) * size[:, None]
        pivots = L[range(p), range(p)]
        L[range(p), range(p)] = np.where(pivots > 0, pivots, np.inf)
        return L

    def smallest(self, values: FloatArray, ranks: IntArray) -> FloatArray:
        """(g,) the rank-th smallest, from 0, of values (n,) of each group."""
        starts, out = self.starts, np.empty(len(self.counts))
        for members in buckets(self.counts, CELLS):
            counts = self.counts[members]
            padded = values[padded_rows(starts[members], counts)]
            padded[np.arange(padded.shape[1]) >= counts[:, None]] = np.inf
            padded.sort(axis=1)
            out[members] = padded[np.arange(len(members)), ranks[members]]
        return out

    def scale(self, r: FloatArray) -> FloatArray:
        """(g,) 1.4826 median(|r|), not below what rounding leaves."""
        sizes, half = np.abs(r), self.counts // 2
        upper = self.smallest(sizes, half)
        lower = self.smallest(sizes, np.maximum(half - 1 + self.counts % 2, 0))
        return np.maximum(NORMAL * (0.5 * lower + 0.5 * upper), FLOOR)


def solve(L: FloatArray, v: FloatArray) -> FloatArray:
    """(L L')^-1 v of (p, p, g) and (p, g)."""
    out = v.copy()
    for j in range(len(v)):
        for m in range(j):
            out[j] -= L[j, m] * out[m]
        out[j] /= L[j, j]
    for j in reversed(range(len(v))):
        for m in range(j + 1, len(v)):
            out[j] -= L[m, j] * out[m]
        out[j] /= L[j, j]
    return out


def minimize(problem: Problem, loss: Loss, progress: Progress, near: bool) -> Minimum:
    """See `gbreg.minimum.Minimize`."""
    found, counts = Minimum.empty(problem), np.diff(problem.offsets)
    Q = np.ascontiguousarray(problem.X)
    with np.errstate(all="ignore"):
        for q, b in enumerate(problem.Y):
            rows = Rows.of(Q, np.ascontiguousarray(b), counts)
            if loss.name == "absolute":
                theta, done = find_quantile(rows, loss, progress)
                scale = rows.scale(rows.b - rows.along(theta))
            else:
                theta, scale, done = reweight(rows, loss, progress, near)
            found.theta[:, q] = theta.T
            found.scale[:, q] = scale
            found.status[done, q] = Status.OK
    return found


def reweight(
    rows: Rows, loss: Loss, progress: Progress, near: bool
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Huber's and Tukey's estimates by iterated weighted least squares: (p, g), scale, whether it ended."""
    theta, inflated = start_robust(rows, draws(loss, len(rows.Q), near), progress)
    scale = inflated * rows.scale(rows.b - rows.along(theta))
    done = np.zeros(len(scale), dtype=np.bool_)
    active, part, last = np.arange(len(scale)), rows, np.zeros(len(scale))
    for iteration in range(1, loss.maxiter + 1):
        progress(0)
        r = part.b - part.along(theta[:, active])
        change = solve_weighted(part, weights_of(loss, r, scale[active][part.own]), r)
        singular = np.isnan(change).any(axis=0)
        theta[:, active] += np.where(singular, 0.0, change)
        wider = part.scale(part.b - part.along(theta[:, active])) - scale[active]
        little = np.maximum(SETTLED * (scale[active] + wider), ROUNDING)
        ended = (np.abs(change).max(axis=0) <= little) & (np.abs(wider) <= little)
        turned = (wider * last[active] < 0) & ~ended & (iteration > FREE)
        scale[active] += np.where(singular, 0.0, np.where(turned, 0.5, 1.0) * wider)
        last[active] = wider
        done[active] = ended
        go_on = ~ended & ~singular
        if not go_on.any():
            break
        if not go_on.all():
            active, part = active[go_on], part.some(go_on)
    return theta, scale, done


def solve_weighted(rows: Rows, weights: FloatArray, r: FloatArray) -> FloatArray:
    """(p, g) weighted least squares of r; NaN where it is singular."""
    return solve(rows.factor(weights), rows.products(weights * r))


def weights_of(loss: Loss, r: FloatArray, scale: FloatArray) -> FloatArray:
    """psi(u) / u of u = r / scale."""
    limit, size = loss.tuning * scale, np.abs(r)
    if loss.name == "huber":
        return np.where(size <= limit, 1.0, limit / np.where(size > 0, size, 1.0))
    return np.asarray(np.square(np.maximum(1 - np.square(size / limit), 0.0)))


def start_robust(rows: Rows, trials: FloatArray, progress: Progress) -> tuple[FloatArray, FloatArray]:
    """Where to start from (p, g), and by what the scale there is inflated (g,).

    Without trials 0; else, in groups of enough rows, least trimmed squares, near enough:
    fits through rows drawn at random, the best of them concentrated on the rows nearest to them
    (Rousseeuw and Van Driessen 2006).
    """
    p, g = len(rows.Q), len(rows.counts)
    theta, inflated = np.zeros((p, g)), np.ones(g)
    able = rows.counts >= START_ROWS * p if len(trials) else np.zeros(g, dtype=np.bool_)
    if able.any():
        part = rows.some(able)
        theta[:, able] = least_trimmed(sampled(part), trials, progress)
        inflated[able] += 5 / (part.counts - p)
    return theta, inflated


def sampled(rows: Rows) -> Rows:
    """At most `SAMPLED` rows of each group, evenly spread."""
    steps = -(-rows.counts // SAMPLED)
    place = np.arange(len(rows.own)) - rows.starts[rows.own]
    keep = place % steps[rows.own] == 0
    return Rows.of(rows.Q[:, keep], rows.b[keep], -(-rows.counts // steps))


def least_trimmed(rows: Rows, trials: FloatArray, progress: Progress) -> FloatArray:
    """(p, g) of the least sum of 70 % of the squares that is found.

    Where fewer than `KEPT_STARTS` draws have a fit, least squares is one more start.
    """
    p, g = len(rows.Q), len(rows.counts)
    starts, groups = rows.starts, np.arange(g)
    best, totals = np.zeros((KEPT_STARTS, p, g)), np.full((KEPT_STARTS, g), np.inf)
    for draw in trials:
        progress(0)
        weights = np.zeros(len(rows.own))
        picked = np.empty((0, g), dtype=np.int64)
        for j, number in enumerate(draw):
            k = (number * (rows.counts - j)).astype(np.int64)
            for earlier in picked:
                k = k + (k >= earlier)
            picked = np.sort(np.concatenate([picked, k[None]]), axis=0)
            weights[starts + k] = 1.0
        theta = solve_weighted(rows, weights, rows.b)
        total, _ = trimmed(rows, theta)
        place = (~is_less(total, totals)).sum(axis=0)  # better ones keep theirs, NaN is no better than any
        for b in reversed(range(KEPT_STARTS)):
            new, pushed = groups[(place == b) & (total < np.inf)], groups[(place < b) & (total < np.inf)]
            if b:
                best[b][:, pushed], totals[b, pushed] = best[b - 1][:, pushed], totals[b - 1, pushed]
            best[b][:, new], totals[b, new] = theta[:, new], total[new]
    found: FloatArray = best[0].copy()
    least = totals[0].copy()
    for b in range(KEPT_STARTS):
        theta, total = best[b], totals[b]
        for step in range(CONCENTRATED + 1):
            better = is_less(total, least)
            found[:, better], least[better] = theta[:, better], total[better]
            if step < CONCENTRATED:
                _, cut = trimmed(rows, theta)
                kept = np.abs(rows.b - rows.along(theta)) <= ((1 + TIE) * cut + FLOOR)[rows.own]
                theta = solve_weighted(rows, kept.astype(np.float64), rows.b)
                total, _ = trimmed(rows, theta)
    return found


def is_less(total: FloatArray, other: FloatArray) -> BoolArray:
    """Whether by more than rounding: on ties backends would not keep the same, and end in other minima."""
    return np.asarray(total < (1 - TIE) * other - FLOOR * FLOOR)


def trimmed(rows: Rows, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(g,) sum of the smallest 70 % of the squares, and the root of the largest of these."""
    sizes, h = np.abs(rows.b - rows.along(theta)), rows.counts - 3 * rows.counts // 10
    cut = rows.smallest(sizes, h - 1)
    inside = sizes < cut[rows.own]
    within = rows.sums(inside.astype(np.float64))
    total = rows.sums(np.where(inside, sizes * sizes, 0.0)) + (h - within) * cut * cut
    return np.asarray(np.where(np.isnan(theta).any(axis=0), np.inf, total)), cut


def find_quantile(rows: Rows, loss: Loss, progress: Progress) -> tuple[FloatArray, BoolArray]:
    """Minimise sum (quantile - [r < 0]) r: (p, g), and whether the minimum was reached.

    The Frisch-Newton interior point method with Mehrotra's predictor and corrector, on the dual:
    Portnoy and Koenker 1997. x and s = 1 - x are the multipliers of rows, z - w = -r.
    """
    p, g = len(rows.Q), len(rows.counts)
    theta, done = np.zeros((p, g)), np.zeros(g, dtype=np.bool_)
    active, part = np.arange(g), rows
    enough = np.maximum(GAP, ROUNDING * rows.counts)
    x, s = np.full(len(rows.b), 1 - loss.quantile), np.full(len(rows.b), loss.quantile)
    z, w = np.maximum(-rows.b, 0) + START, np.maximum(rows.b, 0) + START
    for _ in range(loss.maxiter):
        progress(0)
        weight = 1 / (z / x + w / s)
        L = part.factor(weight, skip=True)  # flat directions stay as they are
        right = part.products(weight * (z - w))
        v = solve(L, right)
        dx = weight * (part.along(v) - (z - w))
        dz, dw = -z * (1 + dx / x), -w * (1 - dx / s)
        primal, dual = find_steps(part, x, s, z, w, dx, dz, dw)
        own = part.own
        now = part.sums(z * x + w * s)
        then = part.sums(
            (z + dual[own] * dz) * (x + primal[own] * dx) + (w + dual[own] * dw) * (s - primal[own] * dx)
        )
        mu = (now * (then / now) ** 3 / (2 * part.counts))[own]
        xz, sw = dx * dz, -dx * dw
        change = mu * (1 / x - 1 / s) - xz / x + sw / s
        better = solve(L, right - part.products(weight * change))
        ex = weight * (part.along(better) - (z - w) + change)
        ez, ew = mu / x - z - z * ex / x - xz / x, mu / s - w + w * ex / s - sw / s
        short = np.minimum(primal, dual) < 1
        v = np.where(short, better, v)
        dx, dz, dw = (np.where(short[own], *pair) for pair in ((ex, dx), (ez, dz), (ew, dw)))
        primal, dual = find_steps(part, x, s, z, w, dx, dz, dw)
        theta[:, active] -= np.where(np.isnan(v).any(axis=0), 0.0, dual * v)
        x, s = x + primal[own] * dx, s - primal[own] * dx
        z, w = z + dual[own] * dz, w + dual[own] * dw
        gap = part.sums(z * x + w * s)
        done[active] = gap <= enough[active]
        go_on = gap > enough[active]  # not where it is NaN
        if not go_on.any():
            break
        if not go_on.all():
            rest = go_on[own]
            active, part = active[go_on], part.some(go_on)
            x, s, z, w = x[rest], s[rest], z[rest], w[rest]
    return theta, done


def find_steps(
    rows: Rows,
    x: FloatArray,
    s: FloatArray,
    z: FloatArray,
    w: FloatArray,
    dx: FloatArray,
    dz: FloatArray,
    dw: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """(g,) how far multipliers, and their slacks, can go and stay positive; at most 1."""
    starts = rows.starts
    primal = np.where(dx < 0, -x / dx, np.where(dx > 0, s / dx, np.inf))
    dual = np.minimum(np.where(dz < 0, -z / dz, np.inf), np.where(dw < 0, -w / dw, np.inf))
    made = [np.minimum(STEP * np.minimum.reduceat(steps, starts), 1.0) for steps in (primal, dual)]
    return made[0], made[1]
