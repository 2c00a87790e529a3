# SPDX-License-Identifier: MIT
"""Normal equations from sums of products: what polars, duckdb, pandas and numpy users write."""

from __future__ import annotations

import numpy as np
from workloads import Workload

BLOCK = 8_192  # groups, so that a step stays in the cache


def products(which: Workload) -> list[tuple[str, ...]]:
    """Columns whose products are summed: the upper triangle of X'W[X Y], row after row."""
    design = [(), *((name,) for name in which.linear)]
    responses = [(name,) for name in which.responses]
    return [("w", *a, *b) for i, a in enumerate(design) for b in [*design[i:], *responses]]


def coefficients(sums: np.ndarray, which: Workload) -> np.ndarray:
    """(m, g) sums of `products` -> (g, t, p) coefficients, by Gauss elimination of all groups at once.

    `numpy.linalg.solve` of the stacked matrices: 10x (200,000 groups, p = 3), 5x (a million,
    p = 4). Without blocks of groups: 1.9x, 4.5x. Cholesky the same way: 1.0x.
    """
    p, t, g = which.predictors + 1, which.targets, sums.shape[1]
    solved = np.empty((p, t, g))
    for lo in range(0, g, BLOCK):
        solved[:, :, lo : lo + BLOCK] = _eliminate(_system(sums[:, lo : lo + BLOCK], p, t))
    return solved.transpose(2, 1, 0)


def _system(sums: np.ndarray, p: int, t: int) -> np.ndarray:
    """(p, p + t, g): X'W[X Y], the upper triangle filled."""
    system = np.zeros((p, p + t, sums.shape[1]))
    start = 0
    for i in range(p):
        system[i, i:] = sums[start : start + p + t - i]
        start += p + t - i
    return system


def _eliminate(system: np.ndarray) -> np.ndarray:
    p = len(system)
    for j in range(p):
        for i in range(j + 1, p):
            system[i, i:] -= system[j, i] / system[j, j] * system[j, i:]
    solved = system[:, p:]
    for i in reversed(range(p)):
        for k in range(i + 1, p):
            solved[i] -= system[i, k] * solved[k]
        solved[i] /= system[i, i]
    return solved


def strides(which: Workload) -> list[int]:
    """Factors that pack several int keys into one, last key fastest."""
    return [int(np.prod(which.sides[k + 1 :], dtype=int)) for k in range(len(which.sides))]


def unpack(packed: np.ndarray, which: Workload) -> list[np.ndarray]:
    return [packed] if len(which.keys) == 1 else list(np.unravel_index(packed, which.sides))
