"""The matches of the blocks of a scenario."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from arena.players import Attacker, Defender
from arena.players.attacker import runs_of
from arena.players.parameters import parameters
from arena.players.registry import AgentError, build_attacker, build_stack, name_of
from arena.rules.threat import TOLERANCE, Threat
from arena.scenario.blocks import Block, World
from arena.scenario.errors import ScenarioError


@dataclass(frozen=True)
class Match:
    """One attacker against one defended classifier under one threat, over many games.

    Attributes:
        number: from 0, in the order of the file.
        threat: with the budget according to the attacker's convention (`budget_factor`).
        at: the query counts to report, multiplied by the same factor; the budget is always among them.
        title: the budget, if the attacker plays once for each reported count (`Needs.prefix`).
        where: the beginning of error sentences: the file, and the block and world in it.
    """

    number: int
    block: str
    world: World
    threat: Threat
    attacker: Attacker
    defenders: tuple[Defender, ...]
    at: tuple[int, ...]
    settings: Block
    where: str = field(default="", compare=False)
    title: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (f"{self.attacker_name} vs {self.defender_name}", self.title)))

    @property
    def attacker_name(self) -> str:
        return agent_name(self.attacker)

    @property
    def defender_name(self) -> str:
        return "+".join(name_of(d) for d in self.defenders)

    def describe(self) -> dict[str, Any]:
        """Everything that decides how this match is played, as JSON values."""
        s = self.settings
        return {
            "world": self.world.model_dump(mode="json"),
            "threat": self.threat.model_dump(mode="json"),
            "attacker": {"name": self.attacker_name, **parameters(self.attacker)},
            "defenders": [{"name": name_of(d), **parameters(d)} for d in self.defenders],
            "games": s.games,
            "shard": s.shard,
            "repeats": s.repeats,
            "seed": s.seed,
            "at": list(self.at),
            "votes": s.votes,
        }


def agent_name(attacker: Attacker) -> str:
    """An attacker's name with those of the attackers inside it, such as "eot(square)"."""
    inside = [v for v in vars(attacker).values() if isinstance(v, Attacker)]
    name = name_of(attacker)
    return f"{name}({', '.join(agent_name(a) for a in inside)})" if inside else name


def matches_of(block: Block, first: int, where: str) -> Iterator[Match]:
    attackers = [
        _built(build_attacker, spec, f"{where}attackers {i}: ") for i, spec in enumerate(block.attackers, 1)
    ]
    stacks = [
        _built(build_stack, spec, f"{where}defenders {i}: ") for i, spec in enumerate(block.defenders, 1)
    ]
    number = first
    for place, world in enumerate(block.worlds, 1):
        here = f"{where}worlds {place}: " if len(block.worlds) > 1 else where
        for threat in block.threats:
            for attacker in attackers:
                for own, at, title in _rules(threat, block, attacker, where):
                    for stack in stacks:
                        _check_detector(attacker, stack, where)
                        yield Match(number, block.title, world, own, attacker, stack, at, block, here, title)
                        number += 1


def _rules(
    threat: Threat, block: Block, attacker: Attacker, where: str
) -> list[tuple[Threat, tuple[int, ...], str]]:
    """The threats and reported counts according to the attacker's budget convention, each with a title.

    An attacker whose first queries are not as good as a run with a smaller budget gets a threat for each
    count.
    """
    if (unmet := attacker.needs.unmet(threat)) is not None:
        raise ScenarioError(f"{where}attacker {agent_name(attacker)} cannot play this threat: {unmet}")
    beyond = [count for count in block.at if count > threat.budget]
    if beyond:
        raise ScenarioError(f"{where}at: found {beyond[0]}; counts go up to the budget {threat.budget}")
    _check_radii(threat, block, where)
    runs = runs_of(attacker, threat, block.at)
    if len(runs) == 1:
        return [(*runs[0], "")]
    return [(own, at, f"{at[-1]:,} {'query' if at == (1,) else 'queries'}") for own, at in runs]


def _check_detector(attacker: Attacker, stack: tuple[Defender, ...], where: str) -> None:
    if (unmet := attacker.needs.unmet_by(stack)) is not None:
        against = "+".join(name_of(d) for d in stack)
        raise ScenarioError(f"{where}attacker {agent_name(attacker)} cannot play against {against}: {unmet}")


def _check_radii(threat: Threat, block: Block, where: str) -> None:
    if block.radii and threat.objective != "minimum":
        raise ScenarioError(
            f'{where}radii: they need objective "minimum"; the threat\'s objective is "{threat.objective}"'
        )
    wide = [radius for radius in block.radii if radius > threat.epsilon + TOLERANCE]
    if wide:
        raise ScenarioError(f"{where}radii: found {wide[0]:g}; radii go up to epsilon {threat.epsilon:g}")


def _built(build: Any, spec: Any, where: str) -> Any:
    try:
        return build(spec)
    except AgentError as error:
        raise ScenarioError(f"{where}{error}") from error
