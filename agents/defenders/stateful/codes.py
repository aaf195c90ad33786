"""The remembered query with the fewest differing codes."""

from __future__ import annotations

import torch
from torch import Tensor

from agents.defenders.stateful.history import Index, Ring


class CodeIndex(Index):
    """The last `capacity` queries as codes [D]; an alarm differs in at most a share `distance` of the codes
    of one of them (their normalised Hamming distance)."""

    def __init__(self, capacity: int, distance: float) -> None:
        super().__init__(capacity)
        self.distance, self.codes = distance, Ring(capacity)

    def find(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Alarms, and the query with the fewest differences."""
        apart = torch.full((len(features),), 2.0, device=features.device)
        number = torch.full((len(features),), -1, device=features.device)
        if len(self.codes):
            held = self.codes.rows()
            for i, codes in enumerate(features):
                differing, place = (held != codes).sum(dim=1).min(dim=0)
                apart[i], number[i] = differing / held.shape[1], self.codes.numbers(place)
        return apart <= self.distance, number

    def add(self, features: Tensor, answers: Tensor, flagged: Tensor) -> None:
        """Remember codes, in order."""
        self.codes.add(features)
        self.answers.add(answers)
