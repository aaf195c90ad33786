"""PredCoin's Option 1: a small convolutional network that tells queries from benign images by the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, unfold

from agents.defenders.predcoin.detector_training import Parameters, train
from arena import draws

CHANNELS, STRIDES = (16, 32, 32), (1, 2, 2)
"""Of the convolutions, 3x3 each; the means of the last one's units lead to the two outputs."""
RATE = 3e-3
"""Of training: at that of F_Q it would be stopped early before it has begun to learn."""

_GRID = 2.0**16
_LARGEST_WEIGHT, _LARGEST_UNIT = 8.0, 64.0
_FLOATS = 2**24
"""The most inputs of a convolution that are held at a time."""


@dataclass(frozen=True, eq=False)
class ImageDetector:
    """A detector on images (PredCoin, section 5.2, option 1).

    Weights and units lie on a grid of 2^-16 in float64, below bounds within which no sum of products rounds:
    y1 of a row has the same bits in any batch, whatever kernel multiplies.

    Attributes:
        layers: weights [in,out] and biases [out] on the grid; `in` of a convolution counts channels and then
            the nine pixels of its window.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """y1 [n] float32 in [0,1], the confidence that images `x` [n,C,H,W] are such queries."""
        most = 9 * max(x.shape[1], CHANNELS[0]) * x.shape[2] * x.shape[3]
        pieces = torch.split(x, max(1, _FLOATS // most))
        return torch.cat([self._exact(piece.double()) for piece in pieces])

    def _exact(self, x: Tensor) -> Tensor:
        *convolutions, (weight, bias) = self.layers
        # A defender outside may ask about pixels far from [0,1], whose sums would round.
        unit = _on_grid((x - 0.5).clamp_(-_LARGEST_UNIT, _LARGEST_UNIT))
        for (w, b), stride in zip(convolutions, STRIDES, strict=True):
            height, width = (-(-size // stride) for size in unit.shape[2:])
            columns = unfold(unit, 3, padding=1, stride=stride)
            sums = (w.T @ columns + b[:, None]).view(len(x), len(b), height, width)
            unit = _on_grid(sums.clamp_(0, _LARGEST_UNIT))
        z = _on_grid(unit.flatten(2).sum(dim=2) / (height * width)) @ weight + bias
        return torch.sigmoid(z[:, 0] - z[:, 1]).float()

    def to(self, device: torch.device) -> ImageDetector:
        return ImageDetector(tuple((w.to(device), b.to(device)) for w, b in self.layers))

    def state(self) -> dict[str, Any]:
        """Its tensors by name, from which `restored` rebuilds it."""
        state: dict[str, Any] = {}
        for n, (weight, bias) in enumerate(self.layers):
            state |= {f"layer {n} weight": weight, f"layer {n} bias": bias}
        return state

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> ImageDetector:
        count = sum(name.startswith("layer ") for name in state) // 2
        return cls(tuple((state[f"layer {n} weight"], state[f"layer {n} bias"]) for n in range(count)))


def train_image_detector(benign: Tensor, queries: Tensor, seed: int) -> ImageDetector:
    """A detector trained on benign images [n,C,H,W] and on queries [m,C,H,W]."""
    is_query = torch.cat([torch.zeros(len(benign)), torch.ones(len(queries))]).long()
    x = torch.cat([benign, queries])
    start, what = _start(x.shape[1], seed), "training a detector of images, epochs"
    layers = train(_forward, start, x, is_query, seed, what, RATE)
    return ImageDetector(tuple((_quantised(w), _quantised(b)) for w, b in layers))


def _start(channels: int, seed: int) -> Parameters:
    """Weights uniform within sqrt(6/inputs), which keeps the variance through ReLU (He et al. 2015), from
    keyed draws; biases 0."""
    sizes = [(9 * c, out) for c, out in pairwise((channels, *CHANNELS))] + [(CHANNELS[-1], 2)]
    layers = []
    for n, (inputs, outputs) in enumerate(sizes):
        drawn = draws.uniform(draws.derive(seed, "layer", n), torch.arange(inputs), 0, (outputs,))
        layers.append((drawn.mul_(2).sub_(1).mul_((6 / inputs) ** 0.5), torch.zeros(outputs)))
    return layers


def _forward(layers: Parameters, x: Tensor) -> Tensor:
    # A batch of the training is small; the examples held out may be thousands.
    most = CHANNELS[0] * x.shape[2] * x.shape[3]
    pieces = (x,) if torch.is_grad_enabled() else torch.split(x, max(1, _FLOATS // most))
    return torch.cat([_outputs(layers, piece) for piece in pieces])


def _outputs(layers: Parameters, x: Tensor) -> Tensor:
    *convolutions, (weight, bias) = layers
    unit = x - 0.5
    for (w, b), stride in zip(convolutions, STRIDES, strict=True):
        kernel = w.T.reshape(w.shape[1], -1, 3, 3)
        unit = conv2d(unit, kernel, b, stride=stride, padding=1).relu()
    return unit.flatten(2).mean(dim=2) @ weight + bias


def _quantised(weights: Tensor) -> Tensor:
    return _on_grid(weights.double().clamp(-_LARGEST_WEIGHT, _LARGEST_WEIGHT))


def _on_grid(value: Tensor) -> Tensor:
    return value.mul(_GRID).round_().div_(_GRID)
