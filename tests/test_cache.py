# SPDX-License-Identifier: MIT
"""Compiled kernels on disk: fresh processes that find them, spoilt ones, or no place for them."""

from __future__ import annotations

import io
import multiprocessing
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import numba
import pytest

pytestmark = pytest.mark.compiled

CHILDREN = multiprocessing.get_context("forkserver")  # gbreg is not among what they have loaded
CHILDREN.set_forkserver_preload(["numba", "pandas", "scipy.special"])

# One small kernel, kept as those of the fit are; prints its value and whether it was compiled here.
PROGRAM = """
import warnings
import numpy as np
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    from gbreg import median_kernels, row_kernels
    out = np.zeros(3, dtype=np.int64)
    codes = np.array([0, 2, 2, 1], dtype=np.int32)
    codes.flags.writeable = False
    row_kernels.count_codes(codes, 0, 4, 0, out)
stats = row_kernels.count_codes.stats
print(out.tolist(), sum(stats.cache_hits.values()), [str(w.message) for w in caught])
"""


def answer(queue: multiprocessing.SimpleQueue, program: str, env: dict[str, str]) -> None:
    os.environ.update(env)
    numba.config.reload_config()
    with redirect_stdout(io.StringIO()) as printed:
        exec(program, {})
    queue.put(printed.getvalue().strip())


def run(folder: Path, program: str = PROGRAM, **env: str) -> str:
    queue = CHILDREN.SimpleQueue()
    child = CHILDREN.Process(target=answer, args=(queue, program, {"NUMBA_CACHE_DIR": str(folder), **env}))
    child.start()
    child.join(120)
    child.kill()
    assert child.exitcode == 0
    return queue.get()


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    """A folder that one process has filled."""
    folder = tmp_path_factory.mktemp("first")
    assert run(folder) == "[1, 1, 2] 0 []"
    return folder


@pytest.fixture
def filled(first, tmp_path) -> Path:
    return shutil.copytree(first, tmp_path / "filled")


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*count_codes*.nbc"))


def test_a_second_process_compiles_nothing(filled):
    assert len(kept(filled)) == 1
    assert run(filled) == "[1, 1, 2] 1 []"


def test_stages_of_long_groups_are_kept_too(tmp_path):
    program = PROGRAM.replace(
        "row_kernels.count_codes(codes, 0, 4, 0, out)", "median_kernels.median(np.ones(3), 3)"
    )
    program = program.replace("row_kernels.count_codes", "median_kernels.median.outside")
    assert [run(tmp_path, program) for _ in range(2)] == ["[0, 0, 0] 0 []", "[0, 0, 0] 1 []"]


def test_code_with_bounds_checks_is_not_taken_for_code_without(filled):
    assert run(filled, NUMBA_BOUNDSCHECK="1") == "[1, 1, 2] 0 []"


def test_files_of_another_source_are_not_read(filled):
    for path in [*filled.rglob("*count_codes*")]:  # they may name classes that are gone
        path.rename(path.with_name(re.sub(r"\.[0-9a-f]{32}\.", f".{'0' * 32}.", path.name)))
    assert run(filled) == "[1, 1, 2] 0 []"


@pytest.mark.parametrize("damage", ["truncated", "empty", "a bit flipped", "index spoilt"])
def test_damaged_files_are_compiled_again_and_said_once(filled, damage):
    (path,) = kept(filled)
    if damage == "index spoilt":
        (path,) = filled.rglob("*count_codes*.nbi")
    data = bytearray(path.read_bytes())
    if damage == "truncated":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = bytearray()
    else:
        data[len(data) // 2] ^= 4
        if damage == "index spoilt":
            data[-20:] = b"spoilt, as it may be"
    path.write_bytes(data)
    got = run(filled)
    assert got.startswith("[1, 1, 2] 0 ")
    assert got.count("compiled kernels are not kept on disk") == 1


def test_nowhere_to_keep_them(tmp_path):
    """A read-only install without a home, where numba finds no place: compiled in each process."""
    nowhere = "from numba.core.caching import CacheImpl; CacheImpl._locator_classes = []\n"
    assert run(tmp_path, nowhere + PROGRAM) == "[1, 1, 2] 0 []"
    assert not kept(tmp_path)


def test_a_full_disk_is_no_failure(tmp_path):
    """Files may not grow beyond 100 bytes, so nothing can be written."""
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    got = run(tmp_path, limit + PROGRAM)
    assert got.startswith("[1, 1, 2] 0 ")
    assert got.count("compiled kernels are not kept on disk") == 1


def test_eight_processes_start_at_once(tmp_path):
    """Nothing is there yet, and all compile; then everything is."""
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, [tmp_path] * 8)) <= {"[1, 1, 2] 0 []", "[1, 1, 2] 1 []"}
        assert set(pool.map(run, [tmp_path] * 2)) == {"[1, 1, 2] 1 []"}
