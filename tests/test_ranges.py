# SPDX-License-Identifier: MIT
"""Work that threads share: order, errors, interrupts, and what is left of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from gbreg.backends._ranges import one_pool, piece_rows, run_tasks

Helpers = Callable[[], list[threading.Thread]]


@pytest.fixture
def helpers() -> Helpers:
    """Threads of pools that were made since: an interrupted fit of another test may still be at it."""
    before = set(threading.enumerate())

    def alive() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name.startswith("gbreg_") and one not in before]

    return alive


@pytest.mark.parametrize("n_threads", [1, 2, 5, 40])
def test_results_keep_the_order_of_tasks_and_progress_adds_up(helpers, n_threads):
    heard: list[int] = []
    sizes = list(range(30))
    got = run_tasks(lambda task: task**2, range(30), sizes, n_threads, heard.append)
    assert got == [task**2 for task in range(30)]
    assert sum(heard) == sum(sizes)
    assert not helpers()


def test_threads_share_the_tasks_with_the_caller():
    """Each of four tasks waits until all have begun: they end only if four threads take them."""
    together = threading.Barrier(4, timeout=60)

    def work(task: int) -> str:
        together.wait()
        return threading.current_thread().name

    names = run_tasks(work, range(4), [1] * 4, 4, lambda rows: None)
    assert len(set(names)) == 4
    assert threading.current_thread().name in names


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("bad", [0, 1, 5])
def test_an_error_ends_the_work_and_is_the_callers(helpers, n_threads, bad):
    begun: list[int] = []

    def work(task: int) -> None:
        begun.append(task)
        if task == bad:
            raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match=f"task {bad}"):
        run_tasks(work, range(10_000), [1] * 10_000, n_threads, lambda rows: None)
    assert not helpers()
    if n_threads == 1:
        assert begun == list(range(bad + 1))


def test_an_error_of_a_helper_stops_the_caller_too():
    main, failed = threading.current_thread(), threading.Event()
    done = []

    def work(task: int) -> None:
        if threading.current_thread() is not main:
            failed.set()
            raise ValueError("of the helper")
        assert failed.wait(60)
        done.append(task)

    with pytest.raises(ValueError, match="of the helper"):
        run_tasks(work, range(1_000_000), [1] * 1_000_000, 2, lambda rows: None)
    assert len(done) < 900_000


def test_what_progress_raises_cancels_the_rest(helpers):
    gate = threading.Event()
    begun = []

    def work(task: int) -> None:
        begun.append(task)
        if threading.current_thread() is not main:
            assert gate.wait(60)  # the helper is in the middle of a task

    def stop(rows: int) -> None:
        gate.set()
        raise KeyboardInterrupt

    main = threading.current_thread()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(work, range(1_000_000), [1] * 1_000_000, 2, stop)
    assert len(begun) < 1_000_000
    assert not helpers()


def test_one_pool_has_the_same_threads_for_all_it_is_asked(helpers):
    def names() -> set[str]:
        together = threading.Barrier(3, timeout=60)

        def work(task: int) -> str:
            together.wait()
            return threading.current_thread().name

        return set(run_tasks(work, range(3), [1] * 3, 3, lambda rows: None))

    with one_pool():
        with one_pool():  # the one that is there
            first = names()
        assert len(helpers()) == 2
        assert names() == first
    assert not helpers()


def test_each_thread_has_a_pool_of_its_own():
    pools = []
    with one_pool() as mine:

        def other() -> None:
            with one_pool() as theirs:
                pools.append(theirs)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert pools[0] is not mine


def test_pieces_are_as_large_as_they_may_be_or_shared():
    assert piece_rows(10**9, 1, 1000) == 1000
    assert piece_rows(10_000, 2, 100_000, least=1) == 1250  # four for each thread
    assert piece_rows(10_000, 2, 100_000, least=5000) == 5000
    assert piece_rows(10**9, 2, 1000, least=1) == 1000
