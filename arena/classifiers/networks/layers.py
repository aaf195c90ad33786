"""What several networks are made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def initialise(network: nn.Module, *unrectified: nn.Module) -> None:
    """He initialisation (He et al. 2015, eq. 10): weights normal, biases zero.

    The variance is 2/fan-in, which keeps the scale of activations through a ReLU, and 1/fan-in for the
    `unrectified` layers, whose output no ReLU follows: the logits, and the terms of a sum.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            gain = 1 if layer in unrectified else 2
            nn.init.normal_(layer.weight, std=(gain / layer.weight[0].numel()) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def plain_stages(
    channels: int, side: int, stages: Sequence[Sequence[int]], batch_norm: bool = False
) -> tuple[nn.Sequential, int]:
    """Stages of 3x3 convolutions of the given widths, each with a ReLU, and a 2x2 max-pool after each stage.

    Nothing is padded. Returns the layers, for images [n,channels,side,side], and the number of values
    that they output per image.
    """
    layers: list[nn.Module] = []
    for stage in stages:
        for width in stage:
            layers.append(nn.Conv2d(channels, width, 3))
            layers += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
        side = (side - 2 * len(stage)) // 2
    return nn.Sequential(*layers), channels * side * side
