# SPDX-License-Identifier: MIT
"""What a fit returns: arrays plus labels; frames are made on demand."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import display, flat, inference, prediction, storage
from gbreg.accounting import RowCounts
from gbreg.errors import MissingDataError, SpecError
from gbreg.prediction import Origins
from gbreg.problem import Estimates, Flag, FloatArray, IntArray, Status
from gbreg.spec import FitSpec, Grouping, check_choice

WORDS = [status.word for status in Status]


class GroupFit:
    """Regressions of all groups; every frame is indexed by the groups' keys.

    Made by `gbreg.fit`. Names are those of statsmodels. Columns are targets, or pairs of
    target and term, where the intercept's term is ``Intercept``. Where there is no number there
    is NaN, and `status` says why.
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
        self.spec = spec
        self.counts = counts
        self.origins = origins  # what was subtracted from integer columns beyond 2**53
        self.backend = backend

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "spec": self.spec.portable()}

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def n_groups(self) -> int:
        """Groups of the frame, those that could not be fitted included."""
        return len(self.keys)

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

    # ------------------------------------------------------------------ arrays, per target

    def _shared(self, name: str) -> NDArray[Any]:
        """A per-pattern array expanded to targets: (g, m, ...) -> (g, t, ...)."""
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
    def _llf(self) -> FloatArray:
        return inference.llf(
            self.estimates.resid_norm,
            self._shared("nobs"),
            self._df,
            self._shared("log_wsum"),
            self._perfect,
        )

    def _by_target(self, values: NDArray[Any]) -> pd.DataFrame:
        """(g, t) as a frame."""
        return pd.DataFrame(values, index=self.keys, columns=labels(self.targets, "target"))

    def _by_term(self, values: FloatArray) -> pd.DataFrame:
        """(g, t, p) as a frame."""
        g = len(self)
        columns = product((self.targets, self.terms), ("target", "term"))
        return pd.DataFrame(values.reshape(g, len(columns)), index=self.keys, columns=columns)

    # ------------------------------------------------------------------ coefficients

    @property
    def params(self) -> pd.DataFrame:
        """Coefficients, columns (target, term)."""
        return self._by_term(self.estimates.params)

    @property
    def bse(self) -> pd.DataFrame:
        """Standard errors of the coefficients, sqrt(scale diag((X'WX)^-1))."""
        return self._by_term(self._errors)

    @property
    def tvalues(self) -> pd.DataFrame:
        """params / bse; NaN for perfect fits."""
        return self._by_term(inference.tvalues(self.estimates.params, self._errors, self._perfect))

    @property
    def pvalues(self) -> pd.DataFrame:
        """Two-sided p values of Student's t with df_resid degrees of freedom."""
        t = inference.tvalues(self.estimates.params, self._errors, self._perfect)
        return self._by_term(inference.pvalues(t, self._df))

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Confidence intervals, columns (target, term, "lower" or "upper").

        Parameters
        ----------
        alpha : float
            1 minus the coverage, between 0 and 1.
        """
        if not 0 < alpha < 1:
            raise SpecError(f"alpha must be between 0 and 1, got {alpha!r}")
        bounds = inference.conf_int(self.estimates.params, self._errors, self._df, alpha)
        columns = product((self.targets, self.terms, ("lower", "upper")), ("target", "term", "bound"))
        values = np.stack(bounds, axis=-1).reshape(len(self), len(columns))
        return pd.DataFrame(values, index=self.keys, columns=columns)

    def cov_params(self, target: Hashable) -> pd.DataFrame:
        """Covariance of the coefficients of one target; rows (keys..., term), columns terms."""
        q = self._target(target)
        m = self.estimates.pattern[q]
        cov = inference.cov_params(self._errors[:, q], self.estimates.corr[:, m])
        p = len(self.terms)
        keys = self.keys.to_frame(index=False, name=flat.key_names(self.keys))
        rows = keys.loc[keys.index.repeat(p)].reset_index(drop=True)
        rows["term"] = pd.Series(list(self.terms) * len(self), dtype=object).to_numpy()
        return pd.DataFrame(
            cov.reshape(len(self) * p, p), index=pd.MultiIndex.from_frame(rows), columns=labels(self.terms, "term")
        )

    def _target(self, target: Hashable) -> int:
        if target not in self.targets:
            raise SpecError(f"{target!r} is not a target of this fit; it has {list(self.targets)}")
        return self.targets.index(target)

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
        return self._by_target(inference.rsquared(self.estimates.resid_norm, self.estimates.target_norm))

    @property
    def rsquared_adj(self) -> pd.DataFrame:
        """R2 adjusted for the number of coefficients."""
        r2 = inference.rsquared(self.estimates.resid_norm, self.estimates.target_norm)
        values = inference.rsquared_adj(r2, self._shared("nobs"), self._df, self.spec.options.intercept)
        return self._by_target(values)

    @property
    def llf(self) -> pd.DataFrame:
        """Gaussian log-likelihood, as statsmodels' WLS."""
        return self._by_target(self._llf)

    @property
    def aic(self) -> pd.DataFrame:
        """Akaike's information criterion."""
        return self._by_target(inference.aic(self._llf, self._shared("rank")))

    @property
    def bic(self) -> pd.DataFrame:
        """Schwarz's information criterion."""
        return self._by_target(inference.bic(self._llf, self._shared("rank"), self._shared("nobs")))

    @property
    def condition_number(self) -> pd.DataFrame:
        """Ratio of the extreme singular values of the weighted design; inf where columns are dependent."""
        e, k = self.estimates, len(self.predictors)
        values = np.empty(e.rank.shape)
        origin = np.zeros((len(self), k))
        for j, reference in self.origins.items():
            if j < k:
                origin[:, j] = reference
        for m in range(values.shape[1]):
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
        values = np.empty(e.rank.shape)
        for m in range(values.shape[1]):
            values[:, m] = inference.digits(e.center[:, m], e.norm[:, m], e.wsum[:, m], e.pivot[:, m])
        values[e.rank < len(self.terms)] = 0.0
        values[e.rank == 0] = np.nan
        return self._by_target(values[:, e.pattern])

    # ------------------------------------------------------------------ status

    @property
    def status(self) -> pd.DataFrame:
        """One word per group and target, categorical."""
        columns = labels(self.targets, "target")
        values = [
            pd.Series(pd.Categorical.from_codes(self.estimates.status[:, q], WORDS), index=self.keys)
            for q in range(len(self.targets))
        ]
        made = pd.concat(values, axis=1)
        made.columns = columns
        return made

    @property
    def flags(self) -> pd.DataFrame:
        """Remarks beside the status, boolean, columns (target, flag)."""
        bits = np.array([int(flag) for flag in Flag], dtype=np.uint8)
        values = (self.estimates.flags[:, :, None] & bits) > 0
        columns = product((self.targets, tuple(flag.word for flag in Flag)), ("target", "flag"))
        return pd.DataFrame(values.reshape(len(self), len(columns)), index=self.keys, columns=columns)

    def status_counts(self) -> pd.DataFrame:
        """Groups by status: rows are all words, columns targets."""
        counts = np.stack(
            [np.bincount(self.estimates.status[:, q], minlength=len(WORDS)) for q in range(len(self.targets))],
            axis=1,
        )
        return pd.DataFrame(
            counts, index=pd.Index(WORDS, name="status"), columns=labels(self.targets, "target")
        )

    def accounting(self, *, per_group: bool = False) -> pd.DataFrame:
        """Where the rows went; for each target the other counts add up to ``rows``.

        Parameters
        ----------
        per_group : bool
            Rows are groups and columns (target, count); else one row per target, with
            ``without_key`` for the rows in no group.
        """
        c = self.counts
        t = len(self.targets)
        shared = {name: getattr(c, name) for name in ("rows", "zero_weight", "not_selected")}
        wide = {name: np.repeat(values[:, None], t, axis=1) for name, values in shared.items()}
        wide |= {name: getattr(c, name) for name in ("used", "missing", "infinite")}
        names = ("rows", "used", "missing", "infinite", "zero_weight", "not_selected")
        values = np.stack([wide[name] for name in names], axis=-1)
        if per_group:
            columns = product((self.targets, names), ("target", "count"))
            return pd.DataFrame(values.reshape(len(self), len(columns)), index=self.keys, columns=columns)
        totals = pd.DataFrame(
            values.sum(axis=0, dtype=np.int64), index=labels(self.targets, "target"), columns=list(names)
        )
        totals["rows"] = c.n_rows
        totals["without_key"] = c.n_without_key
        return totals

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
            What rows get whose group was not seen, was not fitted or is missing.
        by
            Keys of these rows, if the fit was grouped by row-aligned values or by code
            that did not survive pickling.

        Raises
        ------
        MissingDataError
            ``missing="raise"`` and a row has no fitted value.
        """
        return self._rows(frame, self._predicted(frame, missing, by)[0])

    fittedvalues = predict

    def resid(
        self, frame: pd.DataFrame, *, missing: Literal["nan", "raise"] = "nan", by: Any = None
    ) -> pd.DataFrame:
        """Targets less fitted values, on the frame's index; see `predict`."""
        fitted, groups = self._predicted(frame, missing, by, origins=False)
        values = prediction.read_columns(frame, self.spec.targets, "targets")
        k = len(self.predictors)
        stored = [
            prediction.stored_values(column, self.origins.get(k + q), groups)
            for q, column in enumerate(values)
        ]
        return self._rows(frame, np.array(stored).reshape(fitted.shape) - fitted)

    def _predicted(
        self, frame: pd.DataFrame, missing: str, by: Any, origins: bool = True
    ) -> tuple[FloatArray, IntArray]:
        """Fitted values (t, n), with the targets' origins or without, and groups (n,)."""
        check_choice("missing", missing, ("nan", "raise"))
        grouping = self.spec.grouping
        if by is not None:
            grouping = Grouping(by=by, dropna=False)  # a missing key is looked up like any other
        if grouping is None:
            raise SpecError("the keys of this fit were row-aligned values or code; give those of the frame as by=")
        X = prediction.read_columns(frame, self.spec.linear, "linear")
        groups = prediction.groups_of_rows(frame, grouping, self.keys)
        options = self.spec.options
        out = prediction.predicted(
            self.estimates, X, groups, self.origins, options.intercept, options.on_collinear == "drop"
        )
        if missing == "raise" and np.isnan(out).any():
            rows = np.flatnonzero(np.isnan(out).any(axis=0))
            raise MissingDataError(
                f"{len(rows)} of {len(frame)} rows have no fitted value (group not seen, not fitted or missing, or a "
                f"missing predictor), first {list(frame.index[rows[:3]])}"
            )
        for j, reference in self.origins.items() if origins else ():
            q = j - len(self.predictors)
            if q >= 0:
                out[q] += np.append(reference.astype(np.float64), np.nan)[groups]
        return out, groups

    def _rows(self, frame: pd.DataFrame, values: FloatArray) -> pd.DataFrame:
        """(t, n) on the caller's rows."""
        return pd.DataFrame(values.T, index=frame.index, columns=labels(self.targets, None))

    def augment(self, frame: pd.DataFrame, *, by: Any = None) -> pd.DataFrame:
        """The frame with ``{target}_fitted`` and ``{target}_resid`` beside its columns."""
        fitted, resid = self.predict(frame, by=by), self.resid(frame, by=by)
        made = {}
        for target in self.targets:
            made[f"{flat.text(target)}_fitted"] = fitted[target]
            made[f"{flat.text(target)}_resid"] = resid[target]
        if clash := [name for name in made if name in frame.columns]:
            raise SpecError(f"the frame already has columns {clash}")
        return pd.concat([frame, pd.DataFrame(made, index=frame.index)], axis=1)

    # ------------------------------------------------------------------ tables

    def tidy(self, *, conf_level: float = 0.95) -> pd.DataFrame:
        """One row per group, target and term, as broom's verb.

        Columns: the keys, ``target``, ``term``, ``estimate``, ``std_error``, ``statistic``,
        ``p_value``, ``conf_low``, ``conf_high``.
        """
        if not 0 < conf_level < 1:
            raise SpecError(f"conf_level must be between 0 and 1, got {conf_level!r}")
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
        """One row per group and target, as broom's verb."""
        e = self.estimates
        nobs, rank, df = self._shared("nobs"), self._shared("rank"), self._df
        r2 = inference.rsquared(e.resid_norm, e.target_norm)
        columns: dict[str, Any] = {
            "nobs": nobs,
            "df_resid": df,
            "r_squared": r2,
            "adj_r_squared": inference.rsquared_adj(r2, nobs, df, self.spec.options.intercept),
            "sigma": inference.sigma(e.resid_norm, df),
            "rms": inference.rms(e.resid_norm, self._shared("wsum")),
            "mad": e.mad,
            "aic": inference.aic(self._llf, rank),
            "bic": inference.bic(self._llf, rank, nobs),
            "log_lik": self._llf,
        }
        made = flat.long_frame(self.keys, {"target": self.targets}, columns)
        made["status"] = pd.Categorical.from_codes(e.status.ravel(), WORDS)
        return made

    def to_frame(self, suffix: str = "", *, stats: Sequence[str] | None = None) -> pd.DataFrame:
        """The flat table of the calibration world: one row per group, keys as columns.

        Parameters
        ----------
        suffix : str
            Ends every made name: ``{target}_intercept{suffix}``,
            ``{target}_slope_{predictor}{suffix}``, the same with ``_err`` before the suffix,
            ``{target}_rms{suffix}``, ``{target}_mad{suffix}``, ``{target}_nobs{suffix}``,
            ``{target}_status{suffix}``.
        stats : sequence of str, optional
            Which, and in which order; default params, bse, rms, mad (if computed), nobs, status.
            Any diagnostic of this class may be named.

        Raises
        ------
        SpecError
            Unknown stat, or two columns would have one name.
        """
        return flat.to_frame(self, suffix, stats)

    def formulas(self, suffix: str = "") -> dict[Hashable, dict[str, str]]:
        """Prediction, residual and pull (residual / rms) of each target as strings.

        ``DataFrame.eval`` runs them on a frame merged with ``to_frame(suffix)`` on the keys.
        A coefficient that is NaN makes the value NaN, also with ``on_collinear="drop"``.
        """
        return flat.formulas(self, suffix)

    def group(self, key: Hashable) -> display.GroupSummary:
        """One group as a printable summary.

        Parameters
        ----------
        key
            A key as in `keys`: a scalar, or a tuple for several.
        """
        return display.GroupSummary(self, key)

    def to_parquet(self, path: str | Path) -> None:
        """Save the whole result; `gbreg.read_parquet` reads it back (extra ``arrow``)."""
        storage.to_parquet(self, path)

    def __repr__(self) -> str:
        return display.text(self)

    def _repr_html_(self) -> str:
        return display.html(self)


def labels(names: Sequence[Hashable], name: str | None) -> pd.Index[Any]:
    """An index of labels; tuples stay single labels."""
    return pd.Index(list(names), name=name, tupleize_cols=False)


def product(levels: Sequence[Sequence[Hashable]], names: Sequence[str]) -> pd.MultiIndex:
    """All combinations, the last varying fastest."""
    sizes = [len(level) for level in levels]
    codes = np.indices(sizes).reshape(len(sizes), -1)
    return pd.MultiIndex(
        levels=[labels(level, None) for level in levels], codes=list(codes), names=list(names)
    )
