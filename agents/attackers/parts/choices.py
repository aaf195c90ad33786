"""Random choices made several steps ahead: one keyed draw costs as much as many."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from arena.players import Games


class ChoicesAhead:
    """The choices of games that step together, made `steps` steps at a time.

    `make(first, steps, i)` makes those of steps `first`, ..., `first + steps - 1` of games `i` [n]: tensors
    [steps,n,...]. It draws once per game and call, so that a game's choices do not depend on the others.
    """

    def __init__(
        self, games: Games, steps: int, make: Callable[[int, int, Tensor], tuple[Tensor, ...]]
    ) -> None:
        self.steps, self.make = steps, make
        self.place = torch.zeros(len(games), dtype=torch.int64, device=games.x0.device)
        self.first, self.count = -steps, 0
        self.made: tuple[Tensor, ...] = ()

    def at(self, step: int, i: Tensor) -> list[Tensor]:
        """The choices of step `step` (the last one asked for, or a later one) for the open games `i` [n]."""
        if step >= self.first + self.steps:
            self.first, self.count = step, len(i)
            self.made = self.make(step, self.steps, i)
            self.place[i] = torch.arange(len(i), device=i.device)
        k = step - self.first
        if len(i) == self.count:  # games close and never open again: these are all of them
            return [choice[k] for choice in self.made]
        rows = self.place[i]
        return [choice[k, rows] for choice in self.made]
