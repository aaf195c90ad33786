"""Every registered agent, and the agents that a caller wants in place of a file's or beside them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

from arena.players import Attacker, Games, Needs, Play, registry
from arena.players.registry import AgentError, build_defender, missing_parameter, names
from arena.scenario.errors import ScenarioError
from arena.scenario.files import Scenario, parse_scenario
from arena.scenario.lineups import Changes

PLAIN = """
attackers = ["square"]
defenders = ["none"]
threat = { epsilon = 0.1, budget = 50 }
"""
BLOCKS = """
defenders = ["none"]
threat = { norm = "l2", epsilon = 1.0, budget = 50 }
[[block]]
attackers = ["square"]
[[block]]
attackers = ["sign-opt"]
threat = { feedback = "label" }
"""


@dataclass(frozen=True)
class Peeking(Attacker):
    """Needs a detector, as bypass attacks do."""

    needs = Needs(knowledge="detector")

    def play(self, games: Games) -> Play:
        yield from ()


def read(text: str, **changes) -> Scenario:
    return parse_scenario(tomllib.loads(text), "x", Path(), "x.toml", changes=Changes(**changes))


def pairs(scenario: Scenario) -> list[tuple[str, str]]:
    return [(m.attacker_name, m.defender_name) for m in scenario.matches]


def test_all_defenders_are_all_registered_ones():
    scenario = read(PLAIN.replace('["none"]', '"all"'))
    assert pairs(scenario) == [("square", name) for name in names("defender") if name != "confidence-gated"]
    (out,) = scenario.left_out
    assert (out.name, out.why) == ("defender confidence-gated", 'it needs parameter "of" (Defender)')
    assert scenario.title == "x"


def test_all_attackers_are_those_that_fit_and_the_others_are_named_with_the_reason():
    scenario = read(PLAIN.replace('["square"]', '"all"'))
    playing, out = {a for a, _ in pairs(scenario)}, {o.name: o.why for o in scenario.left_out}
    assert {f"attacker {name}" for name in names("attacker")} == {f"attacker {a}" for a in playing} | {*out}
    assert not {f"attacker {a}" for a in playing} & {*out}
    assert {"square", "hop-skip-jump", "rays"} <= playing
    assert out["attacker eot"] == 'it needs parameter "of" (Attacker)'
    assert out["attacker cgba"] == 'it plays norm "l2"; the threat\'s norm is "linf"'
    assert out["attacker bypass-fq"] == 'it needs knowledge "detector"; the threat grants "none"'


def test_all_stands_beside_others_and_no_agent_plays_twice():
    text = PLAIN.replace('["none"]', '["none", "all", { name = "snd", sigma = 0.3 }]')
    found = pairs(read(text))
    assert [d for _, d in found].count("none") == 1
    assert [d for _, d in found].count("snd") == 2


def test_one_that_cannot_be_imported_is_left_out_of_all(monkeypatch: pytest.MonkeyPatch):
    broken = registry.EntryPoint("broken", "no.such:Thing", "arena.defenders")
    entries = {kind: registry._entries(kind) for kind in ("attacker", "defender")}
    entries["defender"] = {**entries["defender"], "broken": broken}
    monkeypatch.setattr(registry, "_entries", lambda kind: entries[kind])
    left_out = {out.name: out.why for out in read(PLAIN.replace('["none"]', '"all"')).left_out}
    assert set(left_out) == {"defender broken", "defender confidence-gated"}
    assert "cannot be imported" in left_out["defender broken"]


def test_a_pair_without_the_detector_that_the_attacker_needs_is_left_out():
    text = PLAIN.replace('["none"]', '"all"').replace('"square"', f'"{__name__}:Peeking"')
    scenario = read(text.replace("budget = 50", 'budget = 50, knowledge = "detector"'))
    alone = [name for name in names("defender") if missing_parameter("defender", name) is None]
    detecting = [name for name in alone if build_defender(name).has_detector()]
    assert [d for _, d in pairs(scenario)] == detecting != []
    attacker = f"attacker {__name__}:Peeking"
    assert {out.name for out in scenario.left_out} == {
        "defender confidence-gated",
        *(f"{attacker} against {name}" for name in alone if name not in detecting),
    }


def test_a_caller_replaces_a_list_in_every_block():
    scenario = read(BLOCKS, attackers=({"name": "square", "p": 0.3},), defenders=("snd", "rnd"))
    assert pairs(scenario) == [("square", "snd"), ("square", "rnd")]
    assert scenario.title == "x (attackers and defenders changed)"
    (out,) = scenario.left_out
    assert str(out) == 'block 2: attacker square: it needs scores; the threat\'s feedback is "label"'


def test_a_caller_adds_to_a_list_where_it_fits():
    scenario = read(BLOCKS, more_attackers=("random-search", "square", "sign-opt"))
    assert [(m.block, m.attacker_name, m.number) for m in scenario.matches] == [
        ("", "square", 0),
        ("", "random-search", 1),
        ("", "sign-opt", 2),
        ("", "sign-opt", 3),
    ]
    assert scenario.title == "x (attackers changed)"
    assert len(scenario.left_out) == 2


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        (
            {"attackers": ("rays",)},
            ScenarioError,
            'x.toml: block 1: attacker rays cannot play: it plays norm "linf"; the threat\'s norm is "l2"',
        ),
        ({"more_attackers": ("rays",)}, ScenarioError, "attacker rays cannot play"),
        ({"attackers": ("sqare",)}, AgentError, 'there is no attacker "sqare"; did you mean "square"?'),
        ({"defenders": ("square",)}, AgentError, 'there is no defender "square", but attacker square'),
    ],
)
def test_what_a_caller_wants_in_vain_is_told(changes, error, said):
    with pytest.raises(error) as caught:
        read(BLOCKS, **changes)
    assert said in str(caught.value)


def test_what_the_file_names_must_fit_and_a_word_is_no_list():
    with pytest.raises(ScenarioError, match=r'attackers: found .square.*it must be a list, or "all"'):
        read(PLAIN.replace('["square"]', '"square"'))
    with pytest.raises(ScenarioError, match=r"x\.toml: attacker cgba cannot play this threat"):
        read(PLAIN.replace('"square"', '"cgba"'))


def test_all_of_whom_none_fits_is_told(monkeypatch: pytest.MonkeyPatch):
    entries = {kind: registry._entries(kind) for kind in ("attacker", "defender")}
    entries["attacker"] = {name: entries["attacker"][name] for name in ("eot", "square")}
    monkeypatch.setattr(registry, "_entries", lambda kind: entries[kind])
    text = PLAIN.replace('["square"]', '"all"').replace("budget", 'feedback = "label", budget')
    with pytest.raises(ScenarioError, match=r"x\.toml: attacker eot cannot play: it needs parameter"):
        read(text)
