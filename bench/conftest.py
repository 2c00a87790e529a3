# SPDX-License-Identifier: MIT
"""What needs the extras ``bench`` or ``plot`` is not looked through for doctests."""

collect_ignore_glob = ["peers/*", "compare.py", "precision.py", "scaling.py"]
