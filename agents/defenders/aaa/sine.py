"""AAA-sine: the margin bent into a wave without jumps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.defenders.aaa.aaa import AAA
from agents.defenders.aaa.calibrated import within_cell
from arena.players.card import Card


@dataclass(frozen=True)
class AAASine(AAA):
    """AAA-sine (Chen et al., "Adversarial Attack on Attackers", NeurIPS 2022, eq. 4-6).

    As AAA-linear, but the target margin is a wave of period tau about the true one: there are no jumps that
    tell an adaptive attacker where a cell ends.

    Attributes:
        alpha: the height of the wave in units of tau; above 0, at most .7326, above which target margins
            become negative.
        tau: the period, in logits.
        beta: the weight of the calibration, which keeps small margins from falling: the smaller it is, the
            more often the guard has to keep the label.
        kappa: the number of optimisation steps; 0 leaves the logits as they are.
        lr: Adam's learning rate, in logits a step.
        temperature: of the logits whose largest probability is the target confidence; None: the one that
            gives the answers the smallest calibration error (ECE) on the calibration split.
    """

    alpha: float = 0.7
    # t touches 0 where tan(u) = u + pi, with alpha = 1 / (2 pi cos(u)).
    largest_alpha: ClassVar[float] = 0.7326
    card: ClassVar[Card] = Card(
        alters=("scores",),
        paper=(
            "Chen, Huang, Tao, Wu, Xie and Huang, Adversarial Attack on Attackers: Post-Process to "
            "Mitigate Black-Box Score-Based Query Attacks, NeurIPS 2022"
        ),
        claims=(
            "keeps 76.7 and 76.4 % after 100 queries of bi-Square and op-Square, which leave "
            "AAA-linear 62.9 and 57.3 %"
        ),
        broken_by=("surfree", "hop-skip-jump"),
    )

    def target(self, margin: Tensor) -> Tensor:
        """t = m0 - alpha tau sin(2 pi (m0 - a) / tau), a the attractor."""
        wave = (within_cell(margin, self.tau) * (2 * math.pi / self.tau)).sin()
        return (margin - self.alpha * self.tau * wave).clamp_min(0)  # sin(-pi) is not quite 0
