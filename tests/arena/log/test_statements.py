"""Statements that only read are answered, on SQLite and on PostgreSQL; hostile ones do nothing at all."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any

import pytest

from arena.interruptions import Interrupted, heeding
from arena.log import Log, LogError, open_log, questions
from arena.log.statements import asking


@pytest.fixture
def played(log: Log, begun: Callable[..., int], made: Callable[..., Any]) -> None:
    shard = made(games=6)
    with log.shard(begun(log), 0, 0, "f", shard.keys) as recorder:
        shard.tell(recorder)


def test_rows_are_read_as_they_are_wanted(log: Log, played: None) -> None:
    counted = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
    many = f"{counted} SELECT i, i * 2 FROM n"
    with asking(log, many) as answer:
        assert [next(answer.rows) for _ in range(3)] == [(1, 2), (2, 4), (3, 6)]
        assert len(answer.columns) == 2
    with asking(log, "SELECT count(*) FROM finished_games -- a remark") as answer:
        assert list(answer.rows) == [(6,)]
    with asking(log, "  ") as answer:
        assert answer.columns == [] and list(answer.rows) == []


HOSTILE = [
    "INSERT INTO notes VALUES (1, 1, 1, 'a', 'b', 1)",
    "WITH x AS (DELETE FROM games RETURNING id) SELECT * FROM x",
    "DROP TABLE games",
    "SELECT 1; COMMIT; DROP TABLE games",
    "SELECT 1; ROLLBACK; DELETE FROM games",
    "BEGIN",
    "COMMIT",
    "VACUUM",
]
OF_SQLITE = [
    "ATTACH DATABASE '{file}' AS other",
    "VACUUM INTO '{file}'",
    "PRAGMA writable_schema = 1",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA query_only = 0",
    "SELECT load_extension('x')",
    "CREATE TEMP TABLE t (x)",
    "REINDEX",
    "ANALYZE",
]
OF_POSTGRESQL = [
    "COPY (SELECT 1) TO PROGRAM 'touch {file}'",
    "COPY (SELECT 1) TO '{file}'",
    "COPY games FROM PROGRAM 'echo 1'",
    "SET TRANSACTION READ WRITE",
    "DO $$ BEGIN DELETE FROM games; END $$",
    "SELECT nextval('games_id_seq')",
    "CREATE TEMP TABLE t (x int)",
    "LISTEN x",
    "SELECT * FROM games FOR UPDATE",
]


def test_hostile_statements_do_nothing(log: Log, played: None, tmp_path: Path) -> None:
    for statement in HOSTILE + (OF_SQLITE if log.database.is_sqlite else OF_POSTGRESQL):
        with (
            pytest.raises(LogError, match=r"^log "),
            asking(log, statement.format(file=tmp_path / "made")) as answer,
        ):
            pytest.fail(f"{statement}: {list(answer.rows)}")
        assert not (tmp_path / "made").exists(), statement
        assert questions.sql(log, "SELECT count(*) FROM games").rows == [(6,)], statement


def test_what_postgresql_lets_functions_do_is_rolled_back(log: Log, played: None) -> None:
    """Until version 16 its large objects could be made in transactions that only read."""
    if not log.database.is_sqlite:
        with suppress(LogError):
            questions.sql(log, "SELECT lo_create(0)")
        assert questions.sql(log, "SELECT count(*) FROM pg_largeobject_metadata").rows == [(0,)]


def test_pragmas_that_tell_are_answered(log: Log, played: None) -> None:
    if log.database.is_sqlite:
        names = {row[1] for row in questions.sql(log, "PRAGMA table_info(marks)").rows}
        assert {"game_id", "at", "vote"} <= names


def test_a_signal_ends_a_long_statement(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with open_log(tmp_path / "log.db") as log, heeding():
        Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(Interrupted):
            questions.sql(log, endless)
