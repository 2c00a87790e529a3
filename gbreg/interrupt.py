# SPDX-License-Identifier: MIT
"""Ctrl-C and progress: a fit can be watched and left at any time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

import numpy as np

try:
    import resource
except ModuleNotFoundError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

from gbreg.errors import MissingExtraError

THREAD_BYTES = 160 << 20  # of address space: a stack of 8 MB and what glibc reserves for malloc

T = TypeVar("T")


class Cancelled(BaseException):
    """Unwinds a fit whose caller has left; never seen by users."""


class Ticker:
    """The backends' progress callback: advances a bar, and stops a fit nobody waits for."""

    def __init__(
        self,
        advance: Callable[[int], object] | None = None,
        expect: Callable[[int], object] | None = None,
    ) -> None:
        self._advance = advance
        self._expect = expect
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        self._cancelled.set()

    def expect(self, rows: int) -> None:
        """Announce more rows than the frame has: they will be passed again."""
        if self._expect is not None:
            self._expect(rows)

    def __call__(self, rows: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        if self._advance is not None and rows:
            self._advance(rows)


@contextmanager
def ticker(show: bool, n_rows: int) -> Iterator[Ticker]:
    """A `Ticker`, with a tqdm bar over ``n_rows`` if asked for."""
    if not show:
        yield Ticker()
        return
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError as error:
        raise MissingExtraError("progress=True needs tqdm: pip install tqdm") from error
    with tqdm(total=n_rows, unit="row", unit_scale=True, desc="gbreg") as bar:

        def expect(rows: int) -> None:
            bar.total += rows
            bar.refresh()

        yield Ticker(bar.update, expect)


def interruptible(work: Callable[[], T], tick: Ticker) -> T:
    """``work()`` in a helper thread while this one waits for it, or for Ctrl-C.

    Sorting and factorising millions of keys are single calls that a signal cannot
    enter. On an interrupt the helper is told to stop at its next tick, and what it
    holds is dropped; the caller gets its prompt back at once. Signals only reach the
    main thread, so in any other ``work`` runs in place.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    outcome: list[T] = []
    failure: list[BaseException] = []
    # A bare lock: an interrupted Thread.join() takes a running thread for stopped (Python 3.11), and
    # an Event's own locks may trip over what a signal raises, and raise a RuntimeError instead.
    running = threading.Lock()
    running.acquire()

    def run() -> None:
        try:
            outcome.append(work())
        except Cancelled:
            pass
        except BaseException as error:  # handed to the caller below
            failure.append(error)
        finally:
            running.release()

    # In the caller's context: its numpy.errstate holds in the helper too.
    helper = threading.Thread(target=copy_context().run, args=(run,), name="gbreg-fit", daemon=True)
    try:
        _start(helper)
        while not running.acquire(timeout=0.1):  # no longer: on Windows a signal cannot end the waiting
            pass
        helper.join()
    except BaseException:
        tick.cancel()
        raise
    if failure:
        raise failure.pop()  # out of the list, or error and frames would hold each other, and the data
    return outcome.pop()


def _start(thread: threading.Thread) -> None:
    """Start a thread: it waits on an Event, so what a signal raises has to be told from its RuntimeError."""
    before = sys.exception()
    need_room(1)
    try:
        thread.start()
    except RuntimeError as error:
        raised = error.__context__
        if raised is None or raised is before:  # no thread could be had
            raise
        raise raised from None


def need_room(threads: int) -> None:
    """MemoryError where a limit of address space (``ulimit -v``) leaves too little for so many new threads.

    Python waits for ever for a thread that finds no memory for its very first call (seen with 3.11).
    """
    if resource is not None and resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        np.empty(threads * THREAD_BYTES, np.uint8)
