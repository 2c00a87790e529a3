# SPDX-License-Identifier: MIT
"""Digits of slopes where predictors lie far from 0, which is what sums of products lose.

The truth is the exact solution, in rational arithmetic, for the float64 columns.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
from measure import table
from nist import worst
from peers import load
from workloads import Workload, fit, group_rows, lstsq, make

OFFSETS = [0, 1e2, 1e4, 1e6]  # in standard deviations
WHICH = Workload("offset", (200,), 20, predictors=2, targets=1)
CHECKED = range(0, 200, 10)


def shifted(offset: float) -> pd.DataFrame:
    frame = make(WHICH)
    return frame.assign(**{name: frame[name] + offset for name in WHICH.linear})


def exact(rows: pd.DataFrame) -> list[Decimal]:
    """Coefficients of the first target, intercept first."""
    p = len(WHICH.linear) + 1
    system = [[Fraction(0)] * (p + 1) for _ in range(p)]
    for *x, y, w in rows[[*WHICH.linear, "y0", "w"]].itertuples(index=False):
        line = [Fraction(1), *map(Fraction, x), Fraction(y)]
        for i in range(p):
            for j in range(p + 1):
                system[i][j] += Fraction(w) * line[i] * line[j]
    return [Decimal(b.numerator) / Decimal(b.denominator) for b in _solve(system)]


def _solve(system: list[list[Fraction]]) -> list[Fraction]:
    """Gauss-Jordan; the last column is the right side."""
    for j in range(len(system)):
        system[j] = [value / system[j][j] for value in system[j]]
        for i in range(len(system)):
            if i != j:
                system[i] = [a - system[i][j] * b for a, b in zip(system[i], system[j], strict=True)]
    return [line[-1] for line in system]


def slopes(tool: str, frame: pd.DataFrame) -> dict[int, np.ndarray]:
    """The slopes of each checked group."""
    if tool == "gbreg":
        table = fit(frame, WHICH).params["y0"]
        return {key: table.loc[key].to_numpy()[1:] for key in CHECKED}
    if tool == "numpy lstsq":
        return {key: lstsq(group_rows(frame, WHICH, [key]), WHICH)[0, 1:] for key in CHECKED}
    peer = load(tool)
    answer = peer.run(peer.prepare(frame, WHICH))
    return {key: answer.params[np.flatnonzero(answer.keys[0] == key)[0], 0, 1:] for key in CHECKED}


def digits(tool: str, offset: float) -> float:
    """Right digits of the worst slope of the checked groups."""
    frame = shifted(offset)
    found = slopes(tool, frame)
    return min(worst(found[key], exact(group_rows(frame, WHICH, [key]))[1:]) for key in CHECKED)


def digits_by_offset(peers: list[str]) -> str:
    rows = [
        [tool, *(f"{digits(tool, offset):.1f}" for offset in OFFSETS)]
        for tool in ["gbreg", "numpy lstsq", *peers]
    ]
    return table(
        ["digits of the worst slope, offset in standard deviations", *(f"{o:g}" for o in OFFSETS)], rows
    )
