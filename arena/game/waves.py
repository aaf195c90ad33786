"""Rows of a volley that wait for the defender."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from arena.players import Rows


@dataclass(frozen=True, eq=False)
class Wave:
    """Rows that were received and wait for the defender's response.

    Attributes:
        x: [n,C,H,W] as the service gets them, quantised.
        sent: [n,C,H,W] as the attacker sent them.
        rank: [n] how many earlier rows of the volley are of the same game.
        flaws: what is wrong with the volley, one number for each kind, 0 where nothing is.
    """

    x: Tensor
    sent: Tensor
    rows: Rows
    rank: Tensor
    purpose: str
    flaws: Tensor

    def wave(self, rows: Tensor) -> Wave:
        """The rows at these places, of which no two are of one game, as a volley of their own."""
        place = torch.arange(len(rows), device=rows.device)
        return replace(
            self,
            x=self.x[rows],
            sent=self.sent[rows],
            rows=replace(self.rows[rows], place=place),
            rank=torch.zeros_like(rows),
        )


def rank_within(game: Tensor) -> Tensor:
    """[n] how many earlier entries of `game` [n] are equal to each."""
    if game.device.type == "cpu" and bool((game.diff() > 0).all()):
        return torch.zeros_like(game)  # one row a game, in order: most volleys, told without sorting
    ordered, order = game.sort(stable=True)
    first = torch.searchsorted(ordered, ordered)
    place = torch.arange(len(game), device=game.device)
    return torch.empty_like(place).scatter_(0, order, place - first)
