# SPDX-License-Identifier: MIT
"""A calibration map like the one gbreg was written for, on synthetic data.

Space-charge distortions of a drift chamber: in each cell of a grid in radius, y/x and z/x
the shifts dX, dY and dZ (cm) grow linearly with the mean beam current and with its
deviation from the mean. About five measurements a cell, with weights 1/sigma^2.

The data are generated here with a fixed seed, so the truth is known: 405,423 rows,
152 x 20 x 28 cells, noise 0.02 cm for a row of weight 1. Run it with
``python examples/detector_calibration.py``.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd

import gbreg

N_ROWS = 405_423
CELLS = {"radius": 152, "y2x": 20, "z2x": 28}
NOISE = 0.02  # cm, of a row with weight 1
TARGETS = ["dX", "dY", "dZ"]
PREDICTORS = ["meanI", "deltaI"]


def truth(cells: pd.DataFrame, grid: dict[str, int] = CELLS) -> dict[str, np.ndarray]:
    """Coefficients of each target, smooth over the grid: (rows, 3) in cm, cm/kHz, cm/kHz."""
    r = cells["radius"].to_numpy() / grid["radius"]
    y = cells["y2x"].to_numpy() / grid["y2x"] - 0.5
    z = cells["z2x"].to_numpy() / grid["z2x"]
    shape = (1 - r) ** 2 * (1 - z)
    return {
        "dX": np.column_stack([0.05 * y, 0.020 * shape, 0.010 * shape * (1 + y)]),
        "dY": np.column_stack([0.02 * r, 0.012 * shape * y, -0.006 * shape]),
        "dZ": np.column_stack([-0.03 * z, 0.004 * shape, 0.002 * (r - 0.5)]),
    }


def make_map(n_rows: int = N_ROWS, seed: int = 20130101, grid: dict[str, int] = CELLS) -> pd.DataFrame:
    """Measurements in random order."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.integers(0, size, n_rows) for name, size in grid.items()})
    frame["meanI"] = rng.normal(50, 10, n_rows)  # kHz
    frame["deltaI"] = rng.normal(0, 5, n_rows)  # kHz
    frame["weight"] = rng.uniform(0.5, 2, n_rows)  # (NOISE / sigma)^2
    for name, coefficients in truth(frame, grid).items():
        clean = (
            coefficients[:, 0] + coefficients[:, 1] * frame["meanI"] + coefficients[:, 2] * frame["deltaI"]
        )
        frame[name] = clean + rng.normal(0, NOISE, n_rows) / np.sqrt(frame["weight"])
    return frame


def pulls(fit: gbreg.GroupFit, df_resid: int) -> dict[str, np.ndarray]:
    """(estimate - truth) / error, scaled to width 1, of the cells with that many degrees of freedom.

    The error is itself estimated, so the pull follows Student's t, whose width is
    sqrt(df / (df - 2)).
    """
    width = np.sqrt(df_resid / (df_resid - 2))
    known = truth(fit.keys.to_frame(index=False))
    chosen = (fit.df_resid.to_numpy() == df_resid).all(axis=1)
    return {
        target: ((fit.params[target] - known[target]) / fit.bse[target]).to_numpy()[chosen] / width
        for target in TARGETS
    }


def main() -> None:
    frame = make_map()
    cells = list(CELLS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)  # cells with one or two rows; shown below
        fit = frame.gbreg.fit(by=cells, linear=PREDICTORS, targets=TARGETS, weights="weight")
        started = time.perf_counter()
        fit = frame.gbreg.fit(by=cells, linear=PREDICTORS, targets=TARGETS, weights="weight")
        seconds = time.perf_counter() - started
    print(f"{len(frame):,} rows, {len(fit):,} cells, {len(TARGETS)} targets: {seconds:.2f} s\n")
    print(fit.status_counts().query("dX > 0").to_string(), "\n")

    print(
        "pulls of all coefficients, cells with 6 degrees of freedom (mean 0 and width 1 if errors are right)"
    )
    for target, values in pulls(fit, df_resid=6).items():
        print(f"  {target}: mean {values.mean():+.3f}, width {values.std():.3f}, {len(values):,} cells")

    print("\nweighted residual width (cm), before and after the correction, and what noise leaves")
    resid = fit.resid(frame)
    for target in TARGETS:
        done = resid[target].notna()
        weight = frame.loc[done, "weight"]
        before = np.sqrt(np.average(frame.loc[done, target] ** 2, weights=weight))
        after = np.sqrt((weight * resid.loc[done, target] ** 2).sum() / fit.df_resid[target].sum())
        print(f"  {target}: {before:.4f} -> {after:.4f} (noise {NOISE})")

    flat = fit.to_frame(suffix="_cal")
    print(f"\nas a flat table for the calibration database: {flat.shape[0]:,} x {flat.shape[1]}")
    print(", ".join(flat.columns[:9]), "...")
    merged = frame.head(1000).merge(flat, on=cells)
    print("formula of the correction:", fit.formulas("_cal")["dX"]["prediction"])
    corrected = merged["dX"] - merged.eval(fit.formulas("_cal")["dX"]["prediction"])
    print(f"applied with DataFrame.eval to {len(merged)} rows: spread {corrected.std():.4f} cm")


if __name__ == "__main__":
    main()
