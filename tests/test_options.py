# SPDX-License-Identifier: MIT
"""Every option of fit: it changes what it should, only that, and alike on all backends."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg import (
    Backend,
    CollinearityError,
    ColumnError,
    DTypeError,
    GbregError,
    GbregWarning,
    GroupFit,
    MissingDataError,
    MissingExtraError,
    SpecError,
    WeightsError,
)
from gbreg.accessor import GbregAccessor
from gbreg.backends import Progress
from gbreg.backends._loky import LokyBackend
from gbreg.backends._numba import NumbaBackend
from gbreg.backends._numpy import NumpyBackend
from gbreg.estimates import Estimates
from gbreg.problem import FitOptions, Problem

ROOT = Path(gbreg.__file__).parent.parent
CALL: dict[str, Any] = {"by": "g", "linear": ["x", "z"], "targets": ["u", "v"]}
needs_col = pytest.mark.skipif(not hasattr(pd, "col"), reason="pandas.col came with pandas 3")

# What each option is tested by. The last test of this file holds it against the signature.
TESTED: dict[str, list[str]] = {}


def covers(*options: str) -> Callable[[Any], Any]:
    def note(test: Any) -> Any:
        for option in options:
            TESTED.setdefault(option, []).append(test.__name__)
        return test

    return note


def table(n: int = 80) -> pd.DataFrame:
    """Five groups, in no order, on a labelled index."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "g": rng.choice(list("cabed"), n),
            "h": rng.choice([3, 1, 2], n),
            "x": rng.normal(size=n),
            "z": rng.uniform(1, 9, n),
            "w": rng.uniform(0.5, 2, n),
            "keep": rng.random(n) < 0.8,
        },
        index=pd.Index([f"r{i}" for i in rng.permutation(n)], name="row"),
    )
    frame["u"] = 1 + 2 * frame["x"] - frame["z"] + rng.normal(size=n)
    frame["v"] = 3 - frame["x"] + rng.normal(size=n)
    return frame


def fit(frame: pd.DataFrame, backend: Any = "numpy", **options: Any) -> GroupFit:
    return gbreg.fit(frame, backend=backend, **{**CALL, **options})


def quiet(frame: pd.DataFrame, backend: Any = "numpy", **options: Any) -> GroupFit:
    """A fit that must warn once."""
    with pytest.warns(GbregWarning) as caught:
        made = fit(frame, backend, **options)
    assert len(caught) == 1
    return made


def arrays(made: GroupFit) -> dict[str, np.ndarray]:
    return {name: getattr(made.estimates, name) for name in made.estimates.__dataclass_fields__}


def assert_same(got: GroupFit, want: GroupFit, but: frozenset[str] | set[str] = frozenset()) -> None:
    """Keys, counts and every estimate, to the last bit."""
    pd.testing.assert_index_equal(got.keys, want.keys)
    theirs = arrays(want)
    for name, values in arrays(got).items():
        if name not in but:
            assert np.array_equal(values, theirs[name], equal_nan=name not in ("status", "flags")), name
    pd.testing.assert_frame_equal(got.accounting(per_group=True), want.accounting(per_group=True))
    pd.testing.assert_frame_equal(got.accounting(), want.accounting())


def lstsq(
    rows: pd.DataFrame, linear: list[str], target: str, *, w: Any = None, intercept: bool = True
) -> Any:
    """Coefficients and their errors by numpy: only for tame data."""
    X = rows[linear].to_numpy(dtype=float)
    if intercept:
        X = np.column_stack([np.ones(len(rows)), X])
    weights = np.ones(len(rows)) if w is None else np.asarray(w, dtype=float)
    root = np.sqrt(weights)[:, None]
    params = np.linalg.lstsq(X * root, rows[target].to_numpy(dtype=float) * root[:, 0], rcond=None)[0]
    resid = rows[target] - X @ params
    scale = (weights * resid**2).sum() / (len(rows) - X.shape[1])
    return params, np.sqrt(scale * np.diag(np.linalg.inv((X * weights[:, None]).T @ X)))


def check_groups(
    made: GroupFit,
    groups: dict[Any, pd.DataFrame],
    linear: list[str],
    targets: list[str],
    w: str | None = None,
    **options: Any,
) -> None:
    """All fitted groups, against numpy's least squares on exactly these rows."""
    for key, rows in groups.items():
        for target in targets:
            here = rows[rows[target].notna()]
            want, errors = lstsq(here, linear, target, w=None if w is None else here[w], **options)
            np.testing.assert_allclose(
                made.params.loc[[key], target].to_numpy()[0], want, rtol=1e-9, atol=1e-11
            )
            np.testing.assert_allclose(made.bse.loc[[key], target].to_numpy()[0], errors, rtol=1e-9)
            assert made.nobs.loc[[key], target].tolist() == [len(here)]


def split(frame: pd.DataFrame, by: Any = "g") -> dict[Any, pd.DataFrame]:
    return dict(list(frame.groupby(by)))


# by, level


@covers("by", "linear", "targets", "backend")
def test_the_plain_call(backend: str) -> None:
    frame = table()
    made = fit(frame, backend)
    assert made.keys.tolist() == list("abcde")
    assert made.backend == backend
    check_groups(made, split(frame), ["x", "z"], ["u", "v"])


@covers("by", "level")
@pytest.mark.parametrize(
    "keys",
    [
        {"by": ["g"]},
        {"by": "g"},
        {"by": lambda d: d["g"].sample(frac=1, random_state=0)},  # a Series is aligned
        {"by": lambda d: d["g"].to_numpy()},
        {"by": lambda d: [d["g"].rename("g")]},
        {"by": pd.Grouper(key="g", sort=True)},
        {"by": lambda d: d["g"].to_dict().get},  # a callable of the index labels
        {"by": lambda d: d["g"].to_dict()},
        {"level": "g"},
        {"level": 1},
        {"level": ["g"]},
        {"by": pd.Grouper(level="g", sort=True)},
    ],
)
def test_the_same_groups_asked_for_in_other_ways(backend: str, keys: dict[str, Any]) -> None:
    frame = table()
    want = fit(frame, backend)
    if "level" in keys or getattr(keys["by"], "level", None):
        frame = frame.set_index("g", append=True)
    options = {"by": None, **keys}
    if inspect.isfunction(options["by"]):
        options["by"] = options["by"](frame)
    got = fit(frame, backend, **options)
    got.keys = got.keys.rename("g")
    assert_same(got, want)


@covers("by")
def test_several_keys(backend: str) -> None:
    frame = table(200)
    made = fit(frame, backend, by=["h", "g"])
    pd.testing.assert_index_equal(made.keys, frame.groupby(["h", "g"]).size().index)
    check_groups(made, split(frame, ["h", "g"]), ["x", "z"], ["u"])


@covers("by")
def test_a_tuple_is_one_label(backend: str) -> None:
    frame = table().rename(columns={"g": ("g", "h"), "x": ("x", 1)})
    made = fit(frame, backend, by=("g", "h"), linear=[("x", 1), "z"])
    want = fit(table(), backend)
    assert made.keys.tolist() == want.keys.tolist()
    assert made.terms == ("Intercept", ("x", 1), "z")
    np.testing.assert_array_equal(made.params, want.params)
    with pytest.raises(
        ColumnError, match=r"'g', 'h'\).*a tuple is one label; for several columns give a list"
    ):
        fit(table(), backend, by=("g", "h"))


@covers("by", "sort", "level")
def test_a_layout_is_reused(backend: str) -> None:
    frame = table()
    layout = frame.gbreg.group(by="g", sort=False)
    assert_same(fit(frame, backend, by=layout), fit(frame, backend, sort=False))
    halved = frame.assign(u=0.5 * frame["u"])
    assert_same(fit(halved, backend, by=layout), fit(halved, backend, sort=False))
    assert fit(frame.drop(columns="g"), backend, by=layout).keys.tolist() == layout.keys.tolist()
    assert fit(frame, backend, by=layout, sort=False, level=None).n_groups == 5
    chosen = fit(frame, backend, by=layout, where="keep", weights="w")
    assert_same(chosen, fit(frame, backend, sort=False, where="keep", weights="w"))


@covers("by", "sort", "observed", "dropna", "level")
def test_a_layout_of_something_else_is_refused(backend: str) -> None:
    frame = table()
    layout = gbreg.group(frame, by="g")
    with pytest.raises(SpecError, match="by= is a layout of 80 rows, the frame has 79"):
        fit(frame.iloc[1:], backend, by=layout)
    with pytest.raises(SpecError, match="by= is a layout of a frame with another index"):
        fit(frame.sort_index(), backend, by=layout)
    for option, value in {"sort": False, "observed": False, "dropna": False, "level": 0}.items():
        with pytest.raises(
            SpecError, match=f"{option}={value} was given beside a layout made with {option}="
        ):
            fit(frame, backend, by=layout, **{option: value})
    with pytest.raises(SpecError, match=r"\['g'\] in targets= are also in by="):
        fit(frame, backend, by=layout, targets=["g"])


@covers("sort")
def test_sort(backend: str) -> None:
    frame = table()
    made = fit(frame, backend, sort=False)
    assert made.keys.tolist() == frame["g"].unique().tolist() != sorted("abcde")
    pd.testing.assert_frame_equal(made.params.sort_index(), fit(frame, backend).params)


@covers("observed", "dropna")
def test_observed_and_dropna(backend: str) -> None:
    frame = table()
    frame["g"] = pd.Categorical(frame["g"].where(frame["g"] != "b"), categories=list("dcbxae"))
    for observed in (True, False):
        for dropna in (True, False):
            made = fit(frame, backend, observed=observed, dropna=dropna)
            sizes = frame.groupby("g", observed=observed, dropna=dropna).size()
            pd.testing.assert_index_equal(made.keys, sizes.index)
            assert made.nobs["u"].tolist() == sizes.tolist()
            assert made.accounting().loc["u", "without_key"] == (frame["g"].isna().sum() if dropna else 0)


@covers("fallback")
def test_fallback(backend: str) -> None:
    """What it does is told in test_fallback.py; here that it reaches every backend and changes no fit."""
    frame = table(200)
    few = (frame["h"] == 3) & (frame["g"] == "a")
    frame = frame[~few | (few.cumsum() <= 2)]
    plain = quiet(frame, backend, by=["h", "g"])
    made = quiet(frame, backend, by=["h", "g"], fallback=[["g"]])
    assert_same(made, plain)
    rows = frame[(frame["h"] == 3) & (frame["g"] == "a")]
    params, _ = lstsq(frame[frame["g"] == "a"], ["x", "z"], "u")
    want = params[0] + rows[["x", "z"]].to_numpy() @ params[1:]
    np.testing.assert_allclose(made.predict(rows)["u"], want, rtol=1e-9, atol=1e-11)
    assert made.status.loc[(3, "a")].tolist() == ["fallback", "fallback"]


# linear, targets


@covers("linear")
def test_no_predictors_are_group_means(backend: str) -> None:
    frame = table()
    made = fit(frame, backend, linear=[])
    assert made.terms == ("Intercept",)
    by = frame.groupby("g")[["u", "v"]]
    np.testing.assert_allclose(made.params.xs("Intercept", axis=1, level="term"), by.mean(), rtol=1e-13)
    np.testing.assert_allclose(made.scale, by.var(), rtol=1e-12)
    np.testing.assert_allclose(made.bse.xs("Intercept", axis=1, level="term"), by.sem(), rtol=1e-12)


@covers("linear", "targets")
def test_derived_columns(backend: str) -> None:
    frame = table()
    derived = frame.assign(x2=frame["x"] ** 2, lu=frame["u"] / 7)
    want = fit(derived, backend, linear=["x", "x2"], targets=["u", "lu"])
    got = fit(
        frame,
        backend,
        linear=["x", ("x2", lambda d: d["x"] ** 2)],
        targets=["u", ("lu", lambda d: d["u"] / 7)],
    )
    assert_same(got, want)
    assert got.terms == ("Intercept", "x", "x2")
    one = fit(frame, "numpy", linear=("c", lambda d: 1 + 0 * d["x"]), targets="u", intercept=False)
    assert one.terms == ("c",)  # a single pair or label is a list of one
    np.testing.assert_allclose(one.params["u", "c"], frame.groupby("g")["u"].mean(), rtol=1e-12)


@needs_col
@covers("linear", "where", "weights")
def test_expressions(backend: str) -> None:
    frame = table()
    derived = frame.assign(x2=frame["x"] ** 2, big=frame["z"] > 3, ww=2 * frame["w"])
    want = fit(derived, backend, linear=["x", "x2"], where="big", weights="ww")
    linear = ["x", ("x2", pd.col("x") ** 2)]
    got = fit(frame, backend, linear=linear, where=pd.col("z") > 3, weights=2 * pd.col("w"))
    assert_same(got, want)
    bare = fit(frame, backend, linear=[pd.col("x") ** 2, "x"])
    np.testing.assert_array_equal(bare.params, fit(derived, backend, linear=["x2", "x"]).params)


@covers("linear")
def test_errors_inside_a_derivation_are_the_users(backend: str) -> None:
    def broken(frame: pd.DataFrame) -> Any:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        fit(table(), backend, linear=[("q", broken)])


@covers("targets")
def test_targets_have_their_own_rows(backend: str) -> None:
    frame = table()
    frame["t"] = 2 * frame["v"]
    frame.loc[frame.index[3:20:2], "u"] = np.nan
    frame.loc[frame.index[5:50:5], "v"] = np.nan
    frame.loc[frame.index[6], "v"] = np.inf
    frame["s"] = frame["u"] - 1  # the same rows missing as in u
    targets = ["u", "v", "t", "s"]
    made = fit(frame, backend, targets=targets)
    check_groups(made, split(frame.replace(np.inf, np.nan)), ["x", "z"], targets)
    assert made.accounting()["missing"].tolist() == [9, 9, 0, 9]
    assert made.accounting()["infinite"].tolist() == [0, 1, 0, 0]
    assert made.estimates.pattern.tolist() == [0, 1, 2, 0]
    for target in targets:
        alone = fit(frame, backend, targets=[target])
        for name in ("params", "bse", "pvalues", "nobs", "rms", "mad", "llf", "rsquared", "condition_number"):
            got, want = getattr(made, name)[[target]], getattr(alone, name)
            assert np.array_equal(got.to_numpy(), want.to_numpy()), (target, name)
        pd.testing.assert_frame_equal(made.flags[[target]], alone.flags)
        pd.testing.assert_frame_equal(made.accounting().loc[[target]], alone.accounting())


@covers("targets")
@pytest.mark.parametrize("hard", ["constant", "perfect", "big"])
def test_a_target_does_not_depend_on_the_others(backend: str, hard: str) -> None:
    """Also where the other one needs more than the fast path."""
    frame = table()
    frame["hard"] = {"constant": 3.3, "perfect": frame["x"] * 2, "big": frame["v"] * 1e200}[hard]
    both = fit(frame, backend, targets=["hard", "u"])
    for target in ("u", "hard"):
        alone = fit(frame, backend, targets=[target])
        for name in ("params", "bse", "ssr", "rms", "mad", "rsquared", "digits"):
            got, want = getattr(both, name)[[target]], getattr(alone, name)
            assert np.array_equal(got.to_numpy(), want.to_numpy(), equal_nan=True), (target, name)
        pd.testing.assert_frame_equal(both.flags[[target]], alone.flags)


# weights, intercept, min_nobs


@covers("weights")
def test_weights(backend: str) -> None:
    frame = table()
    made = fit(frame, backend, weights="w")
    check_groups(made, split(frame), ["x", "z"], ["u", "v"], w="w")
    assert made.spec.weights == "w"
    shuffled = frame["w"].sample(frac=1, random_state=1)
    assert shuffled.index.tolist() != frame.index.tolist()
    for weights in (shuffled, frame["w"].to_numpy(), lambda d: d["w"]):
        assert_same(fit(frame, backend, weights=weights), made)
    plain = fit(frame, backend)
    ones = fit(frame.assign(w=1.0), backend, weights="w")
    assert_same(ones, plain)
    quarter = fit(frame.assign(w=frame["w"] * 4), backend, weights="w")
    np.testing.assert_array_equal(quarter.params, made.params)
    np.testing.assert_array_equal(quarter.bse, made.bse)


@covers("weights")
def test_weights_that_do_not_fit_the_frame(backend: str) -> None:
    frame = table()
    with pytest.raises(SpecError, match=r"weights= must have one value per row, 80, got shape \(79,\)"):
        fit(frame, backend, weights=np.ones(79))
    with pytest.raises(SpecError, match=r"weights= shares no index label with the frame"):
        fit(frame, backend, weights=pd.Series(1.0, index=range(80)))
    with pytest.raises(WeightsError, match="1 rows with a key are not, first nan at"):
        fit(frame, backend, weights=frame["w"].iloc[1:])


@covers("cov_type")
def test_cov_type(backend: str) -> None:  # its numbers are in test_cov_types.py
    frame = table()
    known, classical = fit(frame, backend, weights="w", cov_type="known"), fit(frame, backend, weights="w")
    assert_same(fit(frame, backend, weights="w", cov_type="classical"), classical)
    assert_same(known, classical)
    np.testing.assert_allclose(known.bse["u"].mul(np.sqrt(classical.scale["u"]), axis=0), classical.bse["u"])


@covers("cov_type", "groups")
def test_robust_errors(backend: str) -> None:  # their numbers are in test_sandwich.py
    frame = table()
    classical = fit(frame, backend, weights="w")
    for options in ({"cov_type": "HC3"}, {"cov_type": "cluster", "groups": "h"}):
        robust = fit(frame, backend, weights="w", **options)
        pd.testing.assert_frame_equal(robust.params, classical.params)
        assert (robust.bse != classical.bse).all(axis=None)
    other = fit(frame, backend, weights="w", cov_type="cluster", groups="keep")
    assert (robust.bse != other.bse).all(axis=None)


@covers("clip", "clip_iterations")
def test_clip(backend: str) -> None:  # its numbers are in test_clip.py
    frame = table()
    frame.iloc[::16, frame.columns.get_loc("u")] += 50
    clipped = fit(frame, backend, clip=3.0)
    assert (clipped.nobs_clipped["u"] > 0).any()
    assert (clipped.nobs < fit(frame, backend).nobs).any(axis=None)
    short = quiet(frame, backend, clip=1.5, clip_iterations=1)
    assert (short.status == "not_converged").any(axis=None)


@covers("loss", "tuning", "quantile", "maxiter")
def test_loss(backend: str) -> None:  # its numbers are in test_losses.py
    frame = table()
    frame.iloc[::16, frame.columns.get_loc("u")] += 50
    call: list[dict[str, Any]] = [
        {},
        {"loss": "huber"},
        {"loss": "huber", "tuning": 3.0},
        {"loss": "bisquare"},
        {"loss": "absolute"},
        {"loss": "absolute", "quantile": 0.3},
    ]
    made = [fit(frame, backend, weights="w", **options).params["u"].to_numpy() for options in call]
    for i, one in enumerate(made):
        assert all((one != other).any() for other in made[:i])
    short = quiet(frame, backend, loss="huber", maxiter=1)
    assert (short.status == "not_converged").any(axis=None)


@covers("ridge", "ridge_standardize")
def test_ridge(backend: str) -> None:  # its numbers are in test_ridge.py
    frame = table()
    plain, none = fit(frame, backend, weights="w"), fit(frame, backend, weights="w", ridge=0)
    assert_same(none, plain)
    raw = fit(frame, backend, weights="w", ridge=5.0)
    standard = fit(frame, backend, weights="w", ridge=5.0, ridge_standardize=True)
    assert (raw.params != plain.params).all(axis=None)
    assert (raw.params != standard.params).all(axis=None)
    assert (raw.ssr > plain.ssr).all(axis=None)
    assert_same(fit(frame, backend, weights="w", ridge={"x": 5.0, "z": 5}, ridge_standardize=False), raw)
    assert_same(fit(frame, backend, weights="w", ridge=np.array([5.0, 5.0])), raw)


@covers("bounds")
def test_bounds(backend: str) -> None:  # its numbers are in test_bounds.py
    frame = table()
    plain, made = fit(frame, backend), fit(frame, backend, bounds=(0, None))
    assert (plain.params["u"]["z"] < 0).all()
    assert (made.params["u"]["z"] == 0).all()
    assert (made.ssr["u"] > plain.ssr["u"]).all()
    assert_same(fit(frame, backend, bounds={"x": [0, None], "z": (0.0, np.inf)}), made)
    assert_same(fit(frame, backend, bounds=(None, None)), plain, but={"freedom"})


@covers("weights_type")
def test_weights_type(backend: str) -> None:  # its numbers are in test_frequency.py
    frame = table()
    frame["w"] = np.arange(len(frame)) % 3
    analytic = fit(frame, backend, weights="w", mad=False)
    counts = fit(frame, backend, weights="w", weights_type="frequency")
    assert_same(fit(frame, backend, weights="w", weights_type="analytic", mad=False), analytic)
    assert_same(counts, analytic, but={"nobs", "log_wsum"})
    assert counts.nobs["u"].tolist() == frame.groupby("g")["w"].sum().tolist()


@covers("intercept")
def test_without_intercept(backend: str) -> None:
    frame = table()
    made = fit(frame, backend, intercept=False, weights="w")
    assert made.terms == ("x", "z")
    check_groups(made, split(frame), ["x", "z"], ["u", "v"], w="w", intercept=False)
    rows = frame[frame["g"] == "a"]
    resid = rows["u"] - rows[["x", "z"]].to_numpy() @ made.params.loc["a", "u"].to_numpy()
    want = 1 - (rows["w"] * resid**2).sum() / (rows["w"] * rows["u"] ** 2).sum()  # about zero
    assert made.rsquared.loc["a", "u"] == pytest.approx(want, rel=1e-12)
    named = frame.rename(columns={"x": "Intercept"})
    assert fit(named, backend, linear=["Intercept", "z"], intercept=False).terms == ("Intercept", "z")


@covers("min_nobs")
def test_min_nobs(backend: str) -> None:
    frame = table()
    sizes = frame["g"].value_counts()
    few = set(sizes.index[sizes < 16])
    assert 0 < len(few) < 5
    plain, made = fit(frame, backend), quiet(frame, backend, min_nobs=16)
    want = plain.params
    want.loc[list(few)] = np.nan
    pd.testing.assert_frame_equal(made.params, want)
    assert set(made.keys[made.status["u"] == "too_few_rows"]) == few
    assert_same(fit(frame, backend, min_nobs=3), plain)
    assert_same(fit(frame, backend, min_nobs=np.int64(3)), plain)
    for value in (2, 0, -1):
        with pytest.raises(
            SpecError, match=rf"min_nobs must be at least the number of coefficients \(3\), got {value}"
        ):
            fit(frame, backend, min_nobs=value)
    for value in (4.0, True, "4"):
        with pytest.raises(SpecError, match=f"min_nobs must be an integer, got {value!r}"):
            fit(frame, backend, min_nobs=value)


# missing, where


@covers("missing")
def test_missing(backend: str) -> None:
    frame = table()
    gone = frame.index[[4, 9, 30]]
    frame.loc[gone[:2], "x"] = np.nan
    frame.loc[gone[2], "z"] = np.inf
    made = fit(frame, backend)
    assert_same(fit(frame, backend, missing="drop"), made)
    want = fit(frame.drop(gone), backend)
    np.testing.assert_array_equal(made.params, want.params)
    np.testing.assert_array_equal(made.bse, want.bse)
    assert made.accounting().loc["u", ["rows", "used", "missing", "infinite"]].tolist() == [80, 77, 2, 1]
    with pytest.raises(
        MissingDataError, match=rf"^column 'x' is missing \(NaN\) in 2 rows, first at '{gone[0]}'"
    ):
        fit(frame, backend, missing="raise")
    with pytest.raises(
        MissingDataError, match=rf"^column 'z' is infinite \(inf\) in 1 rows, first at '{gone[2]}'"
    ):
        fit(frame, backend, missing="raise", linear=["z"])
    chosen = ~frame.index.isin(gone)
    assert_same(fit(frame, backend, missing="raise", where=chosen), fit(frame, backend, where=chosen))
    assert_same(
        fit(frame, backend, missing="raise", weights=chosen),
        fit(frame, backend, weights=chosen.astype(float)),
    )
    with pytest.raises(
        SpecError, match=r"missing must be one of \['drop', 'raise'\], got 'rise'; did you mean 'raise'"
    ):
        fit(frame, backend, missing="rise")


@covers("where")
def test_where(backend: str) -> None:
    frame = table()
    made = fit(frame, backend, where="keep")
    want = fit(frame[frame["keep"]], backend)
    np.testing.assert_array_equal(made.params, want.params)
    np.testing.assert_array_equal(made.mad, want.mad)
    lost = int((~frame["keep"]).sum())
    assert made.accounting().loc["u", ["rows", "used", "not_selected"]].tolist() == [80, 80 - lost, lost]
    assert not made.flags["u"]["rows_dropped"].any()
    shuffled = frame["keep"].sample(frac=1, random_state=1)
    for where in (frame["keep"].to_numpy(), shuffled, lambda d: d["keep"], frame["keep"].astype("boolean")):
        assert_same(fit(frame, backend, where=where), made)
    assert_same(fit(frame, backend, where=np.ones(80, dtype=bool)), fit(frame, backend))


@covers("where")
def test_where_selects_a_group_away_or_all(backend: str) -> None:
    frame = table()
    made = fit(frame, backend, where=frame["g"] != "b")  # no warning: that is what was asked for
    assert made.status["u"].to_dict() == dict.fromkeys("acde", "ok") | {"b": "no_data"}
    assert made.nobs.loc["b"].tolist() == [0, 0]
    with pytest.warns(gbreg.GbregWarning, match="^where= selects no row that has a key$"):
        nothing = fit(frame, backend, where=np.zeros(80, dtype=bool))
    assert nothing.keys.tolist() == list("abcde")
    assert nothing.status["v"].tolist() == ["no_data"] * 5
    assert nothing.params.isna().all(axis=None)
    assert nothing.accounting().loc["u", "not_selected"] == 80


@covers("where")
@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("w", DTypeError, "where= must be boolean, got dtype float64; compare it with something first"),
        ("kept", ColumnError, "where= names what is not a column of the frame: 'kept'; did you mean 'keep'"),
        (np.ones(79, dtype=bool), SpecError, r"where= must have one value per row, 80, got shape \(79,\)"),
        (pd.array([True] * 79 + [None], dtype="boolean"), SpecError, "where= has no value for 1 of 80 rows"),
        (lambda d: d["keep"].iloc[1:], SpecError, "where= has no value for 1 of 80 rows"),
        (np.ones(80), DTypeError, "where= must be boolean, got dtype float64"),
    ],
)
def test_where_that_is_no_mask(backend: str, where: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit(table(), backend, where=where)


# precision, on_collinear, mad


@covers("precision")
def test_precision(backend: str) -> None:
    frame = table()
    auto, extended = fit(frame, backend, weights="w"), fit(frame, backend, weights="w", precision="extended")
    assert not auto.flags.xs("extended", axis=1, level="flag").any(axis=None)
    assert extended.flags.xs("extended", axis=1, level="flag").all(axis=None)
    assert_same(fit(frame, backend, weights="w", precision="auto"), auto)
    for name in ("params", "bse", "rms", "mad", "rsquared", "llf", "condition_number"):
        np.testing.assert_allclose(getattr(extended, name), getattr(auto, name), rtol=1e-12, err_msg=name)
    with pytest.raises(SpecError, match=r"precision must be one of \['auto', 'extended'\], got 'double'"):
        fit(frame, backend, precision="double")


@covers("on_collinear")
def test_on_collinear(backend: str) -> None:
    frame = table()
    frame.loc[frame["g"] == "c", "z"] = 5.5
    nan = quiet(frame, backend)
    assert_same(quiet(frame, backend, on_collinear="nan"), nan)
    drop = quiet(frame, backend, on_collinear="drop")
    others = list("abde")
    for made in (nan, drop):
        assert made.status["u"].to_dict() == dict.fromkeys(others, "ok") | {"c": "rank_deficient"}
        pd.testing.assert_frame_equal(made.params.loc[others], fit(frame[frame["g"] != "c"], backend).params)
    want, errors = lstsq(frame[frame["g"] == "c"], ["x"], "u")
    np.testing.assert_allclose(drop.params.loc["c", "u"], [*want, np.nan], rtol=1e-10)
    np.testing.assert_allclose(drop.bse.loc["c", "u"], [*errors, np.nan], rtol=1e-10)
    np.testing.assert_allclose(nan.params.loc["c", "u"], [np.nan, want[1], np.nan], rtol=1e-10)
    for name in ("ssr", "rsquared", "df_resid"):
        pd.testing.assert_frame_equal(getattr(nan, name), getattr(drop, name))
    match = r"predictors 'z' are constant or linear combinations of the others in 1 of 5 groups, first 'c'"
    with pytest.raises(CollinearityError, match=match):
        fit(frame, backend, on_collinear="raise")
    assert_same(fit(table(), backend, on_collinear="raise"), fit(table(), backend))
    with pytest.raises(SpecError, match=r"on_collinear must be one of \['nan', 'drop', 'raise'\], got None"):
        fit(frame, backend, on_collinear=None)


@covers("mad")
def test_mad(backend: str) -> None:
    frame = table()
    made, bare = fit(frame, backend), fit(frame, backend, mad=False)
    rows = frame[frame["g"] == "d"]
    resid = rows["u"] - made.fittedvalues(rows)["u"]
    assert made.mad.loc["d", "u"] == pytest.approx((resid - resid.median()).abs().median(), rel=1e-12)
    assert_same(bare, made, but={"mad"})
    with pytest.raises(SpecError, match=r"mad was not computed; call fit\(..., mad=True\)"):
        _ = bare.mad


@covers("intercept", "mad", "sort", "observed", "dropna", "progress")
@pytest.mark.parametrize("option", ["intercept", "mad", "sort", "observed", "dropna", "progress"])
@pytest.mark.parametrize("value", [1, 0, None, "yes", np.nan])
def test_switches_are_true_or_false(option: str, value: Any) -> None:
    if option == "mad" and value is None:  # decided by the kind of weights
        assert_same(fit(table(), mad=None), fit(table(), mad=True))
        return
    with pytest.raises(SpecError, match=f"{option} must be True or False, got {value!r}"):
        fit(table(), **{option: value})
    assert fit(table(), **{option: np.True_}).n_groups == 5


# backend, n_jobs


@covers("n_jobs", "backend")
def test_n_jobs_changes_no_bit(backend: str) -> None:
    frame = table()
    want = fit(frame, backend)
    for n_jobs in (1, 2, -1):
        assert_same(fit(frame, backend, n_jobs=n_jobs), want)


@pytest.mark.compiled
@covers("n_jobs", "backend")
def test_n_jobs_changes_no_bit_where_there_is_work_to_share(backend: str) -> None:
    rng = np.random.default_rng(3)
    n = 300_000
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=list("xzy")).assign(g=rng.permutation(n) % 20_000)
    call = {"linear": ["x", "z"], "targets": ["y"]}
    one, two = fit(frame, backend, n_jobs=1, **call), fit(frame, backend, n_jobs=2, **call)
    assert_same(one, two)
    g = frame["g"].iloc[0]
    params, errors = lstsq(frame[frame["g"] == g], ["x", "z"], "y")
    np.testing.assert_allclose(two.params.loc[g, "y"], params, rtol=1e-9)
    np.testing.assert_allclose(two.bse.loc[g, "y"], errors, rtol=1e-9)


@covers("n_jobs")
@pytest.mark.parametrize("n_jobs", [0, -2, 1.5, True, "2"])
def test_wrong_n_jobs(backend: str, n_jobs: Any) -> None:
    with pytest.raises(
        SpecError, match=rf"n_jobs must be a positive integer, -1 \(all cores\) or None, got {n_jobs!r}"
    ):
        fit(table(), backend, n_jobs=n_jobs)


class Recorder:
    """A user's own backend: notes what it is asked, and lets numpy do it."""

    name = "recorder"

    def __init__(self) -> None:
        self.calls: list[tuple[Problem, FitOptions]] = []

    def fit(self, problem: Problem, options: FitOptions, progress: Progress) -> Estimates:
        self.calls.append((problem, options))
        return NumpyBackend().fit(problem, options, progress)


@covers("backend", "n_jobs")
def test_backends_of_the_users(backend: str) -> None:
    frame = table()
    mine = Recorder()
    assert isinstance(mine, Backend)
    made = fit(frame, mine, min_nobs=4, precision="extended", on_collinear="drop", mad=False)
    assert made.backend == "recorder"
    assert_same(made, fit(frame, "numpy", min_nobs=4, precision="extended", on_collinear="drop", mad=False))
    (problem, options), *more = mine.calls
    assert not more
    assert (problem.n_groups, problem.n_rows, problem.n_predictors, problem.n_targets) == (5, 80, 2, 2)
    assert not any(a.flags.writeable for a in (problem.Z, problem.offsets))
    assert options == FitOptions(
        intercept=True, min_nobs=4, precision="extended", on_collinear="drop", mad=False
    )
    with pytest.raises(SpecError, match="n_jobs= and a Backend instance were both given"):
        fit(frame, mine, n_jobs=1)
    engine = gbreg.backends.get_backend(backend, 2)
    assert_same(fit(frame, engine), fit(frame, backend))


@covers("backend")
@pytest.mark.parametrize(
    ("which", "message"),
    [
        (
            "nunba",
            r"unknown backend 'nunba'; choose from \['loky', 'numba', 'numpy'\]; did you mean 'numba'\?",
        ),
        ("Numpy", "did you mean 'numpy'"),
        ("", "unknown backend ''"),
        (None, r"backend must be one of \['loky', 'numba', 'numpy'\] or a Backend instance, got None"),
        (Recorder, "or a Backend instance, got <class"),
        (object(), "or a Backend instance, got <object"),
    ],
)
def test_unknown_backends(which: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        fit(table(), which)


def run(script: str) -> str:
    """Output of a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT = """
    import sys

    class Gone:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == {missing!r}:
                raise ModuleNotFoundError(f"No module named {{name!r}}", name={missing!r})

    sys.meta_path.insert(0, Gone())
    import pandas as pd, gbreg
    df = pd.DataFrame({{"g": [1, 1, 1, 1], "x": [0, 1, 2, 4.0], "y": [1, 3, 5, 8.0]}})
    call = dict(by="g", linear=["x"], targets=["y"])
"""


@covers("backend")
def test_without_numba() -> None:
    out = run(
        WITHOUT.format(missing="numba")
        + """
    print(df.gbreg.fit(backend="numpy", **call).params["y", "x"].tolist())
    for name in ("numba", "loky"):
        try:
            df.gbreg.fit(backend=name, **call)
        except gbreg.MissingExtraError as error:
            print(error)
    """
    )
    slope = 15.25 / 8.75  # by hand: Sxy / Sxx
    first, *rest = out.splitlines()
    assert float(first.strip("[]")) == pytest.approx(slope, rel=1e-14)
    assert rest == [
        f"backend={name!r} needs numba, which is not installed: pip install numba"
        for name in ("numba", "loky")
    ]


# progress


@covers("progress")
def test_progress_shows_a_bar_that_ends_full(backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    frame = table()
    frame.loc[frame.index[:7], "v"] = np.nan  # two patterns of targets: rows are passed twice, counted once
    frame.loc[frame.index[:5], "x"] = np.nan
    frame.loc[frame.index[8], "g"] = None
    quiet_fit = fit(frame, backend)
    assert capfd.readouterr() == ("", "")
    made = fit(frame, backend, progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("\rgbreg:")
    last = err.rstrip("\n").rpartition("\r")[2]
    assert "100%" in last
    assert "80.0/80.0" in last
    assert_same(made, quiet_fit)


@covers("progress")
def test_progress_without_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    mine = Recorder()
    with pytest.raises(MissingExtraError, match="progress=True needs tqdm: pip install tqdm"):
        fit(table(), mine, progress=True)
    assert mine.calls == []


# the call itself


@covers("formula")
def test_formula_says_the_same_as_the_other_arguments(backend: str) -> None:
    by_formula = gbreg.fit(table(), "u + v ~ x + z | g", weights="w", backend=backend)
    assert_same(by_formula, fit(table(), backend, weights="w"))


@covers("frame")
def test_function_and_accessor_take_the_same_arguments() -> None:
    function, method = inspect.signature(gbreg.fit), inspect.signature(GbregAccessor.fit)
    ours, theirs = list(function.parameters.values())[1:], list(method.parameters.values())[1:]
    assert ours == theirs  # names, kinds, defaults and annotations
    assert function.return_annotation == method.return_annotation
    assert ours[0].name == "formula"
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[1:])
    function, method = inspect.signature(gbreg.group), inspect.signature(GbregAccessor.group)
    assert list(function.parameters.values())[1:] == list(method.parameters.values())[1:]
    assert GbregAccessor.fit.__doc__ == gbreg.fit.__doc__
    assert GbregAccessor.group.__doc__ == gbreg.group.__doc__


@covers("frame")
def test_the_accessor_passes_every_argument_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fit", "group"):
        given: dict[str, Any] = {}
        monkeypatch.setattr(f"gbreg.regression.{name}", lambda frame, given=given, **kw: given.update(kw))
        parameters = list(inspect.signature(getattr(GbregAccessor, name)).parameters)[1:]
        marks = {parameter: object() for parameter in parameters}
        getattr(table().gbreg, name)(**marks)
        assert given == marks


def test_every_parameter_is_documented() -> None:
    doc = inspect.getdoc(gbreg.fit) or ""
    for name in inspect.signature(gbreg.fit).parameters:
        assert any(
            name in line.partition(" : ")[0].split(", ") for line in doc.splitlines() if " : " in line
        ), name


@pytest.mark.parametrize("option", ["weight", "n_job", "target", "backends", "group"])
def test_unknown_arguments_are_type_errors(option: str) -> None:
    for call in (lambda **kw: gbreg.fit(table(), **kw), table().gbreg.fit):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            call(**CALL, **{option: 1})
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments"):
        gbreg.fit(table(), "u ~ x | g", ["x"], ["u"])


WRONG: dict[str, dict[str, Any]] = {
    "formula": {"formula": "u ~ q | g", "by": None, "linear": None, "targets": None},
    "formula and linear": {"formula": "u ~ x | g"},
    "by": {"by": "q"},
    "level": {"by": None, "level": "q"},
    "linear": {"linear": ["q"]},
    "targets": {"targets": ["q"]},
    "dtype": {"targets": ["g"]},
    "weights": {"weights": "q"},
    "negative weights": {"weights": lambda d: -d["w"]},
    "cov_type": {"cov_type": "known"},
    "groups": {"groups": "h"},
    "clusters": {"cov_type": "cluster", "groups": "q"},
    "clip": {"clip": 0},
    "clip_iterations": {"clip_iterations": 0},
    "loss": {"loss": "q"},
    "tuning": {"loss": "huber", "tuning": 0},
    "quantile": {"quantile": 0.5},
    "maxiter": {"loss": "absolute", "maxiter": 0},
    "ridge": {"ridge": -1},
    "ridge_standardize": {"ridge_standardize": True},
    "bounds": {"bounds": (1, 0)},
    "weights_type": {"weights_type": "frequency"},
    "counts": {"weights_type": "frequency", "weights": "w"},
    "intercept": {"intercept": 2},
    "min_nobs": {"min_nobs": 1},
    "missing": {"missing": "q"},
    "missing data": {"missing": "raise", "linear": [("q", lambda d: d["x"].where(d["keep"]))]},
    "where": {"where": "q"},
    "precision": {"precision": "q"},
    "on_collinear": {"on_collinear": "q"},
    "mad": {"mad": "q"},
    "sort": {"sort": "q"},
    "observed": {"observed": "q"},
    "dropna": {"dropna": "q"},
    "fallback": {"fallback": "q"},
    "fallback of values": {"by": table()["g"], "fallback": ["q"]},
    "n_jobs": {"n_jobs": 0},
    "progress": {"progress": "q"},
}


@covers("missing", "precision", "on_collinear", "mad", "where", "weights")
@pytest.mark.parametrize("name", WRONG)
def test_errors_come_before_any_work(name: str) -> None:
    mine = Recorder()
    options = {"linear": ["x"], **WRONG[name]}
    with pytest.raises(GbregError):
        fit(table(), mine, **options)
    assert mine.calls == []


@covers("frame")
def test_every_parameter_of_fit_is_in_the_tests_of_this_file() -> None:
    assert set(TESTED) == set(inspect.signature(gbreg.fit).parameters)
    assert all(name in globals() for names in TESTED.values() for name in names)
    sketched = {"frame", "backend", *(option for options in WRONG.values() for option in options)}
    assert sketched == set(inspect.signature(gbreg.fit).parameters)


def test_counts_beyond_any_group_and_other_kinds_of_numbers(backend: str) -> None:
    """As good as infinite for whole numbers; what is no number is refused by name."""
    frame = pd.DataFrame({"g": 0, "x": [0.0, 1, 2, 3], "y": [1.0, 3, 4, 8]})
    call = {"by": "g", "linear": ["x"], "targets": ["y"], "backend": backend}
    with pytest.warns(gbreg.GbregWarning, match="too_few_rows"):
        gbreg.fit(frame, **call, min_nobs=2**70)
    plain, long = (gbreg.fit(frame, **call, loss="huber", maxiter=most) for most in (500, 2**70))
    pd.testing.assert_frame_equal(long.params, plain.params, check_exact=True)
    for min_nobs in (np.array([3]), 3.0, True):
        with pytest.raises(gbreg.SpecError, match="min_nobs must be an integer"):
            gbreg.fit(frame, **call, min_nobs=min_nobs)
    fit = gbreg.fit(frame, **call)
    pd.testing.assert_frame_equal(fit.conf_int(Fraction(1, 20)), fit.conf_int(0.05), check_exact=True)
    pd.testing.assert_frame_equal(fit.tidy(conf_level=Fraction(3, 4)), fit.tidy(conf_level=0.75))
    new = fit.predict(frame, interval="prediction", alpha=Fraction(1, 4))
    pd.testing.assert_frame_equal(new, fit.predict(frame, interval="prediction", alpha=0.25))
    with pytest.raises(gbreg.SpecError, match=r"unknown stat \['rms'\]"):
        fit.to_frame(stats=[["rms"]])
    with pytest.raises(gbreg.SpecError, match="groups= cannot tell clusters apart"):
        gbreg.fit(frame, **call, cov_type="cluster", groups=[[1], [1, 2], 3, 4])
    with pytest.raises(gbreg.SpecError, match="got 'HAC'; errors for neighbours in time are not offered"):
        gbreg.fit(frame, **call, cov_type="HAC")


def test_a_layout_serves_predict_too() -> None:
    rng = np.random.default_rng(6)
    frame = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60)})
    keys = rng.integers(0, 4, 60)
    layout = gbreg.group(frame, by=keys)
    fit = gbreg.fit(frame, by=layout, linear=["x"], targets=["y"], backend="numpy")
    pd.testing.assert_frame_equal(fit.predict(frame, by=layout), fit.predict(frame, by=keys))
    pd.testing.assert_frame_equal(fit.augment(frame, by=layout), fit.augment(frame, by=keys))
    with pytest.raises(gbreg.SpecError, match="by= is a layout of 60 rows, the frame has 50"):
        fit.predict(frame.iloc[:50], by=layout)
    call = {"by": layout, "linear": ["x"], "targets": ["y"], "backend": "numpy"}
    with pytest.raises(gbreg.SpecError, match="sort must be True or False"):
        gbreg.fit(frame, **call, sort=np.array([True, False]))
    assert len(gbreg.fit(frame, **call, sort=np.True_)) == 4
    with pytest.raises(gbreg.SpecError, match="sort=False was given beside a layout made with sort=True"):
        gbreg.fit(frame, **call, sort=False)


def test_the_same_letters_in_another_case_are_nearest() -> None:
    frame = pd.DataFrame({"g": [0, 1], "mkt_a": 1.0, "mkt_b": 2.0, "y": 3.0})
    with pytest.raises(gbreg.ColumnError, match="'mkt_A'; did you mean 'mkt_a'"):
        gbreg.fit(frame, by="g", linear=["mkt_A"], targets=["y"], backend="numpy")


@pytest.mark.parametrize("n_jobs", [0, -5, 2.5, "2", True])
def test_instances_of_backends_check_their_jobs(n_jobs: Any) -> None:
    for kind in (NumbaBackend, NumpyBackend, LokyBackend):
        with pytest.raises(SpecError, match="n_jobs must be a positive integer"):
            kind(n_jobs)
