"""What benign clients lost to a defended classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from arena.statistics import wilson

What: TypeAlias = Literal["refused", "flagged", "banned", "declined", "altered", "lost"]


@dataclass(frozen=True)
class BenignLoss:
    """What one kind of client lost, with one history.

    All sessions are equally long, so that the mean of their shares is the share of all queries. A query of a
    client whose account was closed is refused and banned, without being asked.

    Attributes:
        client, history: by name. sessions: the units, one a client. queries: of all of them.
        draws: fresh answers to each image; 1 unless the defender is random.
        refused, flagged, banned: so many queries; banned ones are refused, too.
        declined: answered without a label.
        altered: answered with another label than the undefended classifier gives the very same image; of a
            random defender the share of its fresh answers, summed over the queries that got a label.
        sessions_refused, ...: so many sessions with at least one such query; sessions_lost: with one that is
            refused, declined or altered in the answer that the client got.
        delay: seconds that a query takes longer than undefended, the median over the turns of the sessions,
            with its 95 % interval; NaN where the interval covers 0, or there is none. Unlike the others it
            varies from one measurement to the next.
    """

    client: str
    history: str
    sessions: int
    queries: int
    draws: int
    refused: int
    flagged: int
    banned: int
    declined: int
    altered: float
    sessions_refused: int
    sessions_flagged: int
    sessions_banned: int
    sessions_altered: int
    sessions_lost: int
    delay: float = math.nan
    delay_low: float = math.nan
    delay_high: float = math.nan

    @property
    def lost(self) -> float:
        """So many queries were not answered as undefended: refused, declined or altered."""
        return self.refused + self.declined + self.altered

    def share(self, what: What) -> tuple[float, float, float]:
        """Of the queries, with a 95 % interval over sessions: Wilson's, as if each session were won or lost
        as a whole, which makes it wider, never narrower."""
        return _share(getattr(self, what) / self.queries, self.sessions)

    def share_of_sessions(self, what: What) -> tuple[float, float, float]:
        """Of the sessions, with Wilson's 95 % interval; not of `declined`."""
        return _share(getattr(self, f"sessions_{what}") / self.sessions, self.sessions)


def mean_share(losses: Sequence[BenignLoss], what: What) -> tuple[float, float, float]:
    """The plain mean over kinds of clients of a share of the queries, as `BenignLoss.share`; NaN without any.

    All kinds send views of the same images, so that the sessions of one image may be lost together: units are
    the images, as many as a kind has sessions.
    """
    if not losses:
        return math.nan, 0.0, 1.0
    value = math.fsum(getattr(loss, what) / loss.queries for loss in losses) / len(losses)
    return _share(value, min(loss.sessions for loss in losses))


def _share(value: float, units: int) -> tuple[float, float, float]:
    return (value, *wilson(min(value * units, units), units))
