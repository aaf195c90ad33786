from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch

from arena.classifiers.networks.preact_resnet import PreActResNet18

WIDTHS = (64, 64, 128, 256, 512)


def test_batch_norm_and_relu_stand_before_the_convolutions(reference: Callable[..., Any]) -> None:
    net = PreActResNet18()
    by_hand = reference(net)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    out = by_hand.conv(x, "conv1", 1, 1)
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            active = by_hand.relu_bn(out, f"{place}.bn1")
            inside = by_hand.relu_bn(by_hand.conv(active, f"{place}.conv1", stride, 1), f"{place}.bn2")
            around = by_hand.conv(active, f"{place}.shortcut.0", 2) if stride == 2 else out
            out = by_hand.conv(inside, f"{place}.conv2", 1, 1) + around
    out = by_hand.relu_bn(out, "bn").mean((2, 3))
    assert torch.allclose(net(x), by_hand.linear(out, "linear"), rtol=1e-10)


def test_preact_resnet_has_its_size_and_keys() -> None:
    with torch.device("meta"):
        net = PreActResNet18()
    weights = 3 * 64 * 9
    for inner, outer in itertools.pairwise(WIDTHS):
        weights += 9 * (inner * outer + 3 * outer**2) + 2 * (inner + 3 * outer)
        weights += inner * outer if inner != outer else 0
    weights += 2 * 512 + 512 * 10 + 10
    assert sum(p.numel() for p in net.parameters()) == weights == 11_172_170
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = {"conv1.weight", "linear.weight", "linear.bias"} | {f"bn.{part}" for part in norm}
    for stage in (1, 2, 3, 4):
        for place in (f"layer{stage}.0", f"layer{stage}.1"):
            keys |= {f"{place}.conv1.weight", f"{place}.conv2.weight"}
            keys |= {f"{place}.bn{i}.{part}" for i in (1, 2) for part in norm}
        keys |= {f"layer{stage}.0.shortcut.0.weight"} if stage > 1 else set()
    assert net.state_dict().keys() == keys
