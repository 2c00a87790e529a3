# SPDX-License-Identifier: MIT
"""Parallelism is a map over group ranges."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from gbreg.backends import Progress
from gbreg.problem import Problem

LEAST_ROWS = 1 << 15  # of a piece of work that numpy does: threads wait for each other in smaller ones
PIECES_PER_THREAD = 4  # so that uneven ones even out

A = TypeVar("A")
T = TypeVar("T")


def cores() -> int:
    """Cores this process may use: affinity, container quota and ``NUMBA_NUM_THREADS``.

    joblib sets ``NUMBA_NUM_THREADS`` in its loky workers to their share of the cores, so that
    a fit inside a parallel job does not take those of its neighbours. Workers of
    `multiprocessing.Pool` and of dask are daemons, and get one.
    """
    if multiprocessing.current_process().daemon:
        return 1
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    affinity = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    available = _count(frozenset(affinity), os.environ.get("LOKY_MAX_CPU_COUNT"))
    return min(available, int(limit)) if limit.isdigit() and int(limit) > 0 else available


@cache
def _count(*asked: object) -> int:
    """What joblib says, which reads files of the system, for what it depends on."""
    import joblib

    return int(joblib.cpu_count())


def threads_for(n_jobs: int | None, n_rows: int, serial_rows: int) -> int:
    """``n_jobs`` threads; all cores for -1, and for None unless there are fewer than ``serial_rows`` rows."""
    if n_jobs is not None and n_jobs > 0:
        return n_jobs
    return 1 if n_jobs is None and n_rows < serial_rows else cores()


def run_tasks(
    work: Callable[[A], T],
    tasks: Sequence[A],
    sizes: Sequence[int],
    n_threads: int,
    progress: Progress,
) -> list[T]:
    """``work(task)`` for each task, results in order; ``progress(size)`` after each.

    The calling thread waits in Python between tasks, so Ctrl-C arrives between them;
    whatever stops it also cancels the tasks that have not started.
    """
    results = []
    if n_threads == 1 or len(tasks) <= 1:
        for task, size in zip(tasks, sizes, strict=True):
            results.append(work(task))
            progress(size)
        return results
    # A pool per call: nothing outlives the fit, so forked children start clean.
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="gbreg")
    try:
        futures = [pool.submit(work, task) for task in tasks]
        for future, size in zip(futures, sizes, strict=True):
            results.append(future.result())
            progress(size)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results


def piece_rows(n_rows: int, threads: int, most: int) -> int:
    """Rows of a piece of work: ``most`` for one thread, else so few that threads share what there is."""
    if threads == 1:
        return most
    return min(most, max(LEAST_ROWS, -(-n_rows // (threads * PIECES_PER_THREAD))))


def map_ranges(
    work: Callable[[int, int], T],
    problem: Problem,
    rows: int,
    n_threads: int,
    progress: Progress,
) -> list[T]:
    """``work(g0, g1)`` over group ranges of about ``rows`` rows, results in order."""
    ranges = list(problem.split(rows))
    sizes = [int(problem.offsets[g1] - problem.offsets[g0]) for g0, g1 in ranges]
    return run_tasks(lambda span: work(*span), ranges, sizes, n_threads, progress)
