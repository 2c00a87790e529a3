# SPDX-License-Identifier: MIT
"""The nearest name, for error messages."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


def nearest(name: Hashable, known: Iterable[Hashable]) -> str:
    """``"; did you mean 'x'?"``, or an empty string when nothing is close."""
    import difflib  # here: most calls have no typo

    words = {str(label): label for label in known}
    close = difflib.get_close_matches(str(name), words, n=1)
    if not close:  # right letters, wrong case
        lower = {word.lower(): word for word in words}
        close = [lower[m] for m in difflib.get_close_matches(str(name).lower(), lower, n=1)]
    return f"; did you mean {words[close[0]]!r}?" if close else ""
