"""The processes that play into a log, each of which can tell of the others whether they live.

A living process holds a lock that ends with it, however it ends: on SQLite of a small file beside the log,
held by the operating system; on PostgreSQL an advisory lock of the connection through which it writes.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, text

from arena.log import schema
from arena.log.files import beside

try:
    import fcntl
except ImportError:  # Windows, where a file that is open cannot be removed, which tells as much
    fcntl = None  # type: ignore[assignment]

_ENDING = "-process-"
_END_THE_OTHER = text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    " AND mode = 'ExclusiveLock' AND granted AND pid <> pg_backend_pid()"
    " AND (classid::bigint << 32 | objid::bigint) = :id"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
"""Ends an earlier connection of the same process, of which the server has not noticed that it was cut."""
_held: set[int] = set()


def _forget() -> None:
    """A forked child must not hold its parent's locks beyond the parent's end."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class Presence:
    """One that plays into a log, as the others see it.

    Attributes:
        id: in table `processes`.
        path: of the log's file; None on PostgreSQL.
        entered: whether it holds its lock, or did until its connection was lost.
    """

    def __init__(self, path: Path | None) -> None:
        self.id = secrets.randbits(62) + 1
        self.path = path
        self.entered = False
        self._handle: int | None = None

    def hold(self, connection: Connection) -> None:
        """Take the lock, for as long as `connection`, or this process, lives."""
        if self.path is None:
            for setting in ("idle = 30", "interval = 10", "count = 3"):  # so long a lost host is not noticed
                connection.exec_driver_sql(f"SET tcp_keepalives_{setting}")
            connection.execute(_END_THE_OTHER, {"id": self.id})
            connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": self.id})
        elif self._handle is None:
            self._handle = _locked(_file(self.path, self.id))
            _held.add(self._handle)

    def enter(self, connection: Connection) -> None:
        """Be found in table `processes`, once and for all; those that are found dead leave it."""
        processes = schema.processes
        ids = set(connection.execute(select(processes.c.id)).scalars())
        if self.id in ids:
            return
        self.hold(connection)
        self.entered = True
        dead = [other for other in ids if not lives(connection, self.path, other)]
        connection.execute(delete(processes).where(processes.c.id.in_(dead)))
        values = {"id": self.id, "host": socket.gethostname(), "pid": os.getpid()}
        connection.execute(insert(processes).values(values))
        if self.path is not None:
            _sweep(self.path)

    def leave(self, connection: Connection) -> None:
        """Be found no more."""
        connection.execute(delete(schema.processes).filter_by(id=self.id))

    def release(self) -> None:
        """Let go of the lock; on PostgreSQL the end of the connection does."""
        if self.path is not None and self._handle is not None:
            _file(self.path, self.id).unlink(missing_ok=True)
            _held.discard(self._handle)
            os.close(self._handle)
            self._handle = None


def lives(connection: Connection, path: Path | None, process: int) -> bool:
    """Whether another process, by its id, still holds its lock. On PostgreSQL, ask within a transaction."""
    if path is None:
        free = text("SELECT pg_try_advisory_xact_lock_shared(:id)")
        return not connection.execute(free, {"id": process}).scalar()
    return _is_locked(_file(path, process))


def named(host: str, pid: int) -> str:
    """A process in words."""
    return f"process {pid}" if host == socket.gethostname() else f"process {pid} on {host}"


def _file(path: Path, process: int) -> Path:
    return beside(path, f"{_ENDING}{process:x}")


def _locked(file: Path) -> int:
    """A handle of a new file, whose lock it holds."""
    while True:
        handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        if fcntl is None:
            return handle
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(handle), file.stat()):
                return handle
        except FileNotFoundError:  # another process took it for one of a dead process, and removed it
            pass
        os.close(handle)


@contextmanager
def alone(path: Path | None) -> Iterator[None]:
    """No other process makes a SQLite log at `path`, or changes its layout, meanwhile."""
    if path is None:
        yield
        return
    file = beside(path, "-new")
    handle = _locked(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(handle)


def _is_locked(file: Path) -> bool:
    """Whether a process holds the lock of its file; one that holds it no more is removed."""
    try:
        if fcntl is None:
            file.unlink()
            return False
        handle = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except PermissionError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), file.stat()):
            file.unlink()
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    finally:
        os.close(handle)
    return False


def _files(path: Path) -> Iterator[Path]:
    start = beside(path, _ENDING)
    return (file for file in start.parent.iterdir() if file.name.startswith(start.name))


def _sweep(path: Path) -> None:
    """Remove the files of dead processes."""
    for file in list(_files(path)):
        _is_locked(file)


def somebody_lives(path: Path) -> bool:
    """Whether a process plays into the SQLite log that lies, or lay, at `path`."""
    return any(map(_is_locked, list(_files(path))))
