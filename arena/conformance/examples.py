"""The agents that `arena check AGENT` means, complete with stand-ins for the agents that they need inside."""

from __future__ import annotations

import pkgutil
import typing
from collections.abc import Mapping
from typing import Any

from arena.conformance.stand_in_agents import NoisyInput, Steps
from arena.messages import near
from arena.players import Attacker, Defender
from arena.players.registry import (
    AgentError,
    Kind,
    Spec,
    agent_class,
    build_attacker,
    build_defender,
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
    build = build_attacker if kind == "attacker" else build_defender
    if isinstance(spec, Attacker | Defender):
        return build(spec)
    table: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    found = agent_class(kind, table["name"])
    hints = typing.get_type_hints(found)
    for parameter in parameters_of(found):
        if parameter.default == "required" and parameter.name not in table:
            hint = hints[parameter.name]
            first = (*typing.get_args(hint), None)[0]
            if hint in _STANDINS:
                table[parameter.name] = _STANDINS[hint]
            elif first in _STANDINS:
                table[parameter.name] = (_STANDINS[first],)
    return build(table)


def _kind_of_class(name: str) -> Kind:
    if ":" not in name:
        raise AgentError(f'there is no agent "{name}"; {near(name, [n for k in _KINDS for n in names(k)])}')
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise AgentError(f'agent "{name}" cannot be imported: {error}') from error
    for kind, base in zip(_KINDS, (Attacker, Defender), strict=True):
        if isinstance(found, type) and issubclass(found, base):
            return kind
    raise AgentError(f'"{name}" is no agent: it must be a subclass of Attacker or of Defender')
