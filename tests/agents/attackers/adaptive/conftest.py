"""Two classes on either side of a plane, PredCoin with a band for a detector, and folded margins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import arena
from arena.players import Defender, Games, Inner, Response, Rows
from arena.rules.moves import Answers
from arena.rules.threat import Threat


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


def accepted_by(attacker: Any, losses: Any, best: Any) -> list[list[bool]]:
    """What an attacker's acceptance rule takes of the losses [G][T] shown to G games that start at `best`."""
    games = len(losses)
    none, no = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    every, opened = torch.arange(games), torch.ones(games, dtype=torch.bool)
    state = Answers(none, none, None, no, no, every, opened, every, opened[:, None])
    zero = torch.zeros(games, dtype=torch.int64)
    seat = Games(torch.zeros(games, 1, 2, 2), zero, Threat(epsilon=0.1, budget=1), classes=2, state=state)
    accept, bar, taken = attacker.acceptance(seat), torch.tensor(best), []
    for new in torch.tensor(losses).unbind(dim=1):
        taken.append(accept(new, bar, every))
        bar = torch.where(taken[-1], new, bar)
    return torch.stack(taken, dim=1).tolist()


@pytest.fixture
def accepted() -> Callable[..., list[list[bool]]]:
    return accepted_by


class Folded(torch.nn.Module):
    """A linear margin between two classes that is shown folded: f(m) where it is above 0, m elsewhere.

    Attributes:
        fold: f, from margins [n] above 0 to those shown.
        x0: images of class 0 with margins of about `height`; within 1/4 of them in linf they fall by 45. As
            with networks, most changes lower them: by 5 where all values change by 1/4.
    """

    def __init__(self, fold: Callable[[Tensor], Tensor], games: int = 20, height: float = 14.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.fold, self.height = fold, height
        w = torch.randn(1, 16, 16, generator=generator)
        self.w = w / w.abs().sum() * 160
        self.x0 = 0.49 + 0.02 * torch.rand(games, 1, 16, 16, generator=generator)
        self.label = torch.zeros(games, dtype=torch.int64)

    def margin(self, x: Tensor) -> Tensor:
        """m [n]."""
        delta = (x - 0.5).flatten(1)
        return self.height + delta @ self.w.flatten() - 80 * delta.square().mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        m = self.margin(x)
        shown = torch.where(m > 0, self.fold(m.clamp_min(0)), m)
        return torch.stack([shown, torch.zeros_like(m)], dim=1)

    def won(self, attacker: Any, budget: int, *, defender: Any = "none", **rules: Any) -> list[int]:
        """The turns of the first hits in games within 1/4, in linf; ascending, of those that were won."""
        threat = {"norm": "linf", "epsilon": 0.25, "budget": budget, "feedback": "logits"}
        result = arena.play(
            attacker,
            defender,
            classifier=self,
            images=self.x0,
            labels=self.label,
            threat=threat | {"objective": "first"} | rules,
        )
        mark = result.marks[budget]
        return sorted(mark.turn[mark.answered].tolist())


@pytest.fixture
def folded() -> type[Folded]:
    return Folded
