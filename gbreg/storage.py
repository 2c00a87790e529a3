# SPDX-License-Identifier: MIT
"""A whole fit as one Parquet file: a row per group, the rest in the file's metadata.

Labels are stored as JSON, so only strings, numbers, booleans and tuples of them can be saved;
no code is stored and none is run on reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.accounting import RowCounts
from gbreg.columns import Column
from gbreg.errors import GbregError, MissingExtraError, SpecError
from gbreg.estimates import ARRAYS, Estimates, unasked
from gbreg.fallback import attach, parent_names
from gbreg.lookup import level_values
from gbreg.problem import FitOptions, Loss
from gbreg.spec import CLIP_ITERATIONS, FitSpec, Grouping, Unkept

if TYPE_CHECKING:
    from gbreg.result import GroupFit

SCHEMA = 1
FACTS = b"gbreg"  # its place in the file's metadata
CATEGORIES = "gbreg.categories."
PARENTS = "gbreg.parent."
LARGEST = 500_000_000  # bytes of metadata, which Arrow stores twice; a reader takes 2**31


def to_parquet(fit: GroupFit, path: str | Path) -> None:
    """See `GroupFit.to_parquet`."""
    arrow = _arrow()
    arrow.parquet.write_table(_table_of(arrow, fit), path)


def _table_of(arrow: Any, fit: GroupFit) -> Any:
    """A fit as an Arrow table; its parents are Arrow streams in the metadata."""
    arrays = _arrays_of(fit)
    table, levels, metadata = _keys_out(arrow, fit.keys)
    for name, values in arrays.items():
        for i, column in enumerate(_flat(values)):
            table = table.append_column(f"{name}.{i}", arrow.array(np.ascontiguousarray(column)))
    facts = {
        "schema": SCHEMA,
        "shapes": {name: values.shape[1:] for name, values in arrays.items()},
        "pattern": fit.estimates.pattern.tolist(),
        "keys": levels,
        "n_rows": fit.counts.n_rows,
        "n_without_key": fit.counts.n_without_key,
        "backend": fit.backend,
        "lost_code": _labels_out(list(fit.derived)),
        **_spec_out(fit.spec.portable()),
    }
    if fit.fallback is not None:
        facts["fallback"] = {"levels": fit.fallback.levels, "dropna": fit.fallback.dropna}
        for i, parent in enumerate(fit.parents.values()):
            metadata[f"{PARENTS}{i}".encode()] = _stream(arrow, _table_of(arrow, parent))
        _check_size(metadata)
    metadata = {**table.schema.metadata, **metadata, FACTS: json.dumps(facts).encode()}
    return table.replace_schema_metadata(metadata)


def _check_size(metadata: dict[bytes, bytes]) -> None:
    if (size := sum(map(len, metadata.values()))) > LARGEST:
        raise SpecError(
            f"the parents of this fit are {size:,} bytes, too large for the metadata of a Parquet file; "
            "pickle the fit, or save each of fit.parents in a file of its own"
        )


def read_parquet(path: str | Path) -> GroupFit:
    """Read a fit that `GroupFit.to_parquet` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    GroupFit
        As it was, but for the code of derived columns (those of formulas too) and of keys, which is
        not stored.

    Raises
    ------
    GbregError
        The file is not one, or was written by a later version of gbreg.
    MissingExtraError
        pyarrow is not installed.
    """
    arrow = _arrow()
    try:
        with arrow.parquet.ParquetFile(path, thrift_string_size_limit=2**31 - 1) as file:
            table = file.read()
    except arrow.ArrowInvalid as error:
        raise GbregError(f"{path} is not a Parquet file: {error}") from error
    if FACTS not in (table.schema.metadata or {}):
        raise GbregError(f"{path} is a Parquet file, but not a fit saved by gbreg")
    return _fit_of(arrow, table, path)


def _fit_of(arrow: Any, table: Any, path: str | Path) -> GroupFit:
    from gbreg.result import GroupFit

    metadata = table.schema.metadata
    facts = json.loads(metadata[FACTS])
    if facts["schema"] != SCHEMA:
        raise GbregError(f"{path} has schema {facts['schema']}, this gbreg reads {SCHEMA}; use a newer gbreg")
    arrays = {name: _array(table, name, tuple(shape)) for name, shape in facts["shapes"].items()}
    arrays = unasked(*arrays["level"].shape) | arrays  # not all of these are in files of their time
    fit = GroupFit(
        estimates=Estimates(
            **{name: arrays[name] for name in ARRAYS},
            pattern=np.array(facts["pattern"], dtype=np.int64),
        ),
        keys=_keys_in(arrow, table, facts["keys"]),
        spec=_spec_in(facts),
        counts=RowCounts(
            **{name.removeprefix("count_"): arrays[name] for name in arrays if name.startswith("count_")},
            n_rows=facts["n_rows"],
            n_without_key=facts["n_without_key"],
        ),
        origins={int(name.removeprefix("origin_")): arrays[name] for name in arrays if "origin_" in name},
        backend=facts["backend"],
    )
    fit.lost_code = tuple(_labels_in(facts["lost_code"]))
    if (asked := facts.get("fallback")) is not None:  # not in files of its time
        levels = tuple(map(tuple, asked["levels"]))
        streams = [arrow.ipc.open_stream(metadata[f"{PARENTS}{i}".encode()]) for i in range(len(levels))]
        parents = [_fit_of(arrow, stream.read_all(), path) for stream in streams]
        names = parent_names(fit.keys, levels)
        attach(fit, levels, dict(zip(names, parents, strict=True)), asked["dropna"])
    return fit


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingExtraError("Parquet files need pyarrow: pip install pyarrow") from error
    return pyarrow


# arrays


def _arrays_of(fit: GroupFit) -> dict[str, NDArray[Any]]:
    """Everything that has one entry per group."""
    estimates = dict(fit.estimates.arrays())
    counts = {f"count_{f.name}": getattr(fit.counts, f.name) for f in fields(RowCounts) if f.name[:2] != "n_"}
    return estimates | counts | {f"origin_{j}": values for j, values in fit.origins.items()}


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    """(g, ...) -> (width, g)."""
    return values.reshape(len(values), math.prod(values.shape[1:])).T


def _array(table: Any, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    columns = [table.column(f"{name}.{i}").to_numpy() for i in range(math.prod(shape))]
    if not columns:  # no predictors: the only array that is not float64 is `dropped`
        return np.empty((table.num_rows, *shape), dtype=np.bool_ if name == "dropped" else np.float64)
    return np.stack(columns, axis=1).reshape(table.num_rows, *shape)


# keys


def _keys_out(arrow: Any, keys: pd.Index[Any]) -> tuple[Any, list[dict[str, Any]], dict[bytes, bytes]]:
    """Keys as an Arrow table, a description of each level, and their categories as Arrow streams.

    Arrow itself keeps categories only if they are strings.
    """
    columns: dict[str, Any] = {}
    levels: list[dict[str, Any]] = []
    metadata: dict[bytes, bytes] = {}
    for i, name in enumerate(keys.names):
        level = level_values(keys, i)
        values = level.categories if isinstance(level, pd.CategoricalIndex) else level
        about = {"name": _label_out(name), "dtype": _dtype_name(values.dtype)}
        about["arrow"] = isinstance(values.dtype, pd.ArrowDtype)
        if isinstance(level, pd.CategoricalIndex):
            about["ordered"] = level.ordered
            categories = _checked(arrow, {"value": level.categories}, f"categories of key {name!r}")
            metadata[f"{CATEGORIES}{i}".encode()] = _stream(arrow, categories)
            level = pd.Index(level.codes)
        columns[f"key_{i}"] = level
        if isinstance(keys, pd.DatetimeIndex | pd.TimedeltaIndex):
            about["freq"] = _spelt_frequency(keys)
        levels.append(about)
    table = _checked(arrow, columns, "keys")
    back = _keys_in(arrow, table.replace_schema_metadata({**table.schema.metadata, **metadata}), levels)
    for i in range(keys.nlevels):
        if not _same(level_values(back, i), level_values(keys, i)):
            raise SpecError(
                f"keys {keys.names[i]!r} of dtype {level_values(keys, i).dtype} cannot be saved: "
                "from Parquet they would come back as something else (tuples as lists, say); convert them"
            )
    return table, levels, metadata


def _spelt_frequency(keys: Any) -> str | None:
    """The frequency, if its name tells all of it: holidays and the like are not in it."""
    if keys.freq is None:
        return None
    bare, name = keys.copy(), str(keys.freqstr)
    bare.freq = None
    try:
        return name if type(keys)(bare, freq=name).freq == keys.freq else None
    except ValueError:
        return None


def _keys_in(arrow: Any, table: Any, levels: list[dict[str, Any]]) -> pd.Index[Any]:
    names = [f"key_{i}" for i in range(len(levels))]
    made: list[Any] = []
    for i, about in enumerate(levels):
        if "ordered" in about:
            stream = arrow.ipc.open_stream(table.schema.metadata[f"{CATEGORIES}{i}".encode()])
            categories = _restored(stream.read_all(), "value", about)
            codes = table.column(names[i]).to_numpy()
            made.append(pd.Categorical.from_codes(codes, categories, ordered=about["ordered"]))
        else:
            made.append(_restored(table, names[i], about))
    labels = [_label_in(about["name"]) for about in levels]
    if len(made) > 1:
        return pd.MultiIndex.from_arrays(made, names=labels)
    only: pd.Index[Any] = pd.Index(made[0]).rename(labels[0])
    if freq := levels[0].get("freq"):
        only = (pd.TimedeltaIndex if only.dtype.kind == "m" else pd.DatetimeIndex)(only, freq=freq)
    return only


def _checked(arrow: Any, columns: dict[str, Any], what: str) -> Any:
    """Columns as an Arrow table."""
    frame = pd.DataFrame(columns)
    try:
        return arrow.Table.from_pandas(frame, preserve_index=False)
    except (arrow.ArrowException, OverflowError, TypeError) as error:
        dtypes = [str(dtype) for dtype in frame.dtypes]
        raise SpecError(
            f"{what} of dtype {dtypes} cannot be saved as Parquet: {error}; convert them (tuples to str, say)"
        ) from error


def _stream(arrow: Any, table: Any) -> bytes:
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


def _restored(table: Any, name: str, about: dict[str, Any]) -> pd.Index[Any]:
    """Parquet has no objects, no times in seconds, one kind of string: they come back as the nearest."""
    if about.get("arrow"):  # not in files of its time
        restored: pd.Index[Any] = pd.Index(pd.arrays.ArrowExtensionArray(table.column(name)))
        return restored
    dtype: str = about["dtype"]
    known = json.loads(table.schema.metadata[b"pandas"])  # pandas cannot read what it says of some others
    own = known | {"columns": [column for column in known["columns"] if column["name"] == name]}
    only = table.select([name]).replace_schema_metadata({b"pandas": json.dumps(own).encode()})
    values: pd.Index[Any] = pd.Index(only.to_pandas()[name]).rename(None)
    lost = dtype == "object" or dtype.startswith("string[") or values.dtype.kind in "mM"
    return values.astype(dtype) if lost and _dtype_name(values.dtype) != dtype else values


def _dtype_name(dtype: Any) -> str:
    nullable_string = isinstance(dtype, pd.StringDtype) and str(dtype) == "string"
    return f"string[{dtype.storage}]" if nullable_string else str(dtype)


def _same(got: pd.Index[Any], want: pd.Index[Any]) -> bool:
    present = want.notna()
    return bool(
        _dtype_name(got.dtype) == _dtype_name(want.dtype)
        and (got.notna() == present).all()
        and got[present].equals(want[present])
    )


# what was asked


def _spec_out(spec: FitSpec) -> dict[str, Any]:
    grouping = spec.grouping
    asked = None
    if grouping is not None:
        asked = {
            "by": _labels_out(grouping.by),
            "level": _labels_out(grouping.level),
            "sort": bool(grouping.sort),
            "observed": bool(grouping.observed),
            "dropna": bool(grouping.dropna),
        }
    return {
        "linear": [_column_out(column) for column in spec.linear],
        "targets": [_column_out(column) for column in spec.targets],
        "weights": _label_out(spec.weights),
        "options": asdict(spec.options),
        "missing": spec.missing,
        "cov_type": spec.cov_type,
        "groups": _label_out(spec.groups),
        "clip": spec.clip,
        "clip_iterations": spec.clip_iterations,
        "weights_type": spec.weights_type,
        "loss": spec.loss._asdict(),
        "ridge": spec.ridge,
        "ridge_standardize": bool(spec.ridge_standardize),
        "bounds": spec.bounds,
        "grouping": asked,
    }


def _spec_in(facts: dict[str, Any]) -> FitSpec:
    asked = facts["grouping"]
    if asked is not None:
        asked = Grouping(**{**asked, "by": _labels_in(asked["by"]), "level": _labels_in(asked["level"])})
    return FitSpec(
        grouping=asked,
        linear=tuple(_column_in(*stored) for stored in facts["linear"]),
        targets=tuple(_column_in(*stored) for stored in facts["targets"]),
        weights=_label_in(facts["weights"]),
        options=FitOptions(**facts["options"]),
        missing=facts["missing"],
        cov_type=facts.get("cov_type", "classical"),  # not in files of its time
        groups=_label_in(facts.get("groups")),
        clip=facts.get("clip"),
        clip_iterations=facts.get("clip_iterations", CLIP_ITERATIONS),
        weights_type=facts.get("weights_type", "analytic"),
        loss=Loss(**facts.get("loss", {})),
        ridge=None if facts.get("ridge") is None else tuple(facts["ridge"]),
        ridge_standardize=facts.get("ridge_standardize", False),
        bounds=None if facts.get("bounds") is None else tuple(map(tuple, facts["bounds"])),
    )


def _column_out(column: Column) -> list[Any]:
    return [_label_out(column.name), _label_out(column.source), column.shadows]


def _column_in(name: Any, source: Any, shadows: bool = False) -> Column:  # without it in files of its time
    return Column(_label_in(name), _label_in(source), shadows)


def _label_out(label: Hashable) -> Any:
    """Turn a label into JSON: tuples are marked, so that they come back as tuples."""
    if isinstance(label, tuple):
        return {"tuple": [_label_out(part) for part in label]}
    if isinstance(label, Unkept):
        return {"unkept": label.kind}
    if isinstance(label, np.generic):
        label = label.item()
    if label is None or isinstance(label, (str, bool, int, float)):
        return label
    raise SpecError(f"label {label!r} is a {type(label).__name__}, which cannot be saved; rename the column")


def _label_in(stored: Any) -> Hashable:
    if not isinstance(stored, dict):
        return stored  # type: ignore[no-any-return]
    return Unkept(stored["unkept"]) if "unkept" in stored else tuple(map(_label_in, stored["tuple"]))


def _labels_out(labels: Any) -> Any:
    return [_label_out(label) for label in labels] if isinstance(labels, list) else _label_out(labels)


def _labels_in(stored: Any) -> Any:
    return [_label_in(label) for label in stored] if isinstance(stored, list) else _label_in(stored)
