# SPDX-License-Identifier: MIT
"""What is paid once per process: importing gbreg, and the first fit, which compiles or finds kernels on disk.

``python bench/first_call.py``
"""

from __future__ import annotations

import argparse
from tempfile import TemporaryDirectory

import numpy as np
from measure import in_fresh_process, table

BACKENDS = ["numba", "numpy", "loky"]
RUNS = 5
PROGRAM = """
import time
from workloads import fit, founders, make
which = founders(1000)
frame = make(which)
start = time.perf_counter()
import gbreg
imported = time.perf_counter()
fit(frame, which, backend={backend!r})
print(imported - start, time.perf_counter() - imported)
"""


def cold_call(backend: str) -> float:
    """Seconds of the first fit in a fresh process that finds no kernel on disk."""
    with TemporaryDirectory() as folder:
        return in_fresh_process(PROGRAM.format(backend=backend), NUMBA_CACHE_DIR=folder)[1]


def first_call(backend: str, runs: int = RUNS) -> tuple[float, float]:
    """Median seconds of ``import gbreg`` (after pandas) and of the first fit, in fresh processes."""
    imported, fitted = np.median(
        [in_fresh_process(PROGRAM.format(backend=backend)) for _ in range(runs)], axis=0
    )
    return float(imported), float(fitted)


def first_calls() -> str:
    rows = []
    for backend in BACKENDS:
        cold = cold_call(backend)
        imported, fitted = first_call(backend)
        rows.append([backend, f"{imported:.3f}", f"{cold:.2f}", f"{fitted:.2f}"])
    heads = ["import gbreg (s)", "first fit, nothing on disk (s)", "first fit, kernels on disk (s)"]
    return table(["first call in a fresh process", *heads], rows)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    print(first_calls())
