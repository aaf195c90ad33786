"""Cross-entropy with the labels."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from arena.training.objectives.objective import Circumstances, Objective


class CrossEntropy(Objective):
    """The mean of -log softmax(z/T)_y.

    Attributes:
        temperature: T, by which the logits are divided in training alone (1: the usual).
    """

    kind: Literal["cross-entropy"] = "cross-entropy"
    temperature: float = Field(default=1.0, gt=0)

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        logits = model(x)
        # Divided by 1, logits would take another way through autograd, but no other values.
        return F.cross_entropy(logits / self.temperature if self.temperature != 1 else logits, labels), logits
