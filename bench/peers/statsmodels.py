# SPDX-License-Identifier: MIT
"""statsmodels: one ``WLS`` per group and target, in joblib's processes. With standard errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import statsmodels.api as sm
from workloads import Workload

from peers import Answer
from peers.split import Group, State, answer, fit_groups


def prepare(frame: pd.DataFrame, which: Workload) -> State:
    return State(frame, which)


def run(state: State) -> Answer:
    keys, parts = fit_groups(state, fit_list)
    return answer(keys, [params for params, _ in parts], [errors for _, errors in parts])


def fit_list(groups: list[Group]) -> tuple[np.ndarray, np.ndarray]:
    """(g, t, p) twice. ``method="qr"``: 1.0x (W1), 1.4x (W3), 1.8x (W5, W6)."""
    fits = [[sm.WLS(y, X, weights=w).fit() for y in Y.T] for X, Y, w in groups]
    return (
        np.array([[fit.params for fit in targets] for targets in fits]),
        np.array([[fit.bse for fit in targets] for targets in fits]),
    )
