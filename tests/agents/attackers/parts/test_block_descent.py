import math

import pytest
import torch

from agents.attackers.parts.block_descent import BlockDescent, BlockRule, percentile
from arena.rules.threat import Threat

RULE = BlockRule(block=1, shrink=1.2, reach=1, percentile=100.0, window=500, least_gain=0.0)
THREAT = Threat(norm="l2", epsilon=math.inf, budget=400, objective="minimum", feedback="label")


class Descends:
    """BlockDescent from images of one grey, with first steps `overshoot` times as long; keeps it."""

    def __init__(self, rule=RULE, start=1.0, overshoot=1.0):
        self.rule, self.start, self.overshoot = rule, start, overshoot

    def play(self, games):
        self.descent = BlockDescent(games, torch.full_like(games.x0, self.start), self.rule)
        self.descent.epsilon *= self.overshoot
        yield from self.descent.play()


def brighter(than):
    """Class 1 where the mean is above `than`."""

    def model(x, game, turn):
        wrong = x.flatten(1).mean(dim=1) > than
        return torch.stack([~wrong, wrong], dim=1).float()

    return model


def test_gains_are_the_change_of_the_squared_distance(referee, images):
    """Of blocks whose windows do not overlap: against the candidate itself."""
    x0 = images(2, (2, 6, 7))
    rule = BlockRule(block=1, shrink=1.2, reach=1, percentile=60.0, window=9, least_gain=0.0)
    seat = referee(brighter(0.5), x0, torch.zeros(2).long(), THREAT).seat
    descent = BlockDescent(seat, torch.ones_like(x0), rule)
    i = torch.arange(2)
    descent.shuffle(i)
    gains = descent.gains(i)
    for place in (0, 5, 40, 83):
        descent.place[:] = place
        candidate = descent.candidate(i)
        expected = [
            (c - x).double().square().sum() - (1 - x).double().square().sum()
            for c, x in zip(candidate, x0, strict=True)
        ]
        assert torch.allclose(gains[:, place].double(), torch.stack(expected), atol=1e-5)
        moved = (candidate != 1).flatten(1).sum(dim=1)
        assert (moved >= 4).all() and (moved <= 9).all()


def test_each_pass_visits_every_position_once(referee, images):
    seat = referee(brighter(0.5), images(3, (1, 4, 5)), torch.zeros(3).long(), THREAT).seat
    descent = BlockDescent(seat, torch.ones(3, 1, 4, 5), RULE)
    descent.shuffle(torch.arange(3))
    for order in descent.order:
        assert sorted(order.flatten().tolist()) == list(range(20))
    assert not torch.equal(descent.order[0], descent.order[1])


def test_it_comes_nearer_with_every_answer_and_stays_adversarial(referee, images):
    x0, label = images(3, (1, 5, 5), high=0.4), torch.zeros(3).long()
    attacker = Descends()
    table = referee(brighter(0.6), x0, label, THREAT).play(attacker)
    for game in range(3):
        best = math.inf
        for x, _, logits in table.asked[game]:
            distance = float((x - x0[game]).double().norm())
            assert distance < best + 1e-6
            if logits.argmax() == 1:
                best = distance
        # The nearest point has the mean .6, all pixels raised alike as far as the box allows.
        least = 5 * (0.6 - float(x0[game].mean()))
        assert least <= best < 1.5 * least < float((1 - x0[game]).norm())
        assert float((attacker.descent.x[game] - x0[game]).norm()) == pytest.approx(best, abs=1e-5)


def test_it_stops_where_it_is_slow_and_after_three_passes_without_a_query(referee, images):
    x0, label = images(1, (1, 4, 4), high=0.4), torch.zeros(1).long()
    slow = Descends(BlockRule(1, 1.2, 1, 100.0, window=10, least_gain=9.0))
    assert len(referee(brighter(0.6), x0, label, THREAT).play(slow).asked[0]) == 20
    none = Descends(BlockRule(1, 1.01, 0, 100.0, window=10, least_gain=0.0), start=0.51, overshoot=100)

    table = referee(brighter(2.0), torch.full((1, 1, 4, 4), 0.5), label, THREAT).play(none)
    assert len(table.asked[0]) == 0 and none.descent.empty.tolist() == [3]


def test_the_percentile_is_numpys():
    import numpy as np

    x = torch.rand(3, 2, 3, 3)
    for percent in (0, 37.5, 50, 100):
        expected = np.percentile(x.flatten(1).numpy(), percent, axis=1)
        assert np.allclose(percentile(x, percent).numpy(), expected, atol=1e-6)
