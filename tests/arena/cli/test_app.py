"""The command `arena` as a user types it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from importlib.metadata import version
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


def test_a_dry_run_is_said_as_json(scenario: Path) -> None:
    words = ("--dry-run", "--json", "--games", "30", "--add-attacker", "all", "--defender", "snd:sigma=0.05")
    result = CliRunner().invoke(app, ["play", str(scenario), *words], catch_exceptions=False)
    plan = json.loads(result.stdout)
    assert plan["title"] == "Small (attackers and defenders changed)"
    assert plan["queries"] == sum(m["queries"] for m in plan["matches"])
    square = plan["matches"][0]
    assert (square["attacker"]["p"], square["queries"], square["shards"]) == (0.3, 600, 1)
    assert {m["defenders"][0]["sigma"] for m in plan["matches"]} == {0.05}
    whys = {out["name"]: out["why"] for out in plan["left_out"]}
    assert whys["attacker eot"] == 'it needs parameter "of" (Attacker)'
    assert "left out: attacker eot: it needs parameter" in result.stderr
    assert not Path("runs").exists()


def test_agents_of_the_command_line_play_in_place_of_the_files_or_beside_them(scenario: Path) -> None:
    words = ("play", str(scenario), "--device", "cpu", "--games", "3", "--defender", "none")
    code, said = arena(*words, "--attacker", "square:p=0.2")
    assert code == 0
    assert "Small (attackers and defenders changed)" in said and "random-search" not in said
    code, said = arena(*words, "--add-attacker", "rays")
    assert code == 0
    assert "random-search" in said and "rays" in said and "snd" not in said


def test_play_without_a_file_lists_the_packaged_scenarios() -> None:
    code, said = arena("play")
    assert code == 2
    assert re.search(r"quickstart +Quickstart: score-based attackers on digits\n", said)
    assert "arena play quickstart" in said
    code, listed = arena("scenarios", "--json")
    assert code == 0
    titles = {row["name"]: row["title"] for row in json.loads(listed)}
    assert titles["mnist"] == "Score-based attackers on MNIST"
    assert all(f"  {name}" in said for name in titles)


def test_the_version_is_said() -> None:
    assert arena("--version") == (0, f"blackbox-arena {version('blackbox-arena')}\n")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("paly",), "play"),
        (("agents", "shwo", "square"), "show"),
        (("play", "quickstart", "--devise", "cpu"), "--device"),
        (("play", "quikstart"), "quickstart"),
        (("play", "quickstart", "--attacker", "sqare"), "square"),
        (("play", "quickstart", "--defender", "sdn:sigma=0.1"), "snd"),
        (("play", "quickstart", "--attacker", "square:rescle=true"), "rescale"),
        (("data", "get", "minst"), "mnist"),
    ],
)
def test_a_misspelt_word_gets_the_one_that_was_meant(words: tuple[str, ...], meant: str) -> None:
    code, said = arena(*words)
    assert code == 2
    assert re.search(rf"(did you mean|Did you mean|options?:) ?[\"']?{meant}", said)


def test_networks_and_data_are_listed_for_programs() -> None:
    listed = json.loads(arena("networks", "--json")[1])
    digits = next(row for row in listed["networks"] if row["name"] == "digits-cnn")
    assert digits["shape"] == [1, 8, 8] and digits["packaged_weights"] and digits["weights"] > 1000
    found = {row["name"]: row["found"] for row in json.loads(arena("data", "--json")[1])}
    assert found["digits"] == "yes" and found["npz"] == "own"


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
        (("play", "small.toml", "--json"), "--json: it says what a --dry-run finds; give both"),
        (("play", "small.toml", "--attacker", "cgba"), 'attacker cgba cannot play: it plays norm "l2"'),
        (("play", "small.toml", "--attacker", "square=3"), "--attacker: found 'square=3'; it must be NAME"),
        (("play", "small.toml", "--log", ""), "--log: found ''; it must be a path or a database URL"),
        (
            ("play", "small.toml", "--log", "small.toml/x.db"),
            "small.toml is no folder",
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
def test_a_bug_in_a_users_defender_ends_its_matches_in_a_line_and_has_a_status_of_its_own(
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
    assert child.wait() == 3
    errors = child.errors
    assert "Traceback" not in errors
    told = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert len(told) == 2, errors
    assert told[0].endswith(
        "my_agents:Buggy: Buggy.respond failed with ValueError: my own bug (my_agents.py:6)"
    )
    assert "2 of 4 matches failed: games ended with error" in errors
    assert _finished(Path("x.db")) >= 2
    again = start()
    assert again.wait() == 3
    assert "holds this run already" in again.out.read_text()


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
