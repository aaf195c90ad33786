"""PredCoin: a coin decides whether a gradient-estimation query gets the true answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.defenders.predcoin.detect_and_flip import DetectAndFlip
from arena.players import Rows
from arena.players.card import Card


@dataclass(frozen=True)
class PredCoin(DetectAndFlip):
    """PredCoin (Guo et al., "PredCoin: Defense against Query-based Hard-label Attack").

    A small network F_Q on the three largest probabilities distinguishes the queries of a gradient estimation
    from benign images; a detected query is answered, with the probability `coin`, with the second class
    (section 5).

    Attributes:
        gamma: a query is detected if y1 >= gamma; None: the smallest at which the accuracy expected to be
            lost on the calibration split is within `bound`.
        bound: the accuracy that may be lost, in points / 100 (Algorithm 1: .1; .02 is the stricter choice).
        search: `bisection`: Algorithm 1, to within .01: if F_Q is sure of most images it ends at .0078, on
            the plateau of the paper's losses; `scan`: exact, over all values of y1, down to the edge of the
            plateau, and so loses all that `bound` allows.
        images: how many training images F_Q learns from, or below 1 which share of them (the paper's: .05,
            2,500 images of CIFAR-10); None: 5 %, at least 200, at most 500.
        seed: of F_Q's training.
        coin: the probability of a flip; 0: detected queries are flagged, nothing else (as in Table 2).
    """

    coin: float = 0.5

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("label",),
        paper="Guo et al., PredCoin: Defense against Query-based Hard-label Attack, 2021",
        claims=(
            "after 30,000 queries HopSkipJump's median l2 distance on CIFAR-10 is .564 instead of "
            ".098, for 1.2 points of accuracy and 1.22 times the time"
        ),
        broken_by=("surfree", "boundary", "hop-skip-jump", "uncertainty-aware", "bypass-fq", "square"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_coin(self.coin)
        object.__setattr__(self, "random", 0 < self.coin < 1)

    @property
    def flip_rate(self) -> float:
        return self.coin

    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        return rows.uniform(()) < self.coin


def check_coin(coin: float) -> None:
    """Raises ValueError for a coin that is no probability."""
    if not 0 <= coin <= 1:
        raise ValueError(f"coin must be from 0 to 1; found {coin}")
