# SPDX-License-Identifier: MIT
"""Flat tables: one row per group with made-up names, or one row per number."""

from __future__ import annotations

import keyword
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gbreg.errors import SpecError
from gbreg.lookup import level_values
from gbreg.spec import INTERCEPT, FitSpec, fraction_of
from gbreg.suggest import nearest
from gbreg.tables import as_words

if TYPE_CHECKING:
    from gbreg.result import GroupFit

TERM_ENDINGS = {"params": "", "bse": "_err", "tvalues": "_tvalue", "pvalues": "_pvalue"}
PER_TARGET = (
    "rms",
    "mad",
    "nobs",
    "status",
    "nobs_clipped",
    "df_resid",
    "ssr",
    "chi2",
    "chi2_pvalue",
    "scale",
    "rsquared",
    "rsquared_adj",
    "fvalue",
    "f_pvalue",
    "aic",
    "bic",
    "llf",
    "condition_number",
    "digits",
)
STATS = (*TERM_ENDINGS, *PER_TARGET)
UNREADABLE = (SyntaxError, TokenError, NameError, ValueError)  # a name, to the parser of DataFrame.eval
OF_LEAST_SQUARES = ("adj_r_squared", "aic", "bic", "log_lik")  # columns of `glance`
DEFAULT = ("params", "bse", "rms", "mad", "nobs", "status")


def text(label: Hashable) -> str:
    """Write a label as part of a name; the parts of a tuple are joined by underscores."""
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


def tidy(fit: GroupFit, conf_level: float) -> pd.DataFrame:
    """See `GroupFit.tidy`."""
    conf_level = fraction_of("conf_level", conf_level)
    axes = {"target": fit.targets, "term": fit.terms}
    if fit.spec.shrunk:
        return long_frame(fit.keys, axes, {"estimate": fit.estimates.known_params})
    made = fit.statistics
    low, high = made.conf_int(1 - conf_level)
    columns = {
        "estimate": fit.estimates.known_params,
        "std_error": made.bse,
        "statistic": made.tvalues,
        "p_value": made.pvalues,
        "conf_low": low,
        "conf_high": high,
    }
    return long_frame(fit.keys, axes, columns)


def glance(fit: GroupFit) -> pd.DataFrame:
    """See `GroupFit.glance`."""
    made = fit.statistics
    columns: dict[str, Any] = {
        "nobs": made.nobs,
        "df_resid": made.df_resid,
        "r_squared": made.rsquared,
        "adj_r_squared": made.rsquared_adj,
        "sigma": made.sigma,
        "rms": made.rms,
        "mad": fit.estimates.mad,
        "aic": made.aic,
        "bic": made.bic,
        "log_lik": made.llf,
    }
    if fit.spec.criterion:
        columns = {name: values for name, values in columns.items() if name not in OF_LEAST_SQUARES}
    if fit.spec.robust:
        del columns["r_squared"]
    if fit.spec.cov_type == "known":
        columns |= {"chi2": made.ssr, "chi2_p_value": made.chi2_pvalue}
    columns["status"] = as_words(fit._status_codes.ravel())
    return long_frame(fit.keys, {"target": fit.targets}, columns)


def to_frame(fit: GroupFit, suffix: str, stats: Sequence[str] | None) -> pd.DataFrame:
    """See `GroupFit.to_frame`."""
    check_suffix(suffix)
    wanted = _checked_stats(stats, fit.spec)
    intercept = fit.spec.options.intercept
    names: list[Hashable] = []
    columns: list[Any] = []
    values = {stat: _columns(getattr(fit, stat), words=stat == "status") for stat in wanted}
    p = len(fit.terms)
    for q, target in enumerate(fit.targets):
        for stat in wanted:
            if stat in TERM_ENDINGS:
                ending = TERM_ENDINGS[stat]
                names += [term_name(target, term, ending, suffix, intercept) for term in fit.terms]
                columns += values[stat][q * p : (q + 1) * p]
            else:
                names.append(f"{text(target)}_{stat}{suffix}")
                columns.append(values[stat][q])
    return _frame(fit.keys.copy(deep=True), names, columns)


def check_suffix(suffix: object) -> None:
    if not isinstance(suffix, str):
        raise SpecError(f"suffix must be a string, got {suffix!r}")


def _checked_stats(stats: Sequence[str] | None, spec: FitSpec) -> list[str]:
    if stats is None:
        none = {"mad": not spec.options.mad, "bse": bool(spec.shrunk)}
        return [name for name in DEFAULT if not none.get(name)]
    if not isinstance(stats, Iterable):
        raise SpecError(f"stats must be a list of names, got {stats!r}")
    if isinstance(stats, str):
        raise SpecError(f"stats must be a list of names, got the string {stats!r}")
    wanted = list(stats)
    for stat in wanted:
        if not isinstance(stat, str) or stat not in STATS:
            raise SpecError(f"unknown stat {stat!r}; choose from {list(STATS)}{nearest(stat, STATS)}")
    return list(dict.fromkeys(wanted))


def _columns(frame: pd.DataFrame, words: bool) -> list[Any]:
    """Values of each column, numbers in memory of their own, contiguous."""
    if words:
        return [frame.iloc[:, i].array for i in range(frame.shape[1])]
    return list(np.array(frame.to_numpy().T, order="C"))


def formulas(fit: GroupFit, suffix: str) -> dict[Hashable, dict[str, str]]:
    """See `GroupFit.formulas`."""
    check_suffix(suffix)
    if hidden := [column.name for column in (*fit.spec.linear, *fit.spec.targets) if column.shadows]:
        raise SpecError(
            f"{hidden} were derived, and the frame of the fit had other columns of that name, which formulas "
            "would take: give such columns names of their own in fit"
        )
    made: dict[Hashable, dict[str, str]] = {}
    intercept = fit.spec.options.intercept
    taken = {text(name) for name in (*fit.targets, fit.spec.weights) if isinstance(name, Hashable)}
    for target in fit.targets:
        pairs = []  # names of coefficient and column; no column for the intercept
        for term in fit.terms:
            column = None if intercept and term == INTERCEPT else text(term)
            pairs.append((term_name(target, term, "", suffix, intercept), column))
        prediction = " + ".join(
            quoted(name) if column is None else f"{quoted(name)} * {quoted(column)}" for name, column in pairs
        )
        rms = f"{text(target)}_rms{suffix}"
        residual = f"{quoted(text(target))} - ({prediction})"
        pull = f"({residual}) / {quoted(rms)}"
        if clash := sorted(taken & {rms, *(name for name, _ in pairs)}):
            raise SpecError(f"columns of the fit are called {clash}, as numbers of {pull!r}; give a suffix=")
        _check_eval(pull, text(target), pairs, rms)
        made[target] = {"prediction": prediction, "residual": residual, "pull": pull}
    return made


def quoted(name: str) -> str:
    """Write a column name as `DataFrame.eval` takes it."""
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"`{name}`"


def _check_eval(pull: str, target: str, pairs: Sequence[tuple[str, str | None]], rms: str) -> None:
    """Run a formula on numbers that tell every name from every other.

    pandas takes some names for others (``a b_c`` for ``a_b c``), and some for constants (``inf``).
    """
    names = [target, rms, *(name for pair in pairs for name in pair if name is not None)]
    if clash := [name for name, count in Counter(names).items() if count > 1]:
        raise SpecError(f"several columns of the formula {pull!r} are called {clash}; rename them")
    if ticks := [name for name in names if "`" in name]:  # ends the quoting: the rest would run as code
        raise SpecError(f"DataFrame.eval cannot run {pull!r}: backticks in {ticks}; rename the columns")
    try:
        frame = pd.DataFrame([np.sqrt(np.arange(len(names)) + 2.0)], columns=names)
        outcome: Any = frame.eval(pull)
        got = float(outcome.iloc[0])
    except RecursionError as error:
        raise SpecError(f"{len(pairs)} terms make a formula too long for DataFrame.eval") from error
    except UNREADABLE as error:
        raise SpecError(f"DataFrame.eval cannot run {pull!r}: {error}; rename the columns") from error
    value = dict(zip(names, frame.to_numpy()[0], strict=True))
    fitted = sum(value[name] * (1.0 if column is None else value[column]) for name, column in pairs)
    want = (value[target] - fitted) / value[rms]
    if not abs(got - want) <= 1e-9 * abs(want):
        raise SpecError(f"DataFrame.eval takes a name in {pull!r} for something else; rename the columns")


def long_frame(
    keys: pd.Index[Any], axes: Mapping[str, Sequence[Hashable]], columns: Mapping[str, Any]
) -> pd.DataFrame:
    """One row per group and combination of labels; every column is (g, *sizes of axes), or ravelled."""
    sizes = [len(names) for names in axes.values()]
    cells = np.indices(sizes).reshape(len(sizes), -1)
    values: list[Any] = []
    for place, names in zip(cells, axes.values(), strict=True):
        of_one_group = pd.Index(list(names), tupleize_cols=False).take(place)
        values.append(of_one_group.take(np.tile(np.arange(len(place)), len(keys))))
    values += [c if isinstance(c, pd.Categorical) else c.flatten() for c in columns.values()]
    rows = np.repeat(np.arange(len(keys)), cells.shape[1])
    return _frame(keys.take(rows), [*axes, *columns], values)


def _frame(keys: pd.Index[Any], names: Sequence[Hashable], columns: Sequence[Any]) -> pd.DataFrame:
    """Keys as columns, then others, in one go; their memory becomes the frame's own."""
    every = [*key_names(keys), *names]
    if clash := [name for name, count in Counter(every).items() if count > 1]:
        raise SpecError(f"several columns would be called {clash}; rename keys, targets or predictors")
    levels = [level_values(keys, i) for i in range(keys.nlevels)]
    made = pd.DataFrame(dict(enumerate([*levels, *columns])), index=pd.RangeIndex(len(keys)), copy=False)
    made.columns = pd.Index(every, tupleize_cols=False)
    return made
