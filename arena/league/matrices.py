"""The matrices of logs: attackers crossed with defenders in one world, under one threat, at one count."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from sqlalchemy import select

from arena.league.cells import Cell, Games, Source, games_at
from arena.league.labels import labels_apart
from arena.log import Log, questions, schema
from arena.log.answers import LoggedMatch, LoggedRun
from arena.log.schema import to_json
from arena.rules.threat import Threat

_LIKE = ("reason", "queries", "answered", "base", "hit_at")
"""What games that came out alike have in common."""
_NEAR = 1e-3
"""How much the distances of such games may differ, relatively: machines round otherwise."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Attackers crossed with defenders.

    Attributes:
        dataset, classifier: names of the world's parts; their contents are the same in all cells (by SHA).
        threat: with `at` as the budget; knowledge is part of it, and so are reference networks.
        at: the query count.
        attackers, defenders: labels, distinct, in the order of their first matches.
        cells: by (attacker, defender); pairs that nobody played, or not at this count, are missing.
    """

    dataset: str
    classifier: str
    threat: Threat
    at: int
    attackers: tuple[str, ...]
    defenders: tuple[str, ...]
    cells: dict[tuple[str, str], Cell]

    @property
    def missing(self) -> tuple[tuple[str, str], ...]:
        """Pairs without a cell."""
        return tuple((a, d) for a in self.attackers for d in self.defenders if (a, d) not in self.cells)

    def against(self, defender: str) -> list[Cell]:
        """The cells of a defender, in the order of the attackers."""
        return [self.cells[a, defender] for a in self.attackers if (a, defender) in self.cells]

    def of(self, attacker: str) -> list[Cell]:
        """The cells of an attacker, in the order of the defenders."""
        return [self.cells[attacker, d] for d in self.defenders if (attacker, d) in self.cells]


def read_sources(log: Log) -> list[Source]:
    """All matches of a log with a finished shard, whichever runs they are of, each once, as at one moment."""
    found: dict[int, Source] = {}
    with log.snapshot():
        for run in reversed(questions.runs(log)):
            for match in questions.matches(log, run.id):
                if match.id not in found and (source := _source(log, run, match)) is not None:
                    found[match.id] = source
    return [found[match_id] for match_id in sorted(found)]


def matrices(sources: Sequence[Source], counts: Iterable[int] | None = None) -> list[Matrix]:
    """The matrices of matches, largest query count first within a world and threat.

    Args:
        counts: those wanted; None: all that a match of the world and threat reports.
    """
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        groups[_rules(source)].append(source)
    found = []
    for group in groups.values():
        known = {at for source in group for at in source.counts}
        for at in sorted(known if counts is None else known & set(counts), reverse=True):
            found.append(_matrix(group, at))
    return found


def _source(log: Log, run: LoggedRun, match: LoggedMatch) -> Source | None:
    described = {}
    for number, one in enumerate(run.info.resolved.get("matches", ())):
        if number == match.info.number:
            described = one
    states = questions.ask(log, select(schema.shards.c.state).filter_by(match_id=match.id))
    done = sum(row.state == schema.FINISHED for row in states)
    if not done:
        return None
    planned, budget = len(states), match.info.threat.budget
    if described:
        drawn = described.get("drawn", described["games"])
        planned = max(planned, math.ceil(drawn / described["shard"]) * described["repeats"])
    return Source(
        log=log.name,
        run=run,
        match=match,
        draw=f"{described.get('secret', '')}{described.get('seed', run.info.seed)}",
        games=questions.outcomes(log, match.id),
        marks=questions.verdicts(log, match.id, [at for at in match.info.at if 0 < at < budget]),
        asked=tuple(questions.asked(log, match.id)),
        shards=(done, planned),
        utility=questions.utility(log, match.id, match.info.utility) if match.info.utility else None,
        benign=tuple(questions.benign(log, match)),
        secret=str(described.get("secret", "")),
    )


def _rules(source: Source) -> str:
    """What matches of one matrix have in common, but for the count."""
    info = source.match.info
    rules = info.threat.model_dump(mode="json", exclude={"budget"})
    return to_json([info.dataset_sha, info.classifier_sha, rules])


def _pair(source: Source) -> str:
    info = source.match.info
    return to_json([info.attacker, info.attacker_params, info.defender, info.defender_params])


def _matrix(group: Sequence[Source], at: int) -> Matrix:
    here = [place for place, source in enumerate(group) if at in source.counts]
    # Of all counts: who is called so at one is the same at another.
    sides = [_labels([_agent(source, side) for source in group]) for side in ("attacker", "defender")]
    draws = {draw: place for place, draw in enumerate(dict.fromkeys(group[i].draw for i in here))}
    pairs: dict[str, list[int]] = defaultdict(list)
    for place in here:
        pairs[_pair(group[place])].append(place)
    cells = {}
    for places in pairs.values():
        attacker, defender = (labels[places[0]] for labels in sides)
        cells[attacker, defender] = _cell([group[i] for i in places], at, attacker, defender, draws)
    info = group[here[0]].match.info
    names = [tuple(dict.fromkeys(labels[i] for i in here)) for labels in sides]
    threat = info.threat.with_budget(at)
    return Matrix(info.dataset, info.classifier, threat, at, names[0], names[1], cells)


def _agent(source: Source, side: str) -> tuple[str, Any]:
    info = source.match.info
    title = getattr(info, f"{side}_title") or getattr(info, side)
    return title, getattr(info, f"{side}_params")


def _labels(agents: Sequence[tuple[str, Any]]) -> list[str]:
    """The label of each agent; equal agents have equal ones, others never."""
    distinct = list({to_json(agent): agent for agent in agents}.values())
    label = dict(zip([to_json(agent) for agent in distinct], labels_apart(distinct), strict=True))
    return [label[to_json(agent)] for agent in agents]


def _cell(
    sources: Sequence[Source], at: int, attacker: str, defender: str, places: Mapping[str, int]
) -> Cell:
    """Of matches of one draw the one with the most games counts, the latest of these, and of them the one
    whose own budget is the count; the others must agree with it."""
    draws: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        draws[source.draw].append(source)
    chosen, conflicts = [], []
    for same in draws.values():
        best = max(same, key=lambda s: (s.threat.budget == at, len(s.games), s.run.started))
        chosen.append(best)
        conflicts += [said for other in same if other is not best and (said := _conflict(best, other, at))]
    info = chosen[0].match.info
    chosen.sort(key=lambda source: places[source.draw])
    games = [games_at(source, at, places[source.draw]) for source in chosen]
    return Cell(
        attacker,
        defender,
        info.threat.with_budget(at),
        at,
        info.answers_are_facts,
        "answered" if info.answers_are_facts else "vote",
        tuple(chosen),
        tuple(conflicts),
        _joined(games),
    )


def _conflict(one: Source, other: Source, at: int) -> str | None:
    """A sentence if games of both came out otherwise. Attackers that play once for each count differ between
    counts by nature."""
    if one.threat.budget != other.threat.budget:
        return None
    mine, yours = (_by_name(source) for source in (one, other))
    shared = [(mine[name], yours[name]) for name in mine if name in yours]
    differ = sum(_differ(*both) for both in shared)
    if not differ:
        return None
    return (
        f"{differ} of {len(shared)} games came out otherwise in run {other.run.id} of {other.log} than in "
        f"run {one.run.id} of {one.log}, which is shown"
    )


def _differ(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether a game came out otherwise; votes of unequal numbers of answers say nothing of that."""
    (*a, wrong, asked, far), (*b, lost, polled, away) = one, other
    votes = asked == polled and wrong != lost
    return a != b or votes or not math.isclose(far, away, rel_tol=_NEAR)


def _by_name(source: Source) -> dict[tuple[int, int], tuple[Any, ...]]:
    """How games came out; last wrong answers and those asked for, in halves, and the distance: 0 where no
    verdict goes by it."""
    games = source.games
    far = np.zeros(len(games))
    if source.threat.objective == "minimum":
        far = np.nan_to_num(
            np.asarray(getattr(games, source.threat.norm), np.float64), nan=np.inf, posinf=np.inf
        )
    wrong, asked = (
        zip(getattr(games, f"{what}_a").tolist(), getattr(games, f"{what}_b").tolist(), strict=True)
        for what in ("wrong", "asked")
    )
    columns = [*(getattr(games, name) for name in _LIKE), list(wrong), list(asked), far]
    rows = zip(*columns, strict=True)
    return dict(zip(zip(games.image.tolist(), games.repeat.tolist(), strict=True), rows, strict=True))


def _joined(parts: Sequence[Games]) -> Games:
    if len(parts) == 1:
        return parts[0]
    columns: dict[str, Any] = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Games)
        if f.name != "reason"
    }
    return Games(reason=[why for part in parts for why in part.reason], **columns)
