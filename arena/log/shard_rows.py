"""The rows of finished shards, as columns that can be compared with those of another log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import LargeBinary, Table, Text, select

from arena.log import schema
from arena.log.errors import LogError
from arena.log.images import unpack
from arena.log.questions import ask, match
from arena.log.writer import Log
from arena.records.pieces import LogLevel

Columns = Mapping[str, NDArray[Any]]
TABLES = ("games", "queries", "marks", "notes", "purposes")
_KEYS = {"games": "id", "queries": "game_id", "marks": "game_id", "notes": "game_id"}
_ORDERS = {
    "games": ("id",),
    "queries": ("game_id", "turn"),
    "marks": ("game_id", "at"),
    "notes": ("game_id", "place"),
    "purposes": ("purpose",),
}
_ELSEWHERE = ("match_id", "shard_id")
"""Ids that another log gives others of."""


@dataclass(frozen=True)
class LoggedShard:
    """A finished shard. `first_game` is the id of its first game; its `games` have consecutive ones."""

    id: int
    match_id: int
    number: int
    repeat: int
    fingerprint: str
    first_game: int
    games: int
    level: LogLevel


def shards_of(log: Log, match_id: int) -> list[LoggedShard]:
    """The finished shards of a match, by repeat and number."""
    own = schema.shards.c
    wanted = select(*_columns_of_a_shard()).where(own.match_id == match_id, own.state == schema.FINISHED)
    return [LoggedShard(*row) for row in ask(log, wanted.order_by(own.repeat, own.number))]


def shard_of_game(log: Log, game_id: int) -> LoggedShard:
    """The finished shard that a game is of.

    Raises:
        LogError: if no finished shard has this game.
    """
    own = schema.shards.c
    here = (own.first_game <= game_id) & (game_id < own.first_game + own.games)
    rows = ask(log, select(*_columns_of_a_shard()).where(here, own.state == schema.FINISHED))
    if not rows:
        raise LogError(f"log {log.name} has no game {game_id} in a finished shard")
    return LoggedShard(*rows[0])


def rows_of(log: Log, shard: LoggedShard) -> dict[str, Columns]:
    """All rows of a shard by table, in a fixed order: numbers as float64 with NaN for NULL, texts and images
    as objects; `game` is the game's place in the shard. Ids are left out.

    Raises:
        LogError: if a value is not of its column's kind.
    """
    shape = match(log, shard.match_id).info.image_shape
    return {name: _table(log, shard, schema.metadata.tables[name], shape) for name in TABLES}


def _table(log: Log, shard: LoggedShard, table: Table, shape: Sequence[int]) -> Columns:
    columns = [column for column in table.columns if column.name not in _ELSEWHERE]
    if table.name == "purposes":
        where = table.c.shard_id == shard.id
    else:
        key = table.c[_KEYS[table.name]]
        where = key.between(shard.first_game, shard.first_game + shard.games - 1)
    order = [table.c[name] for name in _ORDERS[table.name]]
    rows = ask(log, select(*columns).where(where).order_by(*order))
    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    found: dict[str, NDArray[Any]] = {}
    for column, own in zip(columns, values, strict=True):
        if column.name == _KEYS.get(table.name):
            found["game"] = _numbers(log, table.name, column.name, own) - shard.first_game
        elif isinstance(column.type, LargeBinary):
            found[column.name] = _objects([unpack(value, tuple(shape)) for value in own])
        elif isinstance(column.type, Text):
            found[column.name] = _objects(own)
        else:
            found[column.name] = _numbers(log, table.name, column.name, own)
    return found


def _numbers(log: Log, table: str, column: str, values: Sequence[Any]) -> NDArray[np.float64]:
    try:
        return np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise LogError(f"log {log.name}: column {column} of {table} holds what is no number") from error


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    found = np.empty(len(values), object)
    found[:] = list(values)
    return found


def _columns_of_a_shard() -> list[Any]:
    return [schema.shards.c[name] for name in LoggedShard.__dataclass_fields__]
