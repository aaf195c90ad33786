"""The rows of the log's tables, in pieces of bounded size, for files.

The columns are those of the schema, whatever they are; final images are read apart from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, Connection, LargeBinary, Select, Table, func, select

from arena.log import schema
from arena.log.errors import LogError, told
from arena.log.images import unpack
from arena.log.writer import Log

ROWS = 10_000
"""Rows in memory at a time."""
_PIXELS = 2**24

TABLES: dict[str, Table] = {
    table.name: table for table in schema.metadata.sorted_tables if table is not schema.processes
}


def columns_of(table: Table) -> list[Column[Any]]:
    """A table's columns without images."""
    return [column for column in table.columns if not isinstance(column.type, LargeBinary)]


@dataclass(frozen=True)
class FinalImages:
    """The final images of some games of a match.

    Attributes:
        game, repeat, image, label: [n] as in table `games`.
        final: [n,C,H,W] float32 in [0,1].
    """

    game: NDArray[np.int64]
    repeat: NDArray[np.int64]
    image: NDArray[np.int64]
    label: NDArray[np.int64]
    final: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.game)


class Snapshot:
    """A log, or one of its runs, as it was at one moment: finished shards, and all runs and matches."""

    def __init__(self, log: Log, connection: Connection, run_id: int | None) -> None:
        self._log, self._connection, self._run_id = log, connection, run_id
        entries, shards = schema.entries.c, schema.shards.c
        self._matches = select(schema.matches.c.id)
        if run_id is not None:
            own = select(entries.match_id).where(entries.run_id == run_id)
            self._matches = self._matches.where(schema.matches.c.id.in_(own))
        finished = (shards.state == schema.FINISHED, shards.match_id.in_(self._matches))
        self._finished = select(shards.id).where(*finished)
        wanted = select(shards.match_id, shards.first_game, shards.games).where(*finished)
        self._spans = self._all(wanted.order_by(shards.match_id, shards.repeat, shards.number))

    def rows(self, table: Table, size: int = ROWS) -> Iterator[Sequence[Any]]:
        """The rows of a table, up to `size` at a time, with the columns of `columns_of`."""
        wanted = select(*columns_of(table)).order_by(*table.primary_key.columns)
        game = table.c.id if table is schema.games else table.c.get("game_id")
        if game is not None:
            for _, first, count in self._spans:
                yield from self._pieces(wanted.where(game.between(first, first + count - 1)), size)
        else:
            yield from self._pieces(self._restricted(wanted, table), size)

    def matches(self) -> list[tuple[int, tuple[int, ...]]]:
        """The matches with finished shards: id, and the shape of their images."""
        ids = {match_id for match_id, *_ in self._spans}
        columns = schema.matches.c
        wanted = select(columns.id, columns.image_shape).where(columns.id.in_(self._matches))
        return [
            (row.id, tuple(row.image_shape))
            for row in self._all(wanted.order_by(columns.id))
            if row.id in ids
        ]

    def played(self, match_id: int) -> int:
        """How many games of a match were played."""
        games = schema.games.c
        spans = self._spans_of(match_id)
        counts = (
            select(func.count()).where(games.id.between(first, last), games.reason != "clean")
            for first, last in spans
        )
        return sum(self._all(wanted)[0][0] for wanted in counts)

    def finals(self, match_id: int, shape: tuple[int, ...]) -> Iterator[FinalImages]:
        """The final images of the games of a match that were played, some at a time."""
        games = schema.games.c
        size = max(1, _PIXELS // int(np.prod(shape)))
        for first, last in self._spans_of(match_id):
            wanted = select(games.id, games.repeat, games.image, games.label, games.final)
            wanted = wanted.where(games.id.between(first, last), games.reason != "clean").order_by(games.id)
            for rows in self._pieces(wanted, size):
                *numbers, packed = zip(*rows, strict=True)
                game, repeat, image, label = (np.array(column, np.int64) for column in numbers)
                final = np.stack([unpack(one, shape) for one in packed])
                yield FinalImages(game, repeat, image, label, final)

    def _spans_of(self, match_id: int) -> list[tuple[int, int]]:
        return [(first, first + count - 1) for own, first, count in self._spans if own == match_id]

    def _restricted(self, wanted: Select[Any], table: Table) -> Select[Any]:
        """Rows of the run, and of finished shards."""
        c = table.c
        if table is schema.shards:
            return wanted.where(c.id.in_(self._finished))
        if "shard_id" in c:
            return wanted.where(c.shard_id.in_(self._finished))
        if table is schema.matches:
            return wanted.where(c.id.in_(self._matches))
        if self._run_id is not None and ("run_id" in c or table is schema.runs):
            return wanted.where((c.run_id if "run_id" in c else c.id) == self._run_id)
        return wanted.where(c.match_id.in_(self._matches)) if "match_id" in c else wanted

    def _pieces(self, wanted: Select[Any], size: int) -> Iterator[Sequence[Any]]:
        options = {"stream_results": True, "max_row_buffer": size}
        with told(self._log.name):
            result = self._connection.execute(wanted, execution_options=options)
        try:
            while True:
                with told(self._log.name):
                    rows = result.fetchmany(size)
                if not rows:
                    return
                yield rows
        finally:
            result.close()

    def _all(self, wanted: Select[Any]) -> Sequence[Any]:
        with told(self._log.name):
            return self._connection.execute(wanted).all()


@contextmanager
def snapshot(log: Log, run_id: int | None = None) -> Iterator[Snapshot]:
    """A log, or one of its runs, as it is now, whatever is written meanwhile.

    Raises:
        LogError: if the log has no such run.
    """
    with log.snapshot() as connection:
        with told(log.name):
            ids = connection.execute(select(schema.runs.c.id).order_by(schema.runs.c.id)).scalars().all()
        if run_id is not None and run_id not in ids:
            held = ", ".join(map(str, ids)) or "none"
            raise LogError(f"log {log.name} has no run {run_id}; it holds {held}")
        yield Snapshot(log, connection, run_id)
