"""A PostgreSQL that goes away is waited for, and nothing is lost or written twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from arena.log import Log, LogError, open_log, questions, schema
from arena.log.database import Database
from arena.progress import hearing
from arena.records.pieces import ShardLost


class Heard:
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def working(self, work: object) -> None: ...

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    with hearing(heard):
        yield heard


def cut(log: Log) -> None:
    """Cut all connections to the database."""
    with log.database.writer.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        )


def play(log: Log, match: int, number: int, made: Any) -> None:
    """As the runner does: again, where the shard was lost."""
    for _ in range(2):
        try:
            with log.shard(match, number, 0, "f", made().keys) as recorder:
                made().tell(recorder)
            return
        except ShardLost:
            pass


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_stopped_is_waited_for(
    server: Any, begun: Any, made: Any, heard: Heard, mode: str
) -> None:
    with open_log(server.url()) as log:
        match = begun(log)
        play(log, match, 0, made)
        with pytest.raises(ShardLost), log.shard(match, 1, 0, "f", made().keys) as recorder:
            server.stop(mode)
            made().tell(recorder)
            starting = threading.Timer(1.0, server.start)
            starting.start()
        play(log, match, 1, made)
        starting.join()
        assert log.finished_shards(match) == {(0, 0): "f", (1, 0): "f"}
        ended = questions.outcomes(log, match)
        assert len(set(ended.game.tolist())) == len(ended) == 10
        assert questions.sql(log, "SELECT count(DISTINCT game_id) FROM queries").rows == [(10,)]
        (said,) = heard.remarks
        assert "the server does not answer; waiting up to 60 s for it" in said


def test_a_server_that_stays_away_ends_the_run_with_one_sentence(
    server: Any, begun: Any, made: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arena.log.waiting.SERVER_WAIT", 0.6)
    where = server.url()
    log = open_log(where)
    match = begun(log)
    play(log, match, 0, made)
    server.stop("fast")
    try:
        said = "the server did not answer for 0.6 s: the finished shards in it are safe"
        with pytest.raises(LogError, match=said):
            log.end_run(1)
        log.close()
    finally:
        server.start()
    with open_log(where) as log:
        assert log.finished_shards(match) == {(0, 0): "f"}
        assert log.find_or_begin_run(questions.runs(log)[0].info) == (1, False)


@pytest.mark.parametrize("committed", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("what", ["INSERT INTO runs", "INSERT INTO matches", "UPDATE shards"])
def test_a_transaction_of_whose_end_nobody_heard_is_looked_up_and_done_once(
    postgresql: str,
    begun: Any,
    made: Any,
    heard: Heard,
    what: str,
    committed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection is cut before or after the end of the transaction."""
    transaction, cuts = Database.transaction, 0

    @contextmanager
    def cut_at_the_end(self: Database, connection: Connection, durable: bool) -> Iterator[None]:
        nonlocal cuts
        said: list[str] = []
        with transaction(self, connection, durable):
            event.listen(connection, "before_cursor_execute", lambda *told: said.append(told[2]))
            yield
            hit = not cuts and any(statement.startswith(what) for statement in said)
            if hit and not committed:
                cuts += 1
                cut(log)
        if hit and committed:
            cuts += 1
            cut(log)
            connection.execute(text("SELECT 1"))

    monkeypatch.setattr(Database, "transaction", cut_at_the_end)
    with open_log(postgresql) as log:
        match = begun(log)
        play(log, match, 0, made)
        assert cuts == 1
        (run,) = questions.runs(log)
        assert len(questions.matches(log, run.id)) == 1
        assert len(questions.outcomes(log, match)) == 5
        with log.database.reader.connect() as connection:
            for table in (schema.runs, schema.matches, schema.shards):
                assert len(connection.execute(table.select()).all()) == 1


def test_a_server_that_never_answered_is_told_without_a_promise(postgresql: str) -> None:
    nowhere = postgresql.replace("/postgres?", "/no_such_database?")
    with pytest.raises(LogError, match=r'there is no connection to its server .*"no_such_database"') as told:
        open_log(nowhere)
    assert "safe" not in str(told.value) and "must run, and know the database" in str(told.value)
