"""Matches that belong into one table: one world, one threat, attackers crossed with defenders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from arena.log.schema import to_json
from arena.report.summary import Row
from arena.threat import Threat
from arena.utility import Utility


@dataclass(frozen=True)
class Side:
    """An attacker or a defender of a group: how it is called there, and its parameters."""

    label: str
    title: str
    params: Mapping[str, Any]

    @property
    def values(self) -> list[tuple[str, str]]:
        """The parameters as text, those of a stack's defenders by their places in it."""
        return _without_names(self.params.get("defenders", self.params))


class Group:
    """Matches of one block in one world under one threat; only budgets may differ, by an attacker's
    convention.

    Attributes:
        rows: the matches, in the order of the scenario.
        attackers, defenders: in the order of their first match; their labels tell them apart.
        pairs: the matches with their agents, attacker by attacker.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = tuple(rows)
        info = [row.match.info for row in rows]
        attackers = [(i.attacker_title or i.attacker, i.attacker_params) for i in info]
        defenders = [(i.defender_title or i.defender, i.defender_params) for i in info]
        named, own = _sides(attackers)
        self.attackers = _with_budgets(named, own, [row.budget for row in rows])
        self.defenders, other = _sides(defenders)
        self._cells = dict(zip(zip(own, other, strict=True), rows, strict=True))
        pairs = sorted(self._cells.items())
        self.pairs = tuple((self.attackers[a], self.defenders[d], row) for (a, d), row in pairs)

    def cell(self, attacker: int, defender: int) -> Row | None:
        """The match of an attacker and a defender, by their places; None where there is none."""
        return self._cells.get((attacker, defender))

    @property
    def by_attacker(self) -> list[tuple[Side, list[tuple[Side, Row]]]]:
        """The matches of each attacker."""
        return [(side, [(d, row) for a, d, row in self.pairs if a is side]) for side in self.attackers]

    def worst(self, defender: int) -> Row | None:
        """The match that leaves a defender the least accuracy, among those with finished games."""
        rows = [row for (_, d), row in self._cells.items() if d == defender and row.drawn]
        return min(rows, key=lambda row: row.headline.value, default=None)

    def is_worst(self, row: Row, defender: int) -> bool:
        """Whether a match with finished games leaves a defender as little as the worst one does."""
        worst = self.worst(defender)
        return worst is not None and row.headline.value == worst.headline.value

    def utility(self, defender: int) -> Utility | None:
        """A defender's utility, by its first match that has one."""
        found = (row.utility for (_, d), row in self._cells.items() if d == defender)
        return next((utility for utility in found if utility is not None), None)

    @property
    def has_utilities(self) -> bool:
        return any(row.utility for row in self.rows)

    def facts(self, defender: int) -> list[tuple[str, str]]:
        """What a defender found as it was fitted, by the facts of its first match that has any."""
        rows = (row for (_, d), row in self._cells.items() if d == defender)
        facts = dict(next((row.match.info.facts for row in rows if row.match.info.facts), {}))
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
        """The threat, with the smallest budget of its matches."""
        return min((row.match.info.threat for row in self.rows), key=lambda threat: threat.budget)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """All query counts at which a match of the group reports."""
        return tuple(sorted({at for row in self.rows for at in row.left}))

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The headline verdicts of the matches, each once."""
        return tuple(dict.fromkeys(row.match.info.verdict for row in self.rows))


def grouped(rows: Sequence[Row]) -> list[Group]:
    """Consecutive matches with the same block, world and rules, until a pair of agents comes again."""
    groups: list[list[Row]] = []
    key, pairs = "", set[str]()
    for row in rows:
        info = row.match.info
        rules = info.threat.model_dump(mode="json", exclude={"budget"})
        own = to_json(
            [info.block, info.dataset, info.dataset_sha, info.classifier, info.classifier_sha, rules]
        )
        pair = to_json([info.attacker, info.attacker_params, info.defender, info.defender_params])
        if own != key or pair in pairs:
            groups.append([])
            key, pairs = own, set()
        groups[-1].append(row)
        pairs.add(pair)
    return [Group(group) for group in groups]


def flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """What JSON values hold, one (key, text) each; the keys of inner ones are joined with dots."""
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for place, inner in enumerate(value, 1):
            yield from flat(inner, f"{key}.{place}".lstrip(".") if len(value) > 1 else key)
    elif isinstance(value, float):
        yield key, f"{value:.6g}"
    elif value is None:
        yield key, "none"
    elif value or not isinstance(value, Mapping | list | tuple):
        yield key, value if isinstance(value, str) else to_json(value)


def _without_names(value: Any) -> list[tuple[str, str]]:
    """As text, without the names of defenders, which the titles say."""
    return [(key, said) for key, said in flat(value) if key.rpartition(".")[2] != "name"]


def _sides(agents: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[tuple[Side, ...], list[int]]:
    """The different agents, and which of them each one is."""
    known: dict[str, int] = {}
    different: list[tuple[str, Mapping[str, Any]]] = []
    places = []
    for title, params in agents:
        key = to_json([title, params])
        if key not in known:
            known[key] = len(different)
            different.append((title, params))
        places.append(known[key])
    sides = (Side(label, *agent) for label, agent in zip(_labels(different), different, strict=True))
    return tuple(sides), places


def _with_budgets(sides: Sequence[Side], own: Sequence[int], budgets: Sequence[int]) -> tuple[Side, ...]:
    """Attackers; those granted more queries than others with their budgets in their labels."""
    budget = dict(zip(own, budgets, strict=True))
    least = min(budgets)
    return tuple(
        side if budget[i] == least else replace(side, label=f"{side.label}, {budget[i]:,} queries")
        for i, side in enumerate(sides)
    )


def _labels(agents: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Titles, with the parameters that tell apart those of the same title."""
    values = [dict(flat(params)) for _, params in agents]
    labels = []
    for (title, _), own in zip(agents, values, strict=True):
        others = [v for (t, _), v in zip(agents, values, strict=True) if t == title]
        keys = [k for k in own if len({v.get(k) for v in others}) > 1]
        said = ", ".join(f"{key.removeprefix('defenders.')}={own[key]}" for key in keys)
        labels.append(f"{title} ({said})" if said else title)
    return labels
