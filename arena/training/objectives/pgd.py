"""Adversarial training by projected gradient descent."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from arena.training.objectives.objective import Circumstances, evaluating
from arena.training.objectives.perturbing import Perturbing


class PGDTraining(Perturbing):
    """Cross-entropy at the worst image found near each image (Madry, Makelov, Schmidt, Tsipras and Vladu,
    "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018, eq. 2.1 and 2.2).

    x' raises the cross-entropy with the label; it is looked for in eval mode, where BatchNorm and dropout
    are as at play.

    Attributes:
        random_start: begin uniformly in the ball, else at x.
    """

    kind: Literal["pgd"] = "pgd"
    random_start: bool = True

    @property
    def passes(self) -> int:
        return self.steps + 1

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        start = self.anywhere(x, around.generator) if self.random_start else x.clone()
        with evaluating(model):
            worst = self.ascend(x, start, lambda at: F.cross_entropy(model(at), labels, reduction="sum"))
        logits = model(worst)
        return F.cross_entropy(logits, labels), logits
