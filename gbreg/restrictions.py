# SPDX-License-Identifier: MIT
"""Linear restrictions on coefficients, as written: "x = y, 2*z - 1 = 0", a matrix, or (matrix, values)."""

from __future__ import annotations

import ast
import re
from collections.abc import Hashable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from gbreg.errors import SpecError
from gbreg.problem import FloatArray
from gbreg.spec import INTERCEPT
from gbreg.suggest import nearest

NAMED = (ast.Name, ast.Call, ast.Subscript, ast.Attribute)  # what names of terms look like
CONSTANT = ("const", "constant", "_cons", "(intercept)")  # statsmodels, Stata, R
CLEAR = 1e-6  # pivot, of rows whose largest number is 1, that is more than rounding
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
        It is no linear restriction, names what is no term, has another shape, or follows from others.
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
    if (rank := _rank(made.R)) < len(made.R):
        raise SpecError(f"of {len(made.R)} restrictions {rank} are independent; leave out those that follow")
    return made


def _rank(R: FloatArray) -> int:
    """Independent rows of R as it is, by exact elimination unless rounding cannot matter."""
    if _are_far_from_dependent(R):
        return len(R)
    rows = [[Fraction(value) for value in row] for row in R.tolist()]
    rank = 0
    for j in range(R.shape[1]):
        pivot = next((row for row in rows if row[j]), None)
        if pivot is None:
            continue
        rank += 1
        rows = [
            [a - row[j] / pivot[j] * b for a, b in zip(row, pivot, strict=True)] if row[j] else row
            for row in rows
            if row is not pivot
        ]
    return rank


def _are_far_from_dependent(R: FloatArray) -> bool:
    """Whether elimination with the largest pivots leaves none that is small."""
    A = R / np.abs(R).max(axis=1, keepdims=True)
    for _ in range(len(A)):
        i, j = np.unravel_index(np.abs(A).argmax(), A.shape)
        if not abs(A[i, j]) > CLEAR:
            return False
        A = A - (A[:, j] / A[i, j])[:, None] * A[i]
        A[i] = A[:, j] = 0.0
    return True


def _arrays(R: Any, q: Any, p: int) -> Restrictions:
    try:
        if np.iscomplexobj(R) or np.iscomplexobj(q):
            raise TypeError("complex numbers")
        matrix, values = np.atleast_2d(np.asarray(R, dtype=np.float64)), np.asarray(q, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"restrictions are one string such as 'x = 0, z = 0', an array (r, {p}) or a tuple (R, q), "
            f"got {type(R).__name__}: {error}"
        ) from error
    if matrix.ndim != 2 or matrix.shape[1] != p:
        raise SpecError(f"restrictions must have one column per coefficient, (r, {p}), got {matrix.shape}")
    if values.ndim and values.shape != matrix.shape[:1]:
        raise SpecError(f"q must have one value per restriction, {len(matrix)}, got shape {values.shape}")
    return Restrictions(matrix, np.broadcast_to(values, matrix.shape[:1]))


Places = Mapping[str, int | None]  # of terms, by how they are written; None for several written alike


def _parsed(text: str, terms: Sequence[Hashable]) -> Restrictions:
    places: dict[str, int | None] = {}
    for i, word in enumerate(map(str, terms)):
        places[word] = None if word in places else i
    stacked = np.array(_rows(text, places, len(terms)))
    return Restrictions(stacked[:, :-1], -stacked[:, -1])


def _rows(text: str, places: Places, p: int) -> list[FloatArray]:
    """(p + 1,) of each restriction: coefficients and constant of what is zero."""
    marked = _Marked.of(text, places, p)
    rows = []
    for part in marked.text.split(","):
        sides = part.split("=")
        if len(sides) > 2:
            raise SpecError(f"a restriction has one = sign, got {marked.plain(part)!r}")
        left, *right = [_side(side, part, marked, p) for side in sides]
        rows.append(left - right[0] if right else left)
    return rows


class _Marked(NamedTuple):
    """A text where identifiers stand for names of terms, which may be no identifiers."""

    text: str
    mark: str  # what these begin and end with, and nothing else in the text
    names: Sequence[str]
    places: Places

    @classmethod
    def of(cls, text: str, places: Places, p: int) -> _Marked:
        """Names as they are, the longest first, and anything between backticks."""
        mark = "_"
        while mark in text:
            mark += "_"
        bare = [name for name in places if not _readable(name, {}, p)]  # "1" is a number
        names, edges = list(places), {name: _edges(name) for name in bare}
        found = "|".join(edges[name] for name in sorted(bare, key=len, reverse=True) if name)

        def word(match: re.Match[str]) -> str:
            name = match[0]
            if name not in edges:
                name = name[1:-1]
                if name not in places:
                    raise SpecError(f"{name!r} is not a term of this fit{nearest(name, places)}")
            elif not name.isidentifier() and _readable(
                name, {n: i for n, i in places.items() if n != name}, p
            ):
                raise SpecError(
                    f"{name!r} is a term and could be computed of terms; write `{name}` for the term"
                )
            if places[name] is None:
                raise SpecError(f"several terms are written {name!r}; give the restrictions as an array")
            return f"{mark}{names.index(name)}{mark}"

        return cls(re.sub(f"{found}|`[^`]*`" if found else "`[^`]*`", word, text), mark, names, places)

    def place(self, identifier: str) -> int | None:
        """Of the term it stands for; None if it stands for none."""
        match = re.fullmatch(f"{self.mark}([0-9]+){self.mark}", identifier)
        return self.places[self.names[int(match[1])]] if match else None

    def plain(self, text: str) -> str:
        """As it was written, but for backticks."""
        return re.sub(
            f"{self.mark}([0-9]+){self.mark}", lambda match: self.names[int(match[1])], text
        ).strip()


def _edges(name: str) -> str:
    """Pattern of a name as a whole: not within a longer one."""
    before = r"(?<![\w.])" if re.match(r"\w", name) else ""
    after = r"(?![\w.])" if re.search(r"\w$", name) else ""
    return before + re.escape(name) + after


def _readable(text: str, places: Places, p: int) -> bool:
    """Whether it could be computed of these terms."""
    try:
        _rows(text, places, p)
    except SpecError:
        return False
    return True


def _side(text: str, part: str, marked: _Marked, p: int) -> FloatArray:
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused later
            return _linear(ast.parse(text.strip(), mode="eval").body, marked, p)
    except UNREADABLE as error:
        if isinstance(error, SpecError):
            raise
        pieces = [marked.plain(piece) for piece in re.split(r"\s[-+*/]\s|=", part)]
        hints = (nearest(piece, marked.names) for piece in pieces if piece not in marked.places)
        raise SpecError(
            f"cannot read the restriction {marked.plain(part)!r}{next(filter(None, hints), '')}; write it as "
            "'x = 2*y + 1', with names as in `terms`, odd ones between backticks, or as an array"
        ) from error


def _linear(node: ast.expr, marked: _Marked, p: int) -> FloatArray:
    """(p + 1,) coefficients of the terms, then the constant."""
    out = np.zeros(p + 1)
    if isinstance(node, ast.Name) and (place := marked.place(node.id)) is not None:
        out[place] = 1.0
        return out
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        out[p] = float(node.value)  # type: ignore[arg-type]
        return out
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        inner = _linear(node.operand, marked, p)
        return -inner if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp):
        left, right = _linear(node.left, marked, p), _linear(node.right, marked, p)
        plain = [not side[:p].any() for side in (left, right)]
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult) and any(plain):
            return right * float(left[p]) if plain[0] else left * float(right[p])
        if isinstance(node.op, ast.Div) and plain[1] and right[p] != 0:
            return left / float(right[p])
    written = marked.plain(ast.unparse(node))
    if levels := [name for name in marked.names if name.startswith(f"{written}[")]:
        raise SpecError(
            f"{written!r} is no term but a factor; for all its levels write {' = 0, '.join(levels)} = 0"
        )
    if isinstance(node, NAMED):
        constant = written.lower() in CONSTANT and INTERCEPT in marked.names
        hint = f"; gbreg calls it {INTERCEPT!r}" if constant else nearest(written, marked.names)
        raise SpecError(f"{written!r} is not a term of this fit{hint}")
    raise SpecError(f"{written!r} is not linear in the coefficients; sums of numbers times terms are")
