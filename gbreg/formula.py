# SPDX-License-Identifier: MIT
"""Wilkinson formulas: one text becomes the columns of ``targets=``, ``linear=`` and ``by=``.

formulaic reads the text and computes what is not a plain column. What it learns from the frame of
the fit (levels of categories, the mean that ``center`` subtracts) is kept, so that the same numbers
are made of any other frame.
"""

from __future__ import annotations

import builtins
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import Column, Part, check_labels, evaluate
from gbreg.errors import MissingExtraError, SpecError
from gbreg.formula_columns import inputs_of, is_categorical, learn, materialise, names_in
from gbreg.suggest import nearest

_FILLS = re.compile(r"\b(fillna|isna|isnull|notna|notnull|isnan|isfinite|nan_to_num)\b")


@dataclass(frozen=True, slots=True)
class Terms:
    """A formula, taken apart."""

    targets: list[Column]
    linear: list[Column]
    by: list[str] | None  # None if the formula has no part after |
    intercept: bool


def read_formula(text: object, frame: pd.DataFrame) -> Terms:
    """Take a formula apart and learn from the frame what its terms need.

    Parameters
    ----------
    text : str
        ``targets ~ predictors``, or ``targets ~ predictors | keys``.
    frame : DataFrame

    Raises
    ------
    SpecError
        The text is no such formula, or a term cannot be computed on the frame.
    ColumnError
        Names in the formula that are not columns, each with the nearest one.
    MissingExtraError
        formulaic is not installed.
    """
    if not isinstance(text, str):
        raise SpecError(f"formula must be a str, 'targets ~ predictors | keys', got {type(text).__name__}")
    formulaic = _formulaic()
    with _spoken(text):
        model, by = _split(text)
        if "`1`" in model:
            raise SpecError(f"formula {text!r}: a column called 1 would be the constant; use linear=")
        parsed = formulaic.Formula(model)
        sides = [getattr(parsed, side, ()) for side in ("lhs", "rhs")]
        if not all(isinstance(side, formulaic.SimpleFormula) for side in sides):
            raise SpecError(
                f"formula {text!r} must be 'targets ~ predictors' or 'targets ~ predictors | keys'"
            )
        targets, terms = (list(side) for side in sides)
        _check_targets(text, targets)
        predictors = [term for term in terms if str(term) != "1"]
        if scaled := [str(term) for term in predictors if _has_number(term)]:  # called like the column
            raise SpecError(f"formula {text!r}: {scaled} have a number for a factor; write I(2 * x)")
        _check_names([*targets, *predictors], frame)
        intercept = len(predictors) < len(terms)
        return Terms(
            targets=_columns(text, targets, False, frame, "targets"),
            linear=_columns(text, predictors, intercept, frame, "linear"),
            by=by,
            intercept=intercept,
        )


@dataclass(frozen=True, slots=True)
class Design:
    """The columns of one side of a formula, as a function of a frame."""

    text: str
    role: str
    state: bytes  # formulaic's ModelSpec, pickled: no use changes it, and only use needs formulaic

    def __call__(self, frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
        _formulaic()
        with _spoken(self.text):
            spec = pickle.loads(self.state)
            _check_names(spec.formula, frame)
            return materialise(spec, inputs_of(list(spec.formula), frame, self.role))[1]


# the text


def _formulaic() -> Any:
    try:
        import formulaic
    except ModuleNotFoundError as error:
        raise MissingExtraError("formulas need formulaic: pip install formulaic") from error
    return formulaic


@contextmanager
def _spoken(text: str) -> Iterator[None]:
    """Errors of formulaic become ours; theirs go on to draw the formula with colours."""
    from formulaic.errors import FormulaicError

    try:
        yield
    except (FormulaicError, SyntaxError) as error:
        message, *_ = str(error).strip().splitlines() or [type(error).__name__]
        raise SpecError(f"formula {text!r}: {message}") from error


def _split(text: str) -> tuple[str, list[str] | None]:
    """The text before the last ``|``, and the names after it."""
    from formulaic.parser.algos.tokenize import tokenize

    tokens = list(tokenize(text))
    words = [str(token.token) for token in tokens]
    kinds = ["" if token.kind is None else token.kind.value for token in tokens]
    if "." in words:
        raise SpecError(f"formula {text!r}: '.' could also mean weights and keys; name the predictors")
    _check_powers(text, words, kinds)
    depth, bars = 0, []
    for i, (word, kind) in enumerate(zip(words, kinds, strict=True)):
        if kind == "context":
            depth += 1 if word in "([" else -1
        elif kind == "operator" and "|" in word:
            if not depth and re.fullmatch(r"[-+~]+\|", word):
                raise SpecError(f"formula {text!r}: a term is missing before |; for the mean alone write 1")
            if depth or word != "|":
                raise SpecError(f"formula {text!r}: {word!r}, but keys come after a | outside of parentheses")
            bars.append(i)
    if not bars:
        return text, None
    at = bars[-1] + 1
    names = words[at::2]
    joined = all(word == "+" for word in words[at + 1 :: 2]) and len(words[at:]) % 2
    if len(bars) > 1 or not joined or any(kind != "name" for kind in kinds[at::2]):
        raise SpecError(
            f"formula {text!r}: after one | come names of columns joined by +; odd names go between "
            "backticks, and anything else that makes groups goes into by="
        )
    return text[: tokens[bars[0]].source_start], names


def _check_powers(text: str, words: Sequence[str], kinds: Sequence[str]) -> None:
    for i, (word, kind) in enumerate(zip(words, kinds, strict=True)):
        if kind == "operator" and word in ("**", "^") and i and kinds[i - 1] in ("name", "python"):
            raise SpecError(
                f"formula {text!r}: a power of one term is that term, as in R; "
                f"for numbers write I({words[i - 1]}**{words[i + 1] if i + 1 < len(words) else 2})"
            )


def _check_targets(text: str, terms: Sequence[Any]) -> None:
    single = [term for term in terms if len(term.factors) == 1 and not _has_number(term)]
    wrong = [str(term) for term in terms if term not in single]
    if wrong or not terms:
        raise SpecError(
            f"formula {text!r}: left of ~ come targets joined by +, columns or functions of them, "
            f"got {wrong or 'nothing'}"
        )


def _has_number(term: Any) -> bool:
    return any(factor.eval_method.value == "literal" for factor in term.factors)


def _check_names(terms: Sequence[Any], frame: pd.DataFrame) -> None:
    """Raise for all names at once that are neither columns nor functions."""
    from formulaic.transforms import TRANSFORMS

    used, called = names_in(terms)
    known = {*TRANSFORMS, *dir(builtins)}
    unknown = {name for name in used if name not in frame.columns and name not in known}
    if wrong := sorted(unknown & called):
        hints = ", ".join(f"{name!r}{nearest(name, TRANSFORMS)}" for name in wrong)
        raise SpecError(
            f"formula= calls functions that are not formulaic's nor in np: {hints}; "
            "for your own, put the column into the frame"
        )
    if filled := [str(term) for term in terms if _FILLS.search(str(term))]:
        raise SpecError(
            f"formula= has {filled}, but a missing value makes a term missing; fill it beforehand"
        )
    check_labels(frame, sorted(unknown | {name for name in used if name in frame.columns}), "formula")


# the columns


def _columns(
    text: str, terms: Sequence[Any], intercept: bool, frame: pd.DataFrame, role: str
) -> list[Column]:
    """Plain terms are columns of the frame, exact and read in place; the others are computed together."""
    derived = [term for term in terms if not _is_plain(term, frame)]
    names = {}
    if derived:
        spec = learn(text, terms, derived, intercept, frame, role)
        design = Design(text, role, pickle.dumps(spec))
        names = {str(term): made for term, _, made in spec.structure}
    columns = []
    for term in terms:
        if term in derived:
            columns += [Column(name, Part(design, name)) for name in names[str(term)]]
        else:
            columns.append(Column(term.factors[0].expr, term.factors[0].expr))
    return columns


def _is_plain(term: Any, frame: pd.DataFrame) -> bool:
    factor = term.factors[0]
    return (
        len(term.factors) == 1
        and factor.eval_method.value == "lookup"
        and not is_categorical(evaluate(frame, factor.expr, "formula"))
    )
