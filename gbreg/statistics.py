# SPDX-License-Identifier: MIT
"""What a regression reports, as arrays per target: `inference` applied to what a backend returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gbreg import inference, quadratic
from gbreg.estimates import Estimates
from gbreg.problem import ROBUST, BoolArray, CovType, Flag, FloatArray, IntArray, Status, exact_parts


def of_repeated_rows(estimates: Estimates, counts: IntArray, n_free: int) -> Estimates:
    """Estimates of rows repeated as often as their weights say, from those of weighted rows.

    ``counts`` (g, m) are sums of the weights. Repeated rows have weight 1 each. A group that was
    saturated and has more repeated rows than coefficients, ``n_free`` without penalty, is fitted perfectly.
    """
    spare = (counts > n_free)[:, estimates.pattern]
    perfect = spare & (estimates.status == Status.SATURATED)
    return replace(
        estimates,
        nobs=counts,
        log_wsum=np.where(np.isnan(estimates.log_wsum), np.nan, 0.0),
        status=np.where(perfect, Status.OK, estimates.status).astype(np.uint8),
        flags=estimates.flags | np.where(perfect, Flag.PERFECT_FIT, 0).astype(np.uint8),
    )


@dataclass(frozen=True, eq=False)
class Statistics:
    """Arrays (g, t), or (g, t, p) for what each coefficient has.

    Backends keep what depends on the rows alone once per pattern of missing targets, (g, m, ...);
    here everything is expanded to targets. Names are those of `GroupFit`. Values that others need are
    cached: one object serves one table, and is dropped.
    """

    estimates: Estimates
    origins: Mapping[int, NDArray[Any]]  # (g,), subtracted from the column at this position
    intercept: bool
    cov_type: CovType = "classical"
    squares: bool = True  # whether these were minimised

    def shared(self, name: str) -> NDArray[Any]:
        """Expand an array per pattern to targets: (g, m, ...) -> (g, t, ...)."""
        return self._wide(self._narrow(name))

    def _wide(self, values: NDArray[Any]) -> NDArray[Any]:
        """(g, 1 or t, ...) -> (g, t, ...)."""
        g, m, *rest = values.shape
        t = len(self.estimates.pattern)
        return values if m == t else np.broadcast_to(values, (g, t, *rest))

    def _narrow(self, name: str) -> NDArray[Any]:
        """The same, but (g, 1, ...) for all targets if they share a pattern, as in most fits."""
        values: NDArray[Any] = getattr(self.estimates, name)
        return values if values.shape[1] == 1 else values[:, self.estimates.pattern]

    @property
    def nobs(self) -> IntArray:
        return self.shared("nobs")

    @property
    def rank(self) -> IntArray:
        return self.shared("rank")

    @property
    def df_resid(self) -> FloatArray:
        return self._wide(self._df_resid)

    @cached_property
    def _df_resid(self) -> FloatArray:
        """As `_narrow` has it."""
        e = self.estimates
        taken = e.freedom[:, :, 0] if e.freedom.shape[2] else self._narrow("rank")
        return inference.df_resid(self._narrow("nobs"), taken, self._narrow("wsum"))

    @property
    def perfect(self) -> BoolArray:
        return (self.estimates.flags & Flag.PERFECT_FIT) > 0

    @property
    def df_error(self) -> FloatArray | None:
        """Degrees of freedom of the errors; None where statistics are normal, as statsmodels has it."""
        return self.df_resid if self.cov_type == "classical" and self.squares else None

    @cached_property
    def _errors(self) -> tuple[FloatArray, FloatArray]:
        """Standard errors and correlations of the coefficients, (g, t, p) and (g, t, p(p-1)/2)."""
        e = self.estimates
        if self.cov_type in ROBUST:
            center, wsum = self.shared("center") + self._origin[:, None], self.shared("wsum")
            norm = self.shared("norm")
            return inference.sandwich_errors(e.sandwich, e.resid_norm, wsum, norm, center, self.intercept)
        if self.cov_type == "known":
            return inference.bse_known(e.params, self.shared("root")), self.shared("corr")
        exact = e.resid_norm == 0
        return inference.bse(self.error_scale, self._narrow("root"), exact), self.shared("corr")

    @property
    def _origin(self) -> FloatArray:
        """(g, k) what was subtracted from the predictors."""
        origin: FloatArray = self._origin_parts(range(self.estimates.center.shape[2])).sum(axis=0)
        return origin

    # per coefficient

    @cached_property
    def bse(self) -> FloatArray:
        return self._errors[0]

    @cached_property
    def tvalues(self) -> FloatArray:
        noise = self.perfect & (self.cov_type != "known")  # whether the errors are
        return inference.tvalues(self.estimates.params, self.bse, noise)

    @property
    def pvalues(self) -> FloatArray:
        return inference.pvalues(self.tvalues, self.df_error)

    def conf_int(self, alpha: float) -> tuple[FloatArray, FloatArray]:
        """Lower and upper bounds."""
        return inference.conf_int(self.estimates.params, self.bse, self.df_error, alpha)

    def cov_params(self, q: int) -> FloatArray:
        """Covariance of the coefficients of the target at this position, (g, p, p)."""
        return inference.cov_params(self.bse[:, q], self._errors[1][:, q])

    def wald(self, R: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Statistic and p value (g, t) of R b = values, (r, p) and (r,): F where errors are t, else chi2."""
        e, first = self.estimates, int(self.intercept)
        k = e.center.shape[2]
        statistic = np.full(e.level.shape, np.nan)
        for q, m in enumerate(e.pattern.tolist()):
            center = [*self._origin_parts(range(k)), e.center[:, m]]
            level = [*self._origin_parts([k + q])[:, :, 0], e.level[:, q]]
            slopes = e.params[:, q, first:]
            if self.cov_type in ROBUST:
                M = quadratic.sandwich_rows(R, self.sandwich_factor(q), center, self.intercept)
            else:
                L = quadratic.slope_factor(e.root[:, m], e.corr[:, m], self.intercept)
                M = quadratic.error_rows(R, L, center, e.wsum[:, m], self.intercept)
            d = quadratic.differences(R, values, level, slopes, center, self.intercept)
            statistic[:, q] = quadratic.squared_length(M * self.error_scale[:, q], d)
        statistic[np.isnan(e.known_params).any(axis=2)] = np.nan
        if self.cov_type != "known":
            statistic[self.perfect] = np.nan
        if self.df_error is None:
            return statistic, inference.chi2_pvalue(statistic, np.full(statistic.shape, float(len(R))))
        statistic /= len(R)
        return statistic, inference.f_pvalue(statistic, np.full(statistic.shape, len(R)), self.df_resid)

    @property
    def error_scale(self) -> FloatArray:
        """What errors (g, t) are multiples of: the deviation of a row of weight 1, or 1."""
        if self.cov_type != "classical":
            return np.ones(self.estimates.level.shape)
        return self.sigma if self.squares else self.estimates.spread[:, :, 1]

    @property
    def row_scale(self) -> FloatArray:
        """Standard deviation (g, t) of a row of weight 1."""
        return np.ones(self.estimates.level.shape) if self.cov_type == "known" else self.sigma

    def sandwich_factor(self, q: int) -> FloatArray:
        """See `quadratic.sandwich_factor`, for the target at this position."""
        e, m = self.estimates, self.estimates.pattern[q]
        norms = e.resid_norm[:, q], e.wsum[:, m], e.norm[:, m]
        return quadratic.sandwich_factor(e.sandwich[:, q], *norms, self.intercept)

    def _origin_parts(self, places: Sequence[int]) -> FloatArray:
        """What was subtracted from columns at these positions, in two exact parts: (2, g, len)."""
        out = np.zeros((2, len(self.estimates.rank), len(places)))
        for i, place in enumerate(places):
            if place in self.origins:
                out[:, :, i] = exact_parts(self.origins[place])
        return out

    # per target

    @property
    def ssr(self) -> FloatArray:
        return inference.ssr(self.estimates.resid_norm)

    @property
    def chi2_pvalue(self) -> FloatArray:
        return inference.chi2_pvalue(self.ssr, self.df_resid)

    @property
    def scale(self) -> FloatArray:
        """A variance; of another loss than squares a standard deviation, as statsmodels has it."""
        if not self.squares:
            return self.sigma
        return inference.scale(self.estimates.resid_norm, self.df_resid)

    @property
    def sigma(self) -> FloatArray:
        if not self.squares:
            return self.estimates.spread[:, :, 0]
        return inference.sigma(self.estimates.resid_norm, self._df_resid)

    @property
    def rms(self) -> FloatArray:
        return inference.rms(self.estimates.resid_norm, self._narrow("wsum"))

    @cached_property
    def rsquared(self) -> FloatArray:
        return inference.rsquared(self.estimates.resid_norm, self.estimates.target_norm)

    @property
    def rsquared_adj(self) -> FloatArray:
        return inference.rsquared_adj(self.rsquared, self.nobs, self.df_resid, self.intercept)

    @property
    def df_model(self) -> FloatArray:
        return inference.df_model(self.rank, self.intercept)

    @cached_property
    def fvalue(self) -> FloatArray:
        e = self.estimates
        return inference.fvalue(e.resid_norm, e.target_norm, self.df_model, self.df_resid, self.perfect)

    @property
    def f_pvalue(self) -> FloatArray:
        return inference.f_pvalue(self.fvalue, self.df_model, self.df_resid)

    @cached_property
    def llf(self) -> FloatArray:
        e, log_wsum = self.estimates, self.shared("log_wsum")
        return inference.llf(e.resid_norm, self.nobs, self.df_resid, log_wsum, self.perfect)

    @property
    def aic(self) -> FloatArray:
        return inference.aic(self.llf, self.rank)

    @property
    def bic(self) -> FloatArray:
        return inference.bic(self.llf, self.rank, self.nobs)

    @property
    def condition_number(self) -> FloatArray:
        e = self.estimates
        origin = self._origin
        values = np.empty(e.rank.shape, dtype=np.float64)
        for m in set(e.pattern.tolist()):
            values[:, m] = inference.condition_number(
                e.center[:, m] + origin,
                e.norm[:, m],
                e.xcorr[:, m],
                e.wsum[:, m],
                e.root[:, m],
                e.corr[:, m],
                self.intercept,
            )
        values[(e.rank > 0) & (e.rank < e.params.shape[2])] = np.inf
        return values[:, e.pattern]

    @property
    def digits(self) -> FloatArray:
        e = self.estimates
        values = np.empty(e.rank.shape, dtype=np.float64)
        for m in set(e.pattern.tolist()):
            values[:, m] = inference.digits(e.center[:, m], e.norm[:, m], e.wsum[:, m], e.pivot[:, m])
        values[e.rank < e.params.shape[2]] = 0.0
        values[e.rank == 0] = np.nan
        return values[:, e.pattern]
