"""What survives killed processes and full disks, and what is told of them and of locks and faults."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import func, select

from arena.log import Log, LogError, open_log, questions, schema
from arena.records import pieces
from arena.records.pieces import Pieces
from arena.records.reports import QueryRows

PLAY_ON = """
import sys
import numpy as np
from arena.log import open_log
from arena.records import pieces
from arena.records.reports import QueryRows

pieces.PIECE_ROWS = 500
log = open_log(sys.argv[1])
zeros, no, floats = np.zeros(50, np.int64), np.zeros(50, bool), np.full(50, 0.1)
with log.shard(1, 1, 0, "f", np.arange(50)) as recorder:
    heard = pieces.Pieces(recorder)
    for turn in range(1, 10**7):
        heard.queries(
            QueryRows("p", np.arange(50), zeros + turn, zeros, zeros, no, no, *[floats] * 3, no, no, no)
        )
        if turn == 100:
            log.submit(lambda connection: None).result()
            print("playing", flush=True)
"""


def count(log: Log, table: Any) -> int:
    with log.database.reader.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_a_killed_process_leaves_its_finished_shards(
    where: str, begun: Any, made: Callable[..., Any], children: Any
) -> None:
    played = made()
    with open_log(where) as log:
        match = begun(log)
        with log.shard(match, 0, 0, "f", played.keys) as recorder:
            played.tell(recorder)
        finished = count(log, schema.queries)
    playing = children.start(PLAY_ON, where)
    playing.wait_until(lambda: "playing" in playing.out.read_text())
    playing.send_signal(signal.SIGKILL)
    assert playing.wait() == -signal.SIGKILL

    with open_log(where) as log:
        assert count(log, schema.queries) >= finished + 5000
        assert count(log, schema.finished_queries) == finished
        assert log.finished_shards(match) == {(0, 0): "f"}
        assert len(questions.outcomes(log, match)) == 5
        assert log.discard_unfinished(match) == 1
        assert count(log, schema.queries) == finished
        with log.shard(match, 1, 0, "f", played.keys) as recorder:
            played.tell(recorder)
        assert count(log, schema.finished_queries) == 2 * finished
    if "://" not in where:
        with sqlite3.connect(where) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "arena-test", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(
    small_disk: Path, begun: Any, made: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 500)
    ballast, played = small_disk / "ballast", made(games=20, turns=40)
    with open_log(small_disk / "log.db") as log:
        match = begun(log)
        with log.shard(match, 0, 0, "f", played.keys) as recorder:
            played.tell(recorder)
        finished = count(log, schema.finished_queries)
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(2**20))
        assert os.statvfs(small_disk).f_bavail == 0
        number = 1
        with pytest.raises(LogError, match="the disk is full: the finished shards in it are safe"):
            while number < 100:
                with log.shard(match, number, 0, "f", played.keys) as recorder:
                    played.tell(recorder)
                number += 1
        assert count(log, schema.finished_queries) == number * finished
        assert len(log.finished_shards(match)) == number

        ballast.unlink()
        log.discard_unfinished(match)
        with log.shard(match, number, 0, "f", played.keys) as recorder:
            played.tell(recorder)
        assert count(log, schema.finished_queries) == (number + 1) * finished
    with sqlite3.connect(small_disk / "log.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_is_told_at_once_and_finished_shards_stay(
    path: Any, begun: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 100)
    played = made()
    with open_log(path) as log:
        match = begun(log)
        with log.shard(match, 0, 0, "f", played.keys) as recorder:
            played.tell(recorder)
        with sqlite3.connect(path) as connection:
            held, free = (
                connection.execute(f"PRAGMA {count}").fetchone()[0]
                for count in ("page_count", "freelist_count")
            )
        log.submit(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={held + 5 - free}").close()).result()

        volleys = 0
        full = "the disk is full: the finished shards in it are safe, and the same command goes on"
        with pytest.raises(LogError, match=full), log.shard(match, 1, 0, "f", played.keys) as recorder:
            heard = Pieces(recorder)
            for volley in endless_volleys():
                heard.queries(volley)
                volleys += 1
        assert volleys < 200
        assert log.finished_shards(match) == {(0, 0): "f"}
        assert len(questions.outcomes(log, match)) == 5

        assert log.discard_unfinished(match) == 1
        with log.shard(match, 1, 0, "f", played.keys) as recorder:
            played.tell(recorder)
        assert set(log.finished_shards(match)) == {(0, 0), (1, 0)}
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def endless_volleys() -> Any:
    """One query of each of five games a turn, without end."""
    zeros, no, floats = np.zeros(5, np.int64), np.zeros(5, bool), np.full(5, 0.1)
    turn = 0
    while True:
        turn += 1
        yield QueryRows("p", np.arange(5), zeros + turn, zeros, zeros, no, no, *[floats] * 3, no, no, no)


def test_a_fault_that_is_not_the_databases_is_told_as_it_is(
    path: Any, begun: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    with open_log(path) as log:
        played = log.shard(begun(log), 0, 0, "f", made().keys)
        with pytest.raises(IndexError, match="out of bounds"), played as recorder:
            heard = Pieces(recorder)
            for volley in endless_volleys():
                heard.queries(replace(volley, label=np.zeros(2, np.int64)))


def test_a_lock_that_another_process_holds_is_told(
    path: Any, begun: Any, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena.log.database.LOCK_WAIT", 0.05)
    with open_log(path) as log:
        match = begun(log)
        other = sqlite3.connect(path, isolation_level=None)
        leaving = log.shard(match, 0, 0, "f", made().keys)
        with pytest.raises(LogError, match="another process holds it locked"), leaving as recorder:
            made().tell(recorder)
            other.execute("BEGIN IMMEDIATE")
        other.execute("ROLLBACK")
        other.close()
        with log.shard(match, 0, 0, "f", made().keys) as recorder:
            made().tell(recorder)
        assert log.finished_shards(match)


def test_another_process_is_waited_for(path: Any, begun: Any, made: Any) -> None:
    with open_log(path) as log:
        match = begun(log)
        other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        release.start()
        with log.shard(match, 0, 0, "f", made().keys) as recorder:
            made().tell(recorder)
        release.join()
        other.close()
        assert log.finished_shards(match)
