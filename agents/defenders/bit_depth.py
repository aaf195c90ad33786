"""Bit-depth reduction: fewer levels a pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from arena.players import Defender, Rows
from arena.players.card import Card


@dataclass(frozen=True)
class BitDepth(Defender):
    """Round each pixel to 2^b levels (Xu, Evans and Qi, "Feature Squeezing", NDSS 2018, section III-A):
    round(x (2^b - 1)) / (2^b - 1), halves to even, as their code does.

    Attributes:
        b: bits a pixel (the paper: 1 on MNIST, 4 or 5 on CIFAR-10, 5 on ImageNet).
    """

    b: int = 5

    card: ClassVar[Card] = Card(
        alters=("input",),
        paper="Xu, Evans and Qi, Feature Squeezing, NDSS 2018",
        claims="perturbations below half a level vanish; no claim against attackers who know it",
        broken_by=("square",),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.b <= 8:
            raise ValueError(f"b must be from 1 to 8 bits; found {self.b}")

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        return reduced(x, self.b)


def reduced(x: Tensor, bits: int) -> Tensor:
    """Images [n,C,H,W] in [0,1] with so many bits a pixel."""
    levels = float(2**bits - 1)
    return (x * levels).round() / levels
