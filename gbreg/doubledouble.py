# SPDX-License-Identifier: MIT
"""Double-double arithmetic on arrays: about 106 bits, no special hardware.

A number is an unevaluated sum ``hi + lo`` of two float64 with ``|lo| <= ulp(hi) / 2``;
an array of them is a pair of arrays of one shape. The functions broadcast like
numpy's operators. ``two_*`` are error-free: ``hi + lo`` is exactly the result as
long as nothing overflows or underflows. Products use Dekker's split, so they need
no fused multiply-add and give the same bits on every machine; they ask that
``|a|, |b| < 2**996`` and ``|a * b| > 2**-968``.

References: Dekker (1971), Knuth (TAOCP 2, 4.2.2), Joldes, Muller and Popescu,
"Tight and rigorous error bounds for basic building blocks of double-word
arithmetic" (2017), whose bounds hold here: relative errors of at most 3 u**2 for
`add`, 6 u**2 for `mul` and 10 u**2 for `div`, with u = 2**-53.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
DD = tuple[FloatArray, FloatArray]

_SPLITTER = 134217729.0  # 2**27 + 1


def two_sum(a: FloatArray, b: FloatArray) -> DD:
    """Add exactly: the rounded sum and what the rounding lost."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def quick_two_sum(a: FloatArray, b: FloatArray) -> DD:
    """Add exactly, given ``|a| >= |b|``."""
    s = a + b
    return s, b - (s - a)


def two_diff(a: FloatArray, b: FloatArray) -> DD:
    """Subtract exactly."""
    s = a - b
    t = s - a
    return s, (a - (s - t)) - (b + t)


def split(a: FloatArray) -> DD:
    """Two halves of 26 bits each whose sum is ``a``."""
    t = _SPLITTER * a
    hi = t - (t - a)
    return hi, a - hi


def two_prod(a: FloatArray, b: FloatArray) -> DD:
    """Multiply exactly."""
    p = a * b
    ah, al = split(a)
    bh, bl = split(b)
    return p, ((ah * bh - p) + ah * bl + al * bh) + al * bl


def from_float(a: FloatArray) -> DD:
    """Give floats a low part of 0."""
    return a, np.zeros_like(a)


def zeros(shape: tuple[int, ...]) -> DD:
    """Make room for an array of pairs."""
    return np.zeros(shape), np.zeros(shape)


def neg(a: DD) -> DD:
    """Negate."""
    return -a[0], -a[1]


def add(a: DD, b: DD) -> DD:
    """Add; accurate also where the operands cancel."""
    s, e = two_sum(a[0], b[0])
    t, f = two_sum(a[1], b[1])
    s, e = quick_two_sum(s, e + t)
    return quick_two_sum(s, e + f)


def sub(a: DD, b: DD) -> DD:
    """Subtract; accurate also where the operands cancel."""
    s, e = two_diff(a[0], b[0])
    t, f = two_diff(a[1], b[1])
    s, e = quick_two_sum(s, e + t)
    return quick_two_sum(s, e + f)


def add_float(a: DD, b: FloatArray) -> DD:
    """Add floats; where the operands cancel, the error is relative to ``a``."""
    s, e = two_sum(a[0], b)
    return quick_two_sum(s, e + a[1])


def mul(a: DD, b: DD) -> DD:
    """Multiply."""
    p, e = two_prod(a[0], b[0])
    return quick_two_sum(p, e + (a[0] * b[1] + a[1] * b[0]))


def mul_float(a: DD, b: FloatArray) -> DD:
    """Multiply by floats."""
    p, e = two_prod(a[0], b)
    return quick_two_sum(p, e + a[1] * b)


def div(a: DD, b: DD) -> DD:
    """Divide."""
    q = a[0] / b[0]
    r = sub(a, mul_float(b, q))
    q1 = r[0] / b[0]
    r = sub(r, mul_float(b, q1))
    s, e = quick_two_sum(q, q1)
    return quick_two_sum(s, e + r[0] / b[0])


def sqrt(a: DD) -> DD:
    """Square root; 0 where ``a`` is 0, NaN where it is negative."""
    root = np.sqrt(a[0])
    p, e = two_prod(root, root)
    rest = sub(a, (p, e))[0]
    safe = np.where(root == 0, 1.0, root)
    return quick_two_sum(root, rest / (2 * safe))


def scale(a: DD, factor: FloatArray) -> DD:
    """Multiply by powers of two, which is exact."""
    return a[0] * factor, a[1] * factor


def at(a: DD, key: Any) -> DD:
    """``a[key]``."""
    return a[0][key], a[1][key]


def put(a: DD, key: Any, value: DD) -> None:
    """``a[key] = value``."""
    a[0][key] = value[0]
    a[1][key] = value[1]


def where(mask: NDArray[np.bool_], a: DD, value: float = 0.0) -> DD:
    """Keep ``a`` where the mask holds, else put ``value``."""
    return np.where(mask, a[0], value), np.where(mask, a[1], 0.0)


def tree_sum(a: DD) -> DD:
    """Sum along the last axis, halves onto halves: log2(length) additions.

    Zeros that pad the axis change nothing, however many they are.
    """
    hi, lo = a
    while (width := hi.shape[-1]) > 1:
        half = 1 << ((width - 1).bit_length() - 1)
        rest = width - half
        s = add((hi[..., :rest], lo[..., :rest]), (hi[..., half:], lo[..., half:]))
        if rest < half:
            s = (
                np.concatenate([s[0], hi[..., rest:half]], axis=-1),
                np.concatenate([s[1], lo[..., rest:half]], axis=-1),
            )
        hi, lo = s
    return hi[..., 0], lo[..., 0]
