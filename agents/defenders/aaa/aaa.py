"""Adversarial Attack on Attackers: what AAA-linear and AAA-sine share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.defenders.aaa.calibrated import Calibrated, Margins, check_positive
from agents.defenders.aaa.descent import descend, top_probability


@dataclass(frozen=True)
class AAA(Calibrated, ABC):
    """Logits whose margin misleads and whose confidence is calibrated (Chen et al., "Adversarial Attack on
    Attackers", NeurIPS 2022).

    The logits z of each row take kappa steps of Adam from z0 to minimise |m(z) - t| + beta |p_c(z) - p*|:
    they move the margin m between the two largest towards the target t of `target`, and the probability of
    the class c that leads in z0 towards p* = max softmax(z0 / temperature). Losses are summed over a batch;
    the authors' code takes their mean, which makes an answer depend on its batch.

    This does not guarantee the label. A row whose argmax would change is flagged, and answered with z0, but
    with its largest logit set to max(t, .05) above the second. Rows that are not finite stay unchanged.
    """

    alpha: float = 1.0
    tau: float = 6.0
    beta: float = 5.0
    kappa: int = 100
    lr: float = 0.1
    temperature: float | None = None

    largest_alpha: ClassVar[float]
    """Above it t is negative at some margins, so that another label becomes the target."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= self.largest_alpha:
            raise ValueError(
                f"alpha must be above 0 and at most {self.largest_alpha}, above which margins aimed at turn "
                f"negative; found {self.alpha}"
            )
        check_positive(self, "tau", "lr", "temperature")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be finite and at least 0; found {self.beta}")
        if not 0 <= self.kappa <= 10_000:
            raise ValueError(f"kappa must be from 0 to 10000; found {self.kappa}")

    @abstractmethod
    def target(self, margin: Tensor) -> Tensor:
        """The target margin t [n] of the original margin m0 [n] >= 0."""

    def moved(self, margins: Margins, temperature: float) -> tuple[Tensor, Tensor]:
        target = self.target(margins.margin)
        moved = descend(
            margins.logits,
            margins.top,
            target,
            top_probability(margins.logits, margins.top, temperature),
            beta=self.beta,
            steps=self.kappa,
            lr=self.lr,
        )
        return moved, target
