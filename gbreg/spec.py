# SPDX-License-Identifier: MIT
"""What the user asked for: frozen, checks itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from gbreg.columns import Column, is_label, is_label_list
from gbreg.errors import SpecError
from gbreg.problem import FitOptions
from gbreg.suggest import nearest

Missing = Literal["drop", "raise"]
Precision = Literal["auto", "extended"]
OnCollinear = Literal["nan", "drop", "raise"]

INTERCEPT = "Intercept"


@dataclass(frozen=True, slots=True)
class Grouping:
    """The arguments that `pandas.DataFrame.groupby` takes, with its meanings."""

    by: Any = None
    level: Any = None
    sort: bool = True
    observed: bool = True
    dropna: bool = True

    def __post_init__(self) -> None:
        if (self.by is None) == (self.level is None):
            raise SpecError("give by= or level=, one of them: what are the groups?")
        for name in ("sort", "observed", "dropna"):
            check_bool(name, getattr(self, name))

    @property
    def labels(self) -> tuple[Hashable, ...] | None:
        """The column labels in ``by``, or None if it holds anything else."""
        if self.level is not None:
            return None
        if is_label(self.by):
            return (self.by,)
        return tuple(self.by) if is_label_list(self.by) else None

    def portable(self) -> Grouping | None:
        """Itself if it is plain labels or levels; None if it holds code or row-aligned keys."""
        return self if self.level is not None or self.labels is not None else None


@dataclass(frozen=True, slots=True)
class FitSpec:
    """One call of `gbreg.fit`, checked as far as it can be without the data."""

    grouping: Grouping | None  # None: keys were row-aligned or code, and the fit was stored
    linear: tuple[Column, ...]
    targets: tuple[Column, ...]
    weights: Hashable  # what the weights were called, None if unweighted
    options: FitOptions
    missing: Missing = "drop"

    def __post_init__(self) -> None:
        check_choice("missing", self.missing, get_args(Missing))
        if not self.targets:
            raise SpecError("targets= is empty: what is to be fitted?")
        for role, names in (("linear", self.predictors), ("targets", self.target_names)):
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise SpecError(f"{twice} appear more than once in {role}=")
        if both := [name for name in self.predictors if name in set(self.target_names)]:
            raise SpecError(f"{both} appear in both linear= and targets=")
        if self.options.intercept and INTERCEPT in self.predictors:
            raise SpecError(f"a predictor is called {INTERCEPT!r}, the name of the constant; rename it")
        keys = set((self.grouping and self.grouping.labels) or ())
        for role, columns in (("linear", self.linear), ("targets", self.targets)):
            if constant := [column.name for column in columns if column.label in keys]:
                raise SpecError(f"{constant} in {role}= are also in by=, so they are constant in every group")
            if taken := [column.name for column in columns if column.name in keys]:
                raise SpecError(f"{taken} in {role}= are derived columns called like keys; rename them")

    @property
    def predictors(self) -> tuple[Hashable, ...]:
        return tuple(column.name for column in self.linear)

    @property
    def target_names(self) -> tuple[Hashable, ...]:
        return tuple(column.name for column in self.targets)

    @property
    def terms(self) -> tuple[Hashable, ...]:
        """Names of the coefficients in order, the intercept first."""
        return (INTERCEPT, *self.predictors) if self.options.intercept else self.predictors

    def portable(self, *, formulas: bool = False) -> FitSpec:
        """Without code: derived columns become plain ones of the same name; see `Column.portable`."""
        return replace(
            self,
            grouping=self.grouping and self.grouping.portable(),
            linear=tuple(column.portable(formulas=formulas) for column in self.linear),
            targets=tuple(column.portable(formulas=formulas) for column in self.targets),
        )


def fit_options(
    n_predictors: int,
    *,
    intercept: bool,
    min_nobs: int | None,
    precision: Precision,
    on_collinear: OnCollinear,
    mad: bool,
) -> FitOptions:
    """Options of the backends, checked.

    Raises
    ------
    SpecError
        Names the option, what was expected and what was found.
    """
    check_bool("intercept", intercept)
    check_bool("mad", mad)
    check_choice("precision", precision, get_args(Precision))
    check_choice("on_collinear", on_collinear, get_args(OnCollinear))
    p = n_predictors + intercept
    if p == 0:
        raise SpecError("linear=[] with intercept=False leaves nothing to fit")
    if min_nobs is None:
        min_nobs = p
    if isinstance(min_nobs, bool) or not hasattr(min_nobs, "__index__"):
        raise SpecError(f"min_nobs must be an integer, got {min_nobs!r}")
    if min_nobs < p:
        raise SpecError(f"min_nobs must be at least the number of coefficients ({p}), got {min_nobs}")
    return FitOptions(
        intercept=bool(intercept),
        min_nobs=int(min_nobs),
        precision=precision,
        on_collinear=on_collinear,
        mad=bool(mad),
    )


def check_bool(name: str, value: object) -> None:
    if type(value).__name__ not in ("bool", "bool_"):  # numpy's bool too, without its ints
        raise SpecError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise SpecError(f"{name} must be one of {list(choices)}, got {value!r}{nearest(str(value), choices)}")


def check_fraction(name: str, value: object) -> None:
    if isinstance(value, bool) or not (isinstance(value, (int, float)) and 0 < value < 1):
        raise SpecError(f"{name} must be between 0 and 1, got {value!r}")
