import math

import pytest
import torch

from agents.attackers.adaptive.annealed_square import AnnealedSquare
from agents.attackers.score.square import Square
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("rise", [0.5, 1.0, 3.0])
def test_a_rise_is_taken_with_metropolis_probability(accepted, rise):
    games = 4000
    taken = accepted(AnnealedSquare(temperature=1.0), [[2.0 + rise]] * games, [2.0] * games)
    p = math.exp(-rise)
    share = sum(row[0] for row in taken) / games
    assert abs(share - p) < 5 * (p * (1 - p) / games) ** 0.5


def test_falls_are_always_taken_and_no_answer_never(accepted):
    games = 200
    losses = [[1.0, 1.0 - 1e-6, math.inf]] * games
    assert accepted(AnnealedSquare(temperature=1e-9), losses, [2.0] * games) == [[True, True, False]] * games


def test_it_cools_by_a_factor_a_step(accepted):
    """A rise by 1/4 at the fourth step, when T is 1/8."""
    games = 4000
    losses = [[math.inf] * 3 + [2.25]] * games
    share = sum(row[3] for row in accepted(AnnealedSquare(cooling=0.5), losses, [2.0] * games)) / games
    p = math.exp(-2)
    assert abs(share - p) < 5 * (p * (1 - p) / games) ** 0.5


def test_at_temperature_0_it_is_square(referee, linear, images):
    slopes, x0, label = linear(SHAPE), images(4, SHAPE), torch.zeros(4, dtype=torch.int64)
    far = lambda x, game, turn: slopes(x, game, turn) + torch.tensor([100.0, 0.0])  # noqa: E731
    threat = Threat(epsilon=0.1, budget=30)
    annealed, square = (
        referee(far, x0, label, threat, seed=2).play(a) for a in (AnnealedSquare(temperature=0.0), Square())
    )
    for game in range(4):
        assert torch.equal(annealed.queries(game), square.queries(game))


def test_parameters():
    with pytest.raises(ValueError, match="temperature must be finite and at least 0; found -1"):
        AnnealedSquare(temperature=-1.0)
    with pytest.raises(ValueError, match="cooling must be above 0 and at most 1; found"):
        AnnealedSquare(cooling=1.1)
