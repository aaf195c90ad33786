from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from arena.classifiers.networks import NETWORKS
from arena.classifiers.networks.wide_resnet import WideResNet


@pytest.mark.parametrize("widen", [1, 2])
def test_batch_norm_and_relu_stand_before_the_convolutions(widen: int, reference: Callable[..., Any]) -> None:
    net = WideResNet(depth=16, widen=widen, dropout=0.3)
    by_hand = reference(net)
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    out = by_hand.conv(x, "conv1", 1, 1)
    for stage in (1, 2, 3):
        for block in (0, 1):
            place, stride = f"block{stage}.layer.{block}", 2 if stage > 1 and block == 0 else 1
            active = by_hand.relu_bn(out, f"{place}.bn1")
            inside = by_hand.relu_bn(by_hand.conv(active, f"{place}.conv1", stride, 1), f"{place}.bn2")
            inside = by_hand.conv(inside, f"{place}.conv2", 1, 1)
            same = inside.shape == out.shape
            out = inside + (out if same else by_hand.conv(active, f"{place}.convShortcut", stride))
    out = by_hand.relu_bn(out, "bn1").mean((2, 3))
    assert out.shape == (2, 64 * widen)
    assert torch.allclose(net(x), by_hand.linear(out, "fc"), rtol=1e-10)


def weights(blocks: int, widen: int) -> int:
    widths, total = (16, 16 * widen, 32 * widen, 64 * widen), 3 * 16 * 9
    for inner, outer in itertools.pairwise(widths):
        total += 9 * (inner * outer + (2 * blocks - 1) * outer**2) + 2 * (inner + (2 * blocks - 1) * outer)
        total += inner * outer if inner != outer else 0
    return total + 2 * widths[-1] + widths[-1] * 10 + 10


@pytest.mark.parametrize(
    ("depth", "widen", "millions"), [(28, 10, 36.5), (16, 8, 11.0), (40, 4, 8.9), (22, 8, 17.2)]
)  # Zagoruyko & Komodakis 2016, table 4
def test_wide_resnet_has_its_size(depth: int, widen: int, millions: float) -> None:
    with torch.device("meta"):
        net = NETWORKS["wrn-28-10"].factory(depth=depth, widen=widen)
    found = sum(p.numel() for p in net.parameters())
    assert found == weights((depth - 4) // 6, widen)
    assert round(found / 1e6, 1) == pytest.approx(millions, abs=0.051)


def test_the_table_s_is_28_layers_deep_and_10_wide() -> None:
    with torch.device("meta"):
        net: Any = NETWORKS["wrn-28-10"].factory()
    assert sum(p.numel() for p in net.parameters()) == 36_479_194
    first, last = net.block1.layer[0], net.block3.layer[3]
    assert (first.conv1.out_channels, last.conv2.out_channels, len(net.block2.layer)) == (160, 640, 4)


def test_weights_with_the_first_stage_twice_are_loaded_and_answer_the_same() -> None:
    net, twice = WideResNet(depth=10, widen=1), WideResNet(depth=10, widen=1, sub_block1=True)
    extra = twice.state_dict().keys() - net.state_dict().keys()
    assert extra == {f"sub_{key}" for key in net.state_dict() if key.startswith("block1.")}
    twice.load_state_dict({**twice.state_dict(), **net.state_dict()})
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(net.eval()(x), twice.eval()(x))


def test_dropout_acts_in_training_alone() -> None:
    x = torch.rand(4, 3, 8, 8)
    net = WideResNet(depth=10, widen=1, dropout=0.5)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
    none = WideResNet(depth=10, widen=1)
    assert torch.equal(none(x), none(x))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"depth": 27}, r"depth must be 6\*n \+ 4 \(10, 16, 22, 28, ...\), not 27"),
        ({"depth": 4}, r"depth must be 6\*n \+ 4 \(10, 16, 22, 28, ...\), not 4"),
        ({"widen": 0}, "widen must be at least 1, not 0"),
    ],
)
def test_what_is_no_wide_resnet_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WideResNet(**params)
