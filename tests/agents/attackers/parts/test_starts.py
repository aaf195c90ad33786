import math

import pytest
import torch

from agents.attackers.parts.starts import find_start, nearest_images
from arena.players.seat import Resources
from arena.rules.threat import GrantedResources, Threat

SHAPE = (1, 4, 4)
THREAT = Threat(norm="l2", epsilon=math.inf, budget=50, objective="minimum", feedback="label")


class Only:
    """Makes a start and keeps it."""

    def __init__(self, draws=1000, fallback=False):
        self.draws, self.fallback = draws, fallback

    def play(self, games):
        self.x = yield from find_start(games, self.draws, fallback=self.fallback)
        self.open = games.open.tolist()


def stubborn(*games):
    """Class 1 where the first pixel is 1; else class 0 in these games, class 1 in others."""

    def model(x, game, turn):
        one = (x[:, 0, 0, 0] == 1) | ~torch.isin(game, torch.tensor(games))
        return torch.stack([torch.full((len(x),), 0.5), one.float()], dim=1)

    return model


def test_untargeted_starts_are_noise_that_was_answered_adversarial(referee, linear, images):
    model, x0 = linear(SHAPE), images(12, SHAPE)
    label = model(x0, torch.arange(12), torch.arange(12)).argmax(dim=1)
    table, attacker = referee(model, x0, label, THREAT), Only()
    table.play(attacker)
    for game in range(12):
        asked = table.queries(game)
        assert torch.equal(asked[-1], attacker.x[game])
        assert table.margins(game)[-1] < 0 and all(m >= 0 for m in table.margins(game)[:-1])
        assert set(table.purposes(game)) == {"start"}
    assert 1 < sum(len(asked) for asked in table.asked) / 12 < 3  # half of the noise is of either class


def test_what_the_network_calls_y_is_resigned_as_no_start_after_so_many_draws(referee, images):
    table, attacker = referee(stubborn(0, 2), images(4, SHAPE), torch.zeros(4).long(), THREAT), Only(draws=7)
    table.play(attacker)
    assert [len(asked) for asked in table.asked] == [7, 1, 7, 1]
    assert table.open.tolist() == [False, True, False, True] and attacker.open == [1, 3]


def test_the_fallback_is_the_nearest_image_granted_of_another_label(referee, images):
    owned = images(5, SHAPE, seed=3)
    owned[:, 0, 0, 0] = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])  # the service calls [1] class 0
    x0 = (owned[[1]] + 0.01 * images(1, SHAPE, seed=4)).clamp(0, 0.99)
    table, attacker = referee(stubborn(0), x0, torch.zeros(1).long(), THREAT), Only(draws=3, fallback=True)
    table.seat.resources = Resources(owned, torch.tensor([1, 1, 1, 0, 1]))
    table.play(attacker)
    far = (owned - x0).flatten(1).norm(dim=1)
    expected = min((0, 2, 4), key=lambda n: far[n])  # [1] is nearer, but not answered so; [3] is of class y
    assert torch.equal(attacker.x[0], owned[expected])
    assert torch.equal(table.queries(0)[3], owned[1])


def test_targeted_games_start_from_the_image_given_or_not_at_all(referee, images):
    threat = THREAT.model_copy(update={"goal": "targeted", "resources": GrantedResources(starts=True)})
    starts = images(3, SHAPE, seed=5)
    starts[1] = torch.nan  # none was found
    starts[:, 0, 0, 0] = torch.tensor([1.0, torch.nan, 0.5])  # the third is no longer answered as its target
    target = torch.ones(3, dtype=torch.int64)
    table = referee(stubborn(0, 1, 2), images(3, SHAPE), torch.zeros(3).long(), threat, target=target)
    table.seat.resources = Resources(starts=starts)
    attacker = Only()
    table.play(attacker)
    assert [len(asked) for asked in table.asked] == [1, 0, 1]
    assert attacker.open == [0] and torch.equal(attacker.x[0], starts[0])


@pytest.mark.parametrize("targeted", [False, True])
def test_images_are_ordered_by_distance_those_that_win_first(referee, images, targeted):
    owned, x0 = images(30, SHAPE, seed=6), images(4, SHAPE)
    labels = torch.arange(30) % 3
    target = torch.full((4,), 2) if targeted else None
    threat = THREAT.model_copy(update={"goal": "targeted"}) if targeted else THREAT
    seat = referee(stubborn(), x0, torch.zeros(4).long(), threat, target=target).seat
    order, count = nearest_images(seat, owned, labels)
    fits = [n for n in range(30) if (labels[n] == 2 if targeted else labels[n] != 0)]
    for game in range(4):
        far = (owned - x0[game]).double().flatten(1).norm(dim=1)
        assert order[game, : len(fits)].tolist() == sorted(fits, key=lambda n: far[n])
        assert count[game] == len(fits)
