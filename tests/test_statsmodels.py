# SPDX-License-Identifier: MIT
"""Every number of a fit against statsmodels' WLS, one group at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import gbreg  # noqa: F401, registers the accessor

N_GROUPS = 200
PER_TARGET = ("rsquared", "rsquared_adj", "scale", "ssr", "df_resid", "nobs", "llf", "aic", "bic")
CONFIGURATIONS = [
    (k, weighted, intercept) for k in (1, 2, 3) for weighted in (True, False) for intercept in (True, False)
]


@dataclass
class Reference:
    """A frame of random groups and what statsmodels says of each."""

    frame: pd.DataFrame
    call: dict
    fits: list


@cache
def reference(k: int, weighted: bool, intercept: bool, n_groups: int) -> Reference:
    rng = np.random.default_rng([k, weighted, intercept])
    sizes = rng.integers(max(4, k + 2), 61, n_groups)
    key = rng.permutation(np.repeat(rng.permutation(10 * n_groups)[:n_groups], sizes))
    frame = pd.DataFrame({"key": key})
    names = [f"x{j}" for j in range(k)]
    for name in names:
        frame[name] = rng.normal(loc=rng.normal(scale=2), size=len(key))
    frame["y"] = 3 + frame[names].sum(axis=1) * rng.normal(size=len(key)) + rng.normal(size=len(key))
    frame["w"] = rng.uniform(0.2, 5, len(key)) if weighted else 1.0
    fits = []
    for _, rows in frame.groupby("key"):
        X = rows[names].to_numpy()
        X = sm.add_constant(X, has_constant="add") if intercept else X
        fits.append(sm.WLS(rows["y"].to_numpy(), X, weights=rows["w"].to_numpy(), hasconst=intercept).fit())
    call = {"by": "key", "linear": names, "targets": ["y"], "intercept": intercept}
    if weighted:
        call["weights"] = "w"
    return Reference(frame, call, fits)


def assert_matches_statsmodels(backend: str, ref: Reference) -> None:
    fit = ref.frame.gbreg.fit(**ref.call, backend=backend)
    assert list(fit.keys) == sorted(set(ref.frame["key"]))
    assert (fit.status["y"] == "ok").all()

    def near(got, want, what: str) -> None:
        # R2 near 0 is 1 less a number near 1: it has the digits of 1
        atol = 1e-13 if what.startswith("rsquared") else 0
        np.testing.assert_allclose(np.asarray(got, dtype=float), want, rtol=1e-9, atol=atol, err_msg=what)

    for name in ("params", "bse", "tvalues", "pvalues"):
        near(getattr(fit, name)["y"], [getattr(want, name) for want in ref.fits], name)
    for name in PER_TARGET:
        near(getattr(fit, name)["y"], [getattr(want, name) for want in ref.fits], name)
    for alpha in (0.05, 0.32):
        bounds = fit.conf_int(alpha)["y"].to_numpy().reshape(len(fit), -1, 2)
        near(bounds, [want.conf_int(alpha) for want in ref.fits], f"conf_int({alpha})")
    p = len(fit.terms)
    cov = fit.cov_params("y").to_numpy().reshape(len(fit), p, p)
    wanted = np.array([want.cov_params() for want in ref.fits])
    # a covariance near 0 has no relative digits: it counts in the product of the two errors
    unit = np.sqrt(np.einsum("gi,gj->gij", *[np.einsum("gii->gi", wanted)] * 2))
    assert (np.abs(cov - wanted) <= 1e-9 * unit).all()


@pytest.mark.compiled
@pytest.mark.parametrize(("k", "weighted", "intercept"), CONFIGURATIONS)
def test_200_random_groups(backend, k, weighted, intercept):
    assert_matches_statsmodels(backend, reference(k, weighted, intercept, N_GROUPS))


@pytest.mark.parametrize(
    ("k", "weighted", "intercept"), [(1, False, True), (2, True, True), (2, True, False)]
)
def test_a_few_random_groups(backend, k, weighted, intercept):
    assert_matches_statsmodels(backend, reference(k, weighted, intercept, 8))


@pytest.mark.parametrize("intercept", [True, False])
def test_condition_number(backend, intercept):
    ref = reference(2, True, intercept, 8)
    got = ref.frame.gbreg.fit(**ref.call, backend=backend).condition_number["y"]
    np.testing.assert_allclose(got, [want.condition_number for want in ref.fits], rtol=1e-9)
