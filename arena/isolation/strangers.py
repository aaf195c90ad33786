"""Strangers' agents, described by processes of their own: no other process imports their code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from arena.game.blame import Told
from arena.isolation.children import SECONDS, Child
from arena.isolation.wire import Message
from arena.messages import one_line
from arena.players.attacker import Attacker, Needs
from arena.players.declared import flaw_of_declared
from arena.players.registry import AgentError, Kind, Spec, build_attacker, names, where_written
from arena.players.seat import Games
from arena.players.stand_in import StandIn
from arena.rules.limits import USUAL
from arena.rules.moves import Play

_NEEDS = tuple(f.name for f in fields(Needs))
_LONGEST = 100
_MOST = 20


@dataclass(frozen=True)
class StrangeAttacker(StandIn, Attacker):
    """Stands for an attacker whose code is not imported here; it can only be played in a process of its own
    (`attackers.IsolatedAttacker`)."""

    @property
    def needs(self) -> Needs:
        told: dict[str, Any] = self.declared["needs"]
        needs: Any = Needs
        found: Needs = needs(**{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()})
        return found

    @property
    def budget_factor(self) -> int:
        factor: int = self.declared["budget_factor"]
        return factor

    def play(self, games: Games) -> Play:
        raise RuntimeError(f"{self.name} can only be played in a process of its own")


def attacker_of(spec: Spec) -> Attacker:
    """The attacker that `spec` describes, or, where it or one inside it does not come with the arena, what
    stands for it.

    One that was given as an object, not by name, is imported already.

    Raises:
        AgentError: if there is none, or it cannot be built.
    """
    told = named(spec)
    if told is None or not any(strange for _, strange in written_in(told, "attacker")):
        return build_attacker(spec)
    name, modules = told["name"], tuple(sorted({module for module, _ in written_in(told, "attacker")}))
    declared = described("attacker", told, modules)
    if not _is_described(declared):
        raise AgentError(f'attacker "{name}" cannot be described: its process says something else of it')
    inside = [one_line(name)[:_LONGEST] for name in declared["inside"][:_MOST]]
    parameters = {**declared["parameters"], **given_by(told)}
    declared = {**declared, "parameters": parameters, "inside": inside}
    stranger = StrangeAttacker(name, json.dumps(told), json.dumps(declared), modules)
    if (flaw := flaw_of_declared(stranger)) is not None:
        raise AgentError(f'attacker "{name}": {flaw}')
    return stranger


def named(spec: Any) -> dict[str, Any] | None:
    """A specification by name as JSON values; None if it is none."""
    if isinstance(spec, str):
        return {"name": spec}
    if not isinstance(spec, Mapping) or not isinstance(spec.get("name"), str):
        return None
    try:
        found: dict[str, Any] = json.loads(json.dumps(dict(spec)))
    except (TypeError, ValueError):  # it holds objects
        return None
    return found


def written_in(told: Mapping[str, Any], kind: Kind) -> Iterator[tuple[str, bool]]:
    """The modules of all agents that a specification names, and whether each is strange to the arena."""
    module, packaged = where_written(kind, told["name"])
    yield module, not packaged
    for value in told.values():
        for inside in value if isinstance(value, list) else [value]:
            if isinstance(inside, Mapping) and isinstance(name := inside.get("name"), str):
                yield from written_in(inside, "attacker" if name in names("attacker") else kind)


def given_by(told: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a specification gives, but for agents."""
    return {key: value for key, value in told.items() if key != "name" and not _holds_agents(value)}


def _holds_agents(value: Any) -> bool:
    return any(isinstance(one, Mapping) for one in (value if isinstance(value, list) else [value]))


def described(kind: Kind, told: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Any]:
    """What an agent's own process says of it, in whatever form.

    Raises:
        AgentError: if it cannot be built, or says something else.
    """
    who = f'{kind} "{told["name"]}"'
    try:
        with Child(modules, USUAL) as child:
            request = Message(f"describe {kind}", {"spec": dict(told)})
            answer = child.ask(request, "describing itself", SECONDS)
    except Told as error:
        raise AgentError(f"{who} cannot be described: {error}") from error
    if answer.kind == "refused":
        raise AgentError(one_line(str(answer.values.get("said"))))
    own = answer.values.get("parameters")
    if isinstance(own, dict) and "name" in own:  # beside which the arena writes whose they are
        raise AgentError(f'{who} has a parameter "name", which is the word for the agent\'s own')
    if answer.kind != "described":
        raise AgentError(f"{who} cannot be described: its process says something else of it")
    return answer.values


def _is_described(found: Mapping[str, Any]) -> bool:
    """Whether an attacker's description has the right form; what it says is checked with the agent."""
    return (
        set(found) == {"needs", "budget_factor", "parameters", "inside"}
        and isinstance(found["needs"], dict)
        and set(found["needs"]) == {*_NEEDS}
        and isinstance(found["parameters"], dict)
        and isinstance(found["inside"], list)
        and all(isinstance(name, str) for name in found["inside"])
    )
