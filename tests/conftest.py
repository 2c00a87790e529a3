# SPDX-License-Identifier: MIT
from __future__ import annotations

import mmap

import hypothesis
import numba
import pytest

from gbreg.backends import _memory

BACKENDS = ["numba", "numpy", "loky"]
COMPILED = not numba.config.DISABLE_JIT

hypothesis.settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck)
)
hypothesis.settings.load_profile("default")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each engine in turn: the conformance tests run on all of them."""
    return str(request.param)


@pytest.fixture(autouse=True)
def rows_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """See ``test_memory.py``."""
    monkeypatch.setattr(_memory, "LEAST_BYTES", 0)
    monkeypatch.setattr(_memory, "PAGE", mmap.PAGESIZE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """When kernels are not compiled, leave out what plain Python could not carry, and what has none."""
    for item in items:
        call = getattr(item, "callspec", None)
        names = {value for value in call.params.values() if isinstance(value, str)} if call else set()
        marker = item.get_closest_marker("compiled")
        if not COMPILED and marker and (not marker.args or names.intersection(marker.args)):
            item.add_marker(pytest.mark.skip(reason="needs compiled kernels at full speed"))
        if not COMPILED and "loky" in names and item.path.stem != "test_loky":
            item.add_marker(pytest.mark.skip(reason="loky has the kernels of numba, slow in plain Python"))
        if not COMPILED and "numpy" in names and item.path.stem != "test_numpy_backend":
            item.add_marker(pytest.mark.skip(reason="no kernels: the same where these are compiled"))
