# SPDX-License-Identifier: MIT
"""NIST's certified regression sets as frames, and how many digits a fit gets right.

Data and 40-digit answers are in ``tests/data/nist``; see the README there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, getcontext
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

getcontext().prec = 50
FOLDER = Path(__file__).parents[1] / "tests" / "data" / "nist"


@dataclass(frozen=True)
class Answer:
    """The exact answer of the float64 design, 40 digits."""

    coef: list[Decimal]
    se: list[Decimal]
    rsd: Decimal


@dataclass(frozen=True)
class RegressionSet:
    """One set; predictors are all columns but ``y``."""

    name: str
    frame: pd.DataFrame
    intercept: bool
    answer: Answer

    @property
    def predictors(self) -> list[str]:
        return [name for name in self.frame if name != "y"]


def read_csv(path: Path) -> pd.DataFrame:
    """Floats that are the nearest to the printed decimals, which pandas' own parser need not give."""
    return pd.read_csv(path, dtype=str).astype(float)


@cache
def regression_sets() -> dict[str, RegressionSet]:
    made = {}
    for name, facts in json.loads((FOLDER / "strd.json").read_text()).items():
        exact = facts["f64"]
        made[name] = RegressionSet(
            name=name,
            frame=read_csv(FOLDER / "design_f64" / f"{name}.csv"),
            intercept=facts["intercept"],
            answer=Answer(
                coef=[Decimal(v) for v in exact["coef"].values()],
                se=[Decimal(v) for v in exact["se"].values()],
                rsd=Decimal(exact["rsd"]),
            ),
        )
    return made


def digits(got: float, want: Decimal, size: float = 1.0) -> float:
    """Log relative error, at most 16; absolute against ``size`` where the answer is 0."""
    if not np.isfinite(got):
        return 0.0
    error = abs(Decimal(float(got)) - want) / (abs(want) if want else Decimal(size))
    return 16.0 if error == 0 else min(16.0, float(-error.log10()))


def worst(got: np.ndarray, want: list[Decimal], size: float = 1.0) -> float:
    """Digits of the worst of several numbers, never below 0."""
    return max(0.0, min(digits(g, w, size) for g, w in zip(np.atleast_1d(got), want, strict=True)))


def score(which: RegressionSet, coef: np.ndarray, se: np.ndarray, rsd: float) -> tuple[float, float, float]:
    """Digits of coefficients, standard errors and residual standard deviation."""
    size = float(which.frame["y"].abs().max())
    scale = size / np.abs(which.frame[which.predictors].to_numpy()).max(axis=0)
    if not any(which.answer.se):  # Wampler 1 and 2: errors are 0, measured against the slopes' scale
        sizes = [size, *scale] if which.intercept else list(scale)
        zero = Decimal(0)
        errors = min(digits(s, zero, float(unit)) for s, unit in zip(se, sizes, strict=True))
        return worst(coef, which.answer.coef), max(0.0, errors), digits(rsd, zero, size)
    return (
        worst(coef, which.answer.coef),
        worst(se, which.answer.se),
        max(0.0, digits(rsd, which.answer.rsd, size)),
    )


def hide(
    frame: pd.DataFrame, predictors: list[str], groups: int, rows: int = 14, seed: int = 0
) -> pd.DataFrame:
    """The frame among random groups, which are 0, 1, ... in column ``g``, all rows shuffled."""
    rng = np.random.default_rng(seed)
    n = groups * rows
    noise = pd.DataFrame({name: rng.normal(size=n) for name in ["y", *predictors]})
    noise["g"] = np.repeat(np.arange(groups), rows)
    both = pd.concat([frame, noise], ignore_index=True)
    return both.sample(frac=1, random_state=seed).reset_index(drop=True)


@cache
def group_sets() -> dict[str, tuple[pd.DataFrame, dict]]:
    """The univariate and one-way sets: frame (``group``, ``y``) and facts."""
    facts = json.loads((FOLDER / "strd_extra.json").read_text())
    return {name: (read_csv(FOLDER / "extra" / f"{name}.csv"), fact) for name, fact in facts.items()}
