"""Where a log is, how to connect to it, and how its layout is upgraded."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, insert, inspect, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from arena.inputs.places import kind_of, unwritable
from arena.log.errors import LogError, told
from arena.log.files import Displaced, LogFile, beside, remove_leftovers, tidy
from arena.log.processes import Presence, alone, somebody_lives
from arena.log.schema import storable_row, to_json
from arena.messages import quoted

VERSION_TABLE = "arena_log_version"
LOCK_WAIT = 60.0
"""Seconds to wait for another process's transaction."""

_LOCK = 0x61726E61
_WRITER_PRAGMAS = ("journal_mode=WAL", "cache_size=-65536", "wal_autocheckpoint=16384")


@dataclass(frozen=True)
class Address:
    """Where a log lies: a SQLite file (`path`), or a PostgreSQL database (`path` is None)."""

    url: URL
    path: Path | None

    @property
    def name(self) -> str:
        """For people; without the password."""
        return str(self.path) if self.path is not None else self.url.render_as_string(hide_password=True)


def parse_address(where: str | Path) -> Address:
    """From a path, a `sqlite:///` URL or a `postgresql://` URL.

    Raises:
        LogError: if it is none of these, or psycopg is missing.
    """
    allowed = "a path such as runs/x.db, sqlite:///PATH, or postgresql+psycopg://USER@HOST/DATABASE"
    if isinstance(where, Path) or "://" not in where:
        if str(where) in ("", ".", ":memory:"):
            raise LogError(f"a log must be {allowed}; found {quoted(str(where))}")
        path = Path(where)
        return Address(URL.create("sqlite", database=str(path)), path)
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise LogError(f"a log must be {allowed}; found {quoted(where)}") from None
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:") and not url.query:
        return Address(url, Path(str(url.database)))
    if url.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        if importlib.util.find_spec("psycopg") is None:
            raise LogError(
                'a PostgreSQL log needs psycopg 3; install it with pip install "blackbox-arena[postgresql]"'
            )
        return Address(url.set(drivername="postgresql+psycopg"), None)
    raise LogError(f"a log must be {allowed}; found {quoted(url.render_as_string(hide_password=True))}")


class Database:
    """The two connections of an open log: `writer`, whose transactions exclude other writers, and
    `reader`."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = address.name
        self.writer = _writer(address)
        self.reader = _reader(address)
        self.file = None if address.path is None else LogFile(address.path)

    @property
    def is_sqlite(self) -> bool:
        return self.address.path is not None

    def prepare(self, create: bool) -> None:
        """Checks that a log is there, makes one if `create`, and brings an older layout up to date.

        Raises:
            LogError: if there is none and none may be made, or if what is there is not a log that this
                version can read.
        """
        path = self.address.path
        with told(self.name, opening=True):
            # Asked first through the reader, which leaves a database that is not a log as it was.
            if (path is not None and _is_new(path, create)) or self._revision(self.reader, create) != head():
                with alone(path):
                    if path is not None and _is_new(path, create):
                        _make_room(path)
                    with self.writer.begin() as connection:
                        exclude_others(connection)
                        if self._revision(connection, create) != head():
                            migrate(connection)
            if self.file is not None:
                self.file.opened()

    def _revision(self, through: Engine | Connection, create: bool) -> str | None:
        """The layout's revision; None for an empty database."""
        if isinstance(through, Engine):
            with through.connect() as connection:
                return self._revision(connection, create)
        tables = inspect(through).get_table_names()
        if tables and VERSION_TABLE not in tables:
            found = ", ".join(sorted(tables)[:5])
            raise LogError(f"{self.name} is a database, but not a log (it holds the tables {found})")
        asked = text(f"SELECT version_num FROM {VERSION_TABLE}")
        revision = through.execute(asked).scalar() if tables else None
        if revision is None:
            if not create:
                raise LogError(f"{self.name} is an empty database, not a log")
            return None
        known = [script.revision for script in _scripts().walk_revisions()]
        if revision not in known:
            raise LogError(
                f"log {self.name} was written by a newer version of this program (layout {revision}, "
                f"known up to {known[0]}); update to read it"
            )
        return str(revision)

    def connect(self, presence: Presence) -> Connection:
        """A connection for `transaction`, which holds the lock of this process if that plays into the log.

        Raises:
            LogError: if the log's file is not the one that was opened.
        """
        if self.file is not None:
            self.file.connected()
            with self._displaced(None):
                self.file.check()
        connection = self.writer.connect()
        if presence.entered:
            with connection.begin():
                presence.hold(connection)
        return connection

    @contextmanager
    def transaction(self, connection: Connection, durable: bool) -> Iterator[None]:
        """A transaction on a connection from `connect`.

        durable: whether it survives a power cut as soon as it ends; else it survives the end of this process,
        but a power cut only after the end of the next durable one.

        Raises:
            LogError: if the log's file was moved, deleted or replaced, or its `-wal` was. The transaction
                leaves nothing then.
        """
        if self.file is None:
            with connection.begin():
                connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_WAIT}s'"))
                connection.execute(text(f"SET LOCAL synchronous_commit = {'on' if durable else 'off'}"))
                yield
            return
        raw: Any = connection.connection.driver_connection
        with self._displaced(raw):
            self.file.check()
            raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                self.file.check(begun=True)
                yield
                self.file.check(begun=True)

    @contextmanager
    def _displaced(self, connection: sqlite3.Connection | None) -> Iterator[None]:
        try:
            yield
        except Displaced:
            assert self.file is not None
            raise LogError(f"log {self.name}: {self.file.fate(connection)}") from None

    def close(self) -> None:
        self.writer.dispose()
        self.reader.dispose()
        if self.file is not None and self.file.is_here():
            tidy(self.file.path)


def _is_new(path: Path, create: bool) -> bool:
    """Whether there is nothing at `path` yet.

    Raises:
        LogError: if there can be no log.
    """
    if kind_of(path) == "file":
        return False
    if (why := unwritable(path)) is not None:
        raise LogError(f"log {path} {why}")
    if not create:
        raise LogError(f"there is no log at {path}")
    if not path.absolute().parent.is_dir():
        raise LogError(f"the folder {path.parent} for the log {path.name} does not exist; create it first")
    return True


def _make_room(path: Path) -> None:
    """Removes what an earlier log left beside `path`.

    Raises:
        LogError: if somebody still plays into that.
    """
    if somebody_lives(path):
        raise LogError(
            f"log {path} was moved or deleted while another process plays into it; wait until that has "
            "ended, or name another log"
        )
    remove_leftovers(path)


def _writer(address: Address) -> Engine:
    if address.path is None:
        # A host that is gone without a word is noticed within a minute.
        alive = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
        arguments = {name: value for name, value in alive.items() if name not in address.url.query}
        return create_engine(address.url, poolclass=NullPool, json_serializer=to_json, connect_args=arguments)
    engine = _sqlite_engine(address.path, "mode=rwc")

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        for pragma in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _reader(address: Address) -> Engine:
    if address.path is None:
        return create_engine(
            address.url,
            poolclass=NullPool,
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True},
        )
    engine = _sqlite_engine(address.path, "mode=ro")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _sqlite_engine(path: Path, mode: str) -> Engine:
    def connect() -> sqlite3.Connection:
        uri = f"{path.absolute().as_uri()}?{mode}{_frozen(path)}"
        return sqlite3.connect(
            uri, uri=True, timeout=LOCK_WAIT, isolation_level=None, check_same_thread=False
        )

    return create_engine("sqlite://", creator=connect, poolclass=NullPool, json_serializer=to_json)


def _frozen(path: Path) -> str:
    """The settings SQLite needs to read a log in a folder where it cannot create files beside it."""
    wal = beside(path, "-wal")
    return "" if os.access(wal.parent, os.W_OK) or wal.exists() else "&immutable=1"


def scripts_config() -> Config:
    """Where Alembic finds the migrations."""
    config = Config()
    config.set_main_option("script_location", "arena.log:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(scripts_config())


def head() -> str:
    """The newest layout's revision."""
    return str(_scripts().get_current_head())


def migrate(connection: Connection, revision: str = "head") -> None:
    """Brings the database at `connection` to `revision`, within the connection's transaction."""
    config = scripts_config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def exclude_others(connection: Connection) -> None:
    """Let nobody else find, begin or claim anything in the log until the transaction of `writer` ends; on
    SQLite, it alone may write anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))


def insert_row(connection: Connection, table: Table, values: Mapping[str, Any]) -> int:
    """Inserts a row; returns its id."""
    key = connection.execute(insert(table).values(storable_row(values))).inserted_primary_key
    return int(key[0])  # type: ignore[index]


def now() -> datetime:
    """The time in UTC, as the log's columns keep it: without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)
