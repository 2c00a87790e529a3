# SPDX-License-Identifier: MIT
"""Parallelism is a map over group ranges."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from gbreg.backends import Progress
from gbreg.interrupt import need_room
from gbreg.problem import Problem

LEAST_ROWS = 1 << 15  # of a piece of work that numpy does: threads wait for each other in smaller ones
PIECES_PER_THREAD = 4  # so that uneven ones even out
MOST_THREADS = 1 << 10  # a pool has to be told; it starts those that are asked for

A = TypeVar("A")
T = TypeVar("T")

_own = threading.local()


def cores() -> int:
    """Cores this process may use: affinity, container quota and ``NUMBA_NUM_THREADS``.

    joblib sets ``NUMBA_NUM_THREADS`` in its loky workers to their share of the cores, so that
    a fit inside a parallel job does not take those of its neighbours. Workers of
    `multiprocessing.Pool` and of dask are daemons, and get one.
    """
    import multiprocessing  # here: most of what it takes is not needed to import gbreg

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


@contextmanager
def one_pool() -> Iterator[ThreadPoolExecutor]:
    """In here, all that this thread gives to others goes to the same ones: each start takes 0.4 ms.

    Nothing outlives it, so forked children start clean.
    """
    pool = getattr(_own, "pool", None)
    if pool is not None:
        yield pool
        return
    with ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="gbreg") as pool:
        _own.pool = pool
        try:
            yield pool
        finally:
            _own.pool = None


def run_tasks(
    work: Callable[[A], T],
    tasks: Sequence[A],
    sizes: Sequence[int],
    n_threads: int,
    progress: Progress,
) -> list[T]:
    """``work(task)`` for each task, results in order; ``progress`` hears of the sizes of those that are done.

    The calling thread does its share and is in Python between tasks, so Ctrl-C arrives between them;
    whatever stops it also cancels the tasks that have not started.
    """
    helpers = min(n_threads, len(tasks)) - 1
    if helpers > 0:
        return _shared(work, tasks, sizes, helpers, progress)
    results = []
    for task, size in zip(tasks, sizes, strict=True):
        results.append(work(task))
        progress(size)
    return results


def _shared(
    work: Callable[[A], T], tasks: Sequence[A], sizes: Sequence[int], helpers: int, progress: Progress
) -> list[T]:
    results: list[Any] = [None] * len(tasks)
    left = deque(range(len(tasks)))
    done: deque[int] = deque()

    def take(report: Callable[[], None]) -> None:
        try:
            while left:
                try:
                    i = left.popleft()
                except IndexError:  # another thread was faster
                    return
                results[i] = work(tasks[i])
                done.append(sizes[i])
                report()
        except BaseException:
            left.clear()
            raise

    def report() -> None:
        progress(sum(done.popleft() for _ in range(len(done))))

    need_room(helpers)
    with one_pool() as pool:
        futures = [pool.submit(take, lambda: None) for _ in range(helpers)]
        try:
            take(report)
        finally:
            running = [future for future in futures if not future.cancel()]
            wait(running)
        for future in running:
            future.result()
    report()
    return results


def piece_rows(n_rows: int, threads: int, most: int, least: int = LEAST_ROWS) -> int:
    """Rows of a piece of work: ``most`` for one thread, else so few that threads share what there is."""
    if threads == 1:
        return most
    return min(most, max(least, -(-n_rows // (threads * PIECES_PER_THREAD))))


def map_ranges(
    work: Callable[[int, int], T],
    problem: Problem,
    ranges: Iterable[tuple[int, int]],
    n_threads: int,
    progress: Progress,
) -> list[T]:
    """``work(g0, g1)`` over group ranges, results in order."""
    spans = list(ranges)
    sizes = [int(problem.offsets[g1] - problem.offsets[g0]) for g0, g1 in spans]
    return run_tasks(lambda span: work(*span), spans, sizes, n_threads, progress)
