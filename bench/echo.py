"""An attacker that only asks, for what the way of its moves costs (`bench.isolation`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from arena.players import Attacker, Games, Play


@dataclass(frozen=True)
class Echo(Attacker):
    """Asks for the clean images, row after row of the games in turn.

    Attributes:
        volleys: how many; rows: of each.
    """

    volleys: int = 100
    rows: int = 1

    def play(self, games: Games) -> Play:
        i = torch.arange(self.rows) % len(games)
        x = games.x0[i]
        for _ in range(self.volleys):
            yield from games.ask(x, i)
