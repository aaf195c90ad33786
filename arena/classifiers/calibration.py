"""How far a classifier's confidence is from its accuracy, for defenders that tune themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from arena import statistics


def ece(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error of logits [n,K] against labels [n]: `statistics.ece` of max softmax.

    Raises ValueError if n is 0 or a row of logits is not finite.
    """
    confidence, predicted = logits.detach().double().softmax(1).max(1)
    return statistics.ece(confidence.cpu().numpy(), (predicted == labels).cpu().numpy(), bins)


def temperature_grid() -> Tensor:
    """AAA's temperatures: t and 1/t for t = 0.001, 0.002, ..., 0.999, and 1; ascending, float64 [1999].

    Chen et al. 2022 (AAA), released code; its t = 0 is left out.
    """
    t = torch.arange(1, 1000, dtype=torch.float64) / 1000
    return torch.cat([t, t.new_ones(1), (1 / t).flip(0)])
