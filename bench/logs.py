"""What a log holds, asked by plain SQL of the tables that docs/log.md describes: contents to compare, and
what must never be there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.pool import NullPool

ShardKey: TypeAlias = tuple[str, int, int]
"""Fingerprint of the match, number and repeat."""
IDS = {"id", "run_id", "match_id", "shard_id", "game_id", "first_game", "started", "ended"}
MEASURED = ("cost_", "seconds_", "peak_bytes", "delay")
"""How columns of `utilities` and `benign` begin that no two runs share."""
SHARDS = (
    "SELECT s.id, s.number, s.repeat, s.state, s.fingerprint, s.first_game, s.games, s.level,"
    " m.fingerprint AS played FROM shards s JOIN matches m ON m.id = s.match_id"
)
RUNS = (
    "SELECT scenario, title, seed, versions, device, fingerprint, batch, level, resolved,"
    " ended IS NOT NULL AS whole FROM runs"
)
ORPHANS = {
    "queries, marks or notes of no shard": " UNION ALL ".join(
        f"SELECT game_id FROM {table} t WHERE NOT EXISTS (SELECT 1 FROM shards s"
        " WHERE t.game_id >= s.first_game AND t.game_id < s.first_game + s.games)"
        for table in ("queries", "marks", "notes")
    ),
    "games of no finished shard": "SELECT id FROM games WHERE id NOT IN (SELECT id FROM finished_games)",
    "purposes of no finished shard": "SELECT shard_id FROM purposes WHERE shard_id NOT IN"
    " (SELECT id FROM shards WHERE state = 'finished')",
    "finished queries, marks or notes of an unfinished shard": " UNION ALL ".join(
        f"SELECT game_id FROM finished_{table} t JOIN shards s ON t.game_id >= s.first_game"
        " AND t.game_id < s.first_game + s.games WHERE s.state <> 'finished'"
        for table in ("queries", "marks", "notes")
    ),
    "finished shards without all their games": "SELECT s.id FROM shards s WHERE s.state = 'finished' AND"
    " s.games <> (SELECT count(*) FROM finished_games g WHERE g.match_id = s.match_id"
    " AND g.shard = s.number AND g.repeat = s.repeat)",
    "matches of no run": "SELECT id FROM matches WHERE id NOT IN (SELECT match_id FROM entries)",
}
"""What no log may hold, at whatever moment a process was killed."""


@dataclass
class Seen:
    """What was seen of a log.

    Attributes:
        finished: the digest of all rows of each finished shard.
        unfinished: the ids of the others.
        faults: what must not be there.
    """

    finished: dict[ShardKey, str]
    unfinished: set[int]
    faults: list[str]


class Book:
    """A log as whoever may read it sees it."""

    def __init__(self, where: str) -> None:
        self.sqlite = "://" not in where
        self.engine = create_engine(f"sqlite:///{where}" if self.sqlite else where, poolclass=NullPool)

    def look(self) -> Seen:
        """The log as a killed process left it."""
        with self._open() as connection:
            if not inspect(connection).has_table("shards"):
                return Seen({}, set(), [])
            faults = []
            if self.sqlite:
                said = connection.execute(text("PRAGMA integrity_check")).scalar()
                faults = [] if said == "ok" else [f"integrity_check: {said}"]
            for what, asked in ORPHANS.items():
                if count := len(connection.execute(text(asked)).all()):
                    faults.append(f"{what}: {count}")
            shards = connection.execute(text(SHARDS)).mappings().all()
            done = {
                (s["played"], s["number"], s["repeat"]): _digest(connection, s)
                for s in shards
                if s["state"] == "finished"
            }
            return Seen(done, {s["id"] for s in shards if s["state"] != "finished"}, faults)

    def counts(self) -> tuple[int, int]:
        """How many shards are finished, and the largest id of an unfinished one; 0, 0 before there are."""
        try:
            with self._open() as connection:
                rows = connection.execute(text("SELECT id, state FROM shards")).all()
        except Exception:  # no such log yet, or its server is away
            return 0, 0
        return sum(s == "finished" for _, s in rows), max((i for i, s in rows if s != "finished"), default=0)

    def contents(self) -> dict[str, str]:
        """Digests of all that is in the log but ids, times and what is measured, by table."""
        with self._open() as connection:
            shards = [dict(row) for row in connection.execute(text(SHARDS)).mappings()]
            of = "SELECT m.fingerprint AS played, t.* FROM {} t JOIN matches m ON m.id = t.{}"
            found = {
                "runs": connection.execute(text(RUNS)).mappings().all(),
                "matches": connection.execute(text("SELECT * FROM matches")).mappings().all(),
                "entries": connection.execute(text(of.format("entries", "match_id"))).mappings().all(),
                "utilities": connection.execute(text(of.format("utilities", "match_id"))).mappings().all(),
                "benign": connection.execute(text(of.format("benign", "match_id"))).mappings().all(),
                "shards": [{**s, "rows": _digest(connection, s)} for s in shards],
            }
            return {name: _hashed(sorted(map(_plain, rows))) for name, rows in found.items()}

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            if not self.sqlite:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection


def _digest(connection: Connection, shard: Any) -> str:
    """Of all rows of a shard, in the order of its games."""
    first, count = shard["first_game"], shard["games"]
    games = f"BETWEEN {first} AND {first + count - 1}"
    asked = {
        "games": f"SELECT g.id AS game_place, g.* FROM finished_games g WHERE g.id {games}",
        **{
            table: f"SELECT t.game_id AS game_place, t.* FROM finished_{table} t WHERE t.game_id {games}"
            for table in ("queries", "marks", "notes")
        },
        "purposes": f"SELECT {first} AS game_place, t.* FROM purposes t WHERE t.shard_id = {shard['id']}",
    }
    return _hashed(
        [
            table,
            sorted(
                _plain({**row, "game_place": row["game_place"] - first})
                for row in connection.execute(text(statement)).mappings()
            ),
        ]
        for table, statement in asked.items()
    )


def _plain(row: Any) -> str:
    """A row as text, alike for SQLite and PostgreSQL."""
    return repr(
        sorted(
            (name, _value(value))
            for name, value in row.items()
            if name not in IDS and not name.startswith(MEASURED)
        )
    )


def _value(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, bytes | memoryview):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, str) and value[:1] in ("{", "["):  # SQLite's JSON, if it is no agent's note
        with suppress(ValueError):
            return json.dumps(json.loads(value), sort_keys=True)
    return value


def _hashed(rows: Any) -> str:
    return hashlib.sha256(repr(list(rows)).encode()).hexdigest()
