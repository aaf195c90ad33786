"""Strangers' agents in scenarios: nothing of theirs is imported, and the log says of them what is so."""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from arena.isolation import children
from arena.isolation.sandbox import lacking
from arena.isolation.strangers import StrangeAttacker, attacker_of
from arena.players.attacker import Needs
from arena.players.parameters import parameters
from arena.players.registry import AgentError, name_of
from arena.scenario.errors import ScenarioError
from arena.scenario.files import parse_scenario
from arena.scenario.identity import modules_of_agents
from arena.scenario.matches import agent_name

pytestmark = pytest.mark.skipif(lacking() is not None, reason=f"no isolation here: {lacking()}")

MODULE = '''
from dataclasses import dataclass
from pathlib import Path
import os, sys, time
from strange_helper import STEP
from arena.players import Attacker, Needs

Path("IMPORTED").write_text("") if "{open}" else None

@dataclass(frozen=True)
class Step(Attacker):
    """Steps."""

    size: float = STEP
    needs = Needs(feedback="scores", norms=("linf",), prefix=False)

    @property
    def budget_factor(self):
        return 2

    def play(self, games):
        yield from games.ask((games.x0 + self.size * games.normal(games.x0.shape[1:])).clamp(0, 1))

@dataclass(frozen=True)
class Sleeper(Attacker):
    def play(self, games):
        yield from games.ask(games.x0)
        time.sleep(1000)

@dataclass(frozen=True)
class Liar(Attacker):
    @property
    def needs(self):
        return "everything"

    def play(self, games):
        yield from games.ask(games.x0)

@dataclass(frozen=True)
class Deep(Attacker):
    @property
    def needs(self):
        return Needs(norms=(["l2"],))

    def play(self, games):
        yield from games.ask(games.x0)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "strange_steps.py").write_text(MODULE.replace("{open}", ""))
    (tmp_path / "strange_helper.py").write_text("STEP = 0.125\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def scenario(**changes: Any) -> dict[str, Any]:
    return {
        "isolation": "process",
        "games": 3,
        "shard": 4,
        "attackers": ["strange_steps:Step"],
        "defenders": ["none"],
        "threat": {"epsilon": 0.2, "budget": 5},
        **changes,
    }


def test_a_stranger_is_described_by_its_own_process(folder: Path) -> None:
    found = attacker_of({"name": "strange_steps:Step", "size": 0.25})
    assert isinstance(found, StrangeAttacker)
    assert "strange_steps" not in sys.modules
    assert found.needs == Needs(feedback="scores", norms=("linf",), prefix=False)
    assert found.budget_factor == 2
    assert parameters(found) == {"size": 0.25}
    assert name_of(found) == agent_name(found) == "strange_steps:Step"
    assert modules_of_agents(found) == {"strange_steps"}


def test_what_stands_inside_a_packaged_wrapper_is_a_stranger_too(folder: Path) -> None:
    found = attacker_of({"name": "eot", "repeats": 3, "of": {"name": "strange_steps:Step"}})
    assert agent_name(found) == "eot(strange_steps:Step)"
    assert modules_of_agents(found) == {"strange_steps", "agents.attackers.adaptive.eot"}
    assert parameters(found)["of"] == {"agent": "Step", "size": 0.125}
    assert "strange_steps" not in sys.modules


def test_after_an_interruption_no_reply_is_taken_for_another_s(folder: Path) -> None:
    class Interrupting:
        def __init__(self, line: Any) -> None:
            self.line, self.sendmsg, self.close, self.fileno = line, line.sendmsg, line.close, line.fileno

        def recv(self, size: int) -> bytes:
            raise KeyboardInterrupt

    first: Any = children.nursery()
    first._line = Interrupting(first._line)
    with pytest.raises(KeyboardInterrupt):
        attacker_of("strange_steps:Step")
    assert children.nursery() is not first
    assert isinstance(attacker_of("strange_steps:Step"), StrangeAttacker)


def test_the_arena_s_own_are_built_here() -> None:
    assert not isinstance(attacker_of("square"), StrangeAttacker)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("strange_steps:Nobody", 'strange_steps has no "Nobody"'),
        ("no_such_module:Nobody", "no_such_module cannot be imported"),
        ({"name": "strange_steps:Step", "sise": 1}, 'has no parameter "sise"; did you mean "size"?'),
        ({"name": "strange_steps:Step", "size": "big"}, "parameter \"size\" (float): found 'big'"),
        ("strange_steps:Liar", "needs must be an arena.players.Needs; found str"),
        ("strange_steps:Deep", "needs"),
        ("squaer", 'did you mean "square"?'),
    ],
)
def test_what_is_wrong_with_a_stranger_is_told_in_one_sentence(folder: Path, spec: Any, said: str) -> None:
    with pytest.raises(AgentError) as caught:
        attacker_of(spec)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_scenario_is_validated_and_identified_without_importing_them(folder: Path) -> None:
    parsed = parse_scenario(scenario(), "strange", folder, "strange")
    (match,) = parsed.matches
    assert match.threat.budget == 10
    assert match.describe()["attacker"] == {"name": "strange_steps:Step", "size": 0.125}
    assert match.describe()["isolation"] == "process"
    with pytest.raises(ScenarioError, match="it plays norm"):
        parse_scenario(scenario(threat={"epsilon": 1, "norm": "l2", "budget": 5}), "s", folder, "s")
    assert "strange_steps" not in sys.modules


SCENARIO = """
title = "strangers"
isolation = "{isolation}"
games = 4
shard = 3
at = [2]
attackers = ["square", "{stranger}"]
defenders = ["snd"]
utility = 0

[threat]
epsilon = 0.2
budget = 6
"""
COMMAND = "from arena.cli.app import main; main()"


def rows_of(log: Path) -> list[Any]:
    """The games, marks, queries and notes of a log, but for times and numbers."""
    with sqlite3.connect(log) as database:
        found = []
        for table in ("games", "marks", "queries", "notes"):
            cursor = database.execute(f"SELECT * FROM {table}")
            kept = [n for n, (name, *_) in enumerate(cursor.description) if "time" not in name]
            found.append(sorted(repr([row[n] for n in kept]) for row in cursor))
        return found


def played(children: Any, folder: Path, isolation: str) -> Path:
    (folder / f"{isolation}.toml").write_text(
        SCENARIO.format(isolation=isolation, stranger="strange_steps:Step")
    )
    log = folder / f"{isolation}.db"
    child = children.start(COMMAND, "play", f"{isolation}.toml", "--log", str(log))
    assert child.wait() == 0, child.errors
    return log


def test_a_run_gives_the_same_log_with_and_without_isolation(
    children: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    here, apart = (rows_of(played(children, folder, isolation)) for isolation in ("none", "process"))
    assert apart == here
    assert all(here[:3])


def processes(word: str) -> dict[int, list[str]]:
    """The processes whose command lines hold a word: numbers of their parents and states."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                words = (place / "cmdline").read_bytes().decode(errors="replace").split("\0")
                state = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if word in words and state[0] != "Z":
                found[int(place.name)] = words
    return found


def test_killing_the_arena_leaves_no_process(
    children: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "sleep.toml").write_text(
        SCENARIO.format(isolation="process", stranger="strange_steps:Sleeper").replace('"square", ', "")
    )
    child = children.start(COMMAND, "play", "sleep.toml", "--log", str(folder / "sleep.db"))

    def forked() -> dict[int, list[str]]:
        every = processes("arena.isolation.nursery")
        return {number: words for number, words in every.items() if words[-2] == str(child.pid)}

    def plays() -> bool:
        with suppress(sqlite3.Error), sqlite3.connect(folder / "sleep.db") as database:
            return len(forked()) == 2 and database.execute("SELECT count(*) FROM shards").fetchone()[0] > 0
        return False

    child.wait_until(plays)
    child.send_signal(signal.SIGKILL)
    child.wait()
    end = time.monotonic() + 10
    while forked() and time.monotonic() < end:
        time.sleep(0.05)
    assert not forked()
