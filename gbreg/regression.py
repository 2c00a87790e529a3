# SPDX-License-Identifier: MIT
"""The call: a frame and what is asked of it go in, a `GroupFit` comes out."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gbreg.arguments import check_alone, check_frame, check_names, described, reused_grouping, row_code
from gbreg.backends import Backend, get_backend
from gbreg.backends._ranges import one_pool
from gbreg.columns import as_columns
from gbreg.constraints import read_bounds, read_ridge
from gbreg.errors import SpecError, warn
from gbreg.fallback import add_parents, read_fallback
from gbreg.fitting import fit_rows
from gbreg.formula import read_formula
from gbreg.interrupt import interruptible, ticker
from gbreg.keys import wide_floats, with_values
from gbreg.layout import GroupLayout, make_layout
from gbreg.problem import ROBUST, CovType, LossName
from gbreg.result import GroupFit
from gbreg.rowops import NUMPY
from gbreg.rows import Data
from gbreg.spec import (
    INTERCEPT,
    FitSpec,
    Grouping,
    Missing,
    OnCollinear,
    Precision,
    WeightsType,
    check_bool,
    clip_of,
    fit_options,
    loss_of,
)
from gbreg.suggest import names_options
from gbreg.troubles import failures, raise_if_collinear

INTERRUPTIBLE_ROWS = 150_000  # smaller fits take milliseconds: they run in the calling thread
INTERRUPTIBLE_PASSES_ROWS = 5_000  # of fits that pass over the rows again


@names_options
def fit(
    frame: pd.DataFrame,
    formula: str | None = None,
    *,
    linear: Any = None,
    targets: Any = None,
    by: Any = None,
    level: Any = None,
    weights: Any = None,
    weights_type: WeightsType = "analytic",
    cov_type: CovType = "classical",
    groups: Any = None,
    backend: str | Backend = "numba",
    intercept: bool = True,
    min_nobs: int | None = None,
    missing: Missing = "drop",
    where: Any = None,
    precision: Precision = "auto",
    on_collinear: OnCollinear = "nan",
    clip: float | None = None,
    clip_iterations: int | None = None,
    loss: LossName = "squared",
    tuning: float | None = None,
    quantile: float | None = None,
    maxiter: int | None = None,
    ridge: Any = None,
    ridge_standardize: bool = False,
    bounds: Any = None,
    mad: bool | None = None,
    sort: bool = True,
    observed: bool = True,
    dropna: bool = True,
    fallback: Any = None,
    n_jobs: int | None = None,
    progress: bool = False,
) -> GroupFit:
    """Weighted least squares of each target on the same predictors, group by group.

    Parameters
    ----------
    frame : DataFrame of n rows
        Is not changed and not kept.
    formula : str, optional
        ``targets ~ predictors | keys``, as in R, instead of ``linear``, ``targets``, ``intercept``
        and (if it has keys) ``by``; for instance ``"dX + dY ~ x + y + x:y + C(z) | sector + row"``.
        Columns that are numbers stay as they are; the rest is computed by formulaic (extra
        ``formula``) from the frame, formulaic's functions and ``np``, never from variables
        of the caller. Text and ``C(z)`` become indicators of the levels in the whole frame, and
        ``center(x)``, ``poly(x, 2)`` and the like also see all its rows; `predict` remembers both.
        A term is missing where a column that it uses is, or where a level is not one of the fit's.
        ``- 1`` leaves out the constant. A formula is code: do not take it from strangers.
    linear : list of labels, or of ``(name, derivation)`` pairs
        Predictors. A derivation is a callable of the frame or a `pandas.col`
        expression, and is evaluated anew for each frame of `GroupFit.predict`: what looks at all
        rows, such as a mean, is remembered by a formula only; an expression needs no name. One alone
        is a list of one. ``[]`` fits group means.
    targets : list of labels, or of ``(name, derivation)`` pairs
        Each is fitted on its own rows: a value missing in one target drops no row for
        another.
    by : label, list, Series, array, mapping, callable, `pandas.Grouper` or GroupLayout
        The groups, as `DataFrame.groupby` takes them; a tuple is one label. A layout
        made by `group` is reused.
    level : int, label or list of them
        Levels of the frame's index instead of ``by``.
    weights : label, Series, array, callable or `pandas.col` expression, optional
        Proportional to 1/sigma^2, not 1/sigma, unless ``weights_type`` says otherwise. A row of
        weight zero takes no part and is not counted in ``nobs``. Code is kept, for `GroupFit.augment` and
        the like, unless it looks at other rows or the fit is pickled or saved; values are not.
    weights_type : {"analytic", "frequency"}
        Frequency weights are counts: whole numbers, and every result is that of each row repeated
        so often, in particular ``nobs`` and what follows from it. Only ``min_nobs`` and
        ``accounting()`` are about rows, repeated or not.
    cov_type : {"classical", "known", "HC0", "HC1", "HC2", "HC3", "cluster"}
        What the errors assume, as in statsmodels. "classical": the variance of a row is
        ``scale`` over its weight. "HC0" to "HC3": any variance (heteroskedasticity-consistent;
        HC3 is the one for small groups). "cluster": rows of a cluster are correlated in any
        way. "known", statsmodels' "fixed scale": weights are exactly 1/sigma^2, so the
        covariance of the coefficients is (X'WX)^-1, not multiplied by ``scale``; saturated
        groups and perfect fits have errors and statistics too, and there are ``chi2`` and
        ``chi2_pvalue``. Statistics are Student's t for "classical", normal for the others.
        Groups whose predictors are dependent have no HC and no clustered errors.
    groups : label, Series, array, list, callable or `pandas.col` expression, optional
        Clusters of ``cov_type="cluster"``: rows of one group with equal values are one cluster.
        Of the errors of a group with fewer than 20 or so, expect little.
    backend : {"numba", "numpy", "loky"} or Backend
        Compiled kernels in threads, vectorised numpy, or processes. They agree.
    intercept : bool
        Whether a constant is fitted; its coefficient is called ``Intercept``.
    min_nobs : int, optional
        Groups with fewer rows are not fitted (``too_few_rows``). At least, and by default,
        the number of coefficients (of those without ``ridge``): then the fit is exact, its status
        ``saturated``, and it has no errors unless ``cov_type="known"``.
    missing : {"drop", "raise"}
        What happens to NaN, NA and infinite values in predictors and targets. Rows are
        dropped and counted, or `MissingDataError` names the column.
    where : boolean Series, array, label, callable or `pandas.col` expression, optional
        Rows that take part. Groups without any stay in the result as ``no_data``.
    precision : {"auto", "extended"}
        Double-double arithmetic for the groups that need it, or for all.
    on_collinear : {"nan", "drop", "raise"}
        Where predictors are linearly dependent: only the coefficients and fitted values that the
        data determine ("nan"), R's rule that the later column goes ("drop"), or
        `CollinearityError`. See `GroupFit.predict`.
    clip : float, optional
        Rows further than this many robust standard deviations from the fit are set aside
        and their group is fitted again, until the rows set aside stay the same. The deviation is
        1.4826 times the median of sqrt(w) |residual| over all rows of the group, so a row may
        come back; after half of the iterations the deviation stays as it is. See ``nobs_clipped``
        and ``clipped(frame)``. The first fit has all rows: outliers that bend it, many of them
        or far out in a predictor, can hide.
    clip_iterations : int, optional
        How often a group is fitted again at most, by default 20. One that is not stable then is
        ``not_converged`` and keeps the numbers of its last fit.
    loss : {"squared", "huber", "bisquare", "absolute"}
        What is minimised, of sqrt(w) times the residuals. "huber": squares that go over into
        absolute values beyond ``tuning`` standard deviations, as statsmodels' ``RLM``: survives
        outliers in a target. "bisquare", Tukey's: rows beyond ``tuning`` count for nothing; in groups
        of at least 5 rows per coefficient it starts from a fit of least trimmed squares, and so survives
        30 % of outliers, those far out in a predictor too, however far (of groups of 30 rows none of
        6,000 was bent, of groups with 5 rows per coefficient up to 1 in 100); others start from least
        squares, as ``RLM`` does. Where rows beyond about 2000 times the size of the rest of a
        predictor are left out there are no errors (flag ``no_robust_errors``): in ``RLM``'s they would
        count in full. Of minima that are equally deep (two rows, one of which is an outlier) backends may
        find another one. The standard deviation is 1.4826 times the median of sqrt(w) |residual|.
        "absolute": least absolute deviations, or another ``quantile``, as statsmodels' ``QuantReg``
        (``vcov="iid"``), one of the minima where there are several, as with an even number of rows and no
        predictors: backends, and rows in another order, may then give another one. Errors are normal; see
        `GroupFit.scale`. Groups whose predictors are dependent need ``on_collinear="drop"``. Goes
        with ``cov_type="classical"`` only.
    tuning : float, optional
        Of "huber", default 1.345, and "bisquare", default 4.685; at least 0.001: below, "huber" would
        be "absolute" to all purposes.
    quantile : float, optional
        Of "absolute", between 0 and 1; default 0.5, the median.
    maxiter : int, optional
        Iterations at most, default 500, of all losses but "squared". Groups that need more are
        ``not_converged`` and keep the numbers of the last one.
    ridge : float, sequence or mapping, optional
        Penalty of each predictor: one number for all, one per predictor, or by name (0 for those that
        are not named). What is minimised is sum w r^2 + sum_j ridge_j b_j^2, scikit-learn's
        ``Ridge(alpha=ridge)``; the intercept is never penalised. A ridge is in units of the target
        squared, times weight, over those of the coefficient squared: it is compared with sums, so
        twice the weights or twice the rows take twice the ridge. Predictors with a penalty may
        depend on others, and groups need only as many rows as there are coefficients without.
        Where the penalty alone tells predictors apart and is so small that rounding hides it (less
        than about 1e-12 sum w (x - mean)^2), the group is ``rank_deficient``, without numbers.
        There are no standard errors; `df_resid` is nobs less the trace of the hat matrix.
    ridge_standardize : bool
        Whether each predictor is measured in its standard deviation within the group,
        sqrt(sum w (x - mean)^2 / sum w) (about 0 without intercept), for the penalty, which is
        then ridge_j sd_j^2 b_j^2. Coefficients stay in the units of the data. A predictor that is
        constant in a group has no penalty there and the slope 0, or the bound nearest to it, unless the
        intercept is held at one of its bounds: then it is what is left to move the fit.
    bounds : pair or mapping, optional
        Lowest and highest value of coefficients: ``(low, high)`` for those of all predictors, but not
        for the intercept, or by name, also of ``"Intercept"``; None is open. ``(0, None)`` is
        non-negative least squares. Coefficients at a bound are exactly there, see `at_bound`;
        the others fit best given these. There are no standard errors; `df_resid` is nobs less the
        number of coefficients at no bound. Groups whose predictors are dependent have no numbers,
        unless the later ones are dropped and their bounds allow the 0 that they then have, or ``ridge``
        tells them apart; nor have those whose plain fit breaks the bounds and whose predictors are
        nearly so (1 - R2 below about 1e-12): they are ``not_converged``.
    mad : bool, optional
        Whether the median absolute deviation of the residuals is computed; by default it is,
        except with frequency weights, for which it cannot be.
    sort, observed, dropna : bool
        As in `DataFrame.groupby`.
    fallback : "parent", or list of lists of keys, optional
        Parents of the groups that cannot be fitted: coarser groups, by some of the keys, in the order
        in which they are tried. ``[["sector", "row"], ["sector"], []]`` ends with all rows together
        and is what "parent" means if ``by`` has one more key. Keys without a name go by number. Each
        parent is a fit with all these options, of all rows that have a key, those of small groups
        too. Rows of a group that is ``too_few_rows``, ``no_data``, ``rank_deficient`` (unless
        ``on_collinear="drop"``), ``not_converged`` or ``overflow`` and rows of groups the fit has
        not seen are predicted by the first parent that could be fitted. Coefficients and errors
        stay those of the group, NaN, and so do ``clipped`` and ``durbin_watson``; its status is
        ``fallback``. See `GroupFit.fallbacks`, ``parents`` and ``predict(source=True)``.
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
        The call does not fit the frame. Raised before any work is done, but for keys that
        cannot be hashed or grouped, which only grouping finds.
    WeightsError
        A weight of a row with a key that ``where`` selects is negative, missing or infinite, or is to be
        a count and is not a whole number.
    MissingDataError, CollinearityError
        As asked for by ``missing`` and ``on_collinear``; the first also of a row without cluster.
    MissingExtraError
        A formula, a backend or a progress bar needs a package that is not installed.
    GbregWorkerError
        A worker process of ``backend="loky"`` died.

    Warns
    -----
    GbregWarning
        Once, with counts by reason, if groups could not be fitted, if there are none because no row has a
        key or ``where`` selects none, if no group has errors, or if keys are floats beyond 2**53. Before
        that, for each Series in ``by``, or that a callable made, that lacks rows of the frame.

    Examples
    --------
    >>> import pandas as pd, gbreg
    >>> df = pd.DataFrame({"g": [1, 1, 1, 2, 2, 2], "x": [0, 1, 2, 0, 1, 2.0], "y": [1, 3, 5, 0, 1, 5.0]})
    >>> fit = gbreg.fit(df, by="g", linear=["x"], targets=["y"], backend="numpy")
    >>> fit.params["y"].to_dict()
    {'Intercept': {1: 1.0, 2: -0.5}, 'x': {1: 2.0, 2: 2.5}}
    >>> gbreg.fit(df, "y ~ x - 1 | g", backend="numpy").params["y"].to_dict()
    {'x': {1: 2.6, 2: 2.2}}
    """
    check_frame(frame)
    if formula is not None:
        check_alone(formula, linear=linear, targets=targets)
        terms = read_formula(formula, frame)
        linear, targets = terms.linear, terms.targets
        if terms.by is not None:
            check_alone(formula, by=by, level=level)
            by = terms.by
        check_bool("intercept", intercept)
        if terms.intercept and not intercept:
            raise SpecError(f"intercept=False was given beside formula {formula!r}; write - 1 in it")
        intercept = terms.intercept
    layout = by if isinstance(by, GroupLayout) else None
    if layout is None:
        grouping = Grouping(by=by, level=level, sort=sort, observed=observed, dropna=dropna)
        grouping = with_values(frame, grouping)
    else:
        grouping = reused_grouping(layout, frame, level=level, sort=sort, observed=observed, dropna=dropna)
    predictors = tuple(column.seen(frame) for column in as_columns(linear, "linear"))
    names = [column.name for column in predictors]
    penalties = read_ridge(ridge, names)
    options = fit_options(
        len(predictors),
        intercept=intercept,
        min_nobs=min_nobs,
        precision=precision,
        on_collinear=on_collinear,
        mad=mad,
        weights_type=weights_type,
        n_penalised=sum(value > 0 for value in penalties or ()),
    )
    all_terms = [INTERCEPT, *names] if intercept else names
    limit, rounds = clip_of(clip, clip_iterations)
    spec = FitSpec(
        grouping=grouping,
        linear=predictors,
        targets=tuple(column.seen(frame) for column in as_columns(targets, "targets")),
        weights=described(weights, row_code(weights, frame)),
        options=options,
        missing=missing,
        cov_type=cov_type,
        clip=limit,
        clip_iterations=rounds,
        groups=described(groups),
        weights_type=weights_type,
        loss=loss_of(loss, tuning=tuning, quantile=quantile, maxiter=maxiter),
        ridge=penalties,
        ridge_standardize=ridge_standardize,
        bounds=read_bounds(bounds, all_terms, intercept),
    )
    check_bool("progress", progress)
    engine = get_backend(backend, n_jobs)
    known = grouping.labels if layout is None else layout.keys.names
    if fallback is not None and known is not None:  # else what is wrong is found with the keys
        read_fallback(fallback, known)
    check_names(frame, spec, weights, where, groups, keys=layout is None)
    data = Data.read(frame, spec, weights, where, groups)
    result = _run(frame, data, layout or grouping, spec, engine, fallback, progress)
    if on_collinear == "raise":
        for one in (result, *result.parents.values()):
            raise_if_collinear(one)
    troubles = [failures(result), "" if layout else wide_floats(result.keys)]
    if any(troubles):
        warn("; ".join(filter(None, troubles)))
    return result


def _run(
    frame: pd.DataFrame,
    data: Data,
    groups: GroupLayout | Grouping,
    spec: FitSpec,
    engine: Backend,
    fallback: Any,
    progress: bool,
) -> GroupFit:
    """Group the rows unless they are, fit them and their parents; Ctrl-C ends it."""
    ops = getattr(engine, "rows", NUMPY)
    with ticker(progress, len(frame)) as tick:

        def work() -> GroupFit:
            rows = groups if isinstance(groups, GroupLayout) else make_layout(frame, groups, ops)
            parents = () if fallback is None else read_fallback(fallback, rows.keys.names)
            tick.expect(len(parents) * len(frame))
            fit = fit_rows(data, rows, spec, engine, ops, tick)
            return add_parents(fit, rows, parents, again) if parents else fit

        def again(rows: GroupLayout, spec: FitSpec) -> GroupFit:
            return fit_rows(data, rows, spec, engine, ops, tick)

        # What waits for threads or processes never runs in the main thread: the locks of `threading`
        # and of executors do not outlast a signal between two of their steps.
        again_over_rows = spec.robust or spec.cov_type in ROBUST
        few = INTERRUPTIBLE_PASSES_ROWS if again_over_rows else INTERRUPTIBLE_ROWS
        shared = len(frame) >= few or getattr(engine, "n_jobs", None) not in (None, 1)
        return interruptible(one_pool()(work), tick) if shared else work()


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
        Give it to ``fit(by=layout)`` with the same frame, or one with the same keys in the same rows
        (some are compared).
    """
    check_frame(frame)
    grouping = Grouping(by=by, level=level, sort=sort, observed=observed, dropna=dropna)
    layout = make_layout(frame, with_values(frame, grouping))
    if trouble := wide_floats(layout.keys):
        warn(trouble)
    return layout
