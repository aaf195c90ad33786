"""A teacher's probabilities in place of labels."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from arena.training.objectives.objective import Circumstances, Objective


class Distillation(Objective):
    """Cross-entropy of softmax(z/T) with the teacher's softmax(z_teacher/T) (Papernot, McDaniel, Wu, Jha and
    Swami, "Distillation as a Defense to Adversarial Perturbations", S&P 2016, eq. 7).

    Attributes:
        temperature: T.
    """

    taught: ClassVar[bool] = True

    kind: Literal["distillation"] = "distillation"
    temperature: float = Field(gt=0)

    @property
    def passes(self) -> int:
        return 2

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        assert around.teacher is not None, "checked as the job was made"
        with torch.no_grad():
            soft = (around.teacher(x) / self.temperature).softmax(dim=1)
        logits = model(x)
        return F.cross_entropy(logits / self.temperature, soft), logits
