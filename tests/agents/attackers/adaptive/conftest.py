"""Two classes on either side of a plane, and PredCoin with a band for a detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from arena.players import Defender, Inner, Response, Rows


class Plane(torch.nn.Module):
    """Two classes on either side of a plane: logits (-f, f), f(x) = w (x - 1/2) with |w| = 1.

    Attributes:
        x0: images of class 0 that lie 0.4 below the plane, more or less.
    """

    def __init__(self, games: int, shape: tuple[int, ...] = (1, 8, 8)) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        w = torch.randn(shape, generator=generator)
        self.w = w / w.norm()
        self.x0 = 0.5 - 0.4 * self.w + 0.05 * (torch.rand(games, *shape, generator=generator) - 0.5)
        self.label = torch.zeros(games, dtype=torch.int64)

    def height(self, x: Tensor) -> Tensor:
        """f(x) [n]."""
        return ((x - 0.5) * self.w).flatten(1).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([-self.height(x), self.height(x)], dim=1)


@dataclass(frozen=True)
class ToyCoin(Defender):
    """PredCoin with a band for a detector: within `band` of the plane, the other class by a fair coin.

    Attributes:
        parity: not by a coin, but by the parity of a weighted sum of the image in units of 1e-7.
    """

    band: float = 0.05
    parity: bool = False

    random: ClassVar[bool] = True

    def detector(self, x: Tensor, classifier: Any) -> Tensor:
        z = classifier(x).sort(dim=1, descending=True).values
        return 2 * self.band - (z[:, 0] - z[:, 1])

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        z = response.scores
        flagged = (z[:, 0] - z[:, 1]).abs() <= 2 * self.band
        heads = rows.uniform(()) < 0.5
        if self.parity:
            weight = torch.arange(1, 1 + x[0].numel(), dtype=torch.float64).sqrt()
            heads = ((x.flatten(1) * weight).sum(dim=1) / 1e-7).floor().long() % 2 == 0
        return Response(torch.where((flagged & heads).unsqueeze(1), z.flip(1), z), flagged=flagged)


@pytest.fixture
def plane() -> type[Plane]:
    return Plane


@pytest.fixture
def toy_coin() -> type[ToyCoin]:
    return ToyCoin
