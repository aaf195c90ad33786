"""The uncertainty-aware attack on PredCoin: repeated queries reveal its random answers."""

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
    detects, on either side of the boundary, the answer is a fair coin. Repeats show whether a point is
    detected, not on which side it lies, so the attack follows the detector's frontier instead of the
    classifier's. A detected point is adversarial with probability 1 - 2^-k by `any`, 2^-k by `all`.

    The listing as printed asks k + 1 times and returns before it decides; its lines 8 to 11 make sense only
    with phi in {0, 1}, and then mean `any`. The inner attack has left / k queries, rounded up, and gets more
    of them than that because some are asked once.

    Attributes:
        of: the inner attack, which decides by labels.
        repeats: k.
        rule: a query is adversarial if `any` (the listing's), `all`, or the `majority` of its repeats are;
            ties are benign. With the majority a coin stays a coin.
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
        """The rule that varies the repeats of a query; None: they are equal."""
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
