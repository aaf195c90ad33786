"""Writes runs, matches and shards into the log, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from threading import Event, local
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sqlalchemy import Connection, select, update

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.interruptions import noting
from arena.log import schema
from arena.log.claims import discard_unfinished, in_play
from arena.log.database import Database, now, parse_address
from arena.log.entries import begin_match
from arena.log.errors import LogError, Unreachable, told
from arena.log.processes import Presence
from arena.log.rows import benign_of, utility_of
from arena.log.runs import begin_run, find_or_begin_run, record_benign, record_utility
from arena.log.shard_writer import ShardWriter
from arena.log.waiting import Waiting
from arena.records.pieces import LogLevel
from arena.records.runs import MatchInfo, RunInfo

T = TypeVar("T")


class Log:
    """An open log. Close it, or use it in a `with` statement.

    All writes go through one thread with one connection, in the order of the calls.
    Every method raises `LogError` with one sentence if the database refuses.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._connection: Connection | None = None
        self.presence = Presence(database.address.path)
        self._closing = Event()
        self._reading = local()

    @property
    def name(self) -> str:
        """The log's path, or its URL without the password."""
        return self.database.name

    def begin_run(self, info: RunInfo) -> int:
        """Records a new run; returns its id."""
        return self._do(partial(begin_run, info=info, started=now()))

    def find_or_begin_run(self, info: RunInfo) -> tuple[int, bool]:
        """The newest run with the same fingerprint, or a new one, in one step that no other process takes
        meanwhile: its id, and whether it has ended."""
        return self._do(partial(find_or_begin_run, info=info, started=now()))

    def end_run(self, run_id: int) -> None:
        """Records that the run has ended, unless another process did."""
        unended = (schema.runs.c.id == run_id, schema.runs.c.ended.is_(None))
        self._do(lambda c: c.execute(update(schema.runs).where(*unended).values(ended=now())))

    def begin_match(self, run_id: int, info: MatchInfo, fresh: bool = False) -> int:
        """Makes a match one of the run's; returns its id.

        A match with the same fingerprint is used again wherever it is in this log, finished or not, in play
        or not: of several the one with most finished shards, the newest of these. Else a new one begins.

        Args:
            fresh: use matches that this run itself began, and no others.

        Raises:
            LogError: if the run has another match under that number.
        """
        return self._do(lambda c: begin_match(c, run_id, info, fresh))

    def record_words(self, run_id: int, number: int, words: Mapping[str, Any]) -> None:
        """Records how a run shows a match that it has begun: columns of `entries`, in place of what was."""
        entry = update(schema.entries).filter_by(run_id=run_id, number=number)
        self._do(lambda c: c.execute(entry.values(schema.storable_row(words))))

    def record_utility(self, match_id: int, utility: Utility) -> None:
        """Records the utility of the match's defended classifier on clean images, unless one is recorded on
        as many, as by another process."""
        self._do(partial(record_utility, match_id=match_id, utility=utility))

    def find_utility(self, match_id: int, images: int) -> Utility | None:
        """What `record_utility` recorded of so many images; None if nothing yet."""
        asked = select(schema.utilities).filter_by(match_id=match_id, images=images)
        row = self._do(lambda c: c.execute(asked).first())
        return None if row is None else utility_of(row)

    def record_benign(self, match_id: int, loss: BenignLoss) -> None:
        """Records what benign clients lost to the match's defended classifier, unless it is recorded."""
        self._do(partial(record_benign, match_id=match_id, loss=loss))

    def find_benign(self, match_id: int, sessions: int) -> list[BenignLoss]:
        """What `record_benign` recorded of so many sessions of each kind."""
        asked = select(schema.benign).filter_by(match_id=match_id, sessions=sessions)
        return self._do(lambda c: [benign_of(row) for row in c.execute(asked)])

    def finished_shards(self, match_id: int) -> dict[tuple[int, int], str]:
        """The fingerprints of the match's finished shards by (number, repeat)."""
        shards = schema.shards.c
        asked = select(shards.number, shards.repeat, shards.fingerprint).where(
            shards.match_id == match_id, shards.state == schema.FINISHED
        )
        return self._do(lambda c: {(row.number, row.repeat): row.fingerprint for row in c.execute(asked)})

    def shard(
        self,
        match_id: int,
        number: int,
        repeat: int,
        fingerprint: str,
        keys: ArrayLike,
        level: LogLevel = "queries",
    ) -> ShardWriter:
        """A `records.pieces.Recorder` to play a shard into, in a `with` statement.

        If the statement ends well, the shard is finished, on disk, all at once. If it ends with an
        exception, no question sees anything of the shard.

        Args:
            keys: the numbers of the games' images, [G], in the order of the shard.

        Raises:
            LogError: on entering, if the shard is finished or another process plays it (a `ShardLost`); while
                playing and on leaving, if its rows cannot be written.
        """
        return ShardWriter(self, match_id, number, repeat, fingerprint, np.asarray(keys, np.int64), level)

    def in_play(self, match_id: int) -> dict[tuple[int, int], str]:
        """Which shards of the match other processes play, by (number, repeat): who does, in words."""
        return self._do(lambda c: in_play(c, self.presence, match_id))

    def discard_unfinished(self, match_id: int) -> int:
        """Removes what is left of unfinished shards of the match that no living process plays; returns how
        many there were."""
        return self._do(lambda c: discard_unfinished(c, self.presence, match_id))

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Within it, this thread's questions are answered from the log as it was at one moment, whatever is
        written meanwhile. One within another is part of it."""
        if (seen := getattr(self._reading, "seen", None)) is not None:
            yield seen
            return
        with ExitStack() as stack:
            with told(self.name):
                connection = stack.enter_context(self.database.reader.connect())
                stack.enter_context(connection.begin())
            self._reading.seen = connection
            stack.callback(setattr, self._reading, "seen", None)
            yield connection

    def submit(self, job: Callable[[Connection], T], durable: bool = True, again: bool = True) -> Future[T]:
        """Has the writing thread do a job in a transaction of its own.

        Args:
            durable: whether it survives a power cut as soon as the future is done; else it survives the end
                of this process, but a power cut only after a later durable one.
            again: whether a server that goes away is waited for, and the job done again, for which it must
                not matter whether it was done before; else the future raises `Unreachable`.
        """
        return self._thread.submit(copy_context().run, self._transact, job, durable, again)

    def _do(self, job: Callable[[Connection], T]) -> T:
        # A finished shard is durable, and with it everything written before it.
        return self.submit(job, durable=False).result()

    def _transact(self, job: Callable[[Connection], T], durable: bool, again: bool) -> T:
        waiting = Waiting(self.name, self._closing)
        while True:
            try:
                return self._once(job, durable)
            except Unreachable as error:
                if not again:
                    raise
                waiting.wait(error)

    def _once(self, job: Callable[[Connection], T], durable: bool) -> T:
        with told(self.name):
            try:
                connection = self._connection = self._connection or self.database.connect(self.presence)
                with self.database.transaction(connection, durable):
                    return job(connection)
            except BaseException:
                self._disconnect()
                raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _leave(self) -> None:
        """What the writing thread does last."""
        try:
            if self.presence.entered:
                with suppress(LogError):
                    self._once(self.presence.leave, durable=False)
        finally:
            self._disconnect()

    def close(self) -> None:
        """Waits for pending writes, and closes the database; a first signal meanwhile is only noted."""
        with noting():
            self._closing.set()
            self._thread.submit(self._leave)
            self._thread.shutdown()
            self.presence.release()
            self.database.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_log(where: str | Path, create: bool = True) -> Log:
    """Opens the log at a path (SQLite) or URL (SQLite, PostgreSQL), and brings its layout up to date.

    Args:
        create: whether to make one where there is none.

    Raises:
        LogError: if there is none and none is made, if it cannot be reached, read or written, if it is
            something else, or if a newer version wrote it.
    """
    database = Database(parse_address(where))
    database.prepare(create)
    return Log(database)
