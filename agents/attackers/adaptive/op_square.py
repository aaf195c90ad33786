"""op-Square: Square Attack for losses that are shown reversed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.twins import plain
from agents.attackers.score.random_search import Accept
from agents.attackers.score.square import Square
from arena.players import Games, Loss


@dataclass(frozen=True)
class OpSquare(Square):
    """op-Square (Chen et al., Adversarial Attack on Attackers, NeurIPS 2022; "up" in the authors' code).

    Square Attack that climbs: it accepts a candidate if the loss shown rises, or if it drops by more than
    theta. AAA-linear shows the loss mirrored within each of its intervals of length tau, so that a true
    decrease is shown as a rise, or as an abnormal drop when it crosses into the next interval. Nothing else
    differs from Square, so that the two can be compared query by query; a wrong answer that the rule does not
    accept is not kept.

    Attributes:
        loss: AAA's code takes the margin for both goals.
        theta: the size from which a change is abnormal, in units of the loss; AAA's code: 3, half its tau.
    """

    loss: Loss | None = "margin"
    theta: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.theta >= 0:
            raise ValueError(f"theta must not be negative; found {self.theta}")

    @property
    def twin(self) -> Square:
        return plain(self, Square)

    def acceptance(self, games: Games) -> Accept:
        def accept(new: Tensor, best: Tensor, i: Tensor) -> Tensor:
            return climbs(change(new, best), self.theta)

        return accept


def change(new: Tensor, best: Tensor) -> Tensor:
    """new - best [n]; NaN, which no comparison accepts, if no answer came (`new` is +inf)."""
    return torch.where(new < torch.inf, new - best, torch.nan)


def climbs(change: Tensor, theta: float) -> Tensor:
    """Accept a rise, or an abnormal drop."""
    return (change > 0) | (change < -theta)
