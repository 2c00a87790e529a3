# SPDX-License-Identifier: MIT
"""joblib's loky processes over group ranges; the kernels of the numba backend inside."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pickle import PicklingError
from typing import Any, TypeVar

import numpy as np
from joblib import Parallel, delayed
from joblib.externals.loky import reusable_executor
from joblib.externals.loky.backend.utils import kill_process_tree
from joblib.externals.loky.process_executor import BrokenProcessPool

from gbreg.backends import Progress, check_jobs
from gbreg.backends._numba import NumbaBackend
from gbreg.backends._ranges import cores
from gbreg.backends._rowops import CompiledRows
from gbreg.errors import GbregWorkerError
from gbreg.estimates import Estimates
from gbreg.minimum import Minimum
from gbreg.problem import FitOptions, Loss, Problem

A = TypeVar("A")
T = TypeVar("T")

TASKS_PER_JOB = 4  # on large problems, so that uneven ranges even out
TASK_ROWS = 1 << 19  # or more tasks than that: a fit that was left ends after one of them
LOOK_AGAIN = 0.2  # seconds
PATIENCE = 1.0  # seconds that loky has to tell of a dead worker
SMALL_ROWS = 100_000  # below this one task per job: a task costs a millisecond

# joblib has one set of workers per process. A fit that fails or is left kills them, so
# the next one, from any thread, waits until that is over.
_one_at_a_time = threading.Lock()
_inherited: Any = None


class LokyBackend:
    """Processes instead of threads, same numbers to the last bit.

    Large arrays reach the workers as memory maps, ranges of groups as two numbers.
    Threads (``backend="numba"``) start faster and share memory; use processes where
    threads are not wanted.

    Parameters
    ----------
    n_jobs : int, optional
        Worker processes; None or -1 for one per core this process may use.
    """

    name = "loky"

    def __init__(self, n_jobs: int | None = None) -> None:
        check_jobs(n_jobs)
        self.n_jobs = -1 if n_jobs is None else n_jobs
        self.rows = CompiledRows(n_jobs=1, keep=True)  # no threads, which are not wanted here

    def fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates:
        with self._workers() as jobs:
            return Estimates.stack_groups(_map_ranges(fit_range, problem, options, jobs, progress))

    def minimize(self, problem: Problem, loss: Loss, progress: Progress, near: bool) -> Minimum:
        """Minima of another loss than squares: see `gbreg.minimum.Minimize`."""
        with self._workers() as jobs:
            work = partial(minimize_range, near=near)
            parts = _map_ranges(work, problem, loss, jobs, lambda rows: progress(0))
        return Minimum(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))

    @contextmanager
    def _workers(self) -> Iterator[int]:
        """How many there are, for this fit alone."""
        jobs = cores() if self.n_jobs == -1 else self.n_jobs
        if jobs > 1:
            _stop_workers_at_exit()
        with _one_at_a_time:
            yield jobs


def fit_range(problem: Problem, options: FitOptions, g0: int, g1: int) -> Estimates:
    """Runs in a worker: groups g0:g1 with one thread."""
    return NumbaBackend(n_jobs=1).fit(problem.slice(g0, g1), options, _no_progress)


def minimize_range(problem: Problem, loss: Loss, g0: int, g1: int, near: bool) -> Minimum:
    """The same for another loss than squares."""
    return NumbaBackend(n_jobs=1).minimize(problem.slice(g0, g1), loss, _no_progress, near)


def _no_progress(rows: int) -> None:
    """The parent counts whole ranges."""


def _ranges(problem: Problem, jobs: int) -> list[tuple[int, int]]:
    size = max(problem.n_rows, problem.n_groups)  # groups without rows cost time too
    parts = max(jobs * TASKS_PER_JOB, -(-size // TASK_ROWS)) if size > SMALL_ROWS else jobs
    return list(problem.split(max(1, -(-size // parts)))) or [(0, 0)]


def _map_ranges(
    work: Callable[[Problem, A, int, int], T], problem: Problem, asked: A, jobs: int, progress: Progress
) -> list[T]:
    ranges = _ranges(problem, jobs)
    parallel = Parallel(n_jobs=jobs, backend="loky", mmap_mode="r", return_as="generator")
    with _worker_errors(problem, *ranges[0]):
        outputs = parallel(delayed(work)(problem, asked, g0, g1) for g0, g1 in ranges)
    results: list[T] = []
    try:
        with _no_half_results() if jobs > 1 else nullcontext():
            for g0, g1 in ranges:
                with _worker_errors(problem, g0, g1):
                    results.append(next(outputs))
                progress(int(problem.offsets[g1] - problem.offsets[g0]))
        next(outputs, None)  # joblib clears its files when asked for more
    except BaseException as error:
        outputs.throw(error)  # stops the workers and clears their files now, not when garbage is collected
        raise
    return results


@contextmanager
def _no_half_results() -> Iterator[None]:
    """In here the death of a worker ends the others too, if loky does not see to it by itself.

    Half of a result may be in the pipe, or its lock held: loky then waits for the rest for ever.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(over,), name="gbreg-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(over: threading.Event) -> None:
    while not over.wait(LOOK_AGAIN):
        executor = reusable_executor._executor
        workers = [] if executor is None else list(executor._processes.values())
        if any(worker.exitcode not in (None, 0) for worker in workers) and not over.wait(PATIENCE):
            for worker in workers:
                kill_process_tree(worker)
            writer = executor._result_queue._writer
            last, writer._handle = type(writer)(writer._handle, readable=False), None  # loky closes it too
            last.close()  # nobody else can write: now the reader hears of the end
            return


@contextmanager
def _worker_errors(problem: Problem, g0: int, g1: int) -> Iterator[None]:
    """Name the groups that were waited for."""
    groups = f"groups {g0} to {g1 - 1} of {problem.n_groups}"
    try:
        yield
    except BrokenProcessPool as error:
        raise GbregWorkerError(
            f"a loky worker process died while {groups} were being fitted; there is no result. "
            f"The next call starts new workers. ({error})"
        ) from error
    except PicklingError as error:  # what joblib makes of an array that it could not write to a file
        raise GbregWorkerError(
            f"{groups} could not be handed to the loky workers; is the temporary folder full? Set "
            f'JOBLIB_TEMP_FOLDER to a roomier one, or use backend="numba", which needs none. ({error})'
        ) from error


def _start_afresh() -> None:
    """In a forked child: the workers, and the thread that feeds them, are the parent's."""
    global _one_at_a_time, _inherited
    _one_at_a_time = threading.Lock()
    _inherited = reusable_executor._executor  # kept, for its finaliser would reach into the parent
    reusable_executor._executor = None
    _stop_workers_at_exit.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)


@cache
def _stop_workers_at_exit() -> None:
    """A child made by multiprocessing waits for its own children: five minutes, for idle workers."""
    if multiprocessing.parent_process() is not None:
        multiprocessing.util.Finalize(None, _stop_workers, exitpriority=100)


def _stop_workers() -> None:
    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True, kill_workers=True)
