# SPDX-License-Identifier: MIT
"""Fitted values on the rows of any frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg import flat, influence
from gbreg.arguments import check_frame, reused_grouping
from gbreg.columns import Column, Numbers, read_columns, read_weights
from gbreg.errors import ColumnError, MissingDataError, SpecError, warn
from gbreg.fallback import Sources, as_words, sources
from gbreg.fitted import FitRows, on_rows
from gbreg.keys import find_groups, with_values
from gbreg.layout import GroupLayout
from gbreg.lookup import check_bins, warn_of_dtypes
from gbreg.numbering import Groups
from gbreg.problem import BoolArray, FloatArray, IntArray
from gbreg.rows import positive_weights
from gbreg.spec import Grouping, Unkept, check_bool, check_choice, fraction_of
from gbreg.tables import labels, product

if TYPE_CHECKING:
    from gbreg.result import GroupFit

Interval = Literal["confidence", "prediction"]
AUGMENTED = ("fitted", "resid", "std_resid", "leverage", "cooks_distance")  # the first two always


AtRows = Callable[[FitRows, IntArray], FloatArray]  # what a fit has at some of the rows of a frame


class FrameRows:
    """A fit at the rows of one frame, which may be any; parents speak for rows it cannot predict."""

    def __init__(self, fit: GroupFit, frame: pd.DataFrame, missing: str, by: Any) -> None:
        check_frame(frame)
        check_choice("missing", missing, ("nan", "raise"))
        grouping = fit.spec.grouping
        layout = by if isinstance(by, GroupLayout) else None
        if layout is not None:
            grouping = reused_grouping(layout, frame)
        elif by is not None:  # a missing key is looked up like any other, unless a parent would take it in
            grouping = Grouping(by=by, dropna=fit.fallback is not None and fit.fallback.dropna)
            grouping = with_values(frame, grouping)
        if grouping is None:
            raise SpecError(
                "the keys of this fit were values aligned with its rows, or code, which are not kept; "
                "give those of this frame as by="
            )
        self.fit = fit
        self.frame = frame
        X = self._read(fit.spec.linear, "linear")
        found = find_groups(frame, grouping) if layout is None else layout.groups
        if by is None:
            check_bins(grouping.by, fit.keys, found.keys)
        served = sources(fit, found.keys)
        self._found, self._served = found, served
        self.groups = keys_on_rows(found, served.places[0])
        if len(found.keys) and not (served.places[0] >= 0).any():
            warn_of_dtypes(fit.keys, found.keys)
        self.own = FitRows(fit, X, self.groups)
        self.parts: list[tuple[IntArray, FitRows]] = []  # rows that a parent speaks for, and it there
        for i, parent in enumerate(fit.parents.values(), start=1):
            rows = np.flatnonzero((self.source == i).any(axis=0))
            places = keys_on_rows(found, served.places[i])[rows]
            self.parts.append((rows, FitRows(parent, [column.take(rows) for column in X], places)))
        if missing == "raise":
            self._check_complete(X)
        self._tell_doubtful()

    @cached_property
    def source(self) -> Sources:
        """(t, n) which fit the values of the rows are of."""
        return keys_on_rows(self._found, self._served.source).T

    def _with_parents(self, values: FloatArray, made: AtRows) -> FloatArray:
        """Put ``made(parent, rows)``, (..., t, rows), in place of the values (..., t, n) of these rows."""
        for i, (rows, part) in enumerate(self.parts, start=1):
            here = made(part, rows)
            for q, source in enumerate(self.source[:, rows]):
                values[..., q, rows[source == i]] = here[..., q, source == i]
        return values

    def _values(self) -> FloatArray:
        return self._with_parents(self.own.values(), lambda part, rows: part.values())

    def predict(self, source: bool) -> pd.DataFrame:
        return self._bounds(self._values()[None], source) if source else self._on_rows(self._values())

    def intervals(self, alpha: float, row_weights: FloatArray | None, source: bool) -> pd.DataFrame:
        """Fitted values with bounds, of new rows of these weights, or of the mean (None)."""

        def made(part: FitRows, rows: IntArray) -> FloatArray:
            return part.bounds(alpha, None if row_weights is None else row_weights[rows])

        return self._bounds(self._with_parents(self.own.bounds(alpha, row_weights), made), source)

    def _bounds(self, bounds: FloatArray, source: bool) -> pd.DataFrame:
        """(1 or 3, t, n) on the caller's rows, and which fit they are of."""
        names = ["fitted", "lower", "upper"][: len(bounds)]
        targets = self.fit.targets
        values = bounds.swapaxes(0, 1).reshape(len(targets) * len(names), len(self.frame)).T
        columns = product(("target", targets), ("bound", names))
        if not source:
            return pd.DataFrame(values, index=self.frame.index, columns=columns)
        own = np.split(values.T, len(targets))
        every = [[*numbers, words] for numbers, words in zip(own, self.sources(), strict=True)]
        columns = product(("target", targets), ("bound", [*names, "source"]))
        whole = dict(enumerate(chain.from_iterable(every)))
        return pd.DataFrame(whole, index=self.frame.index).set_axis(columns, axis=1)

    def sources(self) -> list[pd.Categorical[Any]]:
        """For each target which fit the values of the rows are of."""
        return [as_words(self.fit, source) for source in self.source]

    def resid(self) -> pd.DataFrame:
        return self._on_rows(self._resid())

    def _resid(self) -> FloatArray:
        def made(part: FitRows, rows: IntArray) -> FloatArray:
            return part.resid([y.take(rows) for y in self._Y])

        return self._with_parents(self._own_resid(), made)

    def _own_resid(self) -> FloatArray:
        return self.own.resid(self._Y)

    def clipped(self, weights: Any) -> pd.DataFrame:
        with np.errstate(invalid="ignore"):
            sizes = np.abs(self._own_resid()) * self._side(weights)
        return self._on_rows(self._beyond(sizes))

    def augmented(self, weights: Any) -> pd.DataFrame:
        """What `augment` adds, of each target side by side, columns numbered."""
        made, side = self.fit.statistics, self._side(weights)
        resid = self._own_resid()
        shown = [self._values(), self._resid()]
        if self.fit.spec.shrunk:
            return self._side_by_side(shown)
        scale = np.where(made.perfect & (self.fit.spec.cov_type != "known"), np.nan, made.row_scale)
        rows_scale = on_rows(scale, self.groups).T
        if self.fit.spec.robust:
            with np.errstate(all="ignore"):
                standard = side * resid / rows_scale
            if self.parts:
                standard[self.source > 0] = np.nan
            return self._side_by_side([*shown, standard])
        used = self._used(resid, side)
        if self.parts:  # influence is on the group's own fit
            used &= self.source <= 0
        shares = self.own.influence(resid, np.where(used, side, np.nan), rows_scale)
        return self._side_by_side([*shown, *shares])

    def _side_by_side(self, values: Sequence[FloatArray]) -> pd.DataFrame:
        """Arrays (t, n) as columns, those of a target together."""
        wide = np.stack(values).swapaxes(0, 1)
        wide = wide.reshape(wide.shape[0] * wide.shape[1], len(self.frame))
        return pd.DataFrame(wide.T, index=self.frame.index)

    def durbin_watson(self, weights: Any) -> pd.DataFrame:
        side, resid = self._side(weights), self._own_resid()
        counts = read_weights(self.frame, self._asked_weights(weights)) if self.fit.spec.frequency else None
        used = self._used(resid, side) & (self.groups >= 0)
        out = np.full(self.fit.estimates.level.shape, np.nan)
        with np.errstate(all="ignore"):
            for q, rows in enumerate(map(np.flatnonzero, used)):
                rows = rows[np.argsort(self.groups[rows], kind="stable")]
                scaled, groups = (side * resid[q])[rows], self.groups[rows]
                times = None if counts is None else counts[rows]
                out[:, q] = influence.durbin_watson(scaled, groups, len(out), times)
        made = self.fit.statistics
        out[made.perfect | ~(made.df_resid > 0)] = np.nan  # residuals are rounding noise
        return self.fit._by_target(out)

    def _used(self, resid: FloatArray, side: FloatArray) -> BoolArray:
        """Rows (t, n) that take part in the fit of each target, if ``where`` took them all."""
        with np.errstate(invalid="ignore"):
            return np.isfinite(resid) & (side > 0) & (side < np.inf) & ~self._beyond(np.abs(resid) * side)

    def _asked_weights(self, weights: Any) -> Any:
        """Those given, or the column that the fit had its weights from."""
        if weights is not None and self.fit.spec.weights is None:
            raise SpecError("weights= was given, and the fit has none: its residuals would count otherwise")
        asked = self.fit.spec.weights if weights is None else weights
        if isinstance(asked, Unkept):
            if asked.code is not None:
                return asked.code
            raise SpecError(
                f"the weights of the fit were {asked}, which are not kept; give weights= of "
                "these rows, in the same unit"
            )
        if weights is None and asked is not None and asked not in self.frame.columns:
            raise SpecError(
                f"the weights of the fit, {asked!r}, are not a column of this frame; give weights= of "
                "its rows, in the same unit"
            )
        return asked

    def new_weights(self, weights: Any) -> FloatArray:
        """(n,) weights of these rows, each a new observation; by default the fit's, NaN if not positive."""
        if weights is not None:
            return positive_weights(self.frame, weights)
        w = None if self.fit.spec.frequency else read_weights(self.frame, self._asked_weights(None))
        return np.ones(len(self.frame)) if w is None else np.where((w > 0) & (w < np.inf), w, np.nan)

    def _side(self, weights: Any) -> FloatArray:
        """(n,) roots of the weights of these rows; those of one of repeated rows are 1."""
        w = read_weights(self.frame, self._asked_weights(weights))
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
        spoken_for = (self.source >= 0).all(axis=0)
        lost, why = reasons(self._values(), np.where(spoken_for, 0, self.groups), X)
        if lost.any():
            first = self.frame.index[np.flatnonzero(lost)[:3]].tolist()
            raise MissingDataError(
                f"{lost.sum()} of {len(self.frame)} rows have no fitted value ({why}), first at {first}"
            )

    def _tell_doubtful(self) -> None:
        """Warn of values that are there only because coefficients of dropped predictors count as 0."""
        doubtful = np.unique(
            np.concatenate([self.own.doubtful, *(rows[part.doubtful] for rows, part in self.parts)])
        )
        if len(doubtful):
            first = self.frame.index[doubtful[:3]].tolist()
            warn(
                f"{len(doubtful)} of {len(self.frame)} rows, first at {first}, differ from their group in a "
                'predictor that was dropped there; with on_collinear="drop" their values are as if it had no '
                "effect"
            )

    @cached_property
    def _Y(self) -> list[Numbers]:
        return self._read(self.fit.spec.targets, "targets")

    def _read(self, columns: Sequence[Column], role: str) -> list[Numbers]:
        lost = [
            column for column in columns if column.label is not None and column.name in self.fit.lost_code
        ]
        if hidden := [column.name for column in lost if column.shadows]:
            raise ColumnError(
                f"{hidden} in {role}= were derived, the frame of the fit had other columns of that name, and "
                "their code was not stored with the fit: give such columns names of their own in fit"
            )
        if absent := [column.name for column in lost if column.name not in self.frame.columns]:
            raise ColumnError(
                f"the code of {absent} in {role}= was not stored with the fit: the frame must have them as "
                "columns"
            )
        return read_columns(self.frame, columns, role)

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
    source: bool,
) -> pd.DataFrame:
    """See `GroupFit.predict`."""
    check_bool("source", source)
    if alpha is not None and interval is None:
        raise SpecError("alpha= is of an interval; give interval= too")
    alpha = 0.05 if alpha is None else fraction_of("alpha", alpha)
    if interval is not None:
        fit.spec.need_errors("interval=")
        check_choice("interval", interval, get_args(Interval))
    if interval == "prediction" and fit.spec.loss.name == "absolute":
        raise SpecError('interval="prediction" is of least squares and M estimates, not of quantiles')
    if weights is not None and interval != "prediction":
        raise SpecError(f'weights= are of new rows, so they need interval="prediction", got {interval!r}')
    if weights is not None and fit.spec.frequency:
        raise SpecError('weights= of new rows need weights_type="analytic"; a count is no weight of a row')
    rows = FrameRows(fit, frame, missing, by)
    if interval is None:
        return rows.predict(source)
    return rows.intervals(alpha, rows.new_weights(weights) if interval == "prediction" else None, source)


def augment(fit: GroupFit, frame: pd.DataFrame, weights: Any, by: Any) -> pd.DataFrame:
    """See `GroupFit.augment`."""
    added = AUGMENTED[: 2 if fit.spec.shrunk else 3 if fit.spec.robust else 5]
    names = [f"{flat.text(target)}_{what}" for target in fit.targets for what in added]
    if fit.fallback is not None:
        names += [f"{flat.text(target)}_source" for target in fit.targets]
    if clash := [name for name in names if name in frame.columns or names.count(name) > 1]:
        raise SpecError(f"the frame already has columns {clash}, or two targets would make them")
    rows = FrameRows(fit, frame, "nan", by)
    made = rows.augmented(weights)
    if fit.fallback is not None:
        made = pd.concat([made, pd.DataFrame(dict(enumerate(rows.sources())), index=frame.index)], axis=1)
    blank = [""] * (frame.columns.nlevels - 1)
    made.columns = pd.Index([(name, *blank) for name in names] if blank else names)
    return pd.concat([frame, made], axis=1)


def keys_on_rows(found: Groups, values: NDArray[Any]) -> NDArray[Any]:
    """(u, ...) integers of the keys -> (n, ...), -1 for rows without key."""
    spread = np.full((len(found.sizes) + 1, *values.shape[1:]), -1, dtype=values.dtype)  # the last: code -1
    spread[slice(0, -1) if found.occupied is None else found.occupied] = values
    return spread[found.codes]


def reasons(values: FloatArray, groups: IntArray, X: Sequence[Numbers]) -> tuple[BoolArray, str]:
    """Rows (n,) without a fitted value for some target, and how many there are for which reason."""
    lost: BoolArray = np.asarray(np.isnan(values).any(axis=0))
    unseen = groups < 0
    gaps = np.zeros(len(groups), dtype=np.bool_)
    for column in X:
        gaps |= ~np.isfinite(column.as_float())
    counted = {
        "in groups that were not fitted or do not determine it": lost & ~unseen & ~gaps,
        "with a predictor missing or infinite": gaps & ~unseen,
        "without key or in groups the fit has not seen": unseen,
    }
    parts = [f"{rows.sum()} {why}" for why, rows in counted.items() if rows.any()]
    return lost, ", ".join(parts)
