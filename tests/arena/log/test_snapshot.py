"""What is asked of a log together is answered from the log as it was at one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Engine, event

from arena.log import Log, open_log, questions
from arena.log.answers import LoggedRun
from arena.log.exports import TABLES, snapshot
from arena.log.overview import overview
from arena.records.runs import RunInfo
from arena.report.comparison import compare
from arena.report.html import render
from arena.report.terminal import print_results

Asked = Callable[[Log], Any]

RUNS: list[LoggedRun] = []


def table(log: Log) -> str:
    console = Console(file=StringIO(), width=100)
    print_results(console, log, 1)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def exported(log: Log) -> dict[str, int]:
    with snapshot(log) as seen:
        return {name: sum(map(len, seen.rows(table))) for name, table in TABLES.items()}


READ: dict[str, Asked] = {
    "table": table,
    "page": lambda log: render(log, 1),
    "comparison": lambda log: str(compare(log, *RUNS)),
    "runs": overview,
    "export": exported,
}


@pytest.fixture
def read(log: Log, where: str, run_info: RunInfo, match_info: Any, made: Any) -> Any:
    """The log with two runs of a match each, open a second time; and a function that finishes a shard of the
    first one there."""
    for run in (run_info, replace(run_info, fingerprint="other")):
        match = log.begin_match(log.begin_run(run), replace(match_info, at=(3, 6)), fresh=True)
        with log.shard(match, 0, 0, "f", made().keys) as recorder:
            made().tell(recorder)
    count = iter(range(1, 10**6))

    def finish() -> None:
        with log.shard(1, next(count), 0, "f", made().keys) as recorder:
            made().tell(recorder)

    with open_log(where, create=False) as reader:
        RUNS[:] = questions.runs(reader)
        yield reader, finish


@pytest.mark.parametrize("what", list(READ))
def test_a_shard_that_ends_between_two_questions_is_not_seen_by_the_second(
    read: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, finish = read
    before = READ[what](reader)
    statements: list[str] = []

    @event.listens_for(Engine, "after_cursor_execute")
    def later(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread() is threading.main_thread() and statement.startswith("SELECT"):
            statements.append(statement)
            finish()

    try:
        assert READ[what](reader) == before
    finally:
        event.remove(Engine, "after_cursor_execute", later)
    assert len(statements) >= 4
    assert READ[what](reader) != before


def test_pages_are_read_while_shards_are_finished(read: Any) -> None:
    reader, finish = read
    ended = threading.Event()

    def play() -> None:
        while not ended.wait(0.02):
            finish()

    playing = threading.Thread(target=play)
    playing.start()
    try:
        for what in list(READ) * 2:
            READ[what](reader)
    finally:
        ended.set()
        playing.join()
