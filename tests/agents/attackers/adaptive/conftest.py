"""An attacker that asks by a plan, and a table of games whose answers are scripted turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from arena.players import Attacker, Games, Needs, Play
from arena.threat import Threat

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
