"""The types in which the log answers questions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Bools, Floats, Ints, Reason


@dataclass(frozen=True)
class LoggedRun:
    """A scenario that was played; `ended` is None while it is not whole. Times are UTC."""

    id: int
    info: RunInfo
    started: datetime
    ended: datetime | None


@dataclass(frozen=True)
class LoggedMatch:
    """One attacker against one defended classifier; `run_id` is the run that first played it."""

    id: int
    run_id: int
    info: MatchInfo


@dataclass(frozen=True)
class Curve:
    """Hits against queries: `lost[i]` of the played games had one by turn `turn[i]`, which ascends."""

    turn: Ints
    lost: Ints
    drawn: int
    played: int

    @property
    def accuracy(self) -> Floats:
        """The share of the games drawn that are kept from `turn` on; (played / drawn) before the first."""
        return (self.played - self.lost) / max(self.drawn, 1)

    @property
    def success(self) -> Floats:
        """The share of the games played that are won from `turn` on."""
        return self.lost / max(self.played, 1)


@dataclass(frozen=True)
class LoggedGames:
    """How a match's games ended, [n] each, ordered by repeat, shard and place in it.

    `target` is -1 when untargeted, `hit_at` and `accepted_at` are 0 for none, and `l2` and `linf` are
    infinite where the final image is no hit. Of the fresh answers of a vote, in two halves, `wrong_a` of
    `asked_a` and `wrong_b` of `asked_b` were wrong (0 of 0 where none were asked, and before layout 0005);
    `again` is NaN where no defender remembers. From `flagged` on they are as in `records.reports.CourseRows`;
    NaN where it is not known (before layout 0007), but `alarm_at` is NaN also for none.
    """

    game: Ints
    repeat: Ints
    shard: Ints
    image: Ints
    label: Ints
    target: Ints
    reason: list[Reason]
    queries: Ints
    insider_queries: Ints
    refused: Ints
    answered: Bools
    vote: Floats
    wrong_a: Ints
    asked_a: Ints
    wrong_b: Ints
    asked_b: Ints
    again: Floats
    base: Bools
    hit_at: Ints
    accepted_at: Ints
    l2: Floats
    linf: Floats
    flagged: Floats
    alarm_at: Floats
    duplicates: Floats
    margin_first: Floats
    margin_late: Floats
    margin_best: Floats
    distance_first: Floats
    distance_late: Floats

    def __len__(self) -> int:
        return len(self.game)


@dataclass(frozen=True)
class LoggedMarks:
    """A match's verdicts at query counts, [n] each, ordered by `at`, then as `LoggedGames`.

    `l2` and `linf` are infinite if there was no hit yet; `query_l2` is the l2 distance of the last query by
    then, NaN if that is not known; the others as in `LoggedGames`.
    """

    at: Ints
    game: Ints
    turn: Ints
    answered: Bools
    vote: Floats
    wrong_a: Ints
    asked_a: Ints
    wrong_b: Ints
    asked_b: Ints
    again: Floats
    base: Bools
    l2: Floats
    linf: Floats
    query_l2: Floats

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True)
class PurposeCounts:
    """The counts of a match's queries of one purpose, over its finished shards, at every log level.

    `outside`: answered with a winning label outside the ball; it and `hits` are None where a log of a layout
    before 0005 does not tell.
    """

    purpose: str
    queries: int
    refused: int
    flagged: int
    hits: int | None
    outside: int | None


@dataclass(frozen=True)
class LoggedShares:
    """Of the games [n] of a match that sent queries of some purposes by a query count: how many these were,
    and how many of them were flagged."""

    image: Ints
    queries: Ints
    flagged: Ints

    @property
    def share(self) -> Floats:
        """[n] how likely one of a game's queries is flagged, drawn uniformly."""
        return np.asarray(self.flagged / self.queries)


@dataclass(frozen=True)
class LoggedQueries:
    """A game's logged queries, [n] each, in order.

    `margin` is NaN where the defender declined, `margin_base` where the match has no monitor (and in layouts
    before 0009).
    """

    turn: Ints
    account: Ints
    purpose: list[str]
    label: Ints
    refused: Bools
    flagged: Bools
    margin: Floats
    l2: Floats
    linf: Floats
    hit: Bools
    margin_base: Floats

    def __len__(self) -> int:
        return len(self.turn)


@dataclass(frozen=True)
class LoggedGame:
    """One game, with its final image.

    Attributes:
        place: the game's place in its shard.
        image: the clean image's number in the data set.
        target, hit_at, accepted_at: None for none.
        again: None where no defender remembers.
        l2, linf: of the final image; infinite if it is no hit.
        final: [C,H,W] float32 in [0,1], as the service saw it.
    """

    id: int
    match_id: int
    shard: int
    repeat: int
    place: int
    image: int
    label: int
    target: int | None
    reason: Reason
    queries: int
    insider_queries: int
    refused: int
    answered: bool
    vote: float
    again: bool | None
    base: bool
    hit_at: int | None
    accepted_at: int | None
    l2: float
    linf: float
    final: NDArray[np.float32]


@dataclass(frozen=True)
class NoteOfGame:
    """A remark about a game."""

    game_id: int
    image: int
    repeat: int
    turn: int
    key: str
    value: str | float


@dataclass(frozen=True)
class Found:
    """The result of a statement."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
