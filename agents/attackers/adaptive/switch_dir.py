"""switch-dir: Square Attack that turns round whenever it has not improved for a while."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.adaptive.op_square import change
from agents.attackers.parts.twins import plain
from agents.attackers.score.random_search import Accept
from agents.attackers.score.square import Square
from agents.parameters import check_parameters
from arena.players import Games, Loss


@dataclass(frozen=True)
class SwitchDir(Square):
    """switch_dir (the code of "RLS", TMLR 2026): Square Attack against losses that are shown bent.

    Each game descends or climbs the loss shown. A streak counts the candidates in a row that were no
    improvement in the game's direction; above `patience` the direction is reversed and the streak begins
    anew. Acceptance is judged after that, so that the candidate which reverses it may be taken. There is no
    threshold: nothing of the defense is known. (The authors' code asks each candidate twice and counts one.)

    Attributes:
        loss: the margin for both goals.
        patience: k, the longest streak (their README: 10; their configuration: 5).
    """

    loss: Loss | None = "margin"
    patience: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, counts=("patience",))

    @property
    def twin(self) -> Square:
        return plain(self, Square)

    def acceptance(self, games: Games) -> Accept:
        down = torch.ones(len(games), dtype=torch.bool, device=games.x0.device)
        streak = torch.zeros(len(games), dtype=torch.int64, device=games.x0.device)

        def accept(new: Tensor, best: Tensor, i: Tensor) -> Tensor:
            delta = change(new, best)
            improved = torch.where(down[i], delta < 0, delta > 0)
            failed = torch.where(improved, 0, streak[i] + ~delta.isnan())
            turns = failed > self.patience
            streak[i], down[i] = torch.where(turns, 0, failed), down[i] ^ turns
            return torch.where(down[i], delta < 0, delta > 0)

        return accept
