"""A defender whose draws stand still."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.game.stack import Stack
from arena.players import Defender, Response, Rows
from arena.players.defender import Inner, Memory


@dataclass(frozen=True)
class Frozen(Defender):
    """A prepared defender that draws for every row of a game, verdicts included, as for its first query.

    Each game meets a function: the same image always gets the same answer, unless the defender remembers.

    Attributes:
        of: the defender; seed: of all of its draws.
    """

    of: Defender
    seed: int

    @property
    def memory(self) -> Memory:
        return self.of.memory

    @property
    def acts(self) -> bool:
        return self.of.acts or self.of.random  # its classifier's layers may draw

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return self.of.respond(x, self._still(rows), inner)

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> Any:
        return self.of.start(shape, accounts, device)

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        self.of.remember(x, self._still(rows), response)

    def has_detector(self) -> bool:
        return self.of.has_detector()

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return self.of.detector(x, classifier)

    def facts(self) -> dict[str, Any]:
        return self.of.facts()

    def state(self) -> Mapping[str, Any]:  # type: ignore[override]
        return self.of.state()

    def _still(self, rows: Rows) -> Rows:
        return replace(rows, turn=torch.ones_like(rows.turn), seed=self.seed)


def freeze(stack: Stack, seed: int) -> Stack:
    """The prepared stack with the draws of its random defenders frozen."""
    defenders = tuple(Frozen(d, seed + layer) if d.random else d for layer, d in enumerate(stack.defenders))
    return replace(stack, defenders=defenders)
