# SPDX-License-Identifier: MIT
"""How a fit looks at a prompt and in a notebook."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gbreg.errors import SpecError
from gbreg.flat import text as label_text
from gbreg.keys import find_keys
from gbreg.problem import ROBUST, IntArray
from gbreg.suggest import nearest

if TYPE_CHECKING:
    from gbreg.result import GroupFit

WIDTH = 120
LISTED = 6  # names in a line, lines of a kind
HEAD = 5  # groups
KNOWN = 10_000  # keys that are searched for a similar one
OF_LEAST_SQUARES = ("adj. R-squared", "log-likelihood", "AIC", "BIC")  # facts of a group


def text(fit: GroupFit) -> str:
    """One screen: at most 30 lines of 120 characters."""
    table, note = head_table(fit)
    shown = ["", *_lines(table), *([note] if note else [])] if len(fit) else []
    lines = [f"GroupFit: {summary(fit)}", *(f"  {fact}" for fact in facts(fit)), *shown]
    return "\n".join(_clipped(line) for line in lines)


def html(fit: GroupFit) -> str:
    """Show the same in a notebook."""
    table, note = head_table(fit)
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts(fit))
    shown = f"{table.to_html(border=0)}<p>{escape(note)}</p>" if len(fit) else ""
    return f"<div><strong>GroupFit</strong>: {escape(summary(fit))}<ul>{items}</ul>{shown}</div>"


def summary(fit: GroupFit) -> str:
    counts = _counted(fit.n_groups, "group"), _counted(len(fit.targets), "target")
    return f"{', '.join(counts)}, backend {fit.backend}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def facts(fit: GroupFit) -> list[str]:
    """Tell what was fitted, where the rows went, and how it ended; few lines whatever the fit."""
    weights = "" if fit.spec.weights is None else f", weights {_weights(fit)}"
    errors = f", errors {_errors(fit)}" if fit.spec.cov_type in ROBUST else ""
    clip = "" if fit.spec.clip is None else f", clip {fit.spec.clip:g}"
    criterion = f", {fit.spec.criterion}" if fit.spec.criterion else ""
    return [
        f"{_listed(fit.targets)} ~ {_listed(fit.terms)}{weights}{errors}{clip}{criterion}",
        *_row_lines(fit),
        *_status_lines(fit),
    ]


def _weights(fit: GroupFit) -> str:
    """What the weights are called, and mean if that was said."""
    if fit.spec.weights is None:
        return "none"
    meaning = " (counts)" if fit.spec.frequency else " (1/sigma^2)" if fit.spec.cov_type == "known" else ""
    return f"{label_text(fit.spec.weights)}{meaning}"


def _errors(fit: GroupFit) -> str:
    spec = fit.spec
    return f"clustered by {label_text(spec.groups)}" if spec.cov_type == "cluster" else spec.cov_type


def _row_lines(fit: GroupFit) -> list[str]:
    """Rows used and dropped by reason, for targets that share them in one line."""
    totals = fit.accounting()
    lines: dict[str, list[Hashable]] = {}
    for target, counts in zip(fit.targets, totals.to_dict("records"), strict=True):
        dropped = [
            f"{count:,} {str(name).replace('_', ' ')}" for name, count in list(counts.items())[2:] if count
        ]
        about = f" ({', '.join(dropped)})" if dropped else ""
        line = f"{counts['used']:,} of {counts['rows']:,} rows used{about}"
        lines.setdefault(line, []).append(target)
    return _per_target(lines)


def _status_lines(fit: GroupFit) -> list[str]:
    """Statuses that occur, for targets that agree in one line."""
    counts = fit.status_counts()
    lines: dict[str, list[Hashable]] = {}
    for q, target in enumerate(fit.targets):
        seen = [f"{count:,} {word}" for word, count in counts.iloc[:, q].items() if count]
        lines.setdefault(f"status {', '.join(seen) or 'no groups'}", []).append(target)
    return _per_target(lines)


def _per_target(lines: dict[str, list[Hashable]]) -> list[str]:
    if len(lines) == 1:
        return list(lines)
    every = [f"{_listed(targets)}: {line}" for line, targets in lines.items()]
    return every if len(every) <= LISTED else [*every[: LISTED - 1], f"... ({len(every)} different)"]


def _listed(names: Sequence[Hashable]) -> str:
    shown = ", ".join(map(label_text, names[:LISTED]))
    return f"{shown}, ... ({len(names)})" if len(names) > LISTED else shown


def head_table(fit: GroupFit) -> tuple[pd.DataFrame, str]:
    """Coefficients with standard errors of the first groups, as many as fit the screen; what is left."""
    few = rows_of(fit, np.arange(min(HEAD, len(fit))), fit.keys[:HEAD])
    params = few.params
    cells = [[_number(b) for b in column] for column in params.to_numpy().T]
    if not fit.spec.shrunk:
        errors = [[_number(e, 2) for e in column] for column in few.bse.to_numpy().T]
        cells = [
            [f"{b} ± {e}" for b, e in zip(*pair, strict=True)] for pair in zip(cells, errors, strict=True)
        ]
    table = pd.DataFrame(dict(enumerate(cells)), index=params.index)
    table.columns = params.columns.map(lambda pair: tuple(map(label_text, pair)))
    table.columns.names = ["", ""]
    while table.shape[1] > 1 and max(map(len, _lines(table))) > WIDTH:
        table = table.iloc[:, :-1]
    left = {"groups": len(fit) - len(table), "coefficients": params.shape[1] - table.shape[1]}
    more = [f"{count:,} more {what}" for what, count in left.items() if count]
    return table, f"... {', '.join(more)}" if more else ""


def _lines(table: pd.DataFrame) -> list[str]:
    return table.to_string().splitlines()


def _clipped(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def _number(value: Any, digits: int = 5) -> str:
    return "NaN" if value is None or np.isnan(value) else f"{value:.{digits}g}"


def rows_of(fit: GroupFit, groups: IntArray, keys: pd.Index[Any]) -> GroupFit:
    """Make a fit of some groups only, under these keys; its rows are theirs."""
    e, c = fit.estimates, fit.counts
    picked = {f.name: getattr(e, f.name)[groups] for f in fields(e) if f.name != "pattern"}
    counted = {f.name: getattr(c, f.name)[groups] for f in fields(c) if not f.name.startswith("n_")}
    counts = replace(c, **counted, n_rows=int(counted["rows"].sum()), n_without_key=0)
    origins = {j: values[groups] for j, values in fit.origins.items()}
    return type(fit)(replace(e, **picked), keys, fit.spec, counts, origins, fit.backend)


class GroupSummary:
    """One group: what statsmodels' ``summary()`` tells, for each target."""

    def __init__(self, fit: GroupFit, key: Hashable) -> None:
        self.key = key
        place = np.array([find_group(fit.keys, key)])
        self.fit = rows_of(fit, place, pd.RangeIndex(1))  # whatever the keys are called

    def tables(self) -> list[tuple[str, list[tuple[str, str]], pd.DataFrame]]:
        """For each target its name, facts, and the table of coefficients."""
        fit = self.fit
        glance, tidy, flags = fit.glance(), fit.tidy(), fit.flags
        condition, digits = fit.condition_number, fit.digits
        letter = "t" if fit.spec.cov_type == "classical" else "z"
        p, f = len(fit.terms), flags.shape[1] // len(fit.targets)
        made = []
        for q, target in enumerate(fit.targets):
            about = glance.iloc[q]
            marks = [str(flags.columns[i][1]) for i in range(q * f, (q + 1) * f) if flags.iloc[0, i]]
            known = [
                ("status", ", ".join([str(about["status"]), *marks])),
                ("weights", _weights(fit)),
                ("nobs", str(about["nobs"])),
                ("df_resid", _number(about["df_resid"])),
                ("R-squared", _number(about["r_squared"])),
                ("adj. R-squared", _number(about.get("adj_r_squared"))),
                ("rms", _number(about["rms"])),
                ("mad", _number(about["mad"])),
                ("log-likelihood", _number(about.get("log_lik"))),
                ("sigma", _number(about["sigma"])),
                ("AIC", _number(about.get("aic"))),
                ("BIC", _number(about.get("bic"))),
                ("condition number", _number(condition.iloc[0, q], 3)),
                ("digits", _number(digits.iloc[0, q], 3)),
            ]
            if fit.spec.criterion:
                known = [pair for pair in known if pair[0] not in OF_LEAST_SQUARES]
                known.insert(1, ("criterion", fit.spec.criterion))
            if fit.spec.cov_type == "known":
                known += [("chi2", _number(about["chi2"])), ("P(>chi2)", _number(about["chi2_p_value"]))]
            if fit.spec.cov_type in ROBUST:
                known.append(("errors", _errors(fit)))
            if fit.spec.clip is not None:
                known.append(("rows clipped", str(fit.counts.clipped[0, q])))
            names = ["coef", "std err", letter, f"P>|{letter}|", "[0.025", "0.975]"]
            names = names[:1] if fit.spec.shrunk else names
            numbers = tidy.iloc[q * p : (q + 1) * p, -len(names) :].map(_number)
            numbers.index = pd.Index(list(map(label_text, fit.terms)))
            numbers.columns = pd.Index(names)
            made.append((label_text(target), known, numbers))
        return made

    def __repr__(self) -> str:
        blocks = []
        for target, known, numbers in self.tables():
            words = [f"{name:<18}{value}" for name, value in known[:2]]
            cells = [f"{name:<18}{value:<20}" for name, value in known[2:]]
            pairs = ["  ".join(cells[i : i + 2]).rstrip() for i in range(0, len(cells), 2)]
            lines = [f"target {target}, group {self.key!r}", *words, *pairs, "", numbers.to_string()]
            blocks.append("\n".join(lines))
        return "\n\n".join(blocks)

    def _repr_html_(self) -> str:
        blocks = []
        for target, known, numbers in self.tables():
            rows = [f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in known]
            blocks.append(
                f"<p><strong>target {escape(target)}, group {escape(repr(self.key))}</strong></p>"
                f"<table>{''.join(rows)}</table>{numbers.to_html(border=0)}"
            )
        return f"<div>{''.join(blocks)}</div>"


def find_group(keys: pd.Index[Any], key: Hashable) -> int:
    """Position of one key.

    Raises
    ------
    SpecError
        There is no such group; says which key is similar.
    """
    several = keys.nlevels > 1
    if several and not (isinstance(key, tuple) and len(key) == keys.nlevels):
        raise SpecError(f"there is no group {key!r}: keys are tuples of {list(keys.names)}")
    wanted = _index_of_one(key)
    if several:
        wanted = pd.MultiIndex.from_tuples(wanted)
    place = int(find_keys(keys, wanted)[0])
    if place < 0:
        raise SpecError(f"there is no group {key!r}{nearest(key, keys[:KNOWN])}")
    return place


def _index_of_one(key: Hashable) -> pd.Index[Any]:
    try:
        hash(key)
    except TypeError as error:
        raise SpecError(f"there is no group {key!r}: a key must be hashable") from error
    return pd.Index([key], tupleize_cols=False)
