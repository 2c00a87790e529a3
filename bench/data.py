# SPDX-License-Identifier: MIT
"""Seeded frames for the benchmarks, rows shuffled."""

from __future__ import annotations

import numpy as np
import pandas as pd


def make_frame(groups: int, rows: int, predictors: int, targets: int, seed: int = 1) -> pd.DataFrame:
    """``groups`` x ``rows`` rows: key ``g``, predictors ``x0...``, targets ``y0...``, weights ``w``."""
    rng = np.random.default_rng(seed)
    n = groups * rows
    frame = pd.DataFrame({"g": rng.permutation(np.repeat(np.arange(groups), rows))})
    for j in range(predictors):
        frame[f"x{j}"] = rng.normal(size=n)
    signal = frame[[f"x{j}" for j in range(predictors)]].sum(axis=1).to_numpy()
    for q in range(targets):
        frame[f"y{q}"] = 1 + (q + 1) * signal + rng.normal(0, 0.1, n)
    frame["w"] = rng.uniform(0.5, 2, n)
    return frame


def fit(frame: pd.DataFrame, backend: str, mad: bool = True):
    """The whole call, from frame to result."""
    return frame.gbreg.fit(
        by="g",
        linear=[name for name in frame if str(name).startswith("x")],
        targets=[name for name in frame if str(name).startswith("y")],
        weights="w",
        backend=backend,
        mad=mad,
    )


def lstsq(frame: pd.DataFrame, key: int) -> np.ndarray:
    """(t, p) coefficients of one group by numpy, to check results against."""
    rows = frame[frame["g"] == key]
    root = np.sqrt(rows["w"].to_numpy())[:, None]
    X = np.column_stack([np.ones(len(rows)), rows.filter(like="x").to_numpy()])
    return np.linalg.lstsq(X * root, rows.filter(like="y").to_numpy() * root, rcond=None)[0].T
