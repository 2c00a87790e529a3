# SPDX-License-Identifier: MIT
"""Every row of the frame is accounted for, per group and in all."""

from __future__ import annotations

from dataclasses import dataclass

from gbreg.errors import GbregError
from gbreg.problem import IntArray


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Where the rows went.

    A row counts once, in the first of these that holds: without key, not selected
    (``where``), zero weight, a predictor missing (NaN/NA), a predictor infinite, the
    target missing, the target infinite, used.
    """

    n_rows: int  # rows of the frame
    n_without_key: int
    rows: IntArray  # (g,) rows with this key
    not_selected: IntArray  # (g,)
    zero_weight: IntArray  # (g,)
    missing: IntArray  # (g, t)
    infinite: IntArray  # (g, t)
    used: IntArray  # (g, t)

    def check(self) -> None:
        """Raise `GbregError` unless the counts add up: an internal error, never the caller's."""
        if int(self.rows.sum()) + self.n_without_key != self.n_rows:
            raise GbregError(
                f"internal error: {int(self.rows.sum())} rows in groups and {self.n_without_key} "
                f"without key do not make {self.n_rows}"
            )
        taken = (self.not_selected + self.zero_weight)[:, None] + self.missing + self.infinite + self.used
        if (taken != self.rows[:, None]).any():
            raise GbregError("internal error: the rows of a group do not add up")
