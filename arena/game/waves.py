"""Rows of a volley that wait for the defender, wave by wave."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from arena.players.defender import Rows
from arena.rules.moves import Answers
from arena.rules.outcome import Bools, Ints


@dataclass(frozen=True, eq=False)
class Wave:
    """Rows that were received and wait for the defender's response, all at once.

    Attributes:
        x: [n,C,H,W] as the service gets them, quantised.
        rank: [n] how many earlier rows of the wave are of the same game.
        flaws: what is wrong with the volley, one number for each kind, 0 where nothing is; None where the
            volley was found sound before.
        queue: the volley that this is a wave of; None where the wave is the volley.
    """

    x: Tensor
    rows: Rows
    rank: Tensor
    purpose: str
    flaws: Tensor | None = None
    queue: Queue | None = None


@dataclass(eq=False)
class Queue:
    """A volley whose rows are answered in order, in waves of at most one row a game.

    Attributes:
        whole: all of its rows.
        rank: [n] how many earlier rows of the volley are of the same game; game: [n].
        turn: the rank of the rows of the next wave.
        taken: the rows of the waves so far; answers: what came back for them.
        granted: how many rows were charged so far.
    """

    whole: Wave
    rank: Ints
    game: Ints
    turn: int = 0
    taken: list[Ints] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)
    granted: int = 0

    @classmethod
    def of(cls, whole: Wave) -> Queue:
        return cls(whole, whole.rank.cpu().numpy(), whole.rows.game.cpu().numpy())

    def next(self, is_open: Bools) -> Wave | None:
        """The next row of each open game, games ascending; None where there is none."""
        rows = np.flatnonzero((self.rank == self.turn) & is_open[self.game])
        if not len(rows):
            return None
        rows = rows[np.argsort(self.game[rows], kind="stable")]
        self.turn += 1
        self.taken.append(rows)
        whole = self.whole
        i = torch.from_numpy(rows).to(whole.x.device)
        place = torch.arange(len(i), device=i.device)
        own = replace(whole.rows[i], place=place)
        return Wave(whole.x[i], own, torch.zeros_like(place), whole.purpose, whole.flaws, self)

    def assemble(self, standing: Answers, scores: Tensor | None) -> Answers:
        """The answers of all waves in the order of the volley, with how the games stand.

        Args:
            scores: [n,K] NaN, None under feedback `label`: rows that never got a turn are not answered.
        """
        game = self.whole.rows.game
        label = torch.full_like(game, -1)
        answered = torch.zeros_like(game, dtype=torch.bool)
        refused = answered.clone()
        for rows, wave in zip(self.taken, self.answers, strict=True):
            place = torch.from_numpy(rows).to(game.device)
            label[place], answered[place], refused[place] = wave.label, wave.answered, wave.refused
            if scores is not None and wave.scores is not None:
                scores[place] = wave.scores
        return replace(standing, game=game, label=label, scores=scores, answered=answered, refused=refused)


def rank_within(game: Tensor) -> Tensor:
    """[n] how many earlier entries of `game` [n] are equal to each."""
    if len(game) < 2 or (game.device.type == "cpu" and _ascends(game.numpy())):
        return torch.zeros_like(game)  # one row a game, in order: most volleys, told without sorting
    ordered, order = game.sort(stable=True)
    first = torch.searchsorted(ordered, ordered)
    place = torch.arange(len(game), device=game.device)
    return torch.empty_like(place).scatter_(0, order, place - first)


def _ascends(game: Ints) -> bool:
    return bool((game[1:] > game[:-1]).all())
