# SPDX-License-Identifier: MIT
"""What a fit holds, and the numbers that each group and target has one of."""

from __future__ import annotations

from collections.abc import Hashable
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import fallback, tables
from gbreg.accounting import RowCounts
from gbreg.errors import SpecError
from gbreg.estimates import Estimates
from gbreg.fallback import Fallback
from gbreg.fitted import Origins
from gbreg.problem import Flag
from gbreg.spec import FitSpec, check_bool
from gbreg.statistics import Statistics

if TYPE_CHECKING:
    from gbreg.result import GroupFit


class Diagnostics:
    """The base of `gbreg.GroupFit`: frames indexed by the groups' keys, one column per target."""

    def __init__(
        self,
        estimates: Estimates,
        keys: pd.Index[Any],
        spec: FitSpec,
        counts: RowCounts,
        origins: Origins,
        backend: str,
    ) -> None:
        self.estimates = estimates
        self.keys = keys
        self.spec = without_rows(spec)
        self.counts = counts
        self.origins = origins  # what was subtracted from integer columns beyond 2**53
        self.backend = backend
        self.lost_code: tuple[Hashable, ...] = ()  # derived columns whose code was not stored
        self.fallback: Fallback | None = None  # the parents, if asked for

    def __getstate__(self) -> dict[str, Any]:
        spec = self.spec.portable(formulas=True)
        kept = {column.name for column in (*spec.linear, *spec.targets) if column.label is None}
        lost = tuple(name for name in self.derived if name not in kept)
        return {**self.__dict__, "spec": spec, "lost_code": lost}

    def __copy__(self) -> Self:
        return self._with(dict(self.__dict__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._with(deepcopy({**self.__dict__, "spec": None}, memo) | {"spec": self.spec})

    def _with(self, state: dict[str, Any]) -> Self:
        """A fit of that state: a copy stays in the process, so it keeps code, which `__getstate__` drops."""
        made = object.__new__(type(self))
        made.__dict__.update(state)
        return made

    @property
    def targets(self) -> tuple[Hashable, ...]:
        """Names of the targets."""
        return self.spec.target_names

    @property
    def predictors(self) -> tuple[Hashable, ...]:
        """Names of the predictors, without the intercept."""
        return self.spec.predictors

    @property
    def terms(self) -> tuple[Hashable, ...]:
        """Names of the coefficients, the intercept first."""
        return self.spec.terms

    @property
    def derived(self) -> tuple[Hashable, ...]:
        """Predictors and targets that were computed by a callable, an expression or a formula."""
        made = [column.name for column in (*self.spec.linear, *self.spec.targets) if column.label is None]
        return (*self.lost_code, *made)

    @property
    def statistics(self) -> Statistics:
        """The same numbers as arrays, without labels."""
        spec = self.spec
        squares = not spec.robust
        return Statistics(self.estimates, self.origins, spec.options.intercept, spec.cov_type, squares)

    def _need_clip(self, what: str) -> None:
        if self.spec.clip is None:
            raise SpecError(f"{what} needs a fit with clip=, the number of standard deviations kept")

    def _by_target(self, values: NDArray[Any], *, fresh: bool = False) -> pd.DataFrame:
        return tables.with_columns(values, self.keys, tables.labels(self.targets, "target"), fresh=fresh)

    def _by_term(self, values: NDArray[Any], *, fresh: bool = False) -> pd.DataFrame:
        columns = tables.product(("target", self.targets), ("term", self.terms))
        return tables.with_columns(values, self.keys, columns, fresh=fresh)

    @property
    def nobs(self) -> pd.DataFrame:
        """Rows used; with frequency weights, the sum of their counts."""
        return self._by_target(self.statistics.nobs)

    @property
    def nobs_clipped(self) -> pd.DataFrame:
        """Rows that ``clip`` set aside; they are not in `nobs`."""
        self._need_clip("nobs_clipped")
        return self._by_target(self.counts.clipped)

    @property
    def at_bound(self) -> pd.DataFrame:
        """Coefficients that are at one of their ``bounds``, boolean, columns (target, term)."""
        if self.spec.bounds is None:
            raise SpecError("at_bound needs a fit with bounds=, the lowest and highest coefficients")
        return self._by_term(self.spec.held(self.estimates.params))

    @property
    def df_resid(self) -> pd.DataFrame:
        """Residual degrees of freedom, nobs minus the number of independent columns.

        With ``ridge``, minus the trace of the hat matrix instead; with ``bounds``, minus the number
        of coefficients that are at none (of these, with both).
        """
        return self._by_target(self.statistics.df_resid)

    @property
    def ssr(self) -> pd.DataFrame:
        """Weighted sum of squared residuals, sum w r^2."""
        return self._by_target(self.statistics.ssr)

    @property
    def chi2(self) -> pd.DataFrame:
        """Chi2 of the residuals, sum (r / sigma)^2: `ssr` under ``cov_type="known"``, which it needs."""
        self.spec.need("known", "chi2")
        return self._by_target(self.statistics.ssr)

    @property
    def chi2_pvalue(self) -> pd.DataFrame:
        """Probability of a larger `chi2` with `df_resid` degrees of freedom; NaN if saturated."""
        self.spec.need("known", "chi2_pvalue")
        return self._by_target(self.statistics.chi2_pvalue)

    @property
    def scale(self) -> pd.DataFrame:
        """Residual variance of a row of weight 1, ssr / df_resid, also where errors are known.

        With another ``loss`` than "squared" it is a standard deviation, 1.4826 median(sqrt(w) |r|), not
        squared, as in statsmodels' ``RLM``.
        """
        return self._by_target(self.statistics.scale)

    @property
    def rms(self) -> pd.DataFrame:
        """Root mean square of the residuals, sqrt(sum w r^2 / sum w)."""
        return self._by_target(self.statistics.rms, fresh=True)

    @property
    def mad(self) -> pd.DataFrame:
        """Median absolute deviation of the residuals, median(|r - median(r)|).

        Unscaled and unweighted, as `scipy.stats.median_abs_deviation`.
        """
        if self.spec.frequency:
            raise SpecError('mad is not computed with weights_type="frequency": it would need repeated rows')
        if not self.spec.options.mad:
            raise SpecError("mad was not computed; call fit(..., mad=True)")
        return self._by_target(self.estimates.mad)

    @property
    def rsquared(self) -> pd.DataFrame:
        """1 - ssr / tss, about the weighted mean (about 0 without intercept); NaN for constant targets."""
        if self.spec.robust:
            self.spec.need_least_squares("rsquared")
        return self._by_target(self.statistics.rsquared)

    @property
    def rsquared_adj(self) -> pd.DataFrame:
        """R2 adjusted for degrees of freedom, 1 - (1 - R2) (n - intercept) / df_resid."""
        self.spec.need_least_squares("rsquared_adj")
        return self._by_target(self.statistics.rsquared_adj)

    @property
    def fvalue(self) -> pd.DataFrame:
        """F of all slopes being zero (without intercept, all coefficients); NaN for perfect fits.

        Needs ``cov_type="classical"``; `GroupFit.wald_test` has the chi2 of known errors.
        """
        self.spec.need_least_squares("fvalue")
        self.spec.need("classical", "fvalue")
        return self._by_target(self.statistics.fvalue)

    @property
    def f_pvalue(self) -> pd.DataFrame:
        """Probability of a larger `fvalue`."""
        self.spec.need_least_squares("f_pvalue")
        self.spec.need("classical", "f_pvalue")
        return self._by_target(self.statistics.f_pvalue)

    @property
    def llf(self) -> pd.DataFrame:
        """Gaussian log-likelihood, as statsmodels' WLS; NaN for perfect and saturated fits."""
        self.spec.need_least_squares("llf")
        return self._by_target(self.statistics.llf)

    @property
    def aic(self) -> pd.DataFrame:
        """Akaike's information criterion, -2 llf + 2 rank."""
        self.spec.need_least_squares("aic")
        return self._by_target(self.statistics.aic)

    @property
    def bic(self) -> pd.DataFrame:
        """Schwarz's information criterion, -2 llf + log(nobs) rank."""
        self.spec.need_least_squares("bic")
        return self._by_target(self.statistics.bic)

    @property
    def condition_number(self) -> pd.DataFrame:
        """Ratio of the extreme singular values of the weighted design; inf where columns are dependent.

        With ``ridge``, of the design with the rows of the penalty, sqrt(ridge_j) e_j.
        """
        return self._by_target(self.statistics.condition_number)

    @property
    def digits(self) -> pd.DataFrame:
        """How many digits of the coefficients the stored data can support, at most 16.

        Of nearly dependent predictors a ``loss`` loses some of these, far below the standard errors.
        With ``ridge``, about how many a fit in float64 has.
        """
        return self._by_target(self.statistics.digits)

    # ------------------------------------------------------------------ status

    @property
    def _status_codes(self) -> NDArray[np.uint8]:
        return fallback.status_codes(self)

    @property
    def status(self) -> pd.DataFrame:
        """One word per group and target, categorical: those of `gbreg.Status`, in small letters.

        `fallbacks` has the reason of ``fallback``.
        """
        return tables.statuses(self._status_codes, self.keys, self.targets)

    @property
    def flags(self) -> pd.DataFrame:
        """Remarks beside the status, boolean, columns (target, flag); flags are those of `gbreg.Flag`."""
        bits = np.array([int(flag) for flag in Flag], dtype=np.uint8)
        values = (self.estimates.flags[:, :, None] & bits) > 0
        axes = [("target", self.targets), ("flag", [flag.word for flag in Flag])]
        return tables.by_axes(values, self.keys, *axes)

    def status_counts(self) -> pd.DataFrame:
        """Count groups by status: rows are all words, columns targets."""
        return tables.status_counts(self._status_codes, self.targets)

    def accounting(self, *, per_group: bool = False) -> pd.DataFrame:
        """Where the rows went; for each target the other counts add up to ``rows``.

        A row counts once: without key, not selected, of weight zero, missing, infinite, clipped or used.

        Parameters
        ----------
        per_group : bool
            Rows are groups and columns (target, count); else one row per target, with
            ``without_key`` for the rows in no group.
        """
        check_bool("per_group", per_group)
        if per_group:
            return tables.row_counts(self.counts, self.keys, self.targets)
        return tables.total_row_counts(self.counts, self.targets)

    @property
    def parents(self) -> dict[str, GroupFit]:
        """Fits of coarser groups, in the order in which ``fallback`` tries them; none without it.

        Called ``sector/row`` after the keys they have, and ``all`` for all rows together.
        """
        return {} if self.fallback is None else dict(self.fallback.parents)

    @property
    def fallbacks(self) -> pd.DataFrame:
        """Which fit speaks for each group: columns (target, "source") and (target, "own_status").

        The source is ``own``, the name of one of `parents`, or ``none`` if there is none to predict
        with. The own status is the reason: that of the group by itself, where `status` is ``fallback``.
        """
        if self.fallback is None:
            raise SpecError(
                "fallbacks needs a fit with fallback=, the parents of groups that cannot be fitted"
            )
        return fallback.table(self, self.fallback)


def without_rows(spec: FitSpec) -> FitSpec:
    """Leave out keys that are values aligned with the rows of the frame."""
    by = spec.grouping.by if spec.grouping else None
    aligned = (np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray, list)
    items = by if isinstance(by, list) else [by]
    return replace(spec, grouping=None) if any(isinstance(item, aligned) for item in items) else spec
