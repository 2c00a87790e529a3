# SPDX-License-Identifier: MIT
"""The call: a frame and what is asked of it go in, a `GroupFit` comes out."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gbreg.accounting import RowCounts
from gbreg.backends import Backend, get_backend
from gbreg.columns import Column, Numbers, as_columns, check_labels, read_column, read_mask, read_weights
from gbreg.errors import CollinearityError, GbregWarning, MissingDataError, SpecError, WeightsError
from gbreg.interrupt import Ticker, interruptible, ticker
from gbreg.layout import GroupLayout, gather, make_layout
from gbreg.problem import BoolArray, Estimates, Flag, FloatArray, IntArray, Problem, Status, frozen
from gbreg.result import GroupFit
from gbreg.spec import FitSpec, Grouping, Missing, OnCollinear, Precision, check_bool, fit_options

INTERRUPTIBLE_ROWS = 500_000  # smaller fits are over before a finger leaves the key


def fit(
    frame: pd.DataFrame,
    *,
    linear: Any,
    targets: Any,
    by: Any = None,
    level: Any = None,
    weights: Any = None,
    backend: str | Backend = "numba",
    intercept: bool = True,
    min_nobs: int | None = None,
    missing: Missing = "drop",
    where: Any = None,
    precision: Precision = "auto",
    on_collinear: OnCollinear = "nan",
    mad: bool = True,
    sort: bool = True,
    observed: bool = True,
    dropna: bool = True,
    n_jobs: int | None = None,
    progress: bool = False,
) -> GroupFit:
    """Weighted least squares of each target on the same predictors, group by group.

    Parameters
    ----------
    frame : DataFrame of n rows
        Is not changed and not kept.
    linear : list of labels, or of ``(name, derivation)`` pairs
        Predictors. A derivation is a callable of the frame or a `pandas.col`
        expression. ``[]`` fits group means.
    targets : list of labels, or of ``(name, derivation)`` pairs
        Each is fitted on its own rows: a value missing in one target drops no row for
        another.
    by : label, list, Series, array, mapping, callable, `pandas.Grouper` or GroupLayout
        The groups, as `DataFrame.groupby` takes them; a tuple is one label. A layout
        made by `group` is reused.
    level : int, label or list of them
        Levels of the frame's index instead of ``by``.
    weights : label, Series or array, optional
        Analytic weights: proportional to 1/sigma^2, not 1/sigma. A row of weight zero
        takes no part and is not counted in ``nobs``.
    backend : {"numba", "numpy", "loky"} or Backend
        Compiled kernels in threads, vectorised numpy, or processes. They agree.
    intercept : bool
        Whether a constant is fitted; its coefficient is called ``Intercept``.
    min_nobs : int, optional
        Groups with fewer rows are not fitted (``too_few_rows``). At least, and by default,
        the number of coefficients: then the fit is exact, its status ``saturated``, and
        it has no errors.
    missing : {"drop", "raise"}
        What happens to NaN, NA and infinite values in predictors and targets. Rows are
        dropped and counted, or `MissingDataError` names the column.
    where : boolean Series, array, label or callable, optional
        Rows that take part. Groups without any stay in the result as ``no_data``.
    precision : {"auto", "extended"}
        Double-double arithmetic for the groups that need it, or for all.
    on_collinear : {"nan", "drop", "raise"}
        Where predictors are linearly dependent: only the coefficients that the data
        determine ("nan"), R's rule that the later column goes ("drop"), or
        `CollinearityError`.
    mad : bool
        Whether the median absolute deviation of the residuals is computed.
    sort, observed, dropna : bool
        As in `DataFrame.groupby`.
    n_jobs : int, optional
        Threads or processes; -1 for all cores. No number depends on it.
    progress : bool
        Show a progress bar over the rows (needs the extra ``progress``).

    Returns
    -------
    GroupFit
        One row per group, in the order of ``frame.groupby(...).size().index``.

    Raises
    ------
    SpecError, ColumnError, DTypeError
        The call does not fit the frame. Raised before any work is done.
    WeightsError
        A weight that takes part is negative, missing or infinite.
    MissingDataError, CollinearityError
        As asked for by ``missing`` and ``on_collinear``.

    Warns
    -----
    GbregWarning
        Once, with counts by reason, if groups could not be fitted.

    Examples
    --------
    >>> import pandas as pd, gbreg
    >>> df = pd.DataFrame({"g": [1, 1, 1, 2, 2, 2], "x": [0, 1, 2, 0, 1, 2.0], "y": [1, 3, 5, 0, 1, 5.0]})
    >>> gbreg.fit(df, by="g", linear=["x"], targets=["y"], backend="numpy").params["y"]
    term  Intercept    x
    g                   
    1           1.0  2.0
    2          -0.5  2.5
    """
    layout = by if isinstance(by, GroupLayout) else None
    if layout is None:
        grouping = Grouping(by=by, level=level, sort=sort, observed=observed, dropna=dropna)
    else:
        grouping = _reused(layout, frame, level=level, sort=sort, observed=observed, dropna=dropna)
    predictors = as_columns(linear, "linear")
    options = fit_options(
        len(predictors),
        intercept=intercept,
        min_nobs=min_nobs,
        precision=precision,
        on_collinear=on_collinear,
        mad=mad,
    )
    spec = FitSpec(
        grouping=grouping,
        linear=predictors,
        targets=as_columns(targets, "targets"),
        weights=_describe(weights),
        options=options,
        missing=missing,
    )
    check_bool("progress", progress)
    engine = get_backend(backend, n_jobs)
    data = Data.read(frame, spec, weights, where)
    with ticker(progress, len(frame)) as tick:

        def work() -> GroupFit:
            return _fit(data, layout or make_layout(frame, grouping), spec, engine, tick)

        result = interruptible(work, tick) if len(frame) > INTERRUPTIBLE_ROWS else work()
    if on_collinear == "raise":
        _raise_if_collinear(result)
    _warn_of_failures(result)
    return result


def group(
    frame: pd.DataFrame,
    *,
    by: Any = None,
    level: Any = None,
    sort: bool = True,
    observed: bool = True,
    dropna: bool = True,
) -> GroupLayout:
    """Sort the rows of a frame into groups once, for several calls of `fit`.

    Parameters
    ----------
    frame : DataFrame
    by, level, sort, observed, dropna
        As in `fit`.

    Returns
    -------
    GroupLayout
        Give it to ``fit(by=layout)`` with the same frame.
    """
    return make_layout(frame, Grouping(by=by, level=level, sort=sort, observed=observed, dropna=dropna))


@dataclass(frozen=True, slots=True)
class Data:
    """The columns a fit reads, as numbers, in the order of the frame."""

    X: list[Numbers]
    Y: list[Numbers]
    w: FloatArray | None
    where: BoolArray | None
    index: pd.Index[Any]

    @classmethod
    def read(cls, frame: pd.DataFrame, spec: FitSpec, weights: Any, where: Any) -> Data:
        """Every check of names and dtypes, before any work on the rows."""
        for role, columns in (("linear", spec.linear), ("targets", spec.targets)):
            check_labels(frame, [column.label for column in columns if column.label is not None], role)
        if spec.grouping is not None and spec.grouping.labels is not None:
            known = set(frame.columns) | set(frame.index.names)
            check_labels(frame, [label for label in spec.grouping.labels if label not in known], "by")
        return cls(
            X=[read_column(frame, column, "linear") for column in spec.linear],
            Y=[read_column(frame, column, "targets") for column in spec.targets],
            w=read_weights(frame, weights),
            where=read_mask(frame, where),
            index=frame.index,
        )


def _fit(data: Data, layout: GroupLayout, spec: FitSpec, engine: Backend, tick: Ticker) -> GroupFit:
    """Select rows, gather them, fit each pattern of missing targets, count everything."""
    tick(0)
    used, not_selected, zero_weight = _select(data, layout, spec)
    lost = [_lost_rows(column) for column in data.X]
    if spec.missing == "raise":
        for column, numbers, gone in zip(
            (*spec.linear, *spec.targets),
            (*data.X, *data.Y),
            (*lost, *(_lost_rows(column) for column in data.Y)),
            strict=True,
        ):
            _raise_if_missing(column, numbers, gone, used, data.index)
    nan, inf = _either(lost, layout.n_rows)
    missing_x, infinite_x = _count(used, nan), _count(used, inf)
    for gone in (nan, inf):
        used = used if gone is None else used.select(~gone)
    tick(0)
    problem, origins = gather(used, data.X, data.Y, data.w)
    tick(0)

    parts, targets, missing_y, infinite_y = [], [], [], []
    for block in _patterns(problem):
        parts.append(engine.fit(block.problem, spec.options, tick))
        targets.append(block.targets)
        missing_y.append(block.missing)
        infinite_y.append(block.infinite)
    estimates = Estimates.join_targets(parts, targets)
    counts = RowCounts(
        n_rows=layout.n_rows,
        n_without_key=layout.n_rows - len(layout.order),
        rows=layout.sizes,
        not_selected=not_selected,
        zero_weight=zero_weight,
        missing=missing_x[:, None] + _by_target(missing_y, targets),
        infinite=infinite_x[:, None] + _by_target(infinite_y, targets),
        used=estimates.nobs[:, estimates.pattern],
    )
    counts.check()
    lost_rows = counts.missing + counts.infinite
    estimates.flags[...] |= np.where(lost_rows > 0, Flag.ROWS_DROPPED, 0).astype(np.uint8)
    estimates.flags[...] |= np.where(zero_weight > 0, Flag.ZERO_WEIGHTS, 0).astype(np.uint8)[:, None]
    return GroupFit(estimates, layout.keys, spec, counts, origins, engine.name)


def _select(data: Data, layout: GroupLayout, spec: FitSpec) -> tuple[GroupLayout, IntArray, IntArray]:
    """Rows that are selected and have weight, and per group how many are not and have none."""
    none = np.zeros(layout.n_groups, dtype=np.int64)
    selected, not_selected = layout, none
    if data.where is not None:
        selected = layout.select(data.where)
        not_selected = layout.sizes - selected.sizes
    if data.w is None or (len(data.w) and data.w.min() > 0 and data.w.max() < np.inf):
        return selected, not_selected, none
    bad = ~(np.isfinite(data.w) & (data.w >= 0))
    if bad.any():
        rows = selected.order[bad[selected.order]]
        if len(rows):
            first = rows.min()
            raise WeightsError(
                f"weights {spec.weights!r} must be finite and not negative: {len(rows)} rows that take part "
                f"are not, first {data.w[first]} at {data.index[first]!r}; set them to 0 to leave rows out"
            )
    used = selected.select(data.w > 0)
    return used, not_selected, selected.sizes - used.sizes


Lost = tuple[BoolArray | None, BoolArray | None]


def _lost_rows(column: Numbers) -> Lost:
    """Rows (n,) where the column is missing, and where it is infinite; None for nowhere."""
    if column.is_integer:
        return column.missing, None
    with np.errstate(all="ignore"):
        if np.isfinite(np.add.reduce(column.values)):  # one pass that most columns need no more than
            return None, None
    nan, inf = np.isnan(column.values), np.isinf(column.values)
    return nan if nan.any() else None, inf if inf.any() else None


def _either(lost: Sequence[Lost], n: int) -> Lost:
    """Rows where any column is missing, and rows where one is infinite but none missing."""
    nan = [rows for rows, _ in lost if rows is not None]
    inf = [rows for _, rows in lost if rows is not None]
    any_nan = np.logical_or.reduce(nan) if nan else None
    any_inf = np.logical_or.reduce(inf) if inf else None
    if any_nan is not None and any_inf is not None:
        any_inf &= ~any_nan
    return any_nan, any_inf


def _count(layout: GroupLayout, rows: BoolArray | None) -> IntArray:
    return np.zeros(layout.n_groups, dtype=np.int64) if rows is None else layout.count(rows)


def _raise_if_missing(
    column: Column, numbers: Numbers, lost: Lost, used: GroupLayout, index: pd.Index[Any]
) -> None:
    for rows, what in zip(lost, ("missing (NaN)", "infinite (inf)"), strict=True):
        hits = used.order[rows[used.order]] if rows is not None else ()
        if len(hits):
            raise MissingDataError(
                f'column {column.name!r} is {what} in {len(hits)} rows, first at {index[min(hits)]!r}; '
                'missing="drop" leaves them out and counts them'
            )


@dataclass(frozen=True, slots=True)
class Pattern:
    """Targets with the same rows missing, and the problem without those rows."""

    problem: Problem
    targets: list[int]
    missing: IntArray  # (g,) rows where these targets are missing
    infinite: IntArray  # (g,)


def _patterns(problem: Problem) -> list[Pattern]:
    """Split a problem whose targets may hold NaN and inf by what is missing in them."""
    with np.errstate(all="ignore"):
        whole = np.isfinite(np.add.reduce(problem.Y, axis=1))
    alike: dict[tuple[bytes, bytes], list[int]] = {}
    for q in range(problem.n_targets):
        lost = (b"", b"")
        if not whole[q] and not np.isfinite(problem.Y[q]).all():
            nan, inf = np.isnan(problem.Y[q]), np.isinf(problem.Y[q])
            lost = (np.packbits(nan).tobytes(), np.packbits(inf).tobytes())
        alike.setdefault(lost, []).append(q)
    none = np.zeros(problem.n_groups, dtype=np.int64)
    if list(alike) == [(b"", b"")]:
        return [Pattern(problem, list(range(problem.n_targets)), none, none)]
    made = []
    for qs in alike.values():
        y = problem.Y[qs[0]]
        keep = np.isfinite(y)
        ends = np.concatenate(([0], np.cumsum(keep)))
        k = problem.n_predictors
        picked = [*range(k), *(k + q for q in qs)]
        part = Problem(
            X=frozen(problem.X[:, keep]),
            Y=frozen(problem.Y[qs][:, keep]),
            w=frozen(problem.w[keep]),
            offsets=frozen(ends[problem.offsets]),
            origin=None if problem.origin is None else frozen(problem.origin[:, picked]),
        )
        made.append(Pattern(part, qs, _per_group(problem, np.isnan(y)), _per_group(problem, np.isinf(y))))
    return made


def _per_group(problem: Problem, rows: BoolArray) -> IntArray:
    """(g,) how many of these rows each group has."""
    return np.diff(np.searchsorted(np.flatnonzero(rows), problem.offsets))


def _by_target(counts: Sequence[IntArray], targets: Sequence[Sequence[int]]) -> IntArray:
    """(g, t) from one (g,) per pattern."""
    out = np.empty((len(counts[0]), sum(map(len, targets))), dtype=np.int64)
    for count, qs in zip(counts, targets, strict=True):
        out[:, qs] = count[:, None]
    return out


def _reused(layout: GroupLayout, frame: pd.DataFrame, **given: Any) -> Grouping:
    """The grouping of a layout, if it may be used with this frame and these arguments."""
    if len(frame) != layout.n_rows:
        raise SpecError(f"by= is a layout of {layout.n_rows} rows, the frame has {len(frame)}")
    if not (frame.index is layout.index or frame.index.equals(layout.index)):
        raise SpecError("by= is a layout of a frame with another index; make one for this frame")
    defaults = {"level": None, "sort": True, "observed": True, "dropna": True}
    for name, value in given.items():
        own = getattr(layout.grouping, name)
        if value != defaults[name] and value != own:
            raise SpecError(f"{name}={value!r} was given beside a layout made with {name}={own!r}")
    return layout.grouping


def _describe(weights: Any) -> Hashable:
    """What to call the weights: their label, the name of a Series, or their type."""
    if weights is None or isinstance(weights, (str, int, tuple)):
        return weights
    name = getattr(weights, "name", None)
    return type(weights).__name__ if name is None else str(name)


def _first_keys(fit: GroupFit, groups: NDArray[Any]) -> str:
    shown = ", ".join(repr(key) for key in fit.keys[groups[:3]])
    return f"{shown}, ..." if len(groups) > 3 else shown


def _dropped_names(fit: GroupFit) -> str:
    dropped = fit.estimates.dropped.any(axis=(0, 1))
    return ", ".join(repr(name) for name, gone in zip(fit.predictors, dropped, strict=True) if gone)


def _raise_if_collinear(fit: GroupFit) -> None:
    groups = np.flatnonzero((fit.estimates.status == Status.RANK_DEFICIENT).any(axis=1))
    if len(groups):
        raise CollinearityError(
            f"predictors {_dropped_names(fit)} are constant or linear combinations of the others in "
            f"{len(groups)} of {fit.n_groups} groups, first {_first_keys(fit, groups)}"
        )


def _warn_of_failures(fit: GroupFit) -> None:
    """One warning for the call; groups that were selected away are no failure."""
    status = fit.estimates.status
    if status.max(initial=0) <= Status.SATURATED:
        return
    asked = (fit.counts.rows > fit.counts.not_selected)[:, None]
    reasons = []
    for reason in (Status.TOO_FEW_ROWS, Status.NO_DATA, Status.RANK_DEFICIENT, Status.OVERFLOW):
        groups = np.flatnonzero(((status == reason) & asked).any(axis=1))
        if len(groups):
            about = f", predictors {_dropped_names(fit)}" if reason is Status.RANK_DEFICIENT else ""
            reasons.append(f"{len(groups)} {reason.word} ({_first_keys(fit, groups)}{about})")
    if reasons:
        warnings.warn(
            f"not every one of {fit.n_groups} groups could be fitted: {'; '.join(reasons)}. "
            "Their numbers are NaN; see .status",
            GbregWarning,
            stacklevel=3,
        )
