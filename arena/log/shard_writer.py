"""Writes a shard into the log while it is played."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import BoundedSemaphore
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np
from sqlalchemy import Connection, select, update

from arena.log import rows as as_columns
from arena.log import schema
from arena.log.bulk import append
from arena.log.claims import claim
from arena.log.database import now
from arena.log.errors import SAFE, ShardLostInLog, Unreachable
from arena.log.processes import Presence
from arena.records.pieces import LogLevel, Piece
from arena.records.reports import GameRows
from arena.rules.outcome import Ints

WAITING = 4
"""Pieces that may wait for the writing thread before the playing thread waits for it."""

T = TypeVar("T")


class Writing(Protocol):
    """The log's writing thread, as a shard's writer needs it."""

    @property
    def name(self) -> str: ...

    @property
    def presence(self) -> Presence: ...

    def submit(
        self, job: Callable[[Connection], T], durable: bool = True, again: bool = True
    ) -> Future[T]: ...


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
        self._begun_on: Connection | None = None

    def record(self, piece: Piece) -> None:
        """Have a piece written; the one with the games closes the shard once the `with` statement ends.

        Raises:
            LogError: if an earlier one could not be written; a `ShardLost`, too, if that was because another
                process plays the shard now, or because the server went away.
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
            self._log.submit(job, durable=False, again=False).add_done_callback(self._written)

    def _check(self, rows: GameRows) -> None:
        whole = np.array_equal(np.sort(rows.game), np.arange(len(self._keys)))
        if not whole or not np.array_equal(rows.key, self._keys[rows.game]):
            raise ValueError("a shard must end with the games that it began with, all of them")

    def _written(self, chunk: Future[None]) -> None:
        error = chunk.exception()
        if isinstance(error, Unreachable):
            error = self._lost(error)
        self._error = self._error or error
        self._room.release()

    def _lost(self, error: Unreachable) -> ShardLostInLog:
        lost = ShardLostInLog(str(error))
        lost.__cause__ = error
        return lost

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
        if connection is not self._begun_on:
            raise Unreachable(
                f"log {self._log.name}: the connection to the server was lost while {self._what} was played, "
                f"and with it perhaps a part of that: {SAFE}"
            )
        row = select(schema.shards.c.id).filter_by(id=self._id).with_for_update(read=True)
        if connection.execute(row).first() is None:
            raise ShardLostInLog(
                f"log {self._log.name}: another process discarded {self._what} while it was played here: "
                f"{SAFE}"
            )

    @property
    def _what(self) -> str:
        return f"shard {self._number} (repeat {self._repeat}) of match {self._match_id}"

    def _begin(self, connection: Connection) -> str | None:
        """Why the shard cannot be had; None where it now is this process's."""
        self._begun_on = connection
        place = {"match_id": self._match_id, "number": self._number, "repeat": self._repeat}
        values = {
            "fingerprint": self._fingerprint,
            "games": len(self._keys),
            "level": self._level,
            "started": now(),
        }
        found = claim(connection, self._log.presence, place, values)
        if isinstance(found, str):
            return found
        self._id, self._first_game = found
        return None

    def _finish(self, last: Piece, connection: Connection) -> None:
        if self._error is not None:
            raise self._error
        assert last.games is not None
        self._write(last, connection)
        place = (self._first_game, self._match_id, self._number, self._repeat)
        append(connection, schema.games, as_columns.game_columns(last.games, last.courses, *place))
        if last.purposes:
            append(connection, schema.purposes, as_columns.purpose_columns(last.purposes, self._id))
        finished = {"state": schema.FINISHED, "ended": now(), "process": None}
        connection.execute(update(schema.shards).filter_by(id=self._id).values(finished))

    def _is_finished(self, connection: Connection) -> bool:
        """Locked, so that it waits for a connection that was cut amid the last transaction."""
        row = select(schema.shards.c.state).filter_by(id=self._id).with_for_update()
        return connection.execute(row).scalar() == schema.FINISHED

    def _close(self, last: Piece) -> None:
        try:
            self._log.submit(partial(self._finish, last), again=False).result()
        except Unreachable as error:  # nobody heard whether it was the end of the transaction that was lost
            if not self._log.submit(self._is_finished).result():
                raise self._lost(error) from error

    def _release(self, connection: Connection) -> None:
        """Lets others play the shard, while this process lives on."""
        mine = {"id": self._id, "state": schema.PLAYING}
        connection.execute(update(schema.shards).filter_by(**mine).values(process=None))

    def __enter__(self) -> ShardWriter:
        taken = self._log.submit(self._begin, durable=False).result()
        if taken is not None:
            raise ShardLostInLog(f"log {self._log.name}: {self._what} {taken}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._error = self._error or error
            self._log.submit(self._release, durable=False, again=False)
        elif self._last is None:
            raise ValueError("a shard must end with its games; none were recorded")
        else:
            self._close(self._last)
