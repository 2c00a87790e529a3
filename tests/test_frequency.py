# SPDX-License-Identifier: MIT
"""Weights that are counts: every number is that of repeated rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from frames import random_groups

import gbreg
from gbreg import SpecError, WeightsError

CONFIGURATIONS = [(k, intercept) for k in (0, 1, 3) for intercept in (True, False) if k or intercept]
OPTIONS = {"by": "g", "targets": ["y"], "weights": "w", "weights_type": "frequency"}
PER_TARGET = ["nobs", "df_resid", "ssr", "scale", "rsquared", "rsquared_adj", "llf", "aic", "bic"]
EVERY = ["params", "bse", "tvalues", "pvalues", *PER_TARGET, "rms", "condition_number", "digits"]


def counted_groups(k: int) -> pd.DataFrame:
    """With counts of 0 to 3."""
    frame = random_groups(60 + k, tuple(f"x{j}" for j in range(k)), rows=(2 * k + 8, 30))
    return frame.assign(w=frame["n"] - 1)


def repeated(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.loc[frame.index.repeat(frame["w"])].reset_index(drop=True)


def near(got: Any, want: Any, what: str) -> None:
    atol = 1e-13 if what.startswith("rsquared") else 0
    np.testing.assert_allclose(np.asarray(got, dtype=float), want, rtol=1e-9, atol=atol, err_msg=what)


@pytest.mark.parametrize(("k", "intercept"), CONFIGURATIONS)
def test_numbers_are_those_of_repeated_rows(backend: str, k: int, intercept: bool) -> None:
    frame = counted_groups(k)
    names = [f"x{j}" for j in range(k)]
    options = {"by": "g", "linear": names, "targets": ["y"], "intercept": intercept, "backend": backend}
    fit = gbreg.fit(frame, weights="w", weights_type="frequency", **options)
    same = gbreg.fit(repeated(frame), mad=False, **options)
    assert (fit.status["y"] == "ok").all()
    for name in EVERY:
        near(getattr(fit, name), getattr(same, name), name)
    near(fit.cov_params("y"), same.cov_params("y"), "cov_params")
    near(fit.conf_int(0.2), same.conf_int(0.2), "conf_int")
    near(fit.durbin_watson(frame), same.durbin_watson(repeated(frame)), "durbin_watson")
    assert fit.nobs.dtypes.tolist() == ["int64"]
    for key, rows in repeated(frame).groupby("g"):
        X = rows[names].to_numpy()
        X = np.column_stack([np.ones(len(rows)), X]) if intercept else X
        want = sm.OLS(rows["y"].to_numpy(), X, hasconst=intercept).fit()
        for name in ("params", "bse", "tvalues", "pvalues"):
            near(getattr(fit, name).loc[key, "y"], getattr(want, name), name)
        for name in PER_TARGET:
            near(getattr(fit, name).loc[key, "y"], getattr(want, name), name)


def test_they_are_those_of_a_glm_with_freq_weights() -> None:
    frame = counted_groups(1)
    fit = gbreg.fit(frame, linear=["x0"], backend="numpy", **OPTIONS)
    for key, rows in frame.groupby("g"):
        X = sm.add_constant(rows[["x0"]])
        want = sm.GLM(rows["y"], X, freq_weights=rows["w"]).fit()
        near(fit.params.loc[key, "y"], want.params, "params")
        near(fit.bse.loc[key, "y"], want.bse, "bse")
        near(fit.scale.loc[key, "y"], want.scale, "scale")
        near(fit.df_resid.loc[key, "y"], want.df_resid, "df_resid")


def test_targets_with_their_own_rows(backend: str) -> None:
    frame = counted_groups(1)
    frame["v"] = frame["y"].where(frame.index % 3 != 0, np.nan) * 2
    frame.loc[frame["g"] == 4, "v"] = np.nan
    options = {"by": "g", "linear": ["x0"], "targets": ["y", "v"], "backend": backend}
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, weights="w", weights_type="frequency", **options)
    with pytest.warns(gbreg.GbregWarning):
        same = gbreg.fit(repeated(frame), mad=False, **options)
    assert fit.nobs.to_dict() == same.nobs.to_dict()
    assert fit.nobs.loc[4].tolist() == [frame.loc[frame["g"] == 4, "w"].sum(), 0]
    for name in ("bse", "llf", "bic", "rsquared_adj"):
        near(getattr(fit, name), getattr(same, name), name)


def test_the_accounting_is_of_rows(backend: str) -> None:
    frame = counted_groups(1)
    fit = gbreg.fit(frame, linear=["x0"], backend=backend, **OPTIONS)
    counts = fit.accounting(per_group=True)["y"]
    positive = frame[frame["w"] > 0]
    assert counts["used"].tolist() == positive.groupby("g").size().tolist()
    assert counts["rows"].tolist() == frame.groupby("g").size().tolist()
    assert fit.nobs["y"].tolist() == positive.groupby("g")["w"].sum().tolist()
    assert fit.glance()["nobs"].tolist() == fit.nobs["y"].tolist()
    assert f"{len(positive):,} of {len(frame):,} rows used" in repr(fit)
    assert "weights w (counts)" in repr(fit)
    assert " w (counts)" in repr(fit.group(3))


def test_as_many_rows_as_coefficients_but_more_counts(backend: str) -> None:
    """What repeated rows are: a perfect fit, not a saturated one."""
    frame = pd.DataFrame(
        {"g": [0, 0, 1, 1, 2, 3, 3], "x0": [1.0, 3, 1, 3, 0, 1, 2], "w": [1, 1, 3, 2, 5, 1, 1]}
    )
    frame["y"] = [2.0, 5, 2, 5, 1, 4, 4]
    with pytest.warns(gbreg.GbregWarning, match="1 too_few_rows"):
        fit = gbreg.fit(frame, linear=["x0"], backend=backend, **OPTIONS)
    assert fit.status["y"].tolist() == ["saturated", "ok", "too_few_rows", "saturated"]
    assert fit.nobs["y"].tolist() == [2, 5, 5, 2]
    rows = repeated(frame[frame["g"] == 1])
    same = gbreg.fit(rows, by="g", linear=["x0"], targets=["y"], mad=False, backend=backend)
    pd.testing.assert_series_equal(fit.status.loc[1], same.status.loc[1])
    pd.testing.assert_series_equal(
        fit.flags.loc[1].drop("extended", level=1), same.flags.loc[1].drop("extended", level=1)
    )
    near(fit.params.loc[1], same.params.loc[1], "params")
    assert fit.df_resid.loc[1, "y"] == 3
    for name in ("tvalues", "pvalues", "llf"):
        assert getattr(fit, name).loc[1].isna().all()
        assert getattr(same, name).loc[1].isna().all()
    assert (fit.bse.loc[1] < 1e-14).all()
    assert fit.bse.loc[0].isna().all()
    means = gbreg.fit(frame[frame["g"] == 2], linear=[], backend=backend, **OPTIONS)
    assert means.status["y"].tolist() == ["ok"]
    assert means.bse.iloc[0, 0] == 0


def test_ones_are_no_weights(backend: str) -> None:
    frame = counted_groups(1).assign(w=1)
    fit = gbreg.fit(frame, linear=["x0"], backend=backend, **OPTIONS)
    plain = gbreg.fit(frame, by="g", linear=["x0"], targets=["y"], mad=False, backend=backend)
    for name in (*EVERY, "status", "flags"):
        pd.testing.assert_frame_equal(getattr(fit, name), getattr(plain, name), check_exact=True)


@pytest.mark.parametrize(
    ("bad", "text"), [(1.5, "first 1.5"), (0.25, "first 0.25"), (1e-300, "first 1e-300")]
)
def test_what_is_no_count_is_refused_by_row(backend: str, bad: float, text: str) -> None:
    frame = counted_groups(1).astype({"w": float}).rename(index=lambda i: f"row{i}")
    frame.loc["row7", "w"] = bad
    frame.loc["row9", "w"] = 2.5
    match = f"weights 'w' must be whole numbers to be counts: 2 rows.*{text} at 'row7'"
    with pytest.raises(WeightsError, match=match):
        gbreg.fit(frame, linear=["x0"], backend=backend, **OPTIONS)
    chosen = ~frame.index.isin(["row7", "row9"])  # rows that are not selected may have any weight
    assert gbreg.fit(frame, linear=["x0"], backend=backend, where=chosen, **OPTIONS).n_groups == 10


def test_negative_missing_and_endless_counts_are_refused() -> None:
    frame = counted_groups(1).astype({"w": float})
    for bad in (-1.0, np.nan, np.inf):
        frame.loc[5, "w"] = bad
        with pytest.raises(WeightsError, match=f"must be finite and not negative: 1 rows.*first {bad} at 5"):
            gbreg.fit(frame, linear=["x0"], backend="numpy", **OPTIONS)
    frame.loc[frame["g"] == 3, "w"] = 2.0**52
    with pytest.raises(WeightsError, match=r"the counts of group 3 add up to 2\*\*53 or more"):
        gbreg.fit(frame.drop(index=5), linear=["x0"], backend="numpy", **OPTIONS)


def test_mad_of_repeated_rows_is_refused() -> None:
    frame = counted_groups(1)
    with pytest.raises(SpecError, match='weights_type="frequency" takes mad=False'):
        gbreg.fit(frame, linear=["x0"], mad=True, backend="numpy", **OPTIONS)
    fit = gbreg.fit(frame, linear=["x0"], mad=False, backend="numpy", **OPTIONS)
    with pytest.raises(SpecError, match='mad is not computed with weights_type="frequency"'):
        _ = fit.mad
    assert "y_mad" not in fit.to_frame()
    assert fit.glance()["mad"].isna().all()


def test_wrong_kinds_of_weights() -> None:
    def fit(**options: Any) -> None:
        gbreg.fit(counted_groups(1), linear=["x0"], backend="numpy", **{**OPTIONS, **options})

    with pytest.raises(
        SpecError, match=r"weights_type must be one of \['analytic', 'frequency'\], got 'count'"
    ):
        fit(weights_type="count")
    with pytest.raises(SpecError, match="got 'freqency'; did you mean 'frequency'"):
        fit(weights_type="freqency")
    with pytest.raises(SpecError, match='weights_type="frequency" takes weights= for counts, got no weights'):
        fit(weights=None)
    with pytest.raises(SpecError, match='weights_type="frequency" and cov_type="known"'):
        fit(cov_type="known")


def test_storage_keeps_the_kind(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    want = gbreg.fit(counted_groups(1), linear=["x0"], backend="numpy", **OPTIONS)
    want.to_parquet(tmp_path / "fit.parquet")
    got = gbreg.read_parquet(tmp_path / "fit.parquet")
    assert got.spec == want.spec
    pd.testing.assert_frame_equal(got.glance(), want.glance(), check_exact=True)
    pd.testing.assert_frame_equal(got.tidy(), want.tidy(), check_exact=True)


def test_counts_that_float64_cannot_add_up_are_refused() -> None:
    frame = pd.DataFrame({"g": 0, "y": [1.0, 2.0, 3.0, 4.0], "n": [2.0**53, 1, 1, 1]})
    call = {"by": "g", "linear": [], "targets": ["y"], "weights": "n", "weights_type": "frequency"}
    with pytest.raises(WeightsError, match=r"group 0 add up to 2\*\*53 or more"):
        gbreg.fit(frame, **call, backend="numpy")
    most = frame.assign(n=[2.0**53 - 4, 1, 1, 1])
    assert gbreg.fit(most, **call, backend="numpy").nobs.iloc[0, 0] == 2**53 - 1
