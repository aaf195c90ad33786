"""The uncertainty-aware attack on PredCoin: ask repeatedly, so that its coin gives itself away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agents.attackers.parts.repeated_labels import RepeatingLabels, label_seat, merge_labels
from agents.attackers.parts.repeats import Convention, Vary, repeat
from arena.players import Attacker, Games, Play
from arena.rules.purposes import ESTIMATION


@dataclass(frozen=True)
class UncertaintyAware(RepeatingLabels):
    """The uncertainty-aware attack (PredCoin, section 7.2 and Algorithm 2) around any attack.

    Each query of an estimate is asked k times, the repeats side by side in one volley. Where PredCoin
    detects, on either side of the boundary, the answer is a fair coin: repeats tell whether a point is
    detected, not on which side it lies, and the attack walks along the detector's frontier in place of the
    classifier's. A detected point is adversarial with probability 1 - 2^-k by `any`, 2^-k by `all`.

    The listing as printed asks k + 1 times and returns before it decides; only with phi in {0, 1} do its
    lines 8 to 11 make sense, which then say `any`. The attack inside has left / k queries, rounded up, and
    comes to more of them by those that are asked once.

    Attributes:
        of: the attack inside, which decides by labels.
        repeats: k.
        rule: a query is adversarial where `any` (the listing's), or `all`, or the `majority` of its repeats
            are; ties are benign. By the majority a coin stays a coin.
        scope: what is asked k times: `estimation` (the paper's: probes, and a random walk's candidates), or
            `every_decision`, so that estimates and searches see one boundary.
        convention: `fixed`: the threat's budget counts queries; `adaptive`: k times as many are granted.
    """

    of: Attacker
    repeats: int = 5
    rule: Literal["any", "all", "majority"] = "any"
    scope: Literal["estimation", "every_decision"] = "estimation"
    convention: Convention = "fixed"

    def vary(self, games: Games) -> Vary | None:
        """How the repeats of a query differ from it."""
        return None

    def play(self, games: Games) -> Play:
        yield from repeat(
            games,
            label_seat(games, self.repeats),
            self.of,
            self.repeats,
            merge_labels(games, self.rule),
            only=ESTIMATION if self.scope == "estimation" else None,
            vary=self.vary(games),
        )
