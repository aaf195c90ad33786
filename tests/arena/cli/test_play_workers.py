"""`arena play --workers`: signals end all, nobody lives on, and several such commands share a run."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from bench.logs import Book
from bench.worker_processes import left_behind, workers_of

SCENARIO = """
title = "In workers"
games = 12
shard = 2
utility = 0
attackers = ["random-search"]
defenders = ["none", { name = "snd", sigma = 0.05 }]
threat = { epsilon = 0.1, budget = 300, objective = "submit" }
"""
COMMAND = "from arena.cli.app import main; main()"
Start = Callable[..., Any]


@pytest.fixture
def start(children: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts `arena play` of the scenario in a process."""
    monkeypatch.chdir(tmp_path)
    Path("workers.toml").write_text(SCENARIO)
    words = ("play", "workers.toml", "--device", "cpu", "--log")
    return lambda log, *more: children.start(COMMAND, *words, log, *more, XDG_CACHE_HOME=str(tmp_path))


def interrupted(child: Any, number: int, shards: int) -> None:
    """Send a signal once so many shards are finished; no worker lives on."""
    book = Book("log.db")
    child.wait_until(lambda: book.counts()[0] >= shards and len(workers_of(child.pid)) == 2)
    workers = workers_of(child.pid)
    child.send_signal(number)
    child.wait()
    assert left_behind(workers) == []


def test_whatever_ends_the_command_ends_its_workers_and_it_goes_on(start: Start) -> None:
    child = start("log.db", "--workers", "2")
    interrupted(child, signal.SIGINT, 1)
    assert child.returncode == 130
    said = " ".join(child.errors.split())
    assert "interrupted: finished shards are safe in log.db; the same command goes on from them" in said
    assert "Traceback" not in said
    before = Book("log.db").look()
    assert before.faults == [] and before.finished
    child = start("log.db", "--workers", "2")
    interrupted(child, signal.SIGKILL, len(before.finished) + 1)
    after = Book("log.db").look()
    assert after.faults == []
    assert {key: after.finished.get(key) for key in before.finished} == before.finished


@pytest.mark.slow
def test_several_commands_with_workers_share_a_run(start: Start) -> None:
    whole = start("whole.db")
    assert whole.wait() == 0, whole.errors
    both = [start("log.db", "--workers", "2"), start("log.db"), start("log.db", "--workers", "2")]
    assert [child.wait(300) for child in both] == [0, 0, 0], [child.errors for child in both]
    assert Book("log.db").contents() == Book("whole.db").contents()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers: found '0'; it must be a number from 1 to 1024, or auto"),
        (["--workers", "many"], "--workers: found 'many'; it must be a number from 1 to 1024, or auto"),
    ],
)
def test_workers_that_cannot_be_had_are_said_before_anything_runs(words: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["play", "quickstart", *words])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_without_ray_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    result = CliRunner().invoke(app, ["play", "quickstart", "--ray", "local"])
    assert result.exit_code == 2
    assert "Ray is not installed here; pip install 'blackbox-arena[ray]'" in " ".join(result.output.split())


def test_a_full_disk_costs_the_shards_in_play(start: Start, children: Any, tmp_path: Path) -> None:
    words = ("play", "workers.toml", "--device", "cpu", "--log", "full.db", "--workers", "2")
    child = children.start(COMMAND, *words, largest_file=800_000, XDG_CACHE_HOME=str(tmp_path))
    child.wait_until(lambda: len(workers_of(child.pid)) == 2)
    workers = workers_of(child.pid)
    assert child.wait() == 1
    assert left_behind(workers) == []
    said = " ".join(child.errors.split())
    assert "full.db" in said and "safe" in said and "Traceback" not in said
    book = Book("full.db")
    seen = book.look()
    assert seen.faults == []
    assert 0 < len(seen.finished) < 12
