# SPDX-License-Identifier: MIT
"""What `gbreg.fit` takes as ``ridge`` and ``bounds``: read, checked, and written again."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from math import inf, isfinite, isnan
from numbers import Real
from typing import Any

from gbreg.errors import SpecError
from gbreg.suggest import nearest

Bounds = tuple[tuple[float, float], ...]


def read_ridge(given: Any, predictors: Sequence[Hashable]) -> tuple[float, ...] | None:
    """Penalty of each predictor, from what `gbreg.fit` takes as ``ridge``.

    Raises
    ------
    SpecError
        It is no number at least 0, names what is no predictor, or has another length.
    """
    if given is None:
        return None
    if hasattr(given, "to_dict"):  # a Series is read by its labels, not by position
        if not given.index.is_unique:
            raise SpecError(f"ridge= names predictors more than once: {list(given.index)}")
        given = given.to_dict()
    if getattr(given, "ndim", None) == 0:  # an array that is a number
        given = given.item()
    if isinstance(given, Mapping):
        _check_names("ridge", given, predictors, "predictors")
        return tuple(_penalty(given.get(name, 0.0), f" for {name!r}") for name in predictors)
    if _is_number(given):
        if not predictors and given:
            raise SpecError("ridge= is of predictors, and linear= has none; the intercept is not penalised")
        return (_penalty(given, ""),) * len(predictors)
    if isinstance(given, (str, bytes, Set)) or not (hasattr(given, "__len__") and hasattr(given, "__iter__")):
        raise SpecError(
            f"ridge must be a number, one per predictor, or a mapping of predictors to numbers, got {given!r}"
        )
    values = list(given)
    if len(values) != len(predictors):
        raise SpecError(f"ridge must have one number per predictor, {len(predictors)}, got {len(values)}")
    return tuple(_penalty(value, f" for {name!r}") for name, value in zip(predictors, values, strict=True))


def read_bounds(given: Any, terms: Sequence[Hashable], intercept: bool) -> Bounds | None:
    """Lowest and highest value of each term, from what `gbreg.fit` takes as ``bounds``.

    Raises
    ------
    SpecError
        It is no pair of numbers, the lower of which is not above the other, or names what is no term.
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        _check_names("bounds", given, terms, "terms")
        return tuple(_pair(given.get(term), f" for {term!r}") for term in terms)
    if not isinstance(given, (tuple, list)):
        raise SpecError(f"bounds must be a pair (low, high), or a mapping of terms to pairs, got {given!r}")
    free = ((-inf, inf),) * intercept
    if len(terms) == len(free):
        raise SpecError(
            'a pair of bounds= is of predictors, and linear= has none; write {"Intercept": (low, high)}'
        )
    return (*free, *(_pair(given, ""),) * (len(terms) - len(free)))


def ridge_text(ridge: tuple[float, ...], standardize: bool) -> str:
    """As it may be written in a call."""
    alike = len(set(ridge)) == 1
    return f"ridge={ridge[0] if alike else list(ridge)}{', ridge_standardize=True' if standardize else ''}"


def bounds_text(bounds: Bounds, terms: Sequence[Hashable], intercept: bool) -> str:
    """As it may be written in a call."""
    written = [tuple(None if abs(end) == inf else end for end in pair) for pair in bounds]
    slopes = set(written[intercept:])
    if len(slopes) == 1 and not (intercept and any(end is not None for end in written[0])):
        return f"bounds={slopes.pop()}"
    held = {
        term: pair for term, pair in zip(terms, written, strict=True) if any(end is not None for end in pair)
    }
    return f"bounds={held}"


def _check_names(option: str, given: Mapping[Any, Any], known: Sequence[Hashable], what: str) -> None:
    for name in given:
        if name not in known:
            raise SpecError(f"{option}= names {name!r}, {what} are {list(known)}{nearest(name, known)}")


def _penalty(value: Any, where: str) -> float:
    if not (_is_number(value) and 0 <= as_float(value) < inf):
        raise SpecError(f"ridge must be a finite number, at least 0{where}, got {value!r}")
    return float(value)


def _pair(value: Any, where: str) -> tuple[float, float]:
    if value is None:
        return -inf, inf
    if not (isinstance(value, (tuple, list)) and len(value) == 2):
        raise SpecError(f"bounds must be pairs (low, high){where}, got {value!r}")
    low, high = (end if given is None else given for given, end in zip(value, (-inf, inf), strict=True))
    if not (_is_number(low) and _is_number(high)) or isnan(as_float(low)) or isnan(as_float(high)):
        raise SpecError(
            f"bounds must be numbers or None{where}, got {value!r}; one pair is for all predictors, "
            "a mapping of terms to pairs for each"
        )
    low, high = as_float(low), as_float(high)
    if low > high or (low == high and not isfinite(low)):
        raise SpecError(f"bounds must be low <= high{where}, got {value!r}")
    return low + 0.0, high + 0.0  # -0.0 is 0


def as_float(value: Any) -> float:
    """A whole number beyond float64 is infinite."""
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
