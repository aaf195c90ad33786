"""Clean and adversarial images, half and half."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from arena.classifiers.keyed import KeyedLayer
from arena.training.objectives.objective import Circumstances, evaluating
from arena.training.objectives.perturbing import Perturbing


class MixedPGDTraining(Perturbing):
    """CE(x) / 2 + CE(x') / 2, as Parametric Noise Injection is trained (He, Rakin and Fan, CVPR 2019, eq. 5
    with both weights 1/2).

    As in the authors' code: x' leads away from the network's own answer to x rather than from the label; it
    is looked for from anywhere in the ball, with BatchNorm and dropout as at play, but layers that draw go on
    drawing.

    Attributes:
        after: how many epochs pass before there are adversarial images; the loss is CE(x) until then (the
            authors: 5 of 160).
    """

    kind: Literal["mixed-pgd"] = "mixed-pgd"
    after: int = Field(default=0, ge=0)

    @property
    def passes(self) -> int:
        return self.steps + 2

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        logits = model(x)
        clean = F.cross_entropy(logits, labels)
        if around.epoch < self.after:
            return clean, logits
        own, start = logits.detach().argmax(dim=1), self.anywhere(x, around.generator)
        with evaluating(model):
            for layer in model.modules():
                if isinstance(layer, KeyedLayer):
                    layer.training = True
            worst = self.ascend(x, start, lambda at: F.cross_entropy(model(at), own, reduction="sum"))
        return clean / 2 + F.cross_entropy(model(worst), labels) / 2, logits
