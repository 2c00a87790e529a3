# SPDX-License-Identifier: MIT
"""How many examples hypothesis draws: few in each run of the suite, more where somebody has the time."""

from __future__ import annotations

import os

import numba

MORE = int(os.environ.get("GBREG_EXAMPLES", "0"))


def examples(few: int) -> int:
    """As many as asked for, else ``few``, and a quarter of these where kernels are plain Python."""
    return MORE or (max(few // 4, 1) if numba.config.DISABLE_JIT else few)
