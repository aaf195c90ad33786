"""Who plays in a block: the agents that it names, all that are registered, and those that a caller wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from arena.isolation.defenders import defender_of, stack_of
from arena.isolation.strangers import attacker_of
from arena.players import Attacker, Defender
from arena.players.registry import (
    AgentError,
    Kind,
    Spec,
    build_attacker,
    build_stack,
    missing_parameter,
    names,
    where_written,
)
from arena.players.roles import is_control
from arena.rules.limits import Limits
from arena.scenario.errors import ScenarioError

ALL = "all"
"""Stands in a list of agents for every registered one."""

Agent = TypeVar("Agent")


@dataclass(frozen=True)
class Changes:
    """What a caller changes in the lists of every block.

    Attributes:
        attackers, defenders: in place of a block's own; None: its own.
        more_attackers, more_defenders: come behind these.
        ranked: the arena's controls come behind all of them, where they fit.
    """

    attackers: tuple[Spec, ...] | None = None
    defenders: tuple[Any, ...] | None = None
    more_attackers: tuple[Spec, ...] = ()
    more_defenders: tuple[Any, ...] = ()
    ranked: bool = False

    @property
    def words(self) -> str:
        """Which lists are changed, for a title; "" if none is."""
        changed = {
            "attackers": self.attackers is not None or self.more_attackers,
            "defenders": self.defenders is not None or self.more_defenders,
        }
        lists = " and ".join(name for name, is_changed in changed.items() if is_changed)
        return f"{lists} changed" if lists else ""


UNCHANGED = Changes()


@dataclass(frozen=True)
class LeftOut:
    """An agent that does not play somewhere, and why; a `wanted` one must play elsewhere.

    Attributes:
        place: the block and threat, "" for the only ones.
        agent: None if it could not be made.
    """

    place: str
    name: str
    why: str
    agent: Any = None
    wanted: bool = False

    def __str__(self) -> str:
        return f"{self.place}{self.name}: {self.why}"


@dataclass(frozen=True)
class Entrant(Generic[Agent]):
    """An agent of a block.

    Attributes:
        named: the file names it, so that it must fit wherever its list is played.
        wanted: a caller named it, so that it must fit somewhere.
    """

    agent: Agent
    named: bool = False
    wanted: bool = False


@dataclass(frozen=True)
class Lineup:
    """A block's attackers and stacks of defenders, each once, and those that could not be made."""

    attackers: list[Entrant[Attacker]]
    stacks: list[Entrant[tuple[Defender, ...]]]
    left_out: list[LeftOut]


def lineup(
    attackers: Sequence[Any],
    defenders: Sequence[Any],
    changes: Changes,
    source: str,
    place: str,
    apart: Limits | None = None,
) -> Lineup:
    """The agents that a block's lists and a caller's `changes` come to.

    Args:
        apart: what processes of strangers' agents may take, for which others stand here; None: all are
            imported here.

    Raises:
        ScenarioError: if one that the block names cannot be made.
        AgentError: if one that the caller names cannot be made.
    """
    left_out: list[LeftOut] = []
    where = f"{source}: {place}"

    def every(kind: Kind) -> list[str]:
        whys = {name: _why_not(kind, name, apart) for name in names(kind)}
        left_out.extend(LeftOut(place, f"{kind} {name}", why) for name, why in whys.items() if why)
        return [name for name, why in whys.items() if not why]

    def side(kind: Kind, build: Callable[[Any], Agent], own: Any, instead: Any, more: Any) -> _Side[Agent]:
        made = _Side(build, lambda: every(kind))
        made.name(own if instead is None else (), f"{where}{kind}s")
        made.want((*(instead or ()), *more))
        if changes.ranked:
            made.add_controls(kind)
        return made

    one = side(
        "attacker",
        build_attacker if apart is None else attacker_of,
        attackers,
        changes.attackers,
        changes.more_attackers,
    )
    stack = build_stack if apart is None else partial(stack_of, limits=apart)
    other = side("defender", stack, defenders, changes.defenders, changes.more_defenders)
    return Lineup(one.found, other.found, left_out)


class _Side(Generic[Agent]):
    """Collects the entrants of a list, each agent once unless the file itself names it twice."""

    def __init__(self, build: Callable[[Any], Agent], every: Callable[[], list[str]]) -> None:
        self.build, self.every = build, every
        self.found: list[Entrant[Agent]] = []

    def name(self, specs: Sequence[Any], where: str) -> None:
        """What the file names. Raises ScenarioError."""
        for number, spec in enumerate(specs, 1):
            if spec == ALL:
                self._add(Entrant(self.build(name)) for name in self.every())
                continue
            try:
                self.found.append(Entrant(self.build(spec), named=True))
            except AgentError as error:
                raise ScenarioError(f"{where} {number}: {error}") from error

    def want(self, specs: Sequence[Any]) -> None:
        """What a caller names. Raises AgentError."""
        for spec in specs:
            if spec == ALL:
                self._add(Entrant(self.build(name)) for name in self.every())
            else:
                self._add([Entrant(self.build(spec), wanted=True)])

    def add_controls(self, kind: Kind) -> None:
        """The controls that come with the arena (docs/audit.md)."""
        own = [name for name in names(kind) if where_written(kind, name)[1]]
        agents = {name: self.build(name) for name in own if missing_parameter(kind, name) is None}
        self._add(Entrant(agent) for agent in agents.values() if is_control(agent))

    def _add(self, entrants: Iterable[Entrant[Agent]]) -> None:
        for entrant in entrants:
            if entrant.agent not in [other.agent for other in self.found]:
                self.found.append(entrant)


def _why_not(kind: Kind, name: str, apart: Limits | None) -> str:
    """Why a registered agent cannot play as it is; "" if it can."""
    try:
        if apart is not None and not where_written(kind, name)[1]:
            attacker_of(name) if kind == "attacker" else defender_of(name, apart)
            return ""
        missing = missing_parameter(kind, name)
    except AgentError as error:
        return str(error)
    return "" if missing is None else f"it {missing}"
