"""The runs of a log and how far they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from arena.log import questions, schema
from arena.log.answers import LoggedRun
from arena.log.writer import Log


@dataclass(frozen=True)
class RunOverview:
    """A run in one line.

    Attributes:
        started, ended: UTC; `ended` is None while it is not whole.
        done, planned: matches whose shards are all finished, and all of its scenario.
        games: those played in finished shards; matches that several runs share count for each.
        queries: those charged in them.
    """

    id: int
    scenario: str
    title: str
    started: datetime
    ended: datetime | None
    done: int
    planned: int
    games: int
    queries: int


def overview(log: Log) -> list[RunOverview]:
    """All runs, oldest first, as they are at one moment."""
    with log.snapshot():
        return _overview(log)


def _overview(log: Log) -> list[RunOverview]:
    shards, games, entries = schema.shards.c, schema.finished_games.c, schema.entries.c
    finished = (
        select(shards.match_id, func.count()).where(shards.state == schema.FINISHED).group_by(shards.match_id)
    )
    ready: dict[int, int] = dict(map(tuple, questions.ask(log, finished)))
    played = (
        select(
            games.match_id,
            func.count().filter(games.reason != "clean").label("games"),
            func.sum(games.queries).label("queries"),
        )
        .select_from(schema.finished_games)
        .group_by(games.match_id)
    )
    counts = {row.match_id: (row.games, int(row.queries)) for row in questions.ask(log, played)}
    begun: dict[int, dict[int, int]] = {}
    for row in questions.ask(log, select(entries.run_id, entries.number, entries.match_id)):
        begun.setdefault(row.run_id, {})[row.number] = row.match_id
    found = []
    for run in questions.runs(log):
        own = begun.get(run.id, {})
        expected = _expected(run, own)
        done = sum(
            ready.get(own.get(number, -1), 0) >= count for number, count in expected.items() if number in own
        )
        played_here = [counts.get(match_id, (0, 0)) for match_id in own.values()]
        info = run.info
        found.append(
            RunOverview(
                run.id,
                info.scenario,
                info.title,
                run.started,
                run.ended,
                done,
                len(expected),
                sum(games for games, _ in played_here),
                sum(queries for _, queries in played_here),
            )
        )
    return found


def _expected(run: LoggedRun, begun: dict[int, int]) -> dict[int, int]:
    """How many shards each match of a run has, by its number; at least one, where the run does not tell."""
    described = run.info.resolved.get("matches", ())
    expected = dict.fromkeys(begun, 1)
    for number, one in enumerate(described):
        drawn = one.get("drawn", one["games"])  # logs of the first layout do not record it
        expected[number] = math.ceil(drawn / one["shard"]) * one["repeats"]
    return expected
