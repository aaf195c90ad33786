from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from arena.classifiers.networks import NETWORKS
from arena.classifiers.networks.cifar_resnet import CifarBlock, CifarResNet


@pytest.mark.parametrize(
    ("layers", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)]
)  # He et al. 2016, table 6
def test_cifar_resnet_has_the_published_keys_and_size(layers: int, millions: float) -> None:
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = {"conv1.weight", "linear.weight", "linear.bias"} | {f"bn1.{part}" for part in norm}
    for stage in (1, 2, 3):
        for block in range((layers - 2) // 6):
            for i in (1, 2):
                place = f"layer{stage}.{block}"
                keys |= {f"{place}.conv{i}.weight"} | {f"{place}.bn{i}.{part}" for part in norm}
    with torch.device("meta"):
        net = NETWORKS[f"resnet{layers}"].factory()
    assert net.state_dict().keys() == keys
    found = sum(isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) for layer in net.modules())
    assert found == layers
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions


def test_cifar_resnet_is_the_paper_s(reference: Callable[..., Any]) -> None:
    net = CifarResNet(2)
    by_hand = reference(net)
    x = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    out = by_hand.relu_bn(by_hand.conv(x, "conv1", 1, 1), "bn1")
    for stage in (1, 2, 3):
        for block in (0, 1):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inside = by_hand.relu_bn(by_hand.conv(out, f"{place}.conv1", stride, 1), f"{place}.bn1")
            inside = by_hand.bn(by_hand.conv(inside, f"{place}.conv2", 1, 1), f"{place}.bn2")
            if stride == 2:
                extra = out.shape[1] // 2
                out = F.pad(out[:, :, ::2, ::2].movedim(1, 3), (extra, extra)).movedim(3, 1)
            out = (inside + out).relu()
    assert out.shape == (2, 64, 8, 8)
    assert torch.allclose(net(x), by_hand.linear(out.mean((2, 3)), "linear"), rtol=1e-10)


def test_shortcut_subsamples_and_pads_with_zero_channels_on_both_sides() -> None:
    block = CifarBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(3, 2, 6, 6)
    out = block(x)
    assert out.shape == (3, 4, 3, 3)
    assert torch.equal(out[:, 1:3], x[:, :, [0, 2, 4]][..., [0, 2, 4]])
    assert not out[:, [0, 3]].any()
