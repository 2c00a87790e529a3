# SPDX-License-Identifier: MIT
"""Random groups, for all files that hold a fit of ordinary data against another library."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

KINDS: dict[str, dict[str, Any]] = {
    "weighted": {"weights": "w"},
    "unweighted": {},
    "through zero": {"weights": "w", "intercept": False},
    "counts": {"weights": "n", "weights_type": "frequency"},
}


@cache
def random_groups(
    seed: int,
    predictors: tuple[str, ...] = ("x", "z", "u"),
    groups: int = 10,
    rows: tuple[int, int] = (7, 25),
) -> pd.DataFrame:
    """Unbalanced groups, shuffled: key g, targets y and v, counts n, and w, 1/sigma^2 of the errors."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(*rows, groups)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": rng.permutation(np.repeat(np.arange(groups), sizes))})
    frame["w"], frame["n"] = rng.uniform(0.2, 9, n), rng.integers(1, 5, n)
    frame["y"], frame["v"] = rng.normal(size=(2, n)) / np.sqrt(frame["w"].to_numpy()) + [[1], [100]]
    for name in predictors:
        frame[name] = rng.normal(3, 2, n)
        if name != predictors[0]:
            frame[name] += 0.4 * frame[predictors[0]]
        frame["y"] += 0.3 * frame[name]
    if predictors:
        frame["v"] += 2 * frame[predictors[-1]]
    return frame
