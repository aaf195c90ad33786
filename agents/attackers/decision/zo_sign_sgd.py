"""ZO-SignSGD on the distance to the boundary: the mean of signs instead of Sign-OPT's mean of directions."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from agents.attackers.decision.opt import default_count, estimate
from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.parts.directions import Descent
from arena.players import Answers, Games, Move


@dataclass(frozen=True)
class ZOSignSGD(SignOpt):
    """ZO-SignSGD (Liu et al., ICLR 2019) on Sign-OPT's objective (Cheng et al., ICLR 2020, 4.4).

    The estimate is the mean of sign((g(theta + beta u) - g(theta)) u); the rest is Sign-OPT (`SignOpt`), as
    in the Sign-OPT authors' code.

    Attributes:
        probes: Q; None: 200, without the oracle as many as `opt` has (10, in l_inf 5, targeted 20).
        oracle: whether the sign comes from Sign-OPT's single-query oracle, at one query a term; otherwise
            from g(theta + beta u) itself, by a search as in OPT.
    """

    oracle: bool = True

    def gradient(self, descent: Descent, i: Tensor) -> Generator[Move, Answers, Tensor]:
        if self.oracle:
            return (yield from super().gradient(descent, i))
        gradient, _ = yield from estimate(descent, i, self.count(descent.games), signs=True)
        return gradient

    def count(self, games: Games) -> int:
        return super().count(games) if self.oracle else self.probes or default_count(games)

    def summand(self, u: Tensor) -> Tensor:
        return u.sign()
