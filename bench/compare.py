# SPDX-License-Identifier: MIT
"""gbreg beside others on `workloads.WORKLOADS`; rewrites the comparison in ``bench/README.md``.

``python bench/compare.py [W1 W2 ...] [--scale 0.1]``. gbreg and its peers run in turn, round after
round, in one process, once before the clock starts; times are medians, ratios are taken within a
round. Every result is checked against `numpy.linalg.lstsq` on sampled groups. With names or a
scale the page is left alone. Peak memory is measured in fresh processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from measure import HERE, alternate, in_fresh_process, machine, ratio, rewrite, table
from peers import COEFFICIENTS, PEERS, Answer, load, timed_groups
from precision import digits_by_offset
from workloads import WORKLOADS, Workload, fit, group_rows, lstsq, make, memory

ROUNDS = 5
SAMPLED = 5
PACKAGES = ["gbreg", "numba", "numpy", "pandas", "polars", "duckdb", "polars-ols", "statsmodels"]
PACKAGES += ["scikit-learn", "joblib"]
LIBRARIES = {"polars_ols": "polars-ols", "sklearn": "scikit-learn"}


def full(frame: pd.DataFrame, which: Workload, mad: bool = False) -> Answer:
    """gbreg's call, and all that a user would read of it made into frames."""
    result = fit(frame, which, mad=mad)
    shape = (len(result), which.targets, which.predictors + 1)
    params, errors = result.params, result.bse
    _ = result.rms, result.nobs, result.status, result.mad if mad else None
    keys = [np.asarray(params.index.get_level_values(k)) for k in range(len(which.keys))]
    return Answer(keys, params.to_numpy().reshape(shape), errors.to_numpy().reshape(shape))


def subset(frame: pd.DataFrame, which: Workload, groups: int) -> pd.DataFrame:
    """The rows of ``groups`` of the groups, in the frame's order."""
    if groups == which.groups:
        return frame
    number = frame.groupby(which.keys, sort=False).ngroup()
    return frame[number < groups].reset_index(drop=True)


def check(answer: Answer, frame: pd.DataFrame, which: Workload, rtol: float, seed: int = 0) -> None:
    """Sampled groups against `numpy.linalg.lstsq`."""
    g = len(answer.keys[0])
    for i in np.random.default_rng(seed).choice(g, min(g, SAMPLED), replace=False):
        want = lstsq(group_rows(frame, which, [key[i] for key in answer.keys]), which)
        np.testing.assert_allclose(answer.params[i], want, rtol=rtol)


def check_errors(answer: Answer, frame: pd.DataFrame, which: Workload) -> None:
    """Standard errors of all groups against gbreg's, in gbreg's order."""
    want = full(frame, which)
    order = np.lexsort(answer.keys[::-1])
    for got, key in zip(answer.keys, want.keys, strict=True):
        np.testing.assert_array_equal(got[order], key)
    np.testing.assert_allclose(answer.errors[order], want.errors, rtol=1e-6)


def prepared(name: str, frame: pd.DataFrame, which: Workload) -> tuple[Callable[[], Answer], float]:
    """The peer's run, checked, and what its seconds are multiplied by for all groups."""
    peer, groups = load(name), timed_groups(name, which.groups, which.rows)
    part = subset(frame, which, groups)
    run = partial(peer.run, peer.prepare(part, which))
    answer = run()
    check(answer, part, which, rtol=1e-6)
    if len(answer.keys[0]) != groups:
        raise AssertionError(f"{name}: {len(answer.keys[0])} groups instead of {groups}")
    if answer.errors is not None:
        check_errors(answer, part, which)
    return run, which.groups / groups


def measure(which: Workload, rounds: int = ROUNDS) -> dict[str, np.ndarray]:
    """Seconds of each round: of gbreg ("call", "gbreg", "mad") and of the peers, scaled to all groups."""
    frame = make(which)
    sides: dict[str, Callable[[], Any]] = {
        "call": partial(fit, frame, which, mad=False),
        "gbreg": partial(full, frame, which),
        "mad": partial(full, frame, which, mad=True),
    }
    check(sides["gbreg"](), frame, which, rtol=1e-9)
    sides["mad"]()
    factors = {}
    for name in PEERS:
        sides[name], factors[name] = prepared(name, frame, which)
    seconds = alternate(sides, rounds, memory(frame))
    return {name: values * factors.get(name, 1.0) for name, values in seconds.items()}


def spell(seconds: float) -> str:
    return f"{seconds * 1e3:.2f} ms" if seconds < 0.1 else f"{seconds:.3g} s"


def speed_row(which: Workload, seconds: dict[str, np.ndarray]) -> list[str]:
    cells = [spell(np.median(seconds["gbreg"])), spell(np.median(seconds["call"]))]
    cells.append(f"{spell(np.median(seconds['mad']))} ({ratio(seconds['mad'], seconds['gbreg']):.2f}x)")
    for name in PEERS:
        few = "~" if timed_groups(name, which.groups, which.rows) < which.groups else ""
        times = ratio(seconds[name], seconds["gbreg"])
        cells.append(f"{few}{spell(np.median(seconds[name]))} (**{times:.3g}x**)")
    return [which.name, *cells]


def speed(which: list[Workload]) -> str:
    heads = ["", "gbreg", "its call alone", "with mad", *(LIBRARIES.get(name, name) for name in PEERS)]
    rows = []
    for one in which:
        rows.append(speed_row(one, measure(one)))
        print(table(heads, rows[-1:]), flush=True)
    return table(heads, rows)


# Linux: VmHWM can be reset, and getrusage's maximum starts at that of the parent process.
PEAK = """
import ctypes, re
from workloads import WORKLOADS, fit, make
which = WORKLOADS[{name!r}].scaled({scale})
fit(make(which.scaled(1e-6)), which, mad=False)
frame = make(which)
ctypes.CDLL(None).malloc_trim(0)  # what making the frame left behind
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
result = fit(frame, which, mad=False)
print(frame.memory_usage(index=False).sum(), peak() - before)
"""


def peak(which: Workload, scale: float) -> list[str]:
    """Bytes of the frame, and what the call takes at its peak beyond the process that holds it."""
    columns, taken = in_fresh_process(PEAK.format(name=which.name, scale=scale))
    return [which.name, f"{columns / 1e6:,.1f}", f"{taken / 1e6:,.1f}", f"{taken / columns:.2f}"]


def peaks(which: list[Workload], scale: float) -> str:
    heads = ["", "columns used (MB)", "peak of the call beyond them (MB)", "ratio"]
    return table(heads, [peak(one, scale) for one in which])


def page(which: list[Workload], scale: float) -> str:
    scaled = [one if scale == 1 else one.scaled(scale) for one in which]
    about = table(["", "workload"], [[one.name, one.about] for one in scaled])
    parts = [about, speed(scaled), peaks(which, scale), digits_by_offset(COEFFICIENTS)]
    return "\n\n".join([*parts, f"Median of {ROUNDS} rounds, {machine(*PACKAGES)}."])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*WORKLOADS, []], metavar="W1..W6")
    parser.add_argument("--scale", type=float, default=1.0)
    asked = parser.parse_args()
    made = page([WORKLOADS[name] for name in asked.names or WORKLOADS], asked.scale)
    print(made)
    if not asked.names and asked.scale == 1:
        rewrite(HERE / "README.md", "compare", made)


if __name__ == "__main__":
    main()
