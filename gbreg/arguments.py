# SPDX-License-Identifier: MIT
"""Arguments of `gbreg.fit` that are checked against the frame, or against each other."""

from __future__ import annotations

import warnings
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from gbreg.columns import check_labels, evaluate, is_code, is_label, read_weights, spread
from gbreg.errors import ColumnError, SpecError
from gbreg.keys import check_grouping
from gbreg.layout import GroupLayout
from gbreg.lookup import level_values
from gbreg.spec import FitSpec, Grouping, Unkept, check_bool

SAMPLED = 100  # rows whose keys are compared with those of a layout


def check_frame(frame: object) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise SpecError(
            f"gbreg takes a pandas.DataFrame, got {type(frame).__module__}.{type(frame).__name__}"
        )


def row_code(weights: Any, frame: pd.DataFrame) -> Any:
    """Code that makes the same weight of a row whatever other rows there are, as some rows tell; or None."""
    if not is_code(weights):
        return None
    rows = spread(len(frame), SAMPLED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            whole = np.asarray(read_weights(frame.iloc[rows], weights))
            halves = [np.asarray(read_weights(frame.iloc[rows[start::2]], weights)) for start in (0, 1)]
        except Exception:  # of the caller's code: any; with the whole frame it is raised again
            return None
    alike = [
        np.allclose(half, whole[start::2], rtol=1e-9, atol=0, equal_nan=True)
        for start, half in enumerate(halves)
    ]
    return weights if all(alike) else None


def check_alone(formula: object, **given: Any) -> None:
    if both := [f"{name}=" for name, value in given.items() if value is not None]:
        if not isinstance(formula, str) or "~" not in formula:
            raise SpecError(f"{formula!r} is taken for a formula and is none; for keys write by={formula!r}")
        raise SpecError(f"give formula or {' and '.join(both)}, not both: the formula says the same")


def check_names(
    frame: pd.DataFrame, spec: FitSpec, weights: Any, where: Any, groups: Any, *, keys: bool
) -> None:
    """Raise for all labels at once that are not columns, whichever argument they are in."""
    roles = {
        "linear": [column.label for column in spec.linear if column.label is not None],
        "targets": [column.label for column in spec.targets if column.label is not None],
        "weights": [weights] if is_label(weights) else [],
        "where": [where] if is_label(where) else [],
        "groups": [groups] if is_label(groups) else [],
    }
    unknown = []
    for role in ("by", *roles):
        try:
            if role != "by":
                check_labels(frame, roles[role], role)
            elif keys and spec.grouping is not None:
                check_grouping(frame, spec.grouping)
        except ColumnError as error:
            unknown.append(str(error))
    if unknown:
        raise ColumnError("; ".join(unknown))


def reused_grouping(layout: GroupLayout, frame: pd.DataFrame, **given: Any) -> Grouping:
    """Take the grouping of a layout, if it may be used with this frame and these arguments."""
    if len(frame) != layout.n_rows:
        raise SpecError(f"by= is a layout of {layout.n_rows} rows, the frame has {len(frame)}")
    if not (frame.index is layout.index or frame.index.equals(layout.index)):
        raise SpecError("by= is a layout of a frame with another index; make one for this frame")
    if (row := _other_key(layout, frame)) is not None:
        raise SpecError(
            f"by= is a layout of rows in another order: row {row} of the frame has other keys there; "
            "make one for this frame"
        )
    defaults = {"level": None, "sort": True, "observed": True, "dropna": True}
    for name, value in given.items():
        own = getattr(layout.grouping, name)
        if name != "level":
            check_bool(name, value)
            value = bool(value)
        if value is not defaults[name] and not (type(value) is type(own) and value == own):
            raise SpecError(f"{name}={value!r} was given beside a layout made with {name}={own!r}")
    return layout.grouping


def _other_key(layout: GroupLayout, frame: pd.DataFrame) -> int | None:
    """The first of some rows that has other keys in the frame than in the layout; None if there is none."""
    labels = layout.grouping.labels or ()
    rows = spread(layout.n_rows, SAMPLED)
    rows = rows[layout.codes[rows] >= 0]
    keys = layout.keys.take(layout.codes[rows])
    for i, label in enumerate(labels):
        full = isinstance(label, tuple) and len(label) == frame.columns.nlevels
        plain = type(frame.columns) in (pd.Index, pd.RangeIndex) or full
        if plain and label in frame.columns and len(rows):
            own = level_values(keys, i).to_numpy(dtype=object)
            here = evaluate(frame, label, "by").iloc[rows].to_numpy(dtype=object)
            for row, a, b in zip(rows.tolist(), own, here, strict=True):
                gone = _is_missing(a), _is_missing(b)
                if gone[0] != gone[1] or not (all(gone) or a == b):
                    return int(row)
    return None


def _is_missing(value: Any) -> bool:
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def described(weights: Any, code: Any = None) -> Hashable:
    """Call the weights something: their label, for values their type and the name of a Series, or code."""
    if weights is None or is_label(weights):
        label: Hashable = weights
        return label
    if is_code(weights):
        named = callable(weights) and isinstance(getattr(weights, "__name__", None), str)
        return Unkept(weights.__name__ if named else repr(weights), code)
    name = weights.name if isinstance(weights, (pd.Series, pd.Index)) else None
    return Unkept(type(weights).__name__ if name is None else f"{type(weights).__name__} {name}")
