from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from arena.classifiers.networks import NETWORKS
from arena.classifiers.networks.resnet import Bottleneck

BLOCKS, WIDTHS = (3, 4, 6, 3), (64, 128, 256, 512)
LAYOUTS = {"resnet50": ("downsample", "fc", 7, 1000), "cifar-resnet50": ("shortcut", "linear", 3, 10)}


@pytest.mark.parametrize(("name", "size"), [("resnet50", 25_557_032), ("cifar-resnet50", 23_520_842)])
def test_resnet50_has_its_keys_and_size(name: str, size: int) -> None:
    shortcut, head, stem, classes = LAYOUTS[name]
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    keys = {"conv1.weight", f"{head}.weight", f"{head}.bias"} | {f"bn1.{part}" for part in norm}
    weights, inner = 3 * 64 * stem**2 + 2 * 64, 64
    for stage, (blocks, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True), 1):
        for block in range(blocks):
            place = f"layer{stage}.{block}"
            keys |= {f"{place}.conv{i}.weight" for i in (1, 2, 3)}
            keys |= {f"{place}.bn{i}.{part}" for i in (1, 2, 3) for part in norm}
            weights += inner * width + 9 * width**2 + 4 * width**2 + 2 * (2 * width + 4 * width)
            if block == 0:
                keys |= {f"{place}.{shortcut}.0.weight"} | {f"{place}.{shortcut}.1.{p}" for p in norm}
                weights += inner * 4 * width + 2 * 4 * width
            inner = 4 * width
    with torch.device("meta"):
        net = NETWORKS[name].factory()
    assert net.state_dict().keys() == keys
    assert sum(p.numel() for p in net.parameters()) == weights + 2048 * classes + classes == size


@pytest.mark.parametrize("name", LAYOUTS)
def test_resnet50_is_the_paper_s_with_strides_in_the_3x3(name: str, reference: Callable[..., Any]) -> None:
    shortcut, head, stem, _ = LAYOUTS[name]
    net = NETWORKS[name].factory()
    by_hand = reference(net)
    x = torch.rand(1, 3, 32, 32, dtype=torch.float64)
    out = by_hand.relu_bn(by_hand.conv(x, "conv1", 1 + (stem == 7), stem // 2), "bn1")
    out = F.max_pool2d(out, 3, 2, 1) if stem == 7 else out
    for stage, blocks in enumerate(BLOCKS, 1):
        for block in range(blocks):
            place, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            inside = by_hand.relu_bn(by_hand.conv(out, f"{place}.conv1"), f"{place}.bn1")
            inside = by_hand.relu_bn(by_hand.conv(inside, f"{place}.conv2", stride, 1), f"{place}.bn2")
            inside = by_hand.bn(by_hand.conv(inside, f"{place}.conv3"), f"{place}.bn3")
            if block == 0:
                out = by_hand.conv(out, f"{place}.{shortcut}.0", stride)
                out = by_hand.bn(out, f"{place}.{shortcut}.1")
            out = (inside + out).relu()
    assert torch.allclose(net(x), by_hand.linear(out.mean((2, 3)), head), rtol=1e-8)


def test_a_bottleneck_of_one_shape_has_no_projection() -> None:
    block = Bottleneck(8, 2, 1, "downsample").eval()
    assert not any(key.startswith("downsample") for key in block.state_dict())
    torch.nn.init.zeros_(block.bn3.weight)
    x = torch.rand(2, 8, 4, 4)
    assert torch.equal(block(x), x)
