# SPDX-License-Identifier: MIT
"""Memory of sorted rows, which goes back to the system while results are written: they need as much."""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from threading import Lock

import numpy as np

from gbreg.problem import FloatArray, Spent

PAGE = 2 << 20  # bytes that go back at once: a huge page of Linux
LEAST_BYTES = 64 << 20  # of rows; less is not worth it


def rows_memory(n: int, width: int) -> tuple[FloatArray, Spent | None]:
    """(n, width) numbers, not initialised, and who takes rows lo:hi back once nobody will read them.

    None if there is little, and on other systems than Linux.
    """
    size = n * width * 8
    if sys.platform != "linux" or size < LEAST_BYTES:
        return np.empty((n, width)), None
    try:
        memory = mmap.mmap(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:  # there is not so much
        return np.empty((n, width)), None
    with suppress(OSError):  # a kernel without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    room = np.frombuffer(memory, dtype=np.uint8)
    first = -room.ctypes.data % PAGE
    edges = np.append(np.arange(0, size, PAGE), size)
    left, lock = np.diff(edges).tolist(), Lock()  # bytes of each page that are still needed

    def spent(lo: int, hi: int) -> None:
        start, stop = lo * width * 8, hi * width * 8
        with lock:
            for page in range(start // PAGE, -(-stop // PAGE)):
                left[page] -= min(stop, (page + 1) * PAGE) - max(start, page * PAGE)
                if left[page] == 0:
                    with suppress(OSError):  # it is locked: it stays
                        memory.madvise(mmap.MADV_DONTNEED, first + page * PAGE, PAGE)

    return room[first : first + size].view(np.float64).reshape(n, width), spent
