# SPDX-License-Identifier: MIT
"""Parents: coarser groups that speak for those that cannot be fitted by themselves.

A parent is another `GroupFit`, of the same rows under some levels of the keys.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import tables
from gbreg.errors import SpecError
from gbreg.flat import key_names
from gbreg.flat import text as label_text
from gbreg.layout import GroupLayout, make_layout, read_only
from gbreg.lookup import find_keys, level_values
from gbreg.problem import BoolArray, IntArray, Status
from gbreg.rowops import code_type
from gbreg.spec import FitSpec, Grouping
from gbreg.suggest import nearest

if TYPE_CHECKING:
    from gbreg.diagnostics import Diagnostics
    from gbreg.result import GroupFit

OWN, NONE, ALL = "own", "none", "all"
Levels = tuple[int, ...]  # places among the levels of the keys, increasing
Sources = NDArray[np.int16]  # 0: the group's own fit, i: the parent number i, -1: no fit


@dataclass(frozen=True, eq=False)
class Fallback:
    """The parents of a fit, in the order in which they are tried."""

    levels: tuple[Levels, ...]
    parents: dict[str, GroupFit]  # by name
    dropna: bool  # whether rows with a missing key are in no group
    used: Sources  # (g, t) for the groups of the fit


class Served(NamedTuple):
    """Which fit speaks for each of u keys."""

    places: list[IntArray]  # (u,) of the keys in the fit, then in each parent; -1 for not there
    source: Sources  # (u, t)


# what is asked


def read_fallback(fallback: object, names: Sequence[Hashable]) -> tuple[Levels, ...]:
    """Levels of each parent, in the order in which they are tried.

    Raises
    ------
    SpecError
        A name is no level of the keys, or a parent would never be asked.
    """
    names, n = list(names), len(names)
    if isinstance(fallback, str) and fallback == "parent":
        return tuple(tuple(range(i)) for i in range(n - 1, -1, -1))
    if not isinstance(fallback, list):
        raise SpecError(
            "fallback must be 'parent' or a list of lists of keys, such as [['sector', 'row'], []], "
            f"got {fallback!r}{nearest(fallback, ['parent']) if isinstance(fallback, str) else ''}"
        )
    if not fallback:
        raise SpecError("fallback=[] names no parent; [[]] is all rows together")
    made: list[Levels] = []
    for item in fallback:
        wanted = item if isinstance(item, list) else [item]
        places = [_place(name, names) for name in wanted]
        levels = tuple(sorted(set(places)))
        if len(levels) < len(places):
            raise SpecError(f"{item!r} in fallback= names a key twice")
        if len(levels) == n:
            raise SpecError(f"{item!r} in fallback= is all keys of by=, which are the groups themselves")
        if any(set(earlier) <= set(levels) for earlier in made):
            raise SpecError(f"{item!r} in fallback= comes after keys that it includes; the finest goes first")
        made.append(levels)
    return tuple(made)


def _place(name: Any, names: list[Hashable]) -> int:
    """Place of a level by its name, or, if no level is called so, by its number."""
    known = [level for level in names if level is not None]
    try:
        times = known.count(name)
    except ValueError:  # an array, say
        times = 0
    if times > 1:
        raise SpecError(f"{name!r} in fallback= is the name of several keys; give its number")
    if times:
        return names.index(name)
    number = isinstance(name, (int, np.integer)) and not isinstance(name, bool)
    if number and -len(names) <= name < len(names):
        return int(name) % len(names)
    hint = nearest(name, known) if isinstance(name, Hashable) else ""
    if isinstance(name, tuple):
        hint = "; a tuple is one label, for several keys give a list"
    raise SpecError(f"{name!r} in fallback= is no key of by=, whose keys are {names}{hint}")


def parent_names(keys: pd.Index[Any], parents: Sequence[Levels]) -> list[str]:
    """``sector/row`` for the parent of these levels, ``all`` for all rows."""
    words = [label_text(name) for name in key_names(keys)]
    names = ["/".join(words[i] for i in levels) or ALL for levels in parents]
    every = [OWN, *names, NONE]
    if clash := sorted({name for name in every if every.count(name) > 1}):
        raise SpecError(f"two fits would be called {clash} by the keys of fallback=; rename keys")
    return names


# how it is fitted


def add_parents(
    fit: GroupFit,
    layout: GroupLayout,
    parents: Sequence[Levels],
    again: Callable[[GroupLayout, FitSpec], GroupFit],
) -> GroupFit:
    """Fit the parents of a fit, of the rows of all its groups, with the same options."""
    names = parent_names(layout.keys, parents)
    made = {}
    for name, levels in zip(names, parents, strict=True):
        grouping = _part_of(fit.spec.grouping, levels)
        made[name] = again(coarser(layout, levels), replace(fit.spec, grouping=grouping))
    attach(fit, tuple(parents), made, layout.grouping.dropna)
    return fit


def attach(fit: GroupFit, levels: tuple[Levels, ...], parents: dict[str, GroupFit], dropna: bool) -> None:
    """Give a fit its parents."""
    none = np.zeros(fit.estimates.status.shape, dtype=np.int16)
    fit.fallback = Fallback(levels, parents, bool(dropna), none)
    fit.fallback = replace(fit.fallback, used=sources(fit, fit.keys).source)


def coarser(layout: GroupLayout, levels: Levels) -> GroupLayout:
    """Groups by some levels of the keys: every group is in one of them, no row is looked at twice."""
    n = layout.n_groups
    if levels:
        # names that are no integers: with observed=False pandas takes those for places
        parts = {f"key {level}": pd.Series(level_values(layout.keys, level)) for level in levels}
        grouping = replace(layout.grouping, by=list(parts), level=None, dropna=False)
        groups = make_layout(pd.DataFrame(parts, index=pd.RangeIndex(n)), grouping)
        keys = groups.keys.set_names([layout.keys.names[level] for level in levels])
        parent = groups.codes
    else:
        keys, parent = pd.Index([ALL]), np.zeros(n, dtype=np.int64)
    dtype = code_type(len(keys))
    codes = np.append(parent, -1).astype(dtype)[layout.codes]
    sizes = np.zeros(len(keys), dtype=np.int64)
    np.add.at(sizes, parent, layout.sizes)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    return replace(layout, codes=read_only(codes), offsets=read_only(offsets), keys=keys)


def _part_of(grouping: Grouping | None, levels: Levels) -> Grouping | None:
    """The grouping by some of its keys; None if that cannot be said in labels."""
    if grouping is None or not levels:
        return None
    if grouping.level is not None:
        asked = list(grouping.level) if isinstance(grouping.level, (list, tuple)) else [grouping.level]
        return replace(grouping, level=[asked[i] for i in levels])
    labels = grouping.labels
    return None if labels is None else replace(grouping, by=[labels[i] for i in levels])


# who speaks for whom


def usable(fit: Diagnostics) -> BoolArray:
    """(g, t) whether a group has a fit to predict with, and one to rely on."""
    status = fit.estimates.status
    fine = status <= Status.SATURATED
    if fit.spec.options.on_collinear == "drop":
        fine |= (status == Status.RANK_DEFICIENT) & np.isfinite(fit.estimates.level)  # or not told apart
    return np.asarray(fine)


def sources(fit: Diagnostics, keys: pd.Index[Any]) -> Served:
    """Of each key, the finest fit that is usable.

    Where there is none, a group that is ``not_converged``, or that determines some values, keeps its own
    numbers, as it does without parents.
    """
    places, source = [], np.full((len(keys), len(fit.targets)), -1, dtype=np.int16)
    for i, (one, own) in enumerate(_levels_of(fit, keys)):
        place = find_keys(one.keys, own)
        places.append(place)
        source[(source < 0) & _at(usable(one), place)] = i
    status = fit.estimates.status
    some = (status == Status.NOT_CONVERGED) | ((status == Status.RANK_DEFICIENT) & (not fit.spec.shrunk))
    source[(source < 0) & _at(some & np.isfinite(fit.estimates.level), places[0])] = 0
    return Served(places, source)


def _levels_of(fit: Diagnostics, keys: pd.Index[Any]) -> Iterator[tuple[Diagnostics, pd.Index[Any]]]:
    """The fit and its parents, and what each of them calls these keys."""
    yield fit, keys
    if fit.fallback is None:
        return
    for levels, parent in zip(fit.fallback.levels, fit.fallback.parents.values(), strict=True):
        if not levels:
            yield parent, pd.Index([ALL]).repeat(len(keys))
        elif isinstance(keys, pd.MultiIndex):
            gone = [i for i in range(keys.nlevels) if i not in levels]  # numbers are names, if there are such
            yield parent, keys.set_names(range(keys.nlevels)).droplevel(gone)


def _at(values: BoolArray, places: IntArray) -> BoolArray:
    """(g, t) -> (u, t), False at place -1."""
    return np.append(values, np.zeros((1, values.shape[1]), dtype=np.bool_), axis=0)[places]


def status_codes(fit: Diagnostics) -> NDArray[np.uint8]:
    """(g, t) statuses, ``fallback`` where a parent speaks for the group."""
    if fit.fallback is None:
        return fit.estimates.status
    return np.where(fit.fallback.used > 0, Status.FALLBACK, fit.estimates.status).astype(np.uint8)


def as_words(fit: Diagnostics, source: Sources) -> pd.Categorical[Any]:
    """Sources (n,) as words."""
    words = [OWN, *fit.parents, NONE]
    codes: Any = source % len(words)  # -1 is the last
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(words))


def table(fit: Diagnostics, fallback: Fallback) -> pd.DataFrame:
    """See `GroupFit.fallbacks`."""
    columns: list[Any] = []
    for q in range(len(fit.targets)):
        columns += [as_words(fit, fallback.used[:, q]), tables.as_words(fit.estimates.status[:, q])]
    labels = tables.product(("target", fit.targets), ("fallback", ("source", "own_status")))
    return pd.DataFrame(dict(enumerate(columns)), index=fit.keys).set_axis(labels, axis=1)
