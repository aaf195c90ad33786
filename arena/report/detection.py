"""What defenders flagged of an attacker's queries, and of clean images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arena.log.answers import PurposeCounts

ESTIMATION = ("gradient", "candidate")
"""The purposes of an estimate's queries, the attackers' words for them: what a detector is to tell."""


@dataclass(frozen=True)
class Detection:
    """Of a match: what its queries came to by purpose, most queries first."""

    asked: tuple[PurposeCounts, ...]

    @property
    def flagged(self) -> int:
        return sum(own.flagged for own in self.asked)

    def share(self, purposes: Iterable[str] | None = None) -> float:
        """The share flagged of the queries with these purposes, of all without any; NaN without queries."""
        wanted = None if purposes is None else set(purposes)
        own = [a for a in self.asked if wanted is None or a.purpose in wanted]
        queries = sum(a.queries for a in own)
        return sum(a.flagged for a in own) / queries if queries else math.nan

    @property
    def estimation(self) -> float:
        """The share flagged of estimation queries: 1 less the detector's false negatives."""
        return self.share(ESTIMATION)


def purposes_of(matches: Sequence[Detection]) -> list[str]:
    """The purposes that matches asked for, most queries first."""
    count: dict[str, int] = {}
    for detection in matches:
        for own in detection.asked:
            count[own.purpose] = count.get(own.purpose, 0) + own.queries
    return sorted(count, key=lambda purpose: (-count[purpose], purpose))
