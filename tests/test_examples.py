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
