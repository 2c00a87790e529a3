# SPDX-License-Identifier: MIT
"""What the pages show is what comes out."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.compiled
def test_page_on_errors_shows_what_comes_out():
    failed, attempted = doctest.testfile(str(DOCS / "errors.md"), module_relative=False)
    assert attempted > 30
    assert failed == 0


def test_blocks_of_the_page_on_errors_are_all_run():
    """A block is seen by doctest if it has prompts, and ends with an empty line before its fence."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "errors.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        assert block.startswith(">>> ")
        assert block.endswith("\n\n")
