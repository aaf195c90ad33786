"""Whether a log holds what a scenario says, all of it and nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from arena.log import Log, questions, schema
from arena.log.answers import LoggedMatch, LoggedRun
from arena.log.shard_rows import LoggedShard, shards_of
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.roles import roles
from arena.running.cards import Card
from arena.running.rebuilding import ReplayError, as_logged, described, differing, is_described
from arena.running.replaying import LoggedPlay
from arena.running.runner import words
from arena.scenario.files import Scenario
from arena.scenario.matches import Match
from arena.scenario.reference_networks import pinned


@dataclass(frozen=True, eq=False)
class Agreement:
    """A log beside its scenario.

    Attributes:
        matches: the scenario's match of each of the log's, by id; only those that agree.
        shards: the finished shards of these.
        faults: sentences on what does not agree.
    """

    matches: Mapping[int, Match]
    shards: list[LoggedShard]
    faults: tuple[str, ...]

    def check_games(self, log: Log, play: LoggedPlay) -> Iterator[str]:
        """Whether a match has all of its shards, with the games that they must have."""
        name = f"match {play.logged.id}, {play.match.name}"
        size, drawn = play.match.settings.shard, len(play.world)
        wanted = {(n, r) for r in range(play.match.settings.repeats) for n in range(-(-drawn // size))}
        own = {(s.number, s.repeat): s for s in self.shards if s.match_id == play.logged.id}
        if missing := len(wanted - own.keys()):
            yield f"{name}: {missing} of {len(wanted)} shards are not finished"
        if more := len(own.keys() - wanted):
            yield f"{name}: it has {more} shards that the scenario does not know"
        games = questions.outcomes(log, play.logged.id)
        labels = play.world.dataset.games
        label_of = dict(zip(labels.index.tolist(), labels.labels.tolist(), strict=True))
        for (number, repeat), shard in own.items():
            here = (games.shard == number) & (games.repeat == repeat)
            keys = play.world.keys(slice(number * size, (number + 1) * size)).tolist()
            if games.image[here].tolist() != keys:
                yield f"{name}: shard {number} (repeat {repeat}) has other games than are drawn for it"
            elif games.label[here].tolist() != [label_of[key] for key in keys]:
                yield f"{name}: shard {number} (repeat {repeat}) has other labels than the data set"
            yield from _check_rows(log, shard, name)

    def check_sides(self, play: LoggedPlay) -> Iterator[str]:
        """Whether the defenders, as they were prepared, are those that the log names."""
        own = [{"name": name_of(d), **parameters(d)} for d in play.prepared.stack.defenders]
        name, stack = f"match {play.logged.id}, {play.match.name}", play.prepared.stack
        if play.same and as_logged({"defenders": own}) != play.logged.info.defender_params:
            yield f"{name}: the log names defenders with other parameters"
        own_roles = as_logged(roles(play.match.attacker, play.match.defenders))
        if play.same and own_roles != play.logged.info.facts.get("roles"):
            yield f"{name}: the log says something else of what its sides are to others (twins, controls)"
        if stack.answers_are_facts != play.logged.info.answers_are_facts:
            yield f"{name}: the log is wrong on whether its answers are facts"


def agree(log: Log, scenario: Scenario, card: Card | None) -> Agreement:
    """Lay a log beside its scenario."""
    faults: list[str] = []
    runs = {run.id: run for run in questions.runs(log)}
    found: dict[int, Match] = {}
    for run in runs.values():
        if run.ended is None:
            faults.append(f"run {run.id} of the log has not ended; the same arena play goes on with it")
        for logged in questions.matches(log, run.id):
            match, said = _found(scenario, runs[logged.run_id], logged)
            faults += said
            if match is not None:
                found[logged.id] = match
    faults += _missing(scenario, found.values())
    faults += _strays(log, found)
    if card is not None:
        faults += _check_card(card, scenario, list(runs.values()))
    shards = [shard for match_id in found for shard in shards_of(log, match_id)]
    return Agreement(found, shards, tuple(faults))


def _found(scenario: Scenario, run: LoggedRun, logged: LoggedMatch) -> tuple[Match | None, list[str]]:
    """The scenario's match that a logged one is, and what does not agree."""
    name = f"match {logged.id}, {logged.info.attacker_title} against {logged.info.defender_title}"
    try:
        said = described(run, logged)
    except ReplayError as error:
        return None, [str(error)]
    match = next((one for one in scenario.matches if is_described(one, said)), None)
    if match is None:
        return None, [f"{name}, is not in the scenario{_nearest(scenario, logged, said)}"]
    odd = [key for key, value in _told(match, said).items() if as_logged(value) != _of(logged, key)]
    return match, [f"{name}: the log's {key} is not the scenario's" for key in odd]


def _told(match: Match, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of `matches` must say of a match."""
    described = match.describe()
    return {
        "attacker": name_of(match.attacker),
        "attacker_params": parameters(match.attacker),
        "attacker_title": match.attacker_name,
        "defender": match.defender_name,
        "defender_title": match.defender_name,
        "threat": pinned(match.threat, _shas(match, said)).model_dump(mode="json"),
        "at": described["at"],
        "repeats": match.settings.repeats,
        "dataset_sha": said["dataset_sha"],
        "classifier_sha": said["classifier_sha"],
        **words(match),
    }


def _shas(match: Match, said: Mapping[str, Any]) -> list[str]:
    """The SHAs of a match's reference networks, as far as its run says; replays show whether they are so."""
    named, shas = match.threat.resources.surrogates, said.get("surrogate_shas", ())
    return [str(sha) for sha in shas] if len(shas) == len(named) else [""] * len(named)


def _of(logged: LoggedMatch, key: str) -> Any:
    value = getattr(logged.info, key)
    return as_logged(value.model_dump(mode="json") if key == "threat" else value)


def _nearest(scenario: Scenario, logged: LoggedMatch, said: Mapping[str, Any]) -> str:
    """What differs from the scenario's match of the same names, as the end of a sentence."""
    names = (logged.info.attacker_title, logged.info.defender_title)
    for match in scenario.matches:
        if (match.attacker_name, match.defender_name) == names:
            return f": what differs there is {', '.join(sorted(differing(match, said)))}"
    return ": nobody of these names plays there"


def _missing(scenario: Scenario, found: Any) -> Iterator[str]:
    """The scenario's matches that the log does not hold."""
    known = [match.describe() for match in found]
    missing = [match for match in scenario.matches if match.describe() not in known]
    if missing:
        more = "" if len(missing) == 1 else f" and {len(missing) - 1} more"
        yield f"the log does not hold the scenario's match {missing[0].name}{more}"


def _strays(log: Log, found: Mapping[int, Match]) -> Iterator[str]:
    """Matches of no run, and shards that are not finished."""
    ids = {row.id for row in questions.ask(log, select(schema.matches.c.id))}
    entered = {row.match_id for row in questions.ask(log, select(schema.entries.c.match_id))}
    if stray := ids - entered:
        yield f"the log holds {len(stray)} matches of no run"
    states: dict[int, int] = defaultdict(int)
    rows = questions.ask(log, select(schema.shards.c.match_id, schema.shards.c.state))
    for row in rows:
        states[row.match_id] += row.state != schema.FINISHED
    for match_id, count in states.items():
        if count and match_id in found:
            yield f"match {match_id}, {found[match_id].name}: {count} shards were begun and not finished"


def _check_card(card: Card, scenario: Scenario, runs: Sequence[LoggedRun]) -> Iterator[str]:
    """Whether the card speaks of what was played."""
    names = {name for m in scenario.matches for name in (m.attacker_name, *map(name_of, m.defenders))}
    inside = {part for name in names for part in name.replace(")", "").replace("(", ",").split(",")}
    if card.agent not in {*names, *map(str.strip, inside)}:
        yield f'card.toml: agent: "{card.agent}" plays in no match of the scenario'
    for name, version in card.versions.items():
        logged = {str(run.info.versions.get(name)) for run in runs}
        if logged - {version}:
            yield f"card.toml: versions: {name} is {version} there, {', '.join(sorted(logged))} in the log"


def _check_rows(log: Log, shard: LoggedShard, name: str) -> Iterator[str]:
    """Whether a shard's queries are as many as its games say."""
    first, last = shard.first_game, shard.first_game + shard.games - 1
    where = f"{name}: shard {shard.number} (repeat {shard.repeat})"
    own = "SELECT count(*) FROM queries q WHERE q.game_id = g.id"
    odd = f"SELECT count(*) FROM games g WHERE g.id BETWEEN {first} AND {last} AND g.queries <> ({own})"
    if shard.level == "queries" and (count := questions.sql(log, odd).rows[0][0]):
        yield f"{where}: of {count} games the logged queries are not as many as were charged"
    purposes, games = questions.sql(
        log,
        f"SELECT coalesce((SELECT sum(queries) FROM purposes WHERE shard_id = {shard.id}), 0),"
        f" coalesce((SELECT sum(queries) FROM games WHERE id BETWEEN {first} AND {last}), 0)",
    ).rows[0]
    if purposes != games:
        yield f"{where}: its purposes count {purposes:,} queries, its games {games:,}"
