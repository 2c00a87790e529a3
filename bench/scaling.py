# SPDX-License-Identifier: MIT
"""How time grows with rows, groups and threads; rewrites the block in ``docs/performance.md``.

``python bench/scaling.py [--scale 0.01]``: sizes in turn, round after round, each a few times so that it
finds its own data in the caches, medians; draws ``docs/scaling.png``. With a scale, numbers are printed and
nothing is written.
"""

from __future__ import annotations

import argparse
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
from measure import DOCS, alternate, machine, ratio, rewrite, table
from workloads import WORKLOADS, Workload, fit, make, memory

ROUNDS, TIMES = 5, 3
ROWS = [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 20_000_000]  # 10 rows a group
GROUPS = [1_000, 10_000, 100_000, 300_000, 1_000_000, 2_000_000]  # of 5 rows
Curve = dict[int, float]  # size -> seconds per row or group


def sized(groups: int, rows: int) -> Workload:
    return Workload(f"{groups:,} x {rows}", (groups,), rows, predictors=2, targets=1)


def seconds(workloads: dict[int, Workload]) -> Curve:
    """Median seconds of the whole call; the first calls compile."""
    frames = {size: make(which) for size, which in workloads.items()}
    sides = {str(size): partial(fit, frames[size], which) for size, which in workloads.items()}
    alternate(sides, 1)
    times: dict[int, list[float]] = {size: [] for size in workloads}
    for _ in range(ROUNDS):
        for size, frame in frames.items():
            times[size] += alternate({"": sides[str(size)]}, TIMES, memory(frame))[""].tolist()
    return {size: float(np.median(own)) for size, own in times.items()}


def per_row(scale: float) -> Curve:
    sizes = [round(n * scale) for n in ROWS]
    return {n: s / n for n, s in seconds({n: sized(n // 10, 10) for n in sizes}).items()}


def per_group(scale: float) -> Curve:
    sizes = [max(10, round(g * scale)) for g in GROUPS]
    return {g: s / g for g, s in seconds({g: sized(g, 5) for g in sizes}).items()}


def threads(scale: float) -> tuple[float, float, float]:
    """Seconds of W3 on 1 and on 2 threads, and the median of their ratios."""
    which = WORKLOADS["W3"].scaled(scale)
    frame = make(which)
    sides = {str(jobs): partial(fit, frame, which, n_jobs=jobs) for jobs in (1, 2)}
    alternate(sides, 1)
    times = alternate(sides, ROUNDS, memory(frame))
    return float(np.median(times["1"])), float(np.median(times["2"])), ratio(times["1"], times["2"])


def flatness(curve: Curve) -> float:
    return max(curve.values()) / min(curve.values())


def curve_table(size: str, unit: str, curve: Curve) -> str:
    heads = [size, *(f"{n:,}" for n in curve), "max / min"]
    return table(heads, [[unit, *(f"{s * 1e9:,.0f}" for s in curve.values()), f"{flatness(curve):.2f}"]])


def report(rows: Curve, groups: Curve, on_threads: tuple[float, float, float]) -> str:
    one, two, gain = on_threads
    return "\n\n".join(
        [
            curve_table("rows, 10 a group", "ns per row", rows),
            curve_table("groups of 5 rows", "ns per group", groups),
            table(
                ["W3", "1 thread", "2 threads", "gain"], [["s", f"{one:.3g}", f"{two:.3g}", f"{gain:.2f}x"]]
            ),
            "Whole calls with every statistic, 2 predictors, 1 target (W3: 4). "
            f"Median of {ROUNDS} rounds of {TIMES}, {machine('gbreg', 'numba', 'numpy', 'pandas')}.",
        ]
    )


def draw(rows: Curve, groups: Curve, on_threads: tuple[float, float, float]) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), width_ratios=[3, 3, 1.4], layout="constrained")
    for axis, curve, unit, label in (
        (axes[0], rows, "row", "rows (10 a group)"),
        (axes[1], groups, "group", "groups (of 5 rows)"),
    ):
        axis.semilogx(list(curve), [s * 1e9 for s in curve.values()], "o-")
        axis.set(xlabel=label, title=f"ns per {unit}")
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[2].bar(["1", "2"], on_threads[:2])
    axes[2].set(xlabel="threads", title="W3, seconds")
    figure.savefig(DOCS / "scaling.png", dpi=130)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    measured = per_row(scale), per_group(scale), threads(scale)
    made = report(*measured)
    print(made)
    if scale == 1:
        rewrite(DOCS / "performance.md", "scaling", made)
        draw(*measured)


if __name__ == "__main__":
    main()
