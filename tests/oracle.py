# SPDX-License-Identifier: MIT
"""Weighted least squares in exact rational arithmetic: what every engine is held against.

Floats are taken as the rationals they are. Nothing is shared with the library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np

DIGITS = 60


@dataclass(frozen=True)
class Answer:
    """Exact results of one group; coefficients start with the intercept if there is one."""

    params: list[Fraction]
    cov: list[list[Fraction]]  # (X'WX)^-1
    residuals: list[Fraction]
    rss: Fraction
    tss: Fraction  # about the weighted mean with intercept, about 0 without
    center: list[Fraction]  # weighted means of the predictors; 0 without intercept
    level: Fraction  # weighted mean of y; 0 without intercept
    norms: list[Fraction]  # squares: sum w (x - center)^2
    mad: Fraction

    @property
    def root(self) -> list[mpmath.mpf]:
        return [root(row[i]) for i, row in enumerate(self.cov)]

    def corr(self, i: int, j: int) -> mpmath.mpf:
        return real(self.cov[i][j]) / root(self.cov[i][i] * self.cov[j][j])


def weighted_least_squares(
    X: np.ndarray,
    y: np.ndarray,
    w: np.ndarray | None = None,
    intercept: bool = True,
    origin: Sequence[int] | None = None,
) -> Answer:
    """Fit y (n,) on X (k, n); ``origin`` (k + 1) is added to the columns for the coefficients only."""
    k, n = X.shape
    weights = [Fraction(1)] * n if w is None else [Fraction(float(v)) for v in w]
    shift = [0] * (k + 1) if origin is None else [int(v) for v in origin]
    columns = [[Fraction(float(v)) for v in x] for x in X]
    target = [Fraction(float(v)) for v in y]
    total = sum(weights)

    def mean(values: list[Fraction]) -> Fraction:
        return _dot(weights, values) / total if intercept else Fraction(0)

    design = [[Fraction(1)] * n] if intercept else []
    design += [[v + shift[j] for v in x] for j, x in enumerate(columns)]
    moved = [v + shift[k] for v in target]
    weighted = [[a * b for a, b in zip(weights, d, strict=True)] for d in design]
    cov = _inverse([[_dot(a, b) for b in design] for a in weighted])
    right = [_dot(a, moved) for a in weighted]
    params = [_dot(row, right) for row in cov]
    residuals = [moved[i] - sum(b * d[i] for b, d in zip(params, design, strict=True)) for i in range(n)]
    center, level = [mean(x) for x in columns], mean(target)
    middle = _median(residuals)
    return Answer(
        params=params,
        cov=cov,
        residuals=residuals,
        rss=_dot(weights, [r * r for r in residuals]),
        tss=_dot(weights, [(v - level) ** 2 for v in target]),
        center=center,
        level=level,
        norms=[_dot(weights, [(v - c) ** 2 for v in x]) for x, c in zip(columns, center, strict=True)],
        mad=_median([abs(r - middle) for r in residuals]),
    )


def digits(got: float, want: Fraction | mpmath.mpf | str) -> float:
    """Log relative error, at most 16; where the answer is 0 the absolute error counts."""
    with mpmath.workdps(DIGITS):
        exact = real(want)
        if not math.isfinite(got):
            return -math.inf
        error = abs(mpmath.mpf(float(got)) - exact)
        if exact != 0:
            error /= abs(exact)
        return 16.0 if error < 1e-16 else float(-mpmath.log10(error))


def worst(got: np.ndarray, want: Sequence[Fraction | mpmath.mpf | str]) -> float:
    """The fewest digits of several numbers."""
    values = np.ravel(got)
    assert len(values) == len(want)
    return min((digits(g, e) for g, e in zip(values, want, strict=True)), default=16.0)


def real(value: Fraction | mpmath.mpf | str) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        if isinstance(value, Fraction):
            return mpmath.mpf(value.numerator) / value.denominator
        return mpmath.mpf(value)


def root(value: Fraction) -> mpmath.mpf:
    with mpmath.workdps(DIGITS):
        return mpmath.sqrt(real(value))


def _dot(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction(0))


def _median(values: list[Fraction]) -> Fraction:
    ordered, n = sorted(values), len(values)
    return (ordered[(n - 1) // 2] + ordered[n // 2]) / 2


def _inverse(A: list[list[Fraction]]) -> list[list[Fraction]]:
    """Gauss-Jordan; ZeroDivisionError if singular."""
    p = len(A)
    M = [list(row) + [Fraction(int(i == j)) for j in range(p)] for i, row in enumerate(A)]
    for i in range(p):
        pivot = next((r for r in range(i, p) if M[r][i] != 0), None)
        if pivot is None:
            raise ZeroDivisionError("singular")
        M[i], M[pivot] = M[pivot], M[i]
        M[i] = [v / M[i][i] for v in M[i]]
        for r in range(p):
            if r != i and M[r][i] != 0:
                M[r] = [a - M[r][i] * b for a, b in zip(M[r], M[i], strict=True)]
    return [row[p:] for row in M]
