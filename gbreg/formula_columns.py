# SPDX-License-Identifier: MIT
"""The numbers of a formula's terms, computed by formulaic from a frame.

What is learned from the frame of the fit is kept, so that the same numbers are made of any other.
"""

from __future__ import annotations

import ast
import pickle
import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.columns import Column, evaluate, read_columns, spread
from gbreg.errors import SpecError
from gbreg.lookup import find_keys
from gbreg.problem import BoolArray, IntArray

BACKTICKS = re.compile("`([^`]*)`")
SAMPLE = 128  # rows that show which columns a formula makes, and whether they depend on other rows
OBJECT_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "complex")


def names_in(terms: Sequence[Any]) -> tuple[set[str], set[str]]:
    """Names that the terms use, and those of them that they call."""
    used, called = set(), set()
    for factor in (factor for term in terms for factor in term.factors):
        if factor.eval_method.value == "lookup":
            used.add(str(factor.expr))
        elif factor.eval_method.value == "python":
            used.update(BACKTICKS.findall(factor.expr))
            nodes = list(ast.walk(ast.parse(BACKTICKS.sub("_", factor.expr), mode="eval")))
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


def is_categorical(column: pd.Series[Any]) -> bool:
    """Text and categories; not numbers held as objects, which are refused where they are read."""
    if column.dtype.kind not in "OU":  # U: text of Arrow
        return False
    if isinstance(column.dtype, pd.CategoricalDtype):
        return True
    return pd.api.types.infer_dtype(column, skipna=True) not in OBJECT_NUMBERS


def inputs_of(terms: Sequence[Any], frame: pd.DataFrame, role: str) -> pd.DataFrame:
    """Return the columns that the terms use, on an index of their own.

    Numbers are float64, NaN for missing: integers would wrap in products. Those used in ``C()``
    only stay what they are, for the names of their levels.
    """
    from formulaic.parser.types import Term

    values, plain, computed = set(), set(), set()  # what goes into numbers, is a factor, is reckoned with
    for term in terms:
        for factor in term.factors:
            names, _ = names_in([Term([factor])])
            values |= set() if factor.expr.startswith("C(") else names
            if factor.eval_method.value == "lookup":
                plain |= names
            if len(term.factors) > 1 or factor.eval_method.value != "lookup":
                computed |= names
    made: dict[str, Any] = {}
    for name in sorted(name for name in names_in(terms)[0] if name in frame.columns):
        column = evaluate(frame, name, "formula")
        kind = column.dtype.kind
        if name not in values:
            made[name] = _levels_as_they_are(column)
        elif is_categorical(column):  # all kinds of text alike: as objects, None for missing
            text = column.astype(object)
            is_category = isinstance(column.dtype, pd.CategoricalDtype)
            made[name] = column.array if is_category else text.where(text.notna(), None).array
        elif kind in "iufO" or name in plain or (kind == "b" and not isinstance(column.dtype, np.dtype)):
            numbers = read_columns(frame, [Column(name, name)], role)[0]
            if numbers.is_integer and name in computed:
                raise SpecError(
                    f"formula: column {name!r} has integers beyond 2**53, which would lose digits in terms "
                    "made of it; put these into the frame first, such as the difference from a reference"
                )
            made[name] = numbers.as_float()
        else:
            made[name] = column.array
    index = pd.RangeIndex(len(frame))
    return pd.DataFrame(
        {name: pd.Series(values, index, values.dtype) for name, values in made.items()}, index
    )


def _levels_as_they_are(column: pd.Series[Any]) -> Any:
    """Values of which levels are made; Arrow's as objects, which it would convert to be compared."""
    if not isinstance(column.dtype, pd.ArrowDtype):
        return column.array
    return column.astype(object).where(column.notna(), None).array


def learn(
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
    inputs = _used_levels(inputs_of(terms, frame, role))
    whole = np.flatnonzero(_whole(inputs))
    rows = whole[spread(len(whole), SAMPLE)]
    calls = [name for name, call in TRANSFORMS.items() if hasattr(call, "__is_stateful_transform__")]
    with warnings.catch_warnings():  # of log(0) numpy warns when the columns are read
        warnings.simplefilter("ignore", RuntimeWarning)
        spec, _ = materialise(every, inputs.iloc[rows])
        categories = _categories(spec)
        formula = every if categories else SimpleFormula(list(derived))
        if re.search(rf"\b({'|'.join(calls)})\s*\(", " ".join(map(str, derived))):
            spec, _ = materialise(formula, inputs.iloc[whole])  # a missing value would make the mean one
        else:
            spec, _ = materialise(formula, inputs if categories else inputs.iloc[rows])
        if categories and role == "targets":
            raise SpecError(f"formula {text!r}: targets must be numbers, but {categories} are categories")
        if len(frame) and (empty := [str(term) for term, _, names in spec.structure if not names]):
            raise SpecError(f"formula {text!r}: {empty} have fewer than two levels, so they say nothing")
        for some in (rows, np.union1d(rows, _rare(inputs, whole))):
            _check_rows(text, spec, inputs, some)
    return spec


def _used_levels(inputs: pd.DataFrame) -> pd.DataFrame:
    """Without the categories that no row has, as R's ``lm``: their indicators would be 0 everywhere.

    A frame without rows keeps them: its tables are to line up with those of others.
    """
    categories = [name for name, c in inputs.items() if isinstance(c.dtype, pd.CategoricalDtype)]
    if not categories or not len(inputs):
        return inputs
    return inputs.assign(**{str(name): inputs[name].cat.remove_unused_categories() for name in categories})


def _rare(inputs: pd.DataFrame, whole: IntArray) -> IntArray:
    """Of these rows, those where a column is extreme, or shows a level for the first time."""
    found = [whole[:0]]
    every = len(whole) == len(inputs)  # then nothing is copied
    for _, column in inputs.items() if len(whole) else ():
        column = column if every else column.iloc[whole]
        if column.dtype == np.float64:
            found.append(whole[[int(column.argmin()), int(column.argmax())]])
        else:
            first = whole[~column.duplicated().to_numpy()]
            found.append(first[spread(len(first), SAMPLE)])
    return np.concatenate(found)


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
    inputs = inputs.iloc[rows].reset_index(drop=True)  # which row it is counts as another row too
    _, want = materialise(pickle.loads(state), inputs)
    for half in (slice(0, None, 2), slice(1, None, 2)):
        if not len(rows[half]) or len(rows) < 2:
            continue
        _, got = materialise(pickle.loads(state), inputs.iloc[half].reset_index(drop=True))
        for name, values in want.items():
            size = np.abs(values[np.isfinite(values)]).max(initial=0)
            if not np.allclose(got[name], values[half], rtol=1e-9, atol=1e-9 * size, equal_nan=True):
                raise SpecError(
                    f"formula {text!r}: {name!r} depends on other rows than its own, so that another frame "
                    "would get other values; put the column into the frame (center() and scale() remember)"
                )


def materialise(spec: Any, inputs: pd.DataFrame) -> tuple[Any, dict[str, NDArray[Any]]]:
    """The spec with what it has learned, and the columns.

    NaN where a column that the term uses is missing, though numpy says that NaN > 0 is False, and
    where a category is not among those of the fit, though its indicators are all 0.
    """
    from formulaic.errors import DataMismatchWarning
    from formulaic.materializers import PandasMaterializer

    maker = PandasMaterializer(
        _with_levels(spec, inputs), context={}
    )  # nothing but the columns and formulaic's functions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataMismatchWarning)  # unknown levels: NaN, below
        _quiet_of_pandas()
        try:
            matrix = maker.get_model_matrix(spec, na_action="ignore", output="pandas")
        except (TypeError, ValueError) as error:  # of numpy, where values cannot be multiplied
            raise SpecError(f"formula= cannot be computed on this frame: {error}") from error
    spec = matrix.model_spec
    missing = {name: gone for name in inputs.columns if (gone := inputs[name].isna().to_numpy()).any()}
    unknown = {name: _unknown(maker.factor_cache[name].values, spec, name) for name in _categories(spec)}
    made = {}
    for term, _, names in spec.structure:
        gaps = [missing[name] for name in names_in([term])[0] if name in missing]
        gaps += [unknown[factor.expr] for factor in term.factors if factor.expr in unknown]
        for name in names:
            values = matrix[name].to_numpy()
            made[name] = np.where(np.logical_or.reduce(gaps), np.nan, values) if gaps else values
    return spec, made


def _with_levels(spec: Any, inputs: pd.DataFrame) -> pd.DataFrame:
    """Numbers as objects in columns of which levels were learned: formulaic would take them as they are."""
    state = getattr(spec, "encoder_state", {})
    learned = [name for name in (_categories(spec) if state else ()) if name in inputs.columns]
    changed = {
        name: inputs[name].astype(object)
        for name in learned
        if inputs[name].dtype == np.float64
        or (inputs[name].dtype == np.bool_ and not set(state[name][1].get("categories", ())) <= {False, True})
    }
    return inputs.assign(**changed)


def _quiet_of_pandas() -> None:
    """No warnings of values that are no level, in pandas 3, and of objects that are times, in pandas 2."""
    warnings.filterwarnings("ignore", "Constructing a Categorical")
    warnings.filterwarnings("ignore", "Dtype inference on a pandas object", FutureWarning)


def _unknown(values: Any, spec: Any, name: str) -> BoolArray:
    """(n,) rows whose category is missing, or not among those of the fit."""
    plain = pd.Series(getattr(values, "__wrapped__", values))
    known = spec.encoder_state[name][1].get("categories")  # not there if hashed
    if known is None:
        return plain.isna().to_numpy(dtype=np.bool_)
    with warnings.catch_warnings():
        _quiet_of_pandas()
        codes, uniques = pd.factorize(plain)
        seen = pd.Index(uniques)
        taken = pd.Categorical(seen, categories=list(known)).codes  # as formulaic takes them
    wrong = taken != find_keys(pd.Index(list(known)), seen)  # text for a time, 1 for True, ...
    return np.append((taken < 0) | wrong, True)[codes]
