# SPDX-License-Identifier: MIT
"""The nearest name, for error messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


ARGUMENTS = {  # of statsmodels, scikit-learn, R and polars
    **dict.fromkeys(("X", "x", "exog", "features", "predictors"), "linear="),
    **dict.fromkeys(("y", "Y", "endog", "target_columns"), "targets="),
    **dict.fromkeys(("groupby", "group_by", "keys"), "by="),
    **dict.fromkeys(("sample_weight", "weight", "w"), "weights="),
    **dict.fromkeys(("sigma", "yerr", "sy"), "weights=, which takes 1/sigma**2"),
    **dict.fromkeys(("subset", "mask", "filter"), "where="),
    **dict.fromkeys(("robust", "method", "family"), "loss="),
    **dict.fromkeys(("vcov", "cov", "cov_kwds"), "cov_type= and groups="),
    **dict.fromkeys(("clusters", "cluster"), "groups=, with cov_type='cluster'"),
    **dict.fromkeys(("alpha", "penalty", "l2"), "ridge="),
    "engine": "backend=",
    "positive": "bounds=(0, None)",
}


def nearest(name: Hashable, known: Iterable[Hashable]) -> str:
    """``"; did you mean 'x'?"``, or an empty string when nothing is close."""
    import difflib  # here: most calls have no typo

    words = {str(label): label for label in known}
    lower = {word.lower(): word for word in words}
    if (plain := str(name).lower()) in lower:  # right letters, wrong case
        close = [lower[plain]]
    else:
        close = difflib.get_close_matches(str(name), words, n=1)
        close = close or [lower[m] for m in difflib.get_close_matches(plain, lower, n=1)]
    return f"; did you mean {words[close[0]]!r}?" if close else ""


def expression(label: Hashable, *, named: bool) -> str:
    """How to ask for what looks like code, a callable with or without a name; or an empty string."""
    import re

    if not isinstance(label, str) or not re.search(r"[<>=!&|*/^%:]|\s[+-]\s", label):
        return ""
    code = f"lambda d: d.eval({label!r})"
    return f"; for an expression give a callable: {f'({label!r}, {code})' if named else code}"


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
                here = ARGUMENTS.get(unknown[0])
                hint = f"; gbreg calls it {here}" if here else nearest(unknown[0], parameters)
                raise TypeError(f"{error}{hint}") from None
            if len(args) > places:
                raise TypeError(f"{error}; arguments other than formula= go by their names") from None
            raise

    return call
