# SPDX-License-Identifier: MIT
"""Double-double arithmetic against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gbreg import doubledouble as dd

U2 = 2.0**-106


def wild(rng, size):
    """Floats of both signs over 80 powers of two."""
    return np.ldexp(rng.uniform(-1, 1, size), rng.integers(-40, 40, size))


def wild_pairs(rng, size):
    hi = wild(rng, size)
    return dd.two_sum(hi, hi * rng.uniform(-1, 1, size) * 2.0**-54)


def exact(a):
    """Fractions of a pair of arrays, or of an array."""
    if isinstance(a, tuple):
        return [
            Fraction(float(h)) + Fraction(float(e))
            for h, e in zip(np.ravel(a[0]), np.ravel(a[1]), strict=True)
        ]
    return [Fraction(float(v)) for v in np.ravel(a)]


@pytest.fixture
def rng():
    return np.random.default_rng(20)


@pytest.mark.parametrize(
    ("name", "op"),
    [
        ("two_sum", lambda a, b: a + b),
        ("two_diff", lambda a, b: a - b),
        ("two_prod", lambda a, b: a * b),
    ],
)
def test_error_free_transformations_are_exact(rng, name, op):
    a, b = wild(rng, 500), wild(rng, 500)
    got = getattr(dd, name)(a, b)
    assert exact(got) == [op(x, y) for x, y in zip(exact(a), exact(b), strict=True)]
    assert np.any(got[1] != 0)
    assert np.all(np.abs(got[1]) <= np.spacing(np.abs(got[0])) / 2)


def test_quick_two_sum_is_exact_for_ordered_operands(rng):
    a = wild(rng, 500)
    b = a * rng.uniform(-1, 1, 500)
    assert exact(dd.quick_two_sum(a, b)) == [x + y for x, y in zip(exact(a), exact(b), strict=True)]


def test_split_gives_two_short_halves(rng):
    a = wild(rng, 500)
    hi, lo = dd.split(a)
    assert exact((hi, lo)) == exact(a)
    for half in (hi, lo):
        mantissa = np.frexp(half)[0] * 2.0**27
        assert np.array_equal(mantissa, np.rint(mantissa))


@pytest.mark.parametrize(
    ("name", "op", "bound"),
    [
        ("add", lambda a, b: a + b, 3.1 * U2),
        ("sub", lambda a, b: a - b, 3.1 * U2),
        ("mul", lambda a, b: a * b, 7 * U2),
        ("div", lambda a, b: a / b, 10 * U2),
    ],
)
def test_operations_keep_106_bits(rng, name, op, bound):
    a, b = wild_pairs(rng, 500), wild_pairs(rng, 500)
    got = getattr(dd, name)(a, b)
    for g, x, y in zip(exact(got), exact(a), exact(b), strict=True):
        want = op(x, y)
        assert abs(g - want) <= Fraction(bound) * abs(want)
    assert np.all(np.abs(got[1]) <= np.spacing(np.abs(got[0])) / 2)


@pytest.mark.parametrize(
    ("name", "op"), [("mul_float", lambda a, b: a * b), ("add_float", lambda a, b: a + b)]
)
def test_operations_with_floats(rng, name, op):
    a, b = wild_pairs(rng, 500), wild(rng, 500)
    for g, x, y in zip(exact(getattr(dd, name)(a, b)), exact(a), exact(b), strict=True):
        # the bound of add_float is relative to the operands where they cancel
        size = abs(op(x, y)) if name == "mul_float" else abs(op(x, y)) + Fraction(2.0**-52) * abs(x)
        assert abs(g - op(x, y)) <= Fraction(4 * U2) * size


def test_sub_survives_cancellation():
    a = dd.two_sum(np.array([1.0]), np.array([2.0**-60]))
    b = dd.two_sum(np.array([1.0]), np.array([2.0**-61]))
    assert exact(dd.sub(a, b)) == [Fraction(1, 2**61)]


def test_sqrt(rng):
    hi, lo = wild_pairs(rng, 500)
    a = (np.abs(hi), np.where(hi < 0, -lo, lo))
    for g, x in zip(exact(dd.sqrt(a)), exact(a), strict=True):
        assert abs(g * g - x) <= Fraction(8 * U2) * x


def test_sqrt_of_zero_and_of_negative():
    with np.errstate(invalid="ignore"):
        got = dd.sqrt((np.array([0.0, -1.0]), np.zeros(2)))
    assert got[0][0] == 0
    assert got[1][0] == 0
    assert np.isnan(got[0][1])


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 100])
def test_tree_sum(rng, width):
    a = wild_pairs(rng, (7, width))
    got = dd.tree_sum(a)
    for i, g in enumerate(exact(got)):
        terms = exact((a[0][i], a[1][i]))
        assert abs(g - sum(terms)) <= Fraction(32 * U2) * sum(map(abs, terms))


def test_tree_sum_ignores_padding(rng):
    a = wild_pairs(rng, (7, 5))
    padded = tuple(np.concatenate([v, np.zeros((7, 27))], axis=1) for v in a)
    got, want = dd.tree_sum(padded), dd.tree_sum(a)
    assert np.array_equal(got[0], want[0])
    assert np.array_equal(got[1], want[1])


def test_tree_sum_of_what_float64_loses():
    a = dd.from_float(np.array([1e16, 1.0, -1e16, 1e-10]))
    assert exact(dd.tree_sum(a)) == [1 + Fraction(1e-10)]
