"""PredCoin and its countermeasure, alternating."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from agents.defenders.predcoin.conv_parity import ByParity, Parity
from agents.defenders.predcoin.predcoin import PredCoin
from arena.players import Rows
from arena.players.card import Card


@dataclass(frozen=True)
class PredCoinAlternate(ByParity, PredCoin):
    """PredCoin's coin, and conv-parity for every n-th query (Guo et al., section 7.2, "every set number of
    inputs").

    Queries are counted within each game: if they were counted over the whole service, the queries of other
    games would decide which rule answers, and no answer could be reproduced.

    Attributes:
        gamma, bound, search, images, seed, coin: as for PredCoin.
        parity_every: n, at least 2.
        digit: as for ConvParity.
    """

    parity_every: int = 2
    digit: float = 1e-6
    _parity: Parity | None = field(default=None, init=False, repr=False, compare=False)

    card: ClassVar[Card] = Card(
        alters=("label",),
        paper="Guo et al., PredCoin: Defense against Query-based Hard-label Attack, 2021, section 7.2",
        claims=(
            "the coin and the parity may alternate every set number of inputs; the paper measures nothing"
        ),
        broken_by=("square",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.parity_every, int) or not 2 <= self.parity_every < 2**32:
            raise ValueError(
                f"parity_every must be a whole number from 2 to {2**32 - 1}; found {self.parity_every}"
            )
        # A sure coin draws nothing, and yet the rules, by the turn, would answer one image in two ways.
        if not 0 < self.coin < 1:
            raise ValueError(f"coin must be above 0 and below 1, or nothing is tossed; found {self.coin}")

    @property
    def flip_rate(self) -> float:
        return self.coin + (0.5 - self.coin) / self.parity_every

    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        return torch.where(rows.turn % self.parity_every == 0, self.even(x), super().flips(x, rows))
