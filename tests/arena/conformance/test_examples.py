from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from arena.conformance import (
    Check,
    agents_of,
    check_attacker,
    check_defender,
    example,
    run_checks,
)
from arena.conformance.stand_in_agents import NoisyInput, Steps
from arena.players import Attacker, Defender, Games, Play, registry
from arena.players.registry import AgentError

HERE = __name__


@dataclass(frozen=True)
class Around(Attacker):
    """Wrappers need an agent inside."""

    of: Attacker
    others: tuple[Defender, ...]
    times: int = 2

    def play(self, games: Games) -> Play:
        yield from self.of.play(games)


@dataclass(frozen=True)
class Needy(Defender):
    sigma: float


class NoAgent:
    pass


def test_a_class_is_made_with_its_defaults_and_with_stand_ins_inside() -> None:
    (steps,), (around,) = agents_of(Steps), agents_of(Around)
    assert steps == Steps()
    assert around == Around(Steps(), (NoisyInput(),))
    with pytest.raises(AgentError, match=r'"sigma" \(float\): give an instance, Needy'):
        agents_of(Needy)
    with pytest.raises(AgentError, match="must be a subclass of Attacker"):
        agents_of(NoAgent)  # type: ignore[arg-type]


def test_the_checks_take_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    one = [Check("seen", "is seen", lambda subject: seen.append(subject))]
    monkeypatch.setattr(sys.modules["arena.conformance.attacker_checks"], "attacker_checks", lambda: one)
    monkeypatch.setattr(sys.modules["arena.conformance.defender_checks"], "defender_checks", lambda: one)
    check_attacker(Steps)
    check_attacker(Around)
    check_defender(NoisyInput)
    assert [outcome.verdict for outcome in run_checks(Steps)] == ["passed"]
    subjects: list[Any] = seen
    assert subjects[0].attacker == subjects[3].attacker == Steps()
    assert subjects[1].attacker == Around(Steps(), (NoisyInput(),))
    assert subjects[2].defender == NoisyInput()
    with pytest.raises(AgentError, match="give an instance, Needy"):
        check_defender(Needy)


def test_a_registered_name_is_looked_up_in_both_kinds() -> None:
    (attacker,), (defender,) = agents_of("square"), agents_of("none")
    assert isinstance(attacker, Attacker)
    assert isinstance(defender, Defender)


def test_a_name_of_both_kinds_means_both(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = registry.EntryPoint("none", "arena.conformance.stand_in_agents:Steps", "arena.attackers")
    defenders = registry._entries("defender")
    monkeypatch.setattr(
        registry, "_entries", lambda kind: defenders if kind == "defender" else {"none": entry}
    )
    attacker, defender = agents_of("none")
    assert attacker == Steps()
    assert isinstance(defender, Defender)


@pytest.mark.parametrize("name", ["Steps", "NoisyInput"])
def test_a_class_is_found_by_its_module(name: str) -> None:
    (agent,) = agents_of(f"arena.conformance.stand_in_agents:{name}")
    assert agent == {"Steps": Steps(), "NoisyInput": NoisyInput()}[name]


def test_parameters_are_taken_from_a_table_and_an_instance_as_it_is() -> None:
    assert agents_of({"name": "arena.conformance.stand_in_agents:Steps", "mu": 0.5}) == [Steps(0.5)]
    assert agents_of(noise := NoisyInput(0.1)) == [noise]


def test_required_agents_are_filled_with_standins_unless_given() -> None:
    assert example("attacker", f"{HERE}:Around") == Around(Steps(), (NoisyInput(),))
    given = {"name": f"{HERE}:Around", "of": {"name": "arena.conformance.stand_in_agents:Steps", "mu": 0.5}}
    assert example("attacker", given) == Around(Steps(0.5), (NoisyInput(),))


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("sqare", r'there is no agent "sqare"; did you mean "square"\? allowed: .*none'),
        ("no.such.module:Attack", r'agent "no.such.module:Attack": no.such.module cannot be imported'),
        ("arena.conformance.stand_in_agents:Nothing", r'stand_in_agents has no "Nothing"'),
        (f"{HERE}:NoAgent", r"is no agent: it must be a subclass of Attacker or of Defender"),
        (f"{HERE}:Needy", r'needs parameter "sigma" \(float\)'),
        ({"mu": 1}, r"must be a name or a table with a name; found \{'mu': 1\}"),
    ],
)
def test_what_cannot_be_found_gets_one_sentence(spec: object, sentence: str) -> None:
    with pytest.raises(AgentError, match=sentence):
        agents_of(spec)  # type: ignore[arg-type]
