"""PredCoin with a detector for each class that is predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from agents.defenders.predcoin.predcoin import PredCoin
from agents.defenders.predcoin.query_detector import QueryDetector
from agents.defenders.predcoin.query_material import Material
from arena.players.card import Card


@dataclass(frozen=True)
class PredCoinPerClass(PredCoin):
    """PredCoin with F'_Q, the design that its authors tried first (Guo et al., section 5.2, option 2).

    One network F_Q^i for each predicted class i takes the probabilities of all classes. Classes with fewer
    than 10 benign images or 10 queries share one network trained on all classes.
    Parameters as for PredCoin.
    """

    card: ClassVar[Card] = Card(
        alters=("label",),
        paper="Guo et al., PredCoin: Defense against Query-based Hard-label Attack, 2021, section 5.2 (F'_Q)",
        claims=(
            "a detector for each class finds estimation queries with false positives and negatives "
            "of at most 2.5 %"
        ),
        broken_by=("square",),
    )

    def detector_of(self, material: Material) -> QueryDetector:
        return material.detector_per_class
