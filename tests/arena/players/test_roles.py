"""What a match says of its sides for the audit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from arena.players import Attacker, Games, Play
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.roles import roles
from arena.players.stand_in import StandIn
from arena.scenario.files import parse_scenario
from arena.scenario.matches import Match

THREAT = {"epsilon": 0.1, "budget": 10}


def match(attacker: Any, *defenders: Any) -> Match:
    table = {"attackers": [attacker], "defenders": [list(defenders)], "threat": THREAT}
    (found,) = parse_scenario(table, "test", Path(), "test").matches
    return found


def roles_of(one: Match) -> dict[str, Any]:
    return roles(one.attacker, one.defenders)


def test_the_twin_is_told_by_the_name_and_parameters_that_its_own_matches_log() -> None:
    adaptive = match({"name": "eot", "of": {"name": "eot", "of": {"name": "square", "p": 0.3}}}, "none")
    plain = match({"name": "eot", "of": {"name": "square", "p": 0.3}}, "none")
    said = roles_of(adaptive)
    assert said["twin"] == {"attacker": name_of(plain.attacker), "params": parameters(plain.attacker)}
    assert roles_of(plain)["twin"]["attacker"] == "square"
    assert roles_of(match("square", "none"))["twin"] is None
    json.dumps(said)


@pytest.mark.parametrize(
    ("attacker", "defenders", "controls"),
    [
        ("square", ["snd"], {"attacker": False, "defender": False}),
        ("agents.attackers.score.noise:Noise", ["none"], {"attacker": True, "defender": True}),
        ("square", ["agents.defenders.weak:Weak", "none"], {"attacker": False, "defender": True}),
        ("square", ["none", "snd"], {"attacker": False, "defender": False}),
    ],
)
def test_controls(attacker: Any, defenders: list[Any], controls: dict[str, bool]) -> None:
    assert roles_of(match(attacker, *defenders))["controls"] == controls


@dataclass(frozen=True)
class Elsewhere(StandIn, Attacker):
    """Stands for an attacker in another process."""

    def play(self, games: Games) -> Play:
        yield from ()


def test_of_a_stranger_the_twin_is_not_known() -> None:
    assert "twin" not in roles(Elsewhere("their.module:Theirs", "{}", "{}", ()), ())
