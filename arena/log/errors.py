"""Errors of a log, as one clear sentence."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from arena.messages import UserError
from arena.records.pieces import ShardLost

SAFE = "the finished shards in it are safe, and the same command goes on from them"

LOCKED = f"another process holds it locked: {SAFE} when that process lets go"

_NOT_OPENED = "it cannot be opened; its folder must exist and be readable and writable"

_UNREACHED = ("08", "57P")
"""How the SQL states begin with which a server that goes away ends a connection."""


class LogError(UserError):
    """The log could not be opened, written or queried; the message is one sentence for people."""


class Unreachable(LogError):
    """The server cannot be reached, or the connection to it was lost; what was under way may be done."""


class ShardLostInLog(ShardLost, LogError):
    """The shard is another process's, or what was written of it is lost."""


@contextmanager
def told(name: str) -> Iterator[None]:
    """Turns what drivers raise into a `LogError` about the log called `name`: an `Unreachable` where no
    server answers."""
    try:
        yield
    except Exception as error:
        if not _of_a_driver(error):
            raise
        kind = Unreachable if _is_unreached(error) else LogError
        raise kind(sentence(error, name)) from error


def _of_a_driver(error: Exception) -> bool:
    psycopg = sys.modules.get("psycopg")
    return isinstance(error, SQLAlchemyError | sqlite3.Error | OSError) or (
        psycopg is not None and isinstance(error, psycopg.Error)
    )


def _is_unreached(error: BaseException) -> bool:
    """Drivers give no SQL state to a connection that cannot be made or breaks without a word."""
    psycopg = sys.modules.get("psycopg")
    cause = _cause(error)
    if psycopg is None or not isinstance(cause, psycopg.OperationalError):
        return False
    return cause.sqlstate is None or cause.sqlstate.startswith(_UNREACHED)


def sentence(error: BaseException, name: str) -> str:
    """One sentence for what a driver raised about the log called `name`."""
    cause = _cause(error)
    text = " ".join(str(cause).split()) or type(cause).__name__
    if isinstance(cause, sqlite3.Error):
        return f"log {name}: {_of_sqlite(getattr(cause, 'sqlite_errorcode', 0) & 0xFF, text)}"
    if isinstance(cause, OSError):
        return f"log {name}: {_NOT_OPENED} ({cause.strerror or text})"
    if _is_unreached(error):
        return f"log {name}: the connection to the server was lost or cannot be made ({text}): {SAFE}"
    return f"log {name}: {_of_postgresql(getattr(cause, 'sqlstate', None) or '', text)}"


def _cause(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _of_sqlite(code: int, text: str) -> str:
    known = {
        sqlite3.SQLITE_FULL: f"the disk is full: {SAFE} once there is room",
        sqlite3.SQLITE_BUSY: LOCKED,
        sqlite3.SQLITE_LOCKED: LOCKED,
        sqlite3.SQLITE_READONLY: "it cannot be written; allow writing to it and its folder, or name another",
        sqlite3.SQLITE_CANTOPEN: _NOT_OPENED,
        sqlite3.SQLITE_IOERR: f"reading or writing the disk failed ({text}): {SAFE} once the disk works",
        sqlite3.SQLITE_NOTADB: "it is not a SQLite database; name another file",
        sqlite3.SQLITE_CORRUPT: "it is a damaged SQLite database; restore a copy of it, or name another",
    }
    return known.get(code) or _refused(text)


def _of_postgresql(state: str, text: str) -> str:
    if state == "53100":
        return f"the server's disk is full: {SAFE} once there is room"
    if state == "55P03":
        return LOCKED
    return _refused(text)


def _refused(text: str) -> str:
    return f"the database refused what was asked of it ({text}); what is finished in it is safe"
