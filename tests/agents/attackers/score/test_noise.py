import math

import pytest
import torch

from agents.attackers.score.noise import Noise
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)


def constant(x, game, turn):
    """Class 0, whatever is asked."""
    return torch.tensor([5.0, 0.0]).expand(len(x), 2).clone()


def asked(referee, images, threat, games=40):
    """The steps [n,d] of all queries from mid-grey images, where nothing is ever wrong."""
    x0 = images(games, SHAPE, low=0.5, high=0.5)
    table = referee(constant, x0, torch.zeros(games, dtype=torch.int64), threat)
    table.play(Noise())
    assert table.volleys == [games] * threat.budget
    return torch.stack([x - x0[g] for g in range(games) for x in table.queries(g)]).flatten(1).double()


def test_in_linf_every_value_is_uniform_in_the_ball(referee, images):
    steps = asked(referee, images, Threat(epsilon=0.1, budget=20)) / 0.1
    n = steps.numel()
    assert steps.abs().max() <= 1 + 1e-5
    assert abs(steps.mean()) < 5 * math.sqrt(1 / 3 / n)
    assert abs(steps.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / n)
    assert len({tuple(row.tolist()) for row in steps}) == len(steps)  # new for each query and game


def test_in_l2_the_image_is_uniform_in_the_ball(referee, images):
    steps = asked(referee, images, Threat(norm="l2", epsilon=0.4, budget=20)) / 0.4
    length = steps.norm(dim=1)
    assert length.max() <= 1 + 1e-5
    share = length.pow(steps.shape[1])  # the share of the ball's volume within it is uniform
    n = len(share)
    assert abs(share.mean() - 0.5) < 5 * math.sqrt(1 / 12 / n)
    assert abs(share.square().mean() - 1 / 3) < 5 * math.sqrt(4 / 45 / n)


def test_under_minimum_radii_are_uniform(referee, images):
    steps = asked(referee, images, Threat(epsilon=0.1, budget=20, objective="minimum")) / 0.1
    largest = steps.abs().amax(dim=1) / (64 / 65)  # the mean largest of 64 uniform values
    assert abs(largest.mean() - 0.5) < 5 * math.sqrt(1 / 12 / len(largest))


def test_a_ball_without_end_is_filled_up_to_uniform_images(referee, images):
    steps = asked(referee, images, Threat(epsilon="inf", budget=20, objective="minimum"))
    largest = steps.abs().amax(dim=1)
    assert largest.max() <= 0.5
    assert largest.max() > 0.4
    assert largest.min() < 0.05


@pytest.mark.parametrize("facts", [True, False])
def test_it_submits_what_was_wrong(referee, images, facts):
    def brightness(x, game, turn):
        mean = x.flatten(1).mean(dim=1)
        return torch.stack([torch.full_like(mean, 0.5), mean], dim=1)

    x0 = images(6, SHAPE, low=0.495, high=0.495)
    threat = Threat(epsilon=0.2, budget=200, objective="submit")
    table = referee(brightness, x0, torch.zeros(6, dtype=torch.int64), threat, facts=facts)
    table.play(Noise())
    assert sorted(table.submitted) == list(range(6))
    for x in table.submitted.values():
        assert x.mean() > 0.5
