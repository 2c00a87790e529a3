# SPDX-License-Identifier: MIT
"""Bad inputs, one by one: the number is right, or the status or the error says why there is none."""

from __future__ import annotations

import datetime as dt
import decimal
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import oracle
import pandas as pd
import pytest

import gbreg
from gbreg import (
    CollinearityError,
    ColumnError,
    DTypeError,
    GbregWarning,
    GroupFit,
    MissingDataError,
    SpecError,
    WeightsError,
)

NAN, INF = np.nan, np.inf
N = 12
Group = dict[str, np.ndarray]
NOTHING: frozenset[str] = frozenset()


def group(seed: int, n: int = N) -> Group:
    rng = np.random.default_rng(seed)
    x1, x2, x3 = rng.normal(size=(3, n))
    y = 1 + 2 * x1 - x2 + 0.3 * rng.normal(size=n)
    return {"x1": x1, "x2": x2, "x3": x3, "y": y, "w": rng.uniform(0.5, 2, n)}


def frame_of(bad: Group, by_label: bool = True) -> pd.DataFrame:
    """Groups a and c are fine, b is not; their rows are mixed."""
    parts = [
        pd.DataFrame(values).assign(g=key)
        for key, values in zip("abc", (group(1), bad, group(3)), strict=True)
    ]
    frame = pd.concat(parts, ignore_index=True)
    order = np.random.default_rng(0).permutation(len(frame))
    frame = frame.iloc[order]
    frame.index = [f"r{i}" for i in range(len(frame))] if by_label else range(len(frame))
    return frame


def fitted(frame: pd.DataFrame, backend: str, warns: str | None = None, **options: Any) -> GroupFit:
    """A fit that gives no warning, or one that matches."""
    call: dict[str, Any] = {"by": "g", "linear": ["x1", "x2"], "targets": ["y"], **options}
    if warns is None:
        return gbreg.fit(frame, backend=backend, **call)
    with pytest.warns(GbregWarning, match=warns) as caught:
        fit = gbreg.fit(frame, backend=backend, **call)
    assert len(caught) == 1
    return fit


def flags(fit: GroupFit, key: Any, target: str = "y") -> set[str]:
    row = fit.flags.loc[key, target]
    return set(row.index[row])


def numbers(fit: GroupFit, keys: list[Any]) -> list[bytes]:
    """Everything estimated for these groups, to the last bit."""
    at = fit.keys.get_indexer(keys)
    assert (at >= 0).all()
    names = [name for name in fit.estimates.__dataclass_fields__ if name != "pattern"]
    return [np.ascontiguousarray(getattr(fit.estimates, name)[at]).tobytes() for name in names]


def exact_answer(
    columns: list[np.ndarray], y: np.ndarray, w: np.ndarray | None, intercept: bool = True
) -> oracle.Answer:
    """Integer columns may be beyond 2**53: the oracle gets differences and what was taken away."""
    origin = [int(v[0]) if v.dtype.kind in "iu" else 0 for v in (*columns, y)]
    near = [
        np.array([float(int(v) - o) for v in values]) if values.dtype.kind in "iu" else values.astype(float)
        for values, o in zip((*columns, y), origin, strict=True)
    ]
    X = np.array(near[:-1]).reshape(len(columns), len(y))
    return oracle.weighted_least_squares(X, near[-1], w, intercept, origin)


def check_numbers(fit: GroupFit, key: Any, want: oracle.Answer, digits: tuple[float, float, float]) -> None:
    """Coefficients, errors and rms of a group have so many digits."""
    q = fit.keys.get_loc(key)
    n, p, total = len(want.residuals), len(want.params), fit.estimates.wsum[q, 0]
    assert fit.nobs.loc[key, "y"] == n
    assert fit.df_resid.loc[key, "y"] == n - p
    with mpmath.workdps(oracle.DIGITS):
        sigma = mpmath.sqrt(oracle.real(want.rss) / (n - p))
        errors = [sigma * root for root in want.root]
        rms = mpmath.sqrt(oracle.real(want.rss) / oracle.real(Fraction(float(total))))
    got = (
        oracle.worst(fit.params.loc[key, "y"].to_numpy(), want.params),
        oracle.worst(fit.bse.loc[key, "y"].to_numpy(), errors),
        oracle.digits(fit.rms.loc[key, "y"], rms),
    )
    assert all(g >= d for g, d in zip(got, digits, strict=True)), got
    assert oracle.digits(fit.rsquared.loc[key, "y"], 1 - want.rss / want.tss) >= digits[2]


# groups that are fitted


@dataclass(frozen=True)
class Case:
    """How group b is spoilt, and what becomes of it."""

    spoil: Callable[[Group], Any]  # changes the group, or returns another one
    flags: frozenset[str] | set[str] = NOTHING
    options: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # rows of b that take no part
    digits: tuple[float, float, float] = (13, 12.5, 12.5)


def put(name: str, rows: Any, value: Any) -> Callable[[Group], None]:
    def spoil(b: Group) -> None:
        b[name][rows] = value

    return spoil


def change(name: str, function: Callable[[Group], np.ndarray]) -> Callable[[Group], None]:
    def spoil(b: Group) -> None:
        b[name] = function(b)

    return spoil


WEIGHTED = {"weights": "w"}
NEAR = {d: change("x2", lambda b, d=d: b["x1"] + d * b["x2"]) for d in (1e-6, 1e-8, 1e-10, 1e-12, 1e-14)}
FITS = {
    "nothing wrong": Case(lambda b: None),
    "nan in x": Case(put("x2", 3, NAN), {"rows_dropped"}, counts={"missing": 1}),
    "nan in y": Case(put("y", 3, NAN), {"rows_dropped"}, counts={"missing": 1}),
    "inf in x": Case(put("x1", 3, INF), {"rows_dropped"}, counts={"infinite": 1}),
    "-inf in y": Case(put("y", 3, -INF), {"rows_dropped"}, counts={"infinite": 1}),
    "nan and inf": Case(
        lambda b: (put("x1", 3, NAN)(b), put("x2", [3, 4], INF)(b), put("y", [4, 5], NAN)(b)),
        {"rows_dropped"},
        counts={"missing": 2, "infinite": 1},
    ),
    "two weights zero": Case(
        put("w", [0, 5], 0.0), {"zero_weights"}, options=WEIGHTED, counts={"zero_weight": 2}
    ),
    "nan where the weight is zero": Case(
        lambda b: (put("w", 5, 0.0)(b), put("x1", 5, NAN)(b)),
        {"zero_weights"},
        options=WEIGHTED,
        counts={"zero_weight": 1},
    ),
    "nearly collinear 1e-6": Case(NEAR[1e-6], {"extended"}),
    "nearly collinear 1e-8": Case(NEAR[1e-8], {"extended", "ill_conditioned"}),
    # Errors hang on a pivot that is d**2 of its column: of the 32 digits of double-double, 32 - 20 and
    # 32 - 24 are left, and the last one is rounding. Coefficients are refined, and keep all.
    "nearly collinear 1e-10": Case(NEAR[1e-10], {"extended", "ill_conditioned"}, digits=(13, 10.5, 12.5)),
    "nearly collinear 1e-12": Case(NEAR[1e-12], {"extended", "ill_conditioned"}, digits=(13, 6.5, 12.5)),
    "x at 1e6": Case(change("x1", lambda b: 1e6 + b["x1"])),
    "x at 1e8": Case(change("x1", lambda b: 1e8 + b["x1"])),
    "both x at 1e8": Case(lambda b: b.update(x1=1e8 + b["x1"], x2=1e8 - b["x2"])),
    "y at 1e12": Case(change("y", lambda b: 1e12 + b["y"])),
    "x at 1e200": Case(change("x1", lambda b: 1e200 * b["x1"]), {"extended"}),
    "x at 1e-200": Case(change("x1", lambda b: 1e-200 * b["x1"]), {"extended"}),
    "both scales": Case(lambda b: b.update(x1=1e200 * b["x1"], x2=1e-200 * b["x2"]), {"extended"}),
    "y at 1e200": Case(change("y", lambda b: 1e200 * b["y"]), {"extended"}),
    "y at 1e-200": Case(change("y", lambda b: 1e-200 * b["y"]), {"extended"}),
    "x1 1e9 times x2": Case(change("x1", lambda b: 1e9 * b["x1"])),
    "x hardly normal": Case(lambda b: b.update(x2=1e-305 * b["x2"], y=1e-20 * b["y"]), {"extended"}),
    "weights at 1e200": Case(change("w", lambda b: 1e200 * b["w"]), options=WEIGHTED),
    "weights at 1e-200": Case(change("w", lambda b: 1e-200 * b["w"]), options=WEIGHTED),
    "weights at 1e300": Case(change("w", lambda b: 1e300 * b["w"]), {"extended"}, options=WEIGHTED),
    "weights at 1e-300": Case(change("w", lambda b: 1e-300 * b["w"]), {"extended"}, options=WEIGHTED),
    "one weight 1e16": Case(put("w", 4, 1e16), {"extended"}, options=WEIGHTED),
    "duplicated rows": Case(lambda b: b.update({name: np.repeat(v[:6], 2) for name, v in b.items()})),
}


@pytest.mark.parametrize("name", FITS)
def test_spoilt_groups_that_can_be_fitted_are_exact(backend: str, name: str) -> None:
    case, bad = FITS[name], group(2)
    case.spoil(bad)
    frame = frame_of(bad)
    fit = fitted(frame, backend, **case.options)
    assert fit.status["y"].tolist() == ["ok"] * 3
    assert flags(fit, "b") == set(case.flags)
    got = fit.accounting(per_group=True).loc["b", "y"].to_dict()
    lost = {"missing": 0, "infinite": 0, "clipped": 0, "zero_weight": 0, "not_selected": 0} | case.counts
    assert got == lost | {"rows": N, "used": N - sum(lost.values())}

    b = frame[frame["g"] == "b"]
    b = b[np.isfinite(b[["x1", "x2", "y"]]).all(axis=1) & (b["w"] > 0 if case.options else True)]
    weights = b["w"].to_numpy() if case.options else None
    want = exact_answer([b["x1"].to_numpy(), b["x2"].to_numpy()], b["y"].to_numpy(), weights)
    check_numbers(fit, "b", want, case.digits)
    others = fitted(frame[frame["g"] != "b"], backend, **case.options)
    assert numbers(fit, ["a", "c"]) == numbers(others, ["a", "c"])


@pytest.mark.parametrize("name", FITS)
def test_backends_give_the_same_numbers(name: str) -> None:
    case, bad = FITS[name], group(2)
    case.spoil(bad)
    numba, numpy, loky = (
        fitted(frame_of(bad), which, **case.options) for which in ("numba", "numpy", "loky")
    )
    assert numbers(numba, ["b"]) == numbers(loky, ["b"])
    rtol = max(1e-10, 10 ** -case.digits[1])
    for statistic in ("params", "bse", "rms", "mad", "rsquared"):
        got, want = (getattr(fit, statistic).loc["b"].to_numpy() for fit in (numba, numpy))
        np.testing.assert_allclose(got, want, rtol=rtol, err_msg=statistic)


def test_nearly_collinear_predictors_say_how_many_digits_are_left(backend: str) -> None:
    left = {}
    for d in (1e-6, 1e-8, 1e-10, 1e-12):
        bad = group(2)
        NEAR[d](bad)
        left[d] = fitted(frame_of(bad), backend).digits["y"]
    for d, digits in left.items():
        assert digits["b"] == pytest.approx(16 + np.log10(d), abs=1)
        assert digits["a"] > 15


# groups that cannot be fitted


@dataclass(frozen=True)
class Failure:
    """How group b is spoilt, and what is said about it."""

    spoil: Callable[[Group], Any]
    status: str
    warns: str
    flags: frozenset[str] | set[str] = NOTHING
    options: dict[str, Any] = field(default_factory=dict)
    used: int = N


def cut(n: int) -> Callable[[Group], None]:
    return lambda b: b.update({name: values[:n] for name, values in b.items()})


FAILURES = {
    "all weights zero": Failure(
        put("w", slice(None), 0.0), "no_data", r"1 no_data \('b'\)", {"zero_weights"}, WEIGHTED, used=0
    ),
    "two positive weights": Failure(
        put("w", slice(2, None), 0.0),
        "too_few_rows",
        r"1 too_few_rows \('b'\)",
        {"zero_weights"},
        WEIGHTED,
        used=2,
    ),
    "two rows": Failure(cut(2), "too_few_rows", r"1 too_few_rows \('b'\)", used=2),
    "one row": Failure(cut(1), "too_few_rows", r"1 too_few_rows \('b'\)", used=1),
    "all x nan": Failure(
        put("x1", slice(None), NAN), "no_data", r"1 no_data \('b'\)", {"rows_dropped"}, used=0
    ),
    "two y not nan": Failure(
        put("y", slice(2, None), NAN), "too_few_rows", r"1 too_few_rows \('b'\)", {"rows_dropped"}, used=2
    ),
    "subnormal x": Failure(
        change("x2", lambda b: 1e-310 * b["x2"]), "overflow", r"1 overflow \('b'\)", {"extended"}
    ),
    "subnormal x and small y": Failure(
        lambda b: b.update(x2=1e-310 * b["x2"], y=1e-20 * b["y"]),
        "overflow",
        r"1 overflow \('b'\)",
        {"extended"},
    ),
    "slope beyond float64": Failure(
        lambda b: b.update(x2=1e-200 * b["x2"], y=1e200 * b["y"]),
        "overflow",
        r"1 overflow \('b'\)",
        {"extended"},
    ),
    "slope below float64": Failure(
        lambda b: b.update(x2=1e200 * b["x2"], y=1e-200 * b["y"]),
        "overflow",
        r"1 overflow \('b'\)",
        {"extended"},
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_groups_that_cannot_be_fitted_are_nan_with_a_reason(backend: str, name: str) -> None:
    case, bad = FAILURES[name], group(2)
    case.spoil(bad)
    frame = frame_of(bad)
    fit = fitted(frame, backend, case.warns, **case.options)
    assert fit.status["y"].to_dict() == {"a": "ok", "b": case.status, "c": "ok"}
    assert flags(fit, "b") == set(case.flags)
    assert fit.nobs.loc["b", "y"] == case.used
    for statistic in ("params", "bse", "tvalues", "pvalues", "ssr", "scale", "rms", "mad", "rsquared", "llf"):
        assert getattr(fit, statistic).loc["b"].isna().all(), statistic
        assert getattr(fit, statistic).loc[["a", "c"]].notna().all(axis=None), statistic
    others = fitted(frame[frame["g"] != "b"], backend, **case.options)
    assert numbers(fit, ["a", "c"]) == numbers(others, ["a", "c"])


# collinear predictors


@dataclass(frozen=True)
class Collinear:
    """How predictors of group b are made dependent, and which terms remain determined."""

    spoil: Callable[[Group], Any]
    linear: list[str]
    known: set[str]
    gone: str = "x2"  # the later column
    options: dict[str, Any] = field(default_factory=dict)


PAIR, THREE = ["x1", "x2"], ["x1", "x2", "x3"]
COLLINEAR = {
    "x2 = 3 x1": Collinear(change("x2", lambda b: 3 * b["x1"]), PAIR, {"Intercept"}),
    "x2 = x1 + 1e-14 z": Collinear(NEAR[1e-14], PAIR, {"Intercept"}),
    "x2 = x1": Collinear(change("x2", lambda b: b["x1"].copy()), PAIR, {"Intercept"}),
    "x2 = 5 - x1": Collinear(change("x2", lambda b: 5 - b["x1"]), PAIR, set()),
    "x3 = x1 + x2": Collinear(change("x3", lambda b: b["x1"] + b["x2"]), THREE, {"Intercept"}, "x3"),
    "x3 = 3 x2": Collinear(change("x3", lambda b: 3 * b["x2"]), THREE, {"Intercept", "x1"}, "x3"),
    "x2 = 7.1": Collinear(put("x2", slice(None), 7.1), PAIR, {"x1"}),
    "x2 = 0": Collinear(put("x2", slice(None), 0.0), PAIR, {"Intercept", "x1"}),
    "x2 = 7.1, weighted": Collinear(put("x2", slice(None), 7.1), PAIR, {"x1"}, options=WEIGHTED),
    "x2 = 0, no intercept": Collinear(
        put("x2", slice(None), 0.0), PAIR, {"x1"}, options={"intercept": False}
    ),
    "x2 = 3 x1 at 1e8": Collinear(
        lambda b: b.update(x1=1e8 + b["x1"], x2=3 * (1e8 + b["x1"])), PAIR, {"Intercept"}
    ),
}


@pytest.mark.parametrize("rule", ["nan", "drop"])
@pytest.mark.parametrize("name", COLLINEAR)
def test_collinear_predictors_leave_what_the_data_determine(backend: str, name: str, rule: str) -> None:
    case, bad = COLLINEAR[name], group(2)
    case.spoil(bad)
    frame = frame_of(bad)
    about = rf"1 rank_deficient \('b'; predictors '{case.gone}'\)"
    call = {"linear": case.linear, "on_collinear": rule, **case.options}
    fit = fitted(frame, backend, about, **call)
    assert fit.status["y"].to_dict() == {"a": "ok", "b": "rank_deficient", "c": "ok"}
    assert flags(fit, "b") == {"extended"}
    assert np.isinf(fit.condition_number.loc["b", "y"])
    assert fit.digits.loc["b", "y"] == 0

    b = frame[frame["g"] == "b"]
    intercept = case.options.get("intercept", True)
    kept = [name for name in case.linear if name != case.gone]
    weights = b["w"].to_numpy() if "weights" in case.options else None
    want = exact_answer([b[name].to_numpy() for name in kept], b["y"].to_numpy(), weights, intercept)
    terms = ["Intercept", *kept] if intercept else kept
    known = case.known if rule == "nan" else set(terms)
    with mpmath.workdps(oracle.DIGITS):
        sigma = mpmath.sqrt(oracle.real(want.rss) / (N - len(terms)))
    for j, term in enumerate(terms):
        params, bse = fit.params.loc["b", ("y", term)], fit.bse.loc["b", ("y", term)]
        if term in known:
            assert oracle.digits(params, want.params[j]) >= 13, term
            assert oracle.digits(bse, sigma * want.root[j]) >= 12.5, term
        else:
            assert np.isnan([params, bse]).all(), term
    assert np.isnan([fit.params.loc["b", ("y", case.gone)], fit.bse.loc["b", ("y", case.gone)]]).all()
    assert fit.df_resid.loc["b", "y"] == N - len(terms)
    assert oracle.digits(fit.ssr.loc["b", "y"], want.rss) >= 12.5
    assert oracle.digits(fit.rsquared.loc["b", "y"], 1 - want.rss / want.tss) >= 12.5
    others = fitted(frame[frame["g"] != "b"], backend, **call)
    assert numbers(fit, ["a", "c"]) == numbers(others, ["a", "c"])


@pytest.mark.parametrize("name", COLLINEAR)
def test_collinear_predictors_raise_if_asked(backend: str, name: str) -> None:
    case, bad = COLLINEAR[name], group(2)
    case.spoil(bad)
    match = rf"predictors '{case.gone}' are constant or linear combinations .* in 1 of 3 groups, first 'b'"
    call = {"linear": case.linear, "on_collinear": "raise", **case.options}
    with pytest.raises(CollinearityError, match=match):
        fitted(frame_of(bad), backend, **call)


# targets without noise


def test_as_many_rows_as_coefficients_are_saturated(backend: str) -> None:
    bad = group(2, n=3)
    frame = frame_of(bad)
    fit = fitted(frame, backend)
    assert fit.status["y"].to_dict() == {"a": "ok", "b": "saturated", "c": "ok"}
    want = exact_answer([bad["x1"], bad["x2"]], bad["y"], None)
    assert oracle.worst(fit.params.loc["b", "y"].to_numpy(), want.params) >= 13
    for statistic in ("bse", "tvalues", "pvalues", "scale", "conf_int"):
        values = getattr(fit, statistic)
        assert (values() if callable(values) else values).loc["b"].isna().all(), statistic
    got = [getattr(fit, name).loc["b", "y"] for name in ("nobs", "df_resid", "ssr", "rms", "mad", "rsquared")]
    assert got == [3, 0, 0, 0, 0, 1]
    others = fitted(frame[frame["g"] != "b"], backend)
    assert numbers(fit, ["a", "c"]) == numbers(others, ["a", "c"])


def test_constant_targets_have_slopes_of_exactly_zero(backend: str) -> None:
    bad = group(2)
    bad["y"][:] = 3.3
    fit = fitted(frame_of(bad), backend, weights="w")
    assert fit.status["y"].tolist() == ["ok"] * 3
    assert flags(fit, "b") == {"constant_target", "perfect_fit"}
    assert fit.params.loc["b", "y"].tolist() == [3.3, 0, 0]
    assert [fit.ssr.loc["b", "y"], fit.rms.loc["b", "y"], fit.mad.loc["b", "y"]] == [0, 0, 0]
    assert np.isnan(fit.rsquared.loc["b", "y"])
    assert fit.bse.loc["b", "y"].tolist() == [0, 0, 0]
    assert fit.tvalues.loc["b"].isna().all()
    assert fit.pvalues.loc["b"].isna().all()


@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_perfect_fits_have_errors_but_no_tests(backend: str, scale: float) -> None:
    bad = group(2)
    bad["x1"], bad["x2"] = np.arange(12.0), np.arange(12.0) ** 2 % 7
    bad["y"] = scale * (1 + 2 * bad["x1"] - 3 * bad["x2"])
    fit = fitted(frame_of(bad), backend)
    assert fit.status["y"].tolist() == ["ok"] * 3
    assert flags(fit, "b") >= {"perfect_fit"}
    np.testing.assert_allclose(fit.params.loc["b", "y"], [scale, 2 * scale, -3 * scale], rtol=1e-15)
    assert (fit.bse.loc["b"] <= 1e-15 * scale).all()
    assert fit.rsquared.loc["b", "y"] == 1
    assert fit.tvalues.loc["b"].isna().all()
    assert fit.pvalues.loc["b"].isna().all()
    assert fit.pvalues.loc[["a", "c"]].notna().all(axis=None)


# columns of other numbers


SECONDS = np.arange(36) * 7 % 36  # every group has its own, in no order
DTYPES = {
    "float32": (1000 + group(5, 36)["x1"]).astype("float32"),
    "float16": group(5, 36)["x1"].astype("float16"),
    "int8": (SECONDS - 18).astype("int8") * 5,
    "uint8": (SECONDS * 7).astype("uint8"),
    "bool": SECONDS % 3 == 1,
    "int32, squares overflow": (2**31 - 1 - 1000 * SECONDS).astype("int32"),
    "uint64, sums overflow": np.uint64(2**64 - 1) - SECONDS.astype("uint64"),
    "ns timestamps, 1 s apart": 1_760_000_000 * 10**9 + SECONDS * 10**9,
    "ns timestamps, 1 ns apart": 1_760_000_000 * 10**9 + SECONDS,
    "epoch seconds": 1_760_000_000 + SECONDS,
    "epoch seconds as floats": 1_760_000_000.0 + SECONDS,
    "consecutive beyond 2**53": 2**53 + 1 + SECONDS,
    "int64 at both ends": np.where(SECONDS % 2 == 0, 2**62, -(2**62)) + SECONDS,
}


@pytest.mark.parametrize("role", ["x1", "y"])
@pytest.mark.parametrize("name", DTYPES)
def test_every_kind_of_number_is_fitted_as_what_it_is(backend: str, name: str, role: str) -> None:
    frame = frame_of(group(2)).assign(**{role: DTYPES[name]})
    assert frame[role].dtype == DTYPES[name].dtype
    fit = fitted(frame, backend, weights="w")
    for key, rows in frame.groupby("g"):
        columns = [rows[column].to_numpy() for column in ("x1", "x2", "y")]
        if columns[0].dtype.kind not in "iu":
            columns[0] = columns[0].astype(float)
        if columns[2].dtype.kind not in "iu":
            columns[2] = columns[2].astype(float)
        check_numbers(fit, key, exact_answer(columns[:2], columns[2], rows["w"].to_numpy()), (13, 12, 12))


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "int64", "uint8", "bool", "Float64", "Int8", "boolean"]
)
def test_weights_of_every_dtype(backend: str, dtype: str) -> None:
    frame = frame_of(group(2))
    whole = (frame["w"] > 0.9).astype(float)
    whole[frame.index[:4]] = 1.0
    got = fitted(frame.assign(w=whole.astype(dtype)), backend, weights="w")
    want = fitted(frame.assign(w=whole), backend, weights="w")
    assert whole.eq(0).any()
    assert numbers(got, ["a", "b", "c"]) == numbers(want, ["a", "b", "c"])


def test_means_of_integers_whose_sum_leaves_int64(backend: str) -> None:
    values = np.array([2**62, 2**62 + 1, 2**62 + 2, 2**62 + 5] * 3)
    frame = pd.DataFrame({"g": np.repeat(["a", "b", "c"], 4), "y": values})
    assert frame.groupby("g")["y"].sum().tolist() == [8] * 3  # pandas wraps
    fit = fitted(frame, backend, linear=[])
    assert fit.params["y", "Intercept"].tolist() == [float(2**62 + 2)] * 3
    assert fit.rms["y"].tolist() == [np.sqrt(3.5)] * 3


def test_means_of_float32_are_summed_in_float64(backend: str) -> None:
    frame = pd.DataFrame({"g": 1, "y": np.full(3000, 0.1, dtype="float32")})
    frame.loc[0, "y"] = 0.0
    fit = fitted(frame, backend, linear=[])
    want = Fraction(2999, 3000) * Fraction(float(np.float32(0.1)))
    assert oracle.digits(fit.params["y", "Intercept"].iloc[0], want) >= 15


REFUSED = {
    "complex128": (np.ones(36, dtype=complex), "fit its real and imaginary parts"),
    "object": (
        pd.Series([1.0] * 36, dtype=object),
        r"convert it, with \.astype\('float64'\) or pandas.to_numeric",
    ),
    "Decimal": (pd.Series([decimal.Decimal(1)] * 36), "convert it"),
    "str": (np.array(["1.5"] * 36), "convert it"),
    "datetime64": (pd.date_range("2024", periods=36), "subtract a time and divide by a unit"),
    "datetime64 with zone": (pd.date_range("2024", periods=36, tz="UTC"), "subtract a time"),
    "timedelta64": (pd.to_timedelta(np.arange(36), unit="s"), "divide it by a unit"),
    "period": (pd.period_range("2024", periods=36, freq="D"), "convert it"),
    "category": (pd.Categorical([1, 2, 3] * 12), "make indicator columns of it, or group by it"),
    "dates": (pd.Series([dt.date(2024, 1, 1)] * 36), "convert it"),
}


@pytest.mark.parametrize("role", ["linear", "targets", "weights"])
@pytest.mark.parametrize("name", REFUSED)
def test_other_dtypes_are_refused_by_name(backend: str, name: str, role: str) -> None:
    values, advice = REFUSED[name]
    column = {"linear": "x2", "targets": "y", "weights": "w"}[role]
    frame = frame_of(group(2))
    frame[column] = pd.Series(values).to_numpy() if name in ("complex128", "object") else np.zeros(36)
    frame[column] = pd.Series(values).set_axis(frame.index)
    with pytest.raises(DTypeError, match=rf"^'{column}' in {role}= has dtype .*{advice}"):
        fitted(frame, backend, weights="w")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"r5": NAN},
            r"weights 'w' must be finite and not negative: 1 rows with a key are not, first nan at 'r5'",
        ),
        ({"r7": INF, "r5": NAN}, r"2 rows .* first nan at 'r5'"),
        ({"r5": -INF}, r"1 rows .* first -inf at 'r5'"),
        ({"r9": -1e-300, "r8": -1.0, "r30": NAN}, r"3 rows .* first -1\.0 at 'r8'"),
    ],
)
def test_weights_that_are_no_weights_raise(backend: str, values: dict[str, float], message: str) -> None:
    frame = frame_of(group(2))
    for label, value in values.items():
        frame.loc[label, "w"] = value
    with pytest.raises(WeightsError, match=message):
        fitted(frame, backend, weights="w")
    free = fitted(frame, backend, weights="w", where=~frame.index.isin(list(values)))
    assert free.status["y"].tolist() == ["ok"] * 3


def test_missing_values_raise_if_asked_and_are_named_apart(backend: str) -> None:
    frame = frame_of(group(2))
    frame.loc[["r4", "r9"], "y"] = NAN
    frame.loc["r7", "x2"] = -INF
    with pytest.raises(MissingDataError, match=r"^column 'x2' is infinite \(inf\) in 1 rows, first at 'r7'"):
        fitted(frame, backend, missing="raise")
    with pytest.raises(MissingDataError, match=r"^column 'y' is missing \(NaN\) in 2 rows, first at 'r4'"):
        fitted(frame.drop("r7"), backend, missing="raise")
    clean = frame.drop(["r4", "r7", "r9"])
    got, want = fitted(clean, backend, missing="raise"), fitted(clean, backend)
    assert numbers(got, ["a", "b", "c"]) == numbers(want, ["a", "b", "c"])


# keys


def test_an_empty_frame_gives_an_empty_result(backend: str) -> None:
    full = fitted(frame_of(group(2)), backend, weights="w")
    fit = fitted(frame_of(group(2)).iloc[:0], backend, weights="w")
    assert fit.n_groups == 0
    for name in ("params", "bse", "pvalues", "nobs", "df_resid", "rms", "mad", "rsquared", "status", "flags"):
        got, want = getattr(fit, name), getattr(full, name)
        assert got.shape == (0, want.shape[1])
        pd.testing.assert_index_equal(got.columns, want.columns)
        assert got.dtypes.tolist() == want.dtypes.tolist(), name
        assert got.index.name == "g"
    assert fit.to_frame().columns.tolist() == full.to_frame().columns.tolist()
    assert fit.accounting().loc["y"].sum() == 0


@pytest.mark.parametrize("by", ["gone", lambda row: None, {"nowhere": 1}], ids=["column", "callable", "dict"])
def test_no_group_at_all_is_told(backend: str, by: Any) -> None:
    frame = frame_of(group(2)).assign(gone=NAN)
    with pytest.warns(gbreg.GbregWarning, match="^there are no groups: no row of the frame has a key$"):
        fit = gbreg.fit(frame, by=by, linear=["x1"], targets=["y"], backend=backend)
    assert len(fit) == 0
    assert fit.accounting().loc["y", ["rows", "without_key"]].tolist() == [36, 36]


def test_rows_are_called_as_in_the_frame(backend: str) -> None:
    frame = frame_of(group(2)).set_axis(range(100, 136), axis=0)
    frame.index = pd.Index(frame.index.to_numpy())
    frame["v"] = np.where(frame.index == 103, -1.0, 1.0)
    with pytest.raises(gbreg.WeightsError, match=r"first -1.0 at 103; set"):
        fitted(frame, backend, weights="v")
    with pytest.raises(
        gbreg.WeightsError, match=r"^weights Series v \(values\) must be .* first -1.0 at 103; set"
    ):
        fitted(frame, backend, weights=frame["v"])


@pytest.mark.parametrize("missing", [None, NAN, pd.NA])
def test_rows_without_a_key_are_counted_or_a_group_of_their_own(backend: str, missing: Any) -> None:
    frame = frame_of(group(2))
    rows = frame["g"] == "b"
    frame["g"] = frame["g"].astype(object).mask(rows, missing)
    fit = fitted(frame, backend)
    assert fit.keys.tolist() == ["a", "c"]
    assert fit.accounting().loc["y", ["rows", "used", "without_key"]].tolist() == [36, 24, 12]
    own = fitted(frame, backend, dropna=False)
    assert own.keys[:2].tolist() == ["a", "c"]
    assert pd.isna(own.keys[2])
    assert own.accounting().loc["y", ["rows", "used", "without_key"]].tolist() == [36, 36, 0]
    want = exact_answer(
        [frame.loc[rows, name].to_numpy() for name in PAIR], frame.loc[rows, "y"].to_numpy(), None
    )
    assert oracle.worst(own.params["y"].iloc[2].to_numpy(), want.params) >= 13
    assert numbers(own, ["a", "c"]) == numbers(fit, ["a", "c"])


def test_integer_keys_that_became_floats_warn(backend: str) -> None:
    frame = frame_of(group(2))
    keys = frame["g"].map({"a": 2**60, "b": 2**60 + 1, "c": 5})
    fit = fitted(frame.assign(g=keys), backend)
    assert fit.keys.tolist() == [5, 2**60, 2**60 + 1]
    lossy = keys.astype(float).where(keys > 5)  # one is missing: pandas turns all into floats, two become one
    merged = fitted(frame.assign(g=lossy), backend, r"key 'g' is float64 and beyond 2\*\*53")
    assert merged.n_groups == 1
    nullable = keys.astype("Int64").where(keys > 5)
    assert fitted(frame.assign(g=nullable), backend).keys.tolist() == [2**60, 2**60 + 1]


def test_large_float_keys_and_failures_are_one_warning(backend: str) -> None:
    frame = frame_of(group(2, n=2)).assign(h=2.0**60)
    about = r"1 too_few_rows \(\('b', .*key 'h' is float64 and beyond 2\*\*53"
    fitted(frame, backend, about, by=["g", "h"])


def test_categorical_keys_of_small_codes_do_not_wrap(backend: str) -> None:
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 100, (2, 300))
    frame = pd.DataFrame({"i": first, "j": second, "y": rng.normal(size=300)})
    levels = pd.CategoricalDtype(range(101))
    coded = frame.assign(i=frame["i"].astype(levels), j=frame["j"].astype(levels))
    assert coded["i"].cat.codes.dtype == np.int8
    got = fitted(coded, backend, by=["i", "j"], linear=[]).params["y", "Intercept"]
    want = frame.groupby(["i", "j"])["y"].mean()
    assert got.index.tolist() == want.index.tolist()
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_unobserved_categories_are_left_out_or_no_data(backend: str) -> None:
    frame = frame_of(group(2))
    frame["g"] = pd.Categorical(frame["g"], categories=list("abcd"))
    fit = fitted(frame, backend)
    assert fit.keys.tolist() == ["a", "b", "c"]
    every = fitted(frame, backend, observed=False)  # a group without rows is no failure: no warning
    assert every.keys.tolist() == ["a", "b", "c", "d"]
    assert every.status["y"].tolist() == ["ok", "ok", "ok", "no_data"]
    assert numbers(every, ["a", "b", "c"]) == numbers(fit, ["a", "b", "c"])


# names


def with_twins(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.concat([frame, frame[[name]]], axis=1)


@pytest.mark.parametrize(
    ("role", "name"), [("linear", "x1"), ("targets", "y"), ("weights", "w"), ("by", "g")]
)
def test_duplicate_column_names_are_refused(backend: str, role: str, name: str) -> None:
    frame = with_twins(frame_of(group(2)), name)
    with pytest.raises(
        SpecError, match=rf"^{role}= needs one column per label, but \['{name}'\] select several"
    ):
        fitted(frame, backend, weights="w")
    twins = with_twins(frame_of(group(2)), "x3")  # not asked for: no harm
    assert fitted(twins, backend, weights="w").n_groups == 3


def test_missing_columns_are_named_all_at_once(backend: str) -> None:
    call = {"by": ["g", "gg"], "linear": ["x1", "X2", "nope"], "targets": ["Y", "yy"], "weights": "ww"}
    with pytest.raises(ColumnError) as caught:
        fitted(frame_of(group(2)), backend, **call)
    assert isinstance(caught.value, KeyError)
    message = str(caught.value)
    for part in (
        "by= names what is not a column of the frame: 'gg'; did you mean 'g'?",
        "linear= names what is not a column of the frame: 'X2'; did you mean 'x2'?, 'nope'",
        "targets= names what is not a column of the frame: 'Y'; did you mean 'y'?, 'yy'; did you mean 'y'?",
        "weights= names what is not a column of the frame: 'ww'",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "x1"}, r"\['x1'\] in linear= are also in by=, so they are constant in every group"),
        ({"by": ["g", "y"]}, r"\['y'\] in targets= are also in by="),
        ({"linear": [("g", len)]}, r"\['g'\] in linear= are derived columns called like keys; rename them"),
        ({"linear": ["x1", "x2", "x1"]}, r"\['x1'\] appear more than once in linear="),
        ({"targets": ["y", "y"]}, r"\['y'\] appear more than once in targets="),
        ({"linear": ["x1", "y"]}, r"\['y'\] appear in both linear= and targets="),
        ({"linear": ["x1", ("y", len)]}, r"\['y'\] appear in both linear= and targets="),
        (
            {"linear": ["x1", ("Intercept", len)]},
            "a predictor is called 'Intercept', the name of the constant",
        ),
        ({"targets": []}, "targets= is empty"),
        ({"linear": [], "intercept": False}, r"linear=\[\] with intercept=False leaves nothing to fit"),
        ({"by": []}, r"by=\[\] names no key"),
        ({"by": None}, "give by= or level=, one of them"),
        ({"level": 0}, "give by= or level=, one of them"),
        ({"linear": ("x1", "x2")}, r"a tuple is one label; for several columns give a list"),
    ],
)
def test_contradictions_are_refused(backend: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((SpecError, ColumnError), match=message):
        fitted(frame_of(group(2)), backend, **options)


def test_a_key_that_is_also_an_index_level_is_ambiguous(backend: str) -> None:
    frame = frame_of(group(2)).rename_axis("g")
    with pytest.raises(
        SpecError, match=r"by= is ambiguous: \['g'\] are columns and index levels; rename one"
    ):
        fitted(frame, backend)
    assert fitted(frame.rename_axis(None), backend).n_groups == 3


@pytest.mark.parametrize("frame", [pd.Series([1.0]), {"g": [1]}, np.zeros((2, 2)), None])
def test_what_is_no_frame_is_refused(frame: Any) -> None:
    name = f"{type(frame).__module__}.{type(frame).__name__}"
    with pytest.raises(SpecError, match=f"gbreg takes a pandas.DataFrame, got {name}"):
        gbreg.fit(frame, by="g", linear=[], targets=["y"])
    with pytest.raises(SpecError, match=f"got {name}"):
        gbreg.group(frame, by="g")


# numbers of every size


WILD = np.array([0.0, 1.0, -1.0, 5e-324, 1e-310, 2.0**53, 1e155, 1e300, 1.7e308, INF, NAN, 3.5, -2.25])


def misfit(got: np.ndarray, want: oracle.Answer, x: np.ndarray, y: np.ndarray, w: np.ndarray) -> mpmath.mpf:
    """Weighted rms of what the fitted values are off by, in units of the terms they are made of."""
    with mpmath.workdps(oracle.DIGITS):
        b0, b1 = (mpmath.mpf(float(b)) for b in got)
        d0, d1 = b0 - oracle.real(want.params[0]), b1 - oracle.real(want.params[1])
        off = size = mpmath.mpf(0)
        for xi, yi, wi in (map(mpmath.mpf, map(float, row)) for row in zip(x, y, w, strict=True)):
            off += wi * (d0 + d1 * xi) ** 2
            size += wi * (yi**2 + b0**2 + (b1 * xi) ** 2)
        return mpmath.sqrt(off / size) if off else off


@pytest.mark.parametrize("seed", range(6))
def test_wild_numbers_are_right_or_refused(seed: int) -> None:
    """No crash, no warning of numpy's; groups that say ok agree with exact arithmetic."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: WILD[rng.integers(0, len(WILD), 120)] for name in ("x1", "y")})
    frame["w"] = rng.choice([1.0, 2.5, 1e10, 1e16, 1e-16, 0.0], 120)
    frame["g"] = np.arange(120) % 20
    rows_of = dict(list(frame[np.isfinite(frame[["x1", "y"]]).all(axis=1) & (frame["w"] > 0)].groupby("g")))
    words = []
    for which in ("numba", "numpy"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GbregWarning)
            fit = fitted(frame, which, linear=["x1"], weights="w")
        words.append(fit.status["y"].to_dict())
        assert (fit.bse.isna() | fit.params.notna()).all(axis=None)  # no error without its coefficient
        for key in fit.keys[fit.status["y"].isin(["ok", "saturated"])]:
            x, y, w = (rows_of[key][name].to_numpy() for name in ("x1", "y", "w"))
            assert misfit(fit.params.loc[key, "y"].to_numpy(), exact_answer([x], y, w), x, y, w) < 1e-15
    assert words[0] == words[1]
    assert "ok" in words[0].values()


@pytest.mark.parametrize("ratio", [1e-16, 1e-25, 1e-40, 1e-100])
def test_a_slope_that_hangs_on_one_light_row(ratio: float) -> None:
    """All backends say the same; if it is ok, the slope is the exact one."""
    frame = pd.DataFrame({"g": 1, "x1": [0.0, 0, 1, 0], "y": [3.5, -1, -2.25, 5], "w": [1, 2.5, ratio, 1]})
    want = exact_answer([frame["x1"].to_numpy()], frame["y"].to_numpy(), frame["w"].to_numpy())
    words = set()
    for which in ("numba", "numpy"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GbregWarning)
            fit = fitted(frame, which, linear=["x1"], weights="w")
        words.add(fit.status.loc[1, "y"])
        if fit.status.loc[1, "y"] == "ok":
            assert oracle.worst(fit.params.loc[1, "y"].to_numpy(), want.params) >= 13
    assert len(words) == 1
    assert words == {"ok"} or ratio < 1e-25


@pytest.mark.filterwarnings("ignore::gbreg.GbregWarning")
@pytest.mark.parametrize("light", [1.0, 1e-20, 1e-40, 1e-100])
def test_terms_without_coefficient_have_no_error(backend: str, light: float) -> None:
    frame = pd.DataFrame(
        {"g": 1, "x1": [1e-310, 0, 9e15, 0], "y": [3.5, -1, -2.25, 5], "w": [light, 1, light, 2.5e-10]}
    )
    fit = fitted(frame, backend, linear=["x1"], weights="w")
    assert (fit.bse.isna() | fit.params.notna()).all(axis=None)


def test_weights_whose_sum_leaves_float64() -> None:
    """All backends say the same, and no sum is silently infinite."""
    bad = group(2)
    bad["w"] *= 8e307
    words = set()
    for which in ("numba", "numpy"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GbregWarning)
            fit = fitted(frame_of(bad), which, weights="w")
        words.add(fit.status.loc["b", "y"])
        assert np.isnan(fit.rms.loc["b", "y"])
    assert len(words) == 1
