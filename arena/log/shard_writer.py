"""Writes a shard into the log while it is played."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import BoundedSemaphore
from types import TracebackType
from typing import Protocol

import numpy as np
from sqlalchemy import Connection, delete, select, text, update

from arena.log import rows as as_columns
from arena.log import schema
from arena.log.bulk import append
from arena.log.database import insert_row, now
from arena.log.errors import LogError
from arena.records.pieces import LogLevel, Piece
from arena.records.reports import GameRows
from arena.rules.outcome import Ints

WAITING = 4
"""Pieces that may wait for the writing thread before the playing thread waits for it."""

_BEGIN_LOCK = 0x61726E62


class Writing(Protocol):
    """The log's writing thread, as a shard's writer needs it."""

    @property
    def name(self) -> str: ...

    def submit(self, job: Callable[[Connection], None], durable: bool = True) -> Future[None]: ...


class ShardWriter:
    """A `records.pieces.Recorder` whose pieces reach the log while the shard is played.

    It keeps the arrays that it is given, uncopied, until they are written. Made by `Log.shard`; used once, by
    one thread.
    """

    def __init__(
        self,
        log: Writing,
        match_id: int,
        number: int,
        repeat: int,
        fingerprint: str,
        keys: Ints,
        level: LogLevel,
    ) -> None:
        self._log = log
        self._match_id, self._number, self._repeat = match_id, number, repeat
        self._fingerprint = fingerprint
        self._keys = keys
        self._level = level
        self._id = self._first_game = self._notes = 0
        self._last: Piece | None = None
        self._room = BoundedSemaphore(WAITING)
        self._error: BaseException | None = None

    def record(self, piece: Piece) -> None:
        """Have a piece written; the one with the games closes the shard once the `with` statement ends.

        Raises:
            LogError: if an earlier one could not be written.
            ValueError: if the shard was closed already, or closes with other games than it began with.
        """
        if self._error is not None:
            raise self._error
        if self._last is not None:
            raise ValueError("a shard must end once; another piece came after its last")
        if piece.games is not None:
            self._check(piece.games)
            self._last = piece
        elif piece.queries or piece.marks or piece.notes:
            self._room.acquire()
            job = partial(self._write, piece)
            self._log.submit(job, durable=False).add_done_callback(self._written)

    def _check(self, rows: GameRows) -> None:
        whole = np.array_equal(np.sort(rows.game), np.arange(len(self._keys)))
        if not whole or not np.array_equal(rows.key, self._keys[rows.game]):
            raise ValueError("a shard must end with the games that it began with, all of them")

    def _written(self, chunk: Future[None]) -> None:
        self._error = self._error or chunk.exception()
        self._room.release()

    def _write(self, piece: Piece, connection: Connection) -> None:
        if self._error is not None:
            return
        self._claim(connection)
        if piece.queries:
            append(connection, schema.queries, as_columns.query_columns(piece.queries, self._first_game))
        if piece.marks:
            append(connection, schema.marks, as_columns.mark_columns(piece.marks, self._first_game))
        if piece.notes:
            columns = as_columns.note_columns(piece.notes, self._first_game, self._notes)
            append(connection, schema.notes, columns)
            self._notes += sum(len(rows.game) for rows in piece.notes)

    def _claim(self, connection: Connection) -> None:
        """Holds the shard's row for this transaction, so that nobody discards the shard meanwhile."""
        row = select(schema.shards.c.id).filter_by(id=self._id).with_for_update(read=True)
        if connection.execute(row).first() is None:
            raise LogError(
                f"log {self._log.name}: another process discarded shard {self._number} of match "
                f"{self._match_id} while it was played here; let one command at a time play a match"
            )

    def _begin(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            # Others wait before they begin a shard; on SQLite, before any transaction that writes.
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_BEGIN_LOCK})"))
        place = {"match_id": self._match_id, "number": self._number, "repeat": self._repeat}
        earlier = connection.execute(select(schema.shards).filter_by(**place)).first()
        if earlier is not None and earlier.state == schema.FINISHED:
            raise LogError(
                f"log {self._log.name}: shard {self._number} (repeat {self._repeat}) of match "
                f"{self._match_id} is already finished"
            )
        if earlier is not None:
            discard(connection, earlier.id)
        self._first_game = _next_game(connection)
        values = place | {
            "state": schema.PLAYING,
            "fingerprint": self._fingerprint,
            "first_game": self._first_game,
            "games": len(self._keys),
            "level": self._level,
            "started": now(),
        }
        self._id = insert_row(connection, schema.shards, values)

    def _finish(self, last: Piece, connection: Connection) -> None:
        if self._error is not None:
            raise self._error
        assert last.games is not None
        self._write(last, connection)
        place = (self._first_game, self._match_id, self._number, self._repeat)
        append(connection, schema.games, as_columns.game_columns(last.games, *place))
        if last.purposes:
            append(connection, schema.purposes, as_columns.purpose_columns(last.purposes, self._id))
        finished = {"state": schema.FINISHED, "ended": now()}
        connection.execute(update(schema.shards).filter_by(id=self._id).values(finished))

    def __enter__(self) -> ShardWriter:
        self._log.submit(self._begin, durable=False).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._error = self._error or error
        elif self._last is None:
            raise ValueError("a shard must end with its games; none were recorded")
        else:
            self._log.submit(partial(self._finish, self._last)).result()


def _next_game(connection: Connection) -> int:
    """The first id that no shard holds."""
    shards = schema.shards.c
    last = select(shards.first_game + shards.games).order_by(shards.first_game.desc()).limit(1)
    return connection.execute(last).scalar() or 1


def discard(connection: Connection, shard_id: int) -> None:
    """Removes an unfinished shard and all its rows."""
    row = select(schema.shards).filter_by(id=shard_id).with_for_update()
    shard = connection.execute(row).first()
    if shard is None or shard.state == schema.FINISHED:
        return
    for table in (schema.queries, schema.marks, schema.notes):
        ids = table.c.game_id
        theirs = (ids >= shard.first_game) & (ids < shard.first_game + shard.games)
        connection.execute(delete(table).where(theirs))
    connection.execute(delete(schema.shards).filter_by(id=shard_id))
