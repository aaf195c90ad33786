"""An attacker and a defender at fault on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import one_hot

from arena import Attacker, Defender, Games, Needs, Play
from arena.players import Rows
from arena.rules.outcome import labels_of


@dataclass(frozen=True)
class Stuck(Attacker):
    """Asks for the clean image once, whatever the ball, and gives up."""

    needs = Needs(objectives=("first", "submit"))

    def play(self, games: Games) -> Play:
        yield from games.ask(games.x0[games.open], games.open)
        yield from games.resign(games.open)


@dataclass(frozen=True)
class Flat(Defender):
    """Keeps the label, and shows scores that have no slope: a search by scores sees nothing."""

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        return one_hot(labels_of(scores), scores.shape[1]).float()
