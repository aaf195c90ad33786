"""What a defender's card says, and what it was measured to cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.agent_defense import defense_as_json, defense_in_words, measured_in_words
from arena.cli.app import app
from arena.players.measured import FILE, Measured
from arena.players.registry import agent_class

MEASURED = Measured(
    "digits",
    ("mine",),
    "python -m bench defenders",
    "abc1234",
    "cpu",
    images=100,
    accuracy=(0.95, 0.9, 0.98),
    lost=(0.01, -0.01, 0.03),
    ece=0.02,
    bare_ece=0.01,
    time=(1.5, 1.4, 1.6),
    preparing=12.3,
    games=20,
    square=(0.5, 0.3, 0.7),
    hop_skip_jump=(float("inf"), 1.0, float("inf")),
    sessions=20,
    benign={"single": (0.0, 0.0, 0.16), "lime": (0.5, 0.3, 0.7)},
)


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_list_says_what_each_defender_alters() -> None:
    text = said("agents")
    assert "aaa-linear" in text
    line = next(line for line in text.splitlines() if line.startswith("  snd "))
    assert line.split()[1] == "input"
    rows = {row["name"]: row for row in json.loads(said("agents", "--json"))}
    assert rows["predcoin"]["alters"] == ["label"] and "surfree" in rows["predcoin"]["broken_by"]
    assert "alters" not in rows["square"]


def test_a_defender_is_shown_with_its_card() -> None:
    text = said("agents", "show", "snd")
    for line in ("alters", "claims", "broken by", "WACV 2022"):
        assert line in text.partition("defense\n")[2]
    assert "defense\n" not in said("agents", "show", "square")
    told = json.loads(said("agents", "show", "snd", "--json"))
    assert told["paper"].startswith("Byun") and isinstance(told["measured"], list)


def test_a_measurement_is_said_in_a_sentence() -> None:
    text = measured_in_words(MEASURED)
    for part in (
        "clean accuracy 95.0 [90.0, 98.0] % of 100 images (1.0 [-1.0, 3.0] points lost)",
        "time a query 1.50",
        "prepared in 12.3 s",
        "Square wins 50.0 [30.0, 70.0] % of 20 games",
        "HopSkipJump's median distance ∞ [1, ∞]",
        "python -m bench defenders, at abc1234",
    ):
        assert part in text
    assert "20 benign clients of each kind lose, in % of their queries: lime 50.0 [30.0, 70.0];" in text
    spared = replace(MEASURED, benign={"single": (0.0, 0.0, 0.16)})
    assert "20 benign clients of each kind lose nothing;" in measured_in_words(spared)
    assert "benign" not in measured_in_words(replace(MEASURED, benign={}))
    assert measured_in_words(replace(MEASURED, failed="no BatchNorm")) == "cannot be played: no BatchNorm"
    assert measured_in_words(replace(MEASURED, parameters="epochs = 2")).startswith("with epochs = 2; ")


def test_a_package_of_others_ships_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "others_defenses"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "mine.py").write_text(
        "from dataclasses import dataclass\nfrom arena.players import Defender\n"
        "@dataclass(frozen=True)\nclass Mine(Defender):\n    '''Mine.'''\n"
    )
    own = replace(MEASURED, stack=("others_defenses.mine:Mine",))
    (folder / FILE).write_text(own.line() + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    text = said("agents", "show", "others_defenses.mine:Mine")
    assert "Square wins 50.0" in text and "alters" not in text.partition("defense\n")[2]


def test_a_file_that_is_none_is_said_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[Measured]:
        raise ValueError(f"{FILE}, line 1: it must be a table")

    monkeypatch.setattr("arena.cli.agent_defense.measured_alone", broken)
    found = agent_class("defender", "snd")
    said_so = ("measured", f"cannot be read: {FILE}, line 1: it must be a table")
    assert said_so in defense_in_words(found, "snd")
    assert defense_as_json(found, "snd")["measured"] is None
