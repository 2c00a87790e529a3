# SPDX-License-Identifier: MIT
"""The benchmarks at toy size: frames are what they say, and gbreg and its peers give the same numbers."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import measure
import numpy as np
import pytest
from peers import Answer, load, normal, timed_groups
from workloads import WORKLOADS, Workload, fit, founders, group_rows, lstsq, make

TOY = 1e-6
NEEDS = {
    "polars": ["polars"],
    "duckdb": ["duckdb"],
    "pandas": [],
    "numpy": [],
    "polars_ols": ["polars", "polars_ols"],
    "statsmodels": ["statsmodels.api"],
    "sklearn": ["sklearn"],
}
COMPILED_ELSEWHERE = "W5"  # eight predictors, by `pytest bench`
RTOL = 1e-8  # normal equations of well-posed groups of at least 5 rows


def want(frame, which: Workload) -> Answer:
    """Every group by `numpy.linalg.lstsq`, groups in the order of their keys."""
    keys = frame[which.keys].drop_duplicates().sort_values(which.keys)
    params = [lstsq(group_rows(frame, which, key), which) for key in keys.itertuples(index=False)]
    return Answer([keys[k].to_numpy() for k in which.keys], np.array(params))


@pytest.mark.parametrize("name", WORKLOADS)
def test_workload_is_what_it_says(name):
    which = WORKLOADS[name].scaled(TOY)
    frame = make(which)
    sizes = frame.groupby(which.keys).size()
    assert len(sizes) == which.groups
    assert set(sizes) == {which.rows}
    assert list(frame) == [*which.keys, *which.linear, *which.responses, "w"]
    assert frame["w"].between(0.5, 2).all()
    signal = frame[which.linear].sum(axis=1)
    for q, y in enumerate(which.responses):
        assert (frame[y] - 1 - (q + 1) * signal).std() == pytest.approx(0.1, rel=0.2)
    assert not frame[which.keys].equals(frame[which.keys].sort_values(which.keys))


def test_full_sizes_are_those_of_the_tables():
    assert {name: (which.groups, which.n) for name, which in WORKLOADS.items()} == {
        "W1": (1_000, 5_000),
        "W2": (200_000, 1_000_000),
        "W3": (10_000, 5_000_000),
        "W4": (1_000_000, 10_000_000),
        "W5": (50, 10_000_000),
        "W6": (100_000, 2_000_000),
    }
    assert WORKLOADS["W2"].about == "200,000 groups x 5 rows, 2 predictors, 2 targets, 3 int keys"
    assert founders(4_000).n == 20_000


def test_frames_are_seeded():
    which = WORKLOADS["W4"]
    assert make(which, scale=TOY).equals(make(which, scale=TOY))
    assert not make(which, scale=TOY).equals(make(which, seed=2, scale=TOY))
    assert make(which, scale=TOY)["g"].max() > 2**45


@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != COMPILED_ELSEWHERE])
def test_gbreg(name):
    which = WORKLOADS[name].scaled(TOY)
    frame = make(which)
    result = fit(frame, which)
    truth = want(frame, which)
    got = result.params.to_numpy().reshape(truth.params.shape)
    np.testing.assert_allclose(got, truth.params, rtol=1e-9)
    assert (result.status == "ok").all().all()


@pytest.mark.compiled
@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("peer", NEEDS)
def test_peer(peer, name):
    for module in NEEDS[peer]:
        pytest.importorskip(module)
    which = WORKLOADS[name].scaled(TOY)
    frame = make(which)
    module = load(peer)
    answer = module.run(module.prepare(frame, which))
    truth = want(frame, which)
    order = np.lexsort(answer.keys[::-1])
    for got, key in zip(answer.keys, truth.keys, strict=True):
        np.testing.assert_array_equal(got[order], key)
    np.testing.assert_allclose(answer.params[order], truth.params, rtol=RTOL)
    if answer.errors is not None and name != COMPILED_ELSEWHERE:
        errors = fit(frame, which).bse.to_numpy().reshape(truth.params.shape)
        np.testing.assert_allclose(answer.errors[order], errors, rtol=RTOL)


@pytest.mark.parametrize("peer", ["polars", "pandas"])
def test_peer_that_treats_long_frames_in_another_way(peer, monkeypatch):
    for module in NEEDS[peer]:
        pytest.importorskip(module)
    monkeypatch.setattr(load(peer), "SMALL", 10)
    test_peer(peer, "W3")


def test_elimination_in_blocks(monkeypatch):
    monkeypatch.setattr(normal, "BLOCK", 7)
    monkeypatch.setattr(load("numpy"), "BLOCK", 16)
    test_peer("numpy", "W6")


def test_only_tools_that_fit_group_by_group_are_timed_on_a_part():
    assert timed_groups("polars", 1_000_000, 10) == 1_000_000
    assert timed_groups("statsmodels", 1_000_000, 10) == 2_000
    assert timed_groups("statsmodels", 50, 200_000) == 8


def test_a_block_of_a_page_is_rewritten(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x -->\nold\n<!-- end x -->\nb\n<!-- y -->\n<!-- end y -->\n")
    measure.rewrite(page, "x", r"new \1")
    measure.rewrite(page, "y", measure.table(["h", "k"], [["1", "2"]]))
    assert page.read_text() == (
        "a\n<!-- x -->\nnew \\1\n<!-- end x -->\nb\n"
        "<!-- y -->\n| h | k |\n|---|---|\n| 1 | 2 |\n<!-- end y -->\n"
    )
    with pytest.raises(ValueError, match="no block 'z'"):
        measure.rewrite(page, "z", "")


def test_pages_have_the_blocks_that_are_rewritten():
    for page, marks in {
        measure.HERE / "README.md": ["founders", "compare"],
        measure.DOCS / "performance.md": ["scaling", "stages"],
    }.items():
        for mark in marks:
            assert page.read_text().count(f"<!-- {mark} -->") == 1
            assert page.read_text().count(f"<!-- end {mark} -->") == 1


@pytest.mark.compiled
def test_compare_at_toy_size(monkeypatch):
    compare = importlib.import_module("compare")
    monkeypatch.setattr(compare, "PEERS", ["pandas", "numpy", "statsmodels"])
    seconds = compare.measure(WORKLOADS["W2"].scaled(TOY), rounds=2)
    assert list(seconds) == ["call", "gbreg", "mad", "pandas", "numpy", "statsmodels"]
    assert all(len(times) == 2 and (times > 0).all() for times in seconds.values())


@pytest.mark.compiled
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_that_of_the_call():
    compare = importlib.import_module("compare")
    name, columns, taken, times = compare.peak(WORKLOADS["W4"], 0.05)
    assert (name, columns) == ("W4", "32.0")
    assert 8 < float(taken) < 1_000  # at least the sorted copy of one column
    assert float(times) == pytest.approx(float(taken) / 32, abs=0.01)


def test_slopes_where_predictors_lie_far_from_zero():
    precision = importlib.import_module("precision")
    assert precision.digits("gbreg", 1e6) > 13
    assert precision.digits("pandas", 1e6) < 6
    assert precision.digits("numpy lstsq", 0) > 13


@pytest.mark.compiled
def test_scaling_at_toy_size(monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    scaling = importlib.import_module("scaling")
    monkeypatch.setattr(scaling, "ROUNDS", 1)
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--scale", "0.001"])
    scaling.main()
    printed = capsys.readouterr().out
    assert "| rows, 10 a group | 100 | 300 | 1,000 | 3,000 | 10,000 | 20,000 | max / min |" in printed
    assert scaling.flatness({1: 2.0, 10: 1.0, 100: 4.0}) == 4


def test_first_call_is_measured_in_a_fresh_process():
    first_call = importlib.import_module("first_call")
    imported, fitted = first_call.first_call("numpy", runs=1)
    assert 0 < imported < 60
    assert 0 < fitted < 60
    assert 0 < first_call.cold_call("numpy") < 60


def test_founders_comparison_is_importable():
    report = importlib.import_module("report")
    assert Path(report.__file__).parent == measure.HERE
    assert report.BACKENDS == ["loky", "numpy", "numba"]
