# SPDX-License-Identifier: MIT
"""Fitted values on the rows of any frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import Column, Numbers, check_labels, read_column
from gbreg.keys import find_keys
from gbreg.layout import exact_difference, make_layout
from gbreg.problem import Estimates, FloatArray, IntArray
from gbreg.spec import Grouping

Origins = dict[int, NDArray[Any]]


def groups_of_rows(frame: pd.DataFrame, grouping: Grouping, keys: pd.Index[Any]) -> IntArray:
    """(n,) place in ``keys`` of each row's group, -1 for none."""
    layout = make_layout(frame, grouping)
    codes = layout.codes()
    return np.append(find_keys(keys, layout.keys), -1)[codes]


def read_columns(frame: pd.DataFrame, columns: Sequence[Column], role: str) -> list[Numbers]:
    """Predictors or targets of a frame, all missing labels named at once."""
    check_labels(frame, [column.label for column in columns if column.label is not None], role)
    return [read_column(frame, column, role) for column in columns]


def stored_values(column: Numbers, origin: NDArray[Any] | None, groups: IntArray) -> FloatArray:
    """(n,) values less the origin of their group, subtracted as integers.

    A frame may hold an integer column that once was beyond 2**53 as floats now; then the
    difference is taken in float64, which is all such a column can give.
    """
    values = column.as_float()
    if origin is None:
        return values
    reference = np.append(origin, np.zeros(1, dtype=origin.dtype))[groups]
    if column.is_integer:
        whole = column.values
    else:
        present = np.isfinite(values)
        small = np.where(present, values, 0.0)
        if (np.abs(small) >= 2.0**53).any() or (small != np.trunc(small)).any():
            return values - reference.astype(np.float64)
        whole = small.astype(np.int64)
    out = exact_difference(whole.astype(reference.dtype), reference)
    out[np.isnan(values)] = np.nan
    return out


def predicted(
    estimates: Estimates, X: Sequence[Numbers], groups: IntArray, origins: Origins, intercept: bool, drop: bool
) -> FloatArray:
    """Fitted values (t, n) of the stored targets (the targets' origins are not added).

    level + sum_j b_j (x_j - center_j): a deviation from the centre keeps its digits where
    intercept + sum_j b_j x_j would cancel. With ``drop``, coefficients of dropped predictors
    count as 0.
    """
    t = estimates.params.shape[1]
    out = np.empty((t, len(groups)))
    seen = groups >= 0
    safe = np.where(seen, groups, 0)
    stored = [stored_values(column, origins.get(j), groups) for j, column in enumerate(X)]
    for q in range(t):
        if not len(estimates.params):
            out[q] = np.nan
            continue
        m = estimates.pattern[q]
        total = estimates.level[safe, q].copy() if intercept else np.zeros(len(groups))
        for j, values in enumerate(stored):
            slope = estimates.params[:, q, int(intercept) + j]
            if drop:
                slope = np.where(estimates.dropped[:, m, j], 0.0, slope)
            total += slope[safe] * (values - estimates.center[safe, m, j])
        if intercept:  # a level outlives an intercept that the data do not determine
            total[np.isnan(estimates.params[:, q, 0])[safe]] = np.nan
        total[~seen] = np.nan
        out[q] = total
    return out
