"""`arena agents`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

from rich.markup import escape

from arena.cli.agent_card import example_of, needs_of, scenario_of, traits_of
from arena.cli.agent_defense import card_as_json, defense_as_json, defense_in_words
from arena.cli.console import out, say, say_json
from arena.messages import near
from arena.players import Attacker, Defender
from arena.players.catalogue import altered
from arena.players.registry import AgentError, Kind, agent_class, name_of_class, names, parameters_of
from arena.scenario.matches import agent_name

KINDS: tuple[Kind, Kind] = ("attacker", "defender")


def agents_command(as_json: bool) -> None:
    """List the agents that are installed."""
    rows = [_listed(kind, name) for kind in KINDS for name in names(kind)]
    if as_json:
        say_json(rows)
        return
    width = max(len(row["name"]) for row in rows)
    places = [_altered(row) for row in rows]
    for kind in KINDS:
        out.print(f"[bold]{kind}s[/]" + (", and what each alters" if kind == "defender" else ""))
        for row, place in zip(rows, places, strict=True):
            if row["kind"] != kind:
                continue
            summary = escape(row["summary"]) if row["error"] is None else f"[red]{escape(row['error'])}[/]"
            name = escape(f"{row['name']:<{width}}")
            if kind == "defender":
                name += escape(f" {place:<{max(map(len, places))}}")
            out.print(f"  {name} {summary}", highlight=False, soft_wrap=True)


def _altered(row: dict[str, Any]) -> str:
    """What a defender's card says that it alters, "" for an attacker and without a card."""
    return "" if row.get("alters") is None else altered(row["alters"])


def _listed(kind: Kind, name: str) -> dict[str, Any]:
    summary, error, card = "", None, {}
    try:
        found = agent_class(kind, name)
        summary = (found.__doc__ or "").strip().partition("\n")[0]
        card = card_as_json(found) if kind == "defender" else {}
    except AgentError as caught:
        error = str(caught)
    return {"kind": kind, "name": name, "summary": summary, "error": error, **card}


def show_command(name: str, as_json: bool) -> None:
    """Show what an agent is, what it needs, which parameters it takes, and a scenario that plays it."""
    kind, found = find_agent(name)
    example = example_of(kind, name)
    agent = example[0] if example else None
    scenario = scenario_of(kind, name)
    if as_json:
        say_json(_as_json(kind, name, found, agent, scenario))
        return
    own = escape(f"{kind} ({found.__module__}:{found.__qualname__})")
    out.print(f"[bold]{escape(name)}[/], {own}\n", highlight=False, soft_wrap=True)
    out.print(escape(inspect.cleandoc(found.__doc__ or "")), highlight=False)
    if parameters := parameters_of(found):
        out.print("\n[bold]parameters[/]")
    for p in parameters:
        line = f"{p.name}: {p.type} = {p.default}{inherited(found, kind, p.name)}"
        out.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    if agent is None:
        required = ", ".join(p.name for p in parameters if p.default == "required")
        say(f"\nwhat it is and needs cannot be shown without its required parameters: {required}")
    else:
        _show_words(agent)
    if kind == "defender" and (lines := defense_in_words(found, name_of_class(kind, found))):
        out.print("\n[bold]defense[/]")
        _show_pairs(lines)
    if scenario:
        out.print("\n[bold]in a scenario[/]")
        say("\n".join(f"  {line}" for line in scenario.splitlines()))


def _show_words(agent: Attacker | Defender) -> None:
    """What an attacker needs, or what a defender is."""
    if isinstance(agent, Attacker):
        name = agent_name(agent)
        title = f"needs, as {name}" if "(" in name else "needs"
        words = needs_of(agent.needs)
    else:
        title, words = "what it is", traits_of(agent)
    out.print(f"\n[bold]{escape(title)}[/]", highlight=False)
    _show_pairs(list(words.items()))


def _show_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    width = max(len(key) for key, _ in pairs)
    for key, word in pairs:
        out.print(f"  {escape(f'{key:<{width}}')}  {escape(word)}", highlight=False, soft_wrap=True)


def _as_json(
    kind: Kind, name: str, found: type, agent: Attacker | Defender | None, scenario: str
) -> dict[str, Any]:
    told: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "class": f"{found.__module__}:{found.__qualname__}",
        "doc": inspect.cleandoc(found.__doc__ or ""),
        "parameters": [vars(p) for p in parameters_of(found)],
    }
    if isinstance(agent, Attacker):
        told["needs"] = vars(agent.needs)
    elif agent is not None:
        told |= {
            "random": agent.random,
            "memory": agent.memory,
            "secrets": agent.secrets,
            "detector": agent.has_detector(),
        }
    if kind == "defender":
        told |= defense_as_json(found, name_of_class(kind, found))
    return told | {"scenario": scenario or None}


def inherited(agent: type, kind: Kind, parameter: str) -> str:
    """Names the base class that documents `parameter`, if `agent` does not document it itself."""
    documented = re.compile(rf"^ *(\w+, )*{parameter}(, \w+)*:", re.MULTILINE)
    owner = next((c for c in agent.__mro__ if documented.search(inspect.cleandoc(c.__doc__ or ""))), agent)
    return "" if owner is agent else f"  (as for {name_of_class(kind, owner)})"


def find_agent(name: str) -> tuple[Kind, type]:
    """The kind and class of an agent by its name, attackers first."""
    for kind in KINDS:
        if name in names(kind):
            return kind, agent_class(kind, name)
    if ":" not in name:
        both = {*names("attacker"), *names("defender")}
        raise AgentError(f'there is no agent "{name}"; {near(name, both)}')
    try:
        return "attacker", agent_class("attacker", name)
    except AgentError:
        return "defender", agent_class("defender", name)
