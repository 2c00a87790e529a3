# SPDX-License-Identifier: MIT
"""What a fit returns: one name for each thing to know; how it is made is told elsewhere."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import display, flat, prediction, storage, tables
from gbreg.accounting import RowCounts
from gbreg.errors import SpecError
from gbreg.prediction import FrameRows, Origins
from gbreg.problem import Estimates, Flag
from gbreg.spec import FitSpec, check_fraction
from gbreg.statistics import Statistics
from gbreg.suggest import nearest


class GroupFit:
    """Regressions of all groups; every frame is indexed by the groups' keys.

    Made by `gbreg.fit`. Names are those of statsmodels. Columns are targets, or pairs of
    target and term, where the intercept's term is ``Intercept``. Where there is no number there
    is NaN, and `status` says why. The frame of the fit is not kept.
    """

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

    def __getstate__(self) -> dict[str, Any]:
        spec = self.spec.portable(formulas=True)
        kept = {column.name for column in (*spec.linear, *spec.targets) if column.label is None}
        lost = tuple(name for name in self.derived if name not in kept)
        return {**self.__dict__, "spec": spec, "lost_code": lost}

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_groups(self) -> int:
        """Groups of the frame, those that could not be fitted included."""
        return len(self.keys)

    @property
    def n_rows(self) -> int:
        """Rows of the frame, those that took no part included; see `accounting`."""
        return self.counts.n_rows

    @property
    def targets(self) -> tuple[Hashable, ...]:
        return self.spec.target_names

    @property
    def predictors(self) -> tuple[Hashable, ...]:
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
        return Statistics(self.estimates, self.origins, self.spec.options.intercept)

    def _by_target(self, values: NDArray[Any]) -> pd.DataFrame:
        return tables.by_target(values, self.keys, self.targets)

    def _by_term(self, values: NDArray[Any]) -> pd.DataFrame:
        return tables.by_axes(values, self.keys, ("target", self.targets), ("term", self.terms))

    # ------------------------------------------------------------------ coefficients

    @property
    def params(self) -> pd.DataFrame:
        """Coefficients, columns (target, term)."""
        return self._by_term(self.estimates.params)

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors of the coefficients, sqrt(scale diag((X'WX)^-1))."""
        return self._by_term(self.statistics.bse)

    @property
    def tvalues(self) -> pd.DataFrame:
        """Coefficients over their standard errors; NaN for perfect fits."""
        return self._by_term(self.statistics.tvalues)

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p values of Student's t with df_resid degrees of freedom; NaN for perfect fits."""
        return self._by_term(self.statistics.pvalues)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence intervals, columns (target, term, "lower" or "upper").

        Parameters
        ----------
        alpha : float
            1 minus the coverage, between 0 and 1.
        """
        check_fraction("alpha", alpha)
        axes = [("target", self.targets), ("term", self.terms), ("bound", ("lower", "upper"))]
        return tables.by_axes(np.stack(self.statistics.conf_int(alpha), axis=-1), self.keys, *axes)

    def cov_params(self, target: Hashable) -> pd.DataFrame:
        """Covariance of the coefficients of one target; rows (keys..., term), columns terms."""
        if target not in self.targets:
            raise SpecError(
                f"{target!r} is not a target of this fit; it has {list(self.targets)}"
                f"{nearest(target, self.targets)}"
            )
        covariances = self.statistics.cov_params(self.targets.index(target))
        return tables.by_term_and_term(covariances, self.keys, self.terms)

    # ------------------------------------------------------------------ diagnostics

    @property
    def nobs(self) -> pd.DataFrame:
        """Rows used."""
        return self._by_target(self.statistics.nobs)

    @property
    def df_resid(self) -> pd.DataFrame:
        """Residual degrees of freedom, nobs minus the number of independent columns."""
        return self._by_target(self.statistics.df_resid)

    @property
    def ssr(self) -> pd.DataFrame:
        """Weighted sum of squared residuals, sum w r^2."""
        return self._by_target(self.statistics.ssr)

    @property
    def scale(self) -> pd.DataFrame:
        """Residual variance of a row of weight 1, ssr / df_resid."""
        return self._by_target(self.statistics.scale)

    @property
    def rms(self) -> pd.DataFrame:
        """Root mean square of the residuals, sqrt(sum w r^2 / sum w)."""
        return self._by_target(self.statistics.rms)

    @property
    def mad(self) -> pd.DataFrame:
        """Median absolute deviation of the residuals, median(|r - median(r)|).

        Unscaled and unweighted, as `scipy.stats.median_abs_deviation`.
        """
        if not self.spec.options.mad:
            raise SpecError("mad was not computed; call fit(..., mad=True)")
        return self._by_target(self.estimates.mad)

    @property
    def rsquared(self) -> pd.DataFrame:
        """1 - ssr / tss, about the weighted mean (about 0 without intercept); NaN for constant targets."""
        return self._by_target(self.statistics.rsquared)

    @property
    def rsquared_adj(self) -> pd.DataFrame:
        """R2 adjusted for degrees of freedom, 1 - (1 - R2) (n - intercept) / df_resid."""
        return self._by_target(self.statistics.rsquared_adj)

    @property
    def llf(self) -> pd.DataFrame:
        """Gaussian log-likelihood, as statsmodels' WLS; NaN for perfect and saturated fits."""
        return self._by_target(self.statistics.llf)

    @property
    def aic(self) -> pd.DataFrame:
        """Akaike's information criterion, -2 llf + 2 rank."""
        return self._by_target(self.statistics.aic)

    @property
    def bic(self) -> pd.DataFrame:
        """Schwarz's information criterion, -2 llf + log(nobs) rank."""
        return self._by_target(self.statistics.bic)

    @property
    def condition_number(self) -> pd.DataFrame:
        """Ratio of the extreme singular values of the weighted design; inf where columns are dependent."""
        return self._by_target(self.statistics.condition_number)

    @property
    def digits(self) -> pd.DataFrame:
        """How many digits of the coefficients the stored data can support, at most 16."""
        return self._by_target(self.statistics.digits)

    # ------------------------------------------------------------------ status

    @property
    def status(self) -> pd.DataFrame:
        """One word per group and target, categorical."""
        return tables.statuses(self.estimates.status, self.keys, self.targets)

    @property
    def flags(self) -> pd.DataFrame:
        """Remarks beside the status, boolean, columns (target, flag)."""
        bits = np.array([int(flag) for flag in Flag], dtype=np.uint8)
        values = (self.estimates.flags[:, :, None] & bits) > 0
        axes = [("target", self.targets), ("flag", [flag.word for flag in Flag])]
        return tables.by_axes(values, self.keys, *axes)

    def status_counts(self) -> pd.DataFrame:
        """Count groups by status: rows are all words, columns targets."""
        return tables.status_counts(self.estimates.status, self.targets)

    def accounting(self, *, per_group: bool = False) -> pd.DataFrame:
        """Where the rows went; for each target the other counts add up to ``rows``.

        A row counts once: without key, not selected, of weight zero, missing, infinite or used.

        Parameters
        ----------
        per_group : bool
            Rows are groups and columns (target, count); else one row per target, with
            ``without_key`` for the rows in no group.
        """
        if per_group:
            return tables.row_counts(self.counts, self.keys, self.targets)
        return tables.total_row_counts(self.counts, self.targets)

    # ------------------------------------------------------------------ rows of a frame

    def predict(
        self, frame: pd.DataFrame, *, missing: Literal["nan", "raise"] = "nan", by: Any = None
    ) -> pd.DataFrame:
        """Fitted values at the rows of any frame, one column per target, on its index.

        Parameters
        ----------
        frame : DataFrame
            Needs the keys and the predictors.
        missing : {"nan", "raise"}
            What rows get that have no fitted value: their group was not seen or not fitted,
            or their key or a predictor is missing.
        by
            Keys of these rows, as in `gbreg.fit`, instead of those of the fit. Needed if they
            were values aligned with its rows, or code that was not stored.

        Raises
        ------
        MissingDataError
            ``missing="raise"``, and a row has no fitted value.
        """
        return FrameRows(self, frame, missing, by).predict()

    def fittedvalues(
        self, frame: pd.DataFrame, *, missing: Literal["nan", "raise"] = "nan", by: Any = None
    ) -> pd.DataFrame:
        """`predict` under statsmodels' name, for the frame of the fit.

        statsmodels gives the rows that took part. Here the frame, its weights and ``where`` are
        not kept, so a row that was left out of the fit has a fitted value too, as long as its
        predictors and its group's coefficients are there: also where its target is missing, its
        weight is zero, or ``where`` did not select it.
        """
        return self.predict(frame, missing=missing, by=by)

    def resid(
        self, frame: pd.DataFrame, *, missing: Literal["nan", "raise"] = "nan", by: Any = None
    ) -> pd.DataFrame:
        """Targets less fitted values, on the frame's index; arguments as `predict`."""
        return FrameRows(self, frame, missing, by).resid()

    def augment(self, frame: pd.DataFrame, *, by: Any = None) -> pd.DataFrame:
        """Put ``{target}_fitted`` and ``{target}_resid`` beside the frame's columns, as broom's verb."""
        return prediction.augment(self, frame, by)

    # ------------------------------------------------------------------ tables

    def tidy(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per group, target and term, as broom's verb.

        Columns: the keys, ``target``, ``term``, ``estimate``, ``std_error``, ``statistic``,
        ``p_value``, ``conf_low``, ``conf_high``. Keys without a name are ``group``, or
        ``level_i`` if there are several.
        """
        return flat.tidy(self, conf_level)

    def glance(self) -> pd.DataFrame:
        """One row per group and target, as broom's verb.

        Columns: the keys, ``target``, ``nobs``, ``df_resid``, ``r_squared``, ``adj_r_squared``,
        ``sigma`` (the square root of `scale`), ``rms``, ``mad`` (NaN if not computed), ``aic``,
        ``bic``, ``log_lik``, ``status``.
        """
        return flat.glance(self)

    def to_frame(self, suffix: str = "", *, stats: Sequence[str] | None = None) -> pd.DataFrame:
        """One row per group, keys as columns: the flat table of the calibration world.

        Parameters
        ----------
        suffix : str
            Ends every made name: ``{target}_intercept{suffix}``,
            ``{target}_slope_{predictor}{suffix}``, the same with ``_err`` before the suffix,
            ``{target}_rms{suffix}``, ``{target}_mad{suffix}``, ``{target}_nobs{suffix}``,
            ``{target}_status{suffix}``. The parts of a tuple are joined by underscores.
        stats : sequence of str, optional
            Which, and in which order; default params, bse, rms, mad (if computed), nobs, status.
            Others: tvalues, pvalues (which end in ``_tvalue`` and ``_pvalue``), and any
            diagnostic of this class, which ends in its name.

        Raises
        ------
        SpecError
            Unknown stat, or two columns would have one name.
        """
        return flat.to_frame(self, suffix, stats)

    def formulas(self, suffix: str = "") -> dict[Hashable, dict[str, str]]:
        """Prediction, residual and pull (residual / rms) of each target as strings.

        ``DataFrame.eval`` runs them on a frame merged with ``to_frame(suffix)`` on the keys.
        Labels that are not strings are written as in `to_frame`: rename those columns first.
        A coefficient that is NaN makes the value NaN, also with ``on_collinear="drop"``; and
        `predict` keeps digits that intercept + slope * x loses where x is far from 0.

        Raises
        ------
        SpecError
            ``DataFrame.eval`` cannot tell the names apart, or cannot read one.
        """
        return flat.formulas(self, suffix)

    def group(self, key: Hashable) -> display.GroupSummary:
        """One group as a printable summary, like statsmodels' ``summary()``.

        Parameters
        ----------
        key
            A key as in `keys`: a scalar, or a tuple where groups have several.
        """
        return display.GroupSummary(self, key)

    def to_parquet(self, path: str | Path) -> None:
        """Save the whole result; `gbreg.read_parquet` reads it back (extra ``arrow``).

        No code is stored: callables, expressions and the terms of formulas become plain columns
        of their name, which a frame for `predict` then needs to have.
        """
        storage.to_parquet(self, path)

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)


def without_rows(spec: FitSpec) -> FitSpec:
    """Leave out keys that are values aligned with the rows of the frame."""
    by = spec.grouping.by if spec.grouping else None
    aligned = (np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray, list)
    items = by if isinstance(by, list) else [by]
    return replace(spec, grouping=None) if any(isinstance(item, aligned) for item in items) else spec
