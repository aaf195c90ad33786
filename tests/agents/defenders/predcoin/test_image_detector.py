from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from agents.defenders.predcoin.image_detector import STRIDES, ImageDetector, train_image_detector


def flat(n: int, seed: int) -> Tensor:
    """Images of one colour each."""
    return torch.rand(n, 3, 1, 1, generator=torch.Generator().manual_seed(seed)).repeat(1, 1, 7, 5)


def grained(n: int, seed: int) -> Tensor:
    """The same with a grain of .1."""
    grain = torch.randn(n, 3, 7, 5, generator=torch.Generator().manual_seed(seed + 99))
    return (flat(n, seed) + 0.1 * grain).clamp_(0, 1)


@pytest.fixture(scope="module")
def detector() -> ImageDetector:
    return train_image_detector(flat(24, 1), grained(24, 1), seed=0)


def test_it_tells_images_that_it_was_not_trained_on(detector: ImageDetector) -> None:
    assert (detector(grained(30, 2)) > 0.5).float().mean() > 0.9
    assert (detector(flat(30, 2)) > 0.5).float().mean() < 0.1


def test_y1_is_that_of_torchs_convolutions_in_float64(detector: ImageDetector) -> None:
    x = grained(20, 3)
    unit = x.double() - 0.5
    *convolutions, (weight, bias) = detector.layers
    for (w, b), stride in zip(convolutions, STRIDES, strict=True):
        unit = conv2d(unit, w.T.reshape(len(b), -1, 3, 3), b, stride=stride, padding=1).relu()
    y1 = (unit.mean(dim=(2, 3)) @ weight + bias).softmax(dim=1)[:, 0]
    assert torch.allclose(detector(x).double(), y1, atol=1e-3)


def test_a_row_is_the_same_bits_in_any_batch(detector: ImageDetector) -> None:
    x = torch.cat([flat(30, 4), grained(30, 4)])
    whole = detector(x)
    for size in (1, 7, 32):
        assert torch.equal(torch.cat([detector(piece) for piece in torch.split(x, size)]), whole)
    assert len(detector(x[:0])) == 0


def test_a_state_is_the_whole_of_it(detector: ImageDetector) -> None:
    assert torch.equal(ImageDetector.restored(detector.state())(grained(9, 5)), detector(grained(9, 5)))
