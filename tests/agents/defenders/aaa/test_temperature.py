from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from agents.defenders.aaa.linear import AAALinear
from agents.defenders.aaa.temperature import best_temperature
from arena.classifiers.calibration import ece, temperature_grid

GRID = temperature_grid().tolist()


def overconfident(n: int, classes: int) -> tuple[Tensor, Tensor]:
    """Logits [n,K] twice as large as those from which the labels [n] are drawn."""
    draw = torch.Generator().manual_seed(n)
    logits = 2 * torch.randn(n, classes, generator=draw)
    return 2 * logits, logits.softmax(1).multinomial(1, generator=draw)[:, 0]


@pytest.mark.parametrize("bottom", [0.001, 0.0123, 0.7, 1.0, 1.1, 2.0833, 17.0, 999.0])
def test_the_bottom_of_one_valley_is_found(bottom: float) -> None:
    tried: list[float] = []

    def cost(temperature: float) -> float:
        tried.append(temperature)
        return abs(math.log(temperature / bottom))

    assert best_temperature(cost, GRID) == min(GRID, key=lambda t: abs(math.log(t / bottom)))
    assert len(tried) == len(set(tried)) <= 87


def test_of_several_the_nearest_to_one() -> None:
    assert best_temperature(lambda t: 0.0, GRID) == 1.0
    assert best_temperature(lambda t: float(t > 0.5), GRID) == 0.5
    assert best_temperature(lambda t: float(t < 2), GRID) == 2.0


@pytest.mark.parametrize("n", [100, 400])
def test_ece_of_scaled_logits_is_near_the_least_of_the_whole_grid(n: int) -> None:
    logits, labels = overconfident(n, 5)

    def cost(temperature: float) -> float:
        return ece(logits / temperature, labels)

    assert cost(best_temperature(cost, GRID)) <= min(map(cost, GRID)) + 0.003


def test_ece_of_aaas_answers_is_near_the_least_of_the_whole_grid() -> None:
    logits, labels = overconfident(100, 4)
    defender = AAALinear(kappa=8, lr=0.5)

    def cost(temperature: float) -> float:
        return ece(defender.defend(logits, temperature)[0], labels)

    grid = GRID[::4]
    found = cost(best_temperature(cost, grid))
    assert found <= min(map(cost, grid)) + 0.003
    assert found < cost(1.0) - 0.01
