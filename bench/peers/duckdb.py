# SPDX-License-Identifier: MIT
"""duckdb: sums of products in SQL straight from the pandas frame. Coefficients only."""

from __future__ import annotations

from typing import NamedTuple

import duckdb
import numpy as np
import pandas as pd
from workloads import Workload

from peers import Answer
from peers.normal import coefficients, products, strides, unpack


class State(NamedTuple):
    connection: duckdb.DuckDBPyConnection
    query: str
    which: Workload


def prepare(frame: pd.DataFrame, which: Workload) -> State:
    """The frame is registered, not copied.

    An arrow table instead: 0.85x to 1.2x. A native table with ``perfect_ht_threshold = 24``: 0.65x
    (W3), 0.8x (W6), 1.2x (W2), but loading it takes another 0.2x to 0.4x.
    """
    connection = duckdb.connect()
    connection.register("frame", frame)
    return State(connection, _query(which), which)


def _query(which: Workload) -> str:
    """Several int keys packed into one; not packed: 1.2x (W2)."""
    key = which.keys[0]
    if len(which.keys) > 1:
        key = " + ".join(f"{k} * {s}" for k, s in zip(which.keys, strides(which), strict=True))
    sums = ", ".join(f"sum({' * '.join(names)})" for names in products(which))
    return f"select {key} as key, {sums} from frame group by key"


def run(state: State) -> Answer:
    columns = state.connection.execute(state.query).fetchnumpy()
    key = columns.pop("key")
    sums = np.stack(list(columns.values()))
    return Answer(unpack(np.asarray(key), state.which), coefficients(sums, state.which))
