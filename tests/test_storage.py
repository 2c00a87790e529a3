# SPDX-License-Identifier: MIT
"""What goes into a Parquet file comes out of it, bit for bit; anything else is refused by name."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg.accounting import RowCounts
from gbreg.estimates import Estimates

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
N = 60
CODES = np.random.default_rng(5).integers(0, 4, N)


def values() -> pd.DataFrame:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"x": rng.normal(size=N), "z": rng.normal(size=N), "w": rng.uniform(1, 2, N)})
    frame["y"] = 1 + frame["x"] + rng.normal(size=N)
    frame["v"] = frame["z"] - rng.normal(size=N)
    return frame


def pick(labels: object, dtype: object = None) -> pd.Series:
    return pd.Series(pd.array(labels, dtype=dtype).take(CODES), name="key")


DAYS = pd.to_datetime(["2024-01-01", "2024-03-31", "2024-10-27", "2025-01-01"])
KEYS = {
    "int64": pick([5, -2, 7, 100], "int64"),
    "uint64": pick([5, 2**63 + 1, 2**64 - 1, 0], "uint64"),
    "int8": pick([5, -2, 7, 100], "int8"),
    "float": pick([0.5, -0.0, 1e10, np.inf], "float64"),
    "float with NaN": pick([0.5, 1.0, np.nan, 2.0], "float64"),
    "bool": pick([True, False, True, True], "bool"),
    "str": pd.Series(np.array(["a", "ü", "", "a b"])[CODES], name="key"),
    "string": pick(["a", "ü", None, "a b"], "string"),
    "object strings": pd.Series(
        np.array(["a", "b", "c", None], dtype=object)[CODES], name="key", dtype=object
    ),
    "Int64 with NA": pick([2**60, 2**60 + 1, pd.NA, 3], "Int64"),
    "boolean with NA": pick([True, False, pd.NA, True], "boolean"),
    "category": pd.Series(pd.Categorical.from_codes(CODES, ["d", "a", "c", "b"]), name="key"),
    "ordered category with unused": pd.Series(
        pd.Categorical.from_codes(CODES, ["d", "a", "c", "b", "never"], ordered=True), name="key"
    ),
    "category of ints": pd.Series(pd.Categorical.from_codes(CODES, [30, 10, 20, 40]), name="key"),
    "category of intervals": pd.cut(pd.Series(CODES / 4, name="key"), [-1, 0, 0.25, 0.5, 1]),
    "category with missing": pd.Series(
        pd.Categorical.from_codes(np.where(CODES == 3, -1, CODES), ["d", "a", "c"]), name="key"
    ),
    "category of wide ints with missing": pd.Series(
        pd.Categorical.from_codes(np.where(CODES == 0, -1, CODES), [0, 2**60 + 1, 2**60, 2**61 + 1]),
        name="key",
    ),
    "category of overlapping intervals": pd.Series(
        pd.Categorical.from_codes(CODES, pd.IntervalIndex.from_tuples([(0, 2), (1, 3), (0, 3), (5, 6)])),
        name="key",
    ),
    "datetime": pd.Series(DAYS[CODES], name="key"),
    "datetime with zone": pd.Series(DAYS.tz_localize("Europe/Berlin")[CODES], name="key"),
    "timedelta": pd.Series((DAYS - DAYS[0])[CODES], name="key"),
    "datetime in seconds": pd.Series(DAYS.as_unit("s")[CODES], name="key"),
    "interval": pd.Series(pd.IntervalIndex.from_breaks([0, 1, 2.5, 3, 7], closed="left")[CODES], name="key"),
    "category of times": pd.Series(
        pd.Categorical.from_codes(CODES, DAYS.tz_localize("Asia/Tokyo")), name="key"
    ),
    "objects that are ints": pd.Series(np.array([5, 6, 7, 8], dtype=object)[CODES], name="key", dtype=object),
    "int64[pyarrow]": pick([5, 6, None, 8], "int64[pyarrow]"),
    "string[pyarrow]": pick(["a", "ü", None, "a b"], "string[pyarrow]"),
    "text of Arrow": pick(["a", "ü", None, "a b"], pd.ArrowDtype(pa.string())),
    "large text of Arrow": pick(["a", "ü", None, "a b"], pd.ArrowDtype(pa.large_string())),
    "decimal of Arrow": pick(
        [Decimal("1.50"), Decimal("2"), None, Decimal("3")], pd.ArrowDtype(pa.decimal128(9, 2))
    ),
    "date of Arrow": pick([day.date() for day in DAYS], pd.ArrowDtype(pa.date32())),
    "category of Arrow's text": pd.Series(
        pd.Categorical.from_codes(CODES, pd.Index(list("dacb"), dtype=pd.ArrowDtype(pa.string()))), name="key"
    ),
    "period": pd.Series(DAYS.to_period("M")[CODES], name="key"),
}


def assert_same_fit(got: gbreg.GroupFit, want: gbreg.GroupFit) -> None:
    assert got.keys.names == want.keys.names
    for i in range(want.keys.nlevels):  # where a MultiIndex keeps a missing value is its own affair
        pd.testing.assert_index_equal(got.keys.get_level_values(i), want.keys.get_level_values(i), exact=True)
    for cls, a, b in ((Estimates, got.estimates, want.estimates), (RowCounts, got.counts, want.counts)):
        for field in fields(cls):
            one, other = getattr(a, field.name), getattr(b, field.name)
            if isinstance(other, np.ndarray):
                assert one.dtype == other.dtype, field.name
                assert one.shape == other.shape, field.name
                assert one.tobytes() == other.tobytes(), field.name
            else:
                assert one == other, field.name
    assert list(got.origins) == list(want.origins)
    for j, origin in want.origins.items():
        assert got.origins[j].dtype == origin.dtype
        assert got.origins[j].tolist() == origin.tolist()
    assert got.spec == want.spec.portable()
    assert got.backend == want.backend


def round_trip(fit: gbreg.GroupFit, folder: Path) -> gbreg.GroupFit:
    fit.to_parquet(folder / "fit.parquet")
    return gbreg.read_parquet(folder / "fit.parquet")


@pytest.mark.parametrize("kind", KEYS)
def test_one_key_of_every_kind_comes_back(kind: str, tmp_path: Path) -> None:
    frame = values().assign(key=KEYS[kind])
    want = gbreg.fit(
        frame, by="key", linear=["x", "z"], targets=["y", "v"], weights="w", dropna=False, backend="numpy"
    )
    got = round_trip(want, tmp_path)
    assert_same_fit(got, want)
    pd.testing.assert_frame_equal(got.predict(frame), want.predict(frame), check_exact=True)
    assert got.predict(frame).notna().all(axis=None)


@pytest.mark.parametrize("kind", KEYS)
def test_as_one_of_two_keys_too(kind: str, tmp_path: Path) -> None:
    frame = values().assign(key=KEYS[kind], other=np.arange(N) % 2)
    want = gbreg.fit(frame, by=["key", "other"], linear=["x"], targets=["y"], dropna=False, backend="numpy")
    got = round_trip(want, tmp_path)
    assert_same_fit(got, want)
    pd.testing.assert_frame_equal(got.predict(frame), want.predict(frame), check_exact=True)


@pytest.mark.parametrize("name", [None, "key", 7, ("a", 1), ("a", ("b", None))])
def test_names_of_keys_come_back_with_their_type(name: object, tmp_path: Path) -> None:
    want = gbreg.fit(values(), by=pd.Series(CODES, name=name), linear=["x"], targets=["y"], backend="numpy")
    got = round_trip(want, tmp_path)
    assert got.keys.name == name
    assert type(got.keys.name) is type(name)


def test_labels_of_columns_come_back_with_their_type(tmp_path: Path) -> None:
    names = {"x": 3, "z": ("z", 2), "y": ("y", ("deep", 0.5)), "v": True, "w": "w"}
    frame = values()
    frame = frame.set_axis(pd.Index([names[c] for c in frame.columns], tupleize_cols=False), axis=1)
    frame["g"] = CODES
    want = gbreg.fit(
        frame,
        by="g",
        linear=[3, ("z", 2)],
        targets=[("y", ("deep", 0.5)), True],
        weights="w",
        backend="numpy",
    )
    got = round_trip(want, tmp_path)
    assert_same_fit(got, want)
    assert [type(label) for label in (*got.predictors, *got.targets)] == [int, tuple, tuple, bool]


def test_no_groups(tmp_path: Path) -> None:
    frame = values().assign(g=CODES)
    for by in ("g", ["g", "w"]):
        want = gbreg.fit(frame.iloc[:0], by=by, linear=["x", "z"], targets=["y"], backend="numpy")
        got = round_trip(want, tmp_path)
        assert_same_fit(got, want)
        assert len(got) == 0


def test_no_predictors_and_targets_with_gaps_of_their_own(tmp_path: Path) -> None:
    frame = values().assign(g=CODES)
    frame.loc[::7, "y"] = np.nan
    frame.loc[::5, "v"] = np.inf
    want = gbreg.fit(frame, by="g", linear=[], targets=["y", "x", "v"], weights="w", backend="numpy")
    assert want.estimates.nobs.shape[1] == 3  # patterns
    assert_same_fit(round_trip(want, tmp_path), want)


def test_weights_that_were_values_stay_no_column(tmp_path: Path) -> None:
    frame = values().assign(g=CODES)
    weights = pd.Series(1.0, index=frame.index, name="w")
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], weights=weights, backend="numpy")
    back = round_trip(fit, tmp_path)
    assert_same_fit(back, fit)
    assert str(back.spec.weights) == "Series w (values)"
    namesake = frame.assign(**{"Series w (values)": 1.0})
    with pytest.raises(gbreg.SpecError, match=r"were Series w \(values\), which are not kept"):
        back.predict(namesake, interval="prediction")


@pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 does not group by them")
def test_a_dictionary_of_arrow_is_kept_alone_and_refused_beside_others(tmp_path: Path) -> None:
    words = pick(["a", "ü", "b", "a b"], pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())))
    frame = values().assign(key=words, other=1)
    call = {"linear": ["x"], "targets": ["y"], "backend": "numpy"}
    fit = gbreg.fit(frame, by="key", **call)
    assert_same_fit(round_trip(fit, tmp_path), fit)
    with pytest.raises(gbreg.SpecError, match=r"keys 'key' of dtype dictionary.* cannot be saved"):
        round_trip(gbreg.fit(frame, by=["key", "other"], **call), tmp_path)


def test_bins_of_time_keep_their_frequency(tmp_path: Path) -> None:
    frame = values().assign(t=pd.date_range("2024-01-01", periods=N, freq="6h"))
    fit = gbreg.fit(frame, by=pd.Grouper(key="t", freq="D"), linear=[], targets=["y"], backend="numpy")
    back = round_trip(fit, tmp_path)
    assert back.keys.freq == fit.keys.freq  # pandas 2 gives none
    assert_same_fit(back, fit)


@pytest.mark.parametrize(
    "freq",
    [
        pd.offsets.CustomBusinessDay(holidays=["2024-01-03"]),
        pd.offsets.BDay(offset=pd.Timedelta("2h")),
        pd.offsets.Week(weekday=2, normalize=True),
    ],
)
def test_frequencies_that_no_name_tells_are_left_out(freq: object, tmp_path: Path) -> None:
    frame = values().assign(t=pd.date_range("2024-01-01", periods=N, freq="6h"))
    fit = gbreg.fit(frame, by=pd.Grouper(key="t", freq=freq), linear=[], targets=["y"], backend="numpy")
    back = round_trip(fit, tmp_path)
    assert back.keys.freq is None
    assert back.keys.tolist() == fit.keys.tolist()
    pd.testing.assert_frame_equal(back.params, fit.params, check_exact=True, check_freq=False)


def test_files_without_places_are_read(tmp_path: Path) -> None:
    """Fits were stored before levels had places of their own."""
    frame = values().assign(g=CODES)
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    fit.to_parquet(tmp_path / "fit.parquet")
    table = pq.read_table(tmp_path / "fit.parquet")
    facts = json.loads(table.schema.metadata[b"gbreg"])
    del facts["shapes"]["middle"]
    table = table.replace_schema_metadata({**table.schema.metadata, b"gbreg": json.dumps(facts).encode()})
    pq.write_table(table, tmp_path / "old.parquet")
    assert_same_fit(gbreg.read_parquet(tmp_path / "old.parquet"), fit)


def test_clusters_by_code_are_no_obstacle(tmp_path: Path) -> None:
    frame = values().assign(g=CODES, c=np.arange(N) % 12)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "cov_type": "cluster", "backend": "numpy"}
    fit = gbreg.fit(frame, **call, groups=lambda d: d["c"])
    assert_same_fit(round_trip(fit, tmp_path), fit)
    back = pickle.loads(pickle.dumps(fit))
    pd.testing.assert_frame_equal(back.bse, gbreg.fit(frame, **call, groups="c").bse, check_exact=True)


@pytest.mark.parametrize("clip", [np.int64(4), np.float32(4), Fraction(4)])
def test_numbers_of_any_kind_are_stored(clip: object, tmp_path: Path) -> None:
    frame = values().assign(g=CODES)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "backend": "numpy"}
    fit = gbreg.fit(frame, **call, clip=clip, clip_iterations=np.int64(5))
    assert_same_fit(round_trip(fit, tmp_path), fit)
    assert fit.spec == gbreg.fit(frame, **call, clip=4.0, clip_iterations=5).spec


def test_options_and_grouping_come_back(tmp_path: Path) -> None:
    frame = values().assign(g=CODES).set_index("g")
    want = gbreg.fit(
        frame,
        level="g",
        sort=False,
        dropna=False,
        linear=["x"],
        targets=["y"],
        missing="drop",
        intercept=False,
        min_nobs=4,
        precision="extended",
        on_collinear="drop",
        mad=False,
        backend="numpy",
    )
    got = round_trip(want, tmp_path)
    assert_same_fit(got, want)
    assert (got.spec.options.min_nobs, got.spec.options.precision) == (4, "extended")
    with pytest.raises(gbreg.SpecError, match="mad"):
        _ = got.mad


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_origins_of_large_integers_stay_exact(dtype: str, tmp_path: Path) -> None:
    start = {"int64": 2**60 + 1, "uint64": 2**63 + 2**62 + 1}[dtype]
    frame = pd.DataFrame({"g": np.repeat([0, 1], 5)})
    frame["x"] = np.array([start + 3 * i for i in range(10)], dtype=dtype)
    frame["y"] = np.array([start + 6 * i + i % 2 for i in range(10)], dtype=dtype)
    want = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    got = round_trip(want, tmp_path)
    assert set(got.origins) == {0, 1}
    assert_same_fit(got, want)
    pd.testing.assert_frame_equal(got.resid(frame), want.resid(frame), check_exact=True)
    assert got.resid(frame).abs().max(axis=None) < 1


def test_code_is_not_stored(tmp_path: Path) -> None:
    frame = values().assign(g=CODES)
    want = gbreg.fit(
        frame,
        by=lambda i: i % 3,
        linear=[("x2", lambda d: d["x"] ** 2)],
        targets=["y"],
        weights=frame["w"],
        backend="numpy",
    )
    got = round_trip(want, tmp_path)
    assert_same_fit(got, want)
    by = np.arange(N) % 3
    with pytest.raises(gbreg.SpecError, match="by="):
        got.predict(frame.assign(x2=frame["x"] ** 2))
    for stored in (got, round_trip(got, tmp_path)):
        with pytest.raises(gbreg.ColumnError, match=r"code of \['x2'\] in linear= was not stored"):
            stored.predict(frame, by=by)
    pd.testing.assert_frame_equal(
        got.predict(frame.assign(x2=frame["x"] ** 2), by=by), want.predict(frame), check_exact=True
    )


def test_labels_of_numpy_become_plain_ones(tmp_path: Path) -> None:
    frame = values().assign(g=CODES).rename(columns={"x": 3})
    fit = gbreg.fit(frame, by="g", linear=[np.int64(3)], targets=["y"], backend="numpy")
    got = round_trip(fit, tmp_path)
    assert type(got.predictors[0]) is int
    pd.testing.assert_frame_equal(got.predict(frame), fit.predict(frame), check_exact=True)


def small_fit() -> gbreg.GroupFit:
    return gbreg.fit(values().assign(g=CODES), by="g", linear=["x"], targets=["y"], backend="numpy")


def test_tuples_as_keys_are_refused_by_name(tmp_path: Path) -> None:
    keys = np.empty(N, dtype=object)
    keys[:] = [("a", int(code)) for code in CODES]
    fit = gbreg.fit(values(), by=pd.Series(keys), linear=["x"], targets=["y"], backend="numpy")
    with pytest.raises(gbreg.SpecError, match="tuples"):
        fit.to_parquet(tmp_path / "fit.parquet")


def test_mixed_keys_are_refused(tmp_path: Path) -> None:
    keys = pd.Series(np.array([1, "a", 2.5, "b"], dtype=object)[CODES], dtype=object)
    fit = gbreg.fit(values(), by=keys, linear=["x"], targets=["y"], sort=False, backend="numpy")
    with pytest.raises(gbreg.SpecError, match="Parquet"):
        fit.to_parquet(tmp_path / "fit.parquet")


def test_labels_that_json_cannot_hold_are_refused_by_name(tmp_path: Path) -> None:
    day = pd.Timestamp("2024-01-01")
    frame = values().assign(g=CODES).rename(columns={"y": day})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=[day], backend="numpy")
    with pytest.raises(gbreg.SpecError, match=r"Timestamp\('2024-01-01.*cannot be saved"):
        fit.to_parquet(tmp_path / "fit.parquet")


def test_categories_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    keys = pd.Categorical.from_codes(CODES, [(1, 2), (1, "b"), (2, 3), (4, 4)])
    fit = gbreg.fit(values().assign(g=keys), by="g", linear=["x"], targets=["y"], backend="numpy")
    with pytest.raises(gbreg.SpecError, match=r"categories of key 'g' .*tuples"):
        fit.to_parquet(tmp_path / "fit.parquet")


def test_keys_that_would_change_on_the_way_are_refused(tmp_path: Path) -> None:
    keys = np.empty(N, dtype=object)
    keys[:] = [(1, int(code)) for code in CODES]  # Parquet would make lists of them
    fit = gbreg.fit(values(), by=pd.Series(keys), linear=["x"], targets=["y"], backend="numpy")
    with pytest.raises(gbreg.SpecError, match="come back as something else"):
        fit.to_parquet(tmp_path / "fit.parquet")


@pytest.mark.parametrize("kind", ["period", "interval", "category of intervals"])
def test_another_process_reads_types_of_pandas(kind: str, tmp_path: Path) -> None:
    want = gbreg.fit(values().assign(key=KEYS[kind]), by="key", linear=["x"], targets=["y"], backend="numpy")
    want.to_parquet(tmp_path / "fit.parquet")
    code = f"import gbreg; print(gbreg.read_parquet({str(tmp_path / 'fit.parquet')!r}).keys.tolist())"
    root = Path(gbreg.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.strip() == str(want.keys.tolist())


def test_a_path_that_looks_like_a_partition_is_a_path(tmp_path: Path) -> None:
    folder = tmp_path / "key_0=3"
    folder.mkdir()
    assert_same_fit(round_trip(small_fit(), folder), small_fit())


def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.parquet"
    small_fit().to_parquet(path)
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"gbreg"])
    assert facts["schema"] == 1
    later = json.dumps({**facts, "schema": 2}).encode()
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"gbreg": later}), path)
    with pytest.raises(gbreg.GbregError, match=r"schema 2.*reads 1"):
        gbreg.read_parquet(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    values().to_parquet(tmp_path / "frame.parquet")
    with pytest.raises(gbreg.GbregError, match=r"frame\.parquet is a Parquet file, but not a fit"):
        gbreg.read_parquet(tmp_path / "frame.parquet")
    (tmp_path / "text.parquet").write_text("nothing of the kind")
    with pytest.raises(gbreg.GbregError, match=r"text\.parquet is not a Parquet file"):
        gbreg.read_parquet(tmp_path / "text.parquet")
    with pytest.raises(FileNotFoundError):
        gbreg.read_parquet(tmp_path / "nowhere.parquet")


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = small_fit()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(gbreg.MissingExtraError, match="pip install pyarrow"):
        fit.to_parquet(tmp_path / "fit.parquet")
    with pytest.raises(gbreg.MissingExtraError, match="pip install pyarrow"):
        gbreg.read_parquet(tmp_path / "fit.parquet")


def test_rows_without_key_are_stored(tmp_path: Path) -> None:
    frame = pd.DataFrame({"g": ["a", "a", "a", None, "b", "b", "b", None], "x": [1.0, 2, 4, 0, 1, 2, 5, 3]})
    frame["y"] = frame["x"] ** 2
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    fit.to_parquet(tmp_path / "fit.parquet")
    back = gbreg.read_parquet(tmp_path / "fit.parquet")
    assert fit.accounting()["without_key"].tolist() == [2]
    pd.testing.assert_frame_equal(back.accounting(), fit.accounting())


@pytest.mark.filterwarnings("ignore::gbreg.GbregWarning")
@pytest.mark.parametrize("dropna", [True, False])
def test_whether_parents_take_missing_keys_is_stored(dropna: bool, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": ["u", "v", None, "w"] * 8, "b": np.repeat(["p", "q"], 16)})
    frame = frame.assign(x=np.arange(32.0) % 7, y=np.sqrt(np.arange(32.0)))
    call = {"linear": ["x"], "targets": ["y"], "fallback": "parent", "dropna": dropna, "min_nobs": 5}
    fit = gbreg.fit(frame, by=["b", "a"], **call, backend="numpy")
    fit.to_parquet(tmp_path / "fit.parquet")
    back = gbreg.read_parquet(tmp_path / "fit.parquet")
    got = back.predict(frame, by=["b", "a"], source=True)
    pd.testing.assert_frame_equal(got, fit.predict(frame, by=["b", "a"], source=True))
    gone = got[("y", "source")][frame["a"].isna()]
    assert (gone == ("none" if dropna else "b")).all()
