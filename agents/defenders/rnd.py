"""Random Noise Defense: Gaussian noise on every query, as large as the classifier tolerates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from agents.parameters import check_within
from arena.players import Defender, Rows
from arena.players.card import Card


@dataclass(frozen=True)
class RND(Defender):
    """Random Noise Defense (Qin, Fan, Zha and Wu, NeurIPS 2021): F(x + nu v), v ~ N(0, I), new for each
    query.

    Attributes:
        nu: the standard deviation of the noise, in pixel units of [0,1] (the paper: .02, and .05 for networks
            trained adversarially or with noise).
        clamp: clip the noisy image to [0,1], as the code of the authors and of AAA does.
    """

    nu: float = 0.02
    clamp: bool = True

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("input",),
        paper=(
            "Qin, Fan, Zha and Wu, Random Noise Defense Against Query-Based Black-Box Attacks, NeurIPS 2021"
        ),
        claims=(
            "query-based attacks fail where the noise is not small beside their steps; of its 91.05 "
            "% on CIFAR-10 Square leaves 49.15 % after 2,500 queries (AAA's measurement)"
        ),
        broken_by=("surfree", "rays", "square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        # Pixels are in [0,1]; noise near the largest float32 would leave no image, and no row a label.
        check_within(self, 0, 1000, "nu")

    def transform(self, x: Tensor, rows: Rows) -> Tensor:
        noisy = rows.normal(x.shape[1:]).mul_(self.nu).add_(x)
        return noisy.clamp_(0, 1) if self.clamp else noisy
