# SPDX-License-Identifier: MIT
"""Fitted values on the rows of any frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import flat, inference, quadratic
from gbreg.columns import Column, Numbers, read_columns, read_weights
from gbreg.errors import ColumnError, MissingDataError, SpecError, WeightsError
from gbreg.keys import find_groups, find_keys
from gbreg.layout import exact_difference
from gbreg.problem import ROBUST, BoolArray, Estimates, FloatArray, IntArray
from gbreg.spec import Grouping, check_choice, check_fraction
from gbreg.statistics import Statistics
from gbreg.tables import labels, product

if TYPE_CHECKING:
    from gbreg.result import GroupFit

Interval = Literal["confidence", "prediction"]
AUGMENTED = ("fitted", "resid", "std_resid", "leverage", "cooks_distance")  # the first two always
Origins = dict[int, NDArray[Any]]  # (g,) int64 or uint64, by position in linear + targets


class FrameRows:
    """A fit at the rows of one frame, which may be any.

    Inside, targets are less the origins of their groups: a residual is the difference of two small
    numbers, whatever the size of the target.
    """

    def __init__(self, fit: GroupFit, frame: pd.DataFrame, missing: str, by: Any) -> None:
        check_choice("missing", missing, ("nan", "raise"))
        grouping = fit.spec.grouping
        if by is not None:
            grouping = Grouping(by=by, dropna=False)  # a missing key is looked up like any other
        if grouping is None:
            raise SpecError(
                "the keys of this fit were values aligned with its rows, or code, which are not kept; "
                "give those of this frame as by="
            )
        self.fit = fit
        self.frame = frame
        X = self._read(fit.spec.linear, "linear")
        self.X = X
        self.groups = groups_of_rows(frame, grouping, fit.keys)
        drop = fit.spec.options.on_collinear == "drop"
        self.fitted = predicted(fit.estimates, X, self.groups, fit.origins, drop)  # (t, n), less origins
        if missing == "raise":
            self._check_complete(X)

    def predict(self) -> pd.DataFrame:
        return self._on_rows(self._with_origin(self.fitted))

    def intervals(self, alpha: float, row_weights: FloatArray | None) -> pd.DataFrame:
        """Fitted values with bounds, of new rows of these weights, or of the mean (None)."""
        made = self.fit.statistics
        errors = fitted_errors(self.fit, made, self.X, self.groups)
        if row_weights is not None:
            errors = np.hypot(errors, on_rows(made.row_scale, self.groups).T / np.sqrt(row_weights))
        quantiles = np.broadcast_to(inference.quantile(alpha, made.df_error), made.row_scale.shape)
        half = on_rows(quantiles, self.groups).T * errors
        bounds = (self.fitted, self.fitted - half, self.fitted + half)
        columns = product(("target", self.fit.targets), ("bound", ("fitted", "lower", "upper")))
        values = np.stack([self._with_origin(bound) for bound in bounds], axis=1)
        flat_values = values.reshape(len(columns), len(self.frame))
        return pd.DataFrame(flat_values.T, index=self.frame.index, columns=columns)

    def resid(self) -> pd.DataFrame:
        return self._on_rows(self._observed() - self.fitted)

    def clipped(self, weights: Any) -> pd.DataFrame:
        with np.errstate(invalid="ignore"):
            sizes = np.abs(self._observed() - self.fitted) * self._side(weights)
        return self._on_rows(self._beyond(sizes))

    def augmented(self, weights: Any) -> pd.DataFrame:
        """What `augment` adds, of each target side by side, columns numbered."""
        made, side = self.fit.statistics, self._side(weights)
        resid = self._observed() - self.fitted
        if self.fit.spec.shrunk:
            return self._wide(np.stack([self._with_origin(self.fitted), resid]))
        errors = unit_errors(self.fit, self.X, self.groups)[self.fit.estimates.pattern]
        scale = np.where(made.perfect & (self.fit.spec.cov_type != "known"), np.nan, made.row_scale)
        with np.errstate(all="ignore"):
            part = np.where(self._used(resid, side), side, np.nan)
            shares = inference.influence(
                part * resid,
                np.square(part * errors),
                on_rows(scale, self.groups).T,
                on_rows(made.rank.astype(np.float64), self.groups).T,
            )
        return self._wide(np.stack([self._with_origin(self.fitted), resid, *shares]))

    def _wide(self, values: FloatArray) -> pd.DataFrame:
        """(what, t, n) on the caller's rows, what there is of each target side by side."""
        wide = values.swapaxes(0, 1).reshape(values.shape[0] * values.shape[1], len(self.frame))
        return pd.DataFrame(wide.T, index=self.frame.index)

    def durbin_watson(self, weights: Any) -> pd.DataFrame:
        side, resid = self._side(weights), self._observed() - self.fitted
        used = self._used(resid, side) & (self.groups >= 0)
        out = np.full(self.fit.estimates.level.shape, np.nan)
        with np.errstate(all="ignore"):
            for q, rows in enumerate(map(np.flatnonzero, used)):
                rows = rows[np.argsort(self.groups[rows], kind="stable")]
                out[:, q] = inference.durbin_watson((side * resid[q])[rows], self.groups[rows], len(out))
        out[self.fit.statistics.perfect] = np.nan
        return self.fit._by_target(out)

    def _used(self, resid: FloatArray, side: FloatArray) -> BoolArray:
        """Rows (t, n) that take part in the fit of each target, if ``where`` took them all."""
        with np.errstate(invalid="ignore"):
            return np.isfinite(resid) & (side > 0) & ~self._beyond(np.abs(resid) * side)

    def _side(self, weights: Any) -> FloatArray:
        """(n,) roots of the weights of these rows; those of one of repeated rows are 1."""
        asked = self.fit.spec.weights if weights is None else weights
        if weights is None and asked is not None and asked not in self.frame.columns:
            raise SpecError(f"the weights of the fit, {asked!r}, are no column of this frame; give weights=")
        w = read_weights(self.frame, asked)
        if w is None:
            return np.ones(len(self.frame))
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.where(w > 0, 1.0, 0.0) if self.fit.spec.frequency else w)

    def _beyond(self, sizes: FloatArray) -> BoolArray:
        """Of sqrt(w) |r| (t, n), those beyond the limit of ``clip``."""
        if self.fit.spec.clip is None:
            return np.zeros(sizes.shape, dtype=np.bool_)
        return np.asarray(sizes > on_rows(self.fit.estimates.limit[:, :, 0], self.groups).T)

    def _check_complete(self, X: Sequence[Numbers]) -> None:
        lost, why = reasons(self.fitted, self.groups, X)
        if lost.any():
            first = self.frame.index[np.flatnonzero(lost)[:3]].tolist()
            raise MissingDataError(
                f"{lost.sum()} of {len(self.frame)} rows have no fitted value ({why}), first at {first}"
            )

    def _observed(self) -> FloatArray:
        """Targets (t, n) less the origins of their groups."""
        k, origins = len(self.fit.predictors), self.fit.origins
        columns = self._read(self.fit.spec.targets, "targets")
        return np.array(
            [stored_values(column, origins.get(k + q), self.groups) for q, column in enumerate(columns)]
        )

    def _with_origin(self, values: FloatArray) -> FloatArray:
        """Values of the stored targets (t, n) in the units of the caller's."""
        out = values.copy()
        for q in range(len(out)):
            reference = self.fit.origins.get(len(self.fit.predictors) + q)
            if reference is not None:
                out[q] += np.append(reference.astype(np.float64), np.nan)[self.groups]
        return out

    def _read(self, columns: Sequence[Column], role: str) -> list[Numbers]:
        try:
            return read_columns(self.frame, columns, role)
        except ColumnError as error:
            if not self.fit.lost_code:
                raise
            raise ColumnError(
                f"{error}; the code of {list(self.fit.lost_code)} was not stored with the fit, "
                "the frame must have them as columns"
            ) from None

    def _on_rows(self, values: NDArray[Any]) -> pd.DataFrame:
        """(t, n) on the caller's rows."""
        return pd.DataFrame(values.T, index=self.frame.index, columns=labels(self.fit.targets, None))


def predict(
    fit: GroupFit,
    frame: pd.DataFrame,
    *,
    interval: str | None,
    alpha: float | None,
    weights: Any,
    missing: str,
    by: Any,
) -> pd.DataFrame:
    """See `GroupFit.predict`."""
    if alpha is not None and interval is None:
        raise SpecError("alpha= is of an interval; give interval= too")
    alpha = 0.05 if alpha is None else alpha
    check_fraction("alpha", alpha)
    if interval is not None:
        fit.spec.need_errors("interval=")
        check_choice("interval", interval, get_args(Interval))
    row_weights = np.ones(len(frame)) if interval == "prediction" else None
    if weights is not None:
        if row_weights is None:
            raise SpecError(f'weights= are of new rows, so they need interval="prediction", got {interval!r}')
        if fit.spec.frequency:
            raise SpecError('weights= of new rows need weights_type="analytic"; counts are not of one row')
        row_weights = _positive_weights(frame, weights)
    rows = FrameRows(fit, frame, missing, by)
    return rows.predict() if interval is None else rows.intervals(alpha, row_weights)


def _positive_weights(frame: pd.DataFrame, weights: Any) -> FloatArray:
    w = np.asarray(read_weights(frame, weights), dtype=np.float64)
    bad = np.flatnonzero(~((w > 0) & (w < np.inf)))
    if len(bad):
        raise WeightsError(
            f"weights= of new rows must be finite and positive: {len(bad)} are not, "
            f"first {w[bad[0]]} at {frame.index[bad[0]]!r}"
        )
    return w


def augment(fit: GroupFit, frame: pd.DataFrame, weights: Any, by: Any) -> pd.DataFrame:
    """See `GroupFit.augment`."""
    added = AUGMENTED[:2] if fit.spec.shrunk else AUGMENTED
    names = [f"{flat.text(target)}_{what}" for target in fit.targets for what in added]
    if clash := [name for name in names if name in frame.columns or names.count(name) > 1]:
        raise SpecError(f"the frame already has columns {clash}, or two targets would make them")
    made = FrameRows(fit, frame, "nan", by).augmented(weights)
    blank = [""] * (frame.columns.nlevels - 1)
    made.columns = pd.Index([(name, *blank) for name in names] if blank else names)
    return pd.concat([frame, made], axis=1)


def groups_of_rows(frame: pd.DataFrame, grouping: Grouping, keys: pd.Index[Any]) -> IntArray:
    """(n,) place in ``keys`` of each row's group, -1 for none."""
    groups = find_groups(frame, grouping)
    places = np.full(len(groups.sizes) + 1, -1, dtype=np.int64)  # the last one is for code -1
    own = slice(0, -1) if groups.occupied is None else groups.occupied
    places[own] = find_keys(keys, groups.keys)
    return places[groups.codes]


def stored_values(column: Numbers, origin: NDArray[Any] | None, groups: IntArray) -> FloatArray:
    """(n,) values less the origin of their group, without rounding either to float64 first.

    The frame may hold the column as another kind of number than the fit's did.
    """
    if origin is None:
        return column.as_float()
    reference = np.append(origin, np.zeros(1, dtype=origin.dtype))[groups]
    if column.is_integer:
        out = _integer_difference(column.values, reference)
    else:  # the reference in two parts, both exact as floats; near it the first difference is exact
        low = reference & 2047
        out = (column.values - (reference - low).astype(np.float64)) - low.astype(np.float64)
    out[column.is_missing()] = np.nan
    return out


def _integer_difference(values: NDArray[Any], reference: NDArray[Any]) -> FloatArray:
    if values.dtype == reference.dtype:
        return exact_difference(values, reference)
    out = values.astype(np.float64) - reference.astype(np.float64)  # nothing cancels if signs differ
    alike = (values >= 0) & (reference >= 0)
    out[alike] = exact_difference(values[alike].astype(np.uint64), reference[alike].astype(np.uint64))
    return out


def predicted(
    estimates: Estimates, X: Sequence[Numbers], groups: IntArray, origins: Origins, drop: bool
) -> FloatArray:
    """Fitted values (t, n) of the stored targets: their origins are not added.

    level + sum_j b_j (x_j - center_j): a deviation from the center keeps its digits where
    intercept + sum_j b_j x_j would cancel; without intercept, level and centers are 0. With
    ``drop`` the coefficients of dropped predictors count as 0. NaN where the group is -1, a
    coefficient is NaN, or a predictor is missing or infinite.
    """
    first = int(estimates.params.shape[2] > len(X))  # 1 if there is an intercept
    out = np.array([on_rows(level, groups) for level in estimates.level.T])
    deviations = {(j, m): values for m, j, values in deviations_from_center(estimates, X, groups, origins)}
    with np.errstate(over="ignore", invalid="ignore"):
        for q, m in enumerate(estimates.pattern.tolist()):
            for j in range(len(X)):
                slope = estimates.params[:, q, first + j]
                if drop:
                    slope = np.where(estimates.dropped[:, m, j], 0.0, slope)
                out[q] += on_rows(slope, groups) * deviations[j, m]
    return out


def fitted_errors(fit: GroupFit, made: Statistics, X: Sequence[Numbers], groups: IntArray) -> FloatArray:
    """Standard deviations of fitted values (t, n)."""
    if fit.spec.cov_type not in ROBUST:
        return unit_errors(fit, X, groups)[fit.estimates.pattern] * on_rows(made.error_scale, groups).T
    deviations = deviations_of_patterns(fit, X, groups)
    errors = [
        quadratic.sandwich_root(made.sandwich_factor(q), deviations[m], groups, fit.spec.options.intercept)
        for q, m in enumerate(fit.estimates.pattern.tolist())
    ]
    return np.array(errors)


def unit_errors(fit: GroupFit, X: Sequence[Numbers], groups: IntArray) -> FloatArray:
    """Standard deviations of fitted values, if a row of weight 1 has 1: (m, n)."""
    e = fit.estimates
    deviations = deviations_of_patterns(fit, X, groups)
    out = np.full((e.rank.shape[1], len(groups)), np.nan)
    for m in set(e.pattern.tolist()):
        gone = e.dropped[:, m]  # with "nan" there are no fitted values in such groups
        norm = np.where(gone, np.inf, e.norm[:, m])
        G = quadratic.fit_factor(e.xcorr[:, m], gone)
        intercept = fit.spec.options.intercept
        out[m] = quadratic.leverage_root(G, norm, e.wsum[:, m], deviations[m], groups, intercept)
    return out


def deviations_of_patterns(fit: GroupFit, X: Sequence[Numbers], groups: IntArray) -> FloatArray:
    """X - center: (m, k, n)."""
    out = np.zeros((fit.estimates.rank.shape[1], len(X), len(groups)))
    for m, j, values in deviations_from_center(fit.estimates, X, groups, fit.origins):
        out[m, j] = values
    return out


def deviations_from_center(
    estimates: Estimates, X: Sequence[Numbers], groups: IntArray, origins: Origins
) -> Iterator[tuple[int, int, FloatArray]]:
    """Pattern, predictor, and x - center (n,); NaN where x is missing or infinite."""
    for j, column in enumerate(X):
        x = stored_values(column, origins.get(j), groups)
        x = np.where(np.isfinite(x), x, np.nan)
        for m in set(estimates.pattern.tolist()):
            yield m, j, x - on_rows(estimates.center[:, m, j], groups)


def on_rows(values: FloatArray, groups: IntArray) -> FloatArray:
    """(g, ...) -> (n, ...), NaN for rows in group -1."""
    spread: FloatArray = np.append(values, np.full((1, *values.shape[1:]), np.nan), axis=0)[groups]
    return spread


def reasons(values: FloatArray, groups: IntArray, X: Sequence[Numbers]) -> tuple[BoolArray, str]:
    """Rows (n,) without a fitted value for some target, and how many there are for which reason."""
    lost: BoolArray = np.asarray(np.isnan(values).any(axis=0))
    unseen = groups < 0
    gaps = np.zeros(len(groups), dtype=np.bool_)
    for column in X:
        gaps |= ~np.isfinite(column.as_float())
    counted = {
        "in groups that were not fitted": lost & ~unseen & ~gaps,
        "with a predictor missing or infinite": gaps & ~unseen,
        "without key or in groups the fit has not seen": unseen,
    }
    parts = [f"{rows.sum()} {why}" for why, rows in counted.items() if rows.any()]
    return lost, ", ".join(parts)
