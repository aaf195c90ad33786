"""The matches of the blocks of a scenario."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from arena.isolation.sandbox import lacking
from arena.players import Attacker, Defender
from arena.players.attacker import runs_of
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.stand_in import StandIn
from arena.rules.threat import TOLERANCE, Threat
from arena.scenario.blocks import Block, World
from arena.scenario.errors import ScenarioError
from arena.scenario.lineups import Changes, Entrant, LeftOut, lineup
from arena.scenario.reference_networks import specs_of
from arena.scenario.seeds import PUBLIC, Seeds


@dataclass(frozen=True)
class Match:
    """One attacker against one defended classifier under one threat, over many games.

    Attributes:
        number: from 0, in the order of the file.
        threat: with the budget according to the attacker's convention (`budget_factor`).
        at: the query counts to report, multiplied by the same factor; the budget is always among them.
        title: the budget, if the attacker plays once for each reported count (`Needs.prefix`).
        where: the beginning of error sentences: the file, and the block and world in it.
        seeds: what draws come from.
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
    seeds: Seeds = PUBLIC

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
        # Only where it is on, so that a log from before there were monitors can still be played again.
        monitor = {"margin_base": True} if s.margin_base else {}
        secret = {"secret": self.seeds.commitment} if self.seeds.secret is not None else {}
        return {
            **secret,
            **monitor,
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
            "limits": s.limits.model_dump(mode="json"),
            "isolation": s.isolation,
        }


def agent_name(attacker: Attacker) -> str:
    """An attacker's name with those of the attackers inside it, such as "eot(square)"."""
    if isinstance(attacker, StandIn):
        return attacker.title
    inside = [v for v in vars(attacker).values() if isinstance(v, Attacker)]
    name = name_of(attacker)
    return f"{name}({', '.join(agent_name(a) for a in inside)})" if inside else name


def matches_of(
    block: Block, first: int, source: str, place: str, changes: Changes
) -> tuple[list[Match], list[LeftOut]]:
    """A block's matches, numbered from `first`, and the agents that do not play in it.

    Args:
        source: the file, for error sentences.
        place: the block in it.

    Raises:
        ScenarioError: if an agent that the block names cannot be made, or does not fit.
        AgentError: if an agent that `changes` name cannot be made.
    """
    where = f"{source}: {place}"
    apart = block.limits if block.isolation == "process" else None
    if apart is not None and (why := lacking()) is not None:
        raise ScenarioError(
            f'{where}isolation: "process" cannot be had on this machine: {why}; "none" goes without'
        )
    sides = lineup(block.attackers, block.defenders, changes, source, place, apart)
    matches: list[Match] = []
    left_out = sides.left_out
    for number, world in enumerate(block.worlds, 1):
        here = f"{where}worlds {number}: " if len(block.worlds) > 1 else where
        for row, threat in enumerate(block.threats, 1):
            spot = f"{place}threats {row}: " if len(block.threats) > 1 else place
            _check_counts(threat, block, where)
            for attacker in sides.attackers:
                if not _fits(attacker, threat, where, spot, left_out):
                    continue
                for own, at, title in _rules(threat, block, attacker.agent, where):
                    specs_of(own, where, isolated=block.isolation == "process")
                    for stack in sides.stacks:
                        if _fit(attacker, stack, where, spot, left_out):
                            pair = attacker.agent, stack.agent
                            n = first + len(matches)
                            matches.append(Match(n, block.title, world, own, *pair, at, block, here, title))
    return matches, list(dict.fromkeys(left_out))


def _check_counts(threat: Threat, block: Block, where: str) -> None:
    beyond = [count for count in block.at if count > threat.budget]
    if beyond:
        raise ScenarioError(f"{where}at: found {beyond[0]}; counts go up to the budget {threat.budget}")
    _check_radii(threat, block, where)


def _rules(
    threat: Threat, block: Block, attacker: Attacker, where: str
) -> list[tuple[Threat, tuple[int, ...], str]]:
    """The threats and reported counts according to the attacker's budget convention, each with a title.

    An attacker whose first queries are not as good as a run with a smaller budget gets a threat for each
    count.
    """
    try:
        runs = runs_of(attacker, threat, block.at)
    except ValueError as error:
        raise ScenarioError(f"{where}attacker {agent_name(attacker)}: {error}") from error
    if len(runs) == 1:
        return [(*runs[0], "")]
    return [(own, at, f"{at[-1]:,} {'query' if at == (1,) else 'queries'}") for own, at in runs]


def _fits(
    attacker: Entrant[Attacker], threat: Threat, where: str, spot: str, left_out: list[LeftOut]
) -> bool:
    """Whether an attacker can play a threat; one that the file names must."""
    if (unmet := attacker.agent.needs.unmet(threat)) is None:
        return True
    name = f"attacker {agent_name(attacker.agent)}"
    if attacker.named:
        raise ScenarioError(f"{where}{name} cannot play this threat: {unmet}")
    left_out.append(LeftOut(spot, name, unmet, attacker.agent, attacker.wanted))
    return False


def _fit(
    attacker: Entrant[Attacker],
    stack: Entrant[tuple[Defender, ...]],
    where: str,
    spot: str,
    left_out: list[LeftOut],
) -> bool:
    """Whether an attacker can play against a stack; two that the file names must."""
    if (unmet := attacker.agent.needs.unmet_by(stack.agent)) is None:
        return True
    name = f"attacker {agent_name(attacker.agent)}"
    against = "+".join(name_of(d) for d in stack.agent)
    if attacker.named and stack.named:
        raise ScenarioError(f"{where}{name} cannot play against {against}: {unmet}")
    out, wanted = (stack.agent, stack.wanted) if stack.wanted else (attacker.agent, attacker.wanted)
    left_out.append(LeftOut(spot, f"{name} against {against}", unmet, out, wanted))
    return False


def _check_radii(threat: Threat, block: Block, where: str) -> None:
    if block.radii and threat.objective != "minimum":
        raise ScenarioError(
            f'{where}radii: they need objective "minimum"; the threat\'s objective is "{threat.objective}"'
        )
    wide = [radius for radius in block.radii if radius > threat.epsilon + TOLERANCE]
    if wide:
        raise ScenarioError(f"{where}radii: found {wide[0]:g}; radii go up to epsilon {threat.epsilon:g}")
