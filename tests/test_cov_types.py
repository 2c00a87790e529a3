# SPDX-License-Identifier: MIT
"""Errors that are known instead of estimated, against statsmodels' "fixed scale" and closed forms."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from frames import random_groups
from scipy import stats

import gbreg
from gbreg import SpecError

CONFIGURATIONS = [(k, intercept) for k in (1, 3) for intercept in (True, False)]


def names(k: int) -> list[str]:
    return [f"x{j}" for j in range(k)]


def weighted_groups(k: int) -> pd.DataFrame:
    return random_groups(40 + k, tuple(names(k)), groups=12, rows=(k + 3, 30))


def fitted(frame: pd.DataFrame, k: int, backend: str = "numpy", **options: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": names(k), "targets": ["y", "v"], "weights": "w", "cov_type": "known"}
    return gbreg.fit(frame, backend=backend, **{**call, **options})


def theirs(rows: pd.DataFrame, k: int, target: str, intercept: bool, **options: Any) -> Any:
    X = rows[names(k)].to_numpy()
    X = sm.add_constant(X, has_constant="add") if intercept else X
    return sm.WLS(rows[target].to_numpy(), X, weights=rows["w"].to_numpy(), hasconst=intercept).fit(**options)


@pytest.mark.parametrize(("k", "intercept"), CONFIGURATIONS)
def test_known_errors_are_those_of_statsmodels(backend: str, k: int, intercept: bool) -> None:
    frame = weighted_groups(k)
    fit = fitted(frame, k, backend, intercept=intercept)
    for target in ("y", "v"):
        frames = {name: getattr(fit, name)[target] for name in ("params", "bse", "tvalues", "pvalues")}
        bounds, cov = fit.conf_int(0.1)[target], fit.cov_params(target)
        for key, rows in frame.groupby("g"):
            want = theirs(rows, k, target, intercept, cov_type="fixed scale")
            assert not want.use_t
            for name, got in frames.items():
                np.testing.assert_allclose(got.loc[key], getattr(want, name), rtol=1e-9, err_msg=name)
            got = bounds.loc[key].to_numpy().reshape(-1, 2)
            np.testing.assert_allclose(got, want.conf_int(0.1), rtol=1e-9, atol=1e-11)
            unit = np.outer(want.bse, want.bse)
            np.testing.assert_allclose(cov.loc[key] / unit, want.cov_params() / unit, atol=1e-9)
            chi2, df = fit.chi2.loc[key, target], want.df_resid
            np.testing.assert_allclose(chi2, want.ssr, rtol=1e-9)
            np.testing.assert_allclose(fit.chi2_pvalue.loc[key, target], stats.chi2.sf(chi2, df), rtol=1e-9)


def test_only_what_depends_on_the_errors_changes(backend: str) -> None:
    frame = weighted_groups(3)
    known, classical = fitted(frame, 3, backend), fitted(frame, 3, backend, cov_type="classical")
    same = "params nobs df_resid ssr scale rms mad rsquared rsquared_adj llf aic bic status".split()
    for name in (*same, "condition_number", "digits", "flags"):
        pd.testing.assert_frame_equal(getattr(known, name), getattr(classical, name), check_exact=True)
    ratio = classical.bse["y"].div(np.sqrt(classical.scale["y"]), axis=0)
    np.testing.assert_allclose(known.bse["y"], ratio, rtol=1e-14)
    quarter = fitted(frame.assign(w=frame["w"] / 4), 3, backend)
    np.testing.assert_array_equal(quarter.bse, 2 * known.bse)  # not only ratios of weights matter
    pd.testing.assert_frame_equal(fitted(frame, 3, backend, cov_type="classical").bse, classical.bse)


def test_saturated_groups_have_known_errors(backend: str) -> None:
    frame = pd.DataFrame({"g": [0, 0, 1, 2, 2, 2], "x0": [1.0, 3, 4, 0, 1, 2], "w": [4.0, 1, 1, 1, 1, 1]})
    frame["y"] = [5.0, 9, 1, 1, 3, 5]
    frame["v"] = [2.0, 2, 1, 1, 2, 4]
    with pytest.warns(gbreg.GbregWarning):
        fit = fitted(frame, 1, backend)
    assert fit.status["y"].tolist() == ["saturated", "too_few_rows", "ok"]
    # slope = (y1 - y0) / 2, intercept = (3 y0 - y1) / 2, with variances 1/4 and 1
    np.testing.assert_allclose(fit.bse.loc[0, "y"], np.sqrt([(9 / 4 + 1) / 4, (1 / 4 + 1) / 4]), rtol=1e-14)
    np.testing.assert_allclose(fit.tvalues.loc[0, ("y", "x0")], 2 / np.sqrt(5 / 16), rtol=1e-14)
    np.testing.assert_allclose(fit.pvalues.loc[0, ("y", "x0")], 2 * stats.norm.sf(2 / np.sqrt(5 / 16)))
    assert fit.conf_int().loc[0].notna().all()
    assert fit.cov_params("y").loc[0].notna().all(axis=None)
    assert fit.chi2.loc[0, "y"] == 0
    assert np.isnan(fit.chi2_pvalue.loc[0, "y"])  # no degrees of freedom
    assert np.isnan(fit.scale.loc[0, "y"])
    assert fit.bse.loc[1].isna().all()  # not fitted
    # a perfect fit has no residuals, which are not needed
    assert fit.flags.loc[2, ("y", "perfect_fit")]
    np.testing.assert_allclose(fit.tvalues.loc[2, ("y", "x0")], 2 * np.sqrt(2), rtol=1e-13)
    assert fit.chi2_pvalue.loc[2, "y"] == pytest.approx(1)


def test_a_constant_target_has_known_errors(backend: str) -> None:
    frame = pd.DataFrame({"g": 0, "x0": [0.0, 1, 2, 3], "w": 1.0, "y": 7.0, "v": 0.0})
    fit = fitted(frame, 1, backend)
    np.testing.assert_allclose(fit.bse.loc[0, ("y", "x0")], 1 / np.sqrt(5), rtol=1e-14)
    assert fit.tvalues.loc[0, ("y", "x0")] == 0
    assert fit.pvalues.loc[0, ("y", "x0")] == 1


@pytest.mark.parametrize("on_collinear", ["nan", "drop"])
def test_dependent_predictors(backend: str, on_collinear: str) -> None:
    frame = weighted_groups(1).assign(x1=5.0)
    with pytest.warns(gbreg.GbregWarning):
        fit = fitted(frame, 2, backend, on_collinear=on_collinear)
    want = fitted(frame, 1, backend).bse
    missing = fit.params.isna().to_numpy()
    assert missing.any()
    np.testing.assert_array_equal(fit.bse.isna(), missing)
    np.testing.assert_allclose(fit.bse["y", "x0"], want["y", "x0"], rtol=1e-12)


def test_tables_carry_known_errors() -> None:
    frame = weighted_groups(1)
    fit, classical = fitted(frame, 1), fitted(frame, 1, cov_type="classical")
    tidy = fit.tidy()
    np.testing.assert_array_equal(tidy["std_error"], fit.bse.to_numpy().ravel())
    np.testing.assert_array_equal(tidy["p_value"], fit.pvalues.to_numpy().ravel())
    width = (tidy["conf_high"] - tidy["conf_low"]) / tidy["std_error"]
    np.testing.assert_allclose(width, 2 * stats.norm.isf(0.025), rtol=1e-9)
    flat = fit.to_frame("_s", stats=["bse", "pvalues", "chi2", "chi2_pvalue"])
    np.testing.assert_array_equal(flat["y_slope_x0_err_s"], fit.bse["y", "x0"])
    np.testing.assert_array_equal(flat["y_slope_x0_pvalue_s"], fit.pvalues["y", "x0"])
    np.testing.assert_array_equal(flat["v_chi2_pvalue_s"], fit.chi2_pvalue["v"])
    glance = fit.glance()
    assert [name for name in glance if name not in classical.glance()] == ["chi2", "chi2_p_value"]
    np.testing.assert_array_equal(glance["chi2"], fit.ssr.to_numpy().ravel())
    np.testing.assert_array_equal(glance["chi2_p_value"], fit.chi2_pvalue.to_numpy().ravel())


def test_the_display_says_what_weights_are() -> None:
    frame = weighted_groups(1)
    fit, classical = fitted(frame, 1), fitted(frame, 1, cov_type="classical")
    assert "weights w (1/sigma^2)" in repr(fit)
    assert f"± {fit.bse.iloc[0, 0]:.2g}" in repr(fit)
    assert "1/sigma^2" not in repr(classical)
    one, other = repr(fit.group(3)), repr(classical.group(3))
    for text in ("P>|z|", f"{fit.chi2.loc[3, 'y']:#.4g}", f"{fit.chi2_pvalue.loc[3, 'v']:#.3g}", "Chi2:"):
        assert text in one
    assert f"{fit.bse.loc[3, ('y', 'x0')]:.3f}" in one
    assert "P>|t|" in other
    assert "Chi2" not in other
    assert "P&gt;|z|" in fit.group(3)._repr_html_()


def test_storage_keeps_it_and_reads_files_from_before(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    want = fitted(weighted_groups(1), 1)
    path = tmp_path / "fit.parquet"
    want.to_parquet(path)
    for got in (gbreg.read_parquet(path), pickle.loads(pickle.dumps(want))):
        assert got.spec == want.spec
        pd.testing.assert_frame_equal(got.tidy(), want.tidy(), check_exact=True)
        pd.testing.assert_frame_equal(got.chi2_pvalue, want.chi2_pvalue, check_exact=True)
    classical = fitted(weighted_groups(1), 1, cov_type="classical")
    classical.to_parquet(path)
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"gbreg"])
    del facts["cov_type"]
    before = {**table.schema.metadata, b"gbreg": json.dumps(facts).encode()}
    pq.write_table(table.replace_schema_metadata(before), path)
    assert gbreg.read_parquet(path).spec == classical.spec


def test_wrong_covariances() -> None:
    frame = weighted_groups(1)
    with pytest.raises(SpecError, match=r"cov_type must be one of \['classical', 'known', .*\], got 'HC4'"):
        fitted(frame, 1, cov_type="HC4")
    with pytest.raises(SpecError, match="got 'knwon'; did you mean 'known'"):
        fitted(frame, 1, cov_type="knwon")
    with pytest.raises(SpecError, match=r'cov_type="known" takes weights= for exactly 1/sigma\^2'):
        fitted(frame, 1, weights=None)
    classical = fitted(frame, 1, cov_type="classical")
    for name in ("chi2", "chi2_pvalue"):
        with pytest.raises(SpecError, match=f"{name} needs cov_type='known', this fit has 'classical'"):
            getattr(classical, name)
    with pytest.raises(SpecError, match="chi2 needs cov_type='known'"):
        classical.to_frame(stats=["chi2"])


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_errors_that_are_zero_by_construction_are_none(backend: str, offset: float) -> None:
    """statsmodels gives rounding noise: t values of 1e16."""
    alone = pd.DataFrame(
        {"g": 0, "x": [0.0, 1, 1, 1], "y": np.array([0.1, 0.2, 0.7, 0.4]) + offset, "c": [0, 1, 2, 3]}
    )
    pair = pd.DataFrame(
        {"g": 0, "x": [0.0, 0, 0, 1, 1, 1], "y": np.array([0.13, 0.2, 0.7, 0.4, 0.6, 0.7]) + offset}
    )
    pair["c"] = pair["x"]
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "backend": backend}
    asked = [(alone, {"cov_type": kind}) for kind in ("HC0", "HC1", "HC2", "HC3")]
    asked += [(frame, {"cov_type": "cluster", "groups": "c"}) for frame in (alone, pair)]
    for frame, errors in asked:
        with pytest.warns(gbreg.GbregWarning, match="^no group has errors"):
            fit = gbreg.fit(frame, **call, **errors)
        assert fit.bse.isna().all(axis=None)
        assert fit.flags["y", "no_robust_errors"].all()
        assert fit.params.notna().all(axis=None)
    pair["c"] = [0, 1, 2, 0, 1, 2]
    assert gbreg.fit(pair, **call, cov_type="cluster", groups="c").bse.notna().all(axis=None)
