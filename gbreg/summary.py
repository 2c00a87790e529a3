# SPDX-License-Identifier: MIT
"""One group as statsmodels' ``summary()`` shows a regression: its fields, its formats, its rules."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable
from dataclasses import dataclass
from html import escape
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gbreg.display import errors_of, loss_of, rows_of, weights_of
from gbreg.errors import SpecError
from gbreg.flat import text as label_text
from gbreg.lookup import find_keys
from gbreg.problem import ROBUST, Flag, Status
from gbreg.spec import FitSpec
from gbreg.suggest import nearest

if TYPE_CHECKING:
    from gbreg.result import GroupFit

KNOWN = 10_000  # keys that are searched for a similar one
NAME, CELLS = 10, (11, 11, 11, 11, 12, 12)  # widths of the coefficients' table, as statsmodels'
LEFT, GAP = 37, 3  # of the two columns above and below it
LONGEST = 40  # of a name; the rest of a longer one is cut off
LARGE = 1000  # condition number that statsmodels remarks on
# statsmodels' words
COVARIANCES = {
    "classical": "nonrobust",
    "known": "fixed scale",
    "huber": "H1",
    "bisquare": "H1",
    "absolute": "iid",
}
METHODS = {"RLM": "IRLS", "QuantReg": "Interior Point", "Ridge": "Penalized LS", "Bounded": "Active Set"}
REASONS = {
    Status.SATURATED: "As many rows as coefficients: the fit is exact, and leaves nothing to tell errors by.",
    Status.TOO_FEW_ROWS: "Fewer rows than min_nobs: the group was not fitted.",
    Status.NO_DATA: "No row takes part: the group was not fitted.",
    Status.RANK_DEFICIENT: "Predictors are constant or dependent: only what the data determine has a number.",
    Status.NOT_CONVERGED: "The fit was not stable when its iterations ended.",
    Status.OVERFLOW: "A number leaves the range of float64: the group was not fitted.",
}
REMARKS = {
    Flag.PERFECT_FIT: "Residuals are rounding noise, and so are errors: there are no statistics.",
    Flag.CONSTANT_TARGET: "The target is constant: R-squared is not defined.",
}

Pairs = list[tuple[str, str]]


@dataclass(frozen=True, eq=False)
class Block:
    """What is shown of one target."""

    title: str
    left: Pairs
    right: Pairs
    flags: str
    coefficients: pd.DataFrame  # of text
    footer: tuple[Pairs, Pairs]
    notes: list[str]


class GroupSummary:
    """One group: what statsmodels' ``summary()`` tells, for each target."""

    def __init__(self, fit: GroupFit, key: Hashable) -> None:
        self.key = key
        place = find_group(fit.keys, key)
        self.fit = rows_of(fit, np.array([place]), pd.RangeIndex(1))  # whatever the keys are called

    def blocks(self) -> list[Block]:
        return [_block(self.fit, q, self.key) for q in range(len(self.fit.targets))]

    def __repr__(self) -> str:
        return "\n\n".join(map(_as_text, self.blocks()))

    def _repr_html_(self) -> str:
        return f"<div>{''.join(map(_as_html, self.blocks()))}</div>"


# what is shown


def _block(fit: GroupFit, q: int, key: Hashable) -> Block:
    left, right, footer = _facts(fit, q)
    flags = [flag.word for flag in Flag if fit.estimates.flags[0, q] & flag]
    return Block(
        title=f"{_model(fit)} Regression Results, group {_plain(key)!r}",
        left=left,
        right=right,
        flags=", ".join(flags),
        coefficients=_coefficients(fit, q),
        footer=footer,
        notes=_notes(fit, q),
    )


def _model(fit: GroupFit) -> str:
    if fit.spec.robust:
        return "QuantReg" if fit.spec.loss.name == "absolute" else "RLM"
    if fit.spec.shrunk:
        return "Ridge" if fit.spec.penalised else "Bounded"
    return "OLS" if fit.spec.weights is None else "WLS"


def _facts(fit: GroupFit, q: int) -> tuple[Pairs, Pairs, tuple[Pairs, Pairs]]:
    """Left and right of the head, and of the foot."""
    spec, made = fit.spec, fit.statistics

    def of(name: str, form: str) -> str:
        return format(float(getattr(made, name)[0, q]), form).strip()

    about = "" if spec.options.intercept else " (uncentered)"
    left = [
        ("Dep. Variable:", _short(fit.targets[q])),
        ("Model:", _model(fit)),
        ("Method:", METHODS.get(_model(fit), "Least Squares")),
        ("No. Observations:", str(made.nobs[0, q])),
        ("Df Residuals:", of("df_resid", ".4g" if spec.shrunk else ".0f")),
        ("Df Model:", of("df_model", ".0f")),
        ("Covariance Type:", _covariance(spec)),
        ("Weights:", weights_of(fit)[:LONGEST]),
        ("Status:", str(fit.status.iloc[0, q])),
    ]
    if spec.clip is not None:
        left.append(("Rows Clipped:", str(fit.counts.clipped[0, q])))
    right = [("Loss:", loss_of(fit))] if spec.robust else []
    if not spec.robust:
        right.append((f"R-squared{about}:", of("rsquared", "#8.3f")))
    if not spec.criterion:
        right.append((f"Adj. R-squared{about}:", of("rsquared_adj", "#8.3f")))
    if spec.cov_type == "classical" and not spec.criterion:
        right += [("F-statistic:", of("fvalue", "#8.4g")), ("Prob (F-statistic):", of("f_pvalue", "#6.3g"))]
    if spec.cov_type == "known":
        right += [("Chi2:", of("ssr", "#8.4g")), ("Prob (Chi2):", of("chi2_pvalue", "#6.3g"))]
    if not spec.criterion:
        right += [
            ("Log-Likelihood:", of("llf", "#8.5g")),
            ("AIC:", of("aic", "#8.4g")),
            ("BIC:", of("bic", "#8.4g")),
        ]
    right += [("Sigma:", of("sigma", "#8.4g")), ("RMS:", of("rms", "#8.4g"))]
    if spec.options.mad:
        right.append(("MAD:", f"{fit.estimates.mad[0, q]:#8.4g}".strip()))
    footer = [("Digits:", of("digits", "#8.3g"))], [("Cond. No.", of("condition_number", "#8.3g"))]
    return left, right, footer


def _covariance(spec: FitSpec) -> str:
    if spec.shrunk:
        return "none"
    return COVARIANCES.get(spec.loss.name, COVARIANCES.get(spec.cov_type, spec.cov_type))


def _coefficients(fit: GroupFit, q: int) -> pd.DataFrame:
    made, params = fit.statistics, fit.estimates.known_params[0, q]
    letter = "z" if made.df_error is None else "t"
    if fit.spec.shrunk:
        cells = {"coef": list(map(_coef, params))}
        return pd.DataFrame(cells, index=list(map(_short, fit.terms)))
    bounds = [bound[0, q] for bound in made.conf_int(0.05)]
    columns = [params, made.bse[0, q], made.tvalues[0, q], made.pvalues[0, q], *bounds]
    names = ["coef", "std err", letter, f"P>|{letter}|", "[0.025", "0.975]"]
    forms = [_coef, _other, _other, _probability, _other, _other]
    cells = {name: list(map(form, column)) for name, column, form in zip(names, columns, forms, strict=True)}
    return pd.DataFrame(cells, index=list(map(_short, fit.terms)))


def _coef(value: float) -> str:
    return _decimal(value, 4, least=1e-3)


def _other(value: float) -> str:
    return _decimal(value, 3, least=1e-2)


def _probability(value: float) -> str:
    return _decimal(value, 3, least=5e-4)


def _decimal(value: float, places: int, least: float) -> str:
    """Write a number with so many decimals, as statsmodels does; below ``least`` with digits.

    statsmodels has 0.000 for a standard error of 0.0004.
    """
    size = abs(value)
    if np.isnan(size) or size == 0 or least <= size < 1e4:
        return f"{value:.{places}f}"
    return f"{value:.{places}g}"


def _notes(fit: GroupFit, q: int) -> list[str]:
    spec, notes = fit.spec, []
    status = Status(int(fit.estimates.status[0, q]))
    if status in REASONS and not (status == Status.SATURATED and spec.cov_type == "known"):
        notes.append(REASONS[status])
    if fit.fallback is not None and (source := int(fit.fallback.used[0, q])) != 0:
        parent = f"its parent {list(fit.parents)[source - 1]!r}" if source > 0 else "no parent either"
        notes.append(f"Rows of this group are predicted by {parent}.")
    flags = int(fit.estimates.flags[0, q])
    notes += [remark for flag, remark in REMARKS.items() if flags & flag]
    if flags & Flag.NO_ROBUST_ERRORS:
        why = "A leverage of 1, or a single cluster"
        if spec.robust:
            why = "Too few rows, too few off the fit, or rows left out that are far out in a predictor"
        notes.append(f"{why}: there are no robust errors.")
    if not spec.options.intercept and not spec.robust:
        notes.append("R-squared is computed without centering (uncentered): the model has no constant.")
    if spec.shrunk:
        notes.append(f"Fitted with {spec.shrunk}: there are no standard errors.")
    if spec.cov_type == "known":
        notes.append("Standard errors are based on fixed scale: weights are 1/sigma^2 (cov_type='known').")
    elif spec.cov_type == "cluster":
        notes.append(f"Standard errors are robust to cluster correlation, {errors_of(fit)}.")
    elif spec.cov_type in ROBUST:
        notes.append(f"Standard errors are heteroscedasticity robust ({spec.cov_type}).")
    if spec.frequency:
        notes.append("Weights are counts: rows are repeated.")
    if LARGE < (condition := fit.statistics.condition_number[0, q]) < np.inf:
        notes.append(
            f"The condition number is large, {condition:.3g}; Digits tells how many digits of the "
            "coefficients it leaves."
        )
    return notes


def _short(label: Hashable) -> str:
    name = label_text(label)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _plain(key: Any) -> Any:
    """A key as Python writes it, without the types of numpy."""
    if isinstance(key, tuple):
        return tuple(map(_plain, key))
    return key.item() if isinstance(key, np.generic) else key


# how it is shown


def _as_text(block: Block) -> str:
    table = block.coefficients
    cells = [list(table.columns), *table.to_numpy().tolist()]
    widths = [
        max(least, *(len(row[i]) + 1 for row in cells)) for i, least in enumerate(CELLS[: len(cells[0])])
    ]
    stub = max(NAME, *map(len, table.index))
    width = max(stub + sum(widths), *(_needed(*pairs) for pairs in ((block.left, block.right), block.footer)))
    stub = width - sum(widths)
    rows = [
        name.ljust(stub) + "".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True))
        for name, row in zip(["", *table.index], cells, strict=True)
    ]
    rule = "=" * width
    lines = [block.title.center(width).rstrip(), rule, *_in_pairs(block.left, block.right, width)]
    if block.flags:
        lines += textwrap.wrap(f"Flags: {block.flags}", width, subsequent_indent=" " * 7)
    lines += [rule, rows[0], "-" * width, *rows[1:], rule, *_in_pairs(*block.footer, width), rule]
    if block.notes:
        lines += ["", "Notes:"]
        for i, note in enumerate(block.notes, start=1):
            lines += textwrap.wrap(f"[{i}] {note}", width, break_on_hyphens=False)
    return "\n".join(lines)


def _needed(left: Pairs, right: Pairs) -> int:
    """Width that two columns of names and values take."""
    return max(LEFT, _widest(left)) + GAP + _widest(right)


def _widest(pairs: Pairs) -> int:
    return max(len(name) + 1 + len(value) for name, value in pairs)


def _in_pairs(left: Pairs, right: Pairs, width: int) -> list[str]:
    """Names at the left and values at the right of two columns."""
    lw = max(LEFT, _widest(left))
    rw = width - lw - GAP
    lines = []
    for (name, value), (other, its) in zip_longest(left, right, fillvalue=("", "")):
        one = name + value.rjust(lw - len(name))
        lines.append((one + " " * GAP + other + its.rjust(rw - len(other))).rstrip())
    return lines


def _as_html(block: Block) -> str:
    pairs = [*zip_longest(block.left, block.right, fillvalue=("", ""))]
    if block.flags:
        pairs.append((("Flags:", block.flags), ("", "")))
    pairs += zip(*block.footer, strict=True)
    rows = "".join(
        "<tr>" + "".join(f"<th>{escape(name)}</th><td>{escape(value)}</td>" for name, value in pair) + "</tr>"
        for pair in pairs
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in block.notes)
    return (
        f"<p><strong>{escape(block.title)}</strong></p><table>{rows}</table>"
        f"{block.coefficients.to_html(border=0)}{f'<ul>{notes}</ul>' if notes else ''}"
    )


# which group


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
