"""Logs that a stranger wrote: SQLite files that are looked at before they are read as logs."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import JSON, Boolean, Column, DateTime, Double, Integer, LargeBinary, Table, Text

from arena.inputs.places import kind_of
from arena.log import schema
from arena.log.database import VERSION_TABLE, head
from arena.log.errors import LogError
from arena.log.files import beside
from arena.log.writer import Log, open_log
from arena.messages import one_line

LARGEST = 2**32
"""Bytes of a stranger's log."""
LONGEST_TEXT, LONGEST_JSON = 2**16, 2**26
"""Bytes of a value: a word or note, and a run with all its matches."""
_MAGIC = b"SQLite format 3\0"
_OF_SQLITE = ("sqlite_sequence", "sqlite_stat1")
"""Tables of SQLite's own that a log may have."""
_KINDS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (JSON, ("text",)),
    (DateTime, ("text",)),
    (Text, ("text",)),
    (LargeBinary, ("blob",)),
    (Boolean, ("integer",)),
    (Integer, ("integer",)),
    (Double, ("real", "integer")),
)
"""How SQLite keeps what a column holds; `Integer` is the big ones' kind, too."""


@contextmanager
def open_strangers(path: Path) -> Iterator[Log]:
    """A stranger's log, read from a copy of its own: nothing in it runs, and nothing of it is written.

    It must have this version's layout, table by table and word by word, so that no view, trigger or index of
    the stranger's is there; it must be undamaged, and every value of its column's kind and of bounded size.

    Raises:
        LogError: if it is none of that; one sentence.
    """
    check_file(path)
    with TemporaryDirectory(prefix="arena-strangers-") as folder:
        copy = Path(folder) / "log.db"
        try:
            shutil.copyfile(path, copy)
        except OSError as error:
            raise LogError(f"log {path} cannot be read: {error.strerror or error}") from error
        check_file(copy)
        with closing(_connect(copy)) as connection:
            try:
                _check_content(connection, path)
            except sqlite3.Error as error:
                said = f"log {path} is no sound SQLite database ({one_line(str(error))[:200]})"
                raise LogError(said) from error
        with open_log(copy, create=False) as log:
            log.database.name = str(path)
            yield log


def check_file(path: Path) -> None:
    """LogError unless a whole SQLite file of bounded size lies at `path`."""
    if kind_of(path) != "file":
        raise LogError(f"there is no log at {path}")
    if (size := path.stat().st_size) > LARGEST:
        raise LogError(f"log {path} has {size:,} bytes; a stranger's log may have {LARGEST:,}")
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise LogError(f"log {path} is not a SQLite database")
    if (wal := beside(path, "-wal")).exists() and wal.stat().st_size:
        raise LogError(
            f"log {path} was not closed: {wal.name} lies beside it with a part of it; any command that "
            f"reads the log, such as arena runs, takes it in"
        )


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_JSON + 1024)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0", "query_only=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _check_content(connection: sqlite3.Connection, path: Path) -> None:
    _check_layout(connection, path)
    if (said := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise LogError(f"log {path} is a damaged SQLite database ({one_line(str(said))[:200]})")
    for table in schema.metadata.sorted_tables:
        _check_values(connection, path, table)


def _check_layout(connection: sqlite3.Connection, path: Path) -> None:
    own = _layout_of(connection)
    revisions: list[tuple[str]] = []
    if VERSION_TABLE in own and own[VERSION_TABLE] == layout()[VERSION_TABLE]:
        revisions = connection.execute(f"SELECT version_num FROM {VERSION_TABLE} LIMIT 2").fetchall()
    if own == layout() and revisions == [(head(),)]:
        return
    odd = sorted(name for name in {*own, *layout()} if own.get(name) != layout().get(name))
    if len(revisions) == 1 and isinstance(revisions[0][0], str) and revisions[0][0] != head():
        raise LogError(
            f"log {path} has layout {one_line(revisions[0][0])[:20]}, and this version writes "
            f"{head()}; open it once with this version (arena runs LOG), which brings it up to date"
        )
    named = ", ".join(one_line(name)[:60] for name in odd[:5]) or VERSION_TABLE
    raise LogError(f"log {path} does not have the layout that this version writes; what differs: {named}")


Layout = dict[str, tuple[str, str, str | None]]


def _layout_of(connection: sqlite3.Connection) -> Layout:
    """By name: what it is, of which table, and the words that made it."""
    rows = connection.execute("SELECT name, type, tbl_name, sql FROM sqlite_master LIMIT 1000").fetchall()
    return {
        str(name): (str(kind), str(table), sql)
        for name, kind, table, sql in rows
        if not (name in _OF_SQLITE and kind == "table" and table == name)
    }


@cache
def layout() -> Layout:
    """That of a log that this version makes."""
    with TemporaryDirectory(prefix="arena-layout-") as folder:
        path = Path(folder) / "log.db"
        open_log(path).close()
        with closing(sqlite3.connect(path)) as connection:
            return _layout_of(connection)


def _check_values(connection: sqlite3.Connection, path: Path, table: Table) -> None:
    """Every value is of its column's kind, and no text is too long or holds what no log holds."""
    columns = list(table.columns)
    asked = ", ".join(part for column in columns for part in _questions(column))
    row = connection.execute(f'SELECT {asked} FROM "{table.name}"').fetchone()
    for column, wrong, long, dark in zip(columns, row[::3], row[1::3], row[2::3], strict=True):
        where = f"log {path}: column {column.name} of {table.name}"
        if wrong:
            raise LogError(f"{where} holds {wrong:,} values of another kind than it may")
        if long:
            raise LogError(f"{where} holds {long:,} values that are longer than any may be")
        if dark:
            raise LogError(f"{where} holds {dark:,} texts with a NUL, which no log holds")


def _questions(column: Column[object]) -> tuple[str, str, str]:
    """SQL for how many values are of another kind, too long, or texts with NUL."""
    kinds = next(kinds for kind, kinds in _KINDS if isinstance(column.type, kind))
    allowed = ", ".join(f"'{kind}'" for kind in (*kinds, *(["null"] if column.nullable else [])))
    name = f'"{column.name}"'
    wrong = f"coalesce(sum(typeof({name}) NOT IN ({allowed})), 0)"
    if kinds not in (("text",), ("blob",)):
        return wrong, "0", "0"
    most = LONGEST_JSON if isinstance(column.type, JSON | LargeBinary) else LONGEST_TEXT
    as_bytes = f"CAST({name} AS BLOB)"
    long = f"coalesce(sum(length({as_bytes}) > {most}), 0)"
    dark = f"coalesce(sum(instr({as_bytes}, x'00') > 0), 0)" if kinds == ("text",) else "0"
    return wrong, long, dark
