import math

import pytest
import torch

from agents.attackers.parts.circles import Circles, inner, without


class Seat:
    """What a circle needs of its games."""

    def __init__(self, x0):
        self.x0 = x0


def test_the_circle_has_x0_and_x_on_it_and_the_segment_for_a_diameter(images):
    x0, x = images(3, (2, 4, 4), low=0.4, high=0.6), images(3, (2, 4, 4), low=0.4, high=0.6, seed=2)
    towards = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    circles, every = Circles.over(Seat(x0), x, towards, torch.arange(3)), torch.arange(3)
    length = (x - x0).double().flatten(1).norm(dim=1)
    assert torch.allclose(circles.diameter, length, rtol=1e-6)
    assert torch.allclose(circles.at(torch.zeros(3).double(), every), x, atol=1e-6)
    assert torch.allclose(circles.at(torch.full((3,), math.pi / 2).double(), every), x0, atol=1e-6)
    for angle in (-0.7, 0.3, 1.1):
        point = circles.at(torch.full((3,), angle, dtype=torch.float64), every).double()
        assert torch.allclose((point - x0).flatten(1).norm(dim=1), length * math.cos(angle), rtol=1e-5)
        # Thales: the angle over the diameter is a right one.
        assert inner(point - x0, point - x).abs().max() < 1e-5
        side = inner(point - x0, circles.across)
        assert (side * math.copysign(1, angle) > 0).all()


def test_where_there_is_no_direction_across_it_goes_straight(images):
    x0, x = images(1, (1, 3, 3)), images(1, (1, 3, 3), seed=2)
    circles = Circles.over(Seat(x0), x, 5 * (x - x0), torch.arange(1))
    point = circles.at(torch.tensor([math.pi / 3], dtype=torch.float64), torch.arange(1))
    assert torch.allclose(point, x0 + (x - x0) / 4, atol=1e-4)


def test_what_is_left_of_a_direction_is_orthogonal():
    v, unit = torch.randn(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    unit[:, 0, 0, 0] = 1
    assert inner(without(v, unit), unit).abs().max() == pytest.approx(0, abs=1e-7)
