# SPDX-License-Identifier: MIT
"""scikit-learn: one ``LinearRegression`` per group, in joblib's processes. Coefficients only."""

from __future__ import annotations

import numpy as np
import pandas as pd
import sklearn
from sklearn.linear_model import LinearRegression
from workloads import Workload

from peers import Answer
from peers.split import Group, State, answer, fit_groups


def prepare(frame: pd.DataFrame, which: Workload) -> State:
    return State(frame, which)


def run(state: State) -> Answer:
    keys, parts = fit_groups(state, fit_list)
    return answer(keys, parts)


def fit_list(groups: list[Group]) -> np.ndarray:
    """(g, t, p). With its checks of arguments and of finite numbers: 1.0x to 1.6x. Threads: 1.0x to 2x."""
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        fits = [LinearRegression().fit(X[:, 1:], Y, sample_weight=w) for X, Y, w in groups]
    return np.array([np.column_stack([fit.intercept_, fit.coef_]) for fit in fits])
