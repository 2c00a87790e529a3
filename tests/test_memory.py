# SPDX-License-Identifier: MIT
"""Memory of rows that goes back to the system during a fit.

In all tests (see ``conftest.py``) every problem gives its rows back, in pages of 4 kB: whoever reads them
too late reads zeros.
"""

from __future__ import annotations

import mmap
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg.backends import _memory, _numba, _rowops, get_backend
from gbreg.backends._memory import rows_memory

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the system keeps memory")


@on_linux
def test_a_page_goes_when_all_its_rows_were_read() -> None:
    n, width = 5_000, 3
    Z, spent = rows_memory(n, width)
    assert spent is not None
    Z[:] = 1.0 + np.arange(n * width).reshape(n, width)
    want = Z.copy().ravel()
    told = np.zeros(n * width * 8, dtype=np.bool_)
    edges = np.append(np.arange(0, n, 171), n)
    for i in np.random.default_rng(0).permutation(len(edges) - 1):
        lo, hi = int(edges[i]), int(edges[i + 1])
        spent(lo, hi)
        told[lo * width * 8 : hi * width * 8] = True
        for start in range(0, told.size, _memory.PAGE):
            page = slice(start // 8, min(start + _memory.PAGE, told.size) // 8)
            gone = told[start : start + _memory.PAGE].all()
            np.testing.assert_array_equal(Z.ravel()[page], 0.0 if gone else want[page])
    assert told.all()
    assert not Z.any()


def test_little_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_memory, "LEAST_BYTES", 1_000)
    assert rows_memory(5, 20)[1] is None
    assert rows_memory(0, 3)[0].shape == (0, 3)
    monkeypatch.setattr(_memory, "LEAST_BYTES", 0)
    assert rows_memory(0, 3)[0].shape == (0, 3)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mad": {"mad": True},
    "extended": {"precision": "extended"},
    "clip": {"clip": 3.0},
    "HC3": {"cov_type": "HC3"},
    "cluster": {"cov_type": "cluster", "groups": "c"},
    "huber": {"loss": "huber"},
    "bisquare": {"loss": "bisquare"},
    "absolute": {"loss": "absolute"},
    "ridge": {"ridge": 1.0},
    "bounds": {"bounds": (0.0, 0.5)},
    "frequency": {"weights": "n", "weights_type": "frequency"},
    "fallback": {"by": ["c", "g"], "fallback": "parent", "min_nobs": 8},
}


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore::gbreg.GbregWarning")
@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_results_are_those_of_rows_that_are_kept(
    options: dict[str, Any], n_jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_numba, "RANGE_ROWS", 100)
    monkeypatch.setattr(_numba, "LEAST_RANGE_ROWS", 100)
    rng = np.random.default_rng(3)
    g = rng.integers(0, 150, 1_500)
    x = rng.normal(size=(2, len(g)))
    x[1] = np.where(g % 40 == 7, x[0] * (1 + 1e-9 * x[1]), x[1])  # some groups need the extended path
    y = 1 + 0.3 * x[0] + 0.7 * x[1] + rng.standard_t(3, len(g))
    frame = pd.DataFrame({"g": g, "c": g % 3, "a": x[0], "b": x[1], "y": y, "w": rng.uniform(0.5, 2, len(g))})
    frame["n"] = rng.integers(1, 4, len(g))
    asked: dict[str, Any] = {"by": "g", "linear": ["a", "b"], "targets": ["y"], "weights": "w", **options}

    def numbers() -> list[np.ndarray]:
        fit = gbreg.fit(frame, n_jobs=n_jobs, **asked)
        errors = [] if "ridge" in options or "bounds" in options else [fit.bse]
        made = [*errors, fit.params, fit.rms, fit.nobs, fit.status.astype(str), fit.predict(frame)]
        return [one.to_numpy() for one in made]

    given_back = numbers()
    monkeypatch.setattr(_memory, "LEAST_BYTES", 1 << 60)
    kept = numbers()
    for got, want in zip(given_back, kept, strict=True):
        np.testing.assert_array_equal(got, want)


class Refusing(mmap.mmap):
    """Locked memory does not go back."""

    def madvise(self, *args: int) -> None:
        raise OSError(22, "Invalid argument")


def refuse(*args: Any, **kwargs: Any) -> None:
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize("kind", [Refusing, refuse])
def test_memory_that_the_system_keeps_or_has_not_is_no_error(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_memory.mmap, "mmap", kind)
    Z, spent = rows_memory(1_000, 3)
    Z[:] = 2.0
    if spent is not None:
        spent(0, 1_000)
    assert (spent is None) == (kind is refuse or sys.platform != "linux")
    assert (Z == 2.0).all()


class Again(_numba.NumbaBackend):
    """Reads its rows once more."""

    def fit(self, problem: Any, options: Any, progress: Any) -> Any:
        super().fit(problem, options, progress)
        return super().fit(problem, options, progress)


class Around:
    """Leaves rows and fits to another."""

    name = "around"

    def __init__(self) -> None:
        self.inner = _numba.NumbaBackend(2)
        self.rows = self.inner.rows

    def fit(self, problem: Any, options: Any, progress: Any) -> Any:
        self.inner.fit(problem, options, progress)
        return self.inner.fit(problem, options, progress)


@pytest.mark.parametrize("engine", [Again, Around])
def test_backends_of_others_may_read_rows_as_often_as_they_like(engine: Any) -> None:
    frame = pd.DataFrame(np.random.default_rng(5).normal(size=(3_000, 3)), columns=["x", "y", "z"])
    frame["g"] = np.arange(len(frame)) % 300
    asked: dict[str, Any] = {"by": "g", "linear": ["x", "z"], "targets": ["y"]}
    got, want = gbreg.fit(frame, backend=engine(), **asked), gbreg.fit(frame, **asked)
    pd.testing.assert_frame_equal(got.params, want.params, check_exact=True)


def test_rows_for_processes_are_kept() -> None:
    codes, offsets = np.zeros(10, dtype=np.int32), np.array([0, 10])
    packed = get_backend("loky").rows.pack([np.arange(10.0)], codes, offsets)  # type: ignore[attr-defined]
    assert packed.spent is None
    assert packed.Z.base is None


@on_linux
def test_rows_are_told_once_and_only_where_nothing_is_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_numba, "RANGE_ROWS", 40)
    told: list[tuple[int, int]] = []

    def make(n: int, width: int) -> tuple[np.ndarray, Any]:
        return rows_memory(n, width)[0], lambda lo, hi: told.append((lo, hi))

    monkeypatch.setattr(_rowops, "rows_memory", make)
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(360, 3)), columns=["x", "z", "y"])
    frame["g"] = np.repeat(np.arange(60), 6)
    frame.loc[frame["g"] == 33, "z"] = frame["x"] * (1 + 1e-9 * frame["z"])
    fit = gbreg.fit(frame, by="g", linear=["x", "z"], targets=["y"], n_jobs=1)
    assert fit.flags["y", "extended"].to_numpy().nonzero()[0].tolist() == [33]
    rows = np.concatenate([np.arange(lo, hi) for lo, hi in told])
    assert len(rows) == len(set(rows.tolist()))
    missing = sorted(set(range(360)) - set(rows.tolist()))
    assert 33 * 6 in missing
    assert len(missing) <= 40 + 6
    told.clear()
    gbreg.fit(frame, by="g", linear=["x", "z"], targets=["y"], n_jobs=1, cov_type="HC1")
    assert told == []
