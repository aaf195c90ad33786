from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from arena.league.cells import Source
from arena.league.grid import Grid, grid
from arena.league.matrices import matrices
from arena.league.ratings import ELO, SPREAD, elo, ratings, resampled
from tests.arena.league.made import match


def of(*sources: Source) -> Grid:
    (matrix,) = matrices(list(sources), counts=[100])
    return grid(matrix.attackers, matrix.defenders, list(matrix.cells.values()))


def bouts(random: np.random.Generator, strength: np.ndarray, attackers: int, n: int) -> np.ndarray:
    a, d = strength[:attackers, None], strength[attackers:]
    return (random.random((n, attackers, len(d))) < 1 / (1 + np.exp(d - a))) * 1.0


def test_scipys_minimiser_finds_the_same_strengths() -> None:
    random = np.random.default_rng(0)
    table = bouts(random, np.array([0.3, -0.5, 1.0, 0.2, -0.9]), 3, 50)
    table[:, 2, 1] = np.nan
    met = ~np.isnan(table).all(axis=0)
    won = np.nansum(table, axis=0) + met
    count = (~np.isnan(table)).sum(axis=0) + 2 * met

    def loss(s: np.ndarray) -> float:
        gap = s[:3, None] - s[3:]
        return float((count * np.logaddexp(0, gap) - won * gap).sum() + (s**2).sum() / 2 / SPREAD**2)

    s = minimize(loss, np.zeros(5), options={"gtol": 1e-8}).x
    found = elo(table, np.random.default_rng(0), resamples=2)[0]
    np.testing.assert_allclose(found, ELO * (s - s.mean()), atol=0.01)


def test_known_strengths_are_covered_by_their_intervals() -> None:
    random = np.random.default_rng(1)
    strength = np.array([0.8, 0.0, -0.6, 0.5, -0.7])
    truth = ELO * (strength - strength.mean())
    covered = []
    for _ in range(100):
        drawn = elo(bouts(random, strength, 3, 60), random, resamples=200)
        low, high = np.quantile(drawn[1:], (0.025, 0.975), axis=0)
        covered.append((low <= truth) & (truth <= high))
    assert 0.9 < np.mean(covered) <= 0.99


def test_a_perfect_record_is_finite_and_open_at_its_end() -> None:
    won = [[1] * 40, [1, 0] * 20]
    found, _ = ratings(of(*(match(a, d, won[a == "b"]) for a in "ab" for d in "xy")))
    by = {rating.agent: rating.rating for rating in found}
    assert found[0].agent == "a" and by["a"].value < 1000
    assert by["a"].high - by["a"].value > 1.2 * (by["a"].value - by["a"].low), "how strong it is nobody knows"
    assert sum(rating.value for rating in by.values()) == pytest.approx(0, abs=1e-6)
    assert by["x"].value == pytest.approx(by["y"].value)


def test_sides_and_order() -> None:
    found, notes = ratings(
        of(*(match(a, d, np.arange(20) < (12 if a == "a" else 4)) for a in "ab" for d in "xy"))
    )
    assert [rating.side for rating in found if rating.agent in "ab"] == ["attacker"] * 2
    assert found[0].agent == "a" and notes == {}


def test_missing_cells_and_strangers_are_told() -> None:
    half = np.arange(20) % 2
    found, notes = ratings(of(match("a", "x", half), match("b", "x", half), match("b", "y", half)))
    assert len(found) == 4 and "cells are missing" in notes[""]
    found, notes = ratings(of(match("a", "x", half), match("b", "x", half), match("c", "z", half)))
    assert {rating.agent for rating in found} == {"a", "b", "x"}
    assert notes["c"] == notes["z"] == "no games join it with the other agents"


def test_clean_images_are_no_bouts() -> None:
    half = np.arange(20) % 2
    lost = {"reason": ["clean"] * 10 + ["budget"] * 10}
    one, _ = ratings(of(match("a", "x", half, **lost), match("b", "x", half, **lost)))
    other, _ = ratings(of(match("a", "x", half[10:]), match("b", "x", half[10:])))
    assert [r.rating.value for r in one] == pytest.approx([r.rating.value for r in other])


def test_resamples_are_sums_of_as_many_units_as_there_are() -> None:
    drawn = resampled(np.eye(30), 500, np.random.default_rng(0))
    assert drawn.shape == (500, 30) and (drawn.sum(axis=1) == 30).all()
    assert abs(drawn.var() - 29 / 30) < 0.05
    assert len(resampled(np.ones((2**20, 1)), 9, np.random.default_rng(0))) == 9, "in pieces"
