from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from arena.classifiers.networks import NETWORKS

SIZES = {"mnist": (1, 32, 200, 4 * 4), "cifar10": (3, 64, 256, 5 * 5)}


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("data", SIZES)
def test_layers_are_those_of_table_1(data: str, batch_norm: bool, reference: Callable[..., Any]) -> None:
    channels, width, dense, pixels = SIZES[data]
    known = NETWORKS[f"cw-{data}" + "-bn" * batch_norm]
    net = known.factory()
    by_hand = reference(net)
    x = out = torch.rand(2, *known.shape, dtype=torch.float64)
    for place in (0, 3, 7, 10) if batch_norm else (0, 2, 5, 7):
        out = by_hand.conv(out, f"features.{place}")
        out = by_hand.relu_bn(out, f"features.{place + 1}") if batch_norm else out.relu()
        if place in ((3, 10) if batch_norm else (2, 7)):
            out = F.max_pool2d(out, 2)
    out = by_hand.linear(out.flatten(1), "fc1").relu()
    out = by_hand.linear(out, "fc2").relu()
    assert torch.allclose(net(x), by_hand.linear(out, "fc3"), rtol=1e-10)
    weights = 9 * (channels * width + width**2 + 2 * width**2 + 4 * width**2) + 6 * width
    weights += 2 * width * pixels * dense + dense + dense**2 + dense + 10 * dense + 10
    assert sum(p.numel() for p in net.parameters()) == weights + 2 * 6 * width * batch_norm


def test_dropout_stands_where_each_author_put_it() -> None:
    for batch_norm, expected in ((False, [0.25, 0.0]), (True, [0.25, 0.25])):
        net = NETWORKS["cw-mnist" + "-bn" * batch_norm].factory(dropout=0.25)
        assert [layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)] == expected
        x = torch.rand(2, 1, 28, 28)
        assert not torch.equal(net(x), net(x))
        assert torch.equal(net.eval()(x), net(x))


def test_input_ranges_are_the_authors() -> None:
    """[-0.5,0.5] (Carlini & Wagner) and [0,1] (Sign-OPT)."""
    for data in SIZES:
        assert (NETWORKS[f"cw-{data}"].mean, NETWORKS[f"cw-{data}"].std) == ((0.5,), (1.0,))
        assert (NETWORKS[f"cw-{data}-bn"].mean, NETWORKS[f"cw-{data}-bn"].std) == ((0.0,), (1.0,))


def test_published_weights_classify_as_published(mnist: Any, right: Callable[..., int]) -> None:
    """99.49 % of all 10,000 test images; no margin of these 300 is below 2."""
    assert right("cw-mnist-bn", "mnist_cw_bn", mnist) == 300
