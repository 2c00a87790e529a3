# SPDX-License-Identifier: MIT
"""Tests of hypotheses per group, against statsmodels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import gbreg
from gbreg import SpecError, inference

KINDS: dict[str, dict[str, Any]] = {
    "weighted": {"weights": "w"},
    "unweighted": {},
    "through zero": {"weights": "w", "intercept": False},
    "counts": {"weights": "n", "weights_type": "frequency"},
}


@cache
def random_groups() -> pd.DataFrame:
    """Twelve unbalanced groups, shuffled."""
    rng = np.random.default_rng(80)
    sizes = rng.integers(6, 30, 12)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": rng.permutation(np.repeat(np.arange(12), sizes))})
    frame["x"] = rng.normal(3, 2, n)
    frame["z"] = 0.4 * frame["x"] + rng.normal(-1, 0.7, n)
    frame["u"] = rng.normal(size=n)
    frame["w"] = rng.uniform(0.2, 9, n)
    frame["n"] = rng.integers(1, 5, n)
    frame["y"] = 1 + 0.3 * frame["x"] + 0.2 * frame["z"] + rng.normal(size=n)
    frame["v"] = 100 + 5 * frame["u"] + rng.normal(size=n)
    return frame


def fitted(kind: str, backend: str = "numpy", **options: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": ["x", "z", "u"], "targets": ["y", "v"]}
    return gbreg.fit(random_groups(), backend=backend, **{**call, **KINDS[kind], **options})


def theirs(kind: str, rows: pd.DataFrame, target: str, linear: list[str], **options: Any) -> Any:
    intercept = KINDS[kind].get("intercept", True)
    if kind == "counts":
        rows = rows.loc[rows.index.repeat(rows["n"])]
    X = rows[linear].to_numpy()
    X = sm.add_constant(X, has_constant="add") if intercept else X
    weights = rows["w"].to_numpy() if "w" in KINDS[kind].values() else np.ones(len(rows))
    return sm.WLS(rows[target].to_numpy(), X, weights=weights, hasconst=intercept).fit(**options)


@pytest.mark.parametrize("kind", KINDS)
def test_fvalues_are_those_of_statsmodels(backend: str, kind: str) -> None:
    fit = fitted(kind, backend)
    f, p = fit.fvalue, fit.f_pvalue
    for key, rows in random_groups().groupby("g"):
        for target in ("y", "v"):
            want = theirs(kind, rows, target, ["x", "z", "u"])
            np.testing.assert_allclose(f.loc[key, target], want.fvalue, rtol=1e-8)
            np.testing.assert_allclose(p.loc[key, target], want.f_pvalue, rtol=1e-8)
    flat = fit.to_frame(stats=["fvalue", "f_pvalue"])
    np.testing.assert_array_equal(flat["v_f_pvalue"], p["v"])


def test_f_of_one_slope_is_t_squared() -> None:
    fit = fitted("weighted", linear=["x"])
    np.testing.assert_allclose(fit.fvalue["y"], fit.tvalues["y", "x"] ** 2, rtol=1e-10)
    np.testing.assert_allclose(fit.f_pvalue["y"], fit.pvalues["y", "x"], rtol=1e-10)


def test_groups_without_f() -> None:
    frame = pd.DataFrame({"g": [0, 0, 1, 1, 1, 1, 2, 2, 2, 3], "x": [0.0, 1, 0, 1, 2, 4, 0, 1, 2, 5]})
    frame["y"] = [1.0, 2, 1, 3, 5, 9, 7, 7, 7, 1]  # saturated, perfect, constant, too few rows
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], backend="numpy")
    assert fit.fvalue["y"].isna().all()
    assert fit.f_pvalue["y"].isna().all()
    means = fitted("weighted", linear=[])
    assert means.fvalue.isna().all(axis=None)
    one = np.ones((1, 1))
    assert np.isnan(inference.fvalue(1e-200 * one, 1e200 * one, one, one, one < 0))
    assert inference.fvalue(one, one * (1 - 2**-53), one, one, one < 0) == 0


def test_rank_deficient_groups_have_the_f_of_the_others() -> None:
    frame = random_groups().assign(c=lambda d: d["x"] - d["z"])
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, by="g", linear=["x", "z", "c"], targets=["y"], backend="numpy")
    want = fitted("unweighted", linear=["x", "z"])
    np.testing.assert_allclose(fit.fvalue["y"], want.fvalue["y"], rtol=1e-9)
    np.testing.assert_allclose(fit.f_pvalue["y"], want.f_pvalue["y"], rtol=1e-9)


def test_known_errors_have_no_f() -> None:
    fit = fitted("weighted", cov_type="known")
    for name in ("fvalue", "f_pvalue"):
        with pytest.raises(SpecError, match=f"{name} needs cov_type='classical', this fit has 'known'"):
            getattr(fit, name)
