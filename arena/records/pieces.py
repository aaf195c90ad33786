"""The record of a shard in pieces of bounded size, from the process that plays it to the one that keeps
it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Protocol

import numpy as np

from arena.records.courses import Courses
from arena.records.reports import CourseRows, GameRows, MarkRows, NoteRows, QueryRows
from arena.rules.outcome import Ints
from arena.rules.threat import Threat

LogLevel = Literal["queries", "changes", "games"]
"""How much is recorded of a shard's queries: `queries`: every row; `changes`: rows that bettered a game's
best image, hits, refused and flagged rows, and each game's first; `games`: none."""

PIECE_ROWS = 100_000
"""A piece holds at most so many rows of all kinds, plus those of one volley."""
PIECE_SECONDS = 1.0
"""A piece is sent after so many seconds even if it is not full, so that progress can be seen."""


@dataclass(frozen=True)
class Piece:
    """A part of a shard's record, in the order in which it happened.

    Attributes:
        answered: how many queries were charged since the piece before, recorded or not.
        games: how all of the shard's games ended; only in the last piece.
        purposes: by purpose, [5]: how many of the shard's queries there were, were refused, were flagged,
            were hits, and were answered with a winning label outside the ball; only in the last piece.
        courses: how the shard's games went; only in the last piece, and None where nobody summed it up.
    """

    queries: list[QueryRows] = field(default_factory=list)
    marks: list[MarkRows] = field(default_factory=list)
    notes: list[NoteRows] = field(default_factory=list)
    answered: int = 0
    games: GameRows | None = None
    purposes: Mapping[str, Ints] = field(default_factory=dict)
    courses: CourseRows | None = None


class ShardLost(Exception):
    """A shard is not, or no longer, to be played here: another process plays or played it, or what was kept
    of it is gone. Who looks again later finds it finished, in play, or free."""


class Recorder(Protocol):
    """Keeps a shard's record: receives its pieces in order. The piece with `games` is the last.

    It may raise `ShardLost`.
    """

    def record(self, piece: Piece) -> None: ...


class Pieces:
    """A `Listener` that cuts a Referee's reports on a shard into pieces for a recorder.

    Args:
        threat: the rules, by which it is summed up how games went; None: it is not.
    """

    def __init__(self, recorder: Recorder, level: LogLevel = "queries", threat: Threat | None = None) -> None:
        self.recorder, self.level = recorder, level
        self._courses = None if threat is None else Courses(threat)
        self._piece, self._rows, self._answered = Piece(), 0, 0
        self._since = time.monotonic()
        self._purposes: dict[str, Ints] = {}
        self._games: GameRows | None = None
        self._closed = False

    def queries(self, rows: QueryRows) -> None:
        told = (rows.refused, rows.flagged, rows.hit, rows.outside)
        counts = [len(rows), *(np.count_nonzero(column) for column in told)]
        self._purposes[rows.purpose] = self._purposes.get(rows.purpose, 0) + np.array(counts, np.int64)
        self._answered += len(rows)
        if self._courses is not None:
            self._courses.add(rows)
        if len(rows := at_level(rows, self.level)):
            self._piece.queries.append(rows)
            self._rows += len(rows)
        self._cut()

    def marks(self, rows: MarkRows) -> None:
        if len(rows.game):
            self._piece.marks.append(rows)
            self._rows += len(rows.game)
            self._cut()

    def notes(self, rows: NoteRows) -> None:
        if len(rows.game):
            self._piece.notes.append(rows)
            self._rows += len(rows.game)
            self._cut()

    def games(self, rows: GameRows) -> None:
        if self._games is not None:
            raise ValueError("a shard's games end together, once")
        self._games = rows

    def close(self) -> None:
        """Let the last piece leave.

        Raises:
            ValueError: if no games were reported, or it was called before.
        """
        if self._closed:
            raise ValueError("a shard's record was closed before")
        if self._games is None:
            raise ValueError("a shard must end with its games; none were reported")
        self._closed = True
        courses = None if self._courses is None else self._courses.close(len(self._games))
        self._leave(games=self._games, purposes=self._purposes, courses=courses)

    def _cut(self) -> None:
        if self._rows >= PIECE_ROWS or time.monotonic() - self._since >= PIECE_SECONDS:
            self._leave()

    def _leave(self, **last: Any) -> None:
        piece = replace(self._piece, answered=self._answered, **last)
        self._piece, self._rows, self._answered = Piece(), 0, 0
        self._since = time.monotonic()
        self.recorder.record(piece)


def at_level(rows: QueryRows, level: LogLevel) -> QueryRows:
    """Those of the rows that are recorded at a level."""
    if level == "queries":
        return rows
    if level == "games":
        kept = np.zeros(0, np.int64)
    else:
        kept = np.flatnonzero(rows.better | rows.hit | rows.refused | rows.flagged | (rows.turn == 1))
    columns = {f.name: getattr(rows, f.name) for f in fields(rows) if f.name != "purpose"}
    chosen: dict[str, Any] = {name: c if c is None else c[kept] for name, c in columns.items()}
    return replace(rows, **chosen)
