# SPDX-License-Identifier: MIT
"""Wilkinson formulas: one text becomes the columns of ``targets=``, ``linear=`` and ``by=``.

formulaic reads the text and computes what is not a plain column. What it learns from the frame of
the fit (levels of categories, the mean that ``center`` subtracts) is kept, so that the same numbers
are made of any other frame.
"""

from __future__ import annotations

import ast
import builtins
import pickle
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import Column, Part, check_labels, column_at, read_column
from gbreg.errors import MissingExtraError, SpecError
from gbreg.problem import BoolArray, IntArray
from gbreg.suggest import nearest

_BACKTICKS = re.compile("`([^`]*)`")
_FILLS = re.compile(r"\b(fillna|isna|isnull|notna|notnull|isnan|isfinite|nan_to_num)\b")
SAMPLE = 128  # rows that show which columns a formula makes, and whether they depend on other rows
OBJECT_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "complex")


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
            return _materialise(spec, _inputs(list(spec.formula), frame, self.role))[1]


# the text


def _formulaic() -> Any:
    try:
        import formulaic
    except ModuleNotFoundError as error:
        raise MissingExtraError("formulas need formulaic: pip install 'gbreg[formula]'") from error
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

    used, called = _names(terms)
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


def _names(terms: Sequence[Any]) -> tuple[set[str], set[str]]:
    """Names that the terms use, and those of them that they call."""
    used, called = set(), set()
    for factor in (factor for term in terms for factor in term.factors):
        if factor.eval_method.value == "lookup":
            used.add(str(factor.expr))
        elif factor.eval_method.value == "python":
            used.update(_BACKTICKS.findall(factor.expr))
            nodes = list(ast.walk(ast.parse(_BACKTICKS.sub("_", factor.expr), mode="eval")))
            names = [node for node in nodes if isinstance(node, ast.Name)]
            own = {node.id for node in names if isinstance(node.ctx, ast.Store)}  # of comprehensions
            own |= {node.arg for node in nodes if isinstance(node, ast.arg)} | {"_"}
            used.update({node.id for node in names} - own)
            for node in nodes:
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    called.add(node.func.id)
                    if node.func.id == "Q":  # patsy's quote
                        used.update(str(arg.value) for arg in node.args if isinstance(arg, ast.Constant))
    return used, called


# the columns


def _columns(
    text: str, terms: Sequence[Any], intercept: bool, frame: pd.DataFrame, role: str
) -> list[Column]:
    """Plain terms are columns of the frame, exact and read in place; the others are computed together."""
    derived = [term for term in terms if not _is_plain(term, frame)]
    names = {}
    if derived:
        spec = _learn(text, terms, derived, intercept, frame, role)
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
        and not _is_categorical(column_at(frame, factor.expr, "formula"))
    )


def _is_categorical(column: pd.Series[Any]) -> bool:
    """Text and categories; not numbers held as objects, which are refused where they are read."""
    if column.dtype.kind not in "OU":  # U: text of Arrow
        return False
    if isinstance(column.dtype, pd.CategoricalDtype):
        return True
    return pd.api.types.infer_dtype(column, skipna=True) not in OBJECT_NUMBERS


def _inputs(terms: Sequence[Any], frame: pd.DataFrame, role: str) -> pd.DataFrame:
    """Return the columns that the terms use, on an index of their own.

    Numbers are float64, NaN for missing: integers would wrap in products. Those used in ``C()``
    only stay what they are, for the names of their levels.
    """
    from formulaic.parser.types import Term

    values, plain = set(), set()
    for term in terms:
        for factor in term.factors:
            names, _ = _names([Term([factor])])
            values |= set() if factor.expr.startswith("C(") else names
            if factor.eval_method.value == "lookup":
                plain |= names
    made: dict[str, Any] = {}
    for name in sorted(name for name in _names(terms)[0] if name in frame.columns):
        column = column_at(frame, name, "formula")
        kind = column.dtype.kind
        if name not in values:
            made[name] = column.array
        elif _is_categorical(column):  # all kinds of text alike: as objects, None for missing
            text = column.astype(object)
            is_category = isinstance(column.dtype, pd.CategoricalDtype)
            made[name] = column.array if is_category else text.where(text.notna(), None).array
        elif kind in "iufO" or name in plain or (kind == "b" and not isinstance(column.dtype, np.dtype)):
            made[name] = read_column(frame, Column(name, name), role).as_float()
        else:
            made[name] = column.array
    index = pd.RangeIndex(len(frame))
    return pd.DataFrame(
        {name: pd.Series(values, index, values.dtype) for name, values in made.items()}, index
    )


def _learn(
    text: str,
    terms: Sequence[Any],
    derived: Sequence[Any],
    intercept: bool,
    frame: pd.DataFrame,
    role: str,
) -> Any:
    """What each derived term becomes and what is to be remembered, as formulaic's ModelSpec."""
    from formulaic import Formula, SimpleFormula
    from formulaic.transforms import TRANSFORMS

    one = list(Formula("1")) if intercept else []
    every = SimpleFormula([*one, *terms])  # they decide how many levels a category needs
    inputs = _inputs(terms, frame, role)
    whole = np.flatnonzero(_whole(inputs))
    rows = whole[np.unique(np.linspace(0, len(whole) - 1, min(SAMPLE, len(whole))).astype(np.int64))]
    calls = [name for name, call in TRANSFORMS.items() if hasattr(call, "__is_stateful_transform__")]
    with warnings.catch_warnings():  # of log(0) numpy warns when the columns are read
        warnings.simplefilter("ignore", RuntimeWarning)
        spec, _ = _materialise(every, inputs.iloc[rows])
        categories = _categories(spec)
        formula = every if categories else SimpleFormula(list(derived))
        if re.search(rf"\b({'|'.join(calls)})\s*\(", " ".join(map(str, derived))):
            spec, _ = _materialise(formula, inputs.iloc[whole])  # a missing value would make the mean one
        else:
            spec, _ = _materialise(formula, inputs if categories else inputs.iloc[rows])
        if categories and role == "targets":
            raise SpecError(f"formula {text!r}: targets must be numbers, but {categories} are categories")
        if len(frame) and (empty := [str(term) for term, _, names in spec.structure if not names]):
            raise SpecError(f"formula {text!r}: {empty} have fewer than two levels, so they say nothing")
        _check_rows(text, spec, inputs, rows)
    return spec


def _categories(spec: Any) -> list[str]:
    return [name for name, (kind, _) in spec.encoder_state.items() if kind.value == "categorical"]


def _whole(inputs: pd.DataFrame) -> BoolArray:
    """(n,) rows without a missing or infinite value."""
    whole = inputs.notna().all(axis=1).to_numpy(dtype=np.bool_)
    for column in inputs.columns:
        if inputs[column].dtype == np.float64:
            whole = whole & np.isfinite(inputs[column].to_numpy())
    return whole


def _check_rows(text: str, spec: Any, inputs: pd.DataFrame, rows: IntArray) -> None:
    """Raise if a value depends on which other rows are there: other frames would get other values."""
    state = pickle.dumps(spec)
    _, want = _materialise(pickle.loads(state), inputs.iloc[rows])
    for half in (slice(0, None, 2), slice(1, None, 2)):
        if not len(rows[half]) or len(rows) < 2:
            continue
        _, got = _materialise(pickle.loads(state), inputs.iloc[rows[half]])
        for name, values in want.items():
            size = np.abs(values[np.isfinite(values)]).max(initial=0)
            if not np.allclose(got[name], values[half], rtol=1e-9, atol=1e-9 * size, equal_nan=True):
                raise SpecError(
                    f"formula {text!r}: {name!r} depends on other rows than its own, so that another frame "
                    "would get other values; put the column into the frame (center() and scale() remember)"
                )


def _materialise(spec: Any, inputs: pd.DataFrame) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The spec with what it has learned, and the columns.

    NaN where a column that the term uses is missing, though numpy says that NaN > 0 is False, and
    where a category is not among those of the fit, though its indicators are all 0.
    """
    from formulaic.errors import DataMismatchWarning
    from formulaic.materializers import PandasMaterializer

    maker = PandasMaterializer(inputs, context={})  # nothing but the columns and formulaic's functions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataMismatchWarning)  # unknown levels: NaN, below
        warnings.filterwarnings("ignore", "Constructing a Categorical")
        try:
            matrix = maker.get_model_matrix(spec, na_action="ignore", output="pandas")
        except (TypeError, ValueError) as error:  # of numpy, where values cannot be multiplied
            raise SpecError(f"formula= cannot be computed on this frame: {error}") from error
    spec = matrix.model_spec
    missing = {name: gone for name in inputs.columns if (gone := inputs[name].isna().to_numpy()).any()}
    unknown = {name: _unknown(maker.factor_cache[name].values, spec, name) for name in _categories(spec)}
    made = {}
    for term, _, names in spec.structure:
        gaps = [missing[name] for name in _names([term])[0] if name in missing]
        gaps += [unknown[factor.expr] for factor in term.factors if factor.expr in unknown]
        for name in names:
            values = matrix[name].to_numpy()
            made[name] = np.where(np.logical_or.reduce(gaps), np.nan, values) if gaps else values
    return spec, made


def _unknown(values: Any, spec: Any, name: str) -> BoolArray:
    """(n,) rows whose category is missing, or not among those of the fit."""
    plain = pd.Series(getattr(values, "__wrapped__", values))
    known = spec.encoder_state[name][1].get("categories")  # not there if hashed
    gone = plain.isna() if known is None else ~plain.isin(list(known))
    return gone.to_numpy(dtype=np.bool_)
