# SPDX-License-Identifier: MIT
"""What is measured: six workloads, their seeded frames, and answers to check results against.

A frame has key columns, predictors ``x0, x1, ...``, targets ``y0, y1, ...`` and weights ``w``
(0.5 to 2). Target q is ``1 + (q + 1) * sum(x)`` plus noise of 0.1. Rows are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any, Literal

import numpy as np
import pandas as pd

LARGEST_ID = 2**52
FEW_GROUPS, FEW_ROWS = 24, 20


@dataclass(frozen=True)
class Workload:
    """``prod(sides)`` groups of ``rows`` rows: one key column per side, numbered from 0.

    Keys of kind "id" are scattered int64 up to `LARGEST_ID`, "text" is pandas' own strings.
    """

    name: str
    sides: tuple[int, ...]
    rows: int
    predictors: int
    targets: int
    kind: Literal["int", "id", "text"] = "int"

    @property
    def groups(self) -> int:
        return prod(self.sides)

    @property
    def n(self) -> int:
        return self.groups * self.rows

    @property
    def keys(self) -> list[str]:
        return ["g"] if len(self.sides) == 1 else [f"g{k}" for k in range(len(self.sides))]

    @property
    def linear(self) -> list[str]:
        return [f"x{j}" for j in range(self.predictors)]

    @property
    def responses(self) -> list[str]:
        return [f"y{q}" for q in range(self.targets)]

    @property
    def about(self) -> str:
        """The workload in words, for a table."""
        keys = {"int": "int", "id": "scattered int64", "text": "str"}[self.kind]
        count = f"{len(self.sides)} {keys} keys" if len(self.sides) > 1 else f"{keys} key"
        targets = "target" if self.targets == 1 else "targets"
        return (
            f"{self.groups:,} groups x {self.rows:,} rows, {self.predictors} predictors, "
            f"{self.targets} {targets}, {count}"
        )

    def scaled(self, scale: float) -> Workload:
        """About ``scale`` of the rows: fewer groups, then fewer rows in each; never absurdly few."""
        sides = [max(2, round(side * scale ** (1 / len(self.sides)))) for side in self.sides]
        if len(sides) == 1:
            sides = [min(self.groups, max(FEW_GROUPS, sides[0]))]
        rows = ceil(self.n * scale / prod(sides))
        return replace(self, sides=tuple(sides), rows=min(self.rows, max(FEW_ROWS, rows)))


WORKLOADS = {
    which.name: which
    for which in (
        Workload("W1", (1_000,), 5, predictors=2, targets=1),
        Workload("W2", (100, 100, 20), 5, predictors=2, targets=2),
        Workload("W3", (10_000,), 500, predictors=4, targets=1),
        Workload("W4", (1_000_000,), 10, predictors=3, targets=3, kind="id"),
        Workload("W5", (50,), 200_000, predictors=8, targets=1, kind="text"),
        Workload("W6", (100_000,), 20, predictors=2, targets=6),
    )
}


def founders(groups: int) -> Workload:
    """The fit that gbreg was first wanted for: 5 rows a group, 2 predictors, 1 target."""
    return Workload(f"founders' {groups:,}", (groups,), 5, predictors=2, targets=1)


def make(which: Workload, seed: int = 1, scale: float = 1.0) -> pd.DataFrame:
    """The workload's frame, or that of a smaller one."""
    which = which if scale == 1 else which.scaled(scale)
    rng = np.random.default_rng(seed)
    columns = _keys(which, rng)
    x = {name: rng.normal(size=which.n) for name in which.linear}
    signal = np.sum(list(x.values()), axis=0)
    y = {name: 1 + (q + 1) * signal + rng.normal(0, 0.1, which.n) for q, name in enumerate(which.responses)}
    return pd.DataFrame(columns | x | y | {"w": rng.uniform(0.5, 2, which.n)})


def _keys(which: Workload, rng: np.random.Generator) -> dict[str, Any]:
    codes = rng.permutation(np.repeat(np.arange(which.groups), which.rows))
    if which.kind == "int":
        return dict(zip(which.keys, np.unravel_index(codes, which.sides), strict=True))
    ids = np.unique(rng.integers(0, LARGEST_ID, which.groups + which.groups // 100 + 10))
    labels: Any = rng.permutation(ids)[: which.groups]
    if which.kind == "text":
        labels = pd.Series([f"sensor-{label:016x}" for label in labels])
        return {which.keys[0]: labels.take(codes).array}
    return {which.keys[0]: labels[codes]}


def memory(frame: pd.DataFrame) -> int:
    """Bytes that are more than any side takes beyond the frame."""
    return 4 * int(frame.memory_usage(index=False).sum())


def fit(frame: pd.DataFrame, which: Workload, **options: Any):
    """The whole call, from frame to result."""
    import gbreg  # here, so that what the import takes can be measured

    return gbreg.fit(
        frame, by=which.keys, linear=which.linear, targets=which.responses, weights="w", **options
    )


def group_rows(frame: pd.DataFrame, which: Workload, key: Sequence[Any]) -> pd.DataFrame:
    """The rows of one group, its key given column by column."""
    return frame[np.logical_and.reduce([frame[k] == value for k, value in zip(which.keys, key, strict=True)])]


def lstsq(rows: pd.DataFrame, which: Workload) -> np.ndarray:
    """(t, p) coefficients of one group's rows by numpy."""
    root = np.sqrt(rows["w"].to_numpy())[:, None]
    X = np.column_stack([np.ones(len(rows)), rows[which.linear].to_numpy()])
    return np.linalg.lstsq(X * root, rows[which.responses].to_numpy() * root, rcond=None)[0].T
