# SPDX-License-Identifier: MIT
"""Linear restrictions on coefficients, as written: "x = y, 2*z - 1 = 0", a matrix, or (matrix, values)."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gbreg.errors import SpecError
from gbreg.problem import FloatArray
from gbreg.suggest import nearest

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


class Restrictions(NamedTuple):
    """R b = q."""

    R: FloatArray  # (r, p)
    q: FloatArray  # (r,)


def read_restrictions(given: object, terms: Sequence[Hashable]) -> Restrictions:
    """Read what `GroupFit.wald_test` takes.

    Parameters
    ----------
    given : str, array (r, p), or tuple of array (r, p) and array (r,)
    terms : sequence of p labels

    Raises
    ------
    SpecError
        It is no linear restriction, names what is no term, or has another shape.
    """
    if isinstance(given, str):
        made = _parsed(given, terms)
    else:
        if isinstance(given, tuple) and len(given) != 2:
            raise SpecError(f"restrictions as a tuple are (R, q), got {len(given)} parts")
        R, q = given if isinstance(given, tuple) else (given, 0.0)
        made = _arrays(R, q, len(terms))
    if not (np.isfinite(made.R).all() and np.isfinite(made.q).all()):
        raise SpecError("restrictions must be finite numbers, got NaN or inf")
    empty = np.flatnonzero((made.R == 0).all(axis=1))
    if len(empty) or not len(made.R):
        which = f"restriction {empty[0] + 1} of {len(made.R)}" if len(made.R) else "what was given"
        raise SpecError(f"{which} restricts no coefficient")
    return made


def _arrays(R: Any, q: Any, p: int) -> Restrictions:
    try:
        matrix, values = np.atleast_2d(np.asarray(R, dtype=np.float64)), np.asarray(q, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"restrictions are a string, an array (r, {p}) or a tuple (R, q), got {type(R).__name__}: {error}"
        ) from error
    if matrix.ndim != 2 or matrix.shape[1] != p:
        raise SpecError(f"restrictions must have one column per coefficient, (r, {p}), got {matrix.shape}")
    if values.ndim and values.shape != matrix.shape[:1]:
        raise SpecError(f"q must have one value per restriction, {len(matrix)}, got shape {values.shape}")
    return Restrictions(matrix, np.broadcast_to(values, matrix.shape[:1]))


def _parsed(text: str, terms: Sequence[Hashable]) -> Restrictions:
    places = {term: i for i, term in enumerate(terms) if isinstance(term, str)}
    rows = []
    for part in text.split(","):
        sides = part.split("=")
        if len(sides) > 2:
            raise SpecError(f"a restriction has one = sign, got {part.strip()!r}")
        left, *right = [_side(side, part, places, len(terms)) for side in sides]
        rows.append(left - right[0] if right else left)
    stacked = np.array(rows)
    return Restrictions(stacked[:, :-1], -stacked[:, -1])


def _side(text: str, part: str, places: Mapping[str, int], p: int) -> FloatArray:
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused later
            return _linear(ast.parse(text.strip(), mode="eval").body, places, p)
    except UNREADABLE as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(
            f"cannot read the restriction {part.strip()!r}; write it as 'x = 2*y + 1', "
            "or as an array where terms are not names"
        ) from error


def _linear(node: ast.expr, places: Mapping[str, int], p: int) -> FloatArray:
    """(p + 1,) coefficients of the terms, then the constant."""
    out = np.zeros(p + 1)
    if isinstance(node, ast.Name):
        if node.id not in places:
            raise SpecError(f"{node.id!r} is not a term of this fit{nearest(node.id, places)}")
        out[places[node.id]] = 1.0
        return out
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        out[p] = float(node.value)  # type: ignore[arg-type]
        return out
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        inner = _linear(node.operand, places, p)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        left, right = _linear(node.left, places, p), _linear(node.right, places, p)
        plain = [not side[:p].any() for side in (left, right)]
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult) and any(plain):
            return right * float(left[p]) if plain[0] else left * float(right[p])
        if isinstance(node.op, ast.Div) and plain[1] and right[p] != 0:
            return left / float(right[p])
    raise SpecError(
        f"{ast.unparse(node)!r} is not linear in the coefficients; sums of numbers times terms are"
    )
