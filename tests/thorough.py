# SPDX-License-Identifier: MIT
"""How many examples hypothesis draws: few in each run of the suite, more where somebody has the time."""

from __future__ import annotations

import os

MORE = int(os.environ.get("GBREG_EXAMPLES", "0"))


def examples(few: int) -> int:
    return max(few, MORE)
