"""PredCoin and its countermeasure in turns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from agents.defenders.conv_parity import Parity, check_digit
from agents.defenders.predcoin import PredCoin
from arena.classifiers import Classifier
from arena.players import Rows, Splits


@dataclass(frozen=True)
class PredCoinAlternate(PredCoin):
    """PredCoin's coin, and conv-parity for every n-th query (Guo et al., section 7.2, "every set number of
    inputs").

    A query counts within its game: were it counted over the whole service, what other games ask meanwhile
    would decide which rule answers, and no answer could be had again.

    Attributes:
        gamma, bound, search, images, seed, coin: as for PredCoin.
        parity_every: n, at least 2.
        digit: as for ConvParity.
    """

    parity_every: int = 2
    digit: float = 1e-6
    _parity: Parity | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_digit(self.digit)
        if self.parity_every < 2:
            raise ValueError(f"parity_every must be at least 2; found {self.parity_every}")

    @property
    def flip_rate(self) -> float:
        return self.coin + (0.5 - self.coin) / self.parity_every

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        parity = Parity.of(classifier, self.digit)
        fitted = super().fit(classifier, splits)
        object.__setattr__(fitted, "_parity", parity)
        return fitted

    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        if self._parity is None:
            raise ValueError("PredCoinAlternate must be fitted first")
        return torch.where(rows.turn % self.parity_every == 0, self._parity.even(x), super().flips(x, rows))
