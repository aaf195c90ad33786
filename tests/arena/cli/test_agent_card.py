"""What an agent needs or is, and the lines of a scenario that play it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.agent_card import needs_of, scenario_of
from arena.cli.app import app
from arena.players import Needs
from arena.players.registry import Kind, names
from arena.scenario.files import parse_scenario

ALL: list[tuple[Kind, str]] = [("attacker", n) for n in names("attacker")]
ALL += [("defender", n) for n in names("defender")]


def said(*words: str) -> str:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_the_lines_of_a_scenario_play_the_agent(kind: Kind, name: str) -> None:
    scenario = parse_scenario(tomllib.loads(scenario_of(kind, name)), "shown", Path(), "shown")
    if kind == "attacker":
        assert {m.attacker_name.partition("(")[0] for m in scenario.matches} == {name}
    else:
        assert name in {m.defender_name for m in scenario.matches}
    assert not scenario.left_out


def test_an_attackers_needs_are_said_in_words() -> None:
    text = said("agents", "show", "guessing-smart")
    for line in (
        "feedback    labels are enough",
        "norms       l2",
        "goals       untargeted, targeted",
        "objectives  first, submit, minimum",
        "knowledge   none",
        "images      10 of its own",
        "starts      no",
        "resources = { images = 10 }",
    ):
        assert line in text
    assert "starts      where the goal is targeted" in said("agents", "show", "hop-skip-jump")
    assert "prefix      no: it plays once for each query count" in said("agents", "show", "geoda")
    assert "knowledge   detector" in said("agents", "show", "bypass-fq")
    assert "needs, as eot(sign-hunter)" in said("agents", "show", "eot")
    assert needs_of(Needs(feedback="logits"))["feedback"] == "logits"


def test_a_defender_is_said_in_words() -> None:
    text = said("agents", "show", "predcoin-hash")
    for line in (
        "random    no",
        "memory    none",
        "secrets   seed, secret (hidden from every attacker)",
        'detector  yes: knowledge "detector" lets an attacker evaluate it',
        "prepares  yes: fit, once a run",
    ):
        assert line in text
    assert "random    yes: another draw" in said("agents", "show", "snd")


def test_an_agent_that_needs_more_than_agents_is_shown_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_sized_noise.py").write_text(
        "from dataclasses import dataclass\n"
        "from arena.players import Defender\n"
        "@dataclass(frozen=True)\n"
        "class Sized(Defender):\n"
        "    sigma: float\n"
    )
    text = said("agents", "show", "my_sized_noise:Sized")
    assert "sigma: float = required" in text
    assert "cannot be shown without its required parameters: sigma" in text
    told = json.loads(said("agents", "show", "my_sized_noise:Sized", "--json"))
    assert told["scenario"] is None and "random" not in told


def test_programs_read_it_as_json() -> None:
    listed = json.loads(said("agents", "--json"))
    assert {(row["kind"], row["name"]) for row in listed} == {*ALL}
    square = json.loads(said("agents", "show", "square", "--json"))
    assert square["needs"]["feedback"] == "scores" and square["needs"]["starts"] == "never"
    assert square["parameters"][0] == {"name": "p", "type": "float", "default": "0.05"}
    assert tomllib.loads(square["scenario"])["attackers"] == ["square"]
    snd = json.loads(said("agents", "show", "snd", "--json"))
    assert snd["random"] is True and snd["memory"] == "none" and snd["detector"] is False


def test_one_that_needs_reference_networks_says_how_many_and_is_shown_with_them() -> None:
    text = said("agents", "show", "subspace")
    assert "surrogates  1 to differentiate through" in text
    assert 'resources = { surrogates = ["digits-cnn"] }' in text
    assert "surrogates  none" in said("agents", "show", "square")
