# SPDX-License-Identifier: MIT
"""Coefficients, errors and statistics against R's ``lm``, frozen in ``data/r_lm``: bar 1e-10.

They differ by 4e-12 at most, except in groups of kind "offset", whose predictors lie hundreds to
thousands of standard deviations from 0: by 3e-11, and one slope near 0 by 9e-10. That is R's error,
of QR in float64: held against exact arithmetic, gbreg's is below 1e-12 in all of them.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import gbreg

FOLDER = Path(__file__).parent / "data" / "r_lm"
BAR = 1e-10
PER_TERM = ("params", "bse", "tvalues", "pvalues")
PER_GROUP = ("nobs", "df_resid", "sigma", "rsquared", "rsquared_adj", "fvalue", "f_pvalue")


@cache
def frozen(name: str) -> pd.DataFrame:
    """A row per row or group; floats are the nearest to the printed decimals."""
    text = pd.read_csv(FOLDER / name, comment="#", dtype=str)
    return text.astype({column: float for column in text if column != "kind"})


def expected(groups: pd.Index, p: int) -> tuple[pd.DataFrame, list[str]]:
    """What R says, with NaN where gbreg has no number by its own rules, and the statuses this comes to."""
    want = frozen("lm.csv").set_index("group").loc[groups]
    few = want["nobs"] < p
    # R fits as many coefficients as there are rows and drops the others; gbreg does not fit such groups
    want.loc[few, want.columns != "nobs"] = np.nan
    causes = {
        "too_few_rows": few,
        "rank_deficient": want.filter(like="params_").count(axis=1) < p,
        "saturated": want["df_resid"] == 0,
    }
    return want, list(np.select(list(causes.values()), list(causes), "ok"))


def assert_near(got, want, unit) -> None:
    """Within the bar, relative to the value plus the unit that digits of values near 0 are counted from."""
    got, want = np.asarray(got, dtype=float), np.asarray(want)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    off = np.abs(got - want) > BAR * (np.abs(want) + unit)
    assert not off.any(), (got[off], want[off])


@pytest.mark.filterwarnings("ignore::gbreg.GbregWarning")  # statuses are compared
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_lm(backend, k, intercept, weighted):
    rows = frozen("rows.csv")
    rows = rows[(rows["k"] == k) & (rows["intercept"] == intercept) & (rows["w"].notna() == weighted)]
    fit = gbreg.fit(
        rows,
        by="group",
        linear=[f"x{j + 1}" for j in range(k)],
        targets=["y"],
        weights="w" if weighted else None,
        intercept=intercept,
        on_collinear="drop",
        backend=backend,
    )
    want, status = expected(fit.keys, len(fit.terms))
    assert list(fit.status["y"]) == status

    # a slope of a thousandth of its error has the digits of the error: of one in "offset" R has 9 in all
    far = fit.keys.isin(rows.loc[rows["kind"] == "offset", "group"])[:, None]
    errors = want[[f"bse_{term}" for term in fit.terms]]
    # R2 near 0 is 1 less a number near 1: it has the digits of 1
    units = {"params": np.where(far, errors, 0), "tvalues": far, "rsquared": 1e-3, "rsquared_adj": 1e-3}
    for name in PER_TERM:
        wanted = want[[f"{name}_{term}" for term in fit.terms]]
        assert_near(getattr(fit, name)["y"], wanted, units.get(name, 0))
    for name in PER_GROUP:
        got = np.sqrt(fit.scale["y"]) if name == "sigma" else getattr(fit, name)["y"]
        assert_near(got, want[name], units.get(name, 0))
