"""The scout's tests on planted answers: noise of known size, folds of known period, coins, smooth losses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.attackers.parts.diagnosis import (
    ALPHA,
    PLAIN_JAGGED,
    binomial_tail,
    folded,
    jump_share,
    jumped,
    jumps,
    largest_step,
    median,
    more_often_than,
    period_of_jumps,
    period_of_waves,
    roughness,
    standard_deviation,
    swapped,
)

TAU = 6.0


def linear(m: Tensor) -> Tensor:
    """AAA-linear's answers to true margins (eq. 4, alpha = 1)."""
    return m - 2 * (m.remainder(TAU) - TAU / 2)


def sine(m: Tensor) -> Tensor:
    """AAA-sine's (alpha = .7)."""
    return m - 0.7 * TAU * (2 * math.pi * (m.remainder(TAU) - TAU / 2) / TAU).sin()


def lines(count: int, steps: int = 6, seed: int = 0) -> Tensor:
    """Margins along lines: from 5 to 25, down by 8 to 20, bent a little."""
    generator = torch.Generator().manual_seed(seed)
    start, way, bend = torch.rand(3, count, 1, generator=generator, dtype=torch.float64)
    t = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return 5 + 20 * start - (8 + 12 * way) * (t + (bend - 0.5) * t * (1 - t))


def noise(shape: Any, sd: float, seed: int = 1) -> Tensor:
    return sd * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_binomial_tail_is_exact() -> None:
    assert binomial_tail(2, 3, 0.5) == pytest.approx(4 / 8)
    assert binomial_tail(3, 3, 0.1) == pytest.approx(1e-3)
    assert binomial_tail(0, 5, 0.1) == 1 == binomial_tail(0, 0, 0.1)
    assert binomial_tail(1, 5, 0.0) == 0
    assert binomial_tail(1, 5, 0.1) == pytest.approx(1 - 0.9**5)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_test_errs_no_more_often_than_it_says(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    seen = torch.rand(2000, n, generator=generator) < PLAIN_JAGGED
    wrong = sum(more_often_than(row, PLAIN_JAGGED).rejects for row in seen) / 2000
    assert wrong <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 2000)


def test_one_jagged_line_is_enough_for_one_game() -> None:
    assert more_often_than(torch.tensor([True]), PLAIN_JAGGED).rejects
    assert not more_often_than(torch.tensor([True] + 9 * [False]), PLAIN_JAGGED).rejects


def test_the_standard_deviation_of_noise() -> None:
    one, other = noise((2, 4000), 0.3)
    assert standard_deviation(one, other) == pytest.approx(0.3, rel=0.05)
    assert standard_deviation(one, one) == 0
    lost = torch.cat([other[:2000], torch.full((2000,), torch.inf)])  # not answered
    assert standard_deviation(one, lost) == pytest.approx(0.3, rel=0.06)
    assert standard_deviation(one[:0], one[:0]) == 0


def test_roughness_is_a_von_neumann_ratio() -> None:
    steps = noise((4000, 200), 1.0)
    walk = torch.cat([torch.zeros(4000, 1), steps.cumsum(dim=1)], dim=1)
    assert float(roughness(walk).mean()) == pytest.approx(2, abs=0.02)
    line = torch.arange(7.0)[None]
    assert float(roughness(line)) == 0 == float(roughness(torch.zeros(1, 7)))
    assert float(roughness(torch.tensor([[0.0, 1, 0, 1, 0, 1, 0]]))) == 4
    assert float(roughness(torch.tensor([[0.0, 1, 0, torch.inf, 0, 1, 0]]))) == 0


def test_noise_alone_is_not_jagged() -> None:
    flat = noise((1000, 7), 0.5)
    assert not folded(flat, 0.5).rejects
    assert folded(flat, 0.0).count > 800  # it would be, if it were not known for noise


@pytest.mark.parametrize("sd", [0.0, 0.3])
def test_smooth_losses_do_not_look_folded(sd: float) -> None:
    loss = lines(500)
    assert folded(loss + noise(loss.shape, sd), sd).count == 0


@pytest.mark.parametrize("sd", [0.0, 0.3])
@pytest.mark.parametrize("fold", [linear, sine])
def test_folded_ones_do(fold: Any, sd: float) -> None:
    shown = fold(lines(500))
    shown = shown + noise(shown.shape, sd)
    test = folded(shown, sd)
    assert test.rejects
    assert test.count > 0.8 * 500  # so that a single line shows it


def test_a_coin_that_changes_signs_is_no_fold() -> None:
    loss = lines(500)
    heads = torch.rand(loss.shape, generator=torch.Generator().manual_seed(5)) < 0.5
    assert not folded(torch.where(heads, -loss, loss)).rejects


def refined(fold: Any, count: int = 200) -> tuple[Tensor, Tensor]:
    """Answers along lines, and within their largest steps, cut into three."""
    true = lines(count)
    shown = fold(true)
    row, step = torch.arange(count), largest_step(shown)
    near, far = true[row, step, None], true[row, step + 1, None]
    return shown, fold(near + (far - near) * torch.linspace(0, 1, 4, dtype=torch.float64))


def test_jumps_and_waves_are_told_apart() -> None:
    assert jumps(refined(linear)[1])
    assert not jumps(refined(sine)[1])
    assert not jumps(refined(lambda m: m)[1])


def test_the_share_of_a_step_that_is_a_jump() -> None:
    loss = torch.tensor([[0.0, 0, 6, 6], [0, 1, 2, 3], [0, 0, 0, 0], [0, torch.inf, 1, 2]])
    assert jump_share(loss).tolist() == pytest.approx([1, 1 / 3, 0, 0])


def test_a_jump_goes_against_the_slope() -> None:
    loss = torch.tensor([[0.0, -1, 6, 5], [0, 1, 8, 9], [0, -2, 1, 0], [0, 0, 0, 0], [0, torch.inf, 1, 2]])
    assert jumped(loss).tolist() == [True, False, False, False, False]


def test_the_period_of_a_fold() -> None:
    assert period_of_jumps(refined(linear)[1]) == pytest.approx(TAU, rel=0.02)
    assert 0.6 * TAU < period_of_waves(refined(sine)[0]) < 1.05 * TAU
    fine = sine(lines(100, steps=400))
    assert period_of_waves(fine) == pytest.approx(TAU, rel=0.01)
    assert math.isnan(period_of_jumps(lines(5)[:, :4]))
    assert math.isnan(period_of_waves(torch.arange(7.0)[None]))


def test_a_coin_exchanges_the_two_largest_scores() -> None:
    one = torch.tensor([[1.0, 5, 3]]).expand(4, -1)
    other = torch.tensor([[1.0, 3, 5], [1, 5, 3], [5, 3, 1], [1, 3.4, 5]])
    assert swapped(one, other).tolist() == [True, False, False, False]
    tie = torch.tensor([[1.0, 5, 5.01]])
    assert not swapped(tie, torch.tensor([[1.0, 5.01, 5]])).item()  # noise at the boundary does that


def test_the_median_passes_over_what_is_missing() -> None:
    assert median(torch.tensor([3.0, torch.inf, 1, 2, torch.nan])) == 2
    assert median(torch.zeros(0)) == 0
