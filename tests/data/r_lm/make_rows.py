# SPDX-License-Identifier: MIT
"""Makes ``rows.csv``, which ``lm.R`` fits: ``python make_rows.py``, then ``Rscript lm.R``, in this folder.

Numbers have four decimals at most: the file is small, and both languages can have the same float64.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parent
COUNTS = {  # of groups, for each number of predictors, with and without intercept, with and without weights
    "plain": 6,
    "offset": 4,
    "missing": 2,
    "zero weights": 2,
    "saturated": 2,
    "too few": 1,
    "sum": 1,
    "multiple": 1,
    "constant": 1,
    "duplicate": 1,
    "zero": 1,
}


def possible(kind: str, k: int, intercept: bool, weighted: bool) -> bool:
    if kind == "zero weights":
        return weighted
    if kind == "too few":
        return k + intercept > 1
    return k >= {"sum": 3, "multiple": 2, "duplicate": 2}.get(kind, 1)


def design(rng: np.random.Generator, kind: str, k: int, n: int) -> np.ndarray:
    """Predictors (k, n)."""
    X = 10.0 ** rng.integers(0, 3, (k, 1)) * rng.normal(rng.normal(size=(k, 1)), size=(k, n))
    if kind == "offset":
        X += 10 ** rng.uniform(2, 4, (k, 1)) * X.std(axis=1, keepdims=True)
    elif kind == "sum":  # of small integers: exact
        X = rng.integers(-20, 21, (k, n)).astype(float)
        X[2] = X[0] + X[1]
    elif kind == "multiple":
        X[0] = rng.integers(-20, 21, n)
        X[1] = 3 * X[0]
    elif kind in ("constant", "zero"):
        X[rng.integers(k)] = rng.uniform(5, 9) if kind == "constant" else 0
    elif kind == "duplicate":
        X[-1] = X[0]
    return X


def group(rng: np.random.Generator, kind: str, k: int, intercept: bool, weighted: bool) -> pd.DataFrame:
    p = k + intercept
    n = {"saturated": p, "too few": p - 1}.get(kind) or int(rng.integers(max(4, p + 1), 16))
    X = design(rng, kind, k, n)
    w = 10 ** rng.uniform(-2, 2, n)
    slopes = rng.uniform(-2, 2, k) / np.maximum(X.std(axis=1), 1)
    y = rng.normal(scale=3) + slopes @ X + rng.normal(size=n)
    if kind == "zero weights":
        w[rng.choice(n, 2, replace=False)] = 0
    frame = pd.DataFrame(X.T, columns=[f"x{j + 1}" for j in range(k)])
    frame = frame.assign(w=w if weighted else np.nan, y=y).round(4)
    if kind == "missing":
        for row in rng.choice(n, 2, replace=False):
            frame.loc[row, rng.choice(["x1", f"x{k}", "y"])] = np.nan
    return frame.assign(kind=kind, k=k, intercept=int(intercept))


def main() -> None:
    rng = np.random.default_rng(1)
    cases = [
        case
        for k, intercept, weighted, kind in product((1, 2, 3, 4), (True, False), (False, True), COUNTS)
        for case in COUNTS[kind] * [(kind, k, intercept, weighted)]
        if possible(*case)
    ]
    frames = [group(rng, *case).assign(group=number) for number, case in enumerate(cases)]
    columns = ["group", "kind", "k", "intercept", "w", "x1", "x2", "x3", "x4", "y"]
    pd.concat(frames)[columns].to_csv(FOLDER / "rows.csv", index=False)


if __name__ == "__main__":
    main()
