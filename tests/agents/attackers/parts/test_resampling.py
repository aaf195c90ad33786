import math

import pytest
import torch

from agents.attackers.parts.estimates import BLOCK, estimate, unit
from agents.attackers.parts.resampling import resampled_estimate, resampled_gradient
from arena.rules.threat import Threat

SHAPE, COUNT = (1, 6, 6), 20
FAR = Threat(norm="l2", epsilon=math.inf, budget=10_000, objective="minimum")


@pytest.fixture
def estimated(referee, linear, procedure):
    """estimated(how, rounds, refuse): the sums of COUNT probes at the centre of 3 games, and the table."""

    def play(how, refuse=lambda game, turn: False, threat=FAR):
        centre = torch.full((3, *SHAPE), 0.5)

        def steps(games):
            i = games.open

            def probes(rows):
                u = unit(games.normal((BLOCK, *SHAPE), i[rows]))
                return 0.5 + 0.1 * u, u

            return (yield from how(games, i, COUNT, probes))

        table = referee(linear(SHAPE), centre, torch.zeros(3).long(), threat, refuse=refuse)
        run = procedure(steps)
        table.play(run)
        return run.result, table

    return play


def resampled(rounds):
    return lambda games, i, count, probes: resampled_estimate(games, i, count, probes, rounds)


def test_without_refusals_it_is_the_estimate(estimated):
    ours, plain = estimated(resampled(5))[0], estimated(estimate)[0]
    assert torch.allclose(ours.phi_u, plain.phi_u, atol=1e-6) and torch.equal(ours.count, plain.count)


def test_what_is_refused_is_drawn_anew(estimated):
    """Every third query of a game: 20 asked, 6 refused; 6, 2; 2, 1 (the 27th); 1, 0."""
    sums, table = estimated(resampled(9), lambda game, turn: turn % 3 == 0)
    assert sums.count.tolist() == [COUNT] * 3 and [len(a) for a in table.asked] == [29] * 3
    answered = [x for n, (x, _, _) in enumerate(table.asked[0], 1) if n % 3]
    u = (torch.stack(answered) - 0.5) / 0.1
    assert torch.allclose(sums.u[0], u.sum(dim=0), atol=1e-5)


def test_an_estimate_of_a_part_is_taken(estimated):
    sums, table = estimated(resampled(2), lambda game, turn: turn > 5 or game == 1)
    assert sums.count.tolist() == [5, 0, 5] and [len(a) for a in table.asked] == [35, 40, 35]
    assert sums.normal()[1].abs().max() == 0


@pytest.mark.parametrize("refuse", [lambda game, turn: False, lambda game, turn: turn % 4 == 1])
def test_a_linear_margin_has_its_gradient(referee, linear, procedure, refuse):
    """The mean of (w u) u is w in the mean: with 400 directions of 36 values the cosine is about .96."""
    model, found = linear(SHAPE), []

    def steps(games):
        i = games.open
        g = yield from resampled_gradient(
            games,
            games.x0,
            i,
            400,
            lambda rows: games.normal((BLOCK, *SHAPE), i[rows]),
            torch.full((len(i),), 0.01).double(),
            "margin",
            6,
        )
        found.append(g)

    table = referee(model, torch.full((2, *SHAPE), 0.5), torch.zeros(2).long(), FAR, refuse=refuse)
    table.play(procedure(steps))
    slope = (model.weight[0] - model.weight[1]).flatten()
    for g in found[0].flatten(1):
        assert torch.cosine_similarity(g, slope, dim=0) > 0.93
        assert 0.8 < g @ slope / (slope @ slope) < 1.2
