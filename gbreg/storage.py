# SPDX-License-Identifier: MIT
"""A whole fit as one Parquet file: a row per group, the rest in the file's metadata.

Labels are stored as JSON with their type, so only strings, numbers, booleans and tuples of
them can be saved; no code is stored and none is run on reading.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gbreg.accounting import RowCounts
from gbreg.columns import Column
from gbreg.errors import GbregError, MissingExtraError, SpecError
from gbreg.problem import Estimates, FitOptions
from gbreg.spec import FitSpec, Grouping

if TYPE_CHECKING:
    from gbreg.result import GroupFit

SCHEMA = 1
METADATA = b"gbreg"


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("Parquet files need pyarrow: pip install 'gbreg[arrow]'") from error
    return pyarrow


def to_parquet(fit: GroupFit, path: str | Path) -> None:
    """See `GroupFit.to_parquet`."""
    arrow = _arrow()
    keys = fit.keys.to_frame(index=False, name=[f"key_{i}" for i in range(fit.keys.nlevels)])
    table = _keys_to_arrow(arrow, keys)
    shapes = {}
    arrays = {f.name: getattr(fit.estimates, f.name) for f in fields(Estimates) if f.name != "pattern"}
    counts = {f.name: getattr(fit.counts, f.name) for f in fields(RowCounts)}
    arrays |= {f"count_{name}": values for name, values in counts.items() if isinstance(values, np.ndarray)}
    arrays |= {f"origin_{j}": values for j, values in fit.origins.items()}
    for name, values in arrays.items():
        shapes[name] = list(values.shape[1:])
        flat = np.ascontiguousarray(values).reshape(len(fit), -1)
        for i in range(flat.shape[1]):
            table = table.append_column(f"{name}.{i}", arrow.array(flat[:, i]))
    spec = fit.spec.portable()
    grouping = spec.grouping
    facts = {
        "schema": SCHEMA,
        "shapes": shapes,
        "pattern": fit.estimates.pattern.tolist(),
        "key_names": [_label_out(name) for name in fit.keys.names],
        "n_rows": fit.counts.n_rows,
        "n_without_key": fit.counts.n_without_key,
        "backend": fit.backend,
        "linear": [[_label_out(c.name), _label_out(c.source)] for c in spec.linear],
        "targets": [[_label_out(c.name), _label_out(c.source)] for c in spec.targets],
        "weights": _label_out(spec.weights),
        "options": asdict(spec.options),
        "missing": spec.missing,
        "grouping": None
        if grouping is None
        else {
            "by": _labels_out(grouping.by),
            "level": _labels_out(grouping.level),
            "sort": grouping.sort,
            "observed": grouping.observed,
            "dropna": grouping.dropna,
        },
    }
    metadata = {**(table.schema.metadata or {}), METADATA: json.dumps(facts).encode()}
    arrow.parquet.write_table(table.replace_schema_metadata(metadata), path)


def _keys_to_arrow(arrow: Any, keys: pd.DataFrame) -> Any:
    for i, column in enumerate(keys.columns):
        if any(isinstance(value, tuple) for value in keys[column].head(1000)):
            raise SpecError(f"keys of level {i} are tuples, which Parquet cannot hold; group by their parts")
    try:
        return arrow.Table.from_pandas(keys, preserve_index=False)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError, arrow.ArrowNotImplementedError) as error:
        raise SpecError(f"keys of dtypes {keys.dtypes.tolist()} cannot be stored as Parquet: {error}") from error


def read_parquet(path: str | Path) -> GroupFit:
    """Read a fit that `GroupFit.to_parquet` wrote.

    Raises
    ------
    GbregError
        The file is not one, or was written by a later version of gbreg.
    MissingExtraError
        pyarrow is not installed.
    """
    from gbreg.result import GroupFit

    arrow = _arrow()
    table = arrow.parquet.read_table(path)
    raw = (table.schema.metadata or {}).get(METADATA)
    if raw is None:
        raise GbregError(f"{path} is a Parquet file, but not a fit saved by gbreg")
    facts = json.loads(raw)
    if facts["schema"] != SCHEMA:
        raise GbregError(f"{path} has schema {facts['schema']}, this gbreg reads {SCHEMA}; use a newer gbreg")
    names = [name for name in table.column_names if name.startswith("key_")]
    keys = _index(table.select(names).to_pandas(), [_label_in(name) for name in facts["key_names"]])
    arrays = {name: _array(table, name, shape) for name, shape in facts["shapes"].items()}
    dtypes = {"status": np.uint8, "flags": np.uint8, "dropped": np.bool_}
    estimates = Estimates(
        **{
            f.name: arrays[f.name].astype(dtypes.get(f.name, arrays[f.name].dtype))
            for f in fields(Estimates)
            if f.name != "pattern"
        },
        pattern=np.array(facts["pattern"], dtype=np.int64),
    )
    counts = RowCounts(
        n_rows=facts["n_rows"],
        n_without_key=facts["n_without_key"],
        **{name.removeprefix("count_"): arrays[name] for name in arrays if name.startswith("count_")},
    )
    grouping = facts["grouping"]
    spec = FitSpec(
        grouping=grouping
        and Grouping(
            **{**grouping, "by": _labels_in(grouping["by"]), "level": _labels_in(grouping["level"])}
        ),
        linear=tuple(Column(_label_in(a), _label_in(b)) for a, b in facts["linear"]),
        targets=tuple(Column(_label_in(a), _label_in(b)) for a, b in facts["targets"]),
        weights=_label_in(facts["weights"]),
        options=FitOptions(**facts["options"]),
        missing=facts["missing"],
    )
    origins = {int(name.removeprefix("origin_")): arrays[name] for name in arrays if name.startswith("origin_")}
    return GroupFit(estimates, keys, spec, counts, origins, facts["backend"])


def _index(keys: pd.DataFrame, names: list[Hashable]) -> pd.Index[Any]:
    if keys.shape[1] == 1:
        return pd.Index(keys["key_0"], name=names[0])
    return pd.MultiIndex.from_frame(keys, names=names)


def _array(table: Any, name: str, shape: list[int]) -> np.ndarray[Any, Any]:
    width = int(np.prod(shape))
    columns = [table.column(f"{name}.{i}").to_numpy() for i in range(width)]
    if not columns:
        return np.empty((table.num_rows, *shape))
    return np.stack(columns, axis=1).reshape(table.num_rows, *shape)


def _label_out(label: Hashable) -> Any:
    """A label as JSON: tuples are marked, so that they come back as tuples."""
    if isinstance(label, tuple):
        return {"tuple": [_label_out(part) for part in label]}
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or isinstance(label, (str, bool, int, float)):
        return label
    raise SpecError(f"label {label!r} is a {type(label).__name__}, which cannot be saved; rename the column")


def _label_in(stored: Any) -> Hashable:
    return tuple(_label_in(part) for part in stored["tuple"]) if isinstance(stored, dict) else stored


def _labels_out(labels: Any) -> Any:
    return [_label_out(label) for label in labels] if isinstance(labels, list) else _label_out(labels)


def _labels_in(stored: Any) -> Any:
    return [_label_in(label) for label in stored] if isinstance(stored, list) else _label_in(stored)
