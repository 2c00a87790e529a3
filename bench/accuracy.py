# SPDX-License-Identifier: MIT
"""Digits that gbreg and others get right on NIST's sets; rewrites ``docs/accuracy.md``.

``python bench/accuracy.py``. Every tool is given the same float64 columns and compared
with the exact answer for those columns.
"""

from __future__ import annotations

import argparse
import platform
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import sklearn
import statsmodels
import statsmodels.api as sm
from nist import digits, group_sets, hide, regression_sets, score
from sklearn.linear_model import LinearRegression

import gbreg

PAGE = Path(__file__).parents[1] / "docs" / "accuracy.md"
BACKENDS = ["numba", "numpy", "loky"]
HIDING_GROUPS = 100_000


def of_gbreg(which, frame, key, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)
        fit = frame.gbreg.fit(
            by="g", linear=which.predictors, targets=["y"], intercept=which.intercept, **options
        )
    return score(
        which,
        fit.params["y"].loc[key].to_numpy(),
        fit.bse["y"].loc[key].to_numpy(),
        float(np.sqrt(fit.scale.loc[key, "y"])),
    )


def design(which):
    X = which.frame[which.predictors].to_numpy()
    return np.column_stack([np.ones(len(X)), X]) if which.intercept else X


def of_lstsq(which):
    X, y = design(which), which.frame["y"].to_numpy()
    coef = np.linalg.lstsq(X, y, rcond=None)[0]
    return score(which, coef, np.full(len(coef), np.nan), np.nan)[0]


def of_statsmodels(which):
    fit = sm.OLS(which.frame["y"].to_numpy(), design(which)).fit()
    return score(which, fit.params, fit.bse, float(np.sqrt(fit.scale)))


def of_sklearn(which):
    fit = LinearRegression(fit_intercept=which.intercept).fit(which.frame[which.predictors], which.frame["y"])
    coef = [fit.intercept_, *fit.coef_] if which.intercept else fit.coef_
    return score(which, np.array(coef), np.full(len(coef), np.nan), np.nan)[0]


def cell(numbers) -> str:
    return " / ".join(f"{value:.1f}" for value in np.atleast_1d(numbers))


def regressions() -> list[str]:
    heads = [
        *(f"gbreg {b}" for b in BACKENDS),
        "gbreg extended",
        "numpy lstsq",
        "statsmodels OLS",
        "scikit-learn",
    ]
    lines = ["| set | " + " | ".join(heads) + " |", "|" + "---|" * (1 + len(heads))]
    for name, which in regression_sets().items():
        frame = which.frame.assign(g=0)
        cells = [cell(of_gbreg(which, frame, 0, backend=b)) for b in BACKENDS]
        cells.append(cell(of_gbreg(which, frame, 0, precision="extended")))
        cells += [cell(of_lstsq(which)), cell(of_statsmodels(which)), cell(of_sklearn(which))]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def hidden() -> list[str]:
    heads = [f"{b}, {how}" for b in BACKENDS for how in ("shuffled", f"among {HIDING_GROUPS:,} groups")]
    lines = ["| set | " + " | ".join(heads) + " |", "|" + "---|" * (1 + len(heads))]
    for name, which in regression_sets().items():
        shuffled = which.frame.sample(frac=1, random_state=1).assign(g=0)
        crowd = hide(which.frame.assign(g=-1), which.predictors, HIDING_GROUPS, 4 + len(which.predictors))
        cells = []
        for b in BACKENDS:
            cells.append(cell(of_gbreg(which, shuffled, 0, backend=b)))
            cells.append(cell(of_gbreg(which, crowd, -1, backend=b, mad=False)))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def means() -> list[str]:
    lines = ["| set | " + " | ".join([*BACKENDS, "pandas groupby mean"]) + " |", "|" + "---|" * 5]
    from decimal import Decimal
    from fractions import Fraction

    for name, (frame, _) in group_sets().items():
        frame = frame.astype({"y": float})
        want = {}
        for key, values in frame.groupby("group")["y"]:
            mean = sum(map(Fraction, values), Fraction(0)) / len(values)
            want[key] = Decimal(mean.numerator) / Decimal(mean.denominator)
        rows = []
        for b in BACKENDS:
            fit = frame.gbreg.fit(by="group", linear=[], targets=["y"], backend=b)
            rows.append(min(digits(fit.params.loc[key, ("y", "Intercept")], want[key]) for key in want))
        plain = frame.groupby("group")["y"].mean()
        rows.append(min(digits(plain.loc[key], want[key]) for key in want))
        lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in rows) + " |")
    return lines


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = f"""# Accuracy

Made by `python bench/accuracy.py` ({platform.machine()}, Python {platform.python_version()}, gbreg
{gbreg.__version__}, numpy {np.__version__}, pandas {pd.__version__}, statsmodels {statsmodels.__version__},
scikit-learn {sklearn.__version__}).

The data are the Statistical Reference Datasets of the US National Institute of Standards and
Technology. Every tool gets the same float64 columns. A number is the count of right digits of the
worst of several values: -log10 of the relative error against the exact answer for those columns
(rational arithmetic, 40 digits), at most 16; where the answer is 0 (errors of Wampler 1 and 2) the
error is taken relative to the scale of y. 0.0 means no right digit.

## Regression sets

Coefficients / standard errors / residual standard deviation; numpy and scikit-learn give only
coefficients. "gbreg extended" is `precision="extended"` on the numba backend. Defaults everywhere.

{chr(10).join(regressions())}

Filip is a polynomial of degree 10 on raw powers: default tolerances of singular values cut it
to a smaller problem without saying so, which is why the others show no digit there.

## The same sets in a crowd

Rows shuffled, and each set hidden as one group among {HIDING_GROUPS:,} random ones.

{chr(10).join(hidden())}

## Group means

The univariate and one-way sets with `linear=[]`: digits of the worst group mean. SmLs07 to SmLs09
have 13 leading constant digits.

{chr(10).join(means())}
"""
    PAGE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
