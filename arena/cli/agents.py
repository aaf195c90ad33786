"""`arena agents`."""

from __future__ import annotations

import inspect
import re

from rich.markup import escape

from arena.cli.console import out
from arena.messages import near
from arena.players.registry import AgentError, Kind, agent_class, name_of_class, names, parameters_of

KINDS: tuple[Kind, Kind] = ("attacker", "defender")


def agents_command() -> None:
    """List the agents that are installed."""
    width = max(len(name) for kind in KINDS for name in names(kind))
    for kind in KINDS:
        out.print(f"[bold]{kind}s[/]")
        for name in names(kind):
            try:
                summary = escape((agent_class(kind, name).__doc__ or "").strip().partition("\n")[0])
            except AgentError as error:
                summary = f"[red]{escape(str(error))}[/]"
            out.print(f"  {escape(f'{name:<{width}}')} {summary}", highlight=False, soft_wrap=True)


def show_command(name: str) -> None:
    """Show what an agent is and which parameters it takes."""
    kind, found = find_agent(name)
    own = escape(f"{kind} ({found.__module__}:{found.__qualname__})")
    out.print(f"[bold]{escape(name)}[/], {own}\n", highlight=False, soft_wrap=True)
    out.print(escape(inspect.cleandoc(found.__doc__ or "")), highlight=False)
    out.print()
    for p in parameters_of(found):
        line = f"{p.name}: {p.type} = {p.default}{inherited(found, kind, p.name)}"
        out.print(f"  {escape(line)}", highlight=False, soft_wrap=True)


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
