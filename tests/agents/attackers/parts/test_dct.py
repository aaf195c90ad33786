"""The DCT-II of images: against its definition, as an isometry, and the same in any batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.attackers.parts.dct import (
    cosines,
    from_frequencies,
    low_frequencies,
    low_noise,
    to_frequencies,
)
from arena.rules.threat import Threat

CPU = torch.device("cpu")


def definition(x: Tensor) -> Tensor:
    """The orthonormal 2-D DCT-II of a plane [H,W], term by term in float64."""
    height, width = x.shape
    out = torch.zeros(height, width, dtype=torch.float64)
    for u in range(height):
        for v in range(width):
            scale = math.sqrt((1 if u == 0 else 2) / height) * math.sqrt((1 if v == 0 else 2) / width)
            out[u, v] = scale * sum(
                float(x[r, c])
                * math.cos(math.pi * (2 * r + 1) * u / (2 * height))
                * math.cos(math.pi * (2 * c + 1) * v / (2 * width))
                for r in range(height)
                for c in range(width)
            )
    return out


def test_coefficients_follow_the_definition() -> None:
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    expected = definition(x)
    torch.testing.assert_close(to_frequencies(x, 5, 7).double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(to_frequencies(x, 2, 3).double(), expected[:2, :3], atol=1e-5, rtol=1e-5)


def test_images_of_coefficients_keep_lengths_and_give_them_back() -> None:
    z = torch.randn(3, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    x = from_frequencies(z, 9, 11)
    assert x.shape == (3, 2, 9, 11)
    torch.testing.assert_close(x.square().sum(dim=(-2, -1)), z.square().sum(dim=(-2, -1)))
    torch.testing.assert_close(to_frequencies(x, 4, 6), z, atol=1e-5, rtol=1e-5)
    higher = to_frequencies(x, 9, 11)
    higher[..., :4, :6] = 0
    assert float(higher.abs().max()) < 1e-5


def test_the_lowest_frequency_is_the_mean() -> None:
    x = from_frequencies(torch.tensor([[12.0]]), 4, 9)
    torch.testing.assert_close(x, torch.full((4, 9), 12.0 / 6))


def test_more_frequencies_than_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"8 pixels have from 1 to 8 frequencies; found 9"):
        cosines(9, 8, CPU)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(8, 8, 8), (28, 28, 10), (32, 32, 10), (64, 64, 21), (224, 224, 75), (32, 64, 10)],
)
def test_low_frequencies_scale_with_the_size(height: int, width: int, expected: int) -> None:
    assert low_frequencies(height, width) == expected


def test_images_are_the_same_in_any_batch() -> None:
    z = torch.randn(37, 8, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    whole = from_frequencies(z, 29, 31)
    for rows in (slice(0, 1), slice(5, 12), slice(36, 37)):
        assert torch.equal(from_frequencies(z[rows], 29, 31), whole[rows])
    assert torch.equal(from_frequencies(z[3, :2], 29, 31), whole[3, :2])


def test_noise_is_white_in_the_low_frequencies(referee: Any, linear: Callable[..., Any]) -> None:
    shape = (3, 12, 12)
    table = referee(
        linear(shape),
        torch.zeros(4, *shape),
        torch.zeros(4, dtype=torch.int64),
        Threat(norm="l2", epsilon=1.0, budget=10, feedback="label"),
    )
    noise = low_noise(table.seat, torch.tensor([0, 2, 3]), (500,), 5)
    assert noise.shape == (3, 500, *shape)
    z = to_frequencies(noise, 12, 12)
    inside, outside = z[..., :5, :5], z.clone()
    outside[..., :5, :5] = 0
    assert float(outside.abs().max()) < 1e-4
    flat = inside.flatten(2).flatten(0, 1)  # [1500,75]
    covariance = flat.T @ flat / len(flat)
    assert float((covariance - torch.eye(75)).abs().max()) < 6 / math.sqrt(len(flat))
