from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from arena.classifiers.networks import NETWORKS
from arena.classifiers.networks.vgg import VGG16

WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
POOLED = (2, 4, 7, 10, 13)
"""After so many convolutions there is a pool (configuration D)."""


def test_layers_are_those_of_configuration_d(reference: Callable[..., Any]) -> None:
    net = NETWORKS["vgg16"].factory()
    by_hand = reference(net)
    x = out = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    place = 0
    for number in range(1, 14):
        out = by_hand.conv(out, f"features.{place}", 1, 1)
        out = by_hand.relu_bn(out, f"features.{place + 1}")
        place += 3
        if number in POOLED:
            out = F.max_pool2d(out, 2)
            place += 1
    assert out.shape == (2, 512, 1, 1)
    assert torch.allclose(net(x), by_hand.linear(out.flatten(1), "classifier"), rtol=1e-10)


def test_vgg16_has_its_size() -> None:
    with torch.device("meta"):
        net = VGG16()
    weights = sum(9 * inner * outer + 3 * outer for inner, outer in itertools.pairwise(WIDTHS)) + 5130
    assert sum(p.numel() for p in net.parameters()) == weights == 14_728_266
