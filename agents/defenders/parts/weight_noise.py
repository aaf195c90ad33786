"""Gaussian noise on the weights of a layer, drawn for each row."""

from __future__ import annotations

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from arena.classifiers.keyed import KeyedLayer, keyed

Share = Literal["layer", "channel"]
ALPHA = 0.25
HELD = 2**24
"""The most weights that a layer holds at a time for the rows of a pass: 64 MiB. A row whose weights are more
goes alone."""


class WeightNoise(KeyedLayer):
    """`layer` with weights W' = W + alpha std(W) eta, eta ~ N(0, I) (He, Rakin and Fan 2019, eq. 1 and 2).

    In training one eta serves the whole batch, as the authors have it, and alpha is learnt; std(W), over all
    of the layer's weights, gets no gradient. In play each row has an eta of its own; where the layer is
    silent, the weights are W.

    Args:
        number: as for `KeyedLayer`.
        layer: with a parameter `weight`, whose first dimension is that of the output channels.
        share: one alpha for the layer, or one for each output channel.
    """

    undecayed: ClassVar[tuple[str, ...]] = ("alpha",)

    def __init__(self, number: int, layer: nn.Module, share: Share) -> None:
        super().__init__(number)
        self.layer = copy.deepcopy(layer)
        weight = self._weight
        size = weight.shape[:1] if share == "channel" else (1,)
        self.alpha = nn.Parameter(torch.full((*size, *[1] * (weight.dim() - 1)), ALPHA, device=weight.device))

    def reset_parameters(self) -> None:
        """alpha as it is at first."""
        nn.init.constant_(self.alpha, ALPHA)

    @property
    def _weight(self) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        weight = self._weight
        deviation = self.alpha * weight.detach().std(correction=min(1, weight.numel() - 1))
        if self.training:
            return self._with(weight + deviation * torch.randn_like(weight), x)
        if (keys := self._keys_of(x)) is None:
            return self._with(weight, x)
        size, answers = max(1, HELD // weight.numel()), []
        for cut in range(0, len(x), size):
            piece = x[cut : cut + size]
            with keyed(keys[cut : cut + size]):
                noise = self.normal(piece, weight.shape)
            assert noise is not None
            weights = noise.mul_(deviation).add_(weight)
            answers.append(torch.vmap(self._of_row)(weights, piece))
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def _of_row(self, weight: Tensor, row: Tensor) -> Tensor:
        return self._with(weight, row[None])[0]

    def _with(self, weight: Tensor, x: Tensor) -> Tensor:
        answer: Tensor = functional_call(self.layer, {"weight": weight}, (x,))
        return answer
