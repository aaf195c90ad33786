"""The command `arena` as a user types it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from arena.cli import play
from arena.cli.app import app

SMALL = """
title = "Small"
games = 10
utility = 20
at = [5]
attackers = [{ name = "square", p = 0.3 }, "random-search"]
defenders = ["none", { name = "snd", sigma = 0.05 }]
[threat]
epsilon = 0.2
budget = 20
"""
MANY = SMALL.replace("utility = 20", "utility = 0\nshard = 10")
MANY = MANY.replace("games = 10", "games = 200").replace("budget = 20", "budget = 300")
COMMAND = "from arena.cli.app import main; main()"


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return file


@pytest.fixture
def start(children: Any, scenario: Path) -> Callable[..., Any]:
    """Plays the scenario in a process of its own."""
    words = ("play", str(scenario), "--log", "x.db", "--device", "cpu")
    return lambda **options: children.start(COMMAND, *words, COLUMNS="200", **options)


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.output


def test_play_prints_the_results_and_where_the_log_is(scenario: Path) -> None:
    code, said = arena("play", str(scenario), "--device", "cpu")
    assert code == 0
    for word in ("square", "random-search", "none", "snd", "Small", "runs/small.db"):
        assert word in said
    assert Path("runs/small.db").exists()
    code, said = arena("play", str(scenario), "--device", "cpu")
    assert code == 0
    assert "holds this run already" in said
    code, said = arena("report", "runs/small.db")
    assert code == 0
    assert Path("runs/small.html").read_text().lower().startswith("<!doctype html>")


def test_dry_run_says_what_to_expect_and_plays_nothing(scenario: Path) -> None:
    code, said = arena("play", str(scenario), "--dry-run", "--games", "30")
    assert code == 0
    assert "4 matches, 2,400 queries at most" in said
    assert not Path("runs").exists()


def test_agents_are_listed_and_shown() -> None:
    code, said = arena("agents")
    assert code == 0
    assert "square" in said and "aaa-sine" in said and "cannot be imported" not in said
    code, said = arena("agents", "show", "eot")
    assert code == 0
    assert "repeats: int = 5" in said and "of: Attacker = required" in said


def test_what_a_parameter_is_stands_with_the_agent_or_with_the_one_it_is_from() -> None:
    code, said = arena("agents", "show", "bypass-fq")
    assert code == 0
    assert "initial_probes: int = 100  (as for hop-skip-jump)\n" in said
    assert "max_directions: int = 4\n" in said
    _, said = arena("agents", "show", "conv-parity")  # "gamma, bound, search, images, seed: as for PredCoin."
    assert "(as for" not in said


def test_check_puts_an_agent_through_the_checks() -> None:
    code, said = arena("check", "none")
    assert code == 0
    assert "all checks passed" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("play", "nowhere.toml"), "there is no scenario file nowhere.toml"),
        (("play", "small.toml", "--device", "gpu"), 'there is no device "gpu" here'),
        (("play", "small.toml", "--games", "9999"), "games: found 9999; classifier digits-cnn gets"),
        (("play", "small.toml", "--log", "small.toml"), "small.toml"),
        (("play", "small.toml", "--log", ""), "--log: found ''; it must be a path or a database URL"),
        (
            ("play", "small.toml", "--log", "small.toml/x.db"),
            "the folder small.toml for the log cannot be made",
        ),
        (("play", "aaa-table-6"), "cifar-10-batches-bin"),
        (("report", "nowhere.db"), "nowhere.db"),
        (("agents", "show", "sqare"), 'did you mean "square"'),
        (("check", "no.such:Thing"), "cannot be imported"),
    ],
)
def test_a_mistake_gets_a_sentence_and_no_traceback(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], said: str
) -> None:
    monkeypatch.delenv("ARENA_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(scenario.parent))
    code, output = arena(*words)
    assert code in (1, 2)
    assert said in output.replace("\n", "")
    assert "Traceback" not in output
    assert scenario.read_text() == SMALL


@pytest.mark.slow
def test_a_bug_in_a_users_defender_keeps_its_traceback_and_the_finished_shards(
    scenario: Path, start: Callable[..., Any]
) -> None:
    (scenario.parent / "my_agents.py").write_text(
        "from dataclasses import dataclass\n"
        "from arena.players import Defender\n"
        "@dataclass(frozen=True)\n"
        "class Buggy(Defender):\n"
        "    def transform(self, x, rows):\n"
        "        raise ValueError('my own bug')\n"
    )
    scenario.write_text(SMALL.replace('{ name = "snd", sigma = 0.05 }', '"my_agents:Buggy"'))
    child = start()
    assert child.wait() == 1
    errors = child.errors
    assert "Traceback" in errors and "my own bug" in errors
    assert "the run failed: finished shards are safe in x.db; the same command goes on" in errors
    assert _finished(Path("x.db")) >= 1


def test_the_bar_keeps_its_numbers_on_a_narrow_terminal(scenario: Path) -> None:
    bar = play._Bar(play.ready(str(scenario), [], "cpu", None, None))
    console = Console(width=80, force_terminal=True, color_system=None)
    task = bar.progress.add_task(
        "12/20 eot(square) vs a-defender-of-a-long-name+another", total=2_000, rate=98_765
    )
    bar.progress.update(task, completed=1_234)
    with console.capture() as captured:
        console.print(bar.progress.get_renderable())
    (line,) = captured.get().strip().splitlines()
    assert "1234/2000 games, 98,765 queries/s" in line and "…" in line and line.startswith("12/20")
    assert len(line) <= 80


def test_ctrl_c_keeps_finished_shards_and_says_how_to_go_on(
    scenario: Path, start: Callable[..., Any]
) -> None:
    scenario.write_text(MANY)
    child = start()
    child.wait_until(lambda: _finished(Path("x.db")) >= 1)
    child.send_signal(signal.SIGINT)
    assert child.wait() == 130
    errors = child.errors
    assert "interrupted" in errors and "the same command goes on" in errors and "Traceback" not in errors
    assert _finished(Path("x.db")) >= 1


@pytest.mark.slow
def test_a_full_disk_is_told_in_a_sentence_and_loses_nothing(
    scenario: Path, start: Callable[..., Any]
) -> None:
    scenario.write_text(MANY)
    child = start(largest_file=800_000)
    assert child.wait() == 1
    errors = child.errors
    assert "error: log x.db" in errors and "the finished shards in it are safe" in errors
    assert "Traceback" not in errors
    assert _finished(Path("x.db")) >= 1


def _finished(log: Path) -> int:
    import sqlite3

    try:
        with sqlite3.connect(f"{log.absolute().as_uri()}?mode=ro", uri=True) as connection:
            found: int = connection.execute(
                "SELECT count(*) FROM shards WHERE state = 'finished'"
            ).fetchone()[0]
            return found
    except sqlite3.Error:
        return -1
