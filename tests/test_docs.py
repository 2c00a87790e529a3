# SPDX-License-Identifier: MIT
"""What the pages show is what comes out."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {"errors.md": 0, "howto.md": doctest.NORMALIZE_WHITESPACE}


@pytest.mark.compiled
def test_first_page_runs_and_finds_the_truth():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    names = {}
    exec(blocks[0], names)
    fit = names["fit"]
    truth = np.array([1, 2, 0, 0, 1, -1])
    pulls = (fit.params.to_numpy() - truth) / fit.bse.to_numpy()
    assert len(fit) == 18 * 50
    assert np.median(np.abs(pulls)) == pytest.approx(0.69, abs=0.02)  # of Student's t with 17 to 22 - 3 df
    for block in blocks[1:]:
        exec(block, names)
    assert len(blocks) == 2
    assert names["fit"].terms == ("Intercept", "x", "y", "C(side)[T.1]", "x:y")


@pytest.mark.compiled
@pytest.mark.parametrize("page", PAGES)
def test_pages_show_what_comes_out(page):
    failed, attempted = doctest.testfile(str(DOCS / page), module_relative=False, optionflags=PAGES[page])
    assert attempted >= 30
    assert failed == 0


@pytest.mark.parametrize("page", PAGES)
def test_blocks_of_the_pages_are_all_run(page):
    """A block is seen by doctest if it has prompts, and ends with an empty line before its fence."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        assert block.startswith(">>> ")
        assert block.endswith("\n\n")
