# SPDX-License-Identifier: MIT
"""Arrays get their labels: frames of their own, a row per group, columns targets and what they have."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.accounting import RowCounts
from gbreg.problem import Status

ROW_COUNTS = ("rows", "used", "missing", "infinite", "clipped", "zero_weight", "not_selected")


@cache
def status_dtype() -> pd.CategoricalDtype:
    """Of columns of words; made when it is needed, because pandas takes as long as to import a module."""
    return pd.CategoricalDtype([status.word for status in Status])


def by_axes(values: NDArray[Any], keys: pd.Index[Any], *axes: tuple[str, Sequence[Hashable]]) -> pd.DataFrame:
    """(g, ...) as a frame; columns are all combinations of the labels of the other axes."""
    return with_columns(values, keys, product(*axes))


def with_columns(
    values: NDArray[Any], keys: pd.Index[Any], columns: pd.Index[Any], *, fresh: bool = False
) -> pd.DataFrame:
    """(g, ...) as a frame that owns its numbers, laid out as they come: turning them takes twice as long.

    ``fresh`` ones, made for this frame alone, become its own without a copy.
    """
    own = values if fresh else np.array(values, order="K")
    own = own.reshape(len(keys), len(columns))
    return pd.DataFrame(own, index=keys.view(), columns=columns, copy=False)  # the keys keep their names


def by_term_and_term(values: NDArray[Any], keys: pd.Index[Any], terms: Sequence[Hashable]) -> pd.DataFrame:
    """(g, p, p) as a frame; rows are (keys..., term), columns terms."""
    p = len(terms)
    rows = values.reshape(len(keys) * p, p)
    return pd.DataFrame(rows, index=with_terms(keys, terms), columns=labels(terms, "term"))


def statuses(codes: NDArray[Any], keys: pd.Index[Any], targets: Sequence[Hashable]) -> pd.DataFrame:
    """(g, t) codes as a frame of words."""
    words: Any = [as_words(own) for own in codes.T]
    words = words[0] if len(words) == 1 else dict(enumerate(words))  # a dict takes four times as long
    frame = pd.DataFrame(words, index=keys.view(), copy=False)
    frame.columns = labels(targets, "target")
    return frame


def status_counts(codes: NDArray[Any], targets: Sequence[Hashable]) -> pd.DataFrame:
    """(g, t) codes, counted; rows are all words."""
    counts = [np.bincount(own, minlength=len(Status)) for own in codes.T]
    words = pd.Index(status_dtype().categories, name="status")
    return pd.DataFrame(np.array(counts).T, index=words, columns=labels(targets, "target"))


def as_words(codes: NDArray[Any]) -> pd.Categorical[Any]:
    """Statuses as words."""
    return pd.Categorical.from_codes(codes.astype(np.int8), dtype=status_dtype(), validate=False)


def row_counts(counts: RowCounts, keys: pd.Index[Any], targets: Sequence[Hashable]) -> pd.DataFrame:
    """Rows by what happened to them, a row per group; columns (target, count)."""
    shape = (len(keys), len(targets))
    values = [getattr(counts, name) for name in ROW_COUNTS]
    wide = [np.broadcast_to(v if v.ndim > 1 else v[:, None], shape) for v in values]
    return by_axes(np.stack(wide, axis=-1), keys, ("target", targets), ("count", ROW_COUNTS))


def total_row_counts(counts: RowCounts, targets: Sequence[Hashable]) -> pd.DataFrame:
    """Rows of the whole frame by what happened to them, a row per target."""
    sums = {name: getattr(counts, name).sum(axis=0, dtype=np.int64) for name in ROW_COUNTS}
    totals = pd.DataFrame(sums, index=labels(targets, "target"))
    return totals.assign(rows=counts.n_rows, without_key=counts.n_without_key)


def labels(names: Sequence[Hashable], name: str | None) -> pd.Index[Any]:
    """Make an index of labels; tuples stay single labels."""
    return _labels(tuple(names), repr(names), name)[:]  # its name and pandas' caches are its own


@lru_cache
def _labels(names: tuple[Hashable, ...], spelt: str, name: str | None) -> pd.Index[Any]:
    """Pandas takes 0.1 ms, a tenth of a small fit; ``spelt`` tells 1 from True."""
    made: pd.Index[Any] = pd.Index(list(names), name=name, tupleize_cols=False)
    if isinstance(made.values, np.ndarray):  # pandas 2 would let its users write into them
        made.values.flags.writeable = False
    return made


def product(*axes: tuple[str, Sequence[Hashable]]) -> pd.MultiIndex:
    """All combinations of the labels of named axes, the last varying fastest."""
    return _product(tuple((name, tuple(names)) for name, names in axes), repr(axes)).view()


@lru_cache
def _product(axes: tuple[tuple[str, tuple[Hashable, ...]], ...], spelt: str) -> pd.MultiIndex:
    levels: list[Any] = [labels(names, None) for _, names in axes]
    codes = np.indices([len(level) for level in levels]).reshape(len(levels), -1)
    names: list[Any] = [name for name, _ in axes]
    return pd.MultiIndex(levels=levels, codes=list(codes), names=names, verify_integrity=False)


def with_terms(keys: pd.Index[Any], terms: Sequence[Hashable]) -> pd.MultiIndex:
    """Each key with each term: the levels of the keys, then the terms."""
    g, p = len(keys), len(terms)
    levels: list[Any]
    codes: list[Any]
    if isinstance(keys, pd.MultiIndex):
        levels, codes = list(keys.levels), list(keys.codes)
    else:
        present = keys.notna()
        levels, codes = [keys[present]], [np.where(present, np.cumsum(present) - 1, -1)]
    levels.append(labels(terms, None))
    codes = [*(np.repeat(code, p) for code in codes), np.tile(np.arange(p), g)]
    return pd.MultiIndex(
        levels=levels,
        codes=codes,
        names=[*keys.names, "term"],
        verify_integrity=False,
    )
