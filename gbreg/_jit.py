# SPDX-License-Identifier: MIT
"""The decorators that own every numba option, and what differs without compilation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile on first call: no GIL, IEEE division, no reassociation of floats."""
    compiled: F = numba.njit(nogil=True, error_model="numpy", fastmath=False)(function)
    return compiled


def inlined(function: F) -> F:
    """A kernel that is always merged into its callers: arrays are costly to pass."""
    compiled: F = numba.njit(nogil=True, error_model="numpy", fastmath=False, forceinline=True)(function)
    return compiled


if numba.config.DISABLE_JIT:  # the same in plain Python, which raises where machines round

    def ldexp(x: float, exponent: int) -> float:
        """``x * 2**exponent``, inf where that overflows."""
        with np.errstate(all="ignore"):
            return float(np.ldexp(x, int(exponent)))

    def _split(a: float) -> tuple[float, float]:
        big = 134217729.0 * a  # 2**27 + 1
        high = big - (big - a)
        return high, a - high

    def product_error(a: float, b: float, p: float) -> float:
        """``a * b - p`` exactly, for ``p = a * b`` rounded (Dekker 1971)."""
        ah, al = _split(a)
        bh, bl = _split(b)
        return ((ah * bh - p) + ah * bl + al * bh) + al * bl

else:

    @kernel
    def ldexp(x: float, exponent: int) -> float:
        """``x * 2**exponent``, inf where that overflows."""
        return math.ldexp(x, exponent)

    @intrinsic  # type: ignore[untyped-decorator]
    def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.fma(*args)

        return types.float64(types.float64, types.float64, types.float64), codegen

    @kernel
    def product_error(a: float, b: float, p: float) -> float:
        """``a * b - p`` exactly, for ``p = a * b`` rounded: one fused multiply-add."""
        return float(_fma(a, b, -p))
