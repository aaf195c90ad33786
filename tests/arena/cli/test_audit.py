"""`arena audit` on a log that was played."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import open_log

CONTROLS = {
    "attackers": [{"name": "square", "p": 0.3}, "agents.attackers.score.noise:Noise"],
    "defenders": ["none", "agents.defenders.weak:Weak"],
    "games": 8,
}


def arena(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def log(replays, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = replays.play(tmp_path_factory.mktemp("audit") / "run.db", **CONTROLS)
    return str(path)


def test_it_says_what_is_found_clear_and_not_checked(log: str) -> None:
    code, said = arena("audit", log)
    assert code == 0
    assert "digits, digits-cnn · ℓ∞, epsilon 51/255 · budget 20 queries" in said
    assert said.count("objective submit") == 1  # the matrix at 5 queries is a part of that at 20
    for indicator in ("failed-games", "beats-noise", "beats-weak", "noise-fools", "still-improving"):
        assert indicator in said
    assert "falls-with-epsilon not checked no smaller epsilon was played." in said
    assert "frozen-draws" not in said


def test_as_json_of_one_run(log: str) -> None:
    code, said = arena("audit", log, "--run", "1", "--json")
    assert code == 0
    (matrix,) = json.loads(said)
    assert (matrix["at"], matrix["threat"]["epsilon"]) == (20, 0.2)
    statuses = {f["indicator"]: f["status"] for f in matrix["findings"]}
    assert statuses["falls-with-epsilon"] == "unchecked"
    assert all(f["evidence"] for f in matrix["findings"])
    assert {type(f["grave"]) for f in matrix["findings"]} == {bool}


def test_with_replays(log: str) -> None:
    code, said = arena("audit", log, "--replay", "--games", "2", "--json", "--device", "cpu")
    assert code == 0
    (matrix,) = json.loads(said[said.index("[ {") :])
    indicators = {f["indicator"] for f in matrix["findings"]}
    assert {"large-epsilon", "frozen-draws", "doubled-budget", "transfer"} <= indicators
    assert "playing again: transfer: square against none" in said


def test_a_run_that_is_not_there(log: str) -> None:
    code, said = arena("audit", log, "--run", "7")
    assert code == 2
    assert "has no run 7; its runs are [1]" in said


def test_a_log_without_games(tmp_path: Path) -> None:
    open_log(tmp_path / "empty.db").close()
    code, said = arena("audit", str(tmp_path / "empty.db"))
    assert (code, "holds no finished games" in said) == (0, True)
