"""A defender whose memory of each game lies apart, so that any game's can be made anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.players import Defender, Response, Rows
from arena.players.defender import Inner, Memory
from arena.players.response import concatenated, pick


@dataclass(frozen=True)
class _Memories:
    """What `empty` made for each game, G of them."""

    empty: Callable[[], Any]
    of: list[Any]


class Apart(Defender):
    """`defender`, which keeps memory per game or account and does not say how to forget a game.

    Each game has a memory of its own, as `defender.start` makes it for a shard of one game, and is answered
    by itself, as game 0 of it: whatever form that memory has, a new one takes its place when a new game
    begins. The price is a forward pass for each game; a defender that overrides `forget` answers all games in
    one.
    """

    def __init__(self, defender: Defender) -> None:
        self.defender = defender
        # What is declared of the class elsewhere is here the wrapped one's.
        vars(self).update(secrets=defender.secrets)

    @property
    def random(self) -> bool:
        return self.defender.random

    @property
    def memory(self) -> Memory:
        return self.defender.memory

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        if not len(rows):
            return inner(x, rows)
        parts = self._by_game(rows)
        answers = [
            self.defender.respond(x[mine], _alone(rows[mine], game), _seated(inner, game))
            for game, mine in parts
        ]
        back = torch.cat([mine for _, mine in parts]).argsort()
        return pick(concatenated(answers), back)

    def start(self, shape: tuple[int, int, int, int], accounts: int, device: torch.device) -> _Memories:
        def empty() -> Any:
            return self.defender.start((1, *shape[1:]), accounts, device)

        return _Memories(empty, [empty() for _ in range(shape[0])])

    def remember(self, x: Tensor, rows: Rows, response: Response) -> None:
        for game, mine in self._by_game(rows):
            self.defender.remember(x[mine], _alone(rows[mine], game), pick(response, mine))

    def forget(self, memory: _Memories, games: Tensor) -> None:
        for game in games.tolist():
            memory.of[game] = memory.empty()

    def has_detector(self) -> bool:
        return self.defender.has_detector()

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return self.defender.detector(x, classifier)

    def facts(self) -> dict[str, Any]:
        return self.defender.facts()

    @staticmethod
    def _by_game(rows: Rows) -> list[tuple[int, Tensor]]:
        """Each game that has rows, and their places among them, in order."""
        return [(game, (rows.game == game).nonzero()[:, 0]) for game in sorted({*rows.game.tolist()})]


def _alone(rows: Rows, game: int) -> Rows:
    """The rows of one game as those of a shard of which it is the only game."""
    return replace(rows, game=torch.zeros_like(rows.game), memory=rows.memory.of[game])


def _seated(inner: Inner, game: int) -> Inner:
    """`inner` for rows of one game, which it knows by its place."""

    def within(x: Tensor, rows: Rows) -> Response:
        return inner(x, replace(rows, game=torch.full_like(rows.game, game)))

    return within
