from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from arena.classifiers.networks.alpha_beta_crown import CnnA, ResNet4B


def test_cnn_a_is_what_it_says(reference: Callable[..., Any]) -> None:
    net = CnnA()
    by_hand = reference(net)
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    out = by_hand.conv(x, "0", 2, 1).relu()
    out = by_hand.conv(out, "2", 2, 1).relu().flatten(1)
    out = by_hand.linear(by_hand.linear(out, "5").relu(), "7")
    assert torch.allclose(net(x), out, rtol=1e-10)
    weights = (16 * 16 + 16) + (16 * 32 * 16 + 32) + (32 * 49 * 100 + 100) + (100 * 10 + 10)
    assert sum(p.numel() for p in net.parameters()) == weights == 166_406


def test_resnet_4b_is_what_it_says(reference: Callable[..., Any]) -> None:
    net = ResNet4B()
    by_hand = reference(net)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    out = by_hand.conv(x, "conv1", 2, 1).relu()
    for block, stride in (("layer1.0", 2), ("layer1.1", 1), ("layer2.0", 2), ("layer2.1", 1)):
        inside = by_hand.conv(by_hand.conv(out, f"{block}.conv1", stride, 1).relu(), f"{block}.conv2", 1, 1)
        around = by_hand.conv(out, f"{block}.shortcut.0", 2) if stride == 2 else out
        out = (inside + around).relu()
    out = by_hand.linear(by_hand.linear(out.flatten(1), "linear1").relu(), "linear2")
    assert torch.allclose(net(x), out, rtol=1e-10)
    convolutions = 9 * (3 * 16 + 16 * 32 + 7 * 32 * 32) + 16 + 8 * 32
    shortcuts = 16 * 32 + 32 + 32 * 32 + 32
    dense = 512 * 100 + 100 + 100 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == convolutions + shortcuts + dense


def test_published_cnn_a_classifies_as_published(mnist: Any, right: Callable[..., int]) -> None:
    """96.33 % of all 10,000 test images; no margin of these 300 is below 0.02."""
    assert right("cnn-a", "mnist_cnn_a_adv", mnist) == 293


def test_published_resnet_4b_classifies_as_published(cifar10: Any, right: Callable[..., int]) -> None:
    """77.20 % of all 10,000 test images; no margin of these 300 is below 0.005."""
    assert right("resnet4b", "cifar10_resnet4b_adv2", cifar10) == 234
