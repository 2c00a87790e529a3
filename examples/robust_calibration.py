# SPDX-License-Identifier: MIT
"""What ``clip=4.0`` and ``loss="huber"`` do for a calibration map with gross outliers, on synthetic data.

The map is that of ``detector_calibration.py``. Here 5 % of the values, chosen with a fixed seed,
get a gross error of width 0.5 cm, 25 times the noise. The same number of rows is fitted on three grids,
from that of the example, with about 5 rows a cell, to one with 90, where the bins of radius are merged.
For each grid there are six fits: of the data without and with outliers, plain, clipped and Huber's.

With 90 rows a cell, clipping brings the coefficients back to what they are without outliers (4.3 %
are set aside: the other gross errors happen to be small). With 20 most cells are cured and
the others are not: the core of the errors is nearly that of clean data, the width is not. With 5 rows
and 3 coefficients it does nothing useful, and finds one in ten of the large outliers: each bends its
fit so far that all residuals grow with it. There, merge cells first, or look for outliers in the
residuals of a coarser fit.
With 90 rows Huber's loss does nearly as well as clipping, with 20 better by far: its width is less than
half of the clipped one. With 5 rows it does little more than clipping, one cell in seven has no errors,
since most of its rows lie on the fit, and those of the others are too small: they take the median of
five residuals for a standard deviation, and the normal distribution for its quantiles.
Clipped errors are too small, by a little where rows are many and by more where they are few: the
residuals that are left are the small ones.
Run it with ``python examples/robust_calibration.py``.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import detector_calibration as calibration
import numpy as np
import pandas as pd

import gbreg

FRACTION = 0.05  # of the values of each target
GROSS = 0.5  # cm, width of the gross errors
CLIP = 4.0
UNIT = 1e4  # um in a cm
PLAIN_TO_SEE = 0.2  # cm, 10 times the noise: gross errors beyond it are counted as found or not


def add_outliers(frame: pd.DataFrame, seed: int = 20130102) -> pd.DataFrame:
    """A copy with gross errors, which come in each target on rows of its own."""
    rng = np.random.default_rng(seed)
    frame = frame.copy()
    for target in calibration.TARGETS:
        hit = rng.random(len(frame)) < FRACTION
        frame[target] += np.where(hit, rng.normal(0, GROSS, len(frame)), 0.0)
    return frame


FITS: dict[str, dict[str, Any]] = {"plain": {}, f"clip={CLIP}": {"clip": CLIP}, "huber": {"loss": "huber"}}


def timed_fit(
    frame: pd.DataFrame, grid: dict[str, int], options: dict[str, Any]
) -> tuple[gbreg.GroupFit, float]:
    """The fit and its seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)  # cells with one or two rows
        started = time.perf_counter()
        fit = frame.gbreg.fit(
            by=list(grid),
            linear=calibration.PREDICTORS,
            targets=calibration.TARGETS,
            weights="weight",
            **options,
        )
        return fit, time.perf_counter() - started


def half_width(values: np.ndarray) -> float:
    """Half of the range of the middle 68.27 %: the standard deviation if the values are normal."""
    low, high = np.quantile(values, [0.15866, 0.84134])
    return float(high - low) / 2


def against_truth(fit: gbreg.GroupFit, grid: dict[str, int], term: str = "deltaI") -> dict[str, float]:
    """Errors of one slope, of all targets and of the cells that have a standard error."""
    known = calibration.truth(fit.keys.to_frame(index=False), grid)
    place = fit.terms.index(term)
    intervals = fit.conf_int()
    errors, pulls, covered = [], [], []
    for target in calibration.TARGETS:
        has_error = fit.bse[target][term].notna().to_numpy()
        true = known[target][has_error, place]
        bounds = intervals[target][term][has_error]
        error = fit.params[target][term].to_numpy()[has_error] - true
        errors.append(error * UNIT)
        pulls.append(error / fit.bse[target][term].to_numpy()[has_error])
        covered.append((bounds["lower"].to_numpy() <= true) & (true <= bounds["upper"].to_numpy()))
    error = np.concatenate(errors)
    return {
        "fitted": len(error),
        "bias": error.mean(),
        "width": error.std(),
        "core": half_width(error),
        "pull": half_width(np.concatenate(pulls)),
        "inside": np.concatenate(covered).mean(),
    }


def share_found(fit: gbreg.GroupFit, clean: pd.DataFrame, frame: pd.DataFrame) -> float:
    """Of the gross errors that are plain to see beside the truth, the share that was set aside."""
    gross = (frame[calibration.TARGETS] - clean[calibration.TARGETS]).abs().to_numpy() > PLAIN_TO_SEE
    return float(fit.clipped(frame).to_numpy()[gross].mean())


def compare(n_rows: int, grid: dict[str, int]) -> pd.DataFrame:
    """Fits of one grid: one row per data and fit."""
    clean = calibration.make_map(n_rows, grid=grid)
    data = {"clean": clean, "outliers": add_outliers(clean)}
    rows = []
    for name, frame in data.items():
        for kind, options in FITS.items():
            fit, seconds = timed_fit(frame, grid, options)
            clipped = "clip" in options
            aside = int(fit.nobs_clipped.to_numpy().sum()) if clipped else 0
            rows.append(
                {
                    "rows/cell": n_rows / np.prod(list(grid.values())),
                    "data": name,
                    "fit": kind,
                    **against_truth(fit, grid),
                    "set aside": aside / (n_rows * len(calibration.TARGETS)),
                    "found": share_found(fit, clean, frame) if clipped and name == "outliers" else np.nan,
                    "seconds": seconds,
                }
            )
    return pd.DataFrame(rows)


def main(n_rows: int = calibration.N_ROWS, radii: tuple[int, ...] = (152, 38, 8)) -> pd.DataFrame:
    for options in FITS.values():  # compile first, to time the work alone; small frames need less of it
        timed_fit(calibration.make_map(n_rows, grid=calibration.CELLS), calibration.CELLS, options)
    table = pd.concat(
        [compare(n_rows, calibration.CELLS | {"radius": radius}) for radius in radii], ignore_index=True
    )
    print(f"{n_rows:,} rows, {FRACTION:.0%} of the values with gross errors of {GROSS} cm (synthetic)\n")
    print("slope of deltaI (um/kHz) less its truth, all cells and targets with a standard error")
    styles = {"rows/cell": "{:.0f}", "fitted": "{:,}"}
    styles |= {"inside": "{:.1%}", "set aside": "{:.2%}", "found": "{:.1%}"}
    styles |= {"bias": "{:+.2f}", "width": "{:.1f}", "core": "{:.1f}", "pull": "{:.2f}", "seconds": "{:.2f}"}
    print(table.to_string(index=False, formatters={name: style.format for name, style in styles.items()}))
    print("\nwidth: standard deviation; core: half of the range of the middle 68 %, blind to the tails")
    print("pull: that half range of error / standard error, 1 if right (Student's t: 1.3 with 2 degrees")
    print("of freedom); inside: truths within their 95 % intervals; found: of the gross errors beyond")
    print(f"{PLAIN_TO_SEE} cm, those set aside")
    return table


if __name__ == "__main__":
    main()
