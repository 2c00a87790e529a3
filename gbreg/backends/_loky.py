# SPDX-License-Identifier: MIT
"""joblib's loky processes over group ranges; the kernels of the numba backend inside."""

from __future__ import annotations

from pickle import PicklingError

from gbreg.backends import Progress
from gbreg.backends._numba import NumbaBackend
from gbreg.backends._ranges import cores
from gbreg.errors import GbregWorkerError
from gbreg.problem import Estimates, FitOptions, Problem

TASKS_PER_JOB = 4  # on large problems, so that uneven ranges even out
SMALL_ROWS = 100_000  # below this one task per job: a task costs a millisecond


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
        self.n_jobs = n_jobs

    def fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates:
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import BrokenProcessPool

        jobs = self.n_jobs if self.n_jobs is not None and self.n_jobs > 0 else cores()
        parts = jobs * (TASKS_PER_JOB if problem.n_rows > SMALL_ROWS else 1)
        ranges = list(problem.split(max(1, -(-problem.n_rows // parts)))) or [(0, 0)]
        parallel = Parallel(n_jobs=jobs, backend="loky", mmap_mode="r", return_as="generator")
        results: list[Estimates] = []
        try:
            for part in parallel(delayed(fit_range)(problem, options, g0, g1) for g0, g1 in ranges):
                g0, g1 = ranges[len(results)]
                results.append(part)
                progress(int(problem.offsets[g1] - problem.offsets[g0]))
        except BrokenProcessPool as error:
            g0, g1 = ranges[len(results)]
            raise GbregWorkerError(
                f"a loky worker process died while groups {g0} to {g1 - 1} of {problem.n_groups} were "
                f"being fitted; there is no result. The next call starts new workers. ({error})"
            ) from error
        except PicklingError as error:
            raise GbregWorkerError(
                f"the arrays of groups 0 to {problem.n_groups - 1} could not be handed to the loky workers; "
                "is the temporary folder full? Set JOBLIB_TEMP_FOLDER to a roomier one, or use "
                'backend="numba", which needs none.'
            ) from error
        return Estimates.stack_groups(results)


def fit_range(problem: Problem, options: FitOptions, g0: int, g1: int) -> Estimates:
    """Runs in a worker: groups g0:g1 with one thread."""
    return NumbaBackend(n_jobs=1).fit(problem.slice(g0, g1), options, _no_progress)


def _no_progress(rows: int) -> None:
    """The parent counts whole ranges."""
