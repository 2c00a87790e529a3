# SPDX-License-Identifier: MIT
"""polars: sums of products by group, then one batched solve in numpy. Coefficients only."""

from __future__ import annotations

from functools import reduce
from operator import add, mul
from typing import NamedTuple

import pandas as pd
import polars as pl
from workloads import Workload

from peers import Answer
from peers.normal import coefficients, products, strides, unpack

SMALL = 50_000  # rows below which the streaming engine costs more than it gains (2.0x on W1)


class State(NamedTuple):
    frame: pl.DataFrame
    which: Workload


def prepare(frame: pd.DataFrame, which: Workload) -> State:
    return State(pl.from_pandas(frame), which)


def run(state: State) -> Answer:
    frame, which = state
    ask = _packed if len(which.keys) > 1 else _small if len(frame) < SMALL else _plain
    sums = ask(frame.lazy(), which).collect(engine="in-memory" if len(frame) < SMALL else "streaming")
    numbers = sums.select(pl.exclude("key")).to_numpy().T
    return Answer(unpack(sums["key"].to_numpy(), which), coefficients(numbers, which))


def _plain(frame: pl.LazyFrame, which: Workload) -> pl.LazyFrame:
    """Products inside ``agg``.

    In-memory engine: 2.0x (W6), 2.4x (W4), 4.6x (W3), 1.0x (W5). Products by ``with_columns``
    first: 1.0x to 1.1x (W3, W6, W5), 1.9x (W4); only ``w * x`` first and ``dot`` inside: 0.9x or
    2.3x (W4, two runs), 1.1x (W3), 1.2x to 2.5x (W6), 1.0x to 1.2x (W5). Keys as Categorical: 1.0x (W5).
    """
    return frame.group_by(pl.col(which.keys[0]).alias("key")).agg(
        [reduce(mul, map(pl.col, names)).sum().alias("*".join(names)) for names in products(which)]
    )


def _small(frame: pl.LazyFrame, which: Workload) -> pl.LazyFrame:
    """``w * x`` first, and ``dot`` inside ``agg``; products inside ``agg``: 2.5x (W1)."""
    weighted = [(pl.col("w") * pl.col(name)).alias(f"w*{name}") for name in which.linear]
    sums = [
        (pl.col("w") if len(names) == 1 else _dot(names)).sum().alias("*".join(names))
        for names in products(which)
    ]
    return frame.with_columns(weighted).group_by(pl.col(which.keys[0]).alias("key")).agg(sums)


def _dot(names: tuple[str, ...]) -> pl.Expr:
    """The product of all, of which "w * x" is a column."""
    if len(names) == 2:
        return pl.col("w").dot(pl.col(names[1])) if names[1].startswith("y") else pl.col("*".join(names))
    return pl.col("*".join(names[:2])).dot(pl.col(names[2]))


def _packed(frame: pl.LazyFrame, which: Workload) -> pl.LazyFrame:
    """Int keys packed into one, products by ``select`` first.

    Products inside ``agg``: 1.3x (W2); packed into 32 bits: 1.0x; keys not packed: 1.5x inside
    ``agg``, 1.7x first.
    """
    key = reduce(add, [pl.col(k) * s for k, s in zip(which.keys, strides(which), strict=True)])
    made = [reduce(mul, map(pl.col, names)).alias("*".join(names)) for names in products(which)]
    return frame.select(key.alias("key"), *made).group_by("key").agg(pl.all().sum())
