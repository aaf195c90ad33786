"""An attacker that asks by a plan, and a table of games whose answers are scripted turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from arena.players import Attacker, Defender, Games, Inner, Needs, Play, Response, Rows
from arena.rules.threat import Threat

SHAPE = (1, 4, 4)


@dataclass(frozen=True)
class Asks(Attacker):
    """Asks for images of grey 1/2 by a plan (games and purpose of each volley) and keeps what it hears."""

    plan: tuple[tuple[tuple[int, ...], str], ...] = (((0,), "probe"),)
    heard: list[Any] = field(default_factory=list)
    feedback: str = "label"

    @property
    def needs(self) -> Needs:
        return Needs(feedback=self.feedback)  # type: ignore[arg-type]

    def play(self, games: Games) -> Play:
        self.heard.append(games)
        for volley, purpose in self.plan:
            i = torch.tensor(volley)
            x = torch.full((len(i), *games.x0.shape[1:]), 0.5)
            self.heard.append((yield from games.ask(x, i, purpose)))


@pytest.fixture
def asks() -> type[Asks]:
    return Asks


@pytest.fixture
def says(referee: Any, images: Any) -> Callable[..., Any]:
    """says(labels, ...): a referee of games on class 0 of `classes` that answers labels[turn - 1] each."""

    def make(
        labels: Sequence[int], *, games: int = 1, classes: int = 4, budget: int = 100, **more: Any
    ) -> Any:
        script = torch.tensor([*labels, *[0] * 1000])
        target = more.pop("target", None)
        rules = {"goal": "targeted"} if target is not None else {}
        rules["objective"] = more.pop("objective", "submit")
        rules["feedback"] = more.pop("feedback", "label")

        def model(x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
            return torch.nn.functional.one_hot(script[turn - 1], classes).float()

        threat = Threat(epsilon=1.0, budget=budget, **rules)
        y = torch.zeros(games, dtype=torch.int64)
        goal = None if target is None else torch.full((games,), target)
        return referee(model, images(games, SHAPE), y, threat, target=goal, **more)

    return make


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
