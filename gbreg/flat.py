# SPDX-License-Identifier: MIT
"""Flat tables: one row per group with made-up names, or one row per number."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.errors import SpecError
from gbreg.spec import INTERCEPT
from gbreg.suggest import nearest

if TYPE_CHECKING:
    from gbreg.result import GroupFit

PER_TERM = ("params", "bse", "tvalues", "pvalues")
PER_TARGET = (
    "rms",
    "mad",
    "nobs",
    "status",
    "df_resid",
    "ssr",
    "scale",
    "rsquared",
    "rsquared_adj",
    "aic",
    "bic",
    "llf",
    "condition_number",
    "digits",
)
DEFAULT = ("params", "bse", "rms", "mad", "nobs", "status")
TERM_ENDINGS = {"params": "", "bse": "_err", "tvalues": "_tvalue", "pvalues": "_pvalue"}


def text(label: Hashable) -> str:
    """A label as part of a name; the parts of a tuple are joined by underscores."""
    return "_".join(map(str, label)) if isinstance(label, tuple) else str(label)


def key_names(keys: pd.Index[Any]) -> list[Hashable]:
    """Names of the key columns: those of the levels, ``group`` or ``level_i`` where there are none."""
    if keys.nlevels == 1:
        return ["group" if keys.name is None else keys.name]
    return [f"level_{i}" if name is None else name for i, name in enumerate(keys.names)]


def term_name(target: Hashable, term: Hashable, ending: str, suffix: str, intercept: bool) -> str:
    """``{target}_intercept{ending}{suffix}`` or ``{target}_slope_{predictor}{ending}{suffix}``."""
    middle = "intercept" if intercept and term == INTERCEPT else f"slope_{text(term)}"
    return f"{text(target)}_{middle}{ending}{suffix}"


def to_frame(fit: GroupFit, suffix: str, stats: Sequence[str] | None) -> pd.DataFrame:
    """See `GroupFit.to_frame`."""
    if not isinstance(suffix, str):
        raise SpecError(f"suffix must be a string, got {suffix!r}")
    if isinstance(stats, str):
        raise SpecError(f"stats must be a list of names, got the string {stats!r}")
    if stats is None:
        stats = [name for name in DEFAULT if name != "mad" or fit.spec.options.mad]
    known = (*PER_TERM, *PER_TARGET)
    for stat in stats:
        if stat not in known:
            raise SpecError(f"unknown stat {stat!r}; choose from {list(known)}{nearest(stat, known)}")

    names: list[Hashable] = list(key_names(fit.keys))
    columns: list[Any] = [fit.keys.get_level_values(i) for i in range(fit.keys.nlevels)]
    frames = {stat: getattr(fit, stat) for stat in stats}
    p = len(fit.terms)
    for q, target in enumerate(fit.targets):
        for stat, values in frames.items():
            if stat in PER_TERM:
                for j, term in enumerate(fit.terms):
                    ending = TERM_ENDINGS[stat]
                    names.append(term_name(target, term, ending, suffix, fit.spec.options.intercept))
                    columns.append(values.iloc[:, q * p + j].array)
            else:
                names.append(f"{text(target)}_{stat}{suffix}")
                columns.append(values.iloc[:, q].array)
    if clash := [name for name, count in Counter(names).items() if count > 1]:
        raise SpecError(f"several columns would be called {clash}; rename keys, targets or predictors")
    made = pd.DataFrame(dict(enumerate(columns)), index=pd.RangeIndex(len(fit)))
    made.columns = pd.Index(names, tupleize_cols=False)
    return made


def formulas(fit: GroupFit, suffix: str) -> dict[Hashable, dict[str, str]]:
    """See `GroupFit.formulas`."""
    made: dict[Hashable, dict[str, str]] = {}
    intercept = fit.spec.options.intercept
    for target in fit.targets:
        parts = []
        for term in fit.terms:
            name = quoted(term_name(target, term, "", suffix, intercept))
            parts.append(name if intercept and term == INTERCEPT else f"{name} * {quoted(text(term))}")
        prediction = " + ".join(parts)
        residual = f"{quoted(text(target))} - ({prediction})"
        pull = f"({residual}) / {quoted(f'{text(target)}_rms{suffix}')}"
        made[target] = {"prediction": prediction, "residual": residual, "pull": pull}
    return made


def quoted(name: str) -> str:
    """A column name as `DataFrame.eval` takes it."""
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"


def long_frame(
    keys: pd.Index[Any], axes: Mapping[str, Sequence[Hashable]], columns: Mapping[str, NDArray[Any]]
) -> pd.DataFrame:
    """One row per group and combination of labels; every column is (g, *sizes of axes)."""
    shape = (len(keys), *(len(names) for names in axes.values()))
    places = np.indices(shape).reshape(len(shape), -1)
    taken = [keys.get_level_values(i).take(places[0]) for i in range(keys.nlevels)]
    names: list[Hashable] = [*key_names(keys), *axes, *columns]
    if clash := [name for name, count in Counter(names).items() if count > 1]:
        raise SpecError(f"keys are called {clash}, which are columns of the table; rename them")
    values: list[Any] = [*taken]
    for place, labels in zip(places[1:], axes.values(), strict=True):
        label = pd.Index(list(labels), tupleize_cols=False)
        values.append(label.take(place))
    values += [column.ravel() for column in columns.values()]
    made = pd.DataFrame(dict(enumerate(values)), index=pd.RangeIndex(len(places[0])))
    made.columns = pd.Index(names, tupleize_cols=False)
    return made
