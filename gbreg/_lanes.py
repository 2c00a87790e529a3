# SPDX-License-Identifier: MIT
"""Four numbers at once: a value of the kernels that is one vector of the machine.

``load`` takes it from a row of an array of lanes (rows, LANES); arithmetic, comparisons, ``where``
and what is below work lane by lane, and a float stands for four of them. LLVM's optimiser does not
find vectors by itself where arrays might overlap, and takes several times as long to compile.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 4

if numba.config.DISABLE_JIT:  # the same as arrays of numpy

    def load(A: Any, i: int) -> Any:
        """Row i of an array of lanes."""
        return A[i].copy()

    def store(A: Any, i: int, v: Any) -> None:
        """``A[i] = v``."""
        A[i] = v

    def spread(x: float) -> Any:
        """The same number in all lanes."""
        return np.full(LANES, x)

    def gather(Z: Any, r0: int, r1: int, r2: int, r3: int, j: int) -> Any:
        """Column j of four rows."""
        return np.array([Z[r0, j], Z[r1, j], Z[r2, j], Z[r3, j]])

    def beside(a: float, b: float, c: float, d: float) -> Any:
        """Four numbers."""
        return np.array([a, b, c, d])

    def put_beside(A: Any, i: int, j: int, v: Any) -> None:
        """``A[i, j:j + LANES] = v``."""
        A[i, j : j + LANES] = v

    def where(mask: Any, a: Any, b: Any) -> Any:
        """One of the two in each lane: a if the mask holds, else b."""
        return np.where(mask, a, b)

    def sqrts(v: Any) -> Any:
        """Square roots."""
        return np.sqrt(v)

    def magnitudes(v: Any) -> Any:
        """Absolute values."""
        return np.abs(v)

    def lane_sum(v: Any) -> float:
        """Sum of the lanes, pairs first."""
        return float((v[0] + v[1]) + (v[2] + v[3]))

    def lane_max(v: Any) -> float:
        """Largest of the lanes."""
        return float(max(max(v[0], v[1]), max(v[2], v[3])))

else:
    _DOUBLE = ir.DoubleType()
    _VECTOR = ir.VectorType(_DOUBLE, LANES)
    _BITS = ir.VectorType(ir.IntType(1), LANES)

    class _Lanes(types.Type):  # type: ignore[misc]
        pass

    VECTOR, MASK = _Lanes("lanes"), _Lanes("mask of lanes")

    @register_model(_Lanes)
    class _Model(models.PrimitiveModel):  # type: ignore[misc]
        def __init__(self, manager: Any, kind: Any) -> None:
            super().__init__(manager, kind, _VECTOR if kind == VECTOR else _BITS)

    def _lane(m: int) -> Any:
        return ir.Constant(ir.IntType(32), m)

    def _join(builder: Any, values: Any) -> Any:
        vector = ir.Constant(_VECTOR, ir.Undefined)
        for m, value in enumerate(values):
            vector = builder.insert_element(vector, value, _lane(m))
        return vector

    def _splat(builder: Any, value: Any) -> Any:
        return _join(builder, [value] * LANES)

    def _as_vector(builder: Any, kind: Any, value: Any) -> Any:
        return value if kind == VECTOR else _splat(builder, value)

    def _operator(key: Any, operand: Any, result: Any, build: Callable[..., Any]) -> None:
        """What an operator means for lanes, or for lanes and a float."""

        class Typing(AbstractTemplate):  # type: ignore[misc]
            def generic(self, args: Any, kws: Any) -> Any:
                if operand in args and all(kind in (operand, types.float64) for kind in args):
                    return signature(result, *args)
                return None

        Typing.key = key
        infer_global(key)(Typing)

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            if operand == MASK:
                return build(builder, *args)
            return build(builder, *(_as_vector(builder, *one) for one in zip(sig.args, args, strict=True)))

        for kinds in ((operand, operand), (operand, types.float64), (types.float64, operand)):
            lower_builtin(key, *kinds)(lower)

    _ARITHMETIC = {operator.add: "fadd", operator.sub: "fsub", operator.mul: "fmul", operator.truediv: "fdiv"}
    _ARITHMETIC |= {operator.iadd: "fadd", operator.isub: "fsub", operator.imul: "fmul"}
    _COMPARED = {operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "=="}
    for _key, _name in _ARITHMETIC.items():
        _operator(_key, VECTOR, VECTOR, lambda builder, a, b, name=_name: getattr(builder, name)(a, b))
    for _key, _name in _COMPARED.items():
        _operator(_key, VECTOR, MASK, lambda builder, a, b, name=_name: builder.fcmp_ordered(name, a, b))
    for _key in (operator.and_, operator.iand):
        _operator(_key, MASK, MASK, lambda builder, a, b: builder.and_(a, b))
    for _key in (operator.or_, operator.ior):
        _operator(_key, MASK, MASK, lambda builder, a, b: builder.or_(a, b))

    class _Negative(AbstractTemplate):  # type: ignore[misc]
        key = operator.neg

        def generic(self, args: Any, kws: Any) -> Any:
            return signature(VECTOR, *args) if args == (VECTOR,) else None

    infer_global(operator.neg)(_Negative)

    @lower_builtin(operator.neg, VECTOR)  # type: ignore[untyped-decorator]
    def _negative(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fneg(args[0])

    def _row(context: Any, builder: Any, kind: Any, value: Any, row: Any) -> Any:
        """Pointer to a row of an array of lanes."""
        data = context.make_array(kind)(context, builder, value).data
        place = builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))])
        return builder.bitcast(place, _VECTOR.as_pointer())

    def _place(context: Any, builder: Any, kind: Any, value: Any, row: Any, column: Any) -> Any:
        """Pointer to an entry of a C-contiguous array."""
        rows = context.make_array(kind)(context, builder, value)
        width = builder.extract_value(rows.shape, 1)
        return builder.gep(rows.data, [builder.add(builder.mul(row, width), column)])

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typingctx: Any, A: Any, i: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.load(_row(context, builder, sig.args[0], *args), align=8)

        return VECTOR(A, types.intp), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typingctx: Any, A: Any, i: Any, v: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vector = _as_vector(builder, sig.args[2], args[2])
            builder.store(vector, _row(context, builder, sig.args[0], args[0], args[1]), align=8)
            return context.get_dummy_value()

        return types.void(A, types.intp, v), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def spread(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _splat(builder, args[0])

        return VECTOR(types.float64), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def gather(typingctx: Any, Z: Any, r0: Any, r1: Any, r2: Any, r3: Any, j: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            places = (_place(context, builder, sig.args[0], args[0], row, args[5]) for row in args[1:5])
            return _join(builder, [builder.load(place, align=8) for place in places])

        at = types.intp
        return VECTOR(Z, at, at, at, at, at), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def beside(typingctx: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _join(builder, args)

        return VECTOR(*(types.float64,) * LANES), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def put_beside(typingctx: Any, A: Any, i: Any, j: Any, v: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            place = _place(context, builder, sig.args[0], *args[:3])
            vector = _as_vector(builder, sig.args[3], args[3])
            builder.store(vector, builder.bitcast(place, _VECTOR.as_pointer()), align=8)
            return context.get_dummy_value()

        return types.void(A, types.intp, types.intp, v), codegen

    @intrinsic  # type: ignore[untyped-decorator]
    def where(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.select(args[0], *(_as_vector(builder, sig.args[n], args[n]) for n in (1, 2)))

        return VECTOR(MASK, a, b), codegen

    def _function(name: str) -> Any:
        """A function of LLVM, lane by lane."""

        @intrinsic  # type: ignore[untyped-decorator]
        def one(typingctx: Any, v: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                kind = ir.FunctionType(_VECTOR, [_VECTOR])
                function = cgutils.get_or_insert_function(builder.module, kind, f"{name}.v{LANES}f64")
                return builder.call(function, args)

            return VECTOR(VECTOR), codegen

        return one

    sqrts, magnitudes = _function("llvm.sqrt"), _function("llvm.fabs")

    def _reduction(pair: Callable[[Any, Any, Any], Any]) -> Any:
        """What ``pair`` makes of two lanes, of all: pairs first."""

        @intrinsic  # type: ignore[untyped-decorator]
        def one(typingctx: Any, v: Any) -> Any:
            def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
                a, b, c, d = (builder.extract_element(args[0], _lane(m)) for m in range(LANES))
                return pair(builder, pair(builder, a, b), pair(builder, c, d))

            return types.float64(VECTOR), codegen

        return one

    def _larger(builder: Any, a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    lane_sum, lane_max = _reduction(lambda builder, a, b: builder.fadd(a, b)), _reduction(_larger)
