# SPDX-License-Identifier: MIT
"""Minima of quantile regression against all fits through as many rows as there are coefficients."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest

import gbreg
from gbreg import vertices
from gbreg.minimum import Minimum
from gbreg.problem import Loss, Problem, Status

HALF = Loss(name="absolute")


def least(Z: np.ndarray, y: np.ndarray, quantile: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of (g, n, p) and (g, n): the least sum of losses (g,), where it is (g, p), and the next elsewhere."""
    g, n, p = Z.shape
    best, where, second = np.full(g, np.inf), np.zeros((g, p)), np.full(g, np.inf)
    for rows in combinations(range(n), p):
        A = Z[:, rows]
        fine = np.abs(np.linalg.det(A)) > 1e-9
        b = np.zeros((g, p))
        b[fine] = np.linalg.solve(A[fine], y[fine][:, rows, None])[:, :, 0]
        total = np.where(fine, losses(Z, y, b, quantile), np.inf)
        same = np.abs(b - where).max(axis=1) < 1e-9
        better = total < best
        second = np.where(same, second, np.where(better, best, np.minimum(second, total)))
        best, where = np.where(better, total, best), np.where(better[:, None], b, where)
    return best, where, second


def losses(Z: np.ndarray, y: np.ndarray, b: np.ndarray, quantile: float) -> np.ndarray:
    r = y - (Z * b[:, None]).sum(axis=2)
    return np.where(r < 0, (quantile - 1) * r, quantile * r).sum(axis=1)


def tied(g: int, n: int, k: int, noise: float, seed: int) -> pd.DataFrame:
    """Integers, and so many near ties."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"g": np.repeat(np.arange(g), n)})
    for j in range(k):
        frame[f"x{j}"] = rng.integers(0, 6, g * n) + noise * rng.normal(size=g * n)
    return frame.assign(y=rng.integers(-5, 6, g * n) + noise * rng.normal(size=g * n))


@pytest.mark.parametrize("noise", [0.0, 1e-10, 1e-8, 1e-6, 1e-4])
@pytest.mark.parametrize(("n", "k", "quantile"), [(9, 1, 0.5), (8, 2, 0.3), (11, 0, 0.5)])
def test_near_ties_do_not_hide_the_minimum(
    backend: str, n: int, k: int, quantile: float, noise: float
) -> None:
    g, linear = 60, [f"x{j}" for j in range(k)]
    frame = tied(g, n, k, noise, seed=n)
    fit = gbreg.fit(
        frame, by="g", linear=linear, targets=["y"], loss="absolute", quantile=quantile, backend=backend
    )
    assert (fit.status == "ok").all(axis=None)
    Z = np.column_stack([np.ones(g * n), frame[linear].to_numpy()]).reshape(g, n, k + 1)
    y = frame["y"].to_numpy().reshape(g, n)
    best, where, second = least(Z, y, quantile)
    got = fit.params.to_numpy()
    np.testing.assert_allclose(losses(Z, y, got, quantile), best, rtol=1e-11)
    alone = second > best * (1 + 1e-9)
    assert alone.sum() >= (5 if noise else 0)
    np.testing.assert_allclose(got[alone], where[alone], rtol=0, atol=1e-9)


def test_a_minimum_on_a_nearly_flat_edge(backend: str) -> None:
    """Of all 36 fits through two rows this one has the least sum, by 4e-7 of it."""
    x = [5.000012, 4.999986, 1.000002, 4.000007, 5.000006, 4.999994, 0.99999, 3.999994, 2.99999]
    y = [-2.99998, -1.999996, -1.000007, 4.000008, 4.000006, -2.000004, -5.00002, 3.000003, 4.999987]
    frame = pd.DataFrame({"g": 0, "x": x, "y": y})
    fit = gbreg.fit(frame, by="g", linear=["x"], targets=["y"], loss="absolute", backend=backend)
    _, where, _ = least(np.column_stack([np.ones(9), x])[None], np.array(y)[None], 0.5)
    np.testing.assert_allclose(fit.params.to_numpy(), where, rtol=1e-10)


def standard(seed: int, g: int = 40, n: int = 12, p: int = 3) -> Problem:
    rng = np.random.default_rng(seed)
    Z = np.column_stack([rng.normal(size=(g * n, p + 1)) / np.sqrt(n), np.ones(g * n)])
    return Problem(Z, np.arange(g + 1) * n, p)


def from_anywhere(problem: Problem, seed: int) -> Minimum:
    found = Minimum.empty(problem)
    found.theta[:] = np.random.default_rng(seed).normal(size=found.theta.shape)
    found.status[:] = Status.OK
    return found


@pytest.mark.parametrize("quantile", [0.5, 0.1, 0.8])
def test_the_walk_finds_the_minimum_from_anywhere(quantile: float) -> None:
    problem, loss = standard(1), Loss(name="absolute", quantile=quantile)
    got = vertices.to_vertices(problem, loss, from_anywhere(problem, 2), lambda rows: None)
    Z = problem.Z[:, :3].reshape(40, 12, 3)
    _, where, _ = least(Z, problem.Z[:, 3].reshape(40, 12), quantile)
    assert (got.status == Status.OK).all()
    np.testing.assert_allclose(got.theta[:, 0], where, rtol=1e-11)
    r = problem.Z[:, 3].reshape(40, 12) - (Z * where[:, None]).sum(axis=2)
    np.testing.assert_allclose(got.scale[:, 0], 1.482602218505602 * np.median(np.abs(r), axis=1), rtol=1e-10)


def test_groups_beside_change_no_bit() -> None:
    problem, found = standard(3), from_anywhere(standard(3), 4)
    whole = vertices.to_vertices(problem, HALF, found, lambda rows: None)
    for i in (0, 17, 39):
        own = Minimum(*(values[i : i + 1] for values in found))
        part = vertices.to_vertices(problem.slice(i, i + 1), HALF, own, lambda rows: None)
        np.testing.assert_array_equal(part.theta[0], whole.theta[i])


def test_what_is_not_shown_to_be_a_minimum_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    problem, found = standard(5), from_anywhere(standard(5), 6)
    found.status[:7] = Status.NOT_CONVERGED  # these are left as they are
    monkeypatch.setattr(vertices, "STEPS", 0)
    got = vertices.to_vertices(problem, HALF, found, lambda rows: None)
    assert (got.status == Status.NOT_CONVERGED).all()
    np.testing.assert_array_equal(got.theta[:7], found.theta[:7])


def test_a_walk_can_be_stopped() -> None:
    class Stop(Exception):
        pass

    def stop(rows: int) -> Any:
        raise Stop

    with pytest.raises(Stop):
        vertices.to_vertices(standard(7), HALF, from_anywhere(standard(7), 8), stop)


@pytest.mark.parametrize("p", [1, 2, 5])
def test_square_systems(p: int) -> None:
    rng = np.random.default_rng(p)
    A, b = rng.normal(size=(p, p, 20)), rng.normal(size=(p, 20))
    A[0, 0] = 0.0 if p > 1 else 1.0  # needs another pivot
    want = np.linalg.solve(np.moveaxis(A, -1, 0), b.T[:, :, None])[:, :, 0].T
    np.testing.assert_allclose(vertices.solve_square(A, b), want, rtol=1e-9)
