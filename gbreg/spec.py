# SPDX-License-Identifier: MIT
"""What the user asked for: frozen, checks itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from math import inf
from numbers import Integral, Real
from typing import Any, Literal, get_args

import numpy as np

from gbreg.columns import Column, is_label, is_label_list
from gbreg.constraints import Bounds, as_float, bounds_text, ridge_text
from gbreg.errors import SpecError
from gbreg.problem import ROBUST, BoolArray, CovType, FitOptions, FloatArray, Loss, LossName
from gbreg.suggest import nearest

Missing = Literal["drop", "raise"]
Precision = Literal["auto", "extended"]
OnCollinear = Literal["nan", "drop", "raise"]
WeightsType = Literal["analytic", "frequency"]

INTERCEPT = "Intercept"
SQUARED = Loss()
TUNING = {"huber": 1.345, "bisquare": 4.685}  # 95 % as efficient as least squares if errors are normal
CALLED = {  # choices by their names in statsmodels, scikit-learn and R
    "nonrobust": "classical",
    "fixed scale": "known",
    **dict.fromkeys(("l2", "ls", "ols", "squared_error"), "squared"),
    **dict.fromkeys(("tukey", "biweight", "tukeybiweight"), "bisquare"),
    **dict.fromkeys(("l1", "lad", "quantile", "absolute_error", "median"), "absolute"),
    **dict.fromkeys(("robust", "hc", "white"), "HC1"),
    **dict.fromkeys(("ignore", "omit", "na.omit"), "drop"),
    "error": "raise",
}
ABSENT = ("hac", "newey-west", "neweywest", "nw", "driscoll-kraay")
CLIP_ITERATIONS = 20
LARGEST_COUNT = 2**62  # no group has as many rows, no fit as many iterations
LEAST_TUNING = 1e-3  # "huber" is then the median to 1e-3 deviations; weights of 1e-20 and less are rounding


@dataclass(frozen=True, slots=True, repr=False)
class Unkept:
    """Stands for what was given instead of a label; values are not kept, code is. No column is called so."""

    kind: str
    code: Any = field(default=None, compare=False)  # makes the values of any frame; None for values

    def __repr__(self) -> str:
        return f"{self.kind} (values)" if self.code is None else self.kind


def _without_code(label: Hashable) -> Hashable:
    return Unkept(label.kind) if isinstance(label, Unkept) else label


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
            raise SpecError("give by= or level=, one of them, or | keys in a formula: what are the groups?")
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
    cov_type: CovType = "classical"
    groups: Hashable = None  # what the clusters were called
    clip: float | None = None
    clip_iterations: int = CLIP_ITERATIONS
    weights_type: WeightsType = "analytic"
    loss: Loss = SQUARED
    ridge: tuple[float, ...] | None = None  # of each predictor
    ridge_standardize: bool = False
    bounds: Bounds | None = None  # of each term

    def __post_init__(self) -> None:
        check_choice("missing", self.missing, get_args(Missing))
        check_choice("cov_type", self.cov_type, get_args(CovType))
        if self.cov_type == "known" and self.weights is None:
            raise SpecError('cov_type="known" takes weights= for exactly 1/sigma^2, got no weights')
        if self.cov_type == "cluster" and self.groups is None:
            raise SpecError('cov_type="cluster" needs groups=, the cluster of each row')
        if self.cov_type != "cluster" and self.groups is not None:
            raise SpecError(f'groups= is for cov_type="cluster", got cov_type={self.cov_type!r}')
        check_choice("weights_type", self.weights_type, get_args(WeightsType))
        self._check_loss()
        if self.frequency and self.weights is None:
            raise SpecError('weights_type="frequency" takes weights= for counts, got no weights')
        if self.frequency and (self.cov_type in ROBUST or self.clip is not None):
            asked = "clip=" if self.clip is not None else f"cov_type={self.cov_type!r}"
            raise SpecError(f'{asked} does not go with weights_type="frequency"; repeat the rows instead')
        if self.frequency and self.cov_type == "known":
            raise SpecError('weights_type="frequency" and cov_type="known": counts are not 1/sigma^2')
        self._check_shrinkage()
        if not self.targets:
            raise SpecError("targets= is empty: what is to be fitted?")
        for role, names in (("linear", self.predictors), ("targets", self.target_names)):
            if len(set(names)) < len(names):
                twice = [name for name, count in Counter(names).items() if count > 1]
                raise SpecError(f"{twice} appear more than once in {role}=")
        if not set(self.predictors).isdisjoint(self.target_names):
            both = [name for name in self.predictors if name in self.target_names]
            raise SpecError(f"{both} appear in both linear= and targets=")
        if self.options.intercept and INTERCEPT in self.predictors:
            raise SpecError(f"a predictor is called {INTERCEPT!r}, the name of the constant; rename it")
        keys = set((self.grouping and self.grouping.labels) or ())
        for role, columns in (("linear", self.linear), ("targets", self.targets)):
            if constant := [column.name for column in columns if column.label in keys]:
                raise SpecError(f"{constant} in {role}= are also in by=, so they are constant in every group")
            if taken := [column.name for column in columns if column.name in keys]:
                raise SpecError(f"{taken} in {role}= are derived columns called like keys; rename them")

    def _check_loss(self) -> None:
        others = {
            "clip=": self.clip is not None,
            f"cov_type={self.cov_type!r}": self.cov_type != "classical",
            'weights_type="frequency"': self.frequency,
            self.shrunk: bool(self.shrunk),
        }
        if self.robust and (given := [name for name, is_given in others.items() if is_given]):
            raise SpecError(f"{self.criterion} does not go with {' and '.join(given)}")

    @property
    def predictors(self) -> tuple[Hashable, ...]:
        return tuple(column.name for column in self.linear)

    @property
    def target_names(self) -> tuple[Hashable, ...]:
        return tuple(column.name for column in self.targets)

    @property
    def frequency(self) -> bool:
        """Whether weights say how often a row is repeated."""
        return self.weights_type == "frequency"

    @property
    def terms(self) -> tuple[Hashable, ...]:
        """Names of the coefficients in order, the intercept first."""
        return (INTERCEPT, *self.predictors) if self.options.intercept else self.predictors

    def _check_shrinkage(self) -> None:
        check_bool("ridge_standardize", self.ridge_standardize)
        if self.ridge_standardize and self.ridge is None:
            raise SpecError("ridge_standardize= needs ridge=, the penalty")
        if self.ridge is None and self.bounds is None:
            return
        given = [f"{name}=" for name in ("ridge", "bounds") if getattr(self, name) is not None]
        asked = f"a fit with {' and '.join(given)}"
        if self.cov_type != "classical":
            raise SpecError(f"{asked} leaves no standard errors, got cov_type={self.cov_type!r}")
        if self.clip is not None:
            raise SpecError(f"{asked} does not go with clip=, which is for plain fits")
        if self.options.precision == "extended":
            raise SpecError(f'{asked} is computed in float64 only, got precision="extended"')

    @property
    def criterion(self) -> str:
        """The argument that asks for more than least squares, as ``loss="huber"``; "" if there is none."""
        return f'loss="{self.loss.name}"' if self.robust else self.shrunk

    @property
    def robust(self) -> bool:
        """Whether another loss than squares is minimised."""
        return self.loss.name != "squared"

    @property
    def needs_rows(self) -> bool:
        """Whether rows are read again after least squares."""
        return bool(self.robust or self.shrunk) or self.clip is not None or self.cov_type in ROBUST

    @property
    def penalised(self) -> bool:
        """Whether any predictor has a penalty."""
        return self.ridge is not None and any(self.ridge)

    @property
    def shrunk(self) -> str:
        """The penalty and the bounds, as they may be written; "" for none. Such fits have no errors."""
        made = []
        if self.ridge is not None and self.penalised:
            made.append(ridge_text(self.ridge, self.ridge_standardize))
        if self.bounds is not None:
            made.append(bounds_text(self.bounds, self.terms, self.options.intercept))
        return ", ".join(made)

    @property
    def limits(self) -> FloatArray:
        """Lowest and highest value of each term, (2, p)."""
        if self.bounds is None:
            return np.array([[-inf], [inf]]).repeat(len(self.terms), axis=1)
        return np.array(self.bounds, dtype=np.float64).reshape(-1, 2).T

    def held(self, params: FloatArray) -> BoolArray:
        """Coefficients (..., p) that are at a bound."""
        low, high = self.limits
        return np.asarray((params == low) | (params == high))

    @property
    def n_free(self) -> int:
        """Coefficients without penalty, the intercept included."""
        return len(self.terms) - (sum(value > 0 for value in self.ridge) if self.ridge else 0)

    def need_errors(self, what: str) -> None:
        """Raise `SpecError` if the fit has no standard errors."""
        if self.shrunk:
            raise SpecError(f"{what} needs standard errors, which a fit with {self.shrunk} does not have")

    def need_least_squares(self, what: str) -> None:
        """Raise `SpecError` if the fit minimises anything else."""
        if self.criterion:
            raise SpecError(f"{what} is of least squares, this fit has {self.criterion}")

    def need(self, cov_type: CovType, what: str) -> None:
        """Raise `SpecError` if the fit has other errors than ``what`` is made of."""
        if self.cov_type != cov_type:
            raise SpecError(f"{what} needs cov_type={cov_type!r}, this fit has {self.cov_type!r}")

    def portable(self, *, formulas: bool = False) -> FitSpec:
        """Without code: derived columns become plain ones of the same name; see `Column.portable`."""
        return replace(
            self,
            weights=_without_code(self.weights),
            groups=_without_code(self.groups),
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
    mad: bool | None,
    weights_type: WeightsType = "analytic",
    n_penalised: int = 0,
) -> FitOptions:
    """Options of the backends, checked.

    Raises
    ------
    SpecError
        Names the option, what was expected and what was found.
    """
    check_bool("intercept", intercept)
    if mad is None:
        mad = weights_type != "frequency"
    check_bool("mad", mad)
    if mad and weights_type == "frequency":
        raise SpecError(
            'weights_type="frequency" takes mad=False: the median of repeated rows is not computed'
        )
    check_choice("precision", precision, get_args(Precision))
    check_choice("on_collinear", on_collinear, get_args(OnCollinear))
    p = n_predictors + intercept
    if p == 0:
        raise SpecError("linear=[] with intercept=False leaves nothing to fit")
    least = max(p - n_penalised, 1)
    if min_nobs is None:
        min_nobs = least
    if isinstance(min_nobs, bool) or not isinstance(min_nobs, Integral):
        raise SpecError(f"min_nobs must be an integer, got {min_nobs!r}")
    if min_nobs < least:
        which = "coefficients without ridge" if n_penalised else "coefficients"
        raise SpecError(f"min_nobs must be at least the number of {which} ({least}), got {min_nobs}")
    return FitOptions(
        intercept=bool(intercept),
        min_nobs=min(int(min_nobs), LARGEST_COUNT),
        precision=precision,
        on_collinear=on_collinear,
        mad=bool(mad),
    )


def loss_of(loss: LossName, *, tuning: float | None, quantile: float | None, maxiter: int | None) -> Loss:
    """What to minimise, checked.

    Raises
    ------
    SpecError
        Names the option, what was expected and what was found.
    """
    check_choice("loss", loss, get_args(LossName))
    given = {"tuning": tuning, "quantile": quantile, "maxiter": maxiter}
    takes = {"squared": (), "absolute": ("quantile", "maxiter")}.get(loss, ("tuning", "maxiter"))
    for name, value in given.items():
        if value is not None and name not in takes:
            raise SpecError(f"loss={loss!r} has no {name}, got {name}={value!r}")
    if tuning is not None and (
        isinstance(tuning, bool) or not isinstance(tuning, Real) or not 0 < as_float(tuning) < inf
    ):
        raise SpecError(f"tuning must be a positive number of standard deviations, got {tuning!r}")
    if tuning is not None and tuning < LEAST_TUNING:
        raise SpecError(
            f"tuning must be at least {LEAST_TUNING} standard deviations, got {tuning!r}; "
            'loss="absolute" is what "huber" comes to'
        )
    return Loss(
        name=loss,
        tuning=float(TUNING.get(loss, 0.0) if tuning is None else tuning),
        quantile=0.5 if quantile is None else fraction_of("quantile", quantile),
        maxiter=SQUARED.maxiter if maxiter is None else count_of("maxiter", maxiter),
    )


def check_bool(name: str, value: object) -> None:
    if type(value).__name__ not in ("bool", "bool_"):  # numpy's bool too, without its ints
        raise SpecError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        here = CALLED.get(str(value).lower())
        hint = nearest(value, choices) if isinstance(value, str) else ""
        if name == "cov_type" and str(value).lower() in ABSENT:
            hint = "; errors for neighbours in time are not offered, 'cluster' has them for stretches of time"
        elif here in choices:
            hint = f"; gbreg calls it {here!r}"
        raise SpecError(f"{name} must be one of {list(choices)}, got {value!r}{hint}")


def clip_of(clip: float | None, iterations: int | None) -> tuple[float | None, int]:
    """``clip=`` and ``clip_iterations=``, checked."""
    if clip is None and iterations is not None:
        raise SpecError("clip_iterations= needs clip=, the number of standard deviations kept")
    if clip is not None and (
        isinstance(clip, bool) or not isinstance(clip, Real) or not 1 <= as_float(clip) < inf
    ):
        raise SpecError(f"clip must be a number of standard deviations, at least 1, got {clip!r}")
    most = CLIP_ITERATIONS if iterations is None else count_of("clip_iterations", iterations)
    return None if clip is None else float(clip), most


def count_of(name: str, value: object) -> int:
    """A positive integer, checked; any beyond `LARGEST_COUNT` is as good as that."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise SpecError(f"{name} must be a positive integer, got {value!r}")
    return min(int(value), LARGEST_COUNT)


def fraction_of(name: str, value: object) -> float:
    """A number between 0 and 1, checked."""
    if isinstance(value, bool) or not (isinstance(value, Real) and 0 < as_float(value) < 1):
        raise SpecError(f"{name} must be between 0 and 1, got {value!r}")
    return float(value)
