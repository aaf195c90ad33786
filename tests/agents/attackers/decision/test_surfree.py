import math

import pytest
import torch

from agents.attackers.decision.surfree import RandomDirections, SurFree, lowest
from agents.attackers.parts.dct import to_frequencies
from arena.rules.threat import Threat

SHAPE = (1, 12, 12)


def test_on_a_plane_the_distance_falls_towards_the_least(flat_boundary):
    (early, late), result = flat_boundary(SHAPE, 4).ratios(SurFree(low=1.0), budget=500, at=(200,))
    assert 1 - 1e-5 <= late < 1.7 and early > late + 0.2, (early, late)
    assert result.base.all()


def test_directions_are_orthogonal_and_of_low_frequencies(referee, flat_boundary):
    plane = flat_boundary(SHAPE, 4)
    threat = Threat(norm="l2", epsilon=math.inf, budget=9, objective="minimum", feedback="label")
    seat = referee(plane.answer, plane.images, torch.zeros(4).long(), threat).seat
    x, i = torch.rand(4, *SHAPE), torch.arange(4)
    directions = RandomDirections(seat, 0.5, 5)
    drawn = [directions.draw(x, i) for _ in range(9)]
    for k, v in enumerate(drawn):
        assert torch.allclose(v.flatten(1).norm(dim=1), torch.ones(4), atol=1e-5)
        for before in [x - seat.x0, *drawn[max(0, k - 5) : k]]:
            assert (v * before).flatten(1).sum(dim=1).abs().max() < 1e-5
    spectrum = to_frequencies(RandomDirections(seat, 0.5, 0).draw(seat.x0, i), 12, 12)
    outside = lowest(12, 12, 0.5, x.device) == 0
    assert outside.sum() == 72 and spectrum[:, :, outside].abs().max() < 1e-5
    assert spectrum.abs().max() > 1e-2


def test_angles_are_tried_on_both_sides_from_the_largest(referee):
    """Where nothing is adversarial but the start, T angles a side are asked, and all shrink."""
    x0 = torch.full((1, 1, 8, 8), 0.3)
    x0[0, 0, 0, 0] = 0.6

    def model(x, game, turn):
        wrong = (x - x0).flatten(1).norm(dim=1) > 1.0
        return torch.stack([~wrong, wrong], dim=1).float()

    threat = Threat(norm="l2", epsilon=math.inf, budget=60, objective="minimum", feedback="label")
    table = referee(model, x0, torch.zeros(1).long(), threat).play(SurFree(gamma=0.001))
    start = table.purposes(0).index("candidate")
    far = [float((x - x0[0]).norm()) for x, _, _ in table.asked[0][start:]]
    nearest = float((table.asked[0][start - 1][0] - x0[0]).norm())
    angles = [math.degrees(math.acos(min(1.0, d / max(nearest, 1.0)))) for d in far[:12]]
    assert angles[0] == pytest.approx(angles[1], abs=0.7) and angles[0] > 25
    assert angles[2] == pytest.approx(angles[0] * 2 / 3, abs=3.0)
    assert angles[6] == pytest.approx(angles[0] * 0.98, abs=0.7)


def test_the_lowest_frequencies_are_those_of_the_least_sum():
    mask = lowest(4, 4, 0.4, torch.device("cpu"))
    assert mask.sum() == 7
    assert mask[0, 0] == mask[0, 2] == mask[2, 0] == 1 and mask[3, 3] == mask[2, 2] == 0


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ({"rho": 1.1}, "rho must be above 0 and at most 1; found 1.1"),
        ({"theta_max": 0.0}, "theta_max must be above 0 and at most 90; found 0.0"),
        ({"trials": 0}, "trials must be at least 1; found 0"),
        ({"n_ortho": -1}, "n_ortho must not be negative; found -1"),
    ],
)
def test_parameters_out_of_range_are_told(option, sentence):
    with pytest.raises(ValueError, match=sentence):
        SurFree(**option)
