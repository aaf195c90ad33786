"""Expectation over transformation: ask every row several times and use the mean."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from agents.attackers.parts.repeats import Convention, Repeating, behind, one_each, repeat
from agents.attackers.parts.wrapping import with_scores
from agents.attackers.score.random_search import check_period
from arena.players import Answers, Attacker, Games, Needs, Play
from arena.rules.outcome import labels_of


@dataclass(frozen=True)
class EOT(Repeating):
    """EOT (Athalye et al., ICML 2018) around a score attack (slides to Random Noise Defense, eq. 13).

    Every row is asked M times, the repeats side by side in one volley. The inner attack gets the mean scores
    and their label; its loss is the mean of the M losses, not the loss of the mean. It plays with a budget of
    budget / M decisions, rounded up: the last one is repeated only as often as queries are left. A hit among
    the repeats is a hit; under objective `first` it ends the game before the other repeats are asked.

    Attributes:
        of: the inner attack.
        repeats: M.
        convention: `fixed`: the threat's budget counts queries; `adaptive`: it counts decisions, and M times
            as many queries are granted.
        refresh_every: the inner attack asks its incumbent again every so many steps; 0: its own setting.
    """

    of: Attacker
    repeats: int = 5
    convention: Convention = "fixed"
    refresh_every: int = 0

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats must be at least 1; found {self.repeats}")
        check_period("refresh_every", self.refresh_every)
        self.inside()

    @property
    def needs(self) -> Needs:
        return with_scores(self.of.needs)

    def inside(self) -> Attacker:
        """The inner attack, with this `refresh_every` if it is set.

        Raises:
            ValueError: if it has no such parameter.
        """
        of: Any = self.of
        if not self.refresh_every:
            return self.of
        if "refresh_every" not in {f.name for f in fields(of)}:
            raise ValueError(f"refresh_every must be 0: {type(of).__name__} has no incumbent to ask again")
        renewed: Attacker = replace(of, refresh_every=self.refresh_every)
        return renewed

    def play(self, games: Games) -> Play:
        yield from repeat(games, behind(games, self.repeats), self.inside(), self.repeats, mean)


def mean(answers: Answers, m: int) -> Answers:
    """Turns the answers to m repeats of each of n rows [n*m] into n answers: the mean scores and their
    label."""
    n = len(answers.game) // m
    labelled = (answers.label.view(n, m) >= 0).any(dim=1)
    if answers.scores is None:
        raise ValueError('EOT averages scores; the feedback of this game is "label"')
    # There are repeats already if another EOT around this one asked each of these rows several times.
    every = answers.scores.unsqueeze(0) if answers.repeats is None else answers.repeats
    repeats = every.view(len(every), n, m, -1).transpose(1, 2).flatten(0, 1)
    scores = repeats.nanmean(dim=0)
    label = torch.where(labelled, labels_of(scores), -1)
    return one_each(answers, m, label=label, scores=scores, repeats=repeats)
