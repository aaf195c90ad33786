"""Several networks that answer together."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """The log of the members' mean softmax, ln((1/m) sum_i softmax(z_i)), [n,K].

    Args:
        members: images [n,C,H,W] -> logits [n,K] each.
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        answers = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return answers.logsumexp(dim=0) - math.log(len(self.members))


@dataclass(frozen=True)
class Several:
    """A form: an ensemble of `count` copies of a network."""

    count: int

    def __call__(self, module: nn.Module) -> nn.Module:
        return Ensemble([copy.deepcopy(module) for _ in range(self.count)])
