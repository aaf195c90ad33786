"""banded-op-square: op-Square that takes no abnormal rise."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from agents.attackers.adaptive.op_square import OpSquare, change, climbs
from agents.attackers.score.random_search import Accept
from arena.players import Games


@dataclass(frozen=True)
class BandedOpSquare(OpSquare):
    """op-Square with a band: a candidate is accepted if the loss shown rises by at most theta, or drops by
    more than theta.

    AAA-linear shows a true rise across an attractor's interval as a rise by nearly 2 tau, which op-Square
    takes for progress. This is our rule; it knows of AAA what op-Square knows, through the constant theta.

    Attributes:
        theta: the size from which a change is abnormal, in units of the loss; half of AAA's tau.
    """

    def acceptance(self, games: Games) -> Accept:
        def accept(new: Tensor, best: Tensor, i: Tensor) -> Tensor:
            delta = change(new, best)
            # Whatever is answered is better than nothing.
            return climbs(delta, self.theta) & ((delta <= self.theta) | best.isinf())

        return accept
