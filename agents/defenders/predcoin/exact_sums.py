"""Sums over the pixels of an image in int64: the same in any order, batch and memory format."""

from __future__ import annotations

import torch
from torch import Tensor

PIXEL_BITS = 24
"""A float32 in [.5,1] has so many bits behind the point."""
_TERMS = 2**22
"""The most products in memory at a time."""


def levels(x: Tensor) -> Tensor:
    """X [n,d] int64: pixels of `x` [n,C,H,W] in units of 2^-24, to the nearest.

    Different 8-bit levels stay different, so that images quantised by the service need no other unit.
    """
    return (x.flatten(1).double() * 2.0**PIXEL_BITS).round_().long()


def exact_sum(x: Tensor, weight: Tensor) -> Tensor:
    """sum_j X_j weight_j [n] int64 modulo 2^64, of the levels X of `x` [n,C,H,W] and `weight` [d] int64."""
    rows = max(1, _TERMS // len(weight))
    sums = torch.empty(len(x), dtype=torch.int64, device=x.device)
    for piece, found in zip(torch.split(x, rows), torch.split(sums, rows), strict=True):
        # Sums kept one by one would lie where the next piece's products want to: on the host as much memory
        # was held as all products need together.
        torch.sum(levels(piece).mul_(weight), dim=1, out=found)
    return sums
