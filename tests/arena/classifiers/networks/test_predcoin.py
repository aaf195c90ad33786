"""Against PredCoin's tables 10 to 12, written out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from arena.classifiers.networks.predcoin import PredCoinGtsrb, PredCoinMnist

CONV, POOL = "conv", "pool"
TABLE_10 = [(CONV, 1, 32), (CONV, 32, 32), POOL, (CONV, 32, 32), POOL]
TABLE_11 = [(CONV, 3, 32), (CONV, 32, 32), POOL, (CONV, 32, 128), (CONV, 128, 64), (CONV, 64, 64), POOL]


@pytest.mark.parametrize(
    ("network", "shape", "table", "dense"),
    [
        (PredCoinMnist, (1, 28, 28), TABLE_10, (32 * 5 * 5, 256, 256, 10)),
        (PredCoinGtsrb, (3, 32, 32), TABLE_11, (64 * 4 * 4, 256, 256, 128, 43)),
    ],
)
def test_layers_are_those_of_the_table(
    network: Any, shape: tuple[int, int, int], table: list[Any], dense: tuple[int, ...], reference: Any
) -> None:
    net = network()
    by_hand = reference(net)
    x = out = torch.rand(2, *shape, dtype=torch.float64)
    place = weights = 0
    for row in table:
        if row == POOL:
            out = F.max_pool2d(out, 2)
            place += 1
        else:
            _, inner, outer = row
            out = by_hand.conv(out, f"features.{place}").relu()
            weights += inner * outer * 9 + outer
            place += 2
    out = out.flatten(1)
    for layer, (inner, outer) in enumerate(itertools.pairwise(dense)):
        out = by_hand.linear(out, f"head.{3 * layer}")
        out = out if layer == len(dense) - 2 else out.relu()
        weights += inner * outer + outer
    assert torch.allclose(net(x), out, rtol=1e-10)
    assert sum(p.numel() for p in net.parameters()) == weights


def test_the_tables_count_the_paper_s_layers() -> None:
    """Table 3: 3 convolutional and 2 dense layers for MNIST, 5 and 3 for GTSRB, beside the logits."""
    for net, convolutions, dense in ((PredCoinMnist(), 3, 2), (PredCoinGtsrb(), 5, 3)):
        assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == convolutions
        assert sum(isinstance(layer, nn.Linear) for layer in net.modules()) == dense + 1
        assert sum(p.numel() for p in net.parameters()) == {3: 292_234, 5: 524_491}[convolutions]


def test_dropout_follows_each_hidden_dense_layer_in_training_alone() -> None:
    net = PredCoinGtsrb(dropout=0.25)
    kinds = [type(layer).__name__ for layer in net.head]
    assert kinds == ["Linear", "ReLU", "Dropout"] * 3 + ["Linear"]
    assert {layer.p for layer in net.modules() if isinstance(layer, nn.Dropout)} == {0.25}
    assert {layer.p for layer in PredCoinMnist().modules() if isinstance(layer, nn.Dropout)} == {0.5}
    x = torch.rand(2, 3, 32, 32)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
