"""PredCoin's threshold gamma: as low as a bound on the loss of accuracy allows."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 0.01
"""The width of the interval at which Algorithm 1 stops."""


def gains(logits: Tensor, labels: Tensor) -> Tensor:
    """What a flip costs, [n]: 1 where the first class of logits [n,K] is right, -1 where the second is."""
    first, second = top_two(logits)
    return (first == labels).long() - (second == labels).long()


def top_two(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The indices [n] of the two largest of logits [n,K], ties to the lowest index."""
    first = logits.argmax(dim=1)
    return first, logits.scatter(1, first.unsqueeze(1), -torch.inf).argmax(dim=1)


def accuracy_loss(y1: Tensor, gain: Tensor, gamma: float, rate: float = 0.5) -> float:
    """The accuracy expected to be lost, in [-1,1]: rate mean 1[y1 >= gamma] gain, for y1 and gain [n]."""
    return rate * int(gain[y1 >= gamma].sum()) / len(y1)


def right_answers_lost(y1: Tensor, gain: Tensor, gamma: float, rate: float = 0.5) -> float:
    """The share of images whose right answer is expected to be lost, in [0,1], as `accuracy_loss`, without
    those that a flip sets right."""
    return rate * int(((y1 >= gamma) & (gain > 0)).sum()) / len(y1)


def scan(y1: Tensor, gain: Tensor, bound: float, rate: float = 0.5) -> float | None:
    """The smallest of the values y1 [n] at which the loss is within `bound`; None if there is none."""
    values, order = y1.sort(descending=True)
    last = torch.ones_like(values, dtype=torch.bool)  # the last of equal values
    last[:-1] = values[:-1] != values[1:]
    within = last & (rate * gain[order].cumsum(0).double() / len(y1) <= bound)
    return float(values[within][-1]) if bool(within.any()) else None


def bisection(y1: Tensor, gain: Tensor, bound: float, rate: float = 0.5) -> float | None:
    """Algorithm 1 to within 0.01, with its direction corrected: the listing raises the lower end if the loss
    is within the bound, away from the boundary that it searches. None if even 1 is not within the bound."""
    low, high = 0.0, 1.0
    if accuracy_loss(y1, gain, high, rate) > bound:
        return None
    while high - low >= WIDTH:
        gamma = (low + high) / 2
        if accuracy_loss(y1, gain, gamma, rate) <= bound:
            high = gamma
        else:
            low = gamma
    return high
