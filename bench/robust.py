# SPDX-License-Identifier: MIT
"""Robust fits beside the plain fit and statsmodels; rewrites the table in ``bench/README.md``.

``python bench/robust.py [--scale 0.1]``: 20,000 groups of 20 weighted rows, 2 predictors, one value in
twenty far off. gbreg's calls run in turn, round after round, on all groups; statsmodels fits one
group after another and is timed on the first 200 and scaled to all. Both sides' coefficients and errors
are compared on these. With a scale the page is left alone.
"""

from __future__ import annotations

import argparse
import time
import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from measure import HERE, alternate, machine, ratio, rewrite, table

import gbreg

GROUPS, ROWS, SHARE = 20_000, 20, 0.05
PEER_GROUPS = 200
ROUNDS = 5
LOSSES: dict[str, dict[str, Any]] = {
    "least squares": {},
    "huber": {"loss": "huber"},
    "bisquare": {"loss": "bisquare"},
    "absolute": {"loss": "absolute"},
    "clip=4": {"clip": 4.0},
    "HC3": {"cov_type": "HC3"},
}
AGREE = 1e-5  # relative; statsmodels stops at 1e-8 of the deviance by default, here at 1e-10 of coefficients
SAME = 0.95  # share of groups where "bisquare", which starts elsewhere, has to end where statsmodels does


def make(groups: int, seed: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = groups * ROWS
    frame = pd.DataFrame({"g": rng.permutation(np.repeat(np.arange(groups), ROWS))})
    frame["x"], frame["z"], frame["w"] = rng.normal(2, 1, n), rng.normal(size=n), rng.uniform(0.5, 2, n)
    frame["y"] = 1 + 2 * frame["x"] - frame["z"] + rng.normal(size=n) / np.sqrt(frame["w"])
    frame.loc[rng.random(n) < SHARE, "y"] += 30
    return frame


def fit(frame: pd.DataFrame, backend: str = "numba", **options: Any) -> gbreg.GroupFit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gbreg.GbregWarning)
        return frame.gbreg.fit(
            by="g", linear=["x", "z"], targets=["y"], weights="w", backend=backend, **options
        )


def peer(rows: pd.DataFrame, loss: str) -> Any:
    """One group by statsmodels, which has no weights: of rows times their roots."""
    side = np.sqrt(rows["w"].to_numpy())
    y = rows["y"].to_numpy() * side
    X = np.column_stack([np.ones(len(rows)), rows["x"], rows["z"]]) * side[:, None]
    if loss == "absolute":
        return sm.QuantReg(y, X).fit(q=0.5, vcov="iid")
    norm = sm.robust.norms.HuberT() if loss == "huber" else sm.robust.norms.TukeyBiweight()
    return sm.RLM(y, X, M=norm).fit(maxiter=500, tol=1e-10, conv="coefs")


def timed_peer(parts: list[pd.DataFrame], loss: str) -> tuple[float, list[Any]]:
    """Seconds a group with coefficients and errors, and the fits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        made = [peer(rows, loss) for rows in parts]
        _ = [(one.params, one.bse) for one in made]
        return (time.perf_counter() - start) / len(parts), made


def check(result: gbreg.GroupFit, keys: list[int], made: list[Any], loss: str) -> float:
    """Share of groups where coefficients and errors agree with statsmodels."""
    agree = []
    params, errors = result.params, result.bse
    for key, one in zip(keys, made, strict=True):
        pairs = (params.loc[key], one.params), (errors.loc[key], one.bse)
        agree.append(all(np.allclose(*pair, rtol=AGREE, atol=AGREE) for pair in pairs))
    share = float(np.mean(agree))
    if loss in ("huber", "bisquare") and share < SAME:
        raise AssertionError(f"{loss} agrees with statsmodels in {share:.1%} of the groups only")
    return share


def report(groups: int) -> str:
    frame = make(groups)
    for options in LOSSES.values():
        fit(frame, **options)  # compiles, and reads the frame once
    sides = {name: partial(fit, frame, **options) for name, options in LOSSES.items()}
    sides |= {
        f"{name}, numpy": partial(fit, frame, "numpy", **LOSSES[name]) for name in ("huber", "bisquare")
    }
    seconds = alternate(sides, ROUNDS)
    few = [rows for key, rows in frame[frame["g"] < PEER_GROUPS].groupby("g")]
    lines = []
    for name, taken in seconds.items():
        loss = LOSSES.get(name, {}).get("loss")
        line = [name, f"{np.median(taken):.3f}", f"{ratio(taken, seconds['least squares']):.1f}x"]
        if loss:
            alone, made = timed_peer(few, loss)
            share = check(sides[name](), list(range(len(few))), made, loss)
            ahead = alone * groups / np.median(taken)
            line += [f"~{alone * groups:.0f}", f"**{ahead:.0f}x**", f"{share:.1%}"]
        lines.append(line + [""] * (6 - len(line)))
    heads = [
        "fit",
        "gbreg (s)",
        "over least squares",
        "statsmodels (s)",
        "its time over gbreg's",
        "agree to 1e-5",
    ]
    what = f"{groups:,} groups x {ROWS} rows, 2 predictors, weighted, {SHARE:.0%} of the targets far off."
    end = f"Median of {ROUNDS} rounds, {machine('gbreg', 'numba', 'numpy', 'pandas', 'statsmodels')}."
    return f"{what}\n\n{table(heads, lines)}\n\n{end}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=1.0)
    scale = parser.parse_args().scale
    made = report(max(PEER_GROUPS, int(GROUPS * scale)))
    print(made)
    if scale == 1.0:
        rewrite(HERE / "README.md", "robust", made)


if __name__ == "__main__":
    main()
