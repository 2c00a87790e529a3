# SPDX-License-Identifier: MIT
"""The examples run and say what they should."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.compiled
@pytest.mark.filterwarnings("ignore::gbreg.GbregWarning")
def test_quickstart_fits_every_route_and_aircraft(capsys):
    load("quickstart").main()
    out = capsys.readouterr().out
    assert "336,776 flights" in out
    assert "one regression per route: 439 groups" in out
    assert "one regression per aircraft: 4,043 groups" in out
    assert "rank_deficient" in out


@pytest.mark.compiled
def test_detector_calibration_recovers_the_truth(capsys):
    module = load("detector_calibration")
    module.main()
    out = capsys.readouterr().out
    assert "405,423 rows" in out
    pulls = re.findall(r"mean ([+-][\d.]+), width ([\d.]+)", out)
    assert len(pulls) == 3
    for mean, width in pulls:
        assert abs(float(mean)) < 0.1
        assert abs(float(width) - 1) < 0.2
    widths = re.findall(r"([\d.]+) -> ([\d.]+) \(noise", out)
    assert len(widths) == 3
    for before, after in widths:
        assert float(before) > 2 * module.NOISE
        assert float(after) == pytest.approx(module.NOISE, rel=0.05)


def test_detector_map_is_seeded():
    module = load("detector_calibration")
    one, two = module.make_map(100), module.make_map(100)
    assert one.equals(two)
    assert np.isfinite(one.to_numpy()).all()


@pytest.fixture(scope="module")
def robust():
    load("detector_calibration")  # which the other imports
    return load("robust_calibration")


@pytest.mark.compiled
def test_robust_calibration_cures_large_cells_and_not_small_ones(robust, capsys):
    table = robust.main(40_000, radii=(15, 1))
    assert "40,000 rows, 5% of the values" in capsys.readouterr().out
    assert len(table) == 12
    small, large = (part.set_index(["data", "fit"]) for _, part in table.groupby("rows/cell"))
    clean, plain, clipped = (
        large.loc[key] for key in (("clean", "plain"), ("outliers", "plain"), ("outliers", "clip=4.0"))
    )
    assert plain["width"] > 5 * clean["width"]
    assert clipped["width"] < 1.2 * clean["width"]
    assert abs(clipped["bias"]) < 4 * clipped["width"] / np.sqrt(clipped["fitted"])
    assert 0.93 < clipped["inside"] < 0.97
    assert clipped["pull"] == pytest.approx(1, abs=0.1)
    assert 0.04 < clipped["set aside"] < 0.05
    assert clipped["found"] > 0.99
    huber = large.loc[("outliers", "huber")]
    assert huber["width"] < 1.5 * clean["width"]
    assert huber["pull"] == pytest.approx(1, abs=0.1)
    assert large.loc[("clean", "clip=4.0"), "width"] == pytest.approx(clean["width"], rel=0.02)
    hidden = small.loc[("outliers", "clip=4.0"), "width"] / small.loc[("outliers", "plain"), "width"]
    assert hidden == pytest.approx(1, abs=0.1)  # as the docstring says: nothing useful


def test_outliers_are_seeded_and_the_clean_map_is_kept(robust):
    clean = robust.calibration.make_map(2000)
    one = robust.add_outliers(clean)
    assert one.equals(robust.add_outliers(clean))
    assert clean.equals(robust.calibration.make_map(2000))
    for target in robust.calibration.TARGETS:
        assert (one[target] != clean[target]).mean() == pytest.approx(robust.FRACTION, abs=0.02)


@pytest.mark.compiled
def test_notebook_runs(tmp_path):
    notebook = nbformat.read(ROOT / "examples" / "notebook.ipynb", as_version=4)
    os.environ.setdefault("JUPYTER_PLATFORM_DIRS", "1")
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    html = "".join(out.get("data", {}).get("text/html", "") for out in shown)
    assert "GroupFit" in html
    assert "4,043 groups" in html
    assert "N725MQ" in html


def test_readme_commands_are_those_of_the_ci():
    """They cannot drift apart; the CI only adds ``-q`` to pip."""
    commands = re.findall(r"```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    ci = (ROOT / ".ci" / "run").read_text().replace("pip install -q", "pip install")
    assert len(commands) == 2
    for command in commands:
        assert command in ci
