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


def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary):
    found, result = flat_boundary((1, 12, 12), 5).ratios(ZOSignSGD(init_draws=20), "l2", 1800, (900,))
    assert all(1 - 1e-6 <= ratio < bound for ratio, bound in zip(found, (2.0, 1.3), strict=True)), found
    assert result.base.all()
