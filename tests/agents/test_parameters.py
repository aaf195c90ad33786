from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import pytest

from agents.parameters import check_parameters
from arena.players.registry import agent_class, build_agent, names

INSIDE = {"attacker": "hop-skip-jump", "defender": "snd"}


@dataclass(frozen=True)
class Agent:
    step: float | None = 0.5
    draws: int | None = 1

    def __post_init__(self):
        check_parameters(self, positive=("step",), counts=("draws",))


@pytest.mark.parametrize("given", [{"step": None}, {"draws": None}, {"step": 1e-30, "draws": 10**9}])
def test_what_is_in_range_or_not_given_passes(given):
    Agent(**given)


@pytest.mark.parametrize("step", [0.0, -1.0, float("inf"), float("nan")])
def test_a_length_is_finite_and_above_0(step):
    with pytest.raises(ValueError, match=rf"^step must be finite and above 0; found {step}$"):
        Agent(step=step)


def test_a_count_is_at_least_1():
    with pytest.raises(ValueError, match=r"^draws must be at least 1; found 0$"):
        Agent(draws=0)


def words() -> list[tuple[str, type, str]]:
    """The parameters of registered agents that are one of a few words, or None."""
    return [
        (kind, agent, f.name)
        for kind in ("attacker", "defender")
        for agent in (agent_class(kind, name) for name in names(kind))
        for f in fields(agent)
        if f.init and allowed(agent, f.name)
    ]


def allowed(agent: type, parameter: str) -> tuple[str, ...]:
    """The words that a parameter may be; none where it is something else."""
    hint = get_type_hints(agent)[parameter]
    ways = [way for way in get_args(hint) if way is not NoneType] if get_origin(hint) is Union else [hint]
    return get_args(ways[0]) if len(ways) == 1 and get_origin(ways[0]) is Literal else ()


@pytest.mark.parametrize(
    ("kind", "agent", "parameter"), [pytest.param(*one, id=f"{one[1].__name__}-{one[2]}") for one in words()]
)
def test_another_word_than_a_parameters_is_refused_of_instances_too(kind, agent, parameter):
    """The agent refuses it, or who takes the instance; of a file's agent no instance is made."""
    inside = {
        f.name: build_agent(kind, INSIDE[kind])
        for f in fields(agent)
        if f.init and f.default is f.default_factory is MISSING
    }
    with pytest.raises(ValueError, match=rf"\b{parameter}\b.*found [\"']no such[\"']") as info:
        build_agent(kind, agent(**inside, **{parameter: "no such"}))
    # Under OARS one word of several is allowed.
    assert [word for word in allowed(agent, parameter) if word in str(info.value)]
