"""Plain noise: a control that searches nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.attackers.parts.claims import in_doubt, stand_by
from agents.attackers.parts.estimates import unit
from arena.players import Attacker, Games, Play


@dataclass(frozen=True)
class Noise(Attacker):
    """A control: uniform noise in the ball, new for each query, until one of them is answered wrong.

    No answer changes what it asks next, so an attack that does no better has found nothing (Carlini et al.,
    On Evaluating Adversarial Robustness, 2019, section 4.1). In linf each value is uniform in the ball; in
    l2 the image is. Under objective `minimum` each query has a radius of its own, uniform up to epsilon; in a
    ball without end it is a uniform image, blended into the clean one by a uniform share.
    """

    control: ClassVar[bool] = True

    def play(self, games: Games) -> Play:
        first = games.threat.objective == "first"
        while len(i := games.open):
            x = noisy(games, i)
            fooled = yield from games.fools(x, i, "noise")
            if not first and (in_doubt(games) or games.threat.objective == "submit"):
                yield from stand_by(games, x[fooled], i[fooled])


def noisy(games: Games, i: Tensor) -> Tensor:
    """An image [n,C,H,W] of noise around each of games `i` [n]."""
    x0 = games.x0[i]
    minimum = games.threat.objective == "minimum"
    share = games.uniform((1, 1, 1), i) if minimum else x0.new_ones(len(i), 1, 1, 1)
    if not math.isfinite(games.epsilon):
        return x0 + share * (games.uniform(x0.shape[1:], i) - x0)
    if games.threat.norm == "linf":
        step = games.uniform(x0.shape[1:], i).mul_(2).sub_(1)
    else:
        length = games.uniform((1, 1, 1), i).pow(1 / x0[0].numel())
        step = unit(games.normal(x0.shape[1:], i)) * length
    return games.project(x0 + share * games.epsilon * step, i)
