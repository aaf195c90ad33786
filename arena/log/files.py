"""The files of a SQLite log: whether they are still those that were opened, and what is left beside them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

from arena.log.errors import SAFE

Identity = tuple[int, int]


class Displaced(Exception):
    """A log's file, or the one with its latest transactions, was moved, deleted or replaced."""


def beside(path: Path, ending: str) -> Path:
    """A file that belongs to the log at `path`; SQLite and all others look for it behind symbolic links."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ending)


def identity(path: Path) -> Identity | None:
    """What tells a file from every other, wherever it is moved; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class LogFile:
    """The file of an open log, and its `-wal`, in which SQLite keeps the latest transactions.

    Both are named by their paths alone: a process that has them open never hears that others were put in
    their places.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.wal = path, beside(path, "-wal")
        self._own: Identity | None = None
        self._own_wal: Identity | None = None

    def opened(self) -> None:
        """The log was just found to be there."""
        self._own = self._own or identity(self.path)

    def connected(self) -> None:
        """A new connection is made, which opens or makes a `-wal` in its first transaction."""
        self._own_wal = None

    def check(self, begun: bool = False) -> None:
        """Raises Displaced if either file is no longer the one that is open. `begun`: a transaction is."""
        if self._own is not None and identity(self.path) != self._own:
            raise Displaced
        wal = identity(self.wal)
        if self._own_wal is None:
            self._own_wal = wal if begun else None
        elif wal != self._own_wal:
            raise Displaced

    def fate(self, connection: sqlite3.Connection | None) -> str:
        """What became of displaced files, and what of it is safe, as a sentence without the log's name.

        connection: to what was opened, outside of a transaction. What SQLite had not brought from the `-wal`
        into the log's file yet, it does here, where nobody else can be at work on either.
        """
        if identity(self.path) == self._own:
            return self._fate_of_wal(connection)
        links, now = _open_file(self._own)
        there = "replaced by another file" if os.path.lexists(self.path) else "deleted"
        if links == 0:
            return (
                f"it was {there} while it was written: what it held is lost, and the same command begins anew"
            )
        if links is None or not _save(connection):
            return (
                "it was moved, deleted or replaced while it was written: the finished shards are in the file "
                f"that lay there and in its {self.wal.name}, if these still exist"
            )
        where = "the moved file" if now is None else now
        return (
            f"it was moved while it was written: all finished shards are safe in {where}; move it back, and "
            f"the same command goes on from them"
        )

    def _fate_of_wal(self, connection: sqlite3.Connection | None) -> str:
        lost = f"{self.wal.name} was moved, deleted or replaced while the log was written"
        # Another -wal means that another process is at work on the log, by an index that is no longer true.
        if identity(self.wal) is None and _save(connection):
            return f"{lost}, and what it held was saved in the log: {SAFE}"
        return (
            f"{lost}: what SQLite had not brought into the log itself yet may be lost, and with it shards "
            "finished in the last minutes"
        )


def _save(connection: sqlite3.Connection | None) -> bool:
    """Have SQLite bring everything from the `-wal` into the log's file; whether it could."""
    if connection is None:
        return False
    with contextlib.suppress(sqlite3.Error):
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy
    return False


def _open_file(own: Identity | None) -> tuple[int | None, str | None]:
    """How many names an open file has, None where nobody can say; and its name, where the system tells."""
    # To open it would not do: closing it again would take SQLite's locks on it from this process.
    with contextlib.suppress(OSError):
        for handle in Path("/dev/fd").iterdir():
            with contextlib.suppress(OSError):
                found = os.fstat(int(handle.name))
                if (found.st_dev, found.st_ino) == own:
                    return found.st_nlink, _name(handle.name)
    return None, None


def _name(handle: str) -> str | None:
    try:
        return str(Path(f"/proc/self/fd/{handle}").readlink())
    except OSError:
        return None


def tidy(path: Path) -> None:
    """Leave no `-wal` and `-shm` beside a log that nobody has open.

    The last connection to leave removes them, but only if it may write.
    """
    if not any(beside(path, ending).exists() for ending in ("-wal", "-shm")):
        return
    if not (os.access(path, os.W_OK) and os.access(beside(path, "").parent, os.W_OK)):
        return
    with contextlib.suppress(sqlite3.Error):
        connection: Any = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=0)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()


def remove_leftovers(path: Path) -> None:
    """Remove what lies beside a log that is not there any more, so that a new one is not taken for it."""
    for ending in ("-wal", "-shm"):
        beside(path, ending).unlink(missing_ok=True)
