# SPDX-License-Identifier: MIT
"""Formulas: what they say is what is fitted, and what they learned goes with the fit."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import gbreg
from gbreg import ColumnError, DTypeError, GroupFit, MissingDataError, MissingExtraError, SpecError
from gbreg.columns import Part

pytest.importorskip("formulaic")
N = 240


def table() -> pd.DataFrame:
    """Three groups; every level is in every group."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "g": np.arange(N) % 3,
            "h": np.array(list("pq"))[np.arange(N) // 3 % 2],
            "z": rng.choice(list("abc"), N),
            "k": rng.integers(5, 8, N),
            "x": rng.normal(3, 1, N),
            "y": rng.uniform(1, 9, N),
            "w": rng.uniform(0.5, 2, N),
            "odd name": rng.normal(size=N),
        },
        index=pd.Index(rng.permutation(N) + 100, name="row"),
    )
    frame["t"] = 20 + 2 * frame["x"] - frame["y"] + 0.3 * frame["x"] * frame["y"] + rng.normal(size=N)
    frame["u"] = np.exp(0.1 * frame["t"] + 0.2 * (frame["z"] == "b"))
    return frame


def fit(formula: str, frame: pd.DataFrame | None = None, **options: Any) -> GroupFit:
    return gbreg.fit(table() if frame is None else frame, formula, **{"backend": "numpy", **options})


# the numbers


@pytest.mark.parametrize(
    ("target", "right", "keys"),
    [
        ("t", "x + y + x:y", ["g"]),
        ("t", "x * y", ["g", "h"]),
        ("t", "x + C(z)", ["g"]),
        ("t", "z", ["g", "h"]),
        ("t", "x * z", ["g"]),
        ("t", "x:z - 1", ["g"]),
        ("t", "C(k) - 1", ["g"]),
        ("t", "x + y + 0", ["g"]),
        ("t", "1", ["g"]),
        ("t", "I(x**2) + np.log(y)", ["g"]),
        ("np.log(u)", "x + C(z):y", ["g"]),
        ("t", "(x + y + w)**2", ["g"]),
    ],
)
def test_coefficients_of_statsmodels(target: str, right: str, keys: list[str], backend: str) -> None:
    if backend != "numpy" and right in ("x * z", "(x + y + w)**2"):
        pytest.skip("kernels for five and six predictors would be compiled for this test alone")
    frame = table()
    got = fit(f"{target} ~ {right} | {' + '.join(keys)}", frame, weights="w", backend=backend)
    assert list(got.keys.names) == keys
    assert got.targets == (target,)
    for key, rows in frame.groupby(keys if len(keys) > 1 else keys[0]):
        want = smf.wls(f"{target} ~ {right}", rows, weights=rows["w"]).fit()
        assert set(want.params.index) == set(got.terms)  # patsy puts categories first
        for ours, theirs in ((got.params, want.params), (got.bse, want.bse)):
            np.testing.assert_allclose(ours.loc[key].to_numpy(), theirs[list(got.terms)], rtol=1e-8)
        fitted = got.predict(frame)[target].loc[rows.index]
        np.testing.assert_allclose(fitted, want.fittedvalues, rtol=1e-8)
        resid = got.resid(frame)[target].loc[rows.index]
        np.testing.assert_allclose(resid, want.resid, rtol=1e-8, atol=1e-10)


def test_several_targets_and_the_accessor() -> None:
    frame = table()
    got = frame.gbreg.fit("t + log(u) ~ x + x:y | g + h", weights="w", backend="numpy")
    derived = frame.assign(lu=np.log(frame["u"]), xy=frame["x"] * frame["y"])
    want = gbreg.fit(
        derived, by=["g", "h"], linear=["x", "xy"], targets=["t", "lu"], weights="w", backend="numpy"
    )
    assert got.targets == ("t", "log(u)")
    assert got.terms == ("Intercept", "x", "x:y")
    assert got.params.to_numpy().tolist() == want.params.to_numpy().tolist()
    augmented = got.augment(frame)
    np.testing.assert_allclose(augmented["log(u)_fitted"] + augmented["log(u)_resid"], derived["lu"])


def test_by_may_be_given_beside_a_formula() -> None:
    frame = table()
    want = fit("t ~ x + x:y | g", frame)
    for by in ("g", frame["g"], lambda i: frame["g"][i], frame.gbreg.group(by="g")):
        assert fit("t ~ x + x:y", frame, by=by).params.to_numpy().tolist() == want.params.to_numpy().tolist()
    level = fit("t ~ x + x:y", frame.set_index("g"), level="g")
    assert level.params.to_numpy().tolist() == want.params.to_numpy().tolist()


def test_odd_names_go_between_backticks() -> None:
    frame = table().rename(columns={"g": "the | key", "t": "a ~ b"})
    got = fit("`a ~ b` ~ `odd name` + `odd name`:x + I(`odd name`**2) | `the | key`", frame)
    assert got.predictors[:1] == ("odd name",)
    assert got.keys.name == "the | key"
    derived = frame.assign(
        **{"ox": frame["odd name"] * frame["x"], "oo": frame["odd name"] ** 2}  # main effects come first
    )
    want = gbreg.fit(
        derived, by="the | key", linear=["odd name", "oo", "ox"], targets=["a ~ b"], backend="numpy"
    )
    np.testing.assert_allclose(got.params, want.params, rtol=1e-12)


def test_a_bar_inside_a_function_is_no_part_for_keys() -> None:
    got = fit("t ~ I((x > 3) | (y > 5)) | g")
    assert got.keys.name == "g"
    assert got.predictors == ("I((x > 3) | (y > 5))",)


# plain terms


def test_plain_terms_are_columns_and_stay_exact() -> None:
    frame = table()
    frame["big"] = 2**60 + np.arange(N) * 7 % 50
    got = fit("big + t ~ x + big2 + x:y | g", frame.assign(big2=frame["big"]))
    want = gbreg.fit(
        frame.assign(big2=frame["big"], xy=frame["x"] * frame["y"]),
        by="g",
        linear=["x", "big2", "xy"],
        targets=["big", "t"],
        backend="numpy",
    )
    assert [column.label for column in got.spec.linear] == ["x", "big2", None]
    assert set(got.origins) == set(want.origins) != set()
    assert got.params.to_numpy().tolist() == want.params.to_numpy().tolist()
    only_plain = fit("t ~ x + y | g", frame)
    assert only_plain.derived == ()


def test_terms_are_computed_once_for_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    frame, made = table(), fit("t ~ x:y + C(z) + log(y) | g")
    calls = []
    whole = type(made.spec.linear[0].source.whole)
    real = whole.__call__
    monkeypatch.setattr(whole, "__call__", lambda self, data: calls.append(len(data)) or real(self, data))
    made.predict(frame)
    assert calls == [N]


def test_integers_do_not_wrap_in_products() -> None:
    frame = table().assign(i=(np.arange(N) % 200 - 100).astype("int8"), j=2**40 + np.arange(N))
    got = fit("t ~ i:j + I(i**3) | g", frame)
    wide = frame.assign(i=frame["i"].astype(float), j=frame["j"].astype(float))
    want = fit("t ~ i:j + I(i**3) | g", wide)
    assert got.params.to_numpy().tolist() == want.params.to_numpy().tolist()
    assert np.isfinite(got.params.to_numpy()).all()


# categories


@pytest.mark.parametrize(
    "dtype", ["object", "str", "category", "string", "string[pyarrow]", "large_string[pyarrow]"]
)
def test_all_kinds_of_text_are_categories(dtype: str) -> None:
    frame = table()
    want = fit("t ~ x:z | g", frame)
    assert want.predictors == ("x:z[a]", "x:z[b]", "x:z[c]")
    other = frame.assign(z=frame["z"].astype(dtype))
    got = fit("t ~ x:z | g", other)
    assert got.predictors == want.predictors
    assert got.params.to_numpy().tolist() == want.params.to_numpy().tolist()
    assert got.predict(frame).equals(want.predict(other))
    gaps = other.assign(z=other["z"].where(frame["x"] > 3))
    assert fit("t ~ x:z | g", gaps).nobs["t"].sum() == (frame["x"] > 3).sum()


@pytest.mark.parametrize("right", ["C(z)", "x:C(z)", "z + x", "C(k)", "C(z, contr.sum)", "C(z):C(k)"])
def test_other_frames_get_the_levels_of_the_fit(right: str) -> None:
    frame = table()
    made = fit(f"t ~ {right} | g", frame)
    want = made.predict(frame)
    for rows in (frame["z"] == "b", frame["k"] == 7, frame["x"] > 4.5, frame["x"] > 99):
        pd.testing.assert_frame_equal(made.predict(frame[rows]), want[rows], check_exact=True)


@pytest.mark.parametrize("right", ["x + z", "x + C(z)"])
def test_categories_without_rows_have_no_indicator(right: str) -> None:
    """As in R: else those of the others would add up to the constant. Text has none either."""
    frame = table()
    some = frame.assign(z=frame["z"].astype("category"))[frame["z"] != "a"]
    got = fit(f"t ~ {right} | g", some)
    want = fit(f"t ~ {right} | g", some.assign(z=some["z"].astype(str)))
    pd.testing.assert_frame_equal(got.params, want.params, check_exact=True)
    assert (got.status == "ok").all(axis=None)
    predicted = got.predict(frame)["t"]
    assert (predicted.isna() == (frame["z"] == "a")).all()


def test_an_unknown_or_missing_level_is_a_missing_value() -> None:
    frame = table()
    frame.loc[frame.index[:7], "z"] = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = fit("t ~ x + C(z) | g", frame)
        assert made.accounting().loc["t", "missing"] == 7
        assert made.nobs["t"].sum() == N - 7
        want = fit("t ~ x + C(z) | g", frame.dropna())
        np.testing.assert_array_equal(made.params, want.params)
        later = frame.assign(z=frame["z"].replace("a", "new"))
        got = made.predict(later)["t"]
    lost = frame["z"].isna() | (frame["z"] == "a")
    assert got.isna().tolist() == lost.tolist()
    with pytest.raises(MissingDataError, match="with a predictor missing"):
        made.predict(later, missing="raise")


def test_a_term_without_two_levels_is_refused() -> None:
    for z in ("a", None):
        with pytest.raises(SpecError, match=r"\['C\(z\)'\] have fewer than two levels"):
            fit("t ~ x + C(z) | g", table().assign(z=z))


# missing values


def test_missing_values_are_counted_not_dropped_by_formulaic(backend: str) -> None:
    frame = table()
    frame.loc[frame.index[:5], "x"] = np.nan
    frame.loc[frame.index[5:8], "y"] = np.inf
    frame.loc[frame.index[20:24], "t"] = np.nan
    made = fit("t + u ~ x:y | g", frame, backend=backend)
    counts = made.accounting()
    assert counts["missing"].tolist() == [9, 5]
    assert counts["infinite"].tolist() == [3, 3]
    assert made.predict(frame)["t"].isna().sum() == 8
    assert made.predict(frame).index.equals(frame.index)
    with pytest.raises(MissingDataError, match="'x:y' is missing"):
        fit("t ~ x:y | g", frame, missing="raise", backend=backend)


def test_a_target_that_a_function_leaves_undefined_drops_no_row_for_another() -> None:
    frame = table()
    frame.loc[frame.index[:6], "u"] = -1.0
    with pytest.warns(RuntimeWarning, match="invalid value"):
        made = fit("t + log(u) ~ x | g", frame)
    assert made.nobs.sum().tolist() == [N, N - 6]


@pytest.mark.parametrize(
    "right",
    ["I(x > 3)", "I(z == 'a')", "C(x > 3)", "C(z)", "y:I(np.where(x > 3, 1, 0))"],
)
def test_a_term_is_missing_where_a_column_is_that_it_uses(right: str) -> None:
    frame = table()
    gaps = frame.copy()
    gaps.loc[gaps.index[:6], "x"] = np.nan
    gaps.loc[gaps.index[:6], "z"] = None
    made = fit(f"t ~ {right} | g", gaps)
    assert made.accounting().loc["t", "missing"] == 6
    want = fit(f"t ~ {right} | g", frame.iloc[6:])
    np.testing.assert_array_equal(made.params, want.params)
    assert made.predict(gaps)["t"].isna().sum() == 6


@pytest.mark.parametrize("right", ["center(x)", "scale(x):y", "poly(x, 2)", "bs(x, df=4)", "C(z):scale(x)"])
def test_stateful_transforms_see_the_whole_frame_and_are_replayed(right: str) -> None:
    frame = table()
    made = fit(f"t ~ {right} | g", frame)
    want = made.predict(frame)
    inside = frame["x"].between(*frame["x"].quantile([0.2, 0.6]))
    np.testing.assert_allclose(made.predict(frame[inside]), want[inside], rtol=1e-9)
    gaps = pd.concat([frame, frame.iloc[:9].assign(x=np.nan), frame.iloc[:2].assign(y=np.inf)])
    again = fit(f"t ~ {right} + y | g", gaps)  # what is not there has no part in a mean
    np.testing.assert_allclose(again.params, fit(f"t ~ {right} + y | g", frame).params, rtol=1e-9)
    assert again.accounting().loc["t", ["missing", "infinite"]].tolist() == [9, 2]


def test_center_subtracts_the_mean() -> None:
    frame = table()
    got = fit("t ~ center(x) | g", frame)
    want = fit("t ~ x | g", frame)
    mean = frame["x"].mean()
    np.testing.assert_allclose(
        got.params["t", "Intercept"], want.params["t", "Intercept"] + mean * want.params["t", "x"]
    )


@pytest.mark.parametrize(
    "right", ["I(x - x.mean())", "lag(x)", "x.rank()", "I(x / np.max(x))", "np.random.rand(len(x))"]
)
def test_values_that_depend_on_other_rows_are_refused(right: str) -> None:
    with pytest.raises(SpecError, match="depends on other rows than its own"):
        fit(f"t ~ y + {right} | g")


@pytest.mark.parametrize(
    "right",
    [
        "np.where(x > 90, x.mean(), x)",
        "np.where(x < -90, x.mean(), x)",
        "I(x.where(z != 'rare', x.mean()))",
        "I(x.where(~flag, x.mean()))",
    ],
)
def test_branches_that_few_rows_take_are_looked_at(right: str) -> None:
    rng = np.random.default_rng(0)
    n = 5000
    frame = pd.DataFrame({"g": np.arange(n) % 2, "z": rng.choice(["a", "b"], n), "x": rng.normal(size=n)})
    frame = frame.assign(t=rng.normal(size=n), flag=False)
    for row, column, value in (
        (997, "x", 99.0),
        (1999, "x", -99.0),
        (2001, "z", "rare"),
        (3001, "flag", True),
    ):
        frame.loc[row, column] = value
    with pytest.raises(SpecError, match="depends on other rows than its own"):
        fit(f"t ~ {right} | g", frame)
    own = right.replace("x.mean()", "2 * x")
    assert (fit(f"t ~ {own} | g", frame).status["t"] == "ok").all()


# what is stored


def test_a_pickled_fit_predicts() -> None:
    frame = table()
    want = fit("t ~ x * z + center(y) | g", frame)
    got = pickle.loads(pickle.dumps(want))
    assert got.spec == want.spec
    assert got.lost_code == ()
    assert got.derived == want.derived != ()
    pd.testing.assert_frame_equal(got.predict(frame), want.predict(frame), check_exact=True)
    pd.testing.assert_frame_equal(got.augment(frame.iloc[:9]), want.augment(frame.iloc[:9]), check_exact=True)


def test_only_predicting_from_a_pickle_needs_formulaic(tmp_path: Path) -> None:
    frame = table()
    made = fit("t ~ x + C(z) | g", frame)
    (tmp_path / "fit.pickle").write_bytes(pickle.dumps((made, frame)))
    code = f"""if True:
        import pickle, sys, pathlib, gbreg
        sys.modules["formulaic"] = None
        fit, frame = pickle.loads(pathlib.Path({str(tmp_path / "fit.pickle")!r}).read_bytes())
        print(fit.params.shape)
        try:
            fit.predict(frame)
        except gbreg.MissingExtraError as error:
            print(error)
    """
    root = Path(gbreg.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.splitlines() == [
        str(made.params.shape),
        "formulas need formulaic: pip install formulaic",
    ]


def test_a_parquet_file_holds_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    frame = table()
    want = fit("log(u) ~ x + x:y + C(z) | g", frame)
    path = tmp_path / "fit.parquet"
    want.to_parquet(path)
    monkeypatch.setitem(sys.modules, "formulaic", None)  # nothing of it is needed from here on
    got = gbreg.read_parquet(path)
    assert not any(isinstance(column.source, Part) for column in (*got.spec.linear, *got.spec.targets))
    assert got.lost_code == want.derived == ("C(z)[T.b]", "C(z)[T.c]", "x:y", "log(u)")
    assert got.params.equals(want.params)
    with pytest.raises(ColumnError, match=r"the code of \['C.*, 'x:y'\] in linear= was not stored"):
        got.predict(frame)
    full = frame.assign(
        **{"x:y": frame["x"] * frame["y"], **{f"C(z)[T.{level}]": frame["z"] == level for level in "bc"}}
    )
    monkeypatch.undo()
    np.testing.assert_allclose(got.predict(full), want.predict(frame), rtol=1e-12)
    again = pickle.loads(pickle.dumps(want))
    again.to_parquet(path)
    assert gbreg.read_parquet(path).lost_code == want.derived


def test_variables_of_the_caller_are_not_seen() -> None:
    q = np.ones(N)
    with pytest.raises(ColumnError, match="formula= names what is not a column of the frame: 'q'"):
        fit("t ~ x + I(x * q) | g")
    assert len(q) == N


# errors


@pytest.mark.parametrize(
    ("formula", "error", "message"),
    [
        ("t ~ xx + y | g", ColumnError, "formula= names .*: 'xx'; did you mean 'x'"),
        ("t ~ log(odd) + yy:x | g", ColumnError, "formula= names .*: 'odd'.*, 'yy'; did you mean 'y'"),
        ("T ~ x | g", ColumnError, "formula= names .*: 'T'; did you mean 't'"),
        ("t ~ poly(xx, 2) | g", ColumnError, "formula= names .*: 'xx'"),
        ("t ~ Q('odd nam') | g", ColumnError, "'odd nam'; did you mean 'odd name'"),
        ("t ~ x | gg", ColumnError, "by= names .*: 'gg'; did you mean 'g'"),
        ("t ~ lgo(x) | g", SpecError, "calls functions .*: 'lgo'; did you mean 'log'"),
        ("t ~ x + I(y.fillna(0)) | g", SpecError, r"has \['I\(y.fillna\(0\)\)'\], .*fill it beforehand"),
        ("t ~ x +", SpecError, r"formula 't ~ x \+': Operator"),
        ("t ~ (x | g", SpecError, "formula"),
        ("t ~ I(x + ) | g", SpecError, "invalid syntax"),
        ("t ~ x ~ y | g", SpecError, "Operator `~` is incorrectly used"),
        ("t", SpecError, "must be 'targets ~ predictors'"),
        ("~ x | g", SpecError, "must be 'targets ~ predictors'"),
        ("", SpecError, "must be 'targets ~ predictors'"),
        ("t ~ . | g", SpecError, "name the predictors"),
        ("t ~ x**2 | g", SpecError, r"write I\(x\*\*2\)"),
        ("t ~ 2:x | g", SpecError, "have a number for a factor"),
        ("t:u ~ x | g", SpecError, r"targets joined by \+.*got \['t:u'\]"),
        ("1 + t ~ x | g", SpecError, r"got \['1'\]"),
        ("z ~ x | g", SpecError, r"targets must be numbers, but \['z'\] are categories"),
        ("t ~ x | C(g)", SpecError, r"names of columns joined by \+"),
        ("t ~ x | g * h", SpecError, r"names of columns joined by \+"),
        ("t ~ x | ", SpecError, r"names of columns joined by \+"),
        ("t ~ x | g | h", SpecError, "after one | come"),
        ("t ~ x || g", SpecError, "keys come after a"),
        ("t ~ x + | g", SpecError, r"a term is missing before \|"),
        ("t ~ | g", SpecError, r"a term is missing before \|; for the mean alone write 1"),
        ("t ~ x + (1 | g)", SpecError, "outside of parentheses"),
        ("t ~ x", SpecError, r"give by= or level=, one of them, or \| keys in a formula"),
        ("t ~ 0 | g", SpecError, "leaves nothing to fit"),
        ("t ~ x + g | g", SpecError, r"\['g'\] in linear= are also in by="),
        ("t ~ np.arange(3) | g", SpecError, "cannot be computed"),
        ("t ~ day:x | g", DTypeError, "'day' in linear= has dtype datetime"),
        ("t ~ numbers:x | g", DTypeError, "'numbers' in linear= has dtype object"),
        ("t ~ numbers | g", DTypeError, "'numbers' in linear= has dtype object"),
        (["t ~ x"], SpecError, "formula must be a str"),
    ],
)
def test_errors_name_the_part(formula: Any, error: type[Exception], message: str) -> None:
    frame = table().assign(day=pd.Timestamp("2024"))
    frame["numbers"] = pd.Series(frame["x"], dtype=object)
    with pytest.raises(error, match=message):
        fit(formula, frame)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"linear": ["x"]}, "give formula or linear=, not both"),
        ({"targets": ["t"]}, "give formula or targets=, not both"),
        ({"linear": [], "targets": ["t"]}, "give formula or linear= and targets=, not both"),
        ({"by": "g"}, "give formula or by=, not both"),
        ({"level": 0}, "give formula or level=, not both"),
        ({"intercept": False}, "write - 1 in it"),
        ({"intercept": 1}, "intercept must be True or False"),
    ],
)
def test_what_a_formula_says_is_not_said_twice(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fit("t ~ x + y | g", **given)
    assert fit("t ~ x - 1 | g", intercept=False).terms == ("x",)  # says the same
    with pytest.raises(SpecError, match=r"^'g' is taken for a formula and is none; for keys write by='g'$"):
        fit("g", linear=["x"], targets=["t"])


def test_columns_missing_from_another_frame_are_named() -> None:
    made = fit("t ~ x + x:y | g")
    with pytest.raises(ColumnError, match="formula= names what is not a column of the frame: 'y'"):
        made.predict(table().drop(columns="y"))


def test_without_formulaic_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(MissingExtraError, match="pip install formulaic"):
        fit("t ~ x | g")


def test_the_frame_is_not_changed_and_an_empty_one_is_fine() -> None:
    frame = table()
    before = frame.copy(deep=True)
    made = fit("t ~ x:y + C(z) + center(x) | g", frame)
    made.predict(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert len(fit("t ~ x:y + center(x) | g", frame.iloc[:0])) == 0
    assert made.predict(frame.iloc[:0]).shape == (0, 1)


def test_integers_beyond_floats_make_no_terms() -> None:
    start = 1_700_000_000_000_000_000
    frame = pd.DataFrame({"g": 0, "d": np.arange(0, 1000, 37)})
    frame["t"] = start + frame["d"]
    frame["y"] = 3.0 * frame["d"] + 1
    for text in (f"y ~ I(t - {start}) | g", "y ~ center(t) | g", "y ~ t:d | g", f"I(t - {start}) ~ d | g"):
        with pytest.raises(SpecError, match=r"column 't' has integers beyond 2\*\*53"):
            fit(text, frame)
    assert fit("y ~ t | g", frame).params["y", "t"].tolist() == pytest.approx([3.0], rel=1e-12)


LEVELS = {
    "bool": np.array([False, True] * 5),
    "int64": np.array([0, 1] * 5),
    "float64": np.array([0.0, 1.0] * 5),
    "Int64": pd.array([0, 1] * 5, dtype="Int64"),
    "boolean": pd.array([False, True] * 5, dtype="boolean"),
    "object": np.array([False, True] * 5, dtype=object),
    "text": np.array(["0", "1"] * 5),
    "int64[pyarrow]": pd.array([0, 1] * 5, dtype="int64[pyarrow]"),
    "bool[pyarrow]": pd.array([False, True] * 5, dtype="bool[pyarrow]"),
    "dates": pd.to_datetime(["2024-01-01", "2024-01-02"] * 5),
    "dates of Arrow": pd.array(pd.to_datetime(["2024-01-01", "2024-01-02"] * 5), "timestamp[us][pyarrow]"),
    "periods": pd.PeriodIndex(["2024-01", "2024-02"] * 5, freq="M"),
}


@pytest.mark.parametrize("learned", LEVELS)
def test_levels_of_another_dtype_are_the_same_or_none(learned: str) -> None:
    """Never the level that has no indicator."""
    frame = pd.DataFrame({"g": 1, "t": [10.0, 15.0] * 5})
    got = fit("t ~ C(b) | g", frame.assign(b=LEVELS[learned]))
    for dtype, values in LEVELS.items():
        predicted = got.predict(frame.assign(b=values))["t"]
        np.testing.assert_allclose(predicted[predicted.notna()], frame["t"][predicted.notna()], err_msg=dtype)
        assert predicted.notna().all() == predicted.notna().any()
        if dtype == learned:
            assert predicted.notna().all()


@pytest.mark.parametrize(
    ("learned", "asked", "known"),
    [
        ([2.0**53, 2.0**53 + 2], [2**53, 2**53 + 1, 2**53 + 2], [True, False, True]),
        (pd.IntervalIndex.from_breaks([0, 1, 2]), [0.0, 1.0, 2.0], [False] * 3),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), ["2020-01-01", "2020", "2020-01-02"], [False] * 3),
        (pd.PeriodIndex(["2020-01", "2020-02"], freq="M"), ["2020-01", "2020", "2020-02"], [False] * 3),
        ([False, True], pd.array([0, 1, 1], dtype="int64[pyarrow]"), [False] * 3),
        ([0, 1], [False, True, True], [False] * 3),
        (["a", "b"], pd.Categorical(["b", "a", "c"]), [True, True, False]),
    ],
)
def test_levels_are_known_by_their_value(learned: Any, asked: Any, known: list[bool]) -> None:
    frame = pd.DataFrame({"g": 1, "t": [10.0, 15.0] * 5, "b": np.tile(np.arange(2), 5)})
    got = fit("t ~ C(b) | g", frame.assign(b=pd.Series(learned).take(frame["b"]).array))
    assert got.predict(pd.DataFrame({"g": 1, "b": asked}))["t"].notna().tolist() == known


def test_frames_without_rows_have_the_terms_of_their_categories() -> None:
    frame = table().assign(z=lambda d: d["z"].astype("category"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fit("t ~ x + z | g", frame[:0]).terms == fit("t ~ x + z | g", frame).terms


def test_a_column_called_one_is_not_taken_for_the_constant() -> None:
    frame = pd.DataFrame({"g": 0, "1": np.arange(6.0), "y": np.arange(6.0) ** 2})
    with pytest.raises(gbreg.SpecError, match="a column called 1 would be the constant; use linear="):
        gbreg.fit(frame, "y ~ 0 + `1` | g", backend="numpy")


def test_a_formula_may_not_use_the_index() -> None:
    frame = pd.DataFrame({"g": np.repeat([0, 1], 6), "x": np.arange(12.0), "y": np.arange(12.0) ** 2})
    with pytest.raises(gbreg.SpecError, match="depends on other rows"):
        gbreg.fit(frame, "y ~ I(x * x.index) | g", backend="numpy")


@pytest.mark.parametrize("dtype", ["int64", "float64", "bool"])
def test_numbers_are_no_levels_of_text(dtype: str) -> None:
    """A plate "01" that was read from a file as 1 would be counted as often as its number."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"g": 0, "plate": np.tile(["01", "02", "03"], 20), "dose": rng.uniform(size=60)})
    frame["y"] = frame["plate"].map({"01": 0.0, "02": 10.0, "03": 20.0}) + frame["dose"]
    fit = gbreg.fit(frame, "y ~ dose + plate | g", backend="numpy")
    np.testing.assert_allclose(fit.predict(frame)["y"], frame["y"])
    assert fit.predict(frame.assign(plate=frame["plate"].astype("int64").astype(dtype)))["y"].isna().all()


def test_decimals_are_numbers_held_as_objects_and_no_categories() -> None:
    frame = pd.DataFrame({"g": np.repeat([0, 1], 6), "y": np.arange(12.0) ** 2})
    frame["d"] = [Decimal(i % 3) for i in range(12)]
    with pytest.raises(gbreg.DTypeError, match="'d' in linear= has dtype object"):
        gbreg.fit(frame, "y ~ d | g", backend="numpy")
