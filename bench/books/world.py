"""Small exact worlds: a classifier whose logits are the same bits in any batch, a defender with every whim.

Images are [1,2,2] with pixels on sixteenths. A logit is a sum of integers times pixels, taken in float64 and
rounded to a 64th: no order of summation, and no batch, can change it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.game.openings import Openings
from arena.players import Defender, Response, Rows

SHAPE = (1, 2, 2)
WEIGHT = ((4, -4, 0, 0), (-4, 4, 0, 0), (0, 0, 4, -4))
BIAS = (0, 0, -1)
"""0 where the first pixel is above the second, 1 where below, 2 where the third is far above the fourth."""


class Exact(nn.Module):
    """Logits round(64 (W x + b)) / 64, in float64; NaN where the first pixel is 1.

    With `holes`, they are also all equal where the second pixel is 1, +inf for class 1 where the third is,
    and -inf for all where the fourth is without it.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, weight: Sequence[Sequence[int]] = WEIGHT, bias: Sequence[int] = BIAS, holes: bool = False
    ) -> None:
        super().__init__()
        self.holes = holes
        self.register_buffer("weight", torch.tensor(weight, dtype=torch.float64))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.double().flatten(1)
        logits = pixels @ self.weight.T + self.bias
        logits, full = (logits * 64).round() / 64, pixels == 1
        one = torch.arange(len(self.bias), device=x.device)
        if self.holes and full.any():
            logits = torch.where(full[:, 1:2], 1.0, logits)
            logits = torch.where(full[:, 2:3] & (one == 1), torch.inf, logits)
            logits = torch.where(full[:, 3:4] & ~full[:, 2:3], -torch.inf, logits)
        return torch.where(full[:, :1] & (one == 0), torch.nan, logits).float()


def classifier(
    weight: Sequence[Sequence[int]] = WEIGHT,
    bias: Sequence[int] = BIAS,
    batch: int = 256,
    holes: bool = False,
) -> Classifier:
    return Classifier(Exact(weight, bias, holes), shape=SHAPE, classes=len(bias), batch=batch)


def images(sixteenths: Iterable[Sequence[int]]) -> Tensor:
    """Images [n,1,2,2] of pixels given in sixteenths."""
    pixels = torch.tensor(list(sixteenths), dtype=torch.float32).reshape(-1, *SHAPE)
    return pixels / 16


def index(*games: int) -> Tensor:
    return torch.tensor(games, dtype=torch.int64)


@dataclass(frozen=True)
class Warden(Defender):
    """Refuses, declines, flags, bans, shifts and flips, by the image and by how much it remembers.

    `count` is the number of rows it was told to remember of the game, the account or the service; `code` the
    sum of the pixels in sixteenths.
    """

    FLIPPED: ClassVar[float] = 0.3

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        sizes = {"game": (shape[0], 1), "account": (shape[0], accounts), "service": (1, 1)}
        if self.memory == "none":
            return None
        return SimpleNamespace(count=torch.zeros(sizes[self.memory], dtype=torch.int64), trace=[])

    def _place(self, rows: Rows) -> tuple[Tensor, Tensor]:
        nothing = torch.zeros_like(rows.game)
        game = nothing if self.memory == "service" else rows.game
        return game, rows.account if self.memory == "account" else nothing

    def respond(self, x: Tensor, rows: Rows, inner: Callable[[Tensor, Rows], Response]) -> Response:
        scores = inner(x, rows).scores
        count = torch.zeros_like(rows.game) if rows.memory is None else rows.memory.count[self._place(rows)]
        code = (x.double().flatten(1).sum(dim=1) * 16).round().long()
        scores = scores + (torch.arange(scores.shape[1]) == 0) * (count % 3).unsqueeze(1)
        if self.random:
            flipped = rows.uniform(()) < self.FLIPPED
            scores = torch.where(flipped.unsqueeze(1), scores.roll(1, dims=1), scores)
        return Response(
            scores,
            declined=(code + count) % 7 == 6,
            refused=(code + 2 * count) % 5 == 4,
            flagged=code % 3 == 0,
            banned=(code + count) % 11 == 10,
        )

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        rows.memory.count.index_put_(self._place(rows), torch.ones_like(rows.game), accumulate=True)
        code = (x.double().flatten(1).sum(dim=1) * 16).round().long()
        kept = zip(rows.game.tolist(), rows.turn.tolist(), rows.account.tolist(), code.tolist(), strict=True)
        rows.memory.trace += kept


@dataclass(frozen=True)
class Detecting(Warden):
    """Lets insiders see the code."""

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return x.flatten(1).sum(dim=1) * 16


def warden(memory: str = "none", random: bool = False, kind: type[Warden] = Warden) -> Warden:
    made: Warden = type(f"Warden_{memory}", (kind,), {"memory": memory, "random": random})()
    return made


def deal(
    x0: Tensor, label: Sequence[int], *, key: Sequence[int] | None = None, target: Sequence[int] | None = None
) -> Openings:
    keys = torch.arange(len(x0)) if key is None else index(*key)
    return Openings(x0, index(*label), keys, None if target is None else index(*target))
