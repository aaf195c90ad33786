"""Any one question in SQL, by whoever has a log: what could change the log, or anything else, is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from arena.interruptions import caught, raise_pending
from arena.log.errors import LogError, told
from arena.log.writer import Log

AT_ONCE = 1000
"""Rows that are read from the database at a time."""
HEARD = 100_000
"""Steps of SQLite after which a signal is heard."""
_READS = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_TOLD = {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "foreign_key_list"}
"""The pragmas that only tell."""
_DENIED = "authoriz"
"""In what SQLite says of what is not permitted, where it gives no code."""
REFUSED = "only questions may be asked: SELECT, WITH, VALUES; nothing that writes, attaches or sets anything"


@dataclass(frozen=True)
class Answer:
    """The answer to a statement, while its rows are read; columns without names for none."""

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]


@contextmanager
def asking(log: Log, statement: str) -> Iterator[Answer]:
    """The answer to any one statement that only reads, in a transaction that cannot write.

    On SQLite what a statement does is looked at step by step, so that it can neither attach nor make files;
    on PostgreSQL it must be what a cursor can be declared for (SELECT, WITH, VALUES, TABLE), with the rights
    of the user that connects.

    Raises:
        LogError: if the database refuses the statement.
    """
    with told(log.name), log.database.reader.connect() as connection:
        raw: Any = connection.connection.driver_connection
        if not statement.strip():
            yield Answer([], iter(()))
        elif log.database.is_sqlite:
            raw.set_authorizer(_permit)
            raw.set_progress_handler(_hear, HEARD)
            try:
                yield _answer(log, raw.cursor(), statement)
            except sqlite3.OperationalError:
                raise_pending()
                raise
        else:
            with raw.cursor(name="arena_sql") as cursor:
                cursor.itersize = AT_ONCE
                yield _answer(log, cursor, statement)


def _answer(log: Log, cursor: Any, statement: str) -> Answer:
    try:
        cursor.execute(statement)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_AUTH and _DENIED not in str(error):
            raise
        raise LogError(f"log {log.name}: {REFUSED}") from error
    return Answer([str(column[0]) for column in cursor.description or ()], _rows(cursor))


def _rows(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while rows := cursor.fetchmany(AT_ONCE):
        yield from map(tuple, rows)


def _permit(action: int, one: str | None, other: str | None, *_: Any) -> int:
    """SQLite's question whether a statement may do something."""
    if action == sqlite3.SQLITE_PRAGMA:
        return sqlite3.SQLITE_OK if str(one).lower() in _TOLD else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and str(other).lower() in ("load_extension", "fts3_tokenizer"):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


def _hear() -> int:
    """Called amid a long statement, where Python hears signals; 1 ends the statement."""
    return int(caught() is not None)
