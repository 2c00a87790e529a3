# SPDX-License-Identifier: MIT
"""Measures the founders' comparison and rewrites its table in ``bench/README.md``.

``python bench/report.py``: the three backends in turn, round after round, in one process;
medians and ratios per round. The first call is timed in fresh processes.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from first_call import RUNS, first_calls
from measure import HERE, alternate, machine, ratio, rewrite, table
from workloads import fit, founders, group_rows, lstsq, make

ROUNDS = 31
BACKENDS = ["loky", "numpy", "numba"]


def measure(groups: int) -> dict[str, np.ndarray]:
    """Seconds of each round, per backend."""
    which = founders(groups)
    frame = make(which)
    for backend in BACKENDS:  # compile, start the workers, and check what they return
        for _ in range(3):
            result = fit(frame, which, backend=backend)
        for key in (0, groups // 2, groups - 1):
            want = lstsq(group_rows(frame, which, [key]), which)[0]
            np.testing.assert_allclose(result.params["y0"].loc[key], want, rtol=1e-9)
    return alternate({name: partial(fit, frame, which, backend=name) for name in BACKENDS}, ROUNDS)


def backends() -> str:
    rows = []
    for groups in (1_000, 4_000, 12_000):
        seconds = measure(groups)
        cells = [f"{np.median(seconds[b]) * 1e3:.2f}" for b in BACKENDS]
        ratios = [f"{ratio(seconds['loky'], seconds[b]):.1f}x" for b in ("numba", "numpy")]
        rows.append([f"{groups:,}", *cells, *ratios])
    heads = ["groups x 5 rows", *(f"{b} (ms)" for b in BACKENDS), "numba over loky", "numpy over loky"]
    return table(heads, rows)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    here = machine("gbreg", "numba", "numpy", "pandas", "joblib")
    rounds = f"{ROUNDS} rounds (first calls: of {RUNS}, with nothing on disk one)"
    made = f"{backends()}\n\n{first_calls()}\n\nMedian of {rounds}, {here}."
    print(made)
    rewrite(HERE / "README.md", "founders", made)


if __name__ == "__main__":
    main()
