# SPDX-License-Identifier: MIT
"""Series that are given beside a frame, by the labels of its index, as pandas aligns them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from gbreg.errors import SpecError, warn
from gbreg.problem import IntArray


def places(own: pd.Index[Any], index: pd.Index[Any], what: str, *, partly: bool = True) -> IntArray | None:
    """Position (n,) in a Series' index of each label of the frame's, -1 for none; None if they are equal.

    Raises
    ------
    SpecError
        Labels repeat, or none is shared.

    Warns
    -----
    GbregWarning
        Labels are missing and it may not cover the frame ``partly`` without a word.
    """
    if own is index or own.equals(index):
        return None
    if not own.is_unique:
        raise SpecError(f"{what} cannot be aligned with the frame: its index differs and has duplicates")
    rows: IntArray = own.get_indexer(index).astype(np.int64, copy=False)
    if len(rows) and (rows < 0).all():
        raise SpecError(f"{what} shares no index label with the frame; for values by position pass an array")
    if not partly and (gaps := np.count_nonzero(rows < 0)):
        warn(f"{what} has no value for {gaps} of {len(rows)} rows, whose labels are not in its index")
    return rows
