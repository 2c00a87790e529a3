# SPDX-License-Identifier: MIT
"""Penalised coefficients: against scikit-learn, exact algebra and laws."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from oracle import _inverse, digits
from sklearn.linear_model import Ridge

import gbreg
from gbreg.errors import CollinearityError, GbregWarning, SpecError

LINEAR = ["x", "z", "q"]
CALL = {"by": "g", "linear": LINEAR, "targets": ["y", "v"]}


def make_frame(groups: int = 12, seed: int = 4) -> pd.DataFrame:
    """Weighted groups of 3 to 30 rows, far from 0 in one predictor."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 30, groups)
    n = int(sizes.sum())
    frame = pd.DataFrame({"g": np.repeat(np.arange(groups), sizes)})
    frame["x"], frame["z"], frame["q"] = rng.normal(30, 1, n), rng.normal(size=n), rng.uniform(0, 9, n)
    frame["w"] = rng.uniform(0.2, 5, n)
    frame["y"] = 1 + 2 * frame["x"] - frame["z"] + rng.normal(size=n)
    frame["v"] = rng.normal(size=n) - frame["q"]
    return frame.sample(frac=1, random_state=seed)


def exact(X: np.ndarray, y: np.ndarray, w: np.ndarray, ridge: list[float], intercept: bool) -> list[Fraction]:
    """Coefficients in rational arithmetic: X (k, n)."""
    rows = [[Fraction(1)] * len(y)] * intercept + [[Fraction(float(v)) for v in x] for x in X]
    weights, target = [Fraction(float(v)) for v in w], [Fraction(float(v)) for v in y]
    penalty = [Fraction(0)] * intercept + [Fraction(float(v)) for v in ridge]
    gram = [[sum(a * b * c for a, b, c in zip(weights, r, s, strict=True)) for s in rows] for r in rows]
    for i, extra in enumerate(penalty):
        gram[i][i] += extra
    right = [sum(a * b * c for a, b, c in zip(weights, r, target, strict=True)) for r in rows]
    return [sum(a * b for a, b in zip(line, right, strict=True)) for line in _inverse(gram)]


@pytest.mark.compiled
@pytest.mark.parametrize("weights", [None, "w"])
@pytest.mark.parametrize("intercept", [True, False])
def test_it_is_that_of_sklearn(backend: str, intercept: bool, weights: str | None) -> None:
    frame = make_frame()
    for ridge in (2.5, [0.1, 7.0, 40.0]):
        fit = frame.gbreg.fit(**CALL, backend=backend, ridge=ridge, intercept=intercept, weights=weights)
        assert (fit.status == "ok").all(axis=None)
        unit = np.sqrt(np.broadcast_to(ridge, 3))  # sklearn takes one penalty for all predictors
        for g, rows in frame.groupby("g"):
            w = rows["w"].to_numpy() if weights else np.ones(len(rows))
            for target in ("y", "v"):
                model = Ridge(alpha=1.0, fit_intercept=intercept, solver="cholesky")
                model.fit(rows[LINEAR] / unit, rows[target], sample_weight=w)
                want = [*[model.intercept_] * intercept, *model.coef_ / unit]
                np.testing.assert_allclose(fit.params[target].loc[g], want, rtol=1e-9)
                resid = rows[target] - model.predict(rows[LINEAR] / unit)
                assert fit.ssr.loc[g, target] == pytest.approx((w * resid**2).sum(), rel=1e-9)
                mad = (resid - resid.median()).abs().median()
                assert fit.mad.loc[g, target] == pytest.approx(mad, rel=1e-8)


@pytest.mark.parametrize("intercept", [True, False])
def test_every_digit(backend: str, intercept: bool) -> None:
    """Also with more predictors than rows, dependent ones, and values far from 0."""
    rng = np.random.default_rng(8)
    for n, offset in ((2, 0.0), (3, 100.0), (9, 0.0), (9, 1e8 if intercept else 10.0)):
        x = offset + np.round(rng.normal(size=n), 3)
        frame = pd.DataFrame({"g": 0, "x": x, "z": 2 * x, "q": rng.normal(size=n)})
        frame["y"], frame["w"] = rng.normal(size=n), rng.uniform(1, 2, n)
        fit = gbreg.fit(
            frame, by="g", linear=LINEAR, targets=["y"], weights="w", backend=backend, ridge=[0.5, 1, 2],
            intercept=intercept,
        )  # fmt: skip
        want = exact(frame[LINEAR].to_numpy().T, frame["y"], frame["w"], [0.5, 1, 2], intercept)
        assert fit.status.loc[0, "y"] == "ok"
        slopes = slice(int(intercept), None)
        got = fit.params["y"].loc[0].to_numpy()[slopes]
        enough = 12.5 if intercept or not offset else 9  # through 0, these are nearly dependent
        assert min(digits(a, b) for a, b in zip(got, want[slopes], strict=True)) > enough


def test_what_the_augmented_rows_say(backend: str) -> None:
    """Degrees of freedom and condition number, by numpy on the rows and the penalty's."""
    frame = make_frame()
    ridge = np.array([0.5, 3.0, 20.0])
    fit = frame.gbreg.fit(**CALL, backend=backend, ridge=ridge, weights="w")
    for g, rows in frame.groupby("g"):
        side = np.sqrt(rows["w"].to_numpy())[:, None]
        X = np.column_stack([np.ones(len(rows)), rows[LINEAR]]) * side
        D = np.diag([0.0, *ridge])
        hat = X @ np.linalg.solve(X.T @ X + D, X.T)
        assert fit.df_resid.loc[g, "y"] == pytest.approx(len(rows) - np.trace(hat), rel=1e-9)
        assert fit.scale.loc[g, "y"] == pytest.approx(fit.ssr.loc[g, "y"] / fit.df_resid.loc[g, "y"])
        assert fit.rms.loc[g, "y"] == pytest.approx(np.sqrt(fit.ssr.loc[g, "y"] / rows["w"].sum()))
        values = np.linalg.svd(np.vstack([X, np.sqrt(D)]), compute_uv=False)
        assert fit.condition_number.loc[g, "y"] == pytest.approx(values[0] / values[-1], rel=1e-6)
        y = rows["y"] - np.average(rows["y"], weights=rows["w"])
        tss = (rows["w"] * y**2).sum()
        assert fit.rsquared.loc[g, "y"] == pytest.approx(1 - fit.ssr.loc[g, "y"] / tss)


@pytest.mark.parametrize("intercept", [True, False])
def test_predictors_in_their_deviations(backend: str, intercept: bool) -> None:
    """``ridge_standardize`` is the ridge of standardised columns, scaled back."""
    frame = make_frame()
    fit = frame.gbreg.fit(
        **CALL, backend=backend, weights="w", ridge=3.0, ridge_standardize=True, intercept=intercept
    )
    for g, rows in frame.groupby("g"):
        X, w = rows[LINEAR].to_numpy(), rows["w"].to_numpy()
        mean = np.average(X, axis=0, weights=w) if intercept else np.zeros(3)
        sd = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=w))
        model = Ridge(alpha=3.0, fit_intercept=intercept).fit((X - mean) / sd, rows["y"], sample_weight=w)
        np.testing.assert_allclose(fit.params["y"].loc[g, LINEAR], model.coef_ / sd, rtol=1e-9)
    scaled = frame.assign(x=frame["x"] * 1000)
    again = scaled.gbreg.fit(
        **CALL, backend=backend, weights="w", ridge=3.0, ridge_standardize=True, intercept=intercept
    )
    np.testing.assert_allclose(again.params["y"]["x"] * 1000, fit.params["y"]["x"], rtol=1e-10)


def test_none_is_the_plain_fit_and_little_is_near_it(backend: str) -> None:
    frame = make_frame().groupby("g").filter(lambda rows: len(rows) > 8)
    plain = frame.gbreg.fit(**CALL, backend=backend)
    none = frame.gbreg.fit(**CALL, backend=backend, ridge=0)
    pd.testing.assert_frame_equal(none.params, plain.params, check_exact=True)
    pd.testing.assert_frame_equal(none.bse, plain.bse, check_exact=True)
    little = frame.gbreg.fit(**CALL, backend=backend, ridge=1e-11)
    np.testing.assert_allclose(little.params, plain.params, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(little.df_resid, plain.df_resid, rtol=1e-9)
    named = frame.gbreg.fit(**CALL, backend=backend, ridge={"z": 4.0})
    listed = frame.gbreg.fit(**CALL, backend=backend, ridge=[0, 4, 0])
    pd.testing.assert_frame_equal(named.params, listed.params, check_exact=True)
    much = frame.gbreg.fit(**CALL, backend=backend, ridge={"z": 1e200})
    without = frame.gbreg.fit(**{**CALL, "linear": ["x", "q"]}, backend=backend)
    np.testing.assert_allclose(much.params["y"][["Intercept", "x", "q"]], without.params["y"], rtol=1e-9)


def test_repeated_rows_are_whole_weights(backend: str) -> None:
    frame = make_frame()
    frame["w"] = np.arange(len(frame)) % 3 + 1.0
    call = {**CALL, "backend": backend, "ridge": [1.0, 0.0, 2.0]}
    repeated = frame.loc[frame.index.repeat(frame["w"].astype(int))].gbreg.fit(**call, mad=False)
    analytic = frame.gbreg.fit(**call, weights="w")
    counts = frame.gbreg.fit(**call, weights="w", weights_type="frequency")
    for name in ("params", "ssr", "rsquared", "rms"):
        pd.testing.assert_frame_equal(getattr(analytic, name), getattr(repeated, name), rtol=1e-9)
        pd.testing.assert_frame_equal(getattr(counts, name), getattr(repeated, name), rtol=1e-9)
    for name in ("nobs", "df_resid", "scale", "status"):
        pd.testing.assert_frame_equal(getattr(counts, name), getattr(repeated, name), rtol=1e-9)


def test_rows_and_groups_in_any_order_or_company(backend: str) -> None:
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, backend=backend, ridge=1.0)
    shuffled = frame.sample(frac=1, random_state=2).gbreg.fit(**CALL, backend=backend, ridge=1.0)
    pd.testing.assert_frame_equal(shuffled.params, fit.params, rtol=1e-10)
    alone = frame[frame["g"] == 7].gbreg.fit(**CALL, backend=backend, ridge=1.0)
    pd.testing.assert_frame_equal(alone.params, fit.params.loc[[7]], check_exact=True)
    named = frame.assign(g=frame["g"].map(lambda g: f"k{50 - g}"))
    renamed = named.gbreg.fit(**CALL, backend=backend, ridge=1.0)
    np.testing.assert_array_equal(renamed.params, fit.params[::-1])


@pytest.mark.parametrize("options", [{"ridge": 1.0}, {"bounds": (0, None)}, {"ridge": [1, 0, 1]}])
def test_pieces_change_no_bit_and_nothing_may_be_there(
    backend: str, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame().groupby("g").filter(lambda rows: len(rows) > 4)
    whole = frame.gbreg.fit(**CALL, **options, backend=backend)
    monkeypatch.setattr("gbreg.shrinkage.CHUNK_ROWS", 7)
    pieces = frame.gbreg.fit(**CALL, **options, backend=backend)
    for name in ("params", "ssr", "mad", "df_resid", "digits", "condition_number", "status", "flags"):
        pd.testing.assert_frame_equal(getattr(pieces, name), getattr(whole, name), check_exact=True)
    assert frame.iloc[:0].gbreg.fit(**CALL, **options, backend=backend).params.shape == (0, 8)
    some = frame.gbreg.fit(**CALL, **options, backend=backend, where=frame["g"] != frame["g"].max())
    assert some.status["y"].tolist() == ["ok"] * (len(some) - 1) + ["no_data"]
    assert np.isnan(some.df_resid["y"].iloc[-1])
    pd.testing.assert_frame_equal(some.params[:-1], whole.params[:-1], check_exact=True)


def test_targets_have_their_own_rows(backend: str) -> None:
    frame = make_frame()
    frame.loc[frame.index[::4], "v"] = np.nan
    both = frame.gbreg.fit(**CALL, backend=backend, ridge=1.0)
    for target in ("y", "v"):
        alone = frame.dropna(subset=[target]).gbreg.fit(
            **{**CALL, "targets": [target]}, backend=backend, ridge=1.0
        )
        for name in ("params", "df_resid", "rms", "mad", "digits"):
            pd.testing.assert_frame_equal(getattr(both, name)[[target]], getattr(alone, name))


def test_few_rows_and_constant_columns(backend: str) -> None:
    parts = {
        "one": {"x": [1.0], "z": [2.0], "y": [3.0]},
        "two": {"x": [1.0, 2.0], "z": [2.0, 5.0], "y": [3.0, 4.0]},
        "flat": {"x": [0.1] * 4, "z": [1.0, 2, 3, 5], "y": [1.0, 2, 2, 3]},
        "same": {"x": [1.0, 2, 4], "z": [1.0, 5, 3], "y": [0.1] * 3},
    }
    frame = pd.concat(pd.DataFrame({"g": g, **columns}) for g, columns in parts.items())
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "backend": backend}
    for standardize in (False, True):
        fit = frame.gbreg.fit(**call, ridge=1.0, ridge_standardize=standardize)
        params = fit.params["y"]
        assert fit.status["y"].to_dict() == {"one": "saturated", "two": "ok", "flat": "ok", "same": "ok"}
        assert params.loc["one"].tolist() == [3.0, 0.0, 0.0]
        assert params.loc["same"].tolist() == [0.1, 0.0, 0.0]
        assert params.loc["flat", "x"] == 0
        assert fit.flags["y"].loc["same", ["constant_target", "perfect_fit"]].all()
        assert np.isnan(fit.scale.loc["one", "y"])
        assert fit.df_resid.loc["one", "y"] == 0
        one = frame.gbreg.fit(**{**call, "linear": ["z"]}, ridge=1.0, ridge_standardize=standardize)
        np.testing.assert_allclose(params.loc["flat", "z"], one.params["y"].loc["flat", "z"], rtol=1e-12)
    with pytest.warns(GbregWarning, match="1 too_few_rows"):
        fit = frame.gbreg.fit(**call, ridge=1.0, min_nobs=2)
    assert fit.params["y"].loc["one"].isna().all()


def test_predictors_without_penalty_may_still_be_dependent(backend: str) -> None:
    frame = make_frame().groupby("g").filter(lambda rows: len(rows) > 8)
    frame["twice"] = 2 * frame["x"]
    call = {"by": "g", "targets": ["y"], "backend": backend}
    linear = ["x", "z", "twice"]
    half = frame.gbreg.fit(**call, linear=linear, ridge={"twice": 1.0})  # penalised: not dependent
    assert (half.status == "ok").all(axis=None)
    np.testing.assert_allclose(half.params["y"]["twice"], 0, atol=1e-12)
    with pytest.warns(GbregWarning, match="rank_deficient.*predictors 'twice'"):
        nan = frame.gbreg.fit(**call, linear=linear, ridge={"z": 5.0})
    want = frame.gbreg.fit(**call, linear=["x", "z"], ridge={"z": 5.0}).params["y"]
    assert nan.params["y"][["x", "twice"]].isna().all(axis=None)
    np.testing.assert_allclose(nan.params["y"][["Intercept", "z"]], want[["Intercept", "z"]], rtol=1e-9)
    with pytest.warns(GbregWarning, match="rank_deficient"):
        drop = frame.gbreg.fit(**call, linear=linear, ridge={"z": 5.0}, on_collinear="drop")
    np.testing.assert_allclose(drop.params["y"][["Intercept", "x", "z"]], want, rtol=1e-9)
    pd.testing.assert_frame_equal(nan.ssr, drop.ssr)
    assert drop.predict(frame)["y"].notna().all()
    with pytest.raises(CollinearityError, match="predictors 'twice'"):
        frame.gbreg.fit(**call, linear=linear, ridge={"z": 5.0}, on_collinear="raise")


def test_a_penalty_that_rounding_hides_gives_no_numbers(backend: str) -> None:
    frame = pd.DataFrame({"g": 1, "x": [0.0, 1, 2, 3, 4], "y": [1.0, 2, 2, 4, 5]}).eval("z = x / 3")
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "backend": backend}
    with pytest.warns(GbregWarning, match="rank_deficient"):
        fit = frame.gbreg.fit(**call, ridge=1e-30)
    assert fit.params.isna().all(axis=None)
    assert fit.predict(frame).isna().all(axis=None)
    little = frame.gbreg.fit(**call, ridge=1e-10)
    assert little.flags["y"]["ill_conditioned"].all()
    assert 3 < little.digits.loc[1, "y"] < 8
    want = exact(frame[["x", "z"]].to_numpy().T, frame["y"], np.ones(5), [1e-10, 1e-10], True)
    got = little.params["y"].loc[1].to_numpy()
    assert min(digits(a, b) for a, b in zip(got, want, strict=True)) > 4


@pytest.mark.parametrize("size", [1e-200, 1e-100, 1e100, 1e200])
def test_sizes_near_the_ends_of_float64(backend: str, size: float) -> None:
    frame = make_frame()[["g", *LINEAR, "y", "v"]]
    call = {**CALL, "backend": backend}
    plain = frame.gbreg.fit(**call, ridge=2.0)
    targets = frame.assign(y=frame["y"] * size, v=frame["v"] * size).gbreg.fit(**call, ridge=2.0)
    np.testing.assert_allclose(targets.params / size, plain.params, rtol=1e-10)
    np.testing.assert_allclose(targets.rms / size, plain.rms, rtol=1e-10)
    scaled = frame.assign(**{name: frame[name] * size for name in LINEAR})
    standard = frame.gbreg.fit(**call, ridge=2.0, ridge_standardize=True)
    got = scaled.gbreg.fit(**call, ridge=2.0, ridge_standardize=True)
    np.testing.assert_allclose(got.params["y"][LINEAR] * size, standard.params["y"][LINEAR], rtol=1e-10)
    np.testing.assert_allclose(got.rsquared, standard.rsquared, rtol=1e-10)


def test_a_slope_below_the_range_is_overflow(backend: str) -> None:
    frame = pd.DataFrame({"g": 1, "x": np.arange(5.0) * 1e-170, "y": np.arange(5.0) ** 2 * 1e-170})
    with pytest.warns(GbregWarning, match="1 overflow"):
        fit = frame.gbreg.fit(by="g", linear=["x"], targets=["y"], ridge=1.0, backend=backend)
    assert fit.params.isna().all(axis=None)


def test_whole_numbers_beyond_the_range_of_floats(backend: str) -> None:
    step = np.array([0, 1, 3, 4, 9])
    frame = pd.DataFrame({"g": 1, "t": 2**60 + step, "y": [1.0, 2, 2, 5, 9]})
    small = pd.DataFrame({"g": 1, "t": step, "y": frame["y"]})
    call = {"by": "g", "linear": ["t"], "targets": ["y"], "backend": backend, "ridge": 2.0}
    got, want = frame.gbreg.fit(**call), small.gbreg.fit(**call)
    assert got.params.loc[1, ("y", "t")] == pytest.approx(want.params.loc[1, ("y", "t")], rel=1e-14)
    np.testing.assert_allclose(got.predict(frame), want.predict(small), rtol=1e-13)
    slope = Fraction(got.params.loc[1, ("y", "t")])
    level = Fraction(19, 5) - slope * (2**60 + Fraction(17, 5))
    assert got.params.loc[1, ("y", "Intercept")] == pytest.approx(float(level), rel=1e-14)


def test_what_has_no_errors_says_so() -> None:
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, ridge=[1.0, 0, 0])
    match = r"needs standard errors, which a fit with ridge=\[1.0, 0.0, 0.0\] does not have"
    for call in (
        lambda: fit.bse,
        lambda: fit.tvalues,
        lambda: fit.pvalues,
        fit.conf_int,
        lambda: fit.cov_params("y"),
        lambda: fit.wald_test("x = 0"),
        lambda: fit.predict(frame, interval="confidence"),
        lambda: fit.to_frame(stats=["bse"]),
    ):
        with pytest.raises(SpecError, match=match):
            call()
    for name in ("llf", "aic", "bic", "rsquared_adj", "fvalue", "f_pvalue"):
        with pytest.raises(SpecError, match=f"{name} is of least squares"):
            getattr(fit, name)
    assert list(fit.tidy().columns) == ["g", "target", "term", "estimate"]
    assert not set(fit.glance().columns) & {"aic", "bic", "log_lik", "adj_r_squared"}
    assert not [name for name in fit.to_frame().columns if str(name).endswith("_err")]
    assert list(fit.augment(frame).columns[-4:]) == ["y_fitted", "y_resid", "v_fitted", "v_resid"]
    text = repr(fit)
    assert "ridge=[1.0, 0.0, 0.0]" in text
    assert "±" not in text
    summary = repr(fit.group(0))
    assert "std err" not in summary
    assert "AIC" not in summary
    assert "<table" in fit.group(0)._repr_html_()


def test_fitted_values_formulas_and_storage(tmp_path, backend: str) -> None:
    frame = make_frame()
    fit = frame.gbreg.fit(**CALL, backend=backend, weights="w", ridge=2.0, ridge_standardize=True)
    fitted = fit.predict(frame)["y"]
    params = fit.params["y"].loc[frame["g"]]
    by_hand = params["Intercept"].to_numpy() + (params[LINEAR].to_numpy() * frame[LINEAR]).sum(axis=1)
    np.testing.assert_allclose(fitted, by_hand, rtol=1e-11)
    merged = frame.merge(fit.to_frame(), on="g")
    again = merged.eval(fit.formulas()["y"]["residual"]).to_numpy()
    np.testing.assert_allclose(again, merged["y"] - fit.predict(merged)["y"], atol=1e-10)
    fit.to_parquet(tmp_path / "fit.parquet")
    for back in (gbreg.read_parquet(tmp_path / "fit.parquet"), pickle.loads(pickle.dumps(fit))):
        pd.testing.assert_frame_equal(back.params, fit.params)
        pd.testing.assert_frame_equal(back.df_resid, fit.df_resid)
        pd.testing.assert_frame_equal(back.predict(frame), fit.predict(frame))
        assert back.spec.criterion == "ridge=2.0, ridge_standardize=True"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ridge": -1}, "ridge must be a finite number, at least 0, got -1"),
        ({"ridge": np.inf}, "ridge must be a finite number, at least 0, got inf"),
        ({"ridge": 10**400}, "ridge must be a finite number, at least 0, got 1000"),
        ({"ridge": np.array(-1.0)}, "ridge must be a finite number, at least 0, got -1.0"),
        (
            {"ridge": pd.Series([1.0, 2.0], ["x", "x"])},
            "ridge= names predictors more than once: .*x",
        ),
        ({"bounds": (10**400, 10**401)}, "bounds must be low <= high, got"),
        ({"clip": 10**400}, "clip must be a number of standard deviations, at least 1"),
        ({"ridge": np.nan}, "ridge must be a finite number, at least 0, got nan"),
        ({"ridge": True}, "ridge must be a number, one per predictor, or a mapping"),
        ({"ridge": "1"}, "ridge must be a number, one per predictor, or a mapping"),
        ({"ridge": [1, 2]}, "ridge must have one number per predictor, 3, got 2"),
        ({"ridge": [1, 2, "3"]}, "ridge must be a finite number, at least 0 for 'q', got '3'"),
        ({"ridge": {"xx": 1}}, "ridge= names 'xx', predictors are .*did you mean 'x'"),
        ({"ridge": {"Intercept": 1}}, "ridge= names 'Intercept', predictors are"),
        ({"ridge": 1, "ridge_standardize": 1}, "ridge_standardize must be True or False, got 1"),
        ({"ridge_standardize": True}, "ridge_standardize= needs ridge="),
        ({"ridge": 1, "cov_type": "HC1"}, "ridge= leaves no standard errors, got cov_type='HC1'"),
        ({"ridge": 1, "clip": 3.0}, "ridge= does not go with clip="),
        (
            {"ridge": 1, "bounds": (0, 1), "precision": "extended"},
            "a fit with ridge= and bounds= is computed in float64 only",
        ),
        (
            {"ridge": 1, "precision": "extended"},
            'ridge= is computed in float64 only, got precision="extended"',
        ),
        ({"ridge": [1, 0, 1], "min_nobs": 1}, r"number of coefficients without ridge \(2\), got 1"),
    ],
)
def test_names_of_what_cannot_be(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_frame().gbreg.fit(**CALL, **options)


def test_a_series_of_penalties_is_read_by_its_labels(backend):
    call = {"by": "g", "linear": ["x", "z"], "targets": ["y"], "backend": backend}
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"g": np.repeat([0, 1], 20), **{name: rng.normal(size=40) for name in "xzy"}})
    got = frame.gbreg.fit(**call, ridge=pd.Series({"z": 5.0, "x": 1.0})).params
    pd.testing.assert_frame_equal(got, frame.gbreg.fit(**call, ridge={"x": 1.0, "z": 5.0}).params)
    with pytest.raises(SpecError, match="ridge must be a number, one per predictor, or a mapping"):
        frame.gbreg.fit(**call, ridge={1.0, 5.0})


@pytest.mark.parametrize("ridge", [100.0, 1.0, 1e-4, 1e-8])
def test_condition_number_where_a_predictor_is_constant(backend: str, ridge: float) -> None:
    frame = pd.DataFrame({"g": 0, "x": [1.0, 2, 3, 4, 5], "c": 3.0, "o": 0.0, "y": [1.0, 3, 2, 5, 4]})
    fit = frame.gbreg.fit(by="g", linear=["x", "c", "o"], targets=["y"], ridge=ridge, backend=backend)
    X = np.column_stack([np.ones(5), frame[["x", "c", "o"]]])
    want = np.linalg.cond(np.vstack([X, np.sqrt(ridge) * np.eye(4)[1:]]))
    assert fit.condition_number.iloc[0, 0] == pytest.approx(want, rel=1e-6)


def test_a_ridge_of_no_predictors_is_refused() -> None:
    with pytest.raises(SpecError, match=r"^ridge= is of predictors, and linear= has none"):
        make_frame().gbreg.fit(by="g", linear=[], targets=["y"], ridge=1.0)


def test_flags_go_with_the_numbers() -> None:
    """The plain fit of a group that then has none may have been perfect."""
    frame = pd.DataFrame({"g": 0, "a": [0.0], "b": [-1.0], "y": [5.0]})
    call = {"by": "g", "linear": ["a", "b"], "targets": ["y"], "intercept": False, "ridge": [0, 0.5]}
    flags = []
    for backend in ("numba", "numpy"):
        with pytest.warns(GbregWarning):
            fit = frame.gbreg.fit(**call, bounds={"b": (0, 2)}, backend=backend)
        assert fit.status["y"].tolist() == ["rank_deficient"]
        flags.append(fit.flags["y"].iloc[0].tolist())
    assert flags[0] == flags[1]
    assert not fit.flags["y"]["perfect_fit"].any()


@pytest.mark.parametrize("bounds", [None, (0, 9)])
def test_a_saturated_group_is_no_perfect_fit(bounds: tuple[int, int] | None) -> None:
    frame = pd.DataFrame({"g": [0, 0, 1, 1, 1], "x": [1.0, 2, 1, 2, 4], "y": [1.0, 3, 2, 5, 4]})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], ridge=1e-30, bounds=bounds, backend="numpy")
    assert fit.status["y"].tolist() == ["saturated", "ok"]
    assert not fit.flags["y"]["perfect_fit"].any()
