# SPDX-License-Identifier: MIT
"""How a fit looks at a prompt and in a notebook."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gbreg.flat import text as label_text
from gbreg.problem import ROBUST, IntArray

if TYPE_CHECKING:
    from gbreg.result import GroupFit

WIDTH = 120
LISTED = 6  # names in a line, lines of a kind
HEAD = 5  # groups
NARROWEST = 3  # characters of a column and the space before it


def text(fit: GroupFit) -> str:
    """One screen: at most 30 lines of 120 characters."""
    table, note = head_table(fit)
    shown = ["", *_lines(table), *([note] if note else [])] if len(fit) else []
    lines = [f"GroupFit: {summary(fit)}", *(f"  {fact}" for fact in facts(fit)), *shown]
    return "\n".join(_clipped(line) for line in lines)


def html(fit: GroupFit) -> str:
    """Show the same in a notebook."""
    from html import escape

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
    weights = "" if fit.spec.weights is None else f", weights {weights_of(fit)}"
    errors = f", errors {errors_of(fit)}" if fit.spec.cov_type in ROBUST else ""
    clip = "" if fit.spec.clip is None else f", clip {fit.spec.clip:g}"
    loss = f", loss {loss_of(fit)}" if fit.spec.robust else ""
    shrunk = f", {fit.spec.shrunk}" if fit.spec.shrunk else ""
    parents = f", fallback {_listed(list(fit.parents))}" if fit.parents else ""
    return [
        f"{_listed(fit.targets)} ~ {_listed(fit.terms)}{weights}{errors}{clip}{loss}{shrunk}{parents}",
        *_row_lines(fit),
        *_status_lines(fit),
    ]


def weights_of(fit: GroupFit) -> str:
    """What the weights are called, and mean if that was said."""
    if fit.spec.weights is None:
        return "none"
    meaning = " (counts)" if fit.spec.frequency else " (1/sigma^2)" if fit.spec.cov_type == "known" else ""
    return f"{label_text(fit.spec.weights)}{meaning}"


def errors_of(fit: GroupFit) -> str:
    spec = fit.spec
    return f"clustered by {label_text(spec.groups)}" if spec.cov_type == "cluster" else spec.cov_type


def loss_of(fit: GroupFit) -> str:
    loss = fit.spec.loss
    return f"{loss.name} {loss.quantile if loss.name == 'absolute' else loss.tuning:g}"


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
    total, params = few.params.shape[1], few.params.iloc[:, : WIDTH // NARROWEST]
    cells = [[_number(b) for b in column] for column in params.to_numpy().T]
    if not fit.spec.shrunk:
        errors = [[_number(e, 2) for e in column] for column in few.bse.to_numpy().T[: len(cells)]]
        cells = [
            [b if b == "NaN" else f"{b} ± {e}" for b, e in zip(*pair, strict=True)]
            for pair in zip(cells, errors, strict=True)
        ]
    table = pd.DataFrame(dict(enumerate(cells)), index=params.index)
    table.columns = params.columns.map(lambda pair: tuple(map(label_text, pair)))
    table.columns.names = ["", ""]
    while table.shape[1] > 1 and max(map(len, _lines(table))) > WIDTH:
        table = table.iloc[:, :-1]
    left = {"groups": len(fit) - len(table), "coefficients": total - table.shape[1]}
    more = [f"{count:,} more {what}" for what, count in left.items() if count]
    return table, f"... {', '.join(more)}" if more else ""


def _lines(table: pd.DataFrame) -> list[str]:
    return table.to_string().splitlines()


def _clipped(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def _number(value: Any, digits: int = 5) -> str:
    if value is None or np.isnan(value):
        return "NaN"
    return f"{float(f'{value:.{digits}g}'):.5g}"  # 160, not 1.6e+02


def rows_of(fit: GroupFit, groups: IntArray, keys: pd.Index[Any]) -> GroupFit:
    """A copy with these groups only, under these keys; its row counts are theirs."""
    e, c = fit.estimates, fit.counts
    counted = {f.name: getattr(c, f.name)[groups] for f in fields(c) if not f.name.startswith("n_")}
    counts = replace(c, **counted, n_rows=int(counted["rows"].sum()), n_without_key=0)
    origins = {j: values[groups] for j, values in fit.origins.items()}
    made = type(fit)(e.of_groups(groups), keys, fit.spec, counts, origins, fit.backend)
    if fit.fallback is not None:
        made.fallback = replace(fit.fallback, used=fit.fallback.used[groups])
    return made
