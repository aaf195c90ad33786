"""Small Noise Defense: a little Gaussian noise on every query."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.parameters import check_within
from arena.players import Defender, Rows
from arena.players.card import Card


@dataclass(frozen=True)
class SND(Defender):
    """Small Noise Defense (Byun, Go and Kim, WACV 2022): F(x + sigma v), v ~ N(0, I), new for each query.

    Attributes:
        sigma: the standard deviation of the noise, in pixel units of [0,1] (the paper: .001, .01 and .02).
        beta: a of the paper's Beta variant: the noise of each query is multiplied by one k ~ Beta(a, a) (the
            paper: .5, 1 and 2); None: k = 1, which defends better there.
        clamp: clip the noisy image to [0,1], which halves the noise of saturated pixels.
    """

    sigma: float = 0.01
    beta: float | None = None
    clamp: bool = False

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("input",),
        paper=(
            "Byun, Go and Kim, On the Effectiveness of Small Input Noise for Defending Against "
            "Query-based Black-Box Attacks, WACV 2022"
        ),
        claims=(
            "HopSkipJump's success within l2 1.0 after 10,000 queries falls from 89.2 to 22.7 % on "
            "CIFAR-10, for 0.8 points of accuracy (sigma .01)"
        ),
        broken_by=("surfree", "rays", "square", "pop-skip-jump"),
    )

    def __post_init__(self) -> None:
        # Pixels are in [0,1]; noise near the largest float32 would leave no image, and no row a label.
        check_within(self, 0, 1000, "sigma")
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be finite and above 0, or not given; found {self.beta}")

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        noise = rows.normal(x.shape[1:]).mul_(self.sigma)
        if self.beta is not None:
            noise.mul_(symmetric_beta(self.beta, rows.uniform((2,), stream=1))[:, None, None, None])
        noisy = noise.add_(x)
        return noisy.clamp_(0, 1) if self.clamp else noisy


def symmetric_beta(a: float, uniform: Tensor) -> Tensor:
    """Beta(a, a) draws [n] from uniform draws [n,2], for any a > 0, up to rounding to multiples of 2^-25.

    With W = U^(1/a), the T of Student's t with 2a degrees of freedom is sqrt(2a (1/W - 1)) cos(2 pi V)
    (Bailey 1994, "Polar generation of random variates with the t-distribution"), and
    (1 + T / sqrt(2a + T^2)) / 2 is Beta(a, a). In terms of W nothing overflows.
    """
    w = uniform[:, 0].log().div_(a).exp_()  # pow may give other last bits in another batch
    cosine = uniform[:, 1].mul(2 * math.pi).cos()
    return (1 + cosine * (1 - w).sqrt() / torch.sqrt(w + (1 - w) * cosine.square())) / 2
