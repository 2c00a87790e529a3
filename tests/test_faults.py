# SPDX-License-Identifier: MIT
"""Ctrl-C, threads, child processes, memory: what happens to a fit in the real world."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed

import gbreg
from gbreg import interrupt, regression
from gbreg.backends import _numba, _ranges, _rowops
from gbreg.backends._numpy import NumpyBackend
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Problem

CALL = {"by": "g", "linear": ["x"], "targets": ["y"]}
PROMPT = 0.5  # seconds from Ctrl-C to the caller: a promise


def make_frame(n: int = 300, size: int = 5, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return pd.DataFrame({"g": rng.permutation(n) // size, "x": x, "y": 1 + 2 * x + rng.normal(size=n)})


def fit(frame: pd.DataFrame, backend: object = "numba", n_jobs: int | None = None) -> np.ndarray:
    made = gbreg.fit(frame, **CALL, backend=backend, n_jobs=n_jobs)
    return np.column_stack([made.params, made.bse, made.rms, made.mad])


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[list[float]]:
    """Expect a KeyboardInterrupt that many seconds from now; gives how long it took to arrive.

    The kernel's timer stands in for the terminal: a thread could not send a signal on
    time while another one holds the interpreter.
    """
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    delay: list[float] = []
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with pytest.raises(KeyboardInterrupt):
            yield delay
        delay.append(time.monotonic() - start - seconds)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def helpers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gbreg-fit"]


# --------------------------------------------------------------------------------- Ctrl-C


class Engine:
    """The numpy backend, after some other work."""

    name = "engine"

    def __init__(self, work: Callable[[Callable[[int], None]], object]) -> None:
        self.work = work

    def fit(self, problem: Problem, options: FitOptions, progress: Callable[[int], None]) -> Estimates:
        self.work(progress)
        return NumpyBackend().fit(problem, options, progress)


@pytest.mark.compiled
def test_ctrl_c_does_not_wait_for_a_long_call_into_c(monkeypatch):
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", 0)
    seconds = [0.0]

    def grind(progress: Callable[[int], None]) -> None:
        start = time.monotonic()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 5_000_000)  # a second or more in which no signal is seen
        seconds[0] = time.monotonic() - start

    with ctrl_c_after(0.2) as delay:
        fit(make_frame(), Engine(grind))
    assert delay[0] < PROMPT
    for helper in helpers():
        helper.join(60)
    assert seconds[0] > 0.2 + PROMPT  # it would have been longer


def test_a_fit_that_was_left_stops_at_its_next_tick(monkeypatch):
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", 0)

    def work_for_ever(progress: Callable[[int], None]) -> None:
        while True:
            time.sleep(0.01)
            progress(1)

    with ctrl_c_after(0.2) as delay:
        fit(make_frame(), Engine(work_for_ever))
    assert delay[0] < PROMPT
    for helper in helpers():
        helper.join(20)
    assert helpers() == []
    assert np.isfinite(fit(make_frame())).all()


@pytest.mark.parametrize("rows", [0, 10**9], ids=["helper thread", "main thread"])
def test_what_goes_wrong_in_a_helper_thread_reaches_the_caller(monkeypatch, rows):
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", rows)

    def fail(progress: Callable[[int], None]) -> None:
        raise ZeroDivisionError("in the engine")

    with pytest.raises(ZeroDivisionError, match="in the engine"):
        fit(make_frame(), Engine(fail))


@pytest.mark.parametrize("rows", [0, 10**9], ids=["helper thread", "main thread"])
def test_the_helper_runs_in_the_context_of_the_caller(monkeypatch, rows):
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", rows)
    seen = []
    with np.errstate(over="call", under="print"):
        fit(make_frame(), Engine(lambda progress: seen.append(np.geterr())))
        assert seen == [np.geterr()]


def test_signals_only_reach_the_main_thread_so_others_work_in_place():
    seen = []
    thread = threading.Thread(
        target=lambda: interrupt.interruptible(
            lambda: seen.append(threading.current_thread()), interrupt.Ticker()
        )
    )
    thread.start()
    thread.join()
    assert seen == [thread]


def test_ctrl_c_while_a_lock_of_threading_is_open_is_no_other_error(monkeypatch):
    """An Event that is interrupted between two of its steps releases its lock twice: a RuntimeError."""
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", 0)
    release = threading.Condition._release_save

    def interrupted(condition: threading.Condition) -> object:
        release(condition)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Condition, "_release_save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(make_frame(), Engine(lambda progress: None))
    assert np.isfinite(fit(make_frame())).all()


SERIAL = ((_rowops, "SERIAL_ROWS"), (_numba, "SERIAL_ROWS"))


def test_fits_in_the_main_thread_need_no_other():
    assert min(getattr(module, name) for module, name in SERIAL) >= regression.INTERRUPTIBLE_ROWS
    assert _numba.SERIAL_LOSS_ROWS >= regression.INTERRUPTIBLE_PASSES_ROWS


SHARED = {
    "rows": (10_000, 5, {}),
    "jobs": (1_000, 5, {"n_jobs": 2}),
    "loss": (6_000, 50, {"loss": "huber"}),
    "errors": (80_000, 50, {"cov_type": "HC1"}),
    "long group": (100_000, 100_000, {"precision": "extended"}),
}


@pytest.mark.compiled
@pytest.mark.parametrize("shape", SHARED)
def test_no_pool_is_waited_for_in_the_main_thread(monkeypatch, shape):
    """A future that is interrupted between two steps of its lock raises RuntimeError."""
    n, size, options = SHARED[shape]
    for module, name in SERIAL:
        monkeypatch.setattr(module, name, 6_000)
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", 6_000)
    monkeypatch.setattr(_numba, "RANGE_ROWS", 64)
    monkeypatch.setattr(_numba, "LOSS_ROWS", 64)
    made = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, *arguments: object, **named: object) -> None:
            made.append(threading.current_thread().name)
            super().__init__(*arguments, **named)

    monkeypatch.setattr(_ranges, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(_ranges, "cores", lambda: 2)
    gbreg.fit(make_frame(n, size), **CALL, **options)
    assert made == ["gbreg-fit"]  # one, for all that is done


def test_a_thread_that_cannot_be_had_is_an_error_of_its_own(monkeypatch):
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", 0)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    try:
        raise KeyboardInterrupt  # handled: not what happened to the thread
    except KeyboardInterrupt:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            interrupt.interruptible(lambda: None, interrupt.Ticker())


SHAPES = {
    "many groups": (2_000_000, 5, {}),
    "one group": (2_000_000, 2_000_000, {}),
    "extended": (1_000_000, 5, {"precision": "extended"}),
    "one extended group": (500_000, 500_000, {"precision": "extended"}),
    "in the main thread": (140_000, 5, {"precision": "extended"}),
}


@pytest.mark.compiled
@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("shape", SHAPES)
def test_ctrl_c_at_any_moment_of_a_fit(engine, shape):
    n, size, options = SHAPES[shape]
    frame = make_frame(n, size)
    small = make_frame()
    want = fit(small, engine)
    fit(make_frame(100_000, 50_000), engine)  # everything is compiled
    gbreg.fit(small, **CALL, backend=engine, **options)
    start = time.monotonic()
    gbreg.fit(frame, **CALL, backend=engine, **options)
    seconds = time.monotonic() - start
    # machines are not steady: not the end
    for moment in np.random.default_rng(3).uniform(0, 0.6 * seconds, 3):
        with ctrl_c_after(max(0.005, moment)) as delay:
            while True:  # in case this fit is faster than the last
                gbreg.fit(frame, **CALL, backend=engine, **options)
        assert delay[0] < PROMPT, f"{moment:.2f} s into {seconds:.2f} s"
        np.testing.assert_array_equal(fit(small, engine), want)  # while the other may still be stopping
    for helper in helpers():
        helper.join(60)


@pytest.mark.compiled
def test_ctrl_c_while_keys_that_are_tuples_are_numbered():
    """pandas would hold the interpreter for all of it: a second or more."""
    frame = make_frame(2_000_000, 100)
    numbers = frame["g"].to_numpy()
    pairs = np.empty(len(frame), dtype=object)
    pairs[:] = list(zip((numbers % 100).tolist(), numbers.tolist(), strict=True))
    frame["g"] = pairs
    small = make_frame()
    want = fit(small)
    for moment in (0.1, 0.2, 0.4):
        with ctrl_c_after(moment) as delay:
            while True:
                fit(frame)
        assert delay[0] < PROMPT, f"after {moment} s"
        np.testing.assert_array_equal(fit(small), want)
    for helper in helpers():
        helper.join(60)


UNCAUGHT = """
import numpy as np, pandas as pd, gbreg
n = 1_000_000
frame = pd.DataFrame({"g": np.arange(n) // 5, "x": np.random.rand(n), "y": np.random.rand(n)})
call = dict(by="g", linear=["x"], targets=["y"])
gbreg.fit(frame[:1000], **call)
print("ready", flush=True)
while True:
    gbreg.fit(frame, **call)
"""


@pytest.mark.compiled
def test_a_script_ends_cleanly_with_ctrl_c():
    with run_python(UNCAUGHT) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(1.0)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Fatal" not in errors


@contextmanager
def run_python(code: str, **env: str) -> Iterator[subprocess.Popen]:
    """Run a script without a home: there is nowhere to cache compiled code, and nothing to fail for it."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(gbreg.__file__).parents[1]), "HOME": "/nonexistent", **env},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


# ------------------------------------------------------------------- threads and processes


@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_four_threads_at_once_give_the_bits_of_one(engine):
    frames = [make_frame(60, 5, seed) for seed in range(4)]
    want = [fit(frame, engine) for frame in frames]
    got: dict[int, list[np.ndarray]] = {i: [] for i in range(4)}

    def work(i: int) -> None:
        for _ in range(20):
            got[i].append(fit(frames[i], engine, n_jobs=2))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for i in range(4):
        assert len(got[i]) == 20
        for one in got[i]:
            np.testing.assert_array_equal(one, want[i])


@pytest.mark.compiled
def test_threads_of_large_fits_give_the_bits_of_one():
    frame = make_frame(400_000, 5)
    want = fit(frame, n_jobs=1)
    for got in Parallel(n_jobs=4, backend="threading")(delayed(fit)(frame, n_jobs=2) for _ in range(8)):
        np.testing.assert_array_equal(got, want)


def fit_with_little_memory(queue: multiprocessing.SimpleQueue, engine: str) -> None:
    import resource

    def used() -> int:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    outcomes = []
    frame, small = make_frame(400_000, 5), make_frame()
    want, few = fit(frame, engine, 2), fit(small, engine, 2)
    for megabytes in (0, 30, 100, 150, 165, 180, 200, 250, 340, 500):
        resource.setrlimit(resource.RLIMIT_AS, (used() + (megabytes << 20), resource.RLIM_INFINITY))
        try:
            outcomes.append("right" if np.array_equal(fit(frame, engine, 2), want) else "wrong")
        except MemoryError:
            outcomes.append("MemoryError")
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        outcomes.append("right" if np.array_equal(fit(small, engine, 2), few) else "wrong")
    queue.put(outcomes)


@pytest.mark.compiled
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of address space are Linux's")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("engine", ["numba", "numpy"])
def test_too_little_memory_is_a_memory_error_and_the_next_call_works(engine):
    """Under ``ulimit -v``: Python would wait for ever for a thread that finds no memory to begin with."""
    fit(make_frame(), engine)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=fit_with_little_memory, args=(queue, engine))
    child.start()
    child.join(60)
    child.kill()
    assert child.exitcode == 0
    outcomes = queue.get()
    assert set(outcomes[1::2]) == {"right"}
    assert outcomes[0] == outcomes[2] == "MemoryError"
    assert outcomes[-2] == "right"
    assert "wrong" not in outcomes


def fit_in_child(queue: multiprocessing.Queue, engine: str, n_jobs: int) -> None:
    queue.put(fit(make_frame(), engine, n_jobs))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("engine", ["numba", "numpy"])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_fits_in_child_processes(method, engine, monkeypatch):
    want = fit(make_frame(), engine, 2)  # the parent has used its threads
    if method != "fork":  # a new interpreter: let it not compile
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=fit_in_child, args=(queue, engine, 2))
    child.start()
    try:
        np.testing.assert_allclose(queue.get(timeout=60), want, rtol=0 if method == "fork" else 1e-13)
        child.join(60)
        assert child.exitcode == 0
    finally:
        child.kill()


FOREIGN = """
import threading, numba, numpy as np, pandas as pd, gbreg

@numba.njit(parallel=True)
def foreign(values):
    total = 0.0
    for i in numba.prange(len(values)):
        total += values[i]
    return total

n = 200_000
frame = pd.DataFrame({"g": np.arange(n) // 5, "x": np.random.rand(n), "y": np.random.rand(n)})
call = dict(by="g", linear=["x"], targets=["y"], n_jobs=2)
want = gbreg.fit(frame, **call).params
values = np.ones(100_000)
foreign(values)
assert numba.threading_layer() == "workqueue"
done, calls = threading.Event(), 0

def count():
    for _ in range(20):
        pd.testing.assert_frame_equal(gbreg.fit(frame, **call).params, want, check_exact=True)
    done.set()

thread = threading.Thread(target=count)
thread.start()
while thread.is_alive():
    assert foreign(values) == 100_000
    calls += 1
print(done.is_set() and calls > 0)
"""


@pytest.mark.compiled
def test_fits_beside_a_parallel_kernel_of_somebody_else():
    with run_python(FOREIGN, NUMBA_THREADING_LAYER="workqueue") as process:  # aborts if two are launched
        output, errors = process.communicate(timeout=100)
    assert (process.returncode, output) == (0, "True\n"), errors


# --------------------------------------------------------------------------------- memory


@pytest.mark.parametrize("rows", [0, 10**9], ids=["helper thread", "main thread"])
def test_a_result_keeps_no_frame(monkeypatch, backend, rows):
    if backend == "loky":
        pytest.skip("its estimates come from another process: nothing of the frame is there")
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", rows)
    frame = make_frame()
    values = frame["x"].to_numpy(copy=True)
    frame["x"] = pd.Series(values, copy=False)
    kept = weakref.ref(frame)
    result = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend=backend)
    del frame
    gc.collect()
    assert kept() is None
    assert len(result.params) == 60


@pytest.mark.parametrize("rows", [0, 10**9], ids=["helper thread", "main thread"])
def test_a_failed_fit_keeps_nothing_once_its_error_is_gone(monkeypatch, rows):
    monkeypatch.setattr(regression, "INTERRUPTIBLE_ROWS", rows)
    frame = make_frame()
    frame["w"] = -1.0
    kept = weakref.ref(frame)
    gc.collect()
    gc.disable()
    try:
        try:
            gbreg.fit(frame, **CALL, weights="w")
        except gbreg.WeightsError:
            pass
        del frame
        assert kept() is None  # without the garbage collector: no cycle holds gigabytes until it runs
    finally:
        gc.enable()


@pytest.mark.compiled
@pytest.mark.parametrize(("engine", "most"), [("numba", 2.5), ("numpy", 3.5)])
def test_memory_of_a_fit(engine, most):
    """Beyond the frame, as a multiple of the columns that are used."""
    frame = make_frame(1_000_000, 10)
    fit(make_frame(), engine)
    tracemalloc.start()
    gbreg.fit(frame, **CALL, backend=engine)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most * frame[["g", "x", "y"]].memory_usage(index=False).sum()
