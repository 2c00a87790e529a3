# SPDX-License-Identifier: MIT
"""The nearest name, for error messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def nearest(name: Hashable, known: Iterable[Hashable]) -> str:
    """``"; did you mean 'x'?"``, or an empty string when nothing is close."""
    import difflib  # here: most calls have no typo

    words = {str(label): label for label in known}
    close = difflib.get_close_matches(str(name), words, n=1)
    if not close:  # right letters, wrong case
        lower = {word.lower(): word for word in words}
        close = [lower[m] for m in difflib.get_close_matches(str(name).lower(), lower, n=1)]
    return f"; did you mean {words[close[0]]!r}?" if close else ""


def names_options(function: Callable[P, T]) -> Callable[P, T]:
    """Have the error of a call that does not fit the signature name the nearest argument."""
    parameters = inspect.signature(function).parameters
    places = sum(one.kind is one.POSITIONAL_OR_KEYWORD for one in parameters.values())

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if unknown := [name for name in kwargs if name not in parameters]:
                raise TypeError(f"{error}{nearest(unknown[0], parameters)}") from None
            if len(args) > places:
                raise TypeError(f"{error}; arguments other than formula= go by their names") from None
            raise

    return call
