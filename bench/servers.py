"""A PostgreSQL server of one's own in a temporary folder, to be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any


class NoServer(Exception):
    """No server can be started here: one sentence."""


class Server:
    """A running server. Use it in a `with` statement; it and its folder are gone afterwards.

    Args:
        settings: what differs from PostgreSQL's own; by default a small server that does not wait for the
            disk.

    Raises:
        NoServer: if there are no programs to start one, or nobody to run them as.
    """

    def __init__(self, settings: str = "-c fsync=off -c shared_buffers=16MB") -> None:
        self.settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="arena-pg-"))
        self.tools = _tools()
        self.running = {"check": True, "stdout": subprocess.DEVNULL, "cwd": self.folder, **_user(self.folder)}
        self.data, self.schemas = str(self.folder / "data"), 0
        options = ["-A", "trust", "-U", "arena", "-N", "-E", "UTF8"]
        subprocess.run([self.tools / "initdb", "-D", self.data, *options], **self.running)
        self.start()

    def start(self) -> None:
        """Start it, and wait until it can be reached."""
        options = f"-k {self.folder} -h '' {self.settings}"
        self._control("-w", "-l", str(self.folder / "messages"), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """End it and all its connections: at once, in the middle of whatever they do, or as `mode` says."""
        self._control("-w", "-m", mode, "stop")

    def cut(self) -> None:
        """End all connections to it."""
        with self._connection() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE usename = 'arena' AND pid <> pg_backend_pid()"
            )

    def url(self) -> str:
        """The URL of a new, empty schema."""
        self.schemas += 1
        name = f"log{self.schemas}"
        with self._connection() as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://arena@/postgres?host={self.folder}&options=-csearch_path%3D{name}"

    def _connection(self) -> Any:
        import psycopg

        return psycopg.connect(host=str(self.folder), user="arena", dbname="postgres", autocommit=True)

    def _control(self, *words: str) -> None:
        subprocess.run([self.tools / "pg_ctl", "-D", self.data, *words], **self.running)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _tools() -> Path:
    """The folder of the server's programs."""
    if (found := shutil.which("initdb")) is not None:
        return Path(found).parent
    if shutil.which("pg_config") is not None:
        folder = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True).stdout.strip()
        if (Path(folder) / "initdb").exists():
            return Path(folder)
    raise NoServer("no PostgreSQL server is installed: neither initdb nor pg_config leads to one")


def _user(folder: Path) -> dict[str, Any]:
    """Whom the server runs as: it refuses to run as root."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C"}
    if os.geteuid() != 0:
        return {"env": environment}
    for name in ("postgres", "nobody"):
        try:
            other = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, other.pw_uid, other.pw_gid)
        return {"env": environment, "user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}
    raise NoServer("PostgreSQL refuses to run as root, and there is no other user")
