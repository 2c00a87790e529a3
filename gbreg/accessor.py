# SPDX-License-Identifier: MIT
"""``df.gbreg``: connects, decides nothing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from gbreg import regression
from gbreg.backends import Backend
from gbreg.layout import GroupLayout
from gbreg.problem import CovType, LossName
from gbreg.result import GroupFit
from gbreg.spec import Missing, OnCollinear, Precision, WeightsType
from gbreg.suggest import names_options


@pd.api.extensions.register_dataframe_accessor("gbreg")
class GbregAccessor:
    """Grouped regressions of a frame; see `gbreg.fit` and `gbreg.group`."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    @names_options
    def fit(
        self,
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
        return regression.fit(
            self._frame,
            formula=formula,
            linear=linear,
            targets=targets,
            by=by,
            level=level,
            weights=weights,
            weights_type=weights_type,
            cov_type=cov_type,
            groups=groups,
            backend=backend,
            intercept=intercept,
            min_nobs=min_nobs,
            missing=missing,
            where=where,
            precision=precision,
            on_collinear=on_collinear,
            clip=clip,
            clip_iterations=clip_iterations,
            loss=loss,
            tuning=tuning,
            quantile=quantile,
            maxiter=maxiter,
            ridge=ridge,
            ridge_standardize=ridge_standardize,
            bounds=bounds,
            mad=mad,
            sort=sort,
            observed=observed,
            dropna=dropna,
            fallback=fallback,
            n_jobs=n_jobs,
            progress=progress,
        )

    def group(
        self,
        *,
        by: Any = None,
        level: Any = None,
        sort: bool = True,
        observed: bool = True,
        dropna: bool = True,
    ) -> GroupLayout:
        return regression.group(self._frame, by=by, level=level, sort=sort, observed=observed, dropna=dropna)

    fit.__doc__ = regression.fit.__doc__
    group.__doc__ = regression.group.__doc__
