"""TRADES: accuracy, and answers that hardly change nearby."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from arena.training.objectives.objective import Circumstances, evaluating
from arena.training.objectives.perturbing import Perturbing

START = 0.001
"""The standard deviation of the noise from which x' starts: at x itself the divergence has no slope."""


class TradesTraining(Perturbing):
    """CE(x) + beta KL(p(x) || p(x')) (Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, "Theoretically Principled
    Trade-off between Robustness and Accuracy", ICML 2019, eq. 5 with 1/lambda = beta).

    As in the authors' code: x' raises that divergence from x + .001 N(0, I), found in eval mode; the loss is
    taken in training mode, the divergence added up over the batch and divided by its size. Their code passes
    x through the network twice for it, here once.

    Attributes:
        beta: the weight of the divergence.
    """

    kind: Literal["trades"] = "trades"
    beta: float = Field(default=6.0, ge=0)

    @property
    def passes(self) -> int:
        return self.steps + 3

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        start = x + START * torch.randn(x.shape, generator=around.generator).to(x.device)
        with evaluating(model):
            with torch.no_grad():
                p = model(x).softmax(dim=1)
            worst = self.ascend(x, start, lambda at: divergence(p, model(at)))
        logits = model(x)
        apart = divergence(logits.softmax(dim=1), model(worst)) / len(x)
        return F.cross_entropy(logits, labels) + self.beta * apart, logits


def divergence(p: Tensor, logits: Tensor) -> Tensor:
    """The sum over rows of KL(p || softmax(logits)), of p, logits [n,K]."""
    return F.kl_div(logits.log_softmax(dim=1), p, reduction="sum")
