from __future__ import annotations

import math

import pytest
import torch

from bench.linear import DISTANCE, Plane, closed_form, cosines, over_minimum


def test_images_lie_at_the_stated_distance_inside_the_box() -> None:
    plane = Plane(784, DISTANCE)
    x = plane.images(4, (1, 28, 28))
    assert plane.distance(x).tolist() == pytest.approx([DISTANCE] * 4, abs=1e-6)
    nearest = x.double() + (DISTANCE + 1e-5) * plane.w.view(1, 28, 28)
    assert 0 < nearest.min() < nearest.max() < 1
    assert plane(x).argmax(dim=1).tolist() == [0] * 4
    assert plane(nearest).argmax(dim=1).tolist() == [1] * 4


@pytest.mark.parametrize(("d", "n", "rate", "expected"), [(3072, 100, 0, 0.14), (3072, 800, 0.25, 0.2)])
def test_closed_form(d: int, n: int, rate: float, expected: float) -> None:
    assert closed_form(d, n, rate) == pytest.approx(expected, abs=0.01)
    assert closed_form(d, n, 0.5) == 0


@pytest.mark.parametrize("rate", [0.0, 0.25])
def test_the_estimate_reaches_its_closed_form(rate: float) -> None:
    found = cosines(784, 200, rate, 30)
    assert abs(found.mean() - closed_form(784, 200, rate)) < 5 * found.std() / math.sqrt(30)


def test_a_distance_is_never_below_the_minimum() -> None:
    ratios = over_minimum("hop-skip-jump", 784, 3, [300, 600])
    assert (ratios[600] >= 1).all()
    assert (ratios[600] <= ratios[300]).all()
    assert torch.tensor(ratios[600]).median() < 3
