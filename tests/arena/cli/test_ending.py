"""How commands end that a signal, foreign code or a closed pipe ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import open_log

ROOT = Path(__file__).parents[3]
MAIN = "from arena.cli.app import main; main()"
WAITING = """
import pkgutil, time
def wait(*_, **__):
    print("here", flush=True)
    time.sleep(100)
setattr(pkgutil.resolve_name("{0}"), "{1}", wait)
"""
SCENARIO = """
title = "Small"
games = 10
utility = 0
attackers = ["{attacker}"]
defenders = ["{defender}"]
[threat]
epsilon = 0.2
budget = 20
"""
AGENTS = """
import sys, time
from dataclasses import dataclass
from arena.players import Attacker, Defender, Needs

def here():
    print("here", flush=True)
    time.sleep(100)

@dataclass(frozen=True)
class Sleeps(Defender):
    def fit(self, classifier, splits):
        here()

@dataclass(frozen=True)
class Swallows(Defender):
    def fit(self, classifier, splits):
        try:
            here()
        except BaseException:
            pass
        return self

@dataclass(frozen=True)
class Exits(Defender):
    def __post_init__(self):
        sys.exit(0)

@dataclass(frozen=True)
class Interrupts(Defender):
    def __post_init__(self):
        raise KeyboardInterrupt
"""
BY_SIGNAL = {signal.SIGINT: "", signal.SIGTERM: " (SIGTERM)", signal.SIGHUP: " (SIGHUP)"}
LONG = {
    "play": (
        "arena.cli.play.open_log",
        "play small.toml --log x.db",
        "finished shards are safe in x.db",
    ),
    "train": ("arena.cli.train.load_dataset", "train digits-cnn digits", "the same command starts over"),
    "evaluate": ("arena.cli.evaluate.load_dataset", "evaluate --dataset digits", "the same command starts"),
    "check": ("arena.cli.check.agents_of", "check none", "the same command starts over"),
    "report": ("arena.cli.report.open_log", "report x.db", "the same command starts over"),
    "export": ("arena.cli.export.open_log", "export x.db", "the same command starts over"),
    "compare": ("arena.cli.compare.open_log", "compare x.db 1 2", "the same command starts over"),
    "get": ("arena.cli.data.fetch", "data get mnist", "nothing was kept"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "my_agents.py").write_text(AGENTS)
    return tmp_path


@pytest.fixture
def start(children: Any) -> Callable[..., Any]:
    """Starts a command, with something done before, and waits until it says that it is there."""

    def begin(words: str, before: str = "") -> Any:
        child = children.start(before + MAIN, *words.split())
        child.wait_until(lambda: "here" in child.out.read_text(), 60)
        return child

    return begin


def scenario(attacker: str = "random-search", defender: str = "none") -> None:
    Path("small.toml").write_text(SCENARIO.format(attacker=attacker, defender=defender))


@pytest.mark.parametrize("number", BY_SIGNAL)
@pytest.mark.parametrize("name", LONG)
def test_every_long_command_ends_in_a_sentence_and_the_signals_status(
    start: Callable[..., Any], name: str, number: signal.Signals
) -> None:
    scenario()
    place, words, said = LONG[name]
    child = start(words, WAITING.format(*place.rsplit(".", 1)))
    child.send_signal(number)
    assert child.wait(60) == 128 + number
    assert f"interrupted{BY_SIGNAL[number]}: {said}" in child.errors
    assert child.errors.strip().count("\n") == 0


@pytest.mark.parametrize("first", BY_SIGNAL)
def test_a_second_signal_ends_it_at_once(start: Callable[..., Any], first: signal.Signals) -> None:
    """Here while the log is closed, when the first one is only noted."""
    scenario()
    slow = WAITING.format("arena.log.writer.Database", "close")
    child = start("play small.toml --log x.db --device cpu", slow)
    child.send_signal(first)
    time.sleep(0.1)
    assert child.poll() is None and "interrupted" not in child.errors
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    safe = "finished shards are safe in x.db; the same command goes on from them\n"
    assert child.errors.endswith(f"\ninterrupted again, and ended at once: {safe}")
    assert "Traceback" not in child.errors


def test_what_was_ignored_at_the_start_is_ignored(start: Callable[..., Any]) -> None:
    ignoring = "import signal\nfor n in (signal.SIGINT, signal.SIGHUP): signal.signal(n, signal.SIG_IGN)\n"
    child = start("check none", ignoring + WAITING.format("arena.cli.check", "agents_of"))
    for number in (signal.SIGINT, signal.SIGHUP):
        child.send_signal(number)
    time.sleep(0.1)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 143 and child.errors.startswith("interrupted (SIGTERM): ")


@pytest.mark.parametrize("defender", ["Sleeps", "Swallows"])
def test_a_signal_is_heard_while_a_defender_prepares_and_if_it_swallows_it(
    start: Callable[..., Any], defender: str
) -> None:
    scenario(defender=f"my_agents:{defender}")
    child = start("play small.toml --log x.db --device cpu")
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 143
    assert "interrupted (SIGTERM): finished shards are safe in x.db" in child.errors
    assert "Traceback" not in child.errors


def test_a_signal_is_heard_while_a_service_is_waited_for(start: Callable[..., Any]) -> None:
    scenario()
    Path("small.toml").write_text('classifier = "paid:ask"\n' + Path("small.toml").read_text())
    Path("paid.py").write_text(
        "from arena.classifiers import FromNumpy\n"
        "@FromNumpy\n"
        "def ask(x):\n"
        "    print('here', flush=True)\n"
        "    raise ConnectionError('down')\n"
    )
    child = start("play small.toml --log x.db --device cpu")
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    assert "interrupted: the same command starts over\n" in child.errors and "Traceback" not in child.errors


@pytest.mark.parametrize(
    ("defender", "said"),
    [
        ("Exits", "code that this command ran called sys.exit(0) (my_agents.py:"),
        ("Interrupts", "code that this command ran raised KeyboardInterrupt (my_agents.py:"),
    ],
)
@pytest.mark.parametrize("words", ["play small.toml --log x.db", "check my_agents:{}"])
def test_foreign_code_never_ends_a_command_as_if_all_were_well(
    children: Any, defender: str, said: str, words: str
) -> None:
    scenario(defender=f"my_agents:{defender}")
    child = children.start(MAIN, *words.format(defender).split())
    assert child.wait(60) != 0
    assert said in child.errors or defender in child.errors  # where the agent itself is blamed for it
    assert "Traceback" not in child.errors


CLOSED = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1); os.close(w)\n"


@pytest.mark.parametrize("words", ["scenarios", "agents", "agents --json", "networks --json", "--version"])
def test_a_pipe_that_nobody_reads_is_no_error(children: Any, words: str) -> None:
    child = children.start(CLOSED + MAIN + "\n", *words.split())
    assert (child.wait(60), child.errors) == (1, "")


def test_a_pipe_that_nobody_reads_is_no_error_at_the_end_of_a_process_either() -> None:
    command = [sys.executable, "-c", CLOSED + MAIN, "scenarios", "--json"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "")


FULL = "import os; w = os.open('/dev/full', os.O_WRONLY); os.dup2(w, {}); os.close(w)\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("words", ["scenarios", "networks --json", "runs x.db", "play small.toml --log x.db"])
def test_output_that_cannot_be_written_ends_in_a_sentence(children: Any, words: str) -> None:
    scenario()
    open_log("x.db").close()
    child = children.start(FULL.format(1) + MAIN + "\n", *words.split())
    assert child.wait(60) == 1
    safe = "finished shards are safe in x.db; the same command goes on from them"
    how = safe if words.startswith("play") else "the same command starts over"
    said = f"error: what this command says cannot be written (No space left on device); {how}\n"
    assert child.errors.endswith(said)
    assert "Traceback" not in child.errors and "the run failed" not in child.errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_progress_that_cannot_be_written_ends_no_run(children: Any) -> None:
    scenario()
    child = children.start(FULL.format(2) + MAIN + "\n", "play", "small.toml", "--log", "x.db")
    assert child.wait(60) == 0


def test_within_python_a_command_leaves_the_handlers_as_they_were() -> None:
    before = [signal.getsignal(number) for number in BY_SIGNAL]
    assert CliRunner().invoke(app, ["scenarios"]).exit_code == 0
    assert [signal.getsignal(number) for number in BY_SIGNAL] == before
