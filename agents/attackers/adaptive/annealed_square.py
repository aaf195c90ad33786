"""annealed-square: Square Attack with simulated annealing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.adaptive.op_square import change
from agents.attackers.parts.twins import plain
from agents.attackers.score.random_search import Accept
from agents.attackers.score.square import Square
from arena import draws
from arena.players import Games, Loss


@dataclass(frozen=True)
class AnnealedSquare(Square):
    """Square Attack that accepts by Metropolis' rule (Kirkpatrick, Gelatt and Vecchi, Science 1983).

    A candidate that changes the loss shown by D is accepted with probability min(1, exp(-D / T)), where T
    falls geometrically from step to step. The local minima of AAA-sine lie behind rises: its loss is shown
    reversed for |l - l_atr| < .2135 tau (alpha = .7), a fold 5.6 high for tau = 6. Nothing else differs from
    Square; nothing of the defense is known.

    Attributes:
        loss: the margin for both goals.
        temperature: T at the first step, in units of the loss; 0: Square.
        cooling: the factor of T from one step to the next.
    """

    loss: Loss | None = "margin"
    temperature: float = 1.0
    cooling: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be finite and at least 0; found {self.temperature}")
        if not 0 < self.cooling <= 1:
            raise ValueError(f"cooling must be above 0 and at most 1; found {self.cooling}")

    @property
    def twin(self) -> Square:
        return plain(self, Square)

    def acceptance(self, games: Games) -> Accept:
        # Draws of their own: the candidates are those of Square.
        seed, steps = draws.derive(games.seed, "annealing"), itertools.count()

        def accept(new: Tensor, best: Tensor, i: Tensor) -> Tensor:
            delta, step = change(new, best), next(steps)
            u = draws.uniform(seed, games.key[i], torch.full_like(i, step), ())
            warmth = -torch.log1p(-u.double()) * (self.temperature * self.cooling**step)
            return (delta < 0) | (delta < warmth)

        return accept
