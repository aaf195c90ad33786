import math

import pytest
import torch

from agents.attackers.decision.zo_sign_sgd import ZOSignSGD
from agents.attackers.parts.directions import Descent, Directions, normed
from arena.rules.threat import Threat

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_estimate_is_the_mean_of_the_signs_of_directions(referee, flat_boundary, procedure, norm):
    """From the labels that were answered and the draws of a seat with the same seed."""
    boundary = flat_boundary(SHAPE, 3)
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    theta, _ = normed(boundary.w.float() + noise, norm)
    slope = (boundary.w * theta.double()).flatten(1).sum(dim=1)
    g = boundary.least["l2"] * boundary.w.norm() / slope

    def steps(games):
        descent = Descent.start(games, Directions(theta.clone(), g), 0.2, 1e-2)
        return (yield from ZOSignSGD(probes=40).gradient(descent, games.open))

    run = procedure(steps)
    threat = Threat(norm=norm, epsilon=math.inf, budget=99, objective="minimum", feedback="label")
    make = lambda: referee(boundary.answer, boundary.images, torch.zeros(3).long(), threat)  # noqa: E731
    table, other = make().play(run), make().seat
    u = torch.cat([ZOSignSGD().directions(other, 8, torch.arange(3)) for _ in range(5)], dim=1)
    for game in range(3):
        s = torch.tensor([-1.0 if z[1] > z[0] else 1.0 for _, _, z in table.asked[game]])
        assert len(s) == 40 and s.min() < s.max()
        expected = (s.view(-1, 1, 1, 1) * u[game].sign()).mean(dim=0)
        assert torch.allclose(run.result[game], expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_without_the_oracle_the_signs_come_from_searches(referee, flat_boundary, procedure, norm):
    """Against g = margin / <w, theta> in float64, for the draws of a seat with the same seed."""
    boundary, count, beta = flat_boundary(SHAPE, 3), 6, 1e-2
    noise = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    theta, _ = normed(boundary.w.float() + noise, norm)

    def g_of(directions):
        slope = (boundary.w * directions.double()).flatten(-3).sum(dim=-1)
        return boundary.least["l2"].view(-1, *[1] * (slope.dim() - 1)) * boundary.w.norm() / slope

    def steps(games):
        descent = Descent.start(games, Directions(theta.clone(), g_of(theta)), 0.2, beta)
        return (yield from ZOSignSGD(probes=count, oracle=False).gradient(descent, games.open))

    run = procedure(steps)
    threat = Threat(norm=norm, epsilon=math.inf, budget=5000, objective="minimum", feedback="label")
    make = lambda: referee(boundary.answer, boundary.images, torch.zeros(3).long(), threat)  # noqa: E731
    table, other = make().play(run), make().seat
    u, _ = normed(other.normal((count, *SHAPE)), norm)
    turned, _ = normed(theta.unsqueeze(1).double() + beta * u, norm)
    s = (g_of(turned) - g_of(theta).unsqueeze(1)).sign()
    assert s.min() < s.max()
    expected = (s[..., None, None, None] * u.sign()).mean(dim=1).float()
    assert torch.allclose(run.result, expected, atol=1e-6)
    assert all(len(table.asked[game]) >= 5 * count for game in range(3))


def test_probes_are_those_of_sign_opt_or_of_opt(referee, flat_boundary):
    boundary = flat_boundary(SHAPE, 1)
    for norm, goal, expected in (("l2", "untargeted", 10), ("linf", "targeted", 20)):
        threat = Threat(norm=norm, goal=goal, epsilon=math.inf, budget=9, objective="minimum")
        seat = referee(boundary.answer, boundary.images, torch.zeros(1).long(), threat).seat
        assert ZOSignSGD(oracle=False).count(seat) == expected
        assert ZOSignSGD().count(seat) == 200
        assert ZOSignSGD(probes=7, oracle=False).count(seat) == ZOSignSGD(probes=7).count(seat) == 7


@pytest.mark.slow
def test_the_oracle_is_worth_its_name(flat_boundary):
    """Sign-OPT's Figure 5b: without it the same queries bring the distance down less."""
    boundary = flat_boundary((1, 12, 12), 5)
    with_it, _ = boundary.ratios(ZOSignSGD(init_draws=20), "l2", 1800)
    without, result = boundary.ratios(ZOSignSGD(init_draws=20, oracle=False), "l2", 1800, (600,))
    assert with_it[0] < 0.8 * without[1] and without[1] < without[0]
    assert result.base.all()


def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary):
    found, result = flat_boundary((1, 12, 12), 5).ratios(ZOSignSGD(init_draws=20), "l2", 1800, (900,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, (2.0, 1.3), strict=True)), found
    assert result.base.all()
