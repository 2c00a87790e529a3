# SPDX-License-Identifier: MIT
"""Keys and columns of every dtype: the result's index is pandas', the numbers are float64's."""

from __future__ import annotations

import datetime as dt
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg import GroupFit
from gbreg.regression import group

N = 60


def table(seed: int = 0, n: int = N) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["x", "z", "y", "w"])
    return frame.assign(w=frame["w"].abs() + 0.1, y=frame["y"] + 2 * frame["x"])


def fit(frame: pd.DataFrame, backend: str, **options: Any) -> GroupFit:
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w", **options}
    return gbreg.fit(frame, backend=backend, **call)


def estimates(made: GroupFit) -> list[bytes]:
    arrays = [getattr(made.estimates, name) for name in made.estimates.__dataclass_fields__]
    return [np.ascontiguousarray(values).tobytes() for values in arrays]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, tuple):
        return bool(a == b)
    return bool(pd.isna(a) and pd.isna(b)) or not (pd.isna(a) or pd.isna(b) or a != b)


def mean_by_hand(frame: pd.DataFrame, rows: np.ndarray) -> float:
    y, w = frame["y"].to_numpy()[rows], frame["w"].to_numpy()[rows]
    return float((y * w).sum() / w.sum())


# keys

WHICH = np.random.default_rng(5).integers(0, 5, N)  # five keys, in no order
WHICH[:5] = range(5)


def picked(values: list[Any], **how: Any) -> pd.Series:
    return pd.Series([values[i] for i in WHICH], **how)


def objects(values: list[Any]) -> pd.Series:
    made = pd.Series(index=range(N), dtype=object)
    for row, i in enumerate(WHICH):
        made[row] = values[i]
    return made


ZONE = pd.date_range("2024-03-30", periods=5, freq="D", tz="Europe/Berlin").tolist()
KEYS: dict[str, pd.Series] = {
    "int64": picked([3, -1, 7, 0, 2]),
    "int8": picked([3, -1, 127, -128, 2], dtype="int8"),
    "uint64": picked([3, 2**64 - 1, 7, 0, 2], dtype="uint64"),
    "int64, huge gaps": picked([0, 2_000_000_000, -(2**63), 2**63 - 1, 5]),
    "Int64 with NA": picked([3, None, 2**60 + 1, 2**60, 2], dtype="Int64"),
    "str": picked(["b", "a", "", "d", "é"]),
    "str with None": picked(["b", None, "", "d", "é"]),
    "object str": picked(["b", "a", "", "d", "é"], dtype=object),
    "string[pyarrow]": picked(["b", None, "", "d", "é"], dtype="string[pyarrow]"),
    "datetime": picked([pd.Timestamp(2024, 1, day) for day in (3, 1, 9, 2, 5)]),
    "datetime with NaT": picked(
        [pd.Timestamp(2024, 1, 3), pd.NaT, *map(pd.Timestamp, ("2020", "2021", "2022"))]
    ),
    "datetime with zone": picked(ZONE),
    "timedelta": picked([pd.Timedelta(n, "s") for n in (3, 1, 9, 2, 5)]),
    "period": picked(pd.period_range("2024", periods=5, freq="M").tolist()),
    "date": objects([dt.date(2024, 1, day) for day in (3, 1, 9, 2, 5)]),
    "bool": picked([True, False, True, True, False]),
    "boolean with NA": picked([True, False, None, True, False], dtype="boolean"),
    "float": picked([0.5, -1.0, np.inf, -0.0, 0.0]),
    "float with NaN": picked([0.5, -1.0, np.nan, 1e-300, 2.0**53]),
    "float32": picked([0.1, 0.2, np.nan, 0.3, 0.4], dtype="float32"),
    "Float64": picked([0.5, None, 2.5, -1.0, 0.0], dtype="Float64"),
    "tuples": objects([(1, "a"), (0, "b"), (1, "b"), (0, "a"), (2, "")]),
    "category": picked(list("bacde")).astype(pd.CategoricalDtype(list("edxcba"))),
    "category with NaN": picked(["b", "a", None, "d", "e"]).astype(pd.CategoricalDtype(list("edxba"))),
    "category, ordered": picked(list("bacde")).astype(pd.CategoricalDtype(list("edxcba"), ordered=True)),
    "category of ints": picked([30, 10, 20, 50, 40]).astype(pd.CategoricalDtype([50, 40, 7, 30, 20, 10])),
    "pd.cut": pd.cut(picked([0.5, 1.5, 2.5, 3.5, 4.5]), [0, 1, 2, 3, 4, 5, 6]),
}


@pytest.mark.parametrize("dropna", [True, False])
@pytest.mark.parametrize("observed", [True, False])
@pytest.mark.parametrize("kind", KEYS)
def test_the_index_is_that_of_pandas(kind: str, observed: bool, dropna: bool) -> None:
    """And each row is in its group: the weighted means are those of the rows by hand."""
    frame = table().assign(g=KEYS[kind])
    groups = {"observed": observed, "dropna": dropna}
    sizes = frame.groupby("g", **groups).size()
    made = fit(frame, "numpy", linear=[], **groups)
    for name in ("params", "nobs", "status", "rms"):
        pd.testing.assert_index_equal(getattr(made, name).index, sizes.index, exact=True)
    assert made.nobs["y"].tolist() == sizes.tolist()
    for key, got in zip(made.keys.astype(object), made.params["y", "Intercept"], strict=True):
        rows = np.array([same(value, key) for value in frame["g"].astype(object)])
        if rows.any():
            assert got == pytest.approx(mean_by_hand(frame, rows), rel=1e-13)
        else:
            assert np.isnan(got)


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("dropna", [True, False])
@pytest.mark.parametrize(
    "kinds",
    [
        ("int64", "bool"),
        ("category", "int8"),
        ("category with NaN", "category of ints"),
        ("Int64 with NA", "str with None"),
        ("float with NaN", "datetime with NaT"),
        ("int64, huge gaps", "category"),
    ],
)
def test_the_index_of_several_keys_is_that_of_pandas(
    kinds: tuple[str, str], dropna: bool, sort: bool
) -> None:
    frame = table().assign(g=KEYS[kinds[0]], h=KEYS[kinds[1]].sample(frac=1, random_state=1).to_numpy())
    frame["h"] = frame["h"].astype(KEYS[kinds[1]].dtype)
    for observed in (True, False):
        groups = {"observed": observed, "dropna": dropna, "sort": sort}
        sizes = frame.groupby(["g", "h"], **groups).size()
        made = fit(frame, "numpy", by=["g", "h"], linear=[], **groups)
        pd.testing.assert_index_equal(made.params.index, sizes.index, exact=True)
        assert made.nobs["y"].tolist() == sizes.tolist()
        want = frame.assign(y=frame["y"] * frame["w"]).groupby(["g", "h"], **groups)[["y", "w"]].sum()
        np.testing.assert_allclose(
            made.params["y", "Intercept"], (want["y"] / want["w"]).where(sizes > 0), rtol=1e-12, atol=1e-13
        )


@pytest.mark.parametrize("kind", ["category", "Int64 with NA", "str", "datetime with zone", "bool", "tuples"])
def test_backends_agree_on_every_kind_of_key(backend: str, kind: str) -> None:
    made = fit(table().assign(g=KEYS[kind]), backend)
    want = fit(table().assign(g=pd.factorize(KEYS[kind], sort=kind != "tuples")[0]), "numpy")
    want = want.params[want.params.index >= 0] if kind != "tuples" else want.params
    if kind == "tuples":
        want = want.set_axis(pd.unique(KEYS[kind]), axis=0).loc[list(made.keys)]
    np.testing.assert_allclose(made.params, want, rtol=1e-10)


def test_columns_of_two_levels(backend: str) -> None:
    frame = table().assign(g=WHICH)
    nested = frame.set_axis(pd.MultiIndex.from_tuples([(c, 1) for c in frame.columns]), axis=1)
    options = {"by": [("g", 1)], "linear": [("x", 1), ("z", 1)], "targets": [("y", 1)], "weights": ("w", 1)}
    made = fit(nested, backend, **options)
    pd.testing.assert_index_equal(made.keys, nested.groupby([("g", 1)]).size().index)
    assert estimates(made) == estimates(fit(frame, backend))
    assert made.params[("y", 1), ("x", 1)].tolist() == fit(frame, backend).params["y", "x"].tolist()


@pytest.mark.parametrize("gap", [50_000_000, 2_000_000_000, 2**62])
def test_huge_gaps_between_keys_cost_no_memory(gap: int) -> None:
    frame = table(n=2000)
    frame["g"] = np.arange(2000) % 2 * gap
    frame["h"] = np.arange(2000) // 2 % 2 * gap
    for by in (["g"], ["g", "h"]):
        group(frame, by=by)  # what pandas imports and caches at first is not counted
        tracemalloc.start()
        layout = group(frame, by=by)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert layout.n_groups == 2 ** len(by)
        assert peak < 2_000_000  # a thousand bytes a row; the range would be gigabytes


# numbers

FLOATS = {"float32", "float16", "Float32", "Float64", "float[pyarrow]", "double[pyarrow]"}
INTEGERS = {"int8", "uint8", "int32", "Int8", "Int64", "UInt64", "int64[pyarrow]"}
BOOLS = {"bool", "boolean", "bool[pyarrow]"}


@pytest.mark.parametrize("dtype", sorted(FLOATS | INTEGERS | BOOLS))
def test_columns_of_every_dtype_are_their_float64_values(backend: str, dtype: str) -> None:
    rng = np.random.default_rng(8)
    frame = table().assign(g=WHICH)
    for name in ("x", "y"):
        if dtype in FLOATS:
            values = rng.normal(size=N).astype(np.float16).astype(float)
        else:
            values = rng.integers(0, 2 if dtype in BOOLS else 100, N).astype(float)
        frame[name] = values
    typed = frame.copy()
    typed[["x", "y"]] = 0
    for name in ("x", "y"):
        typed[name] = frame[name].astype("bool" if dtype in BOOLS else "float64").astype(dtype)
    assert typed["x"].dtype == dtype
    got, want = fit(typed, backend), fit(frame, backend)
    assert estimates(got) == estimates(want)
    assert got.params.dtypes.unique().tolist() == [np.dtype("float64")]


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "double[pyarrow]", "int64[pyarrow]", "boolean"])
def test_na_is_missing(backend: str, dtype: str) -> None:
    frame = table().assign(g=WHICH)
    frame["x"] = np.random.default_rng(2).integers(0, 2, N).astype(float)
    typed = frame.assign(x=frame["x"].astype("bool" if dtype == "boolean" else float).astype(dtype))
    for name, rows in {"x": [3, 17], "y": [20]}.items():
        if name == "y":
            typed[name] = typed[name].astype("Float64" if "arrow" not in dtype else "double[pyarrow]")
        typed.loc[rows, name] = pd.NA
        frame.loc[rows, name] = np.nan
    got, want = fit(typed, backend), fit(frame, backend)
    assert got.accounting().loc["y", "missing"] == 3
    assert estimates(got) == estimates(want)


def test_big_integers_with_na_stay_exact(backend: str) -> None:
    steps = np.random.default_rng(2).integers(0, 1000, N)
    frame = table().assign(g=WHICH, x=steps.astype(float))
    frame.loc[[3, 17], "x"] = np.nan
    big = pd.Series(steps + 2**60, dtype="Int64").where(frame["x"].notna())
    got, want = fit(frame.assign(x=big), backend), fit(frame, backend)
    np.testing.assert_allclose(got.params["y", "x"], want.params["y", "x"], rtol=1e-11)
    np.testing.assert_allclose(got.bse["y", "x"], want.bse["y", "x"], rtol=1e-11)
    assert got.accounting().loc["y", "missing"] == 2


# small frames


def test_empty_frames_keep_the_dtype_of_the_keys(backend: str) -> None:
    for kind in ("int64", "str", "category", "datetime with zone", "Int64 with NA"):
        frame = table().assign(g=KEYS[kind]).iloc[:0]
        made = fit(frame, backend)
        pd.testing.assert_index_equal(made.keys, frame.groupby("g", observed=True).size().index, exact=True)
        assert made.params.shape == (0, 3)
        assert made.predict(frame).shape == (0, 1)
        assert made.accounting().loc["y", "rows"] == 0


def test_empty_selections_keep_all_groups(backend: str) -> None:
    frame = table().assign(g=KEYS["category"])
    with pytest.warns(gbreg.GbregWarning, match="^where= selects no row"):
        made = fit(frame, backend, where=np.zeros(N, dtype=bool))
    assert made.status["y"].tolist() == ["no_data"] * 5
    pd.testing.assert_index_equal(made.keys, frame.groupby("g", observed=True).size().index)


def test_groups_of_a_single_row(backend: str) -> None:
    frame = table().assign(g=np.arange(N)[::-1])
    made = fit(frame, backend, linear=[])
    assert made.status["y"].tolist() == ["saturated"] * N
    assert made.params["y", "Intercept"].tolist() == frame["y"].tolist()[::-1]
    assert made.bse["y", "Intercept"].isna().all()
    with pytest.warns(gbreg.GbregWarning, match=r"60 too_few_rows \(0, 1, 2, \.\.\.\)"):
        line = fit(frame, backend)
    assert line.status["y"].tolist() == ["too_few_rows"] * N


# memory


def fingerprint(frame: pd.DataFrame) -> tuple[Any, ...]:
    return (
        pd.util.hash_pandas_object(frame).tolist(),
        frame.dtypes.tolist(),
        frame.columns.tolist(),
        frame.index.names,
        [column.to_numpy().flags.writeable for _, column in frame.items()],
    )


@pytest.mark.parametrize("kind", ["plain", "read-only", "strided", "reversed", "memory-mapped", "one block"])
def test_columns_of_every_layout_in_memory(backend: str, kind: str, tmp_path: Path) -> None:
    frame = table().assign(g=WHICH)
    wanted = fit(frame, backend)
    values = {name: column.to_numpy().copy() for name, column in frame.items()}
    for name, column in list(values.items()):
        if kind == "read-only":
            column.flags.writeable = False
        elif kind == "strided":
            wide = np.zeros((N, 3), dtype=column.dtype)
            wide[:, 1] = column
            values[name] = wide[:, 1]
        elif kind == "reversed":
            values[name] = column[::-1].copy()[::-1]
        elif kind == "memory-mapped":
            column.tofile(tmp_path / name)
            values[name] = np.memmap(tmp_path / name, dtype=column.dtype, mode="r", shape=(N,))
    made = pd.DataFrame(values, copy=False)
    assert all(np.shares_memory(made[name].to_numpy(), values[name]) for name in values)
    if kind == "one block":
        made = pd.DataFrame(frame.astype(float).to_numpy(), columns=frame.columns)
    before = fingerprint(made)
    got = fit(made, backend)
    assert estimates(got) == estimates(wanted)
    assert fingerprint(made) == before


def test_the_frame_is_never_changed(backend: str) -> None:
    frame = table().assign(g=KEYS["Int64 with NA"], h=KEYS["category with NaN"], t=KEYS["datetime"])
    frame.loc[3, "x"], frame.loc[4, "y"], frame.loc[5, "w"] = np.nan, np.inf, 0.0
    frame["big"] = 2**60 + np.arange(N) ** 2
    frame["whole"] = pd.array(np.arange(N) ** 2, dtype="Int64")
    frame = frame.set_index("t", append=True)
    before, columns = fingerprint(frame), [column.to_numpy() for _, column in frame.items()]
    copies = [values.copy() for values in columns]
    linear = ["x", ("q", lambda d: d["whole"] % 7)]
    made = fit(frame, backend, by=["g"], linear=linear, targets=["y", "big"], where=frame["x"] != 2)
    made.predict(frame)
    made.augment(frame)
    assert fingerprint(frame) == before
    for values, copy in zip(columns, copies, strict=True):
        pd.testing.assert_series_equal(pd.Series(values), pd.Series(copy))
