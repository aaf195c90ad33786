"""Gaussian noise on what flows through a network, drawn for each row."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.classifiers.keyed import KeyedLayer


class FeatureNoise(KeyedLayer):
    """x + sigma * scale * v, v ~ N(0, I) of the shape of x [n,...]; x itself where the layer is silent.

    Args:
        number: as for `KeyedLayer`.
        sigma: the standard deviation, in the unit of `scale`.
        scale: what the noise of each feature is multiplied by, of a shape that broadcasts to
            a row's; None: 1.
    """

    sigma: Tensor
    scale: Tensor

    def __init__(self, number: int, sigma: float, scale: Tensor | None = None) -> None:
        super().__init__(number)
        self.register_buffer("sigma", torch.tensor(float(sigma)))
        self.register_buffer("scale", torch.ones(()) if scale is None else scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        noise = self.normal(x, x.shape[1:])
        return x if noise is None else x + noise * (self.sigma * self.scale)
