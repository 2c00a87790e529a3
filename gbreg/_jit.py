# SPDX-License-Identifier: MIT
"""The decorators that own every numba option, and what differs without compilation."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from gbreg._cache import keep
from gbreg._lanes import LANES

F = TypeVar("F", bound=Callable[..., Any])
_ALL_BITS = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio
_SECOND = 0xD6E8FEB86659FD93  # another odd number without pattern


def compiled(function: F, **options: bool) -> F:
    """Compile on first call: no GIL, IEEE division, no reassociation of floats."""
    made: F = numba.njit(nogil=True, error_model="numpy", fastmath=False, **options)(function)
    return made


def entry(function: F) -> F:
    """A kernel that Python calls: once compiled it is kept on disk."""
    made = compiled(function)
    if not numba.config.DISABLE_JIT:
        keep(made)
    return made


def kernel(function: F) -> F:
    """A kernel that other kernels call.

    Up to half of the time to compile a function goes into making it callable from Python, so
    that is left for when somebody does (tests, and the driver of long groups).
    """
    return _internal(function)


def inlined(function: F) -> F:
    """A kernel that is always merged into its callers: arrays are costly to pass."""
    return _internal(function, forceinline=True)


def _internal(function: F, **options: bool) -> F:
    if numba.config.DISABLE_JIT:
        return function
    made: Any = compiled(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    made.__class__ = _internal_class()  # numba would crash if it were called as it is
    return made  # type: ignore[no-any-return]


@cache
def _internal_class() -> type:
    class Internal(type(numba.njit(lambda: None))):  # type: ignore[misc]
        """Compiled for other kernels; a call from Python (long groups) compiles it once more, for Python."""

        def __call__(self, *args: Any) -> Any:
            if "outside" not in self.__dict__:
                self.outside = entry(self.py_func)
            return self.outside(*args)

    return Internal


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

    def peek(address: int, i: int) -> float:
        """The i-th float64 from an address on."""
        return ctypes.c_double.from_address(int(address) + 8 * int(i)).value

    def word(address: int, i: int, size: int) -> int:
        """The ``size`` bytes, 0 to 8, from the i-th byte after an address on, as one number."""
        return int.from_bytes(
            ctypes.string_at(int(address) + int(i), int(size)), "little", signed=int(size) == 8
        )

    def word_hash(hashed: int, word: int) -> int:
        """Mix a word into a hash."""
        mixed = ((int(hashed) ^ int(word)) & _ALL_BITS) * _GOLDEN & _ALL_BITS
        mixed ^= mixed >> 32
        return mixed - (mixed >> 63 << 64)

    def prefetch(table: Any, row: int) -> None:
        """Ask for a row of an array that will be needed soon."""

    def cell_of(value: int, low: int, shift: int) -> int:
        """``(value - low) >> shift`` of int64 with low < value, whose difference may be beyond int64."""
        return (int(value) - int(low)) >> int(shift)

    def hash_place(value: int, shift: int) -> int:
        """Place of an integer in a table of ``2**(64 - shift)`` (Knuth, TAOCP 3, 6.4).

        The second product is for arithmetic progressions, some of which the first puts side by side.
        """
        mixed = int(value) * _GOLDEN & _ALL_BITS
        return ((mixed ^ mixed >> 32) * _SECOND & _ALL_BITS) >> int(shift)

else:

    @kernel
    def ldexp(x: float, exponent: int) -> float:
        """``x * 2**exponent``, inf where that overflows."""
        return math.ldexp(x, exponent)

    @intrinsic  # type: ignore[untyped-decorator]
    def _fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = args[0].type
            name = "llvm.fma.f64" if kind == ir.DoubleType() else f"llvm.fma.v{LANES}f64"
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
            return builder.call(fma, args)

        return a(a, a, a), codegen

    @kernel
    def product_error(a: float, b: float, p: float) -> float:
        """``a * b - p`` exactly, for ``p = a * b`` rounded: one fused multiply-add."""
        return _fma(a, b, -p)  # type: ignore[no-any-return]

    @kernel
    def cell_of(value: int, low: int, shift: int) -> int:
        """``(value - low) >> shift`` of int64 with low < value, whose difference may be beyond int64."""
        return np.int64((np.uint64(value) - np.uint64(low)) >> np.uint64(shift))  # type: ignore[return-value]

    @kernel
    def hash_place(value: int, shift: int) -> int:
        """Place of an integer in a table of ``2**(64 - shift)`` (Knuth, TAOCP 3, 6.4).

        The second product is for arithmetic progressions, some of which the first puts side by side.
        """
        mixed = np.uint64(value) * np.uint64(_GOLDEN)
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(_SECOND)
        return np.int64(mixed >> np.uint64(shift))  # type: ignore[return-value]

    @kernel
    def word_hash(hashed: int, word: int) -> int:
        """Mix a word into a hash."""
        mixed = (np.uint64(hashed) ^ np.uint64(word)) * np.uint64(_GOLDEN)
        return np.int64(mixed ^ (mixed >> np.uint64(32)))  # type: ignore[return-value]

    def _reader(bits: int) -> Any:
        @intrinsic  # type: ignore[untyped-decorator]
        def read(typingctx: Any, address: Any, i: Any) -> Any:
            def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
                start = builder.inttoptr(builder.add(*args), ir.IntType(bits).as_pointer())
                value = builder.load(start, align=1)
                return value if bits == 64 else builder.zext(value, ir.IntType(64))

            return types.int64(types.int64, types.int64), codegen

        return read

    _read_word, _read_byte = _reader(64), _reader(8)

    @inlined
    def word(address: int, i: int, size: int) -> int:
        """The ``size`` bytes, 0 to 8, from the i-th byte after an address on, as one number."""
        if size == 8:
            return _read_word(address, i)  # type: ignore[no-any-return]
        value = 0
        for b in range(size):
            value |= _read_byte(address, i + b) << (8 * b)
        return value

    @intrinsic  # type: ignore[untyped-decorator]
    def peek(typingctx: Any, address: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base = builder.inttoptr(args[0], ir.DoubleType().as_pointer())
            return builder.load(builder.gep(base, [args[1]]), align=8)

        return types.float64(types.int64, types.int64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def prefetch(typingctx: Any, table: Any, row: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows = context.make_array(signature.args[0])(context, builder, args[0])
            flat = builder.mul(args[1], builder.extract_value(rows.shape, 1))
            byte = ir.IntType(8).as_pointer()
            place = builder.bitcast(builder.gep(rows.data, [flat]), byte)
            flag = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
            function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            builder.call(function, [place, *(ir.Constant(flag, value) for value in (0, 3, 1))])
            return context.get_dummy_value()

        return types.void(table, types.intp), codegen
