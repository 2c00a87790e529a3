# SPDX-License-Identifier: MIT
"""What a fit returns: arrays plus labels; frames are made on demand."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import display, flat, inference, prediction, storage
from gbreg.accounting import RowCounts
from gbreg.columns import Column, Numbers
from gbreg.errors import ColumnError, MissingDataError, SpecError
from gbreg.prediction import Origins
from gbreg.problem import Estimates, Flag, FloatArray, IntArray, Status
from gbreg.spec import FitSpec, Grouping, check_choice
from gbreg.suggest import nearest

STATUS = pd.CategoricalDtype([status.word for status in Status])


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
        return {**self.__dict__, "spec": self.spec.portable(), "lost_code": self.derived}

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
        """Predictors and targets that were computed by a callable or an expression."""
        made = [column.name for column in (*self.spec.linear, *self.spec.targets) if column.label is None]
        return (*self.lost_code, *made)

    # ------------------------------------------------------------------ arrays, per target

    def _shared(self, name: str) -> NDArray[Any]:
        """Expand a per-pattern array to targets: (g, m, ...) -> (g, t, ...)."""
        values: NDArray[Any] = getattr(self.estimates, name)
        return values[:, self.estimates.pattern]

    @property
    def _df(self) -> FloatArray:
        return inference.df_resid(self._shared("nobs"), self._shared("rank"))

    @property
    def _perfect(self) -> NDArray[np.bool_]:
        return (self.estimates.flags & Flag.PERFECT_FIT) > 0

    @property
    def _errors(self) -> FloatArray:
        return inference.bse(self.estimates.resid_norm, self._df, self._shared("root"))

    @property
    def _rsquared(self) -> FloatArray:
        return inference.rsquared(self.estimates.resid_norm, self.estimates.target_norm)

    @property
    def _rsquared_adj(self) -> FloatArray:
        intercept = self.spec.options.intercept
        return inference.rsquared_adj(self._rsquared, self._shared("nobs"), self._df, intercept)

    @property
    def _llf(self) -> FloatArray:
        return inference.llf(
            self.estimates.resid_norm,
            self._shared("nobs"),
            self._df,
            self._shared("log_wsum"),
            self._perfect,
        )

    def _by_target(self, values: NDArray[Any]) -> pd.DataFrame:
        """(g, t) as a frame of its own."""
        return pd.DataFrame(values, index=self.keys, columns=labels(self.targets, "target"), copy=True)

    def _by_term(self, values: NDArray[Any], *axes: tuple[str, Sequence[Hashable]]) -> pd.DataFrame:
        """(g, t, ...) as a frame of its own; columns are targets and the labels of the other axes."""
        columns = product(("target", self.targets), *axes)
        return pd.DataFrame(
            values.reshape(len(self), len(columns)), index=self.keys, columns=columns, copy=True
        )

    # ------------------------------------------------------------------ coefficients

    @property
    def params(self) -> pd.DataFrame:
        """Coefficients, columns (target, term)."""
        return self._by_term(self.estimates.params, ("term", self.terms))

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors of the coefficients, sqrt(scale diag((X'WX)^-1))."""
        return self._by_term(self._errors, ("term", self.terms))

    @property
    def tvalues(self) -> pd.DataFrame:
        """Coefficients over their standard errors; NaN for perfect fits."""
        t = inference.tvalues(self.estimates.params, self._errors, self._perfect)
        return self._by_term(t, ("term", self.terms))

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p values of Student's t with df_resid degrees of freedom; NaN for perfect fits."""
        t = inference.tvalues(self.estimates.params, self._errors, self._perfect)
        return self._by_term(inference.pvalues(t, self._df), ("term", self.terms))

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence intervals, columns (target, term, "lower" or "upper").

        Parameters
        ----------
        alpha : float
            1 minus the coverage, between 0 and 1.
        """
        check_fraction("alpha", alpha)
        bounds = inference.conf_int(self.estimates.params, self._errors, self._df, alpha)
        return self._by_term(np.stack(bounds, axis=-1), ("term", self.terms), ("bound", ("lower", "upper")))

    def cov_params(self, target: Hashable) -> pd.DataFrame:
        """Covariance of the coefficients of one target; rows (keys..., term), columns terms."""
        if target not in self.targets:
            raise SpecError(
                f"{target!r} is not a target of this fit; it has {list(self.targets)}"
                f"{nearest(target, self.targets)}"
            )
        q = self.targets.index(target)
        corr = self.estimates.corr[:, self.estimates.pattern[q]]
        p = len(self.terms)
        values = inference.cov_params(self._errors[:, q], corr).reshape(len(self) * p, p)
        return pd.DataFrame(
            values, index=with_terms(self.keys, self.terms), columns=labels(self.terms, "term")
        )

    # ------------------------------------------------------------------ diagnostics

    @property
    def nobs(self) -> pd.DataFrame:
        """Rows used."""
        return self._by_target(self._shared("nobs"))

    @property
    def df_resid(self) -> pd.DataFrame:
        """Residual degrees of freedom, nobs minus the number of independent columns."""
        return self._by_target(self._df)

    @property
    def ssr(self) -> pd.DataFrame:
        """Weighted sum of squared residuals, sum w r^2."""
        return self._by_target(inference.ssr(self.estimates.resid_norm))

    @property
    def scale(self) -> pd.DataFrame:
        """Residual variance of a row of weight 1, ssr / df_resid."""
        return self._by_target(inference.scale(self.estimates.resid_norm, self._df))

    @property
    def rms(self) -> pd.DataFrame:
        """Root mean square of the residuals, sqrt(sum w r^2 / sum w)."""
        return self._by_target(inference.rms(self.estimates.resid_norm, self._shared("wsum")))

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
        return self._by_target(self._rsquared)

    @property
    def rsquared_adj(self) -> pd.DataFrame:
        """R2 adjusted for degrees of freedom, 1 - (1 - R2) (n - intercept) / df_resid."""
        return self._by_target(self._rsquared_adj)

    @property
    def llf(self) -> pd.DataFrame:
        """Gaussian log-likelihood, as statsmodels' WLS; NaN for perfect and saturated fits."""
        return self._by_target(self._llf)

    @property
    def aic(self) -> pd.DataFrame:
        """Akaike's information criterion, -2 llf + 2 rank."""
        return self._by_target(inference.aic(self._llf, self._shared("rank")))

    @property
    def bic(self) -> pd.DataFrame:
        """Schwarz's information criterion, -2 llf + log(nobs) rank."""
        return self._by_target(inference.bic(self._llf, self._shared("rank"), self._shared("nobs")))

    @property
    def condition_number(self) -> pd.DataFrame:
        """Ratio of the extreme singular values of the weighted design; inf where columns are dependent."""
        e, k = self.estimates, len(self.predictors)
        origin = np.zeros((len(self), k))
        for j in range(k):
            origin[:, j] = self.origins.get(j, 0.0)
        values = np.empty(e.rank.shape, dtype=np.float64)
        for m in set(e.pattern.tolist()):
            values[:, m] = inference.condition_number(
                e.center[:, m] + origin,
                e.norm[:, m],
                e.xcorr[:, m],
                e.wsum[:, m],
                e.root[:, m],
                e.corr[:, m],
                self.spec.options.intercept,
            )
        values[(e.rank > 0) & (e.rank < len(self.terms))] = np.inf
        return self._by_target(values[:, e.pattern])

    @property
    def digits(self) -> pd.DataFrame:
        """How many digits of the coefficients the stored data can support, at most 16."""
        e = self.estimates
        values = np.empty(e.rank.shape, dtype=np.float64)
        for m in set(e.pattern.tolist()):
            values[:, m] = inference.digits(e.center[:, m], e.norm[:, m], e.wsum[:, m], e.pivot[:, m])
        values[e.rank < len(self.terms)] = 0.0
        values[e.rank == 0] = np.nan
        return self._by_target(values[:, e.pattern])

    # ------------------------------------------------------------------ status

    @property
    def status(self) -> pd.DataFrame:
        """One word per group and target, categorical."""
        words = dict(enumerate(map(as_words, self.estimates.status.T)))
        return pd.DataFrame(words, index=self.keys).set_axis(labels(self.targets, "target"), axis=1)

    @property
    def flags(self) -> pd.DataFrame:
        """Remarks beside the status, boolean, columns (target, flag)."""
        bits = np.array([int(flag) for flag in Flag], dtype=np.uint8)
        values = (self.estimates.flags[:, :, None] & bits) > 0
        return self._by_term(values, ("flag", [flag.word for flag in Flag]))

    def status_counts(self) -> pd.DataFrame:
        """Count groups by status: rows are all words, columns targets."""
        counts = [np.bincount(codes, minlength=len(Status)) for codes in self.estimates.status.T]
        return pd.DataFrame(
            np.array(counts).T,
            index=pd.Index(STATUS.categories, name="status"),
            columns=labels(self.targets, "target"),
        )

    def accounting(self, *, per_group: bool = False) -> pd.DataFrame:
        """Where the rows went; for each target the other counts add up to ``rows``.

        A row counts once: without key, not selected, of weight zero, missing, infinite or used.

        Parameters
        ----------
        per_group : bool
            Rows are groups and columns (target, count); else one row per target, with
            ``without_key`` for the rows in no group.
        """
        names = ("rows", "used", "missing", "infinite", "zero_weight", "not_selected")
        counts = [getattr(self.counts, name) for name in names]
        if per_group:
            shape = (len(self), len(self.targets))
            wide = [np.broadcast_to(v if v.ndim > 1 else v[:, None], shape) for v in counts]
            return self._by_term(np.stack(wide, axis=-1), ("count", names))
        totals = pd.DataFrame(
            {name: values.sum(axis=0, dtype=np.int64) for name, values in zip(names, counts, strict=True)},
            index=labels(self.targets, "target"),
        )
        return totals.assign(rows=self.counts.n_rows, without_key=self.counts.n_without_key)

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
        fitted, groups = self._fitted(frame, missing, by)
        return self._on_rows(frame, self._with_origin(fitted, groups))

    fittedvalues = predict

    def resid(
        self, frame: pd.DataFrame, *, missing: Literal["nan", "raise"] = "nan", by: Any = None
    ) -> pd.DataFrame:
        """Targets less fitted values, on the frame's index; arguments as `predict`."""
        fitted, groups = self._fitted(frame, missing, by)
        return self._on_rows(frame, self._observed(frame, groups) - fitted)

    def augment(self, frame: pd.DataFrame, *, by: Any = None) -> pd.DataFrame:
        """Put ``{target}_fitted`` and ``{target}_resid`` beside the frame's columns, as broom's verb."""
        names = [f"{flat.text(target)}_{what}" for target in self.targets for what in ("fitted", "resid")]
        if clash := [name for name in names if name in frame.columns or names.count(name) > 1]:
            raise SpecError(f"the frame already has columns {clash}, or two targets would make them")
        fitted, groups = self._fitted(frame, "nan", by)
        resid = self._observed(frame, groups) - fitted
        values = np.stack([self._with_origin(fitted, groups), resid], axis=-1)
        made = pd.DataFrame(values.swapaxes(0, 1).reshape(len(frame), len(names)), index=frame.index)
        blank = [""] * (frame.columns.nlevels - 1)
        made.columns = pd.Index([(name, *blank) for name in names] if blank else names)
        return pd.concat([frame, made], axis=1)

    def _fitted(self, frame: pd.DataFrame, missing: str, by: Any) -> tuple[FloatArray, IntArray]:
        """Fitted values of the stored targets (t, n), and groups (n,)."""
        check_choice("missing", missing, ("nan", "raise"))
        grouping = self.spec.grouping
        if by is not None:
            grouping = Grouping(by=by, dropna=False)  # a missing key is looked up like any other
        if grouping is None:
            raise SpecError(
                "the keys of this fit were values aligned with its rows, or code, which are not kept; "
                "give those of this frame as by="
            )
        X = self._read(frame, self.spec.linear, "linear")
        groups = prediction.groups_of_rows(frame, grouping, self.keys)
        drop = self.spec.options.on_collinear == "drop"
        fitted = prediction.predicted(self.estimates, X, groups, self.origins, drop)
        if missing == "raise":
            lost, why = prediction.reasons(fitted, groups, X)
            if lost.any():
                first = frame.index[np.flatnonzero(lost)[:3]].tolist()
                raise MissingDataError(
                    f"{lost.sum()} of {len(frame)} rows have no fitted value ({why}), first at {first}"
                )
        return fitted, groups

    def _observed(self, frame: pd.DataFrame, groups: IntArray) -> FloatArray:
        """Targets (t, n) less the origins of their groups."""
        k = len(self.predictors)
        values = self._read(frame, self.spec.targets, "targets")
        return np.array(
            [
                prediction.stored_values(column, self.origins.get(k + q), groups)
                for q, column in enumerate(values)
            ]
        )

    def _with_origin(self, fitted: FloatArray, groups: IntArray) -> FloatArray:
        """Fitted values (t, n) in the units of the caller's targets."""
        out = fitted.copy()
        for q in range(len(out)):
            reference = self.origins.get(len(self.predictors) + q)
            if reference is not None:
                out[q] += np.append(reference.astype(np.float64), np.nan)[groups]
        return out

    def _read(self, frame: pd.DataFrame, columns: Sequence[Column], role: str) -> list[Numbers]:
        try:
            return prediction.read_columns(frame, columns, role)
        except ColumnError as error:
            if not self.lost_code:
                raise
            raise ColumnError(
                f"{error}; the code of {list(self.lost_code)} was not stored with the fit, "
                "the frame must have them as columns"
            ) from None

    def _on_rows(self, frame: pd.DataFrame, values: FloatArray) -> pd.DataFrame:
        """(t, n) on the caller's rows."""
        return pd.DataFrame(values.T, index=frame.index, columns=labels(self.targets, None))

    # ------------------------------------------------------------------ tables

    def tidy(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per group, target and term, as broom's verb.

        Columns: the keys, ``target``, ``term``, ``estimate``, ``std_error``, ``statistic``,
        ``p_value``, ``conf_low``, ``conf_high``. Keys without a name are ``group``, or
        ``level_i`` if there are several.
        """
        check_fraction("conf_level", conf_level)
        params, errors = self.estimates.params, self._errors
        t = inference.tvalues(params, errors, self._perfect)
        low, high = inference.conf_int(params, errors, self._df, 1 - conf_level)
        columns = {
            "estimate": params,
            "std_error": errors,
            "statistic": t,
            "p_value": inference.pvalues(t, self._df),
            "conf_low": low,
            "conf_high": high,
        }
        return flat.long_frame(self.keys, {"target": self.targets, "term": self.terms}, columns)

    def glance(self) -> pd.DataFrame:
        """One row per group and target, as broom's verb.

        Columns: the keys, ``target``, ``nobs``, ``df_resid``, ``r_squared``, ``adj_r_squared``,
        ``sigma`` (the square root of `scale`), ``rms``, ``mad`` (NaN if not computed), ``aic``,
        ``bic``, ``log_lik``, ``status``.
        """
        e = self.estimates
        nobs, rank, loglik = self._shared("nobs"), self._shared("rank"), self._llf
        columns: dict[str, Any] = {
            "nobs": nobs,
            "df_resid": self._df,
            "r_squared": self._rsquared,
            "adj_r_squared": self._rsquared_adj,
            "sigma": inference.sigma(e.resid_norm, self._df),
            "rms": inference.rms(e.resid_norm, self._shared("wsum")),
            "mad": e.mad,
            "aic": inference.aic(loglik, rank),
            "bic": inference.bic(loglik, rank, nobs),
            "log_lik": loglik,
            "status": as_words(e.status.ravel()),
        }
        return flat.long_frame(self.keys, {"target": self.targets}, columns)

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

        No code is stored: callables and expressions become plain columns of their name.
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


def check_fraction(name: str, value: float) -> None:
    if isinstance(value, bool) or not (isinstance(value, (int, float)) and 0 < value < 1):
        raise SpecError(f"{name} must be between 0 and 1, got {value!r}")


def labels(names: Sequence[Hashable], name: str | None) -> pd.Index[Any]:
    """Make an index of labels; tuples stay single labels."""
    return pd.Index(list(names), name=name, tupleize_cols=False)


def as_words(codes: NDArray[Any]) -> pd.Categorical[Any]:
    """Statuses as words."""
    return pd.Categorical.from_codes(codes.astype(np.int8), dtype=STATUS)


def product(*axes: tuple[str, Sequence[Hashable]]) -> pd.MultiIndex:
    """All combinations of the labels of named axes, the last varying fastest."""
    levels: list[Any] = [labels(names, None) for _, names in axes]
    codes = np.indices([len(level) for level in levels]).reshape(len(levels), -1)
    return pd.MultiIndex(levels=levels, codes=list(codes), names=[name for name, _ in axes])


def with_terms(keys: pd.Index[Any], terms: Sequence[Hashable]) -> pd.MultiIndex:
    """Each key with each term: the levels of the keys, then the terms."""
    g, p = len(keys), len(terms)
    levels: list[Any]
    codes: list[Any]
    if isinstance(keys, pd.MultiIndex):
        levels, codes = list(keys.levels), list(keys.codes)
    else:
        present = keys.notna()
        levels, codes = [keys[present]], [np.where(present, np.cumsum(present) - 1, -1)]
    levels.append(labels(terms, None))
    codes = [*(np.repeat(code, p) for code in codes), np.tile(np.arange(p), g)]
    return pd.MultiIndex(
        levels=levels,
        codes=codes,
        names=[*keys.names, "term"],
        verify_integrity=False,
    )
