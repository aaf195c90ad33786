"""The attackers and defenders of a call, as callers give them: one of each, or lists and tables of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from arena.notebook.fixtures import Entrant
from arena.players import Attacker, Defender
from arena.players.parameters import parameters
from arena.players.registry import build_attacker, build_stack, name_of
from arena.scenario.matches import agent_name

Side = Literal["attackers", "defenders"]
ONE_CALL = "arena.play_all(attackers=[...], defenders=[...], ...)"


def one_attacker(spec: Any) -> Entrant:
    """The attacker of `arena.play`.

    Raises:
        ValueError: if it cannot be built, or is a list.
    """
    if _is_list(spec):
        raise ValueError(
            f"arena.play plays one attacker; found a list of {len(spec)}: {ONE_CALL} plays several"
        )
    return _attacker(spec)


def one_stack(spec: Any) -> Entrant:
    """The defender of `arena.play`, or the stack that a list of them makes, outermost first.

    Raises:
        ValueError: if one cannot be built, or "none" is among several.
    """
    found = _stack(spec)
    if len(found.agents) > 1 and any(name_of(agent) == "none" for agent in found.agents):
        raise ValueError(
            f'a list of defenders is one stack, in which "none" does nothing; {ONE_CALL} plays against each'
        )
    return found


def several(side: Side, given: Any) -> list[Entrant]:
    """The attackers or defenders of `arena.play_all`: a list of them, or a table {title: agent}. In either, a
    list or {stack = [...]} among defenders is one stack.

    Raises:
        ValueError: if it is neither, holds none, or one of them cannot be built.
    """
    one: Callable[[Any], Entrant] = _attacker if side == "attackers" else _stack
    allowed = f"{side} must be a list of {side} or a table {{title: {side[:-1]}}}"
    if isinstance(given, Mapping):
        if isinstance(given.get("name"), str) or "stack" in given:
            raise ValueError(f"{allowed}; found one of them: put it into brackets, [{dict(given)!r}]")
        found = [Entrant(str(title), one(spec).agents) for title, spec in given.items()]
    elif _is_list(given):
        found = _labelled([one(spec) for spec in given])
    else:
        raise ValueError(f"{allowed}; found {given!r}: put one alone into brackets, [{given!r}]")
    if not found:
        raise ValueError(f"{allowed}; found none")
    return found


def _attacker(spec: Any) -> Entrant:
    agent = build_attacker(spec)
    return Entrant(agent_name(agent), (agent,))


def _stack(spec: Any) -> Entrant:
    agents = build_stack(spec)
    return Entrant("+".join(name_of(agent) for agent in agents), agents)


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence) and not isinstance(given, str | bytes)


def _labelled(found: Sequence[Entrant]) -> list[Entrant]:
    """Titles, with the parameters that differ where titles are equal; with numbers where nothing differs."""
    texts = [_parameters(entrant.agents) for entrant in found]
    titles: list[str] = []
    for entrant, own in zip(found, texts, strict=True):
        others = [t for e, t in zip(found, texts, strict=True) if e.title == entrant.title]
        differ = [key for key in own if len({other.get(key) for other in others}) > 1]
        inside = ", ".join(f"{key}={own[key]}" for key in differ)
        titles.append(f"{entrant.title} ({inside})" if inside else entrant.title)
    for place, title in enumerate(titles):
        if before := titles[:place].count(title):
            titles[place] = f"{title} #{before + 1}"
    return [Entrant(title, entrant.agents) for title, entrant in zip(titles, found, strict=True)]


def _parameters(agents: Sequence[Attacker | Defender]) -> dict[str, str]:
    """An entrant's parameters as text, by name; those of a stack's with its place in it."""
    found: dict[str, str] = {}
    for place, agent in enumerate(agents, 1):
        _flatten(parameters(agent), f"{place}." if len(agents) > 1 else "", found)
    return found


def _flatten(values: Mapping[str, Any], prefix: str, found: dict[str, str]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{prefix}{key}.", found)
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=repr)
