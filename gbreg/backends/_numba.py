# SPDX-License-Identifier: MIT
"""Compiled kernels over group ranges, run by a pool of threads."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from gbreg import extended_kernels, fast_kernels, kernels, quantile_kernels, reweight_kernels
from gbreg.backends import Progress, check_jobs
from gbreg.backends._long import extend_long_group, fit_long_group
from gbreg.backends._packed import (
    LONG_EXTENDED_ROWS,
    LONG_ROWS,
    ExtendedScratch,
    FastScratch,
    QuantileScratch,
    ReweightScratch,
    Run,
    as_token,
    quiet,
)
from gbreg.backends._ranges import map_ranges, piece_rows, run_tasks, threads_for
from gbreg.backends._rowops import CompiledRows
from gbreg.estimates import Estimates
from gbreg.minimum import START_ROWS, Minimum, draws
from gbreg.problem import FitOptions, IntArray, Loss, Problem
from gbreg.rowops import Unsorted

RANGE_ROWS = 1 << 16  # rows between two chances to stop, if all are sorted
LEAST_RANGE_ROWS = 1 << 12  # fewer would be done before another thread could help
EXTENDED_ROWS = 1 << 13  # the same on the extended path, which is slower
SERIAL_ROWS = 150_000  # below this a second thread costs more than it brings; with 2 cores, up to 300,000
LOSS_ROWS = 1 << 13  # rows between two chances to stop of fits that take many passes
SERIAL_LOSS_ROWS = 6_000  # of fits that run in the main thread, none has as many: see `gbreg.regression`


def _groups_with(marks: Any) -> IntArray:
    """Rows of marks (g, m) where any is not 0, which are few: ``any(axis=1)`` takes twenty times as long."""
    found: IntArray = np.unique(np.flatnonzero(marks != 0) // marks.shape[1])
    return found


_kept = threading.local()


def _scratch(*sizes: int) -> FastScratch:
    """That of this thread's last fit, if of the same sizes: the arrays take a twentieth of a small fit."""
    last = getattr(_kept, "last", None)
    if last is None or last[0] != sizes:
        last = _kept.last = (sizes, FastScratch.make(*sizes))
    return last[1]


class _Own(threading.local):
    """What each thread scribbles on: memory that is made anew for every piece of work costs more than it.

    `threading.local` calls ``__init__`` again, with the same arguments, in each thread that looks.
    """

    def __init__(self, room: int, k: int, p: int, t: int, longest: int) -> None:
        self.rows = np.empty((room, k + t + 1))
        self.rows_read = self.rows.view()
        self.rows_read.flags.writeable = False  # the type the kernels are compiled for
        self.scratch = _scratch(k, p, t, longest)


class NumbaBackend:
    """The default engine: serial ``nogil`` kernels over group ranges, in threads.

    Parameters
    ----------
    n_jobs : int, optional
        Threads; -1 for all cores this process may use; None for one thread on small
        problems and all cores on others. The numbers are the same to the last bit.
    """

    name = "numba"
    reads_once = True

    def __init__(self, n_jobs: int | None = None) -> None:
        check_jobs(n_jobs)
        self.n_jobs = n_jobs
        self.rows = CompiledRows(n_jobs)

    def threads(self, n_rows: int) -> int:
        """How many a problem of that size gets, other than in `fit`: see `Backend`."""
        return threads_for(self.n_jobs, n_rows, SERIAL_LOSS_ROWS)

    def fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates:
        with quiet():
            return self._fit(problem, options, progress)

    def _fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates:
        run = Run.start(problem, options, threads_for(self.n_jobs, problem.n_rows, SERIAL_ROWS), progress)
        k, t = problem.n_predictors, problem.n_targets
        p = k + options.intercept
        token = as_token(k)
        longest = int(run.sizes.max(initial=0)) if options.mad else 0
        rest: Unsorted | None = problem.unsorted
        rows = piece_rows(problem.n_rows, run.threads, RANGE_ROWS, LEAST_RANGE_ROWS)
        ranges = problem.split(rows) if rest is None else pairwise(rest.edges.tolist())
        own = _Own(0 if rest is None else rest.longest, k, p, t, min(longest, LONG_ROWS))

        def fast(g0: int, g1: int) -> None:
            lo, hi = int(run.offsets[g0]), int(run.offsets[g1])
            Z, row0 = run.Z, 0
            if rest is not None:
                rest.sort(g0, g1, own.rows)
                Z, row0 = own.rows_read, lo
            results = (run.P, run.T, run.status, run.flags, run.rank, run.todo)
            where: list[Any] = [Z, run.offsets, run.origin, row0, g0, g1]
            arguments = [*where, token, run.settings, *own.scratch, *results]
            with quiet():
                fast_kernels.fit_groups(*arguments)
            if run.todo[g0:g1].any():
                if rest is not None:
                    rest.put(g0, g1, own.rows)
            elif problem.spent is not None:
                problem.spent(lo, hi)

        map_ranges(fast, problem, ranges, run.threads, progress)
        if run.todo.any():
            todo = _groups_with(run.todo)
            for g in todo[run.todo[todo, 0] == kernels.LONG]:
                fit_long_group(run, int(g), token)
            self._extend(run, todo[run.todo[todo].any(axis=1)], min(longest, LONG_EXTENDED_ROWS))
        return run.estimates()

    @staticmethod
    def _extend(run: Run, todo: IntArray, room: int) -> None:
        """The extended path of the groups that asked for it, long ones by themselves."""
        long = run.sizes[todo] > LONG_EXTENDED_ROWS
        for g in todo[long]:
            extend_long_group(run, int(g))
        groups = todo[~long]
        if groups.size == 0:
            return
        done = np.cumsum(run.sizes[groups])
        cuts = np.searchsorted(done, np.arange(EXTENDED_ROWS, done[-1], EXTENDED_ROWS))
        tasks = [part for part in np.split(groups, np.unique(cuts)) if part.size]

        def extended(part: IntArray) -> None:
            results = (run.P, run.T, run.status, run.flags, run.rank, run.dropped, run.todo)
            scratch = ExtendedScratch.make(run.n_predictors, run.n_targets, room)
            arguments: list[Any] = [*run.data, part, run.settings, *scratch, *results]
            with quiet():
                extended_kernels.extend_groups(*arguments)

        run_tasks(extended, tasks, [0] * len(tasks), run.threads, run.progress)

    def minimize(self, problem: Problem, loss: Loss, progress: Progress, near: bool) -> Minimum:
        """Minima of another loss than squares, by this thread: see `gbreg.minimum.Minimize`."""
        found = Minimum.empty(problem)
        p, sizes = problem.n_predictors, np.diff(problem.offsets)
        trials = draws(loss, p, near)

        def some(g0: int, g1: int) -> None:
            longest = int(sizes[g0:g1].max(initial=0))
            if loss.name == "absolute":
                scratch: NamedTuple = QuantileScratch.make(p, longest)
                asked: list[Any] = [loss.quantile, loss.maxiter]
                run: Any = quantile_kernels.quantile_groups
            else:
                scratch = ReweightScratch.make(p, longest)
                which = reweight_kernels.HUBER if loss.name == "huber" else reweight_kernels.BISQUARE
                asked = [which, loss.tuning, trials, START_ROWS * p, loss.maxiter]
                run = reweight_kernels.reweight_groups
            run(problem.Z, problem.offsets, g0, g1, p, *asked, *scratch, *found)

        with quiet():
            map_ranges(some, problem, problem.split(LOSS_ROWS), 1, lambda rows: progress(0))
        return found
