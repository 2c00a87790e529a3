# SPDX-License-Identifier: MIT
"""Compiled kernels kept on disk between processes, or not, if anything speaks against it.

numba's own cache fails calls when a file is truncated, the disk is full or the folder cannot be
written, and runs whatever bytes it finds. Here any trouble means to compile instead, and to say so
once; the bytes are checked; and the key has the version and the source of the kernels, so that
code of another version is never used.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from numba import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache

from gbreg.errors import GbregWarning

SOURCES = (
    *("_jit.py", "_lanes.py", "problem.py"),
    *("row_kernels.py", "kernels.py", "median_kernels.py", "sum_kernels.py", "fast_kernels.py"),
    *("extended_kernels.py", "block_kernels.py"),
    *("loss_kernels.py", "reweight_kernels.py", "quantile_kernels.py"),
)

_said: list[bool] = []  # whether the warning was given


class DamagedCacheError(Exception):
    """A file of the cache is not what was written."""


def keep(dispatcher: Any) -> None:
    """Let a compiled function be loaded from disk, and saved there, where there is a place for it."""
    try:
        dispatcher._cache = _Cache(dispatcher.py_func)
    except Exception as error:  # no place that can be written, or another numba: nothing is kept
        if not isinstance(error, RuntimeError):
            _say(error)


class _Checked(CompileResultCacheImpl):  # type: ignore[misc]
    """Compiled code beside its checksum, in files of this source's own.

    Those of another may name classes that are no longer there, which numba cannot read past.
    """

    def get_filename_base(self, fullname: str, abiflags: str) -> str:
        return f"{super().get_filename_base(fullname, abiflags)}.{_stamp()[1]}"

    def reduce(self, cres: Any) -> tuple[str, bytes]:
        data = pickle.dumps(super().reduce(cres))
        return hashlib.sha256(data).hexdigest(), data

    def rebuild(self, target_context: Any, payload: tuple[str, bytes]) -> Any:
        checksum, data = payload
        if hashlib.sha256(data).hexdigest() != checksum:
            raise DamagedCacheError("compiled code on disk is damaged")
        return super().rebuild(target_context, pickle.loads(data))


class _Cache(FunctionCache):  # type: ignore[misc]
    """`FunctionCache` that never raises."""

    _impl_class = _Checked

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            self._give_up(error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._give_up(error)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), _stamp())

    def _give_up(self, error: Exception) -> None:
        self.disable()
        _say(error)


@cache
def _stamp() -> tuple[object, ...]:
    """What the code depends on beyond the function itself: its neighbours and how it is compiled."""
    import gbreg

    folder = Path(__file__).parent
    sources = [(folder / name).read_bytes() for name in SOURCES]
    digest = hashlib.sha256(b"".join(sources)).hexdigest()[:32]
    return gbreg.__version__, digest, str(config.BOUNDSCHECK), str(config.OPT)


def _say(error: Exception) -> None:
    if not _said:
        _said.append(True)
        warnings.warn(
            f"compiled kernels are not kept on disk: {error!r}; they are compiled in each process. "
            "Numba's documentation of NUMBA_CACHE_DIR says where they would go",
            GbregWarning,
            stacklevel=2,
        )
