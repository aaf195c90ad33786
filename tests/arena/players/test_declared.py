"""What agents say of themselves: told in one sentence where it is not what it must be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from arena.players import Attacker, Defender, Needs
from arena.players.registry import AgentError, build_attacker, build_defender, build_stack
from arena.rules.moves import Play
from arena.rules.threat import Threat


def _raising(error: BaseException) -> property:
    def get(self: object) -> Any:
        raise error

    return property(get)


def _agent(base: type, name: str, value: Any) -> Any:
    def play(self: object, games: Any) -> Play:
        yield from ()

    made = type("Odd", (base,), {name: value, "play": play, "__module__": __name__})
    return dataclass(frozen=True, eq=False)(made)()


RAISED = [RuntimeError("a\nb"), SystemExit(0), GeneratorExit()]
ATTACKERS = {
    "needs": [
        None,
        "x",
        Needs(norms=("l1",)),
        Needs(images=-1),
        Needs(surrogates=1.0),
        Needs(prefix=1),
        Needs(goals=None),
    ],  # type: ignore[arg-type]
    "budget_factor": [None, 0, -1, 1.5, 10**30, math.nan, np.int64(2), True],
    "across_games": [None, "yes", np.bool_(True)],
    "control": [None, "yes", 1],
    "twin": ["square", Attacker],
}
DEFENDERS = {
    "random": [None, "x", np.array([1, 2])],
    "memory": [None, "weird", ["game"]],
    "asks": ["x", -1, 2.5, 10**40],
    "secrets": [None, "key", ["key"], (1,)],
    "acts": [None, 1],
    "control": [None, 0],
    "answers_are_facts": [None, 1],
    "has_detector": [5, lambda self: None],
}
FOUND = [
    *[(Attacker, name, value) for name, values in ATTACKERS.items() for value in values],
    *[(Defender, name, value) for name, values in DEFENDERS.items() for value in values],
]


@pytest.mark.parametrize(("base", "name", "value"), FOUND)
def test_what_an_agent_must_not_say_of_itself_is_one_sentence(base: type, name: str, value: Any) -> None:
    build: Callable[[Any], Any] = build_attacker if base is Attacker else build_defender
    with pytest.raises(AgentError, match=rf'"tests.*:Odd": {name}.* (must be|failed with)') as told:
        build(_agent(base, name, value))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize(
    ("base", "name"), [*[(Attacker, n) for n in ATTACKERS], *[(Defender, n) for n in DEFENDERS]]
)
def test_a_property_that_fails_is_one_sentence(base: type, name: str, error: BaseException) -> None:
    build: Callable[[Any], Any] = build_attacker if base is Attacker else build_stack
    with pytest.raises(AgentError, match=f"{name} failed with {type(error).__name__}") as told:
        build(_agent(base, name, _raising(error)))
    assert "\n" not in str(told.value)


class Unspeakable:
    def __repr__(self) -> str:
        raise SystemExit(0)


@dataclass(frozen=True, eq=False)
class Holding(Attacker):
    value: Any

    def play(self, games: Any) -> Play:
        yield from ()


def _within(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [Unspeakable(), _within(5000), 10**5000, {1: 2, "a": 3}], ids=["mute", "deep", "huge", "keys"]
)
def test_parameters_that_no_log_can_hold_are_one_sentence(value: Any) -> None:
    with pytest.raises(AgentError, match="its parameters cannot be written to the log as JSON: ") as told:
        build_attacker(Holding(value))
    assert "\n" not in str(told.value)


def test_a_factor_beyond_every_budget_is_told() -> None:
    from arena.players.attacker import runs_of

    player = _agent(Attacker, "budget_factor", 2**20)
    with pytest.raises(
        ValueError, match=r"budget_factor 1048576 makes 104,857,600 queries of the budget 100"
    ):
        runs_of(player, Threat(epsilon=0.1, budget=100), ())
    assert runs_of(player, Threat(epsilon=0.1, budget=16), ())[0][1] == (2**24,)
