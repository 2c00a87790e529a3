# SPDX-License-Identifier: MIT
"""What the reports share: sides timed in turn, marked blocks of a page, the machine in words."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"


def provide(room: int) -> None:
    """See that the next ``room`` bytes that are asked for are there, or half of what is free.

    A virtual machine gives freed memory back to its host after some seconds, and waits for each
    page that it gets again: 0.6 to 2 ms a MB where this was measured, 4 to 15 times what new memory
    takes else. Nothing is done where the system does not say what is free.
    """
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        np.empty(min(room, free // 2), dtype=np.uint8).fill(0)


def alternate(sides: dict[str, Callable[[], Any]], rounds: int, room: int = 0) -> dict[str, np.ndarray]:
    """Seconds of each round and side, the sides in turn, so that all meet the machine at every speed.

    ``room`` bytes are provided before each clock starts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            provide(room)
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}


def ratio(above: np.ndarray, below: np.ndarray) -> float:
    """The median of the ratios within a round."""
    return float(np.median(above / below))


def rewrite(page: Path, mark: str, made: str) -> None:
    """Put ``made`` between ``<!-- mark -->`` and ``<!-- end mark -->``."""
    block = f"<!-- {mark} -->\n{made}\n<!-- end {mark} -->"
    text, found = re.subn(
        f"<!-- {mark} -->.*<!-- end {mark} -->", lambda _: block, page.read_text(), flags=re.DOTALL
    )
    if not found:
        raise ValueError(f"{page.name} has no block {mark!r}")
    page.write_text(text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(line) + " |" for line in (heads, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(heads), *lines[1:]])


def machine(*packages: str) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, {versions}"


def in_fresh_process(code: str, **variables: str) -> list[float]:
    """The numbers that a program prints which starts in this folder, with these environment variables."""
    command = [sys.executable, "-c", code]
    path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": path} | variables
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True, env=env)
    return [float(part) for part in done.stdout.split()]
