# SPDX-License-Identifier: MIT
"""Where the time of a fit goes; rewrites the block ``stages`` in ``docs/performance.md``.

``python bench/stages.py [--scale 0.01]``: each stage of the call by itself, median of rounds,
beside the time it takes to read the same columns once at the memory bandwidth measured in this run,
and to copy them once to new memory, each column in its order.
With a scale, numbers are printed and nothing is written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from measure import DOCS, machine, provide, rewrite, table
from workloads import WORKLOADS, Workload, fit, make, memory

from gbreg.backends import get_backend
from gbreg.backends._ranges import cores
from gbreg.columns import as_columns
from gbreg.interrupt import Ticker
from gbreg.layout import gather, make_layout
from gbreg.problem import Problem
from gbreg.rowops import RowOps
from gbreg.rows import Data
from gbreg.spec import FitSpec, Grouping, fit_options

ROUNDS = 5


def timed(
    run: Callable[..., Any], room: int = 0, given: Callable[[], tuple[Any, ...]] = tuple
) -> tuple[float, Any]:
    """Median seconds, each with so much memory provided, and what the last run returned.

    What it is given is made anew for each run, before the clock starts.
    """
    seconds = []
    for _ in range(ROUNDS):
        arguments = given()
        provide(room)
        start = time.perf_counter()
        made = run(*arguments)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds)), made


def bandwidth() -> float:
    """Bytes per second of summing 0.8 GB, the array shared between the cores."""
    values = np.ones(100_000_000)
    parts = np.array_split(values, cores())
    with ThreadPoolExecutor(len(parts)) as pool:
        return values.nbytes / timed(lambda: list(pool.map(np.sum, parts)))[0]


def copied(columns: list[np.ndarray], rows: RowOps) -> np.ndarray:
    """What a sort moves, without sorting, in as many threads."""
    made = np.empty((len(columns), len(columns[0])))

    def copy(part: int, lo: int, hi: int) -> None:
        for own, column in zip(made, columns, strict=True):
            own[lo:hi] = column[lo:hi]

    rows.over(len(columns[0]), copy)
    return made


def stages(which: Workload, scale: float, speed: float) -> list[str]:
    """A row of the table: milliseconds."""
    which = which.scaled(scale)
    frame = make(which)
    engine, tick = get_backend("numba"), Ticker()
    spec = FitSpec(
        grouping=Grouping(by=which.keys),
        linear=as_columns(which.linear, "linear"),
        targets=as_columns(which.responses, "targets"),
        weights="w",
        options=fit_options(
            which.predictors, intercept=True, min_nobs=None, precision="auto", on_collinear="nan", mad=False
        ),
    )
    room = memory(frame)
    fit(frame, which, mad=False)
    whole, _ = timed(lambda: fit(frame, which, mad=False), room)
    read, data = timed(lambda: Data.read(frame, spec, "w", None), room)
    number, layout = timed(lambda: make_layout(frame, spec.grouping, engine.rows), room)

    def sort() -> tuple[Problem]:
        problem, _, packed = gather(layout, data.X, data.Y, data.w, engine.rows, whole=False)
        return (replace(problem, spent=packed.spent, unsorted=packed.unsorted),)

    pack, _ = timed(sort, room)
    solve, _ = timed(lambda problem: engine.fit(problem, spec.options, tick), room, sort)
    numbers = [frame[name].to_numpy() for name in (*which.linear, *which.responses, "w")]
    copy, _ = timed(lambda: copied(numbers, engine.rows), room)
    columns = [*which.keys, *which.linear, *which.responses, "w"]
    size = int(frame[columns].memory_usage(index=False).sum())
    parts = [read, number, pack, solve, max(whole - read - number - pack - solve, 0.0), whole]
    return [which.name, *(f"{part * 1e3:,.1f}" for part in (*parts, size / speed, copy))]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    speed = bandwidth()
    heads = ["", "columns", "keys", "sort", "fit", "rest", "whole call", "reading once", "copying once"]
    made = table(heads, [stages(which, scale, speed) for which in WORKLOADS.values()])
    made += (
        f"\n\nMilliseconds, median of {ROUNDS}; the bandwidth was {speed / 1e9:.1f} GB/s. "
        f"{machine('gbreg', 'numba', 'numpy', 'pandas')}."
    )
    print(made)
    if scale == 1.0:
        rewrite(DOCS / "performance.md", "stages", made)


if __name__ == "__main__":
    main()
