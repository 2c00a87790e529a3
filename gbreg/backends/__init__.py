# SPDX-License-Identifier: MIT
"""Interchangeable engines: `Problem` in, `Estimates` out.

A backend is looked up by name and imported on first use. Nothing falls back: an
unknown name or a missing dependency raises and says what to do.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from numbers import Integral
from typing import Protocol, runtime_checkable

from gbreg.errors import MissingExtraError, SpecError
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Problem
from gbreg.suggest import nearest

# Called with the number of rows finished since the last call, between pieces of
# work. May raise, which abandons the fit: that is how a fit is cancelled.
Progress = Callable[[int], None]


@runtime_checkable
class Backend(Protocol):
    """What `gbreg.fit` needs of an engine.

    All backends return the same statuses and flags and agree to 1e-10 relative on
    well-posed problems. They never raise for what the numbers hold. One may also have ``rows``,
    the `gbreg.rowops.RowOps` that number and pack its rows, else numpy does; ``minimize``, as
    `gbreg.minimum.Minimize`, else `gbreg.minimizers` is asked; and ``threads(n_rows)``, how many threads
    may share what is done beside `fit`, else there is one: these call ``minimize`` at the same time.
    A class with ``reads_once = True`` promises that its `fit` reads rows once and tells ``problem.spent``,
    so that their memory may go at once, and that it finishes the sort if they are ``problem.unsorted``.
    Classes do not inherit it, as they may read rows again.
    """

    name: str

    def fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates: ...


_WHERE = {
    "numba": ("gbreg.backends._numba", "NumbaBackend"),
    "numpy": ("gbreg.backends._numpy", "NumpyBackend"),
    "loky": ("gbreg.backends._loky", "LokyBackend"),
}


def check_jobs(n_jobs: int | None) -> None:
    """Raise SpecError if that is no number of jobs."""
    number = isinstance(n_jobs, Integral) and not isinstance(n_jobs, bool)
    if n_jobs is not None and (not number or (n_jobs < 1 and n_jobs != -1)):
        raise SpecError(f"n_jobs must be a positive integer, -1 (all cores) or None, got {n_jobs!r}")


def get_backend(backend: str | Backend, n_jobs: int | None = None) -> Backend:
    """The backend of that name with that many jobs, or the instance itself.

    Raises
    ------
    SpecError
        Unknown name, ``n_jobs`` that is not a positive integer or -1, or ``n_jobs``
        beside an instance (which has its own).
    MissingExtraError
        The backend's package is not installed.
    """
    check_jobs(n_jobs)
    if not isinstance(backend, str):
        if isinstance(backend, type) or not isinstance(backend, Backend):
            raise SpecError(f"backend must be one of {sorted(_WHERE)} or a Backend instance, got {backend!r}")
        if n_jobs is not None:
            raise SpecError("n_jobs= and a Backend instance were both given; give n_jobs to the instance")
        return backend
    if backend not in _WHERE:
        raise SpecError(
            f"unknown backend {backend!r}; choose from {sorted(_WHERE)}{nearest(backend, _WHERE)}"
        )
    module, name = _WHERE[backend]
    try:
        factory = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("gbreg"):
            raise
        raise MissingExtraError(
            f"backend={backend!r} needs {error.name}, which is not installed: pip install {error.name}"
        ) from error
    made: Backend = factory(n_jobs=None if n_jobs is None else int(n_jobs))
    return made
