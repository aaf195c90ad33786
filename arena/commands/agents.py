"""`arena agents`."""

from __future__ import annotations

import inspect

from rich.markup import escape

from arena.commands.console import out
from arena.registry import AgentError, Kind, agent_class, names, parameters_of
from arena.wording import near


def agents_command() -> None:
    """List the agents that are installed."""
    for kind in ("attacker", "defender"):
        out.print(f"[bold]{kind}s[/]")
        for name in names(kind):
            try:
                said = escape((agent_class(kind, name).__doc__ or "").strip().partition("\n")[0])
            except AgentError as error:
                said = f"[red]{escape(str(error))}[/]"
            out.print(f"  {escape(f'{name:<16}')} {said}", highlight=False)


def show_command(name: str) -> None:
    """Show what an agent is and which parameters it takes."""
    kind, found = find_agent(name)
    own = escape(f"{kind} ({found.__module__}:{found.__qualname__})")
    out.print(f"[bold]{escape(name)}[/], {own}\n", highlight=False, soft_wrap=True)
    out.print(escape(inspect.cleandoc(found.__doc__ or "")), highlight=False)
    out.print()
    for p in parameters_of(found):
        out.print(f"  {escape(f'{p.name}: {p.type} = {p.default}')}", highlight=False)


def find_agent(name: str) -> tuple[Kind, type]:
    """The kind and class of an agent by its name, attackers first."""
    kinds: tuple[Kind, Kind] = ("attacker", "defender")
    for kind in kinds:
        if name in names(kind):
            return kind, agent_class(kind, name)
    if ":" not in name:
        both = {*names("attacker"), *names("defender")}
        raise AgentError(f'there is no agent "{name}"; {near(name, both)}')
    try:
        return "attacker", agent_class("attacker", name)
    except AgentError:
        return "defender", agent_class("defender", name)
