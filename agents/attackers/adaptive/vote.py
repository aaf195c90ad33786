"""Vote: ask every decision several times and use the most frequent label."""

from __future__ import annotations

from dataclasses import dataclass

from agents.attackers.parts.repeated_labels import RepeatingLabels, label_seat, merge_labels
from agents.attackers.parts.repeats import Convention, repeat
from arena.players import Attacker, Games, Play


@dataclass(frozen=True)
class Vote(RepeatingLabels):
    """Voting against randomised answers (Byun, Go and Kim, Small Input Noise is Enough, 2020, section 3.4).

    Every decision of the inner attack is asked T times, the repeats side by side in one volley; the answer is
    the most frequent label, ties are benign. The attack plays with a budget of budget / T decisions, rounded
    up: the last one is repeated only as often as queries are left. A hit among the repeats is a hit; under
    objective `first` it ends the game before the other repeats are asked.

    Attributes:
        of: the inner attack, which decides by labels.
        repeats: T.
        convention: `fixed`: the threat's budget counts queries; `adaptive`: it counts decisions, and T times
            as many queries are granted (the paper's columns 2k T, 5k T, 10k T).
    """

    of: Attacker
    repeats: int = 10
    convention: Convention = "fixed"

    def play(self, games: Games) -> Play:
        merge = merge_labels(games, "plurality")
        yield from repeat(games, label_seat(games, self.repeats), self.of, self.repeats, merge)
