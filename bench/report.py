# SPDX-License-Identifier: MIT
"""Measures the founders' comparison and rewrites the table in ``bench/README.md``.

``python bench/report.py``: the three backends in turn, round after round, in one process,
so that a change of the machine's speed meets all of them; medians and ratios per round.
The first call is timed in fresh processes.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numba
import numpy as np
import pandas as pd
from data import fit, lstsq, make_frame

import gbreg

ROUNDS = 31
BACKENDS = ["loky", "numpy", "numba"]
HERE = Path(__file__).parent
FIRST_CALL = """
import time
from data import fit, make_frame
frame = make_frame(1000, 5, 2, 1)
start = time.perf_counter()
import gbreg
imported = time.perf_counter()
fit(frame, {backend!r})
print(imported - start, time.perf_counter() - imported)
"""


def measure(groups: int) -> dict[str, np.ndarray]:
    """Seconds of each round, per backend."""
    frame = make_frame(groups, 5, 2, 1)
    for backend in BACKENDS:  # compile, start the workers, and check what they return
        for _ in range(3):
            result = fit(frame, backend)
        for key in (0, groups // 2, groups - 1):
            np.testing.assert_allclose(result.params["y0"].loc[key], lstsq(frame, key)[0], rtol=1e-9)
    seconds: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for _ in range(ROUNDS):
        for backend in BACKENDS:
            start = time.perf_counter()
            fit(frame, backend)
            seconds[backend].append(time.perf_counter() - start)
    return {backend: np.array(values) for backend, values in seconds.items()}


def first_call(backend: str) -> tuple[float, float]:
    """Median seconds of ``import gbreg`` (after pandas) and of the first fit, in fresh processes."""
    runs = []
    for _ in range(5):
        done = subprocess.run(
            [sys.executable, "-c", FIRST_CALL.format(backend=backend)],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append([float(part) for part in done.stdout.split()])
    imported, fitted = np.median(runs, axis=0)
    return float(imported), float(fitted)


def table() -> str:
    lines = [
        "| groups x 5 rows | "
        + " | ".join(f"{b} (ms)" for b in BACKENDS)
        + " | numba over loky | numpy over loky |",
        "|" + "---|" * 6,
    ]
    for groups in (1_000, 4_000, 12_000):
        seconds = measure(groups)
        cells = [f"{np.median(seconds[b]) * 1e3:.2f}" for b in BACKENDS]
        ratios = [f"{np.median(seconds['loky'] / seconds[b]):.1f}x" for b in ("numba", "numpy")]
        lines.append(f"| {groups:,} | " + " | ".join(cells + ratios) + " |")
    lines += ["", "| first call in a fresh process | import gbreg (s) | first fit (s) |", "|---|---|---|"]
    for backend in ("numba", "numpy", "loky"):
        imported, fitted = first_call(backend)
        lines.append(f"| {backend} | {imported:.3f} | {fitted:.2f} |")
    lines += [
        "",
        f"Median of {ROUNDS} rounds (first calls: of 5), {os.cpu_count()} cores, {platform.machine()}, "
        f"Python {platform.python_version()}, gbreg {gbreg.__version__}, numba {numba.__version__}, "
        f"numpy {np.__version__}, pandas {pd.__version__}, joblib {joblib.__version__}.",
    ]
    return "\n".join(lines)


def main() -> None:
    page = HERE / "README.md"
    head, rest = page.read_text().split("<!-- table -->\n")
    tail = rest.split("<!-- end -->")[1]
    made = table()
    print(made)
    page.write_text(f"{head}<!-- table -->\n{made}\n<!-- end -->{tail}")


if __name__ == "__main__":
    main()
