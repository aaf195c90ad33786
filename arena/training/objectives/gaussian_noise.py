"""Cross-entropy at images with Gaussian noise."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from arena.training.objectives.objective import Circumstances, Objective


class GaussianNoise(Objective):
    """The mean of -log F_y(x + sigma v), v ~ N(0, I), one draw an image and step; nothing is clipped.

    Attributes:
        sigma: the standard deviation of the noise, in pixel units of [0,1].
    """

    kind: Literal["gaussian-noise"] = "gaussian-noise"
    sigma: float = Field(gt=0)

    def lesson(
        self, model: nn.Module, x: Tensor, labels: Tensor, around: Circumstances
    ) -> tuple[Tensor, Tensor]:
        noise = torch.randn(x.shape, generator=around.generator).to(x.device)
        logits = model(x + self.sigma * noise)
        return F.cross_entropy(logits, labels), logits
