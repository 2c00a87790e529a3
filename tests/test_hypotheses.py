# SPDX-License-Identifier: MIT
"""Tests of hypotheses per group, against statsmodels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from frames import KINDS, random_groups

import gbreg
from gbreg import SpecError, inference
from gbreg.restrictions import read_restrictions

FRAME = random_groups(80, groups=12, rows=(6, 30))


def fitted(kind: str, backend: str = "numpy", **options: Any) -> gbreg.GroupFit:
    call = {"by": "g", "linear": ["x", "z", "u"], "targets": ["y", "v"]}
    return gbreg.fit(FRAME, backend=backend, **{**call, **KINDS[kind], **options})


@cache
def theirs(kind: str, key: int, target: str, known: bool = False) -> Any:
    """All of `FRAME`'s predictors in one group."""
    intercept, rows = KINDS[kind].get("intercept", True), FRAME[FRAME["g"] == key]
    if kind == "counts":
        rows = rows.loc[rows.index.repeat(rows["n"])]
    X = rows[["x", "z", "u"]].to_numpy()
    X = sm.add_constant(X, has_constant="add") if intercept else X
    weights = rows["w"].to_numpy() if "w" in KINDS[kind].values() else np.ones(len(rows))
    model = sm.WLS(rows[target].to_numpy(), X, weights=weights, hasconst=intercept)
    return model.fit(cov_type="fixed scale" if known else "nonrobust")


@pytest.mark.parametrize("kind", KINDS)
def test_fvalues_are_those_of_statsmodels(backend: str, kind: str) -> None:
    fit = fitted(kind, backend)
    f, p = fit.fvalue, fit.f_pvalue
    for key in fit.keys:
        for target in ("y", "v"):
            want = theirs(kind, key, target)
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
    frame = FRAME.assign(c=lambda d: d["x"] - d["z"])
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


# restrictions

RESTRICTIONS = {
    "x = z, u = 0": ([[0, 1, -1, 0], [0, 0, 0, 1]], [0, 0]),
    "2*x - z = 1": ([[0, 2, -1, 0]], [1]),
    "Intercept = 1, x = 0.3": ([[1, 0, 0, 0], [0, 1, 0, 0]], [1, 0.3]),
    "(x + z) / 2 - -u = 3 * (1 - x) + 1e-1, z": ([[0, 3.5, 0.5, 1], [0, 0, 1, 0]], [3.1, 0]),
    "Intercept = 0, x = 0, z = 0, u = 0": (np.eye(4), np.zeros(4)),
}


def matrices(text: str, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    R, q = (np.array(values, dtype=float) for values in RESTRICTIONS[text])
    return (R if intercept else R[:, 1:]), q


@cache
def their_test(text: str, kind: str, key: int, target: str, known: bool) -> Any:
    R, q = matrices(text, KINDS[kind].get("intercept", True))
    return theirs(kind, key, target, known).wald_test((R, q), use_f=not known, scalar=True)


@pytest.mark.parametrize(
    ("kind", "known"), [*((kind, False) for kind in KINDS), ("weighted", True), ("through zero", True)]
)
def test_wald_is_that_of_statsmodels(backend: str, kind: str, known: bool) -> None:
    fit = fitted(kind, backend, cov_type="known" if known else "classical")
    intercept = fit.spec.options.intercept
    for text in RESTRICTIONS:
        if "Intercept" in text and not intercept:
            continue
        R, q = matrices(text, intercept)
        got = fit.wald_test(text)
        pd.testing.assert_frame_equal(fit.wald_test((R, q)), got, check_exact=True)
        for key in fit.keys:
            for target in ("y", "v"):
                want = their_test(text, kind, key, target, known)
                one = got.loc[key, target]
                np.testing.assert_allclose(one["statistic"], want.statistic, rtol=1e-8)
                np.testing.assert_allclose(one["p_value"], want.pvalue, rtol=1e-8, atol=1e-300)
                assert one["df_num"] == len(R)
                assert np.isnan(one["df_denom"]) if known else one["df_denom"] == want.df_denom


def test_one_target_and_plain_matrices() -> None:
    fit = fitted("weighted")
    both = fit.wald_test("x = z")
    assert both.columns.names == ["target", "test"]
    one = fit.wald_test("x = z", target="v")
    assert list(one) == ["statistic", "df_num", "df_denom", "p_value"]
    np.testing.assert_array_equal(one, both["v"])
    for same in ([0, 1, -1, 0], [[0, 1, -1, 0]], np.array([[0, 1.0, -1, 0]]), ([0, 2, -2, 0], 0)):
        np.testing.assert_allclose(fit.wald_test(same), both, rtol=1e-12)


def test_one_restriction_is_t_squared_and_all_slopes_are_f() -> None:
    fit = fitted("weighted")
    np.testing.assert_allclose(
        fit.wald_test("z = 0", target="y")["statistic"], fit.tvalues["y", "z"] ** 2, rtol=1e-11
    )
    got = fit.wald_test("x, z, u", target="v")
    np.testing.assert_allclose(got["statistic"], fit.fvalue["v"], rtol=1e-10)
    np.testing.assert_allclose(got["p_value"], fit.f_pvalue["v"], rtol=1e-8, atol=1e-300)


FORMULA = "y ~ x * z + C(s) + np.log(w)"
OF_FORMULA = {
    "x:z = 0": [{"x:z": 1}],
    "C(s)[T.b] = 0, C(s)[T.c] = 0": [{"C(s)[T.b]": 1}, {"C(s)[T.c]": 1}],
    "C(s)[T.b] - C(s)[T.c] + 2*x = 1": [{"C(s)[T.b]": 1, "C(s)[T.c]": -1, "x": 2, None: 1}],
    "np.log(w)/2 = x:z, `x` = z + 1": [{"np.log(w)": 0.5, "x:z": -1}, {"x": 1, "z": -1, None: 1}],
}


def test_terms_of_formulas_are_named_as_in_statsmodels() -> None:
    pytest.importorskip("formulaic")
    frame = random_groups(81, ("x", "z"), groups=4, rows=(20, 30))
    frame = frame.assign(s=np.array(list("abc"))[np.arange(len(frame)) % 3])
    fit = gbreg.fit(frame, FORMULA + " | g", backend="numpy")
    models = {key: smf.ols(FORMULA, rows).fit() for key, rows in frame.groupby("g")}
    for text, rows in OF_FORMULA.items():
        R = [[row.get(term, 0) for term in fit.terms] for row in rows]
        got = fit.wald_test(text, target="y")
        want = fit.wald_test((R, [row.get(None, 0) for row in rows]), target="y")
        pd.testing.assert_frame_equal(got, want, check_exact=True)
        for key, model in models.items():
            own = got.loc[key]
            theirs = model.f_test(text.replace("`", ""))
            np.testing.assert_allclose(
                own[["statistic", "p_value"]], [theirs.fvalue, theirs.pvalue], rtol=1e-7
            )
    for wrong, message in (
        ("C(s)[T.d] = 0", r"'C\(s\)\[T\.d\]' is not a term of this fit; did you mean 'C\(s\)\[T\.[bc]\]'"),
        ("x:zz = 0", "cannot read the restriction 'x:zz = 0'; did you mean 'x:z'"),
        ("np.log(v) = 0", r"'np\.log\(v\)' is not a term of this fit; did you mean 'np\.log\(w\)'"),
        ("`x: z` = 0", "'x: z' is not a term of this fit; did you mean 'x:z'"),
        ("2 x:z = 0", "cannot read the restriction '2 x:z = 0'; did you mean 'x:z'"),
        ("C(s)[T.b]x = 0", r"'C\(s\)\[T\.b\]x' is not a term of this fit; did you mean 'C\(s\)\[T\.b\]'"),
    ):
        with pytest.raises(SpecError, match=message):
            fit.wald_test(wrong)


ODD = [
    "Intercept",
    "x",
    "my col",
    "a.b",
    ("a", "b"),
    1,
    "x - z",
    "z",
    "2020-11-10",
    "_1_",
    "class",
    2,
    "2",
    "a`b",
]
OF_ODD = {
    "my col = 0": ({"my col": 1}, 0),
    "2 * my col - a.b = 3": ({"my col": 2, "a.b": -1}, 3),
    "('a', 'b') + 1 = x": ({("a", "b"): 1, "x": -1}, -1),
    "`1` = 1": ({1: 1}, 1),
    "`2020-11-10` = 2020-11": ({"2020-11-10": 1}, 2009),
    "`x - z` - x": ({"x - z": 1, "x": -1}, 0),
    "x-z": ({"x": 1, "z": -1}, 0),
    "_1_ = -class": ({"_1_": 1, "class": 1}, 0),
    "a`b = `x`/4": ({"a`b": 1, "x": -0.25}, 0),
}


@pytest.mark.parametrize("text", OF_ODD)
def test_odd_names(text: str) -> None:
    coefficients, value = OF_ODD[text]
    R, q = read_restrictions(text, ODD)
    assert R.tolist() == [[coefficients.get(term, 0) for term in ODD]]
    assert q.tolist() == [value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x - z = 0", "'x - z' is a term and could be computed of terms; write `x - z` for the term"),
        ("`2` = 0", "several terms are written '2'"),
        ("1 = 0", "restriction 1 of 1 restricts no coefficient"),
        ("`mycol` = 0", "'mycol' is not a term of this fit; did you mean 'my col'"),
        ("mycol = 0", "'mycol' is not a term of this fit; did you mean 'my col'"),
        ("my cols = 0", "cannot read the restriction 'my cols = 0'; did you mean 'my col'"),
        ("`my col = 0", "cannot read the restriction '`my col = 0'"),
        ("_2_ = 0", "'_2_' is not a term of this fit; did you mean '_1_'"),
        ("x.b = 0", r"'x\.b' is not a term of this fit; did you mean 'a\.b'"),
        ("x[0] = 0", r"'x\[0\]' is not a term of this fit"),
        ("x = 0, 2*x = 1", "of 2 restrictions 1 are independent"),
        ("x + z - a.b, 1e9*z, 1e-9*x, a.b", "of 4 restrictions 3 are independent"),
        (np.eye(len(ODD)) * 1j, "complex numbers"),
    ],
)
def test_odd_names_that_are_none(text: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_restrictions(text, ODD)


def test_factors_and_constants_are_called_what_they_are_here() -> None:
    terms = ["Intercept", "h[T.b]", "h[T.c]", "x"]
    with pytest.raises(SpecError, match=r"'h' is no term but a factor; .* write h\[T.b\] = 0, h\[T.c\] = 0"):
        read_restrictions("h", terms)
    assert read_restrictions("h[T.b] = 0, h[T.c] = 0", terms).R.tolist() == [[0, 1, 0, 0], [0, 0, 1, 0]]
    with pytest.raises(SpecError, match="'const' is not a term of this fit; gbreg calls it 'Intercept'"):
        read_restrictions("const = 0", terms)


def test_means_are_tested_too() -> None:
    fit = fitted("weighted", linear=[])
    got = fit.wald_test("Intercept = 1", target="y")["statistic"]
    want = ((fit.params["y", "Intercept"] - 1) / fit.bse["y", "Intercept"]) ** 2
    np.testing.assert_allclose(got, want, rtol=1e-11)


def test_far_from_the_origin_no_digits_are_lost() -> None:
    near = FRAME
    far = near.assign(x=near["x"].round(3) + 2**27)
    near = near.assign(x=near["x"].round(3))
    near["x"] = far["x"] - 2**27  # the same numbers, less an offset
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "weights": "w", "backend": "numpy"}
    fits = [gbreg.fit(frame, **call) for frame in (near, far)]
    want = fits[0].wald_test(([[1, 3, 0], [0, 1, 0]], [2, 0]))
    got = fits[1].wald_test(([[1, 2**27 + 3, 0], [0, 1, 0]], [2, 0]))
    np.testing.assert_allclose(got, want, rtol=1e-7)  # the mean is stored to 2**-26 here


@pytest.mark.parametrize("start", [0, 1024])
def test_integers_beyond_floats_are_tested_in_the_callers_numbers(start: int) -> None:
    rng = np.random.default_rng(1)
    x, y = start + rng.integers(0, 50, 20), start + rng.integers(0, 50, 20)
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "backend": "numpy"}
    offset = 2**60
    near = gbreg.fit(pd.DataFrame({"g": 0, "x": x, "y": y}), **call)
    far = gbreg.fit(pd.DataFrame({"g": 0, "x": x + offset, "y": y + offset}), **call)
    assert far.origins
    got = far.wald_test(([[1, offset + start + 256]], [offset + start + 512]))
    want = near.wald_test(([[1, start + 256]], [start + 512]))
    np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize("k", [2, 9])
def test_a_group_alone_has_the_same_bits(k: int) -> None:
    rng = np.random.default_rng(k)
    names = [f"x{j}" for j in range(k)]
    frame = pd.DataFrame(rng.normal(size=(200, k)), columns=names)
    frame = frame.assign(g=np.arange(200) % 7, y=rng.normal(size=200), w=rng.uniform(1, 2, 200))
    call = {"by": "g", "linear": names, "targets": ["y"], "weights": "w", "backend": "numpy"}
    rows = frame[frame["g"] == 5]
    together, alone = gbreg.fit(frame, **call), gbreg.fit(rows, **call)
    for _ in range(5):
        R = rng.normal(size=(2, k + 1))
        np.testing.assert_array_equal(together.wald_test(R).loc[[5]], alone.wald_test(R))
    for name in ("fvalue", "f_pvalue"):
        np.testing.assert_array_equal(getattr(together, name).loc[[5]], getattr(alone, name))
    got, want = (fit.predict(rows, interval="prediction") for fit in (together, alone))
    pd.testing.assert_frame_equal(got, want, check_exact=True)


def test_groups_without_wald() -> None:
    frame = pd.DataFrame({"g": [0, 0, 1, 1, 1, 1, 2, 2, 2, 3], "x": [0.0, 1, 0, 1, 2, 4, 7, 7, 7, 5]})
    frame["y"] = [1.0, 2, 1, 3, 5, 9, 7, 6, 7, 1]  # saturated, perfect, dependent, too few rows
    frame["w"] = 1.0
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "weights": "w", "backend": "numpy"}
    with pytest.warns(gbreg.GbregWarning):
        fit = gbreg.fit(frame, **call)
    assert fit.wald_test("x = 1")["y"][["statistic", "p_value"]].isna().all(axis=None)
    with pytest.warns(gbreg.GbregWarning):
        known = gbreg.fit(frame, cov_type="known", **call)
    got = known.wald_test("x = 1")["y", "statistic"]
    np.testing.assert_allclose(got, [0, 1 / (1 / 8.75), np.nan, np.nan], atol=1e-12)


def test_restrictions_that_depend_on_each_other_are_refused() -> None:
    fit = fitted("weighted")
    for text in ("x = 0, x = 0", "x = z, z = u, u = x", "x + u = 0, 3*x + 3*u = 1"):
        with pytest.raises(SpecError, match="are independent; leave out"):
            fit.wald_test(text)
    nearly = np.array([[0, 1, 0, 0], [0, 1, 1e-13, 0]])  # more than rounding of R, not of the covariance
    made = fit.wald_test(nearly).xs("p_value", axis=1, level="test")
    assert made.isna().all(axis=None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("q = 0", "'q' is not a term of this fit"),
        ("intercept = 0", "'intercept' is not a term of this fit; did you mean 'Intercept'"),
        ("x * z = 0", r"'x \* z' is not linear in the coefficients"),
        ("1 / x = 0", "'1 / x' is not linear"),
        ("x / 0 = 1", "'x / 0' is not linear"),
        ("x ** 2 = 1", r"'x \*\* 2' is not linear"),
        ("x = 'a'", "\"'a'\" is not linear"),
        ("x = True", "'True' is not linear"),
        ("abs(x) = 1", r"'abs\(x\)' is not a term of this fit"),
        ("x = z = 0", "a restriction has one = sign, got 'x = z = 0'"),
        ("x == z", "a restriction has one = sign, got 'x == z'"),
        ("x =", "cannot read the restriction 'x ='"),
        ("x y = 0", "cannot read the restriction 'x y = 0'"),
        ("", "cannot read the restriction ''"),
        ("x = 0,", "cannot read the restriction ''"),
        ("1 = 1", "restriction 1 of 1 restricts no coefficient"),
        ("x = 0, z = z", "restriction 2 of 2 restricts no coefficient"),
        ("1e999 * x = 0", "must be finite numbers"),
        ([[0, 1, 0]], r"one column per coefficient, \(r, 4\), got \(1, 3\)"),
        (np.zeros((0, 4)), "what was given restricts no coefficient"),
        (np.ones((1, 1, 4)), r"one column per coefficient, \(r, 4\), got \(1, 1, 4\)"),
        ([[0, np.nan, 0, 0]], "must be finite numbers"),
        (([[0, 1, 0, 0]], [1, 2]), r"q must have one value per restriction, 1, got shape \(2,\)"),
        (([[0, 1, 0, 0]], [1], 2), r"are \(R, q\), got 3 parts"),
        (
            None,
            r"restrictions are one string .*, an array \(r, 4\) or a tuple \(R, q\), got NoneType|one column",
        ),
        ({"x": 0}, "restrictions are one string such as .* got dict"),
    ],
)
def test_what_is_no_restriction(wrong: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fitted("weighted").wald_test(wrong)


def test_a_target_that_is_none() -> None:
    with pytest.raises(SpecError, match=r"'w' is not a target of this fit; it has \['y', 'v'\]"):
        fitted("weighted").wald_test("x = 0", target="w")
