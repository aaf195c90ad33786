import itertools
import math

import numpy as np
import pytest
import torch

from agents.attackers.parts.searches import blend
from agents.attackers.parts.sigmoid_search import (
    STEADY,
    STEPS,
    Posterior,
    Sigmoids,
    alpha,
    sharp_alpha,
    sigmoid_search,
)
from arena import draws
from arena.rules.threat import Threat

THREAT = Threat(norm="l2", epsilon=math.inf, budget=1000, objective="minimum", feedback="label")
CPU = torch.device("cpu")


def test_alpha_is_the_mean_of_answer_times_place():
    """Against the integral over the normal density, of the ramp that stands for the sigmoid."""
    x = np.linspace(-12, 12, 200_001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    for slope, flips, offset in itertools.product((0.02, 0.3, 1.0, 9.0), (0.0, 0.2), (0.0, 1.0)):
        p = flips + (1 - 2 * flips) * np.clip(0.5 + slope * (x - offset), 0, 1)
        expected = float(np.sum((2 * p - 1) * x * density) * (x[1] - x[0]))
        found = alpha(*(torch.tensor([v], dtype=torch.float64) for v in (slope, flips)), offset)
        assert float(found) == pytest.approx(expected, rel=1e-4)


def test_alpha_of_a_step_is_its_limit_and_flips_scale_it():
    steep, flips = torch.tensor([1e4, 1e4], dtype=torch.float64), torch.tensor([0.0, 0.25])
    for offset in (0.0, 1.0):
        found = alpha(steep, flips, offset)
        assert found[0] == pytest.approx(sharp_alpha(offset), rel=1e-5)
        assert found[1] == pytest.approx(sharp_alpha(offset) / 2, rel=1e-5)
    assert sharp_alpha(0) ** 2 == pytest.approx(2 / math.pi)


def test_information_is_that_of_the_joint_distribution():
    """I(y; t, s, nu) = H(y) + H(t, s, nu) - H(y, t, s, nu), summed in float64 over the whole table."""
    grid = Sigmoids(12, CPU)
    posterior = Posterior(grid, 2)
    rows = torch.tensor([0, 1])
    posterior.update(rows, torch.tensor([6, 3]), torch.tensor([True, False]))
    posterior.update(rows[1:], torch.tensor([9]), torch.tensor([True]))
    weight = posterior.log.flatten(1).softmax(dim=1).view_as(posterior.log)
    for place in range(13):
        found = posterior._information(weight, torch.tensor([place, place]))
        p = torch.stack([grid.p[place - t + 12] for t in range(13)])
        for row in range(2):
            joint = torch.stack([weight[row] * (1 - p), weight[row] * p])
            y = joint.sum(dim=(1, 2))
            expected = -sum(float(torch.xlogy(q, q).sum()) for q in (y, weight[row])) + float(
                torch.xlogy(joint, joint).sum()
            )
            assert float(found[row]) == pytest.approx(expected, abs=1e-9)


def test_the_posterior_is_bayes_rule_and_the_first_query_halves_the_path():
    grid = Sigmoids(20, CPU)
    posterior = Posterior(grid, 1)
    row = torch.tensor([0])
    assert posterior.most_informative(row).tolist() == [10]
    posterior.update(row, torch.tensor([10]), torch.tensor([True]))
    posterior.update(row, torch.tensor([5]), torch.tensor([False]))
    t, k = 7, 4
    expected = math.log(grid.p[10 - t + 20, k]) + math.log(1 - grid.p[5 - t + 20, k])
    assert float(posterior.log[0, t, k]) == pytest.approx(expected, abs=1e-12)


class Search:
    """Searches the paths from x0 to white for where p = 1/2; `found` is what it returned."""

    def __init__(self, cells=100):
        self.grid = Sigmoids(cells, CPU)

    def play(self, games):
        i = games.open
        white = torch.ones_like(games.x0)
        self.found = yield from sigmoid_search(
            games, i, lambda t, k: blend(games.x0[k], white[k], t), self.grid
        )


def turning(place, slope, flips, seed=0):
    """Class 1 with probability nu + (1 - 2 nu) sigmoid(4 s (x - t)) of the first pixel x."""

    def model(x, game, turn):
        p = flips + (1 - 2 * flips) * torch.sigmoid(4 * slope * (x.flatten(1)[:, 0].double() - place[game]))
        wrong = draws.uniform(seed, game, turn, (1,)).squeeze(1) < p
        return torch.stack([~wrong, wrong], dim=1).float()

    return model


@pytest.mark.parametrize(
    ("slope", "flips", "error"), [(1e6, 0.0, 0.01), (20.0, 0.0, 0.03), (40.0, 0.2, 0.03)]
)
def test_it_finds_where_the_answer_turns(referee, slope, flips, error):
    place = torch.linspace(0.15, 0.85, 24, dtype=torch.float64)
    search = Search()
    x0, label = torch.zeros(24, 1, 2, 2), torch.zeros(24, dtype=torch.int64)
    table = referee(turning(place, slope, flips), x0, label, THREAT).play(search)
    assert float((search.found.t - place).abs().median()) <= error
    assert (search.found.beyond >= place).double().mean() >= 0.8
    asked = [len(queries) for queries in table.asked]
    assert min(asked) >= STEADY and max(asked) <= STEPS
    if not flips:
        assert search.found.flips.median() == 0
        ratio = float(search.found.slope.median()) / min(slope, 100)
        assert 1 / 3 <= ratio <= 3


def test_a_path_that_stays_benign_has_no_place_to_stand(referee):
    search = Search(cells=20)
    far = torch.tensor([9.0, 0.5], dtype=torch.float64)
    referee(turning(far, 1e6, 0.0), torch.zeros(2, 1, 2, 2), torch.zeros(2).long(), THREAT).play(search)
    assert search.found.beyond.isinf().tolist() == [True, False]
    assert search.found.t[0] == 1


def test_a_search_goes_alike_alone_and_in_company(referee):
    place = torch.linspace(0.2, 0.8, 5, dtype=torch.float64)
    x0, label = torch.zeros(5, 1, 2, 2), torch.zeros(5, dtype=torch.int64)
    together = Search(cells=50)
    every = referee(turning(place, 15.0, 0.1), x0, label, THREAT).play(together)
    for game in (0, 3):
        alone = Search(cells=50)
        model = turning(place, 15.0, 0.1)

        def shifted(x, _, turn, game=game, model=model):
            return model(x, torch.full((len(x),), game), turn)

        one = referee(shifted, x0[:1], label[:1], THREAT).play(alone)
        assert torch.equal(one.queries(0), every.queries(game))
        assert alone.found.t[0] == together.found.t[game]
        assert alone.found.beyond[0] == together.found.beyond[game]
