# SPDX-License-Identifier: MIT
"""What must hold for every frame, whatever the numbers: exact laws to the bit, the others to rounding."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thorough import examples

import gbreg
from gbreg.backends._numba import NumbaBackend
from gbreg.backends._numpy import NumpyBackend
from gbreg.estimates import Estimates

pytestmark = pytest.mark.filterwarnings("ignore::gbreg.errors.GbregWarning")

NAMES = ["x0", "x1", "x2"]
EXAMPLES = {"numba": 15, "numpy": 15, "loky": 4}


@dataclass(frozen=True)
class Case:
    """A frame and what is fitted to it; rows of a group are ``frame[frame.key == key]``."""

    frame: pd.DataFrame
    linear: list[str]
    targets: list[str]
    weights: str | None
    intercept: bool

    def fit(self, backend, frame=None, **kwargs) -> gbreg.GroupFit:
        call = {
            "by": "key",
            "linear": self.linear,
            "targets": self.targets,
            "weights": self.weights,
            "intercept": self.intercept,
        }
        return gbreg.fit(self.frame if frame is None else frame, backend=backend, **{**call, **kwargs})

    def with_columns(self, **columns) -> Case:
        return replace(self, frame=self.frame.assign(**columns))


@st.composite
def cases(
    draw,
    *,
    offsets=True,
    degenerate=True,
    spare=0,
    intercept=None,
    weighted=None,
    integers=False,
    short=False,
    most=3,
):
    """Up to 8 groups of up to 25 rows, 1 to ``most`` predictors, 1-2 targets.

    With ``degenerate``, groups may be empty of spare rows, collinear or constant; else every
    group has ``spare`` rows more than coefficients, and two more again. With ``short``, numbers
    have 42 bits, multiples of 2**-10 below 2**32: times 11 bits they are exact.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    k, t = draw(st.integers(1, most)), draw(st.integers(1, 2))
    intercept = draw(st.booleans()) if intercept is None else intercept
    weighted = draw(st.booleans()) if weighted is None else weighted
    least = 1 if degenerate else k + intercept + 2 + spare
    sizes = draw(st.lists(st.integers(least, 25), min_size=1, max_size=8))
    n = sum(sizes)
    keys = rng.choice(1000, len(sizes), replace=False)
    frame = pd.DataFrame({"key": np.repeat(keys, sizes)})
    far = 10.0 ** draw(st.integers(0, 8)) if offsets else 0.0
    for name in NAMES[:k]:
        frame[name] = rng.normal(size=n) + far * rng.choice([-1, 0, 1])
    if integers:
        frame[NAMES[:k]] = rng.integers(-8, 9, (n, k)).astype(float)
    if degenerate:
        for key in keys:
            rows = frame["key"] == key
            trouble = draw(st.sampled_from(["none", "none", "collinear", "constant", "near"]))
            if trouble == "constant":
                frame.loc[rows, NAMES[k - 1]] = 4.5
            elif trouble == "collinear" and k > 1:
                frame.loc[rows, NAMES[k - 1]] = 3 * frame.loc[rows, NAMES[0]]
            elif trouble == "near" and k > 1:
                frame.loc[rows, NAMES[k - 1]] = frame.loc[rows, NAMES[0]] + 1e-5 * rng.normal(size=rows.sum())
    targets = [f"y{j}" for j in range(t)]
    for name in targets:
        slopes = rng.normal(size=k)
        frame[name] = rng.normal() + (frame[NAMES[:k]] - far * intercept) @ slopes + rng.normal(size=n)
    if short:
        data = [*NAMES[:k], *targets]
        frame[data] = (frame[data] * 2**10).round() / 2**10
        assert (frame[data].abs() < 2.0**32).to_numpy().all()
    frame["w"] = rng.uniform(0.2, 4, n) if weighted else 1.0
    frame = frame.iloc[rng.permutation(n)].reset_index(drop=True)
    return Case(frame, NAMES[:k], targets, "w" if weighted else None, intercept)


def law(**kinds):
    """Run a test(backend, case, seed) on drawn cases for each backend, with few of them for loky."""

    def wrap(test):
        @pytest.mark.parametrize("engine", EXAMPLES)
        def run(engine):
            @settings(max_examples=examples(EXAMPLES[engine]), database=None)
            @given(cases(**kinds), st.integers(0, 2**32 - 1))
            def drawn(case, seed):
                test(engine, case, np.random.default_rng(seed))

            drawn()

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return wrap


def numbers(fit: gbreg.GroupFit, g=slice(None)) -> dict[str, bytes]:
    """Every array of the estimates as bytes, for some of the groups."""
    arrays = {field.name: getattr(fit.estimates, field.name) for field in fields(Estimates)}
    return {name: (array if name == "pattern" else array[g]).tobytes() for name, array in arrays.items()}


def assert_close(got, want, rel, unit=0.0) -> None:
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    assert (np.isnan(got) == np.isnan(want)).all()
    far = np.abs(got - want) > rel * (np.abs(want) + unit)
    assert not far.any(), (got[far], want[far])


def steps(fit: gbreg.GroupFit) -> np.ndarray:
    """(g, t, p): what a relative change of the target by 1 may do to the coefficients."""
    e = fit.estimates
    return e.target_norm[..., None] * e.root[:, e.pattern]


def assert_same_fit(got: gbreg.GroupFit, want: gbreg.GroupFit, rel=1e-9) -> None:
    """Coefficients, errors and residual sizes to rounding, in units of what rounding can do."""
    assert got.estimates.status.tolist() == want.estimates.status.tolist()
    assert_close(got.estimates.params, want.estimates.params, rel, steps(want))
    for name in ("bse", "ssr", "rms"):
        # RSS of 1e-10 of TSS has 5 of the digits of the target
        assert_close(getattr(got, name), getattr(want, name), rel)


# --- order, names, keys ---------------------------------------------------------------------------


@law(degenerate=False)
def test_order_of_rows_changes_only_rounding(backend, case, rng):
    got = case.fit(backend, case.frame.iloc[rng.permutation(len(case.frame))])
    assert_same_fit(got, case.fit(backend))


@law()
def test_order_of_rows_within_groups_is_all_that_counts(backend, case, rng):
    """Rows of other groups in between change no bit."""
    apart = case.frame.sort_values("key", kind="stable")
    assert numbers(case.fit(backend, apart)) == numbers(case.fit(backend))


@law()
def test_new_names_of_groups_only_rename(backend, case, rng):
    old = np.unique(case.frame["key"])
    new = np.sort(rng.choice(10**6, len(old), replace=False)) - 5 * 10**5
    renamed = case.with_columns(key=case.frame["key"].map(dict(zip(old, new, strict=True))))
    got, want = renamed.fit(backend), case.fit(backend)
    assert numbers(got) == numbers(want)
    assert list(got.keys) == list(new)


@law()
def test_dtype_of_keys_changes_no_number(backend, case, rng):
    want = case.fit(backend)
    key = case.frame["key"]
    for other in (
        key.astype("int16"),
        key.astype("float64"),
        key.astype("Int64"),
        key.astype("category"),
        key.map("{:04d}".format),
        pd.to_datetime(key, unit="D"),
        pd.DataFrame({"a": key // 10, "b": key % 10}),
    ):
        frame = case.frame.drop(columns="key")
        if isinstance(other, pd.DataFrame):
            got = case.fit(backend, frame.join(other), by=["a", "b"])
        else:
            got = case.fit(backend, frame.assign(key=other))
        assert numbers(got) == numbers(want)


# --- units ----------------------------------------------------------------------------------------


def eleven_bits(rng, size=None):
    """Factors of 0.1 to 8 and either sign, by which ``short`` numbers are multiplied exactly."""
    return rng.integers(26, 2**11, size) / 2**8 * rng.choice([-1, 1], size)


@law(degenerate=False, short=True)
def test_units_of_predictors_scale_slopes_and_nothing_else(backend, case, rng):
    """By powers of two to the bit, by others to rounding, of the computation alone."""
    want, k = case.fit(backend), len(case.linear)
    for factors, rel in ((2.0 ** rng.integers(-20, 20, k), 0.0), (eleven_bits(rng, k), 1e-9)):
        scaled = {name: case.frame[name] * c for name, c in zip(case.linear, factors, strict=True)}
        got = case.with_columns(**scaled).fit(backend)
        up = np.concatenate([[1.0] * case.intercept, factors])
        assert_close(got.estimates.params * up, want.estimates.params, rel, steps(want))
        assert_close(got.estimates.root * np.abs(up), want.estimates.root, rel)
        assert_close(got.rms, want.rms, rel)
        assert_close(
            got.tvalues.to_numpy().reshape(want.estimates.params.shape) * np.sign(up),
            want.tvalues.to_numpy().reshape(want.estimates.params.shape),
            rel,
            steps(want) / (want.bse.to_numpy().reshape(want.estimates.params.shape)),
        )


@law(degenerate=False, intercept=True, offsets=False, integers=True)
def test_a_shift_of_predictors_moves_the_intercept_and_nothing_else(backend, case, rng):
    """Integers, so that shifting is exact."""
    shifts = rng.integers(-(10**6), 10**6, len(case.linear))
    moved = {name: case.frame[name] + c for name, c in zip(case.linear, shifts, strict=True)}
    got, want = case.with_columns(**moved).fit(backend), case.fit(backend)
    assert got.estimates.status.tolist() == want.estimates.status.tolist()
    intercepts, slopes = want.estimates.params[..., 0], want.estimates.params[..., 1:]
    assert_close(got.estimates.params[..., 1:], slopes, 1e-9, steps(want)[..., 1:])
    there = intercepts - np.nansum(slopes * shifts, axis=-1)
    assert_close(got.estimates.params[..., 0], there, 1e-9, steps(got)[..., 0])
    for name in ("rms", "rsquared", "mad"):
        assert_close(getattr(got, name), getattr(want, name), 1e-9, 1e-5)
    assert_close(got.estimates.root[..., 1:], want.estimates.root[..., 1:], 1e-9)


@law(degenerate=False, short=True)
def test_units_of_targets_scale_everything(backend, case, rng):
    want = case.fit(backend)
    for factor, rel in ((2.0 ** rng.integers(-30, 30), 0.0), (eleven_bits(rng), 1e-9)):
        got = case.with_columns(**{y: case.frame[y] * factor for y in case.targets}).fit(backend)
        assert_close(got.estimates.params, want.estimates.params * factor, rel, abs(factor) * steps(want))
        assert_close(got.bse, want.bse * abs(factor), rel)
        assert_close(got.mad, want.mad * abs(factor), rel, abs(factor))
        assert_close(got.rsquared, want.rsquared, rel, 1)


@law(degenerate=False, intercept=True, offsets=False)
def test_a_multiple_of_a_predictor_added_to_the_target_adds_to_its_slope(backend, case, rng):
    shift, slope = rng.normal(size=2)
    x = case.linear[-1]
    moved = {y: case.frame[y] + shift + slope * case.frame[x] for y in case.targets}
    got, want = case.with_columns(**moved).fit(backend), case.fit(backend)
    add = np.zeros(want.estimates.params.shape[2])
    add[0], add[-1] = shift, slope
    assert_close(got.estimates.params, want.estimates.params + add, 1e-9, steps(got) + steps(want))
    assert_close(got.bse, want.bse, 1e-9)


@law(degenerate=False, offsets=False)
def test_rotated_predictors_give_rotated_slopes(backend, case, rng):
    """X -> A X: slopes -> A'^-1 slopes, residuals stay."""
    k = len(case.linear)
    A = np.linalg.qr(rng.normal(size=(k, k)))[0]
    turned = dict(zip(case.linear, A @ case.frame[case.linear].to_numpy().T, strict=True))
    got, want = case.with_columns(**turned).fit(backend), case.fit(backend)
    first = int(case.intercept)
    slopes = want.estimates.params[..., first:]
    unit = np.linalg.norm(steps(want)[..., first:], axis=-1, keepdims=True)
    assert_close(got.estimates.params[..., first:], slopes @ A.T, 1e-9, unit)
    for name in ("rms", "rsquared"):
        assert_close(getattr(got, name), getattr(want, name), 1e-9, 1e-5)
    if first:
        assert_close(got.estimates.params[..., 0], want.estimates.params[..., 0], 1e-9, steps(want)[..., 0])


# --- weights --------------------------------------------------------------------------------------


@law(degenerate=False, spare=1)
def test_integer_weights_are_repeated_rows_but_for_degrees_of_freedom(backend, case, rng):
    w = rng.integers(1, 5, len(case.frame))
    repeated = case.frame.loc[case.frame.index.repeat(w)]
    got = case.with_columns(w=w).fit(backend, weights="w")
    want = case.fit(backend, repeated, weights=None)
    assert_close(got.estimates.params, want.estimates.params, 1e-9, steps(want))
    assert_close(got.ssr, want.ssr, 1e-9)
    assert_close(got.rsquared, want.rsquared, 1e-9, 1)
    df, df_repeated = got.df_resid.to_numpy(), want.df_resid.to_numpy()
    assert ((df_repeated - df) == (want.nobs - got.nobs).to_numpy()).all()
    factor = np.repeat(np.sqrt(df / df_repeated), len(got.terms), axis=1)
    assert_close(got.bse * factor, want.bse, 1e-9)


@law(weighted=True)
def test_four_times_the_weights_change_no_bit(backend, case, rng):
    got, want = case.with_columns(w=4 * case.frame["w"]).fit(backend), case.fit(backend)
    for name in ("params", "bse", "mad", "rms", "rsquared", "status", "flags"):
        pd.testing.assert_frame_equal(getattr(got, name), getattr(want, name), check_exact=True)
    assert (got.ssr.to_numpy() == 4 * want.ssr.to_numpy())[~np.isnan(want.ssr.to_numpy())].all()


@law(weighted=False)
def test_equal_weights_are_no_weights(backend, case, rng):
    want = case.fit(backend)
    ones = case.with_columns(w=1.0).fit(backend, weights="w")
    assert numbers(ones) == numbers(want)
    got = case.with_columns(w=1 / 3).fit(backend, weights="w")
    assert got.estimates.rank.tolist() == want.estimates.rank.tolist()
    good = want.estimates.pivot[:, 0] > 1e-3
    assert_close(got.estimates.params[good], want.estimates.params[good], 1e-9, steps(want)[good])
    for name in ("bse", "rms", "mad"):
        a, b = getattr(got, name).to_numpy()[good], getattr(want, name).to_numpy()[good]
        assert_close(a, b, 1e-9, 1e-9)


@law(weighted=True)
def test_a_zero_weight_is_a_row_less(backend, case, rng):
    out = rng.random(len(case.frame)) < 0.2
    got = case.with_columns(w=case.frame["w"].where(~out, 0.0)).fit(backend)
    want = case.fit(backend, case.frame[~out])
    there = got.keys.isin(want.keys)
    a, b = numbers(got, there), numbers(want)
    a.pop("flags"), b.pop("flags")  # zero_weights
    assert a == b
    assert (got.status[~there] == "no_data").to_numpy().all()
    assert int(got.counts.zero_weight.sum()) == out.sum()


# --- groups and targets keep to themselves --------------------------------------------------------


@law()
def test_each_group_alone_has_the_bits_it_has_among_others(backend, case, rng):
    whole = case.fit(backend)
    keys = list(whole.keys)
    for g, key in enumerate(keys[: 2 if backend == "loky" else None]):
        alone = case.fit(backend, case.frame[case.frame["key"] == key])
        assert numbers(alone) == numbers(whole, slice(g, g + 1))
    cut = rng.choice([*keys, keys[-1] + 1])
    parts = [frame for _, frame in case.frame.groupby(case.frame["key"] >= cut)]
    got = pd.concat([case.fit(backend, part).to_frame() for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(got, whole.to_frame(), check_exact=True)


@law()
def test_another_group_changes_no_bit_however_bad_it_is(backend, case, rng):
    n = 7
    bad = pd.DataFrame({"key": 5000}, index=rng.uniform(0, len(case.frame), n))
    bad["w"] = rng.choice([1e-300, 1.0, 1e300], n)
    wild = [0.0, 5e-324, 1e-200, 1.0, -1.0, 2.0**53, 1e200, -1.7e308, np.nan, np.inf]
    for name in [*case.linear, *case.targets]:
        bad[name] = rng.choice(wild, n)
    got, want = case.fit(backend, pd.concat([case.frame, bad]).sort_index()), case.fit(backend)
    assert list(got.keys) == [*want.keys, 5000]
    for name in ("params", "bse", "ssr", "mad", "rsquared", "llf", "status", "condition_number"):
        pd.testing.assert_frame_equal(getattr(got, name).iloc[:-1], getattr(want, name), check_exact=True)


@law()
def test_a_target_alone_is_the_target_among_others(backend, case, rng):
    both = case.with_columns(other=rng.normal(size=len(case.frame)), same=3.5)
    got = both.fit(backend, targets=["same", *case.targets, "other"])
    want = case.fit(backend)
    for name in ("params", "bse", "ssr", "mad", "rsquared", "status", "flags"):
        a, b = getattr(got, name), getattr(want, name)
        pd.testing.assert_frame_equal(a[case.targets], b, check_exact=True)


# --- what a least squares fit is ------------------------------------------------------------------


@law(degenerate=False)
def test_residuals_are_orthogonal_to_predictors_and_sum_to_zero(backend, case, rng):
    """In units of the norms of the residual and of the predictor."""
    fit = case.fit(backend)
    frame, r = case.frame, fit.resid(case.frame)
    w = frame["w"].to_numpy()
    for y in case.targets:
        for x in [*case.linear, *["one"] * case.intercept]:
            column = frame[x] if x != "one" else pd.Series(1.0, index=frame.index)
            if case.intercept and x != "one":  # about its mean: a large offset would hide the law
                column = column - column.groupby(frame["key"]).transform("mean")
            dot, yy, xx = (
                (w * values).groupby(frame["key"]).sum()
                for values in (r[y] * column, frame[y] ** 2, column**2)
            )
            assert (dot.abs() <= 1e-11 * np.sqrt(yy * xx)).all()


@law(degenerate=False, offsets=False, integers=True)
def test_planted_coefficients_are_recovered_exactly(backend, case, rng):
    """Integers small enough that every sum is exact."""
    k, first = len(case.linear), int(case.intercept)
    planted = rng.integers(-9, 10, (len(case.targets), k + first)).astype(float)
    X = case.frame[case.linear].to_numpy()
    exact = {y: X @ b[first:] + (b[0] if first else 0) for y, b in zip(case.targets, planted, strict=True)}
    fit = case.with_columns(**exact).fit(backend)
    full = fit.estimates.rank[:, 0] == k + first
    got = fit.estimates.params[full]
    assert (np.where(planted == 0, np.abs(got) < 1e-28, got == planted)).all()  # 0 +- 1e-32 is all it can say
    assert fit.flags.xs("perfect_fit", axis=1, level="flag").to_numpy()[full].all()
    assert (fit.rms.to_numpy()[full] <= 1e-14).all()


# --- drivers --------------------------------------------------------------------------------------


LONG = dict.fromkeys(("_packed.LONG_ROWS", "_numba.LONG_ROWS", "_numba.LONG_EXTENDED_ROWS"), 12)
LONG["_long.BLOCK_ROWS"] = 5  # these decide on bits
RANGES = {"_numba.RANGE_ROWS": 7, "_numba.EXTENDED_ROWS": 7, "_numpy.ROWS": 7, "_numpy_extended.CELLS": 40}


@pytest.mark.parametrize("precision", ["auto", "extended"])
@pytest.mark.parametrize("make", [NumbaBackend, NumpyBackend])
def test_jobs_and_ranges_change_no_bit(make, precision, monkeypatch):
    """Also where a group is so long that threads share it."""
    for name, value in LONG.items():
        monkeypatch.setattr(f"gbreg.backends.{name}", value)

    @settings(max_examples=examples(15), database=None)
    @given(cases(most=2))  # each number of predictors is ten seconds of compilation
    def drawn(case):
        want = numbers(case.fit(make(1), precision=precision))
        with pytest.MonkeyPatch.context() as patch:
            for name, value in RANGES.items():
                patch.setattr(f"gbreg.backends.{name}", value)
            for jobs in (1, 2, 3):
                assert numbers(case.fit(make(jobs), precision=precision)) == want

    drawn()


@law(degenerate=False)
def test_jobs_of_any_engine_change_no_bit(backend, case, rng):
    want = numbers(case.fit(backend, n_jobs=1))
    for jobs in (2,) if backend == "loky" else (2, 4, -1):
        assert numbers(case.fit(backend, n_jobs=jobs)) == want
