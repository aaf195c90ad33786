from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor


class Linear(torch.nn.Module):
    """Logits W (x - 1/2) + b, class 0 ahead; images about 1/2, so that the box is out of the way."""

    def __init__(self, classes: int = 3, shape: tuple[int, ...] = (1, 6, 6), games: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.w = torch.randn(classes, *shape, generator=generator)
        self.b = torch.zeros(classes)
        self.b[0] = 3.0
        self.images = 0.4 + 0.2 * torch.rand(games, *shape, generator=generator)
        self.labels = torch.zeros(games, dtype=torch.int64)

    def forward(self, x: Tensor) -> Tensor:
        return ((x - 0.5).unsqueeze(1) * self.w).flatten(2).sum(dim=2) + self.b

    def least(self, norm: str, target: int | None = None) -> NDArray[np.float64]:
        """min over k of (z_0 - z_k) / |w_0 - w_k| [G], in l2 or, for linf, in l1; or that of a target."""
        z, w = self(self.images).double(), self.w.double().flatten(1)
        far = (z[:, :1] - z[:, 1:]) / (w[0] - w[1:]).norm(p=2 if norm == "l2" else 1, dim=1)
        return (far.amin(dim=1) if target is None else far[:, target - 1]).numpy()


@pytest.fixture
def world() -> type[Linear]:
    return Linear
