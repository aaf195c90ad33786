"""How far a classifier's confidence is from its accuracy, for defenders that tune themselves."""

from __future__ import annotations

import math

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


def nll_temperature(logits: Tensor, labels: Tensor) -> float:
    """The T in [0.001, 1000] with the least mean negative log-likelihood of softmax(logits / T).

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks" (ICML 2017), section 4.2. The
    loss is convex in 1/T, with the derivative mean(E_p[z] - z_y), whose root is bisected in log T. Where
    there is none within the bounds, the rows say nothing of T, which is 1: where every row is right, the
    likelihood grows for ever as T falls, and such a T would make a certainty of every answer.

    Args:
        logits: [n,K], finite; n at least 1.
        labels: [n] int64.
    """
    z = logits.detach().double()
    z = z - z.gather(1, labels[:, None])

    def too_small(log_t: float) -> bool:
        """Whether the likelihood is best at a larger T."""
        return ((z * math.exp(-log_t)).softmax(dim=1) * z).sum(dim=1).mean().item() > 0

    low, high = math.log(1e-3), math.log(1e3)
    if not too_small(low) or too_small(high):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return math.exp((low + high) / 2)
