# SPDX-License-Identifier: MIT
"""What single rows do to a fit, and what their order tells of it; arrays over rows."""

from __future__ import annotations

import numpy as np

from gbreg.inference import UNIT
from gbreg.problem import FloatArray, IntArray
from gbreg.ragged import size_of

NOISE = 2.0**-10  # of a standardised residual, what rounding may be
FULL = 2.0**-40  # 1 - leverage from which on it is rounding noise, and so is what is divided by it


def influence(
    scaled: FloatArray,
    leverage: FloatArray,
    sigma: FloatArray,
    rank: FloatArray,
    certain: FloatArray,
    size: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Standardised residual, leverage and Cook's distance of rows, arrays of one shape.

    e = sqrt(w) r / (sigma sqrt(1 - h)) and e^2 h / (1 - h) / rank, from sqrt(w) r and h (Cook and
    Weisberg 1982, sections 2.2 and 3.1), as statsmodels' influence of OLS on sqrt(w) times the data.
    NaN where the leverage is 1 but for rounding, which is as large as 1 / ``certain``, as leverages are
    those of stored correlations; of the others also where a residual is rounding of terms of this
    ``size``.
    """
    left = complement(leverage, certain)
    unit = sigma * np.sqrt(left)
    standard = np.where(UNIT * size <= NOISE * unit, scaled / unit, np.nan)
    return standard, np.minimum(leverage, 1.0), standard * standard * leverage / left / rank


def complement(leverage: FloatArray, certain: FloatArray) -> FloatArray:
    """1 - leverage: what the other rows say about a row; NaN where that is rounding noise.

    That is proportional to 1 / ``certain``, which is 1 where predictors are not correlated.
    """
    left = 1 - leverage
    return np.where(left * certain > FULL, left, np.nan)


def durbin_watson(
    scaled: FloatArray, groups: IntArray, g: int, times: FloatArray | None = None
) -> FloatArray:
    """Sum of (e_i - e_{i-1})^2 over sum e^2 of each group, e = sqrt(w) r: (n,), (n,) -> (g,).

    Rows sorted by group, each of them ``times`` (n,) in a row. Durbin and Watson 1950; statsmodels'
    ``durbin_watson`` of ``wresid``.
    """
    scaled = scaled / size_of(scaled, groups, g)[groups]
    step = np.diff(scaled) ** 2
    within = groups[1:] == groups[:-1]
    steps = np.bincount(groups[1:][within], step[within], minlength=g)
    squares = scaled * scaled if times is None else times * scaled * scaled
    total = np.bincount(groups, squares, minlength=g)
    return np.asarray(steps / np.where(total > 0, total, np.nan), dtype=np.float64)
