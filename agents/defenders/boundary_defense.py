"""Boundary Defense: noise on the logits where the classifier is unsure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.defenders.parts.confidence import confidence
from agents.parameters import check_within
from arena.players import Defender, Rows
from arena.players.card import Card


@dataclass(frozen=True)
class BoundaryDefense(Defender):
    """Boundary Defense (Aithal and Li, "Boundary Defense Against Black-box Adversarial Attacks", ICPR 2022):
    z + N(0, sigma^2 I), new for each query, where max softmax(z) < theta; z elsewhere.

    Label and scores of an answer come from the same noise. theta is compared with the confidence without
    noise. The label of an unsure answer may change, that of a sure one cannot.

    Attributes:
        theta: the confidence below which noise is added (the paper: .3 on ImageNet, of 1,000 classes; with
            few classes, where confidence is seldom as low, a larger one acts on as many queries).
        sigma: the standard deviation of the noise, in logits (the paper: .1).
    """

    theta: float = 0.3
    sigma: float = 0.1

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("scores",),
        paper="Aithal and Li, Boundary Defense Against Black-box Adversarial Attacks, ICPR 2022",
        claims="soft- and hard-label attacks on ImageNet fail at theta .3 and sigma .1, for about 1 % of "
        "clean accuracy",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        if not 0 < self.theta <= 1:
            raise ValueError(f"theta must be above 0 and at most 1; found {self.theta}")
        # Noise near the largest float32 would leave logits that are not finite.
        check_within(self, 0, 1e6, "sigma")

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        unsure = confidence(scores) < self.theta
        noisy = scores + self.sigma * rows.normal(scores.shape[1:])
        return torch.where(unsure[:, None], noisy, scores)
