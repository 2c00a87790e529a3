# SPDX-License-Identifier: MIT
"""A result at the prompt: short, complete in what it counts, and never an error itself."""

from __future__ import annotations

from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

import gbreg

NASTY = "<b>&\"x'"


def frame(groups: int, rows: int = 6, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made = pd.DataFrame({"g": np.repeat(np.arange(groups), rows)})
    made["x"] = rng.normal(size=len(made))
    made["y"] = 2 + made["x"] + rng.normal(size=len(made))
    made["w"] = 1.0
    return made


def fitted(data: pd.DataFrame, **changes: object) -> gbreg.GroupFit:
    return gbreg.fit(data, **{"by": "g", "linear": ["x"], "targets": ["y"], "backend": "numpy", **changes})


class Tags(HTMLParser):
    """Collects the text, and fails on tags that do not close or that nobody wrote."""

    known = frozenset("div strong ul li p table thead tbody tr th td style".split())

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert tag in self.known
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def test_one_screen_tells_what_was_fitted_and_what_became_of_the_rows() -> None:
    data = frame(1200)
    data["g"] = data["g"].astype(float)
    data.loc[data.index[-7:], "g"] = np.nan
    data.loc[[0, 1], "y"] = np.nan
    data.loc[6, "x"] = np.inf
    data.loc[[13, 14, 15], "w"] = 0
    data.loc[19:23, "x"] = 1.0
    data.loc[18, "x"] = 1.0
    with pytest.warns(gbreg.GbregWarning):
        fit = fitted(data, weights="w", where=data["y"].index != 30)
    got = repr(fit)
    assert "GroupFit: 1,199 groups, 1 target, backend numpy" in got
    assert "y ~ Intercept, x, weights w" in got
    used = 7200 - 7 - 2 - 1 - 3 - 1
    assert (
        f"{used:,} of 7,200 rows used (2 missing, 1 infinite, 3 zero weight, 1 not selected, 7 without key)"
        in got
    )
    assert "status 1,198 ok, 1 rank_deficient" in got
    assert "... 1,194 more groups" in got
    assert len(got.splitlines()) < 25
    for text in (f"{fit.params.iloc[0, 0]:.5g} ± {fit.bse.iloc[0, 0]:.2g}", " NaN "):
        assert text in got
    text = Tags(fit._repr_html_()).text
    assert all(
        part in text for part in ("1,199 groups", f"{used:,} of", "1 rank_deficient", "1,194 more groups")
    )
    assert f"{fit.params.iloc[0, 0]:.5g}" in text


def test_no_group_and_one_group() -> None:
    none, one = fitted(frame(0)), fitted(frame(1))
    assert "0 groups" in repr(none)
    assert "0 of 0 rows used" in repr(none)
    assert "status no groups" in repr(none)
    assert "0 groups" in Tags(none._repr_html_()).text
    assert "more groups" not in repr(one)
    assert "status 1 ok" in repr(one)
    assert f"{one.params.iloc[0, 1]:.5g}" in Tags(one._repr_html_()).text


def test_coefficients_stand_beside_their_own_errors() -> None:
    fit = fitted(frame(3).assign(v=lambda d: d["y"] ** 2), targets=["y", "v"])
    targets, terms, *rows = repr(fit).splitlines()[-6:]
    assert targets.split() == ["y", "v"]
    assert terms.split() == ["Intercept", "x"] * 2
    assert rows[0].split() == ["g"]
    for i, row in enumerate(rows[1:]):
        want = [f"{fit.params.iloc[i, j]:.5g} ± {fit.bse.iloc[i, j]:.2g}" for j in range(4)]
        assert row.split() == [str(i), *" ".join(want).split()]


@cache
def many_targets() -> gbreg.GroupFit:
    data = frame(50, rows=16)
    rng = np.random.default_rng(1)
    for j in range(7):
        data[f"x{j}"], data[f"y{j}"] = rng.normal(size=(2, len(data)))
        data.loc[16 * np.arange(j), f"y{j}"] = np.nan  # targets differ in their rows
    return fitted(data, linear=[f"x{j}" for j in range(7)], targets=[f"y{j}" for j in range(7)])


def long_names() -> gbreg.GroupFit:
    data = (
        frame(50)
        .rename(columns={"x": "x" * 200, "y": "y" * 150})
        .assign(g=lambda d: "g" * 130 + d["g"].astype(str))
    )
    return fitted(data, linear=["x" * 200], targets=["y" * 150])


@pytest.mark.parametrize("make", [many_targets, long_names])
def test_a_screen_is_30_lines_of_120_characters(make: object) -> None:
    lines = repr(make()).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 120


def test_what_is_left_out_is_counted() -> None:
    fit = many_targets()
    got = repr(fit)
    assert "y0, y1, y2, y3, y4, y5, ... (7) ~ Intercept, x0, x1, x2, x3, x4, ... (8)" in got
    assert "y0: 800 of 800 rows used\n" in got
    assert "y3: 797 of 800 rows used (3 missing)" in got
    assert "... (7 different)" in got
    shown = got.count(" ± ") // 5
    note = f"... 45 more groups, {7 * 8 - shown} more coefficients"
    assert got.endswith(note)
    assert note in Tags(fit._repr_html_()).text


def test_targets_that_agree_share_a_line() -> None:
    data = frame(3).assign(v=lambda d: d["y"], u=lambda d: d["y"].mask(d.index == 0))
    got = repr(fitted(data, targets=["y", "u", "v"]))
    assert "  y, v: 18 of 18 rows used\n" in got
    assert "  u: 17 of 18 rows used (1 missing)\n" in got
    assert "  status 3 ok\n" in got


def test_only_the_head_is_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = fitted(frame(500))
    sizes = []
    for name in ("params", "bse"):
        own = getattr(type(fit), name)
        monkeypatch.setattr(
            type(fit), name, property(lambda self, own=own: sizes.append(len(self)) or own.fget(self))
        )
    _ = repr(fit), fit._repr_html_()
    assert set(sizes) == {5}


def test_tuples_read_as_in_the_flat_table() -> None:
    data = frame(3)
    data.columns = pd.Index(["g", ("in", "x"), ("out", 1), "w"], tupleize_cols=False)
    fit = fitted(data, linear=[("in", "x")], targets=[("out", 1)])
    for got in (repr(fit), Tags(fit._repr_html_()).text, repr(fit.group(1))):
        assert "out_1" in got
        assert "in_x" in got


def test_names_are_escaped_in_notebooks() -> None:
    data = frame(2).rename(columns={"x": NASTY, "y": "<script>", "g": "<i>"})
    data["<i>"] = np.where(data["<i>"] == 0, "<u>", "&amp;")
    fit = fitted(data, by="<i>", linear=[NASTY], targets=["<script>"], weights="w")
    text = Tags(fit._repr_html_()).text
    for name in (NASTY, "<script>", "<i>", "<u>", "&amp;"):
        assert name in text
    text = Tags(fit.group("<u>")._repr_html_()).text
    for name in (NASTY, "<script>", "<u>"):
        assert name in text


@pytest.mark.parametrize(
    "name", ["status", "target", "term", "estimate", "y_intercept", "nobs", 3, ("a", 1), None]
)
def test_no_name_of_a_key_is_an_error(name: object) -> None:
    fit = fitted(frame(3), by=frame(3)["g"].rename(name))
    assert "status 3 ok" in repr(fit)
    assert "status 3 ok" in Tags(fit._repr_html_()).text
    assert f"{fit.params.iloc[1, 0]:.4f}" in repr(fit.group(1))


def test_labels_that_read_the_same_are_no_error() -> None:
    data = frame(3).assign(**{"1": lambda d: d["y"]})
    data[1] = data["x"]
    fit = fitted(data, targets=["1", 1], linear=["w"], intercept=False)
    assert "1, 1 ~ w" in repr(fit)
    for j in (0, 1):
        assert f"{fit.params.iloc[0, j]:.5g} ± {fit.bse.iloc[0, j]:.2g}" in repr(fit)


def test_robust_errors_and_clipping_are_named() -> None:
    data = frame(8).assign(run=lambda f: np.arange(len(f)) % 3)
    fit = fitted(data, cov_type="cluster", groups="run", clip=5.0)
    assert "y ~ Intercept, x, errors clustered by run, clip 5\n" in repr(fit)
    assert ", errors HC3" in repr(fitted(data, cov_type="HC3"))


# ---------------------------------------------------------------------- one group: see test_summary.py


def test_a_group_in_a_notebook_has_what_its_text_has() -> None:
    data = frame(4).assign(v=lambda d: np.where(d["g"] == 2, 5.0, d["y"] ** 2))
    made = fitted(data, targets=["y", "v"], clip=9.0, cov_type="HC1").group(2)
    html = made._repr_html_()
    assert html.count("<table") == 4
    shown = " ".join(Tags(html).text.split())
    lines = [line for line in str(made).splitlines() if line and set(line) != {"="} and set(line) != {"-"}]
    assert len(lines) > 30
    for line in lines:
        for word in line.removeprefix("[1] ").removeprefix("[2] ").removeprefix("[3] ").split():
            assert word in shown or word == "Notes:", line


KEYS = {
    "str": (["a", "b", "c"], "b"),
    "float with NaN": ([0.5, np.nan, 2.0], np.nan),
    "timestamp": (
        list(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-01-03"])),
        pd.Timestamp("2024-01-02"),
    ),
    "category": (pd.Categorical(["u", "v", "w"], categories=["w", "v", "u"]), "v"),
    "interval": (pd.cut([0.5, 1.5, 2.5], [0, 1, 2, 3]), pd.Interval(1, 2)),
    "bool": ([False, True, False], True),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_group_is_found_by_its_key(kind: str) -> None:
    values, key = KEYS[kind]
    data = frame(3)
    data["key"] = pd.Series(values).take(data["g"]).array
    one = data[data["g"] == 1]
    want = fitted(one, by=np.zeros(len(one))).params.iloc[0, 1]
    alone = fitted(data, by="key", dropna=False)
    assert f"{want:.4f}" in repr(alone.group(key))
    pair = fitted(data.assign(other="o"), by=["other", "key"], dropna=False)
    assert f"{want:.4f}" in repr(pair.group(("o", key)))


@pytest.mark.parametrize("key", [7, "1", (1,), (1, 2), (), None, [1], {}])
def test_a_key_that_is_not_there_is_named(key: object) -> None:
    with pytest.raises(gbreg.SpecError, match="there is no group"):
        fitted(frame(3)).group(key)
    with pytest.raises(gbreg.SpecError, match="there is no group"):
        fitted(frame(0)).group(key)
    pair = fitted(frame(3).assign(h="b"), by=["g", "h"])
    with pytest.raises(gbreg.SpecError, match="there is no group"):
        pair.group(key)


def test_a_misspelt_key_gets_a_hint() -> None:
    data = frame(2).assign(g=lambda d: np.where(d["g"] == 0, "north", "south"))
    with pytest.raises(gbreg.SpecError, match="'nort'; did you mean 'north'"):
        fitted(data).group("nort")
    with pytest.raises(gbreg.SpecError, match=r"there is no group 10; did you mean 1\?"):
        fitted(frame(3)[frame(3)["g"] > 0]).group(10)
    pair = fitted(frame(2).assign(h="b"), by=["h", "g"])
    with pytest.raises(gbreg.SpecError, match=r"tuples of \['h', 'g'\]"):
        pair.group("b")


def test_errors_have_two_digits_and_no_exponent_unless_they_need_one() -> None:
    fit = fitted(frame(1).assign(y=lambda d: 1000 * d["y"]))
    b, e = fit.params.iloc[0, 0], fit.bse.iloc[0, 0]
    assert f"{b:.5g} ± {float(f'{e:.2g}'):.0f} " in repr(fit)
    assert e > 99


def test_a_layout_says_what_it_holds() -> None:
    layout = frame(3).gbreg.group(by="g")
    assert repr(layout) == f"GroupLayout: 3 groups by ('g',), {layout.n_rows} of {layout.n_rows} rows"
