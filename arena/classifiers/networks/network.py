"""What the arena knows about a network of its table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """An architecture.

    Attributes:
        factory: builds the network, untrained, for normalised images; its keyword arguments are what
            `params` of a classifier may set, `classes` (K) among them.
        shape: (C, H, W) of the images it is made for.
        mean, std: the input normalisation, one value for all channels or one each, for weights that do not
            state their own.
    """

    factory: Callable[..., nn.Module]
    shape: tuple[int, int, int]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


class Normalised(nn.Module):
    """`network` behind (x - mean) / std: images [n,C,H,W] in [0,1] -> logits [n,K].

    `mean` and `std` hold one value for all channels, or one each. Raises ValueError otherwise, or if one is
    not finite or a std not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        finite = all(map(math.isfinite, (*mean, *std)))
        if len(mean) != len(std) or not mean or not finite or not all(s > 0 for s in std):
            raise ValueError(
                f"mean and std must be as many, one for all channels or one each, finite, and std above 0; "
                f"found mean {list(mean)} and std {list(std)}"
            )
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits
