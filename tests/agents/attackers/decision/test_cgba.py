import math

import pytest
import torch

from agents.attackers.decision.cgba import CGBA
from agents.attackers.parts.searches import gap_search
from arena.rules.threat import Threat

SHAPE = (1, 16, 16)


def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary):
    found, result = flat_boundary(SHAPE, 6, low=5).ratios(CGBA(), budget=800, at=(250,))
    assert 1 - 1e-5 <= found[1] < 1.2 and found[0] < 1.75, found
    assert result.base.all()


def test_targeted_it_goes_straight_after_the_circle(flat_boundary):
    plane = flat_boundary(SHAPE, 6, low=5)
    own = torch.rand(20, 1, 16, 16, generator=torch.Generator().manual_seed(5))
    side = plane.w.float().sign() * torch.tensor([1.0, -1.0]).repeat(10).view(20, 1, 1, 1)
    own = (0.5 + 0.2 * side + 0.5 * (own - 0.5)).clamp(0, 1)
    labels = (plane.side(own) > plane.b).long()
    assert labels.sum() >= 5
    rules = {"goal": "targeted", "resources": {"starts": True}}
    found, result = plane.ratios(CGBA(), budget=800, at=(250,), rules=rules, resources=(own, labels))
    assert 1 - 1e-5 <= found[1] < 1.3 and found[1] < found[0], found
    assert result.base.all()


def test_probes_are_as_many_as_n0_sqrt_t_and_of_low_frequencies(referee, flat_boundary):
    plane = flat_boundary(SHAPE, 1, low=5)
    threat = Threat(norm="l2", epsilon=math.inf, budget=400, objective="minimum", feedback="label")
    table = referee(plane.answer, plane.images, torch.zeros(1).long(), threat)
    table.play(CGBA(sub_dim=4, sigma=1e-3))
    counts, burst, low = [], [], 0
    for x, purpose, _ in [*table.asked[0], (None, "end", None)]:
        if purpose == "gradient":
            burst.append(x)
        elif burst:
            counts.append(len(burst))
            probes = torch.stack(burst).double()
            if probes.min() > 0 and probes.max() < 1:
                low += 1
                rank = torch.linalg.svdvals((probes - probes[0])[1:, 0])
                assert (rank[:, 4:] < 1e-5).all() and (rank[:, 3] > 1e-5).double().mean() > 0.8
            burst = []
    assert counts[:4] == [30, 42, 51, 60]
    assert low


def test_the_circle_is_left_at_the_boundary(referee, flat_boundary):
    """On a plane, with the exact normal, one search leads to the nearest point of all."""
    plane = flat_boundary(SHAPE, 2, low=5)
    normal = plane.w / plane.w.norm()

    class Once:
        def play(self, games):
            attack, i = CGBA(tolerance=1e-6), games.open
            far = games.x0 + 0.8 * normal.float() + torch.tensor([0.05, -0.05]).view(2, 1, 1, 1)
            x = yield from gap_search(games, far.clamp(0, 1), i, attack.tolerance)
            self.before = games.distance(x)
            self.found = yield from attack.bend_near(games, x, normal.float().expand_as(x), i)

    threat = Threat(norm="l2", epsilon=math.inf, budget=200, objective="minimum", feedback="label")
    once = Once()
    referee(plane.answer, plane.images, torch.zeros(2).long(), threat).play(once)
    distance = (once.found - plane.images).double().flatten(1).norm(dim=1)
    assert torch.allclose(distance, plane.least["l2"], rtol=1e-4)
    assert (once.before > distance * 1.05).all()
    assert (plane.side(once.found) - plane.b).abs().max() < 1e-4 * plane.w.norm()


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"sub_dim": -1}, "sub_dim must be 0 .by the size of the images. or above; found -1"),
        ({"sigma": 0.0}, "sigma must be finite and above 0; found 0.0"),
        ({"initial_probes": 0}, "initial_probes must be at least 1; found 0"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        CGBA(**option)
