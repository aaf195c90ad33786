from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from agents.defenders.predcoin import image_detector
from agents.defenders.predcoin.image_detector import STRIDES, ImageDetector, train_image_detector


def dark(n: int, seed: int) -> Tensor:
    return 0.4 * torch.rand(n, 3, 7, 5, generator=torch.Generator().manual_seed(seed))


def bright(n: int, seed: int) -> Tensor:
    return 0.6 + dark(n, seed)


@pytest.fixture(scope="module")
def detector() -> ImageDetector:
    return train_image_detector(dark(24, 1), bright(24, 1), seed=0)


def test_it_tells_images_that_it_was_not_trained_on(detector: ImageDetector) -> None:
    assert (detector(bright(30, 2)) > 0.5).float().mean() > 0.9
    assert (detector(dark(30, 2)) > 0.5).float().mean() < 0.1


def test_y1_is_that_of_torchs_convolutions_in_float64(detector: ImageDetector) -> None:
    x = bright(20, 3)
    unit = x.double() - 0.5
    *convolutions, (weight, bias) = detector.layers
    for (w, b), stride in zip(convolutions, STRIDES, strict=True):
        unit = conv2d(unit, w.T.reshape(len(b), -1, 3, 3), b, stride=stride, padding=1).relu()
    y1 = (unit.mean(dim=(2, 3)) @ weight + bias).softmax(dim=1)[:, 0]
    assert torch.allclose(detector(x).double(), y1, atol=1e-3)


def test_a_row_is_the_same_bits_in_any_batch(detector: ImageDetector) -> None:
    x = torch.cat([dark(30, 4), bright(30, 4)])
    whole = detector(x)
    for size in (1, 7, 32):
        assert torch.equal(torch.cat([detector(piece) for piece in torch.split(x, size)]), whole)
    assert len(detector(x[:0])) == 0


def test_pixels_far_from_the_unit_interval_are_the_same_bits_in_any_batch(detector: ImageDetector) -> None:
    """A defender outside may add noise of any size."""
    x = 1e9 * torch.randn(40, 3, 7, 5, generator=torch.Generator().manual_seed(6))
    assert torch.equal(torch.cat([detector(piece) for piece in torch.split(x, 3)]), detector(x))
    kept = image_detector._LARGEST_UNIT + 0.5
    assert torch.equal(detector(x), detector(x.clamp(1 - kept, kept)))


def test_examples_held_out_pass_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 of them at 224 x 224 would hold gigabytes at a time."""
    rows = []

    def noted(x: Tensor, *rest: object, **how: object) -> Tensor:
        if not torch.is_grad_enabled():
            rows.append(len(x))
        return conv2d(x, *rest, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(image_detector, "conv2d", noted)
    monkeypatch.setattr(image_detector, "_FLOATS", 3 * 16 * 7 * 5)
    train_image_detector(dark(24, 1), bright(24, 1), seed=0)
    assert max(rows) == 3


def test_a_state_is_the_whole_of_it(detector: ImageDetector) -> None:
    assert torch.equal(ImageDetector.restored(detector.state())(bright(9, 5)), detector(bright(9, 5)))
