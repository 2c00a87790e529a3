# SPDX-License-Identifier: MIT
"""Other ways to the same coefficients, each as a knowledgeable user would write it to be fast.

A peer is a module with ``prepare(frame, which)``, done once and not timed (conversions of the
frame), and ``run(state)``, timed, which returns an `Answer`. Comments name the alternatives that
were tried and lost, with their time over that of what stands here.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

import numpy as np


class Answer(NamedTuple):
    """Groups in any order: one key array per key column, and what was estimated."""

    keys: list[np.ndarray]  # each (g,)
    params: np.ndarray  # (g, t, p), the intercept first
    errors: np.ndarray | None = None  # (g, t, p), where the peer computes them


COEFFICIENTS = ["polars", "duckdb", "pandas", "numpy"]
PER_GROUP = ["polars_ols", "statsmodels", "sklearn"]
PEERS = [*COEFFICIENTS, *PER_GROUP]


def load(name: str) -> ModuleType:
    return importlib.import_module(f"peers.{name}")


def timed_groups(name: str, groups: int, rows: int) -> int:
    """How many groups the peer is timed on: all, or so few that a round ends soon."""
    if name in COEFFICIENTS:
        return groups
    return min(groups, 2_000, max(8, 1_000_000 // rows))
