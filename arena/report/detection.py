"""What defenders flagged of an attacker's queries, and of clean images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from arena.league.rates import Rate, rate
from arena.log import Log, questions
from arena.log.answers import LoggedMatch, PurposeCounts

ESTIMATION = ("gradient", "candidate")
"""Purposes of an estimate's queries, as attackers name them: those that a detector should flag."""


@dataclass(frozen=True)
class Detection:
    """The flagged queries of a match.

    Attributes:
        asked: counts by purpose, most queries first.
        of_one: by query count, how often the detector flags one estimation query of each game, drawn
            uniformly from those that it had sent by then: the mean of the games' shares, with an interval
            over their images. What a table of one query an image estimates (PredCoin, Table 2), without the
            chance of its draws. Empty where nothing was flagged, or not every query was logged.
    """

    asked: tuple[PurposeCounts, ...]
    of_one: Mapping[int, Rate] = field(default_factory=dict)

    @property
    def flagged(self) -> int:
        return sum(own.flagged for own in self.asked)

    def share(self, purposes: Iterable[str] | None = None) -> float:
        """The share flagged of the queries with these purposes (of all, if none is named); NaN without
        queries."""
        wanted = None if purposes is None else set(purposes)
        own = [a for a in self.asked if wanted is None or a.purpose in wanted]
        queries = sum(a.queries for a in own)
        return sum(a.flagged for a in own) / queries if queries else math.nan

    @property
    def estimation(self) -> float:
        """The share flagged of estimation queries: 1 minus the detector's false negatives."""
        return self.share(ESTIMATION)

    @property
    def wrong(self) -> int:
        """How many answers were wrong: the hits, and those outside the ball; as far as the log tells."""
        return sum((own.hits or 0) + (own.outside or 0) for own in self.asked)

    @property
    def outside(self) -> int:
        """How many wrong answers lay outside the ball."""
        return sum(own.outside or 0 for own in self.asked)

    @property
    def straying(self) -> str:
        """The purpose of the most wrong answers outside the ball; "" without any."""
        most = max(self.asked, key=lambda own: own.outside or 0, default=None)
        return most.purpose if most is not None and most.outside else ""


def read_detection(log: Log, match: LoggedMatch) -> Detection:
    """What was flagged in a match, from the log."""
    told = Detection(tuple(questions.asked(log, match.id)))
    if not told.flagged:
        return told
    counts = sorted({*match.info.at, match.info.threat.budget})
    shares = questions.flagged_shares(log, match.id, ESTIMATION, counts)
    of_one = {at: rate(of.share, of.image) for at, of in shares.items() if len(of.image)}
    return Detection(told.asked, of_one)


def purposes_of(matches: Sequence[Detection]) -> list[str]:
    """The purposes of the queries of matches, most queries first."""
    count: dict[str, int] = {}
    for detection in matches:
        for own in detection.asked:
            count[own.purpose] = count.get(own.purpose, 0) + own.queries
    return sorted(count, key=lambda purpose: (-count[purpose], purpose))
