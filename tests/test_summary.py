# SPDX-License-Identifier: MIT
"""One group at the prompt: number by number what statsmodels prints for its rows."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import gbreg
from gbreg.errors import GbregWarning

STATSMODELS = {"classical": "nonrobust", "known": "fixed scale"}
THEIRS = {"Dep. Variable:", "Model:", "Method:", "No. Observations:", "Df Residuals:", "Df Model:"}
THEIRS |= {"Covariance Type:", "R-squared:", "Adj. R-squared:", "F-statistic:", "Prob (F-statistic):"}
THEIRS |= {"Log-Likelihood:", "AIC:", "BIC:", "Cond. No."}


def table(seed: int = 3, rows: int = 40) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(list("abc"), rows)})
    n = len(frame)
    frame["x1"], frame["x2"] = rng.normal(2, 1, n), rng.normal(size=n)
    frame["w"], frame["run"] = rng.uniform(0.5, 2, n), np.arange(n) % 7
    frame["y"] = 1 + 0.8 * frame["x1"] + 0.02 * frame["x2"] + rng.normal(size=n) / np.sqrt(frame["w"])
    frame["v"] = 5 - frame["y"] ** 2
    return frame


def fitted(frame: pd.DataFrame, **changes: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": ["x1", "x2"], "targets": ["y"], "backend": "numpy"}
    return gbreg.fit(frame, **{**call, **changes})


def peer(frame: pd.DataFrame, key: str, target: str = "y", **options: Any) -> Any:
    """What statsmodels makes of one group."""
    rows = frame[frame["g"] == key]
    X = rows[["x1", "x2"]]
    if options.get("intercept", True):
        X = sm.add_constant(X).rename(columns={"const": "Intercept"})
    weighted = options.get("weights") is not None
    model = sm.WLS(rows[target], X, weights=rows["w"]) if weighted else sm.OLS(rows[target], X)
    cov_type = options.get("cov_type", "classical")
    more = {"cov_kwds": {"groups": rows["run"]}} if cov_type == "cluster" else {}
    return model.fit(cov_type=STATSMODELS.get(cov_type, cov_type), **more)


def fields(text: str) -> dict[str, str]:
    """Names and values of the two columns, the left of which is 37 wide."""
    parts = [part.strip() for line in text.splitlines() for part in (line[:37], line[37:])]
    matches = [re.fullmatch(r"(.+?:|Cond\. No\.)\s+(\S.*)", part) for part in parts]
    return {match[1]: match[2] for match in matches if match}


def coefficients(text: str, terms: list[str]) -> dict[str, list[str]]:
    lines = [line.split() for line in text.splitlines()]
    return {words[0]: words[1:] for words in lines if words and words[0] in terms}


def rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if set(line) <= {"=", "-"} and line]


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "weighted": {"weights": "w"},
    "through zero": {"weights": "w", "intercept": False},
    "known": {"weights": "w", "cov_type": "known"},
    "HC3": {"weights": "w", "cov_type": "HC3"},
    "cluster": {"cov_type": "cluster", "groups": "run"},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("target", ["y", "v"])
def test_what_is_shown_is_what_statsmodels_shows(backend: str, name: str, target: str) -> None:
    options = CASES[name]
    frame = table()
    fit = fitted(frame, targets=[target], backend=backend, **options)
    for key in "abc":
        got, want = str(fit.group(key)), str(peer(frame, key, target, **options).summary())
        ours, theirs = fields(got), fields(want)
        uncentered = {f"{n[:-1]} (uncentered):" for n in THEIRS if "R-squared" in n}
        names = (THEIRS | uncentered) & set(theirs)
        if options.get("cov_type", "classical") != "classical":  # F of robust errors is another test
            names -= {"F-statistic:", "Prob (F-statistic):"}
            assert "F-statistic:" not in ours
        assert len(names) >= 13
        assert {field: ours[field] for field in names} == {field: theirs[field] for field in names}
        mine, other = coefficients(got, list(fit.terms)), coefficients(want, list(fit.terms))
        assert list(mine) == list(other) == list(fit.terms)
        for term in fit.terms:
            for i, (one, two) in enumerate(zip(mine[term], other[term], strict=True)):
                short = float(two) == 0 or (abs(float(two)) < (1e-3 if i == 0 else 1e-2) and i != 3)
                if one != two:  # more digits than statsmodels has
                    assert short, (term, one, two)
                    assert abs(float(one) - float(two)) <= 5.1e-4
        letter = "t" if options.get("cov_type", "classical") == "classical" else "z"
        heads = [line.split() for line in got.splitlines() if line.startswith("  ") and "coef" in line]
        assert heads == [["coef", "std", "err", letter, f"P>|{letter}|", "[0.025", "0.975]"]]
        assert rules(got) == ["=" * 78, "=" * 78, "-" * 78, "=" * 78, "=" * 78]
        if options.get("intercept", True):  # else statsmodels' is wider for the longer names of R-squared
            assert rules(got) == rules(want)
        assert max(map(len, got.splitlines())) == 78


def test_tiny_and_large_numbers_keep_their_digits() -> None:
    """statsmodels has 0.000 for errors below 0.0005."""
    frame = table()
    frame["y"] = frame["y"] * 1e-4
    frame["x2"] = frame["x2"] * 1e-9
    fit = fitted(frame)
    want = [fit.params, fit.bse, fit.tvalues, fit.pvalues]
    bounds = fit.conf_int().loc["b", "y"]
    got = coefficients(repr(fit.group("b")), list(fit.terms))
    for term in fit.terms:
        numbers = [*(f.loc["b", ("y", term)] for f in want), bounds[term, "lower"], bounds[term, "upper"]]
        for i, (text, number) in enumerate(zip(got[term], numbers, strict=True)):
            shown = 5e-4 if i == 3 else 1e-3 if i == 0 else 1e-2  # from here on by decimals
            assert float(text) == pytest.approx(number, rel=6e-3, abs=5.1e-4 if abs(number) > shown else 0)
    assert all(float(text) != 0 for text in got["x1"][:2])


def test_what_is_our_own() -> None:
    frame = table()
    frame.loc[3, "y"] += 1e3
    fit = fitted(frame, weights="w", targets=["y", "v"], clip=4.0)
    first, second = str(fit.group("a")).split("\n\n")
    assert first.splitlines()[0].strip() == second.splitlines()[0].strip()
    assert first.splitlines()[0] == "WLS Regression Results, group 'a'".center(78).rstrip()
    for text, target in ((first, "y"), (second, "v")):
        got = fields(text)
        assert got["Dep. Variable:"] == target
        assert got["Rows Clipped:"] == str(fit.nobs_clipped.loc["a", target])
        assert got["Weights:"] == "w"
        assert got["Status:"] == fit.status.loc["a", target]
        for name, own in {"RMS:": fit.rms, "MAD:": fit.mad, "Sigma:": fit.scale**0.5}.items():
            assert float(got[name]) == pytest.approx(own.loc["a", target], rel=1e-3)
        assert float(got["Digits:"]) == pytest.approx(fit.digits.loc["a", target], rel=1e-2)
    assert fit.nobs_clipped.loc["a", "y"] == 1
    assert "Notes:" not in first
    plain = fields(str(fitted(frame, mad=False).group("a")))
    assert "MAD:" not in plain
    assert "Rows Clipped:" not in plain
    assert plain["Weights:"] == "none"
    known = fitted(frame, weights="w", cov_type="known")
    got = fields(str(known.group("b")))
    assert float(got["Chi2:"]) == pytest.approx(known.chi2.loc["b", "y"], rel=1e-3)
    assert float(got["Prob (Chi2):"]) == pytest.approx(known.chi2_pvalue.loc["b", "y"], rel=1e-2)
    assert got["Weights:"] == "w (1/sigma^2)"


def test_notes_say_what_there_is_to_say() -> None:
    frame = table()
    frame.loc[frame["g"] == "b", "x2"] = 3.0
    frame = frame.drop(frame.index[frame["g"] == "c"][3:])
    frame.loc[frame["g"] == "a", "v"] = 2.0
    with pytest.warns(GbregWarning):
        fit = fitted(frame, targets=["y", "v"], fallback="parent")
    assert "Predictors are constant or dependent" in str(fit.group("b"))
    assert "Rows of this group are predicted by its parent 'all'." in str(fit.group("b"))
    assert "As many rows as coefficients" in str(fit.group("c"))
    shown = str(fit.group("a")).split("\n\n", 1)[1]
    assert "Flags: constant_target, perfect_fit" in shown
    assert "R-squared is not defined" in shown
    assert "Residuals are rounding noise" in shown
    with pytest.warns(GbregWarning):
        few = fitted(frame[frame["g"] != "a"].groupby("g").head(2), fallback=[[]], min_nobs=30)
    assert "Fewer rows than min_nobs" in str(few.group("c"))
    assert "Rows of this group are predicted by no parent either." in str(few.group("c"))
    clustered = fitted(table(), cov_type="cluster", groups="run")
    assert "robust to cluster correlation, clustered by run" in str(clustered.group("a"))
    assert "heteroscedasticity robust (HC1)" in str(fitted(table(), cov_type="HC1").group("a"))
    counts = fitted(table(), weights="run", weights_type="frequency")
    assert "Weights are counts" in str(counts.group("a"))
    far = fitted(table().assign(x1=lambda d: d["x1"] + 1e6))
    assert "The condition number is large" in str(far.group("a"))
    with pytest.warns(GbregWarning):
        known = fitted(frame, weights="w", cov_type="known")
    assert "Status:                     saturated" in str(known.group("c"))
    assert "As many rows as coefficients" not in str(known.group("c"))


def test_keys_are_written_as_python_has_them() -> None:
    frame = table().assign(h=np.int64(3))
    fit = fitted(frame, by=["g", "h"])
    assert str(fit.group(fit.keys[0])).splitlines()[0].strip() == "OLS Regression Results, group ('a', 3)"


def test_long_names_widen_the_table() -> None:
    name = "a predictor of thirty letters."
    frame = table().rename(columns={"x1": name, "x2": "z" * 300, "y": "t" * 300})
    text = str(fitted(frame, linear=[name, "z" * 300], targets=["t" * 300]).group("a"))
    widths = {len(line) for line in rules(text)}
    assert widths == {40 + 68}
    assert max(map(len, text.splitlines())) == 40 + 68
    assert any(line.startswith(f"{name}  ") for line in text.splitlines())
    assert f"{'z' * 37}... " in text
    assert f"{'t' * 37}... " in text
