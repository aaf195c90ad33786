"""The agents that `arena check AGENT` means, complete with stand-ins for the agents that they need inside."""

from __future__ import annotations

import typing
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from typing import Any

from arena.conformance.stand_in_agents import NoisyInput, Steps
from arena.inputs.names import NameRefused, import_attribute
from arena.messages import near
from arena.players import Attacker, Defender
from arena.players.registry import (
    AgentError,
    Kind,
    Spec,
    agent_class,
    build_agent,
    names,
    parameters_of,
)

_KINDS: tuple[Kind, ...] = ("attacker", "defender")
_STANDINS: dict[type, Attacker | Defender] = {Attacker: Steps(), Defender: NoisyInput()}


def agents_of(spec: Spec) -> list[Attacker | Defender]:
    """The agents that `spec` describes: one, or an attacker and a defender registered under the same name.

    Raises:
        AgentError: if there is none, or it cannot be made.
    """
    if isinstance(spec, Attacker | Defender):
        return [spec]
    if isinstance(spec, type):
        return [example("defender" if issubclass(spec, Defender) else "attacker", spec)]
    name = spec.get("name") if isinstance(spec, Mapping) else spec
    if not isinstance(name, str):
        raise AgentError(f"an agent must be a name or a table with a name; found {spec!r}")
    kinds = [kind for kind in _KINDS if name in names(kind)] or [_kind_of_class(name)]
    return [example(kind, spec) for kind in kinds]


def example(kind: Kind, spec: Spec) -> Attacker | Defender:
    """The agent that `spec` describes.

    A required parameter that is an agent or a tuple of agents, and that `spec` does not give, is filled by
    `arena.conformance.stand_in_agents`.

    Raises:
        AgentError: if it cannot be made.
    """
    if isinstance(spec, Attacker | Defender):
        return build_agent(kind, spec)
    if isinstance(spec, type):
        inside: dict[str, Any] = _standins(spec, ()) if is_dataclass(spec) else {}
        whole = inside and len(inside) == sum(p.default == "required" for p in parameters_of(spec))
        return build_agent(kind, spec(**inside) if whole else spec)
    table: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    return build_agent(kind, table | _standins(agent_class(kind, table["name"]), table))


def _standins(found: type, given: Collection[str]) -> dict[str, Any]:
    """Stand-ins for the agents that one of class `found` needs inside and that are not given, by name."""
    inside: dict[str, Any] = {}
    hints = typing.get_type_hints(found)
    for parameter in parameters_of(found):
        if parameter.default == "required" and parameter.name not in given:
            hint = hints[parameter.name]
            first = (*typing.get_args(hint), None)[0]
            if hint in _STANDINS:
                inside[parameter.name] = _STANDINS[hint]
            elif first in _STANDINS:
                inside[parameter.name] = (_STANDINS[first],)
    return inside


def _kind_of_class(name: str) -> Kind:
    if ":" not in name:
        raise AgentError(f'there is no agent "{name}"; {near(name, [n for k in _KINDS for n in names(k)])}')
    try:
        found = import_attribute(name)
    except NameRefused as error:
        raise AgentError(f'agent "{name}": {error}') from error
    for kind, base in zip(_KINDS, (Attacker, Defender), strict=True):
        if isinstance(found, type) and issubclass(found, base):
            return kind
    raise AgentError(f'"{name}" is no agent: it must be a subclass of Attacker or of Defender')
