# SPDX-License-Identifier: MIT
"""Worker processes: what they get, what they give back, and what happens when they die."""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import signal
import struct
import subprocess
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor

import gbreg
from gbreg import errors
from gbreg.backends import _loky
from gbreg.backends._numba import NumbaBackend
from gbreg.backends._ranges import cores
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Problem, frozen

ERRORS = [thing for _, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, Exception)]
OPTIONS = [{}, {"precision": "extended"}, {"mad": False}]
CALL = {"by": "g", "linear": ["x"], "targets": ["y"]}


@pytest.fixture(scope="module", autouse=True)
def compiled_fits():
    """By the numba backend, before `plain_workers`; and no workers of other files, nor for them."""
    get_reusable_executor().shutdown(wait=True)
    yield [gbreg.fit(make_frame(), **CALL, backend="numba", **case) for case in OPTIONS]
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(autouse=True)
def plain_workers(compiled_fits, monkeypatch):
    """Workers run the kernels as plain Python: after each death new ones would compile."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")


def make_frame(n: int = 400, size: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(n)
    x = rng.normal(size=n)
    return pd.DataFrame({"g": np.arange(n) // size, "x": x, "y": 1 + 2 * x + rng.normal(size=n)})


def make_problem(n: int, size: int) -> Problem:
    rng = np.random.default_rng(n)
    return Problem.from_columns(
        X=frozen(rng.normal(size=(1, n))),
        Y=frozen(rng.normal(size=(1, n))),
        w=frozen(np.ones(n)),
        offsets=frozen(np.arange(0, n + 1, size)),
    )


def no_progress(rows: int) -> None:
    pass


def fit(frame: pd.DataFrame, backend: str = "loky", n_jobs: int | None = 2) -> pd.DataFrame:
    return gbreg.fit(frame, **CALL, backend=backend, n_jobs=n_jobs).tidy()


def assert_next_call_works() -> None:
    frame = make_frame()
    pd.testing.assert_frame_equal(fit(frame), fit(frame, "numpy"), rtol=1e-10)


# What runs in the workers instead of `fit_range`; they import this file.


def die_past_the_first_range(problem: Problem, options: FitOptions, g0: int, g1: int) -> Estimates:
    if g0 > 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return _loky.fit_range(problem, options, g0, g1)


def die_in_mid_sentence(problem: Problem, options: FitOptions, g0: int, g1: int) -> Estimates:
    if g0 > 0:
        time.sleep(30)  # a sibling that keeps the pipe open

    def half(self: Connection, message: memoryview) -> None:
        self._send(struct.pack("!i", len(message)) + bytes(message[: len(message) // 2]))
        os.kill(os.getpid(), signal.SIGKILL)

    Connection._send_bytes = half
    return _loky.fit_range(problem, options, g0, g1)


def take_three_seconds(problem: Problem, options: FitOptions, g0: int, g1: int) -> Estimates:
    time.sleep(3)
    return _loky.fit_range(problem, options, g0, g1)


def insist_on_memory_maps(problem: Problem, options: FitOptions, g0: int, g1: int) -> Estimates:
    for values in (problem.X, problem.Y, problem.w):
        assert isinstance(values, np.memmap)
        assert not values.flags.writeable
    few = range(g0, min(g0 + 3, g1))
    return Estimates.stack_groups([fit_alone(problem, options, g) for g in few])


def fit_alone(problem: Problem, options: FitOptions, g: int) -> Estimates:
    return NumbaBackend(n_jobs=1).fit(problem.slice(g, g + 1), options, no_progress)


def raise_column_error(message: str) -> None:
    raise errors.ColumnError(message)


def send_back(error: Exception) -> tuple[Exception, str]:
    return error, str(error)


def report_cores() -> int:
    return cores()


# ----------------------------------------------------------------------------------- values


@pytest.mark.compiled
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("case", OPTIONS, ids=str)
def test_values_are_those_of_the_numba_backend(n_jobs, case, compiled_fits):
    got = gbreg.fit(make_frame(), **CALL, backend="loky", n_jobs=n_jobs, **case)
    want = compiled_fits[OPTIONS.index(case)]
    # plain-Python kernels round logarithms with another library: the same bits, but for that
    pd.testing.assert_frame_equal(got.tidy(), want.tidy(), rtol=1e-13)
    pd.testing.assert_frame_equal(got.glance(), want.glance(), rtol=1e-12, atol=1e-12)


@pytest.mark.compiled
def test_bits_are_those_of_the_numba_backend_when_compiled(monkeypatch):
    get_reusable_executor().shutdown(wait=True)
    monkeypatch.delenv("NUMBA_DISABLE_JIT")
    problem = make_problem(300_000, 5)
    options = FitOptions(min_nobs=2)
    got = _loky.LokyBackend(n_jobs=2).fit(problem, options, no_progress)
    want = NumbaBackend(n_jobs=1).fit(problem, options, no_progress)
    get_reusable_executor().shutdown(wait=True)
    for name in Estimates.__slots__:
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)


def test_large_arrays_arrive_as_read_only_memory_maps(monkeypatch):
    problem = make_problem(200_000, 50_000)
    small = make_problem(200_000, 50_000)
    monkeypatch.setattr(_loky, "fit_range", insist_on_memory_maps)
    options = FitOptions(min_nobs=200_000)  # too few rows everywhere: only the way there is the point
    got = _loky.LokyBackend(n_jobs=2).fit(problem, options, no_progress)
    np.testing.assert_array_equal(got.nobs[:, 0], np.diff(small.offsets))
    np.testing.assert_array_equal(problem.X, small.X)


def test_progress_adds_up_and_ranges_are_few_even_for_groups_without_rows():
    seen: list[int] = []
    _loky.LokyBackend(n_jobs=2).fit(make_problem(500, 5), FitOptions(), seen.append)
    assert sum(seen) == 500
    empty = Problem.from_columns(
        *(frozen(np.zeros((1, 0))),) * 2, frozen(np.zeros(0)), frozen(np.zeros(1_000_001, np.int64))
    )
    ranges = _loky._ranges(empty, 2)
    assert len(ranges) <= 16
    assert [ranges[0][0], ranges[-1][1]] == [0, 1_000_000]


def test_a_fit_of_no_groups():
    frame = make_frame().iloc[:0]
    assert len(gbreg.fit(frame, **CALL, backend="loky", n_jobs=2)) == 0


# ----------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_survive_pickling(kind):
    error = kind("column 'x' is no column")
    got = pickle.loads(pickle.dumps(error))
    assert type(got) is kind
    assert str(got) == str(error) == "column 'x' is no column"


def test_errors_survive_the_way_to_a_worker_and_back():
    sent = [kind(f"a message of {kind.__name__}") for kind in ERRORS]
    came = Parallel(n_jobs=2, backend="loky")(delayed(send_back)(error) for error in sent)
    for error, (got, text) in zip(sent, came, strict=True):
        assert (type(got), str(got), text) == (type(error), str(error), str(error))
    with pytest.raises(gbreg.ColumnError) as caught:
        Parallel(n_jobs=2, backend="loky")(delayed(raise_column_error)("no column 'x'") for _ in range(2))
    assert str(caught.value) == "no column 'x'"


@pytest.mark.compiled
@pytest.mark.parametrize("how", [die_past_the_first_range, die_in_mid_sentence])
def test_a_killed_worker_is_an_error_with_its_groups_and_the_next_call_works(monkeypatch, how):
    frame = make_frame()
    start = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(_loky, "fit_range", how)
        with pytest.raises(gbreg.GbregWorkerError, match=r"groups (0 to 39|40 to 79) of 80.*no result"):
            fit(frame)
    assert time.monotonic() - start < 25  # it would be for ever
    assert_next_call_works()


@pytest.mark.compiled
def test_a_worker_killed_between_calls_leaves_no_hang_and_no_wrong_number():
    frame = make_frame()
    fit(frame)
    for worker in multiprocessing.active_children():
        if "Loky" in worker.name:
            os.kill(worker.pid, signal.SIGKILL)
    try:
        pd.testing.assert_frame_equal(fit(frame), fit(frame, "numpy"), rtol=1e-10)
    except gbreg.GbregWorkerError:
        pass
    assert_next_call_works()


@pytest.mark.compiled
def test_ctrl_c_ends_a_fit_and_the_next_call_works(monkeypatch):
    frame = make_frame()
    fit(frame)  # workers are up
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(_loky, "fit_range", take_three_seconds)
            start = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.5)
            with pytest.raises(KeyboardInterrupt):
                fit(frame)
            assert time.monotonic() - start < 2.5  # without, after 3 s
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert_next_call_works()  # while the fit that was left still ends its range


@pytest.mark.compiled
def test_an_error_of_the_progress_bar_reaches_the_caller_and_stops_the_fit():
    def broken_pipe(rows: int) -> None:
        raise BrokenPipeError("stderr is gone")

    with pytest.raises(BrokenPipeError, match="stderr is gone"):  # and not: the temporary folder is full
        _loky.LokyBackend(n_jobs=2).fit(make_problem(500, 5), FitOptions(), broken_pipe)
    assert_next_call_works()


# -------------------------------------------------------------------------- temporary files


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "gbreg-test", str(tmp_path)]
    try:
        done = subprocess.run(mount, capture_output=True, timeout=20).returncode == 0
    except FileNotFoundError:
        done = False
    if not done:
        pytest.skip("may not mount a file system here")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True, timeout=20)


@pytest.mark.compiled
def test_a_full_temporary_folder_is_named_and_nothing_stays_there(tiny_disk, monkeypatch):
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tiny_disk))
    with pytest.raises(gbreg.GbregWorkerError, match=r"temporary folder full\? Set JOBLIB_TEMP_FOLDER"):
        fit(make_frame(200_000, 1000))
    assert_next_call_works()
    assert files_in(tiny_disk) == []


@pytest.mark.compiled
def test_a_temporary_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path / "file"))
    with pytest.raises(gbreg.GbregWorkerError, match="JOBLIB_TEMP_FOLDER"):
        fit(make_frame(200_000, 1000))
    monkeypatch.delenv("JOBLIB_TEMP_FOLDER")
    assert_next_call_works()


@pytest.mark.compiled
def test_temporary_files_go_when_the_fit_is_over(tmp_path, monkeypatch):
    _loky._stop_workers()  # running ones would go on using the folder they were started with
    monkeypatch.setenv("JOBLIB_TEMP_FOLDER", str(tmp_path))
    problem = make_problem(200_000, 50_000)
    seen: list[Path] = []
    over = threading.Event()

    def watch():  # from beside: the workers may be done before the first tick
        while not over.wait(0.001):
            seen.extend(files_in(tmp_path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _loky.LokyBackend(n_jobs=2).fit(problem, FitOptions(min_nobs=200_000), lambda rows: None)
    over.set()
    watcher.join()
    assert seen  # they were there
    wait_until(lambda: files_in(tmp_path) == [])


def files_in(folder: Path) -> list[Path]:
    """All files; os.walk does not mind that folders go while it looks."""
    return [Path(inside, name) for inside, _, names in os.walk(folder) for name in names]


def wait_until(true, seconds: float = 20.0) -> None:
    """joblib deletes in another process."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


# --------------------------------------------------------------------------------- nesting


@pytest.mark.compiled
def test_a_fit_in_a_worker_takes_its_share_of_the_cores():
    got = Parallel(n_jobs=2, backend="loky")(delayed(report_cores)() for _ in range(2))
    assert got == [max(1, joblib.cpu_count() // 2)] * 2
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(report_cores) == 1


def test_fits_in_workers():
    frame = make_frame()
    want = fit(frame, "numpy")
    for backend in ("numba", "loky"):
        outer = Parallel(n_jobs=2, backend="loky")
        for got in outer(delayed(fit)(frame, backend, None) for _ in range(2)):
            pd.testing.assert_frame_equal(got, want, rtol=1e-10)


def test_fits_of_several_threads_at_once():
    frame = make_frame()
    want = fit(frame)
    got: list[pd.DataFrame] = []

    def work(jobs: int) -> None:
        got.extend(fit(frame, n_jobs=jobs) for _ in range(4))

    threads = [threading.Thread(target=work, args=(jobs,)) for jobs in (2, 2, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(got) == 16
    for one in got:
        pd.testing.assert_frame_equal(one, want, rtol=1e-13)


def fit_in_child(queue: multiprocessing.Queue) -> None:
    queue.put(fit(make_frame())["estimate"].sum())


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())))
@pytest.mark.compiled
def test_fits_in_children_of_a_process_with_workers(method):
    want = fit(make_frame())["estimate"].sum()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=fit_in_child, args=(queue,))
    child.start()
    try:
        assert queue.get(timeout=60) == pytest.approx(want, rel=1e-12)
        child.join(60)  # it would wait 300 s for its idle workers
        assert child.exitcode == 0
    finally:
        child.kill()
    assert_next_call_works()  # the child did no harm to the workers of its parent
