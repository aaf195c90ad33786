"""One label from several: for wrappers around decision-based attackers."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from agents.attackers.parts.repeats import Merge, Repeating, behind, one_each
from agents.parameters import check_parameters
from arena.players import Answers, Games, Needs

Rule = Literal["plurality", "any", "all", "majority"]
"""When the repeats of a row count as adversarial.

`plurality`: the most frequent label is; `any`, `all`: one, or each of the answers is; `majority`: more than
half of them are. Ties are benign.
"""


def label_seat(games: Games, m: int) -> Games:
    """A seat for a decision-based attacker whose rows are asked m times: it gets labels only."""
    seat = behind(games, m)
    seat.threat = seat.threat.model_copy(update={"feedback": "label"})
    return seat


def merge_labels(games: Games, rule: Rule) -> Merge:
    """The label that `rule` makes of the repeats of a row; -1 if none has a label."""

    def merge(answers: Answers, m: int) -> Answers:
        label, answered = answers.label.view(-1, m), answers.answered.view(-1, m)
        count = torch.zeros(len(label), games.classes, dtype=torch.int64, device=label.device)
        count.scatter_add_(1, label.clamp_min(0), (label >= 0).long())
        wins = games.winning(answers.game.view(-1, m)[:, 0])
        if rule == "plurality":
            chosen = 2 * count + ~wins  # a benign label wins a tie
        else:
            won = adversarial((count * wins).sum(dim=1), answered.sum(dim=1), rule)
            chosen = torch.where(won.unsqueeze(1), wins, ~wins) * count
        known = (label >= 0).any(dim=1) & (chosen.amax(dim=1) > 0)
        label = torch.where(known, chosen.argmax(dim=1), -1)
        return one_each(answers, m, label=label, scores=None, repeats=None)

    return merge


def adversarial(hits: Tensor, answered: Tensor, rule: Rule) -> Tensor:
    """[n] bool, from how many [n] of the `answered` [n] repeats were adversarial."""
    if rule == "any":
        return hits > 0
    if rule == "all":
        return (hits > 0) & (hits == answered)
    return 2 * hits > answered


class RepeatingLabels(Repeating):
    """A wrapper that asks repeatedly, around an attacker that decides by labels."""

    def __post_init__(self) -> None:
        check_parameters(self, counts=("repeats",))
        if self.of.needs.feedback != "label":
            kind, name = type(self).__name__, type(self.of).__name__
            raise ValueError(
                f"{kind} goes around attackers that decide by labels; {name} needs {self.of.needs.feedback}"
            )

    @property
    def needs(self) -> Needs:
        return self.of.needs
