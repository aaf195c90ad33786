"""PIHA: queries whose colours lie like those of an earlier one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from agents.defenders.stateful.codes import CodeIndex
from agents.defenders.stateful.history import Stateful
from agents.defenders.stateful.hue_codes import hue_codes
from arena.players.card import Card

COLOURS = 3


@dataclass(frozen=True)
class PIHA(Stateful):
    """PIHA (Choi, Kim and Choi, "PIHA: Detection Method Using Perceptual Image Hashing against Query-Based
    Adversarial Attacks", Future Generation Computer Systems 145, 2023).

    The image is blurred (3 x 3, standard deviation 1), its hue (of hue, saturation and value) summed over
    blocks of 7 x 7, and the hash is the local binary pattern (8 neighbours at distance 1) of each block:
    5 x 5 codes for 32 x 32. A query is an alarm if at most a share `distance` of its codes differs from those
    of a remembered one: one code of 25.

    Grey images have no hue, so that each would be an alarm: it defends colour images alone.

    Attributes:
        history, action, capacity: as for all defenders with a history. A remembered query takes a byte for
            each block and 4 for each class: 6.5 MB for 10^5 of 32 x 32.
        block: height and width of a block.
        distance: the largest share of codes by which a match differs.
    """

    block: int = 7
    distance: float = 0.05

    card: ClassVar[Card | None] = Card(
        alters=("service",),
        paper='Choi, Kim and Choi, "PIHA: Detection Method Using Perceptual Image Hashing against '
        'Query-Based Adversarial Attacks", Future Generation Computer Systems, 2023',
        claims="detects query-based attacks by a hash that small changes leave alike",
        broken_by=("square", "oars-square"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block < 1:
            raise ValueError(f"block must be at least 1; found {self.block}")
        if not 0 <= self.distance < 1:
            raise ValueError(f"distance must be at least 0 and below 1; found {self.distance}")

    def unsuited(self, shape: tuple[int, ...]) -> str | None:
        if shape[0] == COLOURS and min(shape[1:]) > 1:
            return None
        return (
            f"piha compares hues: images must have {COLOURS} colours and sides above 1; found {list(shape)}"
        )

    def features(self, x: Tensor) -> Tensor:
        return torch.cat([hue_codes(piece, self.block) for piece in torch.split(x, 64)])

    def index(self, shape: tuple[int, ...]) -> CodeIndex:
        return CodeIndex(self.capacity, self.distance)
