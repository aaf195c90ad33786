"""The command that kills real runs: it comes to its end, and sees what a kill must never leave."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from bench.kills import AGENTS, SCENARIO, kill_runs
from bench.logs import Book

SMALL = (
    SCENARIO.replace('"square", "random-search", ', "")
    .replace('"none", ', "")
    .replace("budget = 50", "budget = 9")
    .replace("at = [10, 40]", "at = [5]")
)


@pytest.mark.slow
def test_three_kills_lose_nothing() -> None:
    tally = kill_runs(3, None, 0, scenario=SMALL)
    assert tally.kills == 3 and tally.logs >= 1
    assert tally.lost == 0 and tally.differences == [] and tally.refused == []


@pytest.mark.slow
def test_killed_workers_lose_nothing_and_none_lives_on() -> None:
    tally = kill_runs(4, None, 1, scenario=SMALL, workers=2)
    assert tally.kills == 4 and tally.fell["worker"]
    assert tally.clean, (tally.differences, tally.refused, tally.orphans)


@pytest.mark.slow
def test_what_a_kill_must_never_leave_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("kill_agents.py").write_text(AGENTS)
    Path("small.toml").write_text(SMALL)
    said = CliRunner().invoke(app, ["play", "small.toml", "--log", "whole.db", "--device", "cpu"])
    assert said.exit_code == 0, said.output
    whole = Book("whole.db")
    seen, contents = whole.look(), whole.contents()
    assert seen.faults == [] and not seen.unfinished and seen.finished
    planted = {
        "UPDATE queries SET margin = margin + 1e-15 WHERE turn = 3": (True, "shards"),
        "DELETE FROM games WHERE id = 1": (True, "without all their games"),
        "DELETE FROM marks WHERE game_id = 2": (True, "shards"),
        "UPDATE shards SET state = 'playing' WHERE id = 1": (True, "games of no finished shard"),
        "DELETE FROM shards WHERE id = 2": (True, "queries, marks or notes of no shard"),
        "UPDATE notes SET value = 'other' WHERE key = 'word' AND game_id = 1": (True, "shards"),
        "UPDATE runs SET ended = NULL": (False, "runs"),
        "UPDATE utilities SET accuracy = 0": (False, "utilities"),
        "UPDATE utilities SET cost_1 = 0": (False, ""),
        "UPDATE runs SET started = '2020-01-01 00:00:00.000000'": (False, ""),
    }
    for number, (statement, (lost, told)) in enumerate(planted.items()):
        shutil.copy("whole.db", copy := f"{number}.db")
        with sqlite3.connect(copy) as connection:
            connection.execute(statement)
        connection.close()
        book = Book(copy)
        found = book.look()
        assert any(found.finished.get(key) != rows for key, rows in seen.finished.items()) == lost, statement
        differ = [name for name, rows in book.contents().items() if contents[name] != rows]
        assert told in ("", *differ) or any(told in fault for fault in found.faults), statement
        assert bool(differ) == bool(told), statement
