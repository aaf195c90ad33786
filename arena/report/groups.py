"""Matches that belong in one table: one world, one threat, attackers crossed with defenders.

What an attacker knows is part of the threat. If a threat grants the detector or the weights, an attacker that
used them is not in one table with one that used answers only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.league.labels import flat, labels_apart
from arena.league.rates import Median, Rate
from arena.log.schema import to_json
from arena.report.detection import purposes_of
from arena.report.distances import Distances, joined
from arena.report.summary import Row
from arena.rules.threat import Threat

FEWEST = 0.0005
"""Shares below this are printed as 0.0 percent: what is all below it is not shown."""


@dataclass(frozen=True)
class Side:
    """An attacker or a defender of a group: its label there, and its parameters."""

    label: str
    title: str
    params: Mapping[str, Any]

    @property
    def values(self) -> list[tuple[str, str]]:
        """The parameters as text; those of a stack's defenders by their places in it."""
        return _without_names(self.params.get("defenders", self.params))


class Group:
    """Matches of one block in one world under one threat. Only budgets may differ: by an attacker's
    convention, or if it played once for each reported query count.

    Attributes:
        rows: the matches, in the order of the scenario.
        attackers, defenders: in the order of their first match; their labels are distinct.
        by_attacker: the matches of each attacker, separated by query count if there are several.
        nearest: whether results are distances (objective `minimum`), not the accuracy left.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)
        info = [row.match.info for row in rows]
        named, own = _sides([(i.attacker_title or i.attacker, i.attacker_params) for i in info])
        self.defenders, other = _sides([(i.defender_title or i.defender, i.defender_params) for i in info])
        self._series: dict[tuple[int, int], list[Row]] = {}
        apart: dict[tuple[int, str], dict[int, Row]] = {}
        for a, d, row in zip(own, other, rows, strict=True):
            self._series.setdefault((a, d), []).append(row)
            apart.setdefault((a, row.match.info.title), {})[d] = row
        self.attackers = _with_budgets(named, own, [row.budget for row in rows])
        self.by_attacker = [
            (
                replace(named[a], label=f"{named[a].label}, {title}") if title else self.attackers[a],
                [(self.defenders[d], row) for d, row in sorted(cells.items())],
            )
            for (a, title), cells in sorted(apart.items(), key=lambda item: item[0][0])
        ]
        self.nearest = info[0].threat.objective == "minimum"

    def cell(self, attacker: int, defender: int) -> Row | None:
        """The match of an attacker and a defender, by their places; the one with the largest budget, or None
        if there is none."""
        return next((row for a, d, row in self.cells if (a, d) == (attacker, defender)), None)

    def distances(self, attacker: int, defender: int) -> Distances | None:
        """The distances of an attacker's matches with a defender, by all their query counts."""
        found = [row.distances for row in self._series.get((attacker, defender), ()) if row.played]
        parts = [own for own in found if own is not None]
        return joined(parts) if parts else None

    @property
    def pairs(self) -> list[tuple[Side, Side, Row]]:
        """The matches with their agents, attacker by attacker."""
        return [(attacker, *cell) for attacker, cells in self.by_attacker for cell in cells]

    @property
    def cells(self) -> list[tuple[int, int, Row]]:
        """The matches that `cell` gives, with the places of their agents."""
        return [(a, d, max(rows, key=lambda row: row.budget)) for (a, d), rows in self._series.items()]

    def ranked(self, defender: int) -> bool:
        """Whether a defender's matches can be ranked (docs/design.md, D3): not where `answered` and `vote`
        are but the two ends of what is left."""
        return not any(row.two_ends for _, d, row in self.cells if d == defender)

    def worst(self, defender: int) -> Row | None:
        """The match that leaves a defender the least accuracy, or the least median distance, among those of
        which a game was played to its end; with several query counts, at the largest. None where there is
        no such match, or no rank."""
        rows = [row for _, d, row in self.cells if d == defender and row.drawn and not row.hollow]
        least = min(rows, key=lambda row: (self.left(row), self.figure(row).low), default=None)
        return least if self.ranked(defender) else None

    def is_worst(self, row: Row, defender: int) -> bool:
        """Whether a match with finished games leaves a defender as little as its worst match."""
        worst = self.worst(defender)
        return worst is not None and not row.hollow and self.left(row) == self.left(worst)

    def left(self, row: Row) -> float:
        """What a match with finished games leaves the defender at its budget: accuracy, or the median
        distance; infinite if no game was played."""
        if not self.nearest:
            return row.headline.value
        return row.distance_median if row.played else math.inf

    def figure(self, row: Row) -> Rate | Median:
        """What a match leaves at its budget by its headline: accuracy, or the median distance."""
        own = row.distances
        return row.headline if own is None or not self.nearest else own.median[row.budget]

    def utility(self, defender: int) -> Utility | None:
        """A defender's utility, from its first match that has one."""
        found = (row.utility for _, d, row in self.cells if d == defender)
        return next((utility for utility in found if utility is not None), None)

    def benign(self, defender: int) -> tuple[BenignLoss, ...]:
        """What benign clients lost to a defender, from its match that knows most of it."""
        found = (row.benign for _, d, row in self.cells if d == defender)
        return max(found, key=len, default=())

    def warns(self, defender: int) -> bool:
        """Whether a defender refused, banned or flagged something."""
        utility = self.utility(defender)
        refused = any(row.refused for _, d, row in self.cells if d == defender)
        return refused or self.flags(defender) or bool(utility and utility.refused)

    def taken(self, defender: int) -> Rate | None:
        """The share of the images that the strongest attacker of a defender gets at the budget, those that
        were wrong before included; where `answered` and `vote` are two ends, from one end to the other. Where
        success is a distance, the share of the games whose nearest image lies within epsilon; None where
        that is infinite, and without a game that was played to its end."""
        rows = [row for _, d, row in self.cells if d == defender and row.drawn and not row.hollow]
        if self.nearest:
            return self._near(rows)
        if not rows:
            return None
        row = min(rows, key=lambda row: row.headline.value)
        ends = [row.headline]
        if row.both_ends:
            ends += [row.left[row.budget]["answered"], row.left[row.budget]["vote"]]
        low, high = 1 - max(end.high for end in ends), 1 - min(end.low for end in ends)
        return Rate(1 - row.headline.value, low, high)

    def _near(self, rows: Sequence[Row]) -> Rate | None:
        """The largest share of the games of one of some matches that lie within a finite epsilon."""
        if math.isinf(self.threat.epsilon):
            return None
        known = []
        for row in rows:
            if row.distances is not None and row.played:
                won = row.distances.within[self.threat.epsilon][row.budget]
                others = [won["answered"], won["vote"]] if row.both_ends else []
                known.append([won[row.distances.verdict], *others])
        if not known:
            return None
        ends = max(known, key=lambda own: own[0].value)
        return Rate(ends[0].value, min(end.low for end in ends), max(end.high for end in ends))

    def flags(self, defender: int) -> bool:
        """Whether a defender flagged a share worth a table (`FEWEST`) of a match's queries, of its estimation
        queries or of clean images."""
        utility = self.utility(defender)
        rows = [row for (_, d), series in self._series.items() if d == defender for row in series]
        shares = [share for row in rows for share in (row.detection.share(), row.detection.estimation)]
        return any(share >= FEWEST for share in [*shares, utility.flagged if utility else math.nan])

    def purposes(self, defenders: Sequence[int]) -> list[str]:
        """The purposes of the queries in the matches of `defenders`, most queries first."""
        rows = [row for (_, d), series in self._series.items() if d in defenders for row in series]
        return purposes_of([row.detection for row in rows])

    def one_counts(self, defenders: Sequence[int]) -> list[int]:
        """The query counts at which it is known what `defenders` flag of one estimation query a game."""
        rows = [row for (_, d), series in self._series.items() if d in defenders for row in series]
        return sorted({at for row in rows for at in row.detection.of_one})

    @property
    def has_utilities(self) -> bool:
        return any(row.utility for row in self.rows)

    def noted(self, defender: int) -> Mapping[str, Any]:
        """What the log keeps of a defender beside its parameters, from its first match with such facts."""
        rows = (row for _, d, row in self.cells if d == defender)
        return next((row.match.info.facts for row in rows if row.match.info.facts), {})

    def facts(self, defender: int) -> list[tuple[str, str]]:
        """What a defender found when it was fitted, from its first match that has such facts."""
        facts = dict(self.noted(defender))
        for other in ("roles", "catalogue"):
            facts.pop(other, None)
        return _without_names(facts.pop("defenders", {})) + _without_names(facts)

    @property
    def title(self) -> str:
        return self.rows[0].match.info.block

    @property
    def world(self) -> str:
        info = self.rows[0].match.info
        return f"{info.dataset}, {info.classifier}"

    @property
    def threat(self) -> Threat:
        """The threat, with the smallest budget of its attackers."""
        return min((row.match.info.threat for *_, row in self.cells), key=lambda threat: threat.budget)

    @property
    def budgets(self) -> set[int]:
        """The budgets of its attackers, each one's largest."""
        return {row.budget for *_, row in self.cells}

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """All query counts at which a match of the group reports."""
        return tuple(sorted({at for row in self.rows for at in row.left}))

    @cached_property
    def near_counts(self) -> tuple[int, ...]:
        """All query counts at which a match of the group has distances."""
        return tuple(sorted({at for row in self.rows if row.distances for at in row.distances.counts}))

    def share(self, row: Row) -> float:
        """A match's median distance as a share of the group's largest finite one; 1 at most."""
        finite = [r.distance_median for *_, r in self.cells if r.distance_median < math.inf]
        return min(1.0, self.left(row) / max(finite)) if finite and max(finite) > 0 else 1.0

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The headline verdicts of the matches, each once."""
        return tuple(dict.fromkeys(row.match.info.verdict for row in self.rows))


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Matches with the same block, world and rules, in the order of their first ones. A new group begins if a
    pair of agents comes again with the same query counts, or after matches of another block, world or threat;
    attackers that used insider knowledge or reference networks are apart from those that did not, wherever
    they stand among them."""
    groups: list[list[Row]] = []
    key = ""
    begun: dict[str, tuple[list[Row], set[str]]] = {}
    for row in rows:
        info = row.match.info
        rules = info.threat.model_dump(mode="json", exclude={"budget"})
        known = to_json([rules.pop("resources"), row.insider > 0])
        own = to_json(
            [info.block, info.dataset, info.dataset_sha, info.classifier, info.classifier_sha, rules]
        )
        if own != key:
            key, begun = own, {}
        pair = to_json([info.attacker, info.attacker_params, info.defender, info.defender_params, info.title])
        if known not in begun or pair in begun[known][1]:
            begun[known] = ([], set())
            groups.append(begun[known][0])
        begun[known][0].append(row)
        begun[known][1].add(pair)
    return [Group(group) for group in groups]


def _without_names(value: Any) -> list[tuple[str, str]]:
    """Parameters as text, without the names of defenders, which are in the titles."""
    return [(key, text) for key, text in flat(value) if key.rpartition(".")[2] != "name"]


def _sides(agents: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[tuple[Side, ...], list[int]]:
    """The distinct agents, and for each agent its index among them."""
    known: dict[str, int] = {}
    different: list[tuple[str, Mapping[str, Any]]] = []
    places = []
    for title, params in agents:
        key = to_json([title, params])
        if key not in known:
            known[key] = len(different)
            different.append((title, params))
        places.append(known[key])
    sides = (Side(label, *agent) for label, agent in zip(labels_apart(different), different, strict=True))
    return tuple(sides), places


def _with_budgets(sides: Sequence[Side], own: Sequence[int], budgets: Sequence[int]) -> tuple[Side, ...]:
    """Attackers, with the budget in the label of one that has more queries than others."""
    budget = {i: max(b for j, b in zip(own, budgets, strict=True) if i == j) for i in own}
    least = min(budget.values())
    return tuple(
        side if budget[i] == least else replace(side, label=f"{side.label}, {budget[i]:,} queries")
        for i, side in enumerate(sides)
    )
