"""The matches of a call, played shard by shard; into a log, too, where one is wanted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from arena.game.openings import draw_resources
from arena.game.shard import Job, play_shard, record_unplayed, seed_of
from arena.notebook.fixtures import Fixture
from arena.notebook.ground import Ground
from arena.players.registry import public_parameters
from arena.records.joining import join_games, join_marks
from arena.records.match_record import MatchRecord
from arena.records.pieces import LogLevel, Piece, Recorder
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Ints


class Book(Protocol):
    """Where the shards of a call are written while they are played."""

    def shard(self, info: MatchInfo, number: int, keys: Ints) -> AbstractContextManager[Recorder]: ...


def play_fixtures(
    found: Sequence[Fixture], on: Ground, run: RunInfo, book: Book | None, keep_rows: bool
) -> list[MatchRecord]:
    """The records of the matches, in order; those of an attacker's smaller budgets within that of its
    largest.

    Args:
        keep_rows: whether records keep every charged query.
    """
    level: LogLevel = "queries" if keep_rows else run.level if book is not None else "games"
    records: list[MatchRecord] = []
    shorter: list[MatchRecord] = []
    for fixture in found:
        record = _play(fixture, on, run, book, level, _Tape(keep_rows))
        if not fixture.last:
            shorter.append(record)
            continue
        marks = {at: rows for part in (*shorter, record) for at, rows in part.marks.items()}
        whole = replace(record, marks=dict(sorted(marks.items())), shorter=tuple(shorter))
        records.append(replace(whole, prefix=fixture.attacker.needs.prefix))
        shorter = []
    return records


def _play(
    fixture: Fixture, on: Ground, run: RunInfo, book: Book | None, level: LogLevel, tape: _Tape
) -> MatchRecord:
    info, openings = fixture.info, fixture.openings
    for number, first in enumerate(range(0, len(openings), on.shard)):
        part = openings[first : first + on.shard]
        job = Job(
            stack=fixture.stack,
            openings=part,
            threat=info.threat,
            defender_seed=seed_of("defender", on.seed, 0),
            at=info.at,
            votes=on.votes,
            attacker=fixture.attacker,
            attacker_seed=seed_of("attacker", on.seed, 0),
            resources=draw_resources(
                info.threat, on.pool, part, on.seed, on.surrogates if info.threat.resources.surrogates else ()
            ),
            defense=public_parameters(fixture.stack.defenders),
            level=level,
            margin_base=on.margin_base,
        )
        keys = part.key.cpu().numpy()
        with nullcontext() if book is None else book.shard(info, number, keys) as written:
            recorder: Recorder = tape if written is None else _Both(tape, written)
            if fixture.failed is None:
                play_shard(job, recorder)
            else:
                record_unplayed(part, info.threat, info.at, fixture.failed, recorder)
    return tape.record_of(info, run, fixture.originals)


class _Both:
    """A recorder that passes each piece on to two."""

    def __init__(self, first: Recorder, second: Recorder) -> None:
        self.recorders = (first, second)

    def record(self, piece: Piece) -> None:
        for recorder in self.recorders:
            recorder.record(piece)


class _Tape:
    """Collects a match that is played shard by shard, with games counted over the match."""

    def __init__(self, keep_rows: bool) -> None:
        self.keep_rows = keep_rows
        self.games: list[GameRows] = []
        self.query_rows: list[QueryRows] = []
        self.mark_rows: list[MarkRows] = []
        self.notes: list[NoteRows] = []
        self.purposes: dict[str, Ints] = {}
        self._first = 0

    def record(self, piece: Piece) -> None:
        first = self._first
        if self.keep_rows:
            self.query_rows += [replace(rows, game=rows.game + first) for rows in piece.queries]
        self.mark_rows += [replace(rows, game=rows.game + first) for rows in piece.marks]
        self.notes += [replace(rows, game=rows.game + first) for rows in piece.notes]
        self._count(piece.purposes)
        if piece.games is not None:
            self.games.append(replace(piece.games, game=piece.games.game + first))
            self._first += len(piece.games)

    def _count(self, purposes: Mapping[str, Ints]) -> None:
        for purpose, counts in purposes.items():
            self.purposes[purpose] = self.purposes.get(purpose, 0) + counts

    def record_of(self, info: MatchInfo, run: RunInfo, originals: NDArray[np.float32]) -> MatchRecord:
        games = join_games(self.games)
        by_count: dict[int, list[MarkRows]] = {}
        for rows in self.mark_rows:
            by_count.setdefault(rows.at, []).append(rows)
        marks = {at: join_marks(parts, len(games)) for at, parts in sorted(by_count.items())}
        kept = (self.query_rows, self.notes, self.purposes)
        return MatchRecord(info, run, originals, games, marks, *kept)
