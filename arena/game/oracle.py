"""The defended classifier as the Referee sees it: what a service answers, wherever it runs."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from arena.players.defender import Rows
from arena.players.response import Response, pick
from arena.rules.losses import Loss


class Oracle(Protocol):
    """What answers the rows of a shard (docs/design.md, D4). `StackOracle` is the kind in this process.

    What a kind does not know, it says: gradients, the detector.
    """

    @property
    def classes(self) -> int:
        """K, the number of classes."""

    @property
    def random(self) -> bool:
        """Whether the same row may be answered differently by another draw."""

    @property
    def paid(self) -> bool:
        """Whether its classifier is a function of a user's, which may be a paid service: such a one is asked
        no row that cannot be charged."""

    @property
    def stateful(self) -> bool:
        """Whether an answer may depend on earlier rows."""

    @property
    def answers_are_facts(self) -> bool:
        """Whether the same image always gets the same answer: neither random nor stateful."""

    @property
    def bare(self) -> bool:
        """Whether nothing stands before the hardened classifier: answers are its own."""

    def respond(self, x: Tensor, rows: Rows) -> Response:
        """The defended answers to images `x` [n,C,H,W]. Nothing is remembered before `commit`."""

    def fresh(self, x: Tensor, rows: Rows) -> Response:
        """What new clients would be answered: with draws apart from the game's, each by an empty memory."""

    def again(self, x: Tensor, rows: Rows) -> Response:
        """What the clients of the games would be answered next: as `fresh`, but with memory as it stands."""

    def commit(self, kept: Tensor) -> None:
        """Let the defenders remember those rows of the last `respond` that are True in `kept` [n]."""

    def forget(self, games: Tensor) -> None:
        """Let the defenders forget `games` [m], where new ones are dealt."""

    def base_labels(self, x: Tensor) -> Tensor:
        """[n] int64: the labels that the hardened classifier alone gives `x`."""

    def base_scores(self, x: Tensor) -> Tensor:
        """[n,K] the scores that the hardened classifier alone gives `x`, for a monitor."""

    def gradient(self, x: Tensor, goal: Tensor, loss: Loss, *, targeted: bool) -> tuple[Tensor, Tensor]:
        """Of the attacker's loss of the hardened classifier, at `x`: gradient [n,C,H,W], value [n].

        Raises:
            NotImplementedError: if there is no gradient to be had.
        """

    def detector(self, x: Tensor) -> Tensor:
        """The scores [n] of the outermost detector.

        Raises:
            NotImplementedError: if there is none.
        """


def respond_to(oracle: Oracle, x: Tensor, rows: Rows, wanted: Tensor) -> Response:
    """The answers to those rows that are True in `wanted` [n]; NaN in place of the others."""
    if bool(wanted.all()):
        return oracle.respond(x, rows)
    some = oracle.respond(x[wanted], rows[wanted])
    place = (wanted.cumsum(0) - 1).clamp_min(0)
    if not len(some.scores):
        return Response(x.new_full((len(x), oracle.classes), torch.nan))
    whole = pick(some, place)
    scores = torch.where(wanted.unsqueeze(1), whole.scores, torch.nan)
    flags = {name: flag & wanted for name in Response.FLAGS if (flag := whole.given(name)) is not None}
    return Response(scores, **flags)
