from __future__ import annotations

import pytest
import torch
from torch import nn

from arena.classifiers.networks.layers import initialise, plain_stages


def test_weights_are_normal_with_he_s_variance_and_biases_zero() -> None:
    torch.manual_seed(0)
    conv, dense, logits = nn.Conv2d(32, 64, 3), nn.Linear(400, 300), nn.Linear(300, 100)
    initialise(nn.Sequential(conv, nn.BatchNorm2d(64), dense, logits), logits)
    for layer, variance in ((conv, 2 / (32 * 9)), (dense, 2 / 400), (logits, 1 / 300)):
        weight = layer.weight.detach().double().flatten()
        assert weight.var().item() == pytest.approx(variance, rel=0.05)
        assert abs(weight.mean().item()) < 4 * (variance / len(weight)) ** 0.5
        assert (weight / variance**0.5).pow(4).mean().item() == pytest.approx(3, rel=0.1)  # a normal's
        assert layer.bias is not None
        assert not layer.bias.any()


def test_activations_keep_their_scale_through_many_layers() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(512, 512) for _ in range(30)]
    net = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())])
    initialise(net)
    x = torch.randn(64, 512)
    assert 0.2 < net(x).pow(2).mean().item() < 5  # half the variance would leave 2**-30


def test_plain_stages_pool_after_each_stage_and_count_what_they_leave() -> None:
    layers, flat = plain_stages(1, 28, ((32, 32), (64, 64)))
    assert [type(layer).__name__ for layer in layers] == (["Conv2d", "ReLU"] * 2 + ["MaxPool2d"]) * 2
    assert layers(torch.zeros(1, 1, 28, 28)).flatten(1).shape == (1, flat) == (1, 1024)
    layers, flat = plain_stages(3, 32, ((4,), (8, 8, 8)), batch_norm=True)
    assert [type(layer).__name__ for layer in layers] == [
        *["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"],
        *["Conv2d", "BatchNorm2d", "ReLU"] * 3,
        "MaxPool2d",
    ]
    assert layers(torch.zeros(1, 3, 32, 32)).flatten(1).shape == (1, flat) == (1, 8 * 4 * 4)
