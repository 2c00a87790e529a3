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

F = TypeVar("F", bound=Callable[..., Any])


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


LANES = 4  # rows of an array of lanes: (rows, LANES)

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

    def prefetch(table: Any, row: int) -> None:
        """Ask for a row of an array that will be needed soon."""

    def hash_place(value: int, shift: int) -> int:
        """Place of an integer in a table of ``2**(64 - shift)`` (Knuth, TAOCP 3, 6.4)."""
        return (int(value) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> int(shift)

    def lanes_add_products(S: Any, a: int, place: int, D: Any, j: int, m: int) -> None:
        """With ``v`` = weights * D[j]: ``S[place] += v``, and ``S[a + i] += v * D[i]`` for i < m.

        The weights are the last row of D.
        """
        v = D[j] * D[-1]
        S[place] += v
        for i in range(m):
            S[a + i] += v * D[i]

    def lanes_add_square(S: Any, a: int, D: Any, j: int) -> None:
        """``S[a] += weights * D[j]**2``."""
        S[a] += D[j] * D[-1] * D[j]

    def lanes_add_residuals(S: Any, a: int, D: Any, k: int, q: int, start: float, coef: Any) -> None:
        """``S[a:] += v * D, v, v * r`` of ``r = D[k + q] - start - coef[q] @ D`` and v = weights * r."""
        r = D[k + q] - start
        for j in range(k):
            r = r - coef[q, j] * D[j]
        v = r * D[-1]
        for j in range(k):
            S[a + j] += v * D[j]
        S[a + k] += v
        S[a + k + 1] += v * r

    def lanes_load(D: Any, j: int, Z: Any, i: int, hi: int, ref: float) -> None:
        """``D[j] = Z[i : i + LANES, j] - ref``; the row before hi stands for those that are not there."""
        for lane in range(LANES):
            D[j, lane] = Z[min(i + lane, hi - 1), j] - ref

    def lanes_load_weights(D: Any, j: int, Z: Any, i: int, hi: int) -> None:
        """``D[j] = Z[i : i + LANES, j]``; 0 for rows from hi on."""
        for lane in range(LANES):
            D[j, lane] = Z[i + lane, j] if i + lane < hi else 0.0

    def lanes_add(out: Any, a: int, u: Any, i: int) -> None:
        """``out[a] += u[i]``."""
        out[a] += u[i]

    def lanes_sum(u: Any, i: int) -> float:
        """Sum of ``u[i]``, pairs first."""
        return float((u[i, 0] + u[i, 1]) + (u[i, 2] + u[i, 3]))

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

    @kernel
    def hash_place(value: int, shift: int) -> int:
        """Place of an integer in a table of ``2**(64 - shift)`` (Knuth, TAOCP 3, 6.4)."""
        product = np.uint64(value) * np.uint64(0x9E3779B97F4A7C15)
        return np.int64(product >> np.uint64(shift))  # type: ignore[return-value]

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

    # Lanes as vectors of LLVM: its optimiser does not find them by itself where arrays might overlap,
    # and takes several times as long to compile.

    _DOUBLE = ir.DoubleType()
    _VECTOR = ir.VectorType(_DOUBLE, LANES)

    def _read(builder: Any, pointer: Any) -> Any:
        return builder.load(pointer, align=8)

    def _splat(builder: Any, value: Any) -> Any:
        vector = ir.Constant(_VECTOR, ir.Undefined)
        for lane in range(LANES):
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
        return vector

    def _rows_of(context: Any, builder: Any, kind: Any, value: Any) -> Callable[[Any], Any]:
        """Pointers to the rows of an array of lanes, as vectors."""
        data = context.make_array(kind)(context, builder, value).data

        def at(row: Any) -> Any:
            flat = builder.mul(row, ir.Constant(row.type, LANES))
            return builder.bitcast(builder.gep(data, [flat]), _VECTOR.as_pointer())

        return at

    def _last(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        n = builder.extract_value(context.make_array(kind)(context, builder, value).shape, 0)
        return builder.sub(n, ir.Constant(n.type, 1))

    def _increase(builder: Any, pointer: Any, vector: Any) -> None:
        builder.store(builder.fadd(_read(builder, pointer), vector), pointer, align=8)

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_add_products(typingctx: Any, S: Any, a: Any, place: Any, D: Any, j: Any, m: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums = _rows_of(context, builder, signature.args[0], args[0])
            rows = _rows_of(context, builder, signature.args[3], args[3])
            weights = _read(builder, rows(_last(context, builder, signature.args[3], args[3])))
            v = builder.fmul(_read(builder, rows(args[4])), weights)
            _increase(builder, sums(args[2]), v)
            with cgutils.for_range(builder, args[5]) as loop:
                product = builder.fmul(v, _read(builder, rows(loop.index)))
                _increase(builder, sums(builder.add(args[1], loop.index)), product)
            return context.get_dummy_value()

        at = types.intp
        return types.void(S, at, at, D, at, at), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_add_square(typingctx: Any, S: Any, a: Any, D: Any, j: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums = _rows_of(context, builder, signature.args[0], args[0])
            rows = _rows_of(context, builder, signature.args[2], args[2])
            weights = _read(builder, rows(_last(context, builder, signature.args[2], args[2])))
            one = _read(builder, rows(args[3]))
            _increase(builder, sums(args[1]), builder.fmul(builder.fmul(one, weights), one))
            return context.get_dummy_value()

        return types.void(S, types.intp, D, types.intp), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_add_residuals(
        typingctx: Any, S: Any, a: Any, D: Any, k: Any, q: Any, start: Any, coef: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums = _rows_of(context, builder, signature.args[0], args[0])
            rows = _rows_of(context, builder, signature.args[2], args[2])
            weights = _read(builder, rows(_last(context, builder, signature.args[2], args[2])))
            slopes = context.make_array(signature.args[6])(context, builder, args[6]).data
            a, k, q = args[1], args[3], args[4]
            target = builder.fsub(_read(builder, rows(builder.add(k, q))), _splat(builder, args[5]))
            r = cgutils.alloca_once_value(builder, target)
            with cgutils.for_range(builder, k) as loop:
                flat = builder.add(builder.mul(q, k), loop.index)
                slope = builder.load(builder.gep(slopes, [flat]), align=8)
                product = builder.fmul(_splat(builder, slope), _read(builder, rows(loop.index)))
                builder.store(builder.fsub(builder.load(r), product), r)
            resid = builder.load(r)
            v = builder.fmul(resid, weights)
            with cgutils.for_range(builder, k) as loop:
                product = builder.fmul(v, _read(builder, rows(loop.index)))
                _increase(builder, sums(builder.add(a, loop.index)), product)
            end = builder.add(a, k)
            _increase(builder, sums(end), v)
            _increase(builder, sums(builder.add(end, ir.Constant(end.type, 1))), builder.fmul(v, resid))
            return context.get_dummy_value()

        at = types.intp
        return types.void(S, at, D, at, at, types.float64, coef), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_add(typingctx: Any, out: Any, a: Any, u: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = signature.args
            to, one = (_rows_of(context, builder, kinds[n], args[n])(args[n + 1]) for n in (0, 2))
            _increase(builder, to, _read(builder, one))
            return context.get_dummy_value()

        return types.void(out, types.intp, u, types.intp), codegen

    def _column(
        context: Any, builder: Any, kind: Any, Z: Any, i: Any, hi: Any, j: Any
    ) -> tuple[Any, list[Any]]:
        """LANES values of column j from row i on; the last one stands for those from hi on; which are not."""
        rows = context.make_array(kind)(context, builder, Z)
        width = builder.extract_value(rows.shape, 1)
        last = builder.sub(hi, ir.Constant(hi.type, 1))
        vector, there = ir.Constant(_VECTOR, ir.Undefined), []
        for lane in range(LANES):
            row = builder.add(i, ir.Constant(i.type, lane))
            there.append(builder.icmp_signed("<", row, hi))
            row = builder.select(there[-1], row, last)
            place = builder.gep(rows.data, [builder.add(builder.mul(row, width), j)])
            value = builder.load(place, align=8)
            vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
        return vector, there

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_load(typingctx: Any, D: Any, j: Any, Z: Any, i: Any, hi: Any, ref: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            to = _rows_of(context, builder, signature.args[0], args[0])(args[1])
            vector, _ = _column(context, builder, signature.args[2], args[2], args[3], args[4], args[1])
            builder.store(builder.fsub(vector, _splat(builder, args[5])), to, align=8)
            return context.get_dummy_value()

        at = types.intp
        return types.void(D, at, Z, at, at, types.float64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_load_weights(typingctx: Any, D: Any, j: Any, Z: Any, i: Any, hi: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            to = _rows_of(context, builder, signature.args[0], args[0])(args[1])
            vector, there = _column(context, builder, signature.args[2], args[2], args[3], args[4], args[1])
            for lane in range(LANES):
                at = ir.Constant(ir.IntType(32), lane)
                value = builder.extract_element(vector, at)
                value = builder.select(there[lane], value, ir.Constant(_DOUBLE, 0.0))
                vector = builder.insert_element(vector, value, at)
            builder.store(vector, to, align=8)
            return context.get_dummy_value()

        at = types.intp
        return types.void(D, at, Z, at, at), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def lanes_sum(typingctx: Any, u: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = _read(builder, _rows_of(context, builder, signature.args[0], args[0])(args[1]))
            a, b, c, d = (
                builder.extract_element(vector, ir.Constant(ir.IntType(32), lane)) for lane in range(LANES)
            )
            return builder.fadd(builder.fadd(a, b), builder.fadd(c, d))

        return types.float64(u, types.intp), codegen
