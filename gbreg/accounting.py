# SPDX-License-Identifier: MIT
"""Every row of the frame is accounted for, per group and in all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gbreg.errors import GbregError
from gbreg.problem import IntArray

_ZERO = bytes(8)


def nowhere(g: int) -> IntArray:
    """(g,) no rows in any group, in the memory of one number: most counts are that."""
    return np.ndarray(g, np.int64, _ZERO, strides=(0,))  # broadcast_to takes seven times as long


def anywhere(counts: IntArray) -> bool:
    """Whether counts have memory of their own: others are `nowhere`."""
    return counts.strides[0] != 0


def added(counts: IntArray, *more: IntArray) -> IntArray:
    """The sum of counts, those that are `nowhere` for free."""
    for own in more:
        if anywhere(own):
            counts = counts + own if anywhere(counts) else own
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class RowCounts:
    """Where the rows went.

    A row counts once, in the first of these that holds: without key, not selected
    (``where``), zero weight, a predictor missing (NaN/NA), a predictor infinite, the
    target missing, the target infinite, clipped, used.
    """

    n_rows: int  # rows of the frame
    n_without_key: int
    rows: IntArray  # (g,) rows with this key
    not_selected: IntArray  # (g,)
    zero_weight: IntArray  # (g,)
    missing: IntArray  # (g, t), or a column per pattern of missing values: see by_target
    infinite: IntArray
    clipped: IntArray
    used: IntArray

    def by_target(self, pattern: IntArray) -> RowCounts:
        """Per target instead of per pattern; targets of one pattern share their memory."""
        if len(pattern) == 1:
            return self

        def spread(counts: IntArray) -> IntArray:
            if counts.shape[1] > 1:
                return counts[:, pattern]
            return np.broadcast_to(counts, (len(counts), len(pattern)))

        return replace(
            self,
            missing=spread(self.missing),
            infinite=spread(self.infinite),
            clipped=spread(self.clipped),
            used=spread(self.used),
        )

    def check(self) -> None:
        """Raise `GbregError` unless the counts add up: an internal error, never the caller's."""
        if int(self.rows.sum()) + self.n_without_key != self.n_rows:
            raise GbregError(
                f"internal error: {int(self.rows.sum())} rows in groups and {self.n_without_key} "
                f"without key do not make {self.n_rows}"
            )
        shared = added(self.not_selected, self.zero_weight)[:, None]
        taken = added(self.used, shared, self.missing, self.infinite, self.clipped)
        if (taken != self.rows[:, None]).any():
            raise GbregError("internal error: the rows of a group do not add up")
