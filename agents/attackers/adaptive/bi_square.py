"""bi-Square: Square Attack that detects whether the losses shown are reversed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.adaptive.op_square import OpSquare, change, climbs
from agents.attackers.score.random_search import Accept
from arena.players import Games


@dataclass(frozen=True)
class BiSquare(OpSquare):
    """bi-Square (Chen et al., Adversarial Attack on Attackers, NeurIPS 2022).

    Square Attack until a candidate, accepted or not, makes the loss shown rise by more than theta, which a
    true loss would not do; from the next step on it is op-Square, for the rest of the game. Each game
    switches on its own.
    """

    def acceptance(self, games: Games) -> Accept:
        descends = torch.ones(len(games), dtype=torch.bool, device=games.x0.device)

        def accept(new: Tensor, best: Tensor, i: Tensor) -> Tensor:
            delta, down = change(new, best), descends[i]
            descends[i] = down & ~(delta > self.theta)
            return torch.where(down, delta < 0, climbs(delta, self.theta))

        return accept
