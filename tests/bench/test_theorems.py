"""RND's theorems at a small size: exact values where there are any, and bounds."""

from __future__ import annotations

import math

import pytest
import torch

from bench.theorems import L0, SCORES, Bowl, Linear, Noisy, bound_of_squares, descents, flips, squares


@pytest.mark.parametrize("name", SCORES)
def test_the_constants_are_those_of_the_scores(name: str) -> None:
    """|f(y) - f(x)| <= L0 |y - x| and |f'(y) - f'(x)| <= L1 |y - x|, each nearly reached; slopes are f's."""
    score = SCORES[name](5)
    draws = torch.Generator().manual_seed(0)
    x = (
        0.5
        + torch.randn(4000, 5, generator=draws, dtype=torch.float64) * torch.logspace(-3, 0, 4000)[:, None]
    )
    y = x + 1e-3 * torch.randn(4000, 5, generator=draws, dtype=torch.float64)
    apart = (y - x).norm(dim=1)
    rises = (score.score(y) - score.score(x)).abs() / apart
    turns = (score.slope(y) - score.slope(x)).norm(dim=1) / apart
    assert 0.95 * L0 < rises.max() <= L0 * (1 + 1e-6)
    assert 0.95 * score.L1 <= turns.max() <= score.L1 * (1 + 1e-6)
    x.requires_grad_(True)
    (slope,) = torch.autograd.grad(score.score(x).sum(), x)
    assert torch.allclose(slope, score.slope(x.detach()), atol=1e-12)


def test_answers_are_those_of_the_defended_score() -> None:
    x = torch.full((1, 9), 0.25, dtype=torch.float64)
    plain, noisy = Noisy(Bowl(9), 9, 0.0), Noisy(Bowl(9), 9, 0.1)
    assert float(plain.ask(x)) == pytest.approx(float(plain.score.score(x)), abs=1e-6)
    first, second = noisy.ask(x), noisy.ask(x)
    assert first != second, "each answer has a noise of its own"


def test_squares_of_estimates_have_their_exact_values_and_bounds() -> None:
    """E|g|^2 = L0^2 (d + 2 + 2 (nu/mu)^2 d / M) of a linear score."""
    for row in squares(16, 3000, 0):
        assert row["measured"] <= row["bound"]
        if row["exact"]:
            assert row["measured"] == pytest.approx(row["exact"], rel=0.15)
    linear = [row["measured"] for row in squares(16, 500, 0) if row["score"] == "linear"]
    assert linear[0] < linear[1] < linear[2] > linear[6] > linear[7] > linear[8], "nu harms, M mends"


def test_the_bounds_grow_as_the_theorems_say() -> None:
    d = 10
    assert bound_of_squares(d, 0, 0.1, 0.2, 1) == pytest.approx(2 * (d * (2 + math.sqrt(0.5))) ** 2)
    of_m = [bound_of_squares(d, 2.0, 0.1, 0.2, repeats) for repeats in (2, 10, 10**9)]
    assert of_m[0] > of_m[1] > of_m[2]
    assert of_m[2] == pytest.approx(d**2 + 2 * 0.04 * 2 / 0.1 * d**2.5 + 0.2**4 * 4 / 0.01 * d**3, rel=1e-6)


def test_descents_stay_below_their_bounds_and_repeats_help_under_much_noise() -> None:
    rows = list(descents(16, 10, 20, 0))
    assert all(row["mean |slope|^2"] <= row["bound"] for row in rows)
    assert [row["bound"] for row in rows[:4]] == sorted(row["bound"] for row in rows[:4])
    assert rows[5]["f at the end"] < rows[3]["f at the end"]


def test_flips_have_their_exact_rate_and_bound() -> None:
    for row in flips(16, 3000, 1):
        assert row["flips"] <= row["bound"]
        if row["exact"]:
            assert row["flips"] == pytest.approx(row["exact"], abs=0.04)
    noisy = Noisy(Linear(16), 16, 10.0)
    x = torch.full((2000, 16), 0.5, dtype=torch.float64)
    half = (noisy.ask(x + 1e-3) < noisy.ask(x)).double().mean()
    assert float(half) == pytest.approx(0.5, abs=0.05), "in much noise a comparison is a coin"
