"""PredCoin with a coin that depends on the image and a secret."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.defenders.predcoin.detect_and_flip import DetectAndFlip
from agents.defenders.predcoin.exact_sums import exact_sum
from agents.defenders.predcoin.predcoin import check_coin
from arena import draws
from arena.players import Rows
from arena.players.card import Card

_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class PredCoinHash(DetectAndFlip):
    """Conv-parity without its linearity: a keyed function of the image is the coin; not in the paper.

    The image in units of 2^-24 is hashed to sum X_j r_j modulo 2^64 with secret r, and a keyed bijection
    (Philox) of that is the coin. The same image always gets the same answer, and an attacker who knows the
    weights but not the secret cannot predict it. Any other image, however near, has its own coin.

    Attributes:
        gamma, bound, search, images, seed: as for PredCoin.
        coin: the share of images that are flipped.
        secret: the key.
    """

    coin: float = 0.5
    secret: int = 0

    secrets: ClassVar[tuple[str, ...]] = ("seed", "secret")
    card: ClassVar[Card] = Card(
        alters=("label",),
        paper="none: this project's variant of PredCoin's section 7.2",
        claims="nothing is published; a keyed hash in place of a public linear sum",
        broken_by=("square",),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coin(self.coin)

    @property
    def flip_rate(self) -> float:
        return self.coin

    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        return self.uniform(x) < self.coin

    def uniform(self, x: Tensor) -> Tensor:
        """The coin [n] float64, uniform on [0,1), of images `x` [n,C,H,W]."""
        place = torch.arange(math.prod(x.shape[1:]), device=x.device)
        high, low = draws.bits(draws.derive(self.secret, "hash"), place, 0, 2).unbind(dim=1)
        hashed = exact_sum(x, (high << 32) | low)
        zero = torch.zeros_like(hashed)
        key = draws.derive(self.secret, "coin")
        words = draws.philox((hashed & _WORD, (hashed >> 32) & _WORD, zero, zero), (key & _WORD, key >> 32))
        return words[0].double() / 2**32
