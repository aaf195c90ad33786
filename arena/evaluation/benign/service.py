"""A defended classifier that benign clients meet, with what others sent before them."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.evaluation.benign.client import Heard
from arena.evaluation.benign.history import History, Pictures
from arena.evaluation.benign.kinds import CLIENTS
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Response, Rows
from arena.rules.outcome import labels_of

OTHERS = 2**20
"""From this number on, keys are those of others' queries."""


class Service:
    """A stack that remembers the queries of a history.

    Args:
        known: [s,C,H,W] the images around which the clients' sessions will be; one account for each.
        others: images of others.
    """

    def __init__(
        self,
        stack: Stack,
        history: History,
        known: Tensor,
        others: Pictures,
        seed: int,
    ) -> None:
        self.stack, self.history, self.known, self.others = stack, history, known, others
        self.seed = seed
        self._filled: StackOracle | None = None

    def opened(self) -> StackOracle:
        """An oracle with that history, in whose memory no other client has been."""
        filled = self._fill() if self._filled is None else self._filled
        try:
            self._filled = filled
            return filled.fork()
        except NotImplementedError:  # it must be filled anew each time
            self._filled = None
            return filled

    def _fill(self) -> StackOracle:
        games, senders = len(self.known), self.history.senders
        oracle = StackOracle(self.stack, seed=self.seed, games=games + senders)
        if not senders:
            return oracle
        sending = self.history.sending(self.known, self.others, list(CLIENTS.values()), self.seed)
        place = torch.arange(senders, device=self.known.device)
        x, sent = next(sending), 0
        while True:
            now = place[: self.history.queries - sent]
            response = oracle.respond(x[now], rows_of(now + games, now + OTHERS, 1 + sent // senders))
            oracle.commit(torch.ones_like(now, dtype=torch.bool))
            sent += len(now)
            if sent == self.history.queries:
                return oracle
            x = sending.send(heard(response))


def rows_of(game: Tensor, key: Tensor, turn: int) -> Rows:
    """Rows [n] of a turn, each of its own game and account."""
    place = torch.arange(len(game), device=game.device)
    return Rows(game, key, torch.full_like(place, turn), torch.zeros_like(place), place)


def heard(response: Response) -> Heard:
    """What the clients hear of a response."""
    label = torch.where(response.withheld, -1, labels_of(response.scores))
    return Heard(label, response.scores, label >= 0)
