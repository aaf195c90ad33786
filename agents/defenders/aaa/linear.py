"""AAA-linear: the margin reflected about an attractor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.defenders.aaa.aaa import AAA
from agents.defenders.aaa.calibrated import within_cell
from arena.players.card import Card


@dataclass(frozen=True)
class AAALinear(AAA):
    """AAA-linear (Chen et al., "Adversarial Attack on Attackers", NeurIPS 2022, eq. 4-6).

    The margins of the logits are cut into cells of width tau. Within each cell the answered margin falls
    where the true one rises, which misleads score attacks; the confidence is calibrated; labels stay.

    Attributes:
        alpha: the slope of the reversed margin; above 0, at most 1.
        tau: the width of a cell, in logits.
        beta: the weight of the calibration, which keeps small margins from falling: the smaller it is, the
            more often the guard has to keep the label.
        kappa: the number of optimisation steps; 0 leaves the logits as they are.
        lr: Adam's learning rate, in logits a step.
        temperature: of the logits whose largest probability is the target confidence; None: the one that
            gives the answers the smallest calibration error (ECE) on the calibration split.
    """

    alpha: float = 1.0
    largest_alpha: ClassVar[float] = 1.0
    card: ClassVar[Card] = Card(
        alters=("scores",),
        paper=(
            "Chen, Huang, Tao, Wu, Xie and Huang, Adversarial Attack on Attackers: Post-Process to "
            "Mitigate Black-Box Score-Based Query Attacks, NeurIPS 2022"
        ),
        claims=(
            "after 2,500 queries of Square in linf 8/255 80.6 % is left on CIFAR-10, where no "
            "defense leaves 0.1 %; labels stay, calibration gains"
        ),
        broken_by=("unfold", "op-square", "bi-square", "slope-square", "surfree"),
    )

    def target(self, margin: Tensor) -> Tensor:
        """t = a - alpha (m0 - a), a the attractor."""
        return margin - (1 + self.alpha) * within_cell(margin, self.tau)
