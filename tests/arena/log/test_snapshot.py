"""What is asked of a log together is answered from the log as it was at one moment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from arena.log import Log, open_log, questions
from arena.log.exports import TABLES, snapshot
from arena.log.overview import overview
from arena.records.runs import RunInfo
from arena.report import print_results, read_run
from arena.report.comparison import compare
from arena.report.html import render

Asked = Callable[[Log], Any]


def pages(log: Log) -> dict[str, Any]:
    """All that commands read of a log's runs."""
    console = Console(file=StringIO(), width=100)
    print_results(console, log, 1)
    one, other = (read_run(log, run) for run in (1, 2))
    with snapshot(log) as seen:
        counts = {name: sum(map(len, seen.rows(table))) for name, table in TABLES.items()}
    assert isinstance(console.file, StringIO)
    return {
        "table": console.file.getvalue(),
        "page": render(log, 1),
        "comparison": str(compare(log, one, other)),
        "runs": overview(log),
        "export": counts,
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
        yield reader, finish


@pytest.mark.parametrize("what", ["table", "page", "comparison", "runs", "export"])
def test_a_shard_that_ends_between_two_questions_is_in_neither_or_both(
    read: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question but the first of a page is asked after one more shard was finished."""
    reader, finish = read
    asked: list[Any] = []
    ask = questions.ask

    def later(log: Log, wanted: Any) -> Any:
        rows = ask(log, wanted)
        asked.append(wanted)
        finish()
        return rows

    before = pages(reader)[what]
    with monkeypatch.context() as patched:
        patched.setattr(questions, "ask", later)
        with reader.snapshot():
            one = pages(reader)[what]
    assert one == before
    assert len(asked) > 5
    assert pages(reader)[what] != before


@pytest.mark.parametrize("ask", [lambda log: print_results(Console(file=StringIO()), log, 1), overview])
def test_each_page_is_a_snapshot_by_itself(read: Any, ask: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, _ = read
    seen: list[Any] = []
    original = questions.ask

    def noted(log: Log, wanted: Any) -> Any:
        with log.snapshot() as connection:
            seen.append(connection)
        return original(log, wanted)

    monkeypatch.setattr(questions, "ask", noted)
    ask(reader)
    assert len(seen) > 2
    assert len({id(connection) for connection in seen}) == 1
