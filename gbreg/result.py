# SPDX-License-Identifier: MIT
"""What a fit returns: one name for each thing to know; how it is made is told elsewhere."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from gbreg import comparison, display, flat, prediction, storage, tables
from gbreg.diagnostics import Diagnostics
from gbreg.errors import SpecError
from gbreg.prediction import FrameRows, Interval
from gbreg.restrictions import read_restrictions
from gbreg.spec import fraction_of
from gbreg.suggest import nearest

if TYPE_CHECKING:
    from gbreg.summary import GroupSummary


class GroupFit(Diagnostics):
    """Regressions of all groups; every frame is indexed by the groups' keys.

    Made by `gbreg.fit`. Names are those of statsmodels. Columns are targets, or pairs of
    target and term, where the intercept's term is ``Intercept``. Where there is no number there
    is NaN, and `status` says why. ``keys`` are those of the groups. The frame of the fit is not
    kept: `predict`, `resid`, `fittedvalues` and the like are methods that take one.
    """

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

    # ------------------------------------------------------------------ coefficients

    @property
    def params(self) -> pd.DataFrame:
        """Coefficients, columns (target, term); ``params["y"]`` are those of one target, to join or merge."""
        return self._by_term(self.estimates.known_params)

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors of the coefficients: the roots of the diagonal of `cov_params`."""
        self.spec.need_errors("bse")
        return self._by_term(self.statistics.bse, fresh=True)

    @property
    def tvalues(self) -> pd.DataFrame:
        """Coefficients over their standard errors; NaN for perfect fits unless errors are known."""
        self.spec.need_errors("tvalues")
        return self._by_term(self.statistics.tvalues, fresh=True)

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p values of `tvalues`: Student's t with df_resid if "classical", else normal.

        Normal with ``loss=`` too.
        """
        self.spec.need_errors("pvalues")
        return self._by_term(self.statistics.pvalues, fresh=True)

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence intervals, columns (target, term, "lower" or "upper").

        Of Student's t with df_resid if "classical", else of the normal; of the normal with ``loss=`` too.

        Parameters
        ----------
        alpha : float
            1 minus the coverage, between 0 and 1.
        """
        self.spec.need_errors("conf_int")
        alpha = fraction_of("alpha", alpha)
        axes = [("target", self.targets), ("term", self.terms), ("bound", ("lower", "upper"))]
        return tables.by_axes(np.stack(self.statistics.conf_int(alpha), axis=-1), self.keys, *axes)

    def cov_params(self, target: Hashable) -> pd.DataFrame:
        """Covariance of the coefficients of one target; rows (keys..., term), columns terms."""
        self.spec.need_errors("cov_params")
        covariances = self.statistics.cov_params(self._place(target))
        return tables.by_term_and_term(covariances, self.keys, self.terms)

    # ------------------------------------------------------------------ hypotheses

    def wald_test(self, restrictions: Any, *, target: Hashable = None) -> pd.DataFrame:
        """Test linear restrictions of the coefficients, all of them together.

        Parameters
        ----------
        restrictions : str, array (r, p), or tuple of array (r, p) and array (r,)
            ``"x = y, z = 0"`` or ``"2*C(s)[T.b] - x:y = 1"`` with names of `terms` as they are, or
            between backticks if they read as something else (``"`2` = 0"``); or R of R b = 0,
            columns in the order of `terms`; or R and q of R b = q.
        target : label, optional
            One target only; then columns are not pairs.

        Returns
        -------
        DataFrame
            Columns (target, "statistic", "df_num", "df_denom" or "p_value"). The statistic is F for
            classical errors of least squares, else (another ``cov_type``, or ``loss``) chi2, which
            has no df_denom. NaN where a coefficient is NaN, errors are (saturated) or are noise (perfect
            fits), or restrictions or predictors (1 - R2 below 1e-9) nearly depend on each other.

        Raises
        ------
        SpecError
            Restrictions are not linear or independent, name what is no term, or have another shape.
        """
        self.spec.need_errors("wald_test")
        R, q = read_restrictions(restrictions, self.terms)
        statistic, p_value = self.statistics.wald(R, q)
        normal = self.statistics.df_error is None
        df_num = np.full(statistic.shape, float(len(R)))
        df_denom = np.full(statistic.shape, np.nan) if normal else self.statistics.df_resid
        columns = {"statistic": statistic, "df_num": df_num, "df_denom": df_denom, "p_value": p_value}
        made = np.stack(list(columns.values()), axis=-1)
        if target is not None:
            return tables.with_columns(
                made[:, self._place(target)], self.keys, pd.Index(list(columns), name="test")
            )
        return tables.by_axes(made, self.keys, ("target", self.targets), ("test", list(columns)))

    def compare(self, other: GroupFit) -> pd.DataFrame:
        """Compare with a fit of the same rows that has some of the terms, or these and more.

        Parameters
        ----------
        other : GroupFit
            Whichever of the two has more terms is the larger model.

        Returns
        -------
        DataFrame
            Columns (target, what): ``f``, ``df_diff`` and ``p_value`` of the F test that the
            further coefficients are zero, as statsmodels' ``compare_f_test``; ``delta_aic`` and
            ``delta_bic``, those of the larger model less those of the smaller: negative where
            the larger is better. NaN where either was not fitted, or the larger has no errors
            (saturated) or perfect ones, or no further independent coefficient.

        Raises
        ------
        SpecError
            Targets, groups or rows differ, the terms of neither contain the other's, or
            ``cov_type`` is not "classical".
        """
        return comparison.compare(self, other)

    def _place(self, target: Hashable) -> int:
        if target not in self.targets:
            raise SpecError(
                f"{target!r} is not a target of this fit; it has {list(self.targets)}"
                f"{nearest(target, self.targets)}"
            )
        return self.targets.index(target)

    # ------------------------------------------------------------------ rows of a frame

    def predict(
        self,
        frame: pd.DataFrame,
        *,
        interval: Interval | None = None,
        alpha: float | None = None,
        weights: Any = None,
        missing: Literal["nan", "raise"] = "nan",
        by: Any = None,
        source: bool = False,
    ) -> pd.DataFrame:
        """Fitted values at the rows of any frame, one column per target, on its index.

        Where predictors of a group are dependent, values are given for rows in which they are related as
        in the group's rows, to rounding: a level of a factor that the group does not have has none. With
        ``on_collinear="drop"`` other rows are predicted too, as if the dropped predictors had no effect,
        and a warning counts these rows. Fits with ``ridge`` or ``bounds`` and "nan" give no values there.

        Parameters
        ----------
        frame : DataFrame
            Needs the keys and the predictors.
        interval : {"confidence", "prediction"}, optional
            Bounds of the fitted value, or of a new observation; columns are then (target,
            "fitted", "lower" or "upper"). NaN where errors are, and where one predictor is so
            nearly a combination of others (1 - R2 below 1e-9) that stored correlations do not tell.
        alpha : float, optional
            1 minus the coverage of the interval, between 0 and 1; default 0.05.
        weights : label, Series or array, optional
            Of the new observations of a prediction interval, in the unit of the weights of the
            fit: their variance is scale / weight (1 / weight if known). By default the column that
            the fit had its weights from, without bounds where that is not positive; 1 if it had none.
        missing : {"nan", "raise"}
            What rows get that have no fitted value: their group was not seen or not fitted (and
            has no parent to predict it), or does not determine it, or their key or a predictor is missing.
        by
            Keys of these rows, as in `gbreg.fit` (a layout too), instead of those of the fit. Needed if they
            were values aligned with its rows, or code that was not stored.
        source : bool
            Also (target, "source"), which fit speaks for the row's group; see `fallbacks`.

        Raises
        ------
        MissingDataError
            ``missing="raise"``, and a row has no fitted value.
        WeightsError
            A weight that was given is not positive and finite.
        SpecError
            A prediction interval of a weighted fit, and the frame has no such weights.

        Warns
        -----
        GbregWarning
            No row is in a group of the fit and keys differ in dtype, or rows are predicted whose dropped
            predictors are not as in their group.
        """
        return prediction.predict(
            self,
            frame,
            interval=interval,
            alpha=alpha,
            weights=weights,
            missing=missing,
            by=by,
            source=source,
        )

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

    def clipped(self, frame: pd.DataFrame, *, weights: Any = None, by: Any = None) -> pd.DataFrame:
        """Rows of a frame that lie beyond ``clip``: boolean, one column per target, on its index.

        On the frame of the fit, the rows that were set aside, and those beyond the limit of their
        group that took no part for another reason. Of groups that are ``not_converged`` or ended
        ``saturated`` other rows may have been set aside; groups that cannot be fitted without have none.

        Parameters
        ----------
        frame : DataFrame
            Needs the keys, the predictors, the targets and the weights.
        weights : label, Series or array, optional
            Of these rows. Needed if those of the fit were values and not a column.
        by
            As in `predict`.

        Raises
        ------
        SpecError
            The fit was made without ``clip``, or its weights are no column of the frame.
        """
        self._need_clip("clipped")
        return FrameRows(self, frame, "nan", by).clipped(weights)

    def augment(self, frame: pd.DataFrame, *, weights: Any = None, by: Any = None) -> pd.DataFrame:
        """Put fitted values and residuals beside the frame's columns, as broom's verb.

        Adds ``{target}_fitted`` and ``{target}_resid``; for rows that take part in the fit also
        ``_std_resid``, ``_leverage`` and ``_cooks_distance``. The first is sqrt(w) r / (sigma sqrt(1 -
        leverage)); sigma is the root of `scale`, or 1 if errors are known, and w is 1 for counts. These
        are NaN for rows without weight or target and clipped ones; rows that ``where`` left out are taken
        for rows of the fit. With ``loss`` there is ``_std_resid`` only, sqrt(w) r / `scale`, with ``ridge``
        or ``bounds`` none of them. With ``fallback`` also ``{target}_source``; where it is a parent, the
        last three are NaN: they are about the group.

        Parameters
        ----------
        frame : DataFrame
            Needs the keys, the predictors, the targets and the weights.
        weights : label, Series or array, optional
            Of these rows. Needed if those of the fit were values and not a column.
        by
            As in `predict`.
        """
        return prediction.augment(self, frame, weights, by)

    def durbin_watson(self, frame: pd.DataFrame, *, weights: Any = None, by: Any = None) -> pd.DataFrame:
        """Durbin-Watson statistic of the residuals in the order of the frame's rows, one row per group.

        About 2 where neighbours are uncorrelated; with frequency weights each row counts as repeated on
        the spot. Arguments as `augment`, rows too: ``frame[mask]`` if ``where`` left some out. NaN for
        perfect fits and saturated groups.
        """
        return FrameRows(self, frame, "nan", by).durbin_watson(weights)

    # ------------------------------------------------------------------ tables

    def tidy(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per group, target and term, as broom's verb.

        Columns: the keys, ``target``, ``term``, ``estimate``, ``std_error``, ``statistic``,
        ``p_value``, ``conf_low``, ``conf_high``. Keys without a name are ``group``, or
        ``level_i`` if there are several. Fits with ``ridge`` or ``bounds`` have no more than ``estimate``.
        """
        return flat.tidy(self, conf_level)

    def glance(self) -> pd.DataFrame:
        """One row per group and target, as broom's verb.

        Columns: the keys, ``target``, ``nobs``, ``df_resid``, ``r_squared``, ``adj_r_squared``,
        ``sigma`` (the square root of `scale`), ``rms``, ``mad`` (NaN if not computed), ``aic``,
        ``bic``, ``log_lik``, with ``cov_type="known"`` also ``chi2`` and ``chi2_p_value``, ``status``.
        Those that are of least squares are left out with ``loss=``, ``ridge=`` and ``bounds=``.
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
            Which, and in which order; default params, bse (if any), rms, mad (if computed), nobs, status.
            Others: tvalues, pvalues (which end in ``_tvalue`` and ``_pvalue``), and any
            diagnostic with one number per target, which ends in its name.

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
        `predict` keeps digits that intercept + slope * x loses where x is far from 0, and knows
        the parents of ``fallback``.

        Raises
        ------
        SpecError
            ``DataFrame.eval`` cannot tell the names apart, or cannot read one.
        """
        return flat.formulas(self, suffix)

    def group(self, key: Hashable) -> GroupSummary:
        """One group in the layout of statsmodels' ``summary()``, for each target.

        Parameters
        ----------
        key
            A key as in `keys`: a scalar, or a tuple where groups have several.
        """
        from gbreg.summary import GroupSummary

        return GroupSummary(self, key)

    def to_parquet(self, path: str | Path) -> None:
        """Save the whole result; `gbreg.read_parquet` reads it back (extra ``arrow``).

        No code is stored: callables, expressions and the terms of formulas become plain columns
        of their name, which a frame for `predict` then needs to have.

        Raises
        ------
        SpecError
            Keys or labels are of a kind that Parquet does not hold.
        """
        storage.to_parquet(self, path)

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)
