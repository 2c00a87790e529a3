# SPDX-License-Identifier: MIT
"""How a fit looks at a prompt and in a notebook."""

from __future__ import annotations

from collections.abc import Hashable
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gbreg import flat
from gbreg.errors import SpecError
from gbreg.keys import find_keys
from gbreg.suggest import nearest

if TYPE_CHECKING:
    from gbreg.result import GroupFit

HEAD_GROUPS = 5
HEAD_COLUMNS = 8
LISTED = 6  # names in a line


def head_line(fit: GroupFit) -> str:
    return f"{fit.n_groups:,} groups x {len(fit.targets)} targets, backend {fit.backend}"


def model_lines(fit: GroupFit) -> list[str]:
    """What was regressed on what."""
    weights = "" if fit.spec.weights is None else f", weights {fit.spec.weights}"
    return [f"{listed(fit.targets)} on {listed(fit.terms)}{weights}"]


def listed(names: tuple[Hashable, ...]) -> str:
    shown = ", ".join(map(str, names[:LISTED]))
    return f"{shown}, ... ({len(names)})" if len(names) > LISTED else shown


def row_lines(fit: GroupFit) -> list[str]:
    """Rows used and dropped by reason; one line unless targets differ."""
    totals = fit.accounting()
    lines = []
    for target, row in totals.drop_duplicates().iterrows():
        gone = [f"{row[name]:,} {name.replace('_', ' ')}" for name in totals.columns[2:] if row[name]]
        about = f" ({', '.join(gone)})" if gone else ""
        which = f" for {target}" if len(totals.drop_duplicates()) > 1 else ""
        lines.append(f"{row['used']:,} of {row['rows']:,} rows used{which}{about}")
    return lines[:LISTED]


def status_lines(fit: GroupFit) -> list[str]:
    """Statuses that occur, per target."""
    lines = []
    for target, counts in fit.status_counts().items():
        seen = ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)
        lines.append(f"{target}: {seen or 'no groups'}")
    return lines[:LISTED]


def head_table(fit: GroupFit) -> pd.DataFrame:
    """Coefficients with their errors for the first groups."""
    few = head(fit, HEAD_GROUPS)
    table = few.to_frame(stats=["params", "bse"]).set_index(flat.key_names(fit.keys))
    p = len(fit.terms)
    pairs = [q * 2 * p + j + half * p for q in range(len(fit.targets)) for j in range(p) for half in (0, 1)]
    return table.iloc[:, pairs[:HEAD_COLUMNS]]


def head(fit: GroupFit, n: int) -> GroupFit:
    """The first groups as a fit of their own."""
    return rows_of(fit, np.arange(min(n, len(fit))))


def rows_of(fit: GroupFit, groups: Any) -> GroupFit:
    """Some groups as a fit of their own; its row counts are theirs."""
    from dataclasses import fields, replace

    e, c = fit.estimates, fit.counts
    picked = {f.name: getattr(e, f.name)[groups] for f in fields(e) if f.name != "pattern"}
    counted = {
        f.name: getattr(c, f.name)[groups] for f in fields(c) if f.name not in ("n_rows", "n_without_key")
    }
    counts = replace(c, **counted, n_rows=int(counted["rows"].sum()), n_without_key=0)
    origins = {j: values[groups] for j, values in fit.origins.items()}
    return type(fit)(replace(e, **picked), fit.keys[groups], fit.spec, counts, origins, fit.backend)


def text(fit: GroupFit) -> str:
    """One screen."""
    lines = [
        f"GroupFit: {head_line(fit)}",
        *(f"  {line}" for line in model_lines(fit)),
        *(f"  {line}" for line in row_lines(fit)),
        "status",
        *(f"  {line}" for line in status_lines(fit)),
    ]
    if len(fit):
        table = head_table(fit)
        lines += ["", table.to_string(float_format=number, na_rep="NaN")]
        more = len(fit) - len(table)
        hidden = 2 * len(fit.targets) * len(fit.terms) - table.shape[1]
        notes = [f"{more:,} more groups"] * (more > 0) + [f"{hidden} more columns"] * (hidden > 0)
        lines += [f"... {', '.join(notes)}"] * bool(notes)
    return "\n".join(lines)


def html(fit: GroupFit) -> str:
    """The same for a notebook."""
    facts = [*model_lines(fit), *row_lines(fit), *(f"status {line}" for line in status_lines(fit))]
    table = head_table(fit).to_html(float_format=number, na_rep="NaN", border=0) if len(fit) else ""
    more = f"<p>... {len(fit) - HEAD_GROUPS:,} more groups</p>" if len(fit) > HEAD_GROUPS else ""
    return (
        f"<div><strong>GroupFit</strong>: {escape(head_line(fit))}"
        f"<ul>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>{table}{more}</div>"
    )


def number(value: float) -> str:
    return f"{value:.5g}"


class GroupSummary:
    """One group: what statsmodels' ``summary()`` tells, for each target."""

    def __init__(self, fit: GroupFit, key: Hashable) -> None:
        wanted = (
            pd.MultiIndex.from_tuples([key])
            if fit.keys.nlevels > 1 and isinstance(key, tuple)
            else pd.Index([key], tupleize_cols=False)
        )
        place = find_keys(fit.keys, wanted)[0] if wanted.nlevels == fit.keys.nlevels and len(fit) else -1
        if place < 0:
            known = [str(label) for label in fit.keys[:10_000]]
            raise SpecError(f"there is no group {key!r}{nearest(str(key), known)}")
        self.key = key
        self.fit = rows_of(fit, np.array([place]))

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        """A headline and the table of coefficients for each target."""
        made = []
        glance, tidy = self.fit.glance(), self.fit.tidy()
        for q, target in enumerate(self.fit.targets):
            facts = glance.iloc[q]
            flags = self.fit.flags.iloc[0, q * 6 : q * 6 + 6]
            marks = [str(flag) for (_, flag), on in flags.items() if on]
            about = ", ".join([str(facts["status"]), *marks])
            line = (
                f"{target}: {about}; nobs {facts['nobs']}, df_resid {number(facts['df_resid'])}, "
                f"R2 {number(facts['r_squared'])}, rms {number(facts['rms'])}"
            )
            p = len(self.fit.terms)
            table = tidy.iloc[q * p : (q + 1) * p].set_index("term")
            made.append((line, table.iloc[:, -6:]))
        return made

    def __repr__(self) -> str:
        blocks = [f"{line}\n{table.to_string(float_format=number)}" for line, table in self.tables()]
        return f"group {self.key!r}\n" + "\n\n".join(blocks)

    def _repr_html_(self) -> str:
        blocks = [f"<p>{escape(line)}</p>{table.to_html(float_format=number)}" for line, table in self.tables()]
        return f"<div><strong>group {escape(repr(self.key))}</strong>{''.join(blocks)}</div>"
