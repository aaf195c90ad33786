"""`arena agents`."""

from __future__ import annotations

import inspect
import re
from typing import Any

from rich.markup import escape

from arena.cli.agent_card import example_of, needs_of, scenario_of, traits_of
from arena.cli.console import out, say, say_json
from arena.messages import near
from arena.players import Attacker, Defender
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
    for kind in KINDS:
        out.print(f"[bold]{kind}s[/]")
        for row in (r for r in rows if r["kind"] == kind):
            summary = escape(row["summary"]) if row["error"] is None else f"[red]{escape(row['error'])}[/]"
            name = escape(f"{row['name']:<{width}}")
            out.print(f"  {name} {summary}", highlight=False, soft_wrap=True)


def _listed(kind: Kind, name: str) -> dict[str, Any]:
    summary, error = "", None
    try:
        summary = (agent_class(kind, name).__doc__ or "").strip().partition("\n")[0]
    except AgentError as caught:
        error = str(caught)
    return {"kind": kind, "name": name, "summary": summary, "error": error}


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
    width = max(map(len, words))
    for key, word in words.items():
        out.print(f"  {key:<{width}}  {escape(word)}", highlight=False, soft_wrap=True)


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
