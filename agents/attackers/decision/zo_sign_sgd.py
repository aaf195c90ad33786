"""ZO-SignSGD on the distance to the boundary: the mean of signs instead of Sign-OPT's mean of directions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from agents.attackers.decision.sign_opt import SignOpt


@dataclass(frozen=True)
class ZOSignSGD(SignOpt):
    """ZO-SignSGD (Liu et al., ICLR 2019) with Sign-OPT's single-query oracle (Cheng et al., ICLR 2020, 4.4).

    The estimate is the mean of sign((g(theta + beta u) - g(theta)) u), one query a term; the rest is Sign-OPT
    (`SignOpt`), as in the Sign-OPT authors' code.
    """

    def summand(self, u: Tensor) -> Tensor:
        return u.sign()
