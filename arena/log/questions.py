"""Queries of the log, in SQL. All are about finished shards only.

Every one raises `LogError`, with one sentence, if the database refuses.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Double,
    Executable,
    FromClause,
    Integer,
    Select,
    Table,
    case,
    cast,
    func,
    select,
    type_coerce,
)

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.benign.plan import Traffic
from arena.evaluation.clean_utility import Utility
from arena.log import schema
from arena.log.answers import (
    Curve,
    Found,
    LoggedGame,
    LoggedGames,
    LoggedMarks,
    LoggedMatch,
    LoggedQueries,
    LoggedRun,
    LoggedShares,
    NoteOfGame,
    PurposeCounts,
)
from arena.log.columns import columns
from arena.log.errors import LogError, told
from arena.log.images import unpack
from arena.log.rows import benign_of, utility_of
from arena.log.statements import asking
from arena.log.writer import Log
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import REASONS, Ints, Verdict
from arena.rules.threat import Threat

games, marks = schema.finished_games, schema.finished_marks
queries, notes = schema.finished_queries, schema.finished_notes

Columned = TypeVar("Columned", LoggedGames, LoggedMarks, LoggedQueries)


def runs(log: Log) -> list[LoggedRun]:
    """All runs, oldest first."""
    rows = ask(log, select(schema.runs).order_by(schema.runs.c.id))
    return [LoggedRun(row.id, _info(RunInfo, row), row.started, row.ended) for row in rows]


def matches(log: Log, run_id: int) -> list[LoggedMatch]:
    """A run's matches, whichever run first played them, as its scenario shows them and in its order."""
    wanted = _matches().where(schema.entries.c.run_id == run_id).order_by(schema.entries.c.number)
    return [_match(row) for row in ask(log, wanted)]


def match(log: Log, match_id: int) -> LoggedMatch:
    """One match, as the run that first played it shows it.

    Raises:
        LogError: if the log has none with this id.
    """
    first = schema.entries.c.run_id == schema.matches.c.run_id
    rows = ask(
        log, _matches().where(schema.matches.c.id == match_id, first).order_by(schema.entries.c.number)
    )
    if not rows:
        raise LogError(f"log {log.name} has no match {match_id}")
    return _match(rows[0])


def utility(log: Log, match_id: int, images: int) -> Utility | None:
    """What the match's defended classifier is worth on so many clean images; None where not measured."""
    rows = ask(log, select(schema.utilities).filter_by(match_id=match_id, images=images))
    return utility_of(rows[0]) if rows else None


def benign(log: Log, match: LoggedMatch) -> list[BenignLoss]:
    """What benign clients lost to a match's defended classifier, as far as its run wants to know and it was
    measured: history by history, in the order of the run's traffic."""
    if match.info.benign is None:
        return []
    traffic = Traffic(**match.info.benign)
    wanted = select(schema.benign).filter_by(match_id=match.id, sessions=traffic.sessions)
    found = {(loss.client, loss.history): loss for loss in map(benign_of, ask(log, wanted))}
    places = [(client, history) for history in traffic.histories for client in traffic.clients]
    return [found[place] for place in places if place in found]


def outcomes(log: Log, match_id: int) -> LoggedGames:
    """How the match's games ended."""
    wanted = select(*_columns(LoggedGames, schema.games, games, game=games.c.id))
    wanted = wanted.where(games.c.match_id == match_id)
    return _record(LoggedGames, log, wanted.order_by(games.c.repeat, games.c.shard, games.c.id))


def verdicts(log: Log, match_id: int, counts: Collection[int] | None = None) -> LoggedMarks:
    """The match's verdicts at each reported query count, or at some; at 0, on the clean images."""
    # Found by the shards' spans of ids, without a look at a game.
    shards, own = schema.shards.c, schema.marks.c
    here = (own.game_id >= shards.first_game) & (own.game_id < shards.first_game + shards.games)
    of_match = (shards.match_id == match_id) & (shards.state == schema.FINISHED)
    wanted = select(*_columns(LoggedMarks, schema.marks, schema.marks, game=own.game_id))
    wanted = wanted.select_from(schema.shards).join(schema.marks, here).where(of_match)
    if counts is not None:
        wanted = wanted.where(own.at.in_(sorted(counts)))
    found = _record(LoggedMarks, log, wanted)
    spans = columns(log, select(shards.first_game).where(of_match).order_by(shards.repeat, shards.number))
    return _ordered(found, np.asarray(spans[0], np.int64))


def asked(log: Log, match_id: int) -> list[PurposeCounts]:
    """The counts of the match's queries by purpose, most queries first; logs of layouts before 0003 have them
    only for matches at level `queries`."""
    own, shards = schema.purposes.c, schema.shards.c
    counted = (own.queries, own.refused, own.flagged, own.hits, own.outside)
    sums = [func.sum(column).label(column.name) for column in counted]
    wanted = (
        select(own.purpose, *sums)
        .join(schema.shards, shards.id == own.shard_id)
        .where(shards.match_id == match_id, shards.state == schema.FINISHED)
        .group_by(own.purpose)
        .order_by(sums[0].desc(), own.purpose)
    )
    return [PurposeCounts(purpose, *map(_count, counts)) for purpose, *counts in ask(log, wanted)]


def flagged_shares(
    log: Log, match_id: int, purposes: Collection[str], counts: Collection[int]
) -> dict[int, LoggedShares]:
    """What was flagged of the queries with these purposes in each game of the match, by query count; empty
    unless every query of the match was logged."""
    shards, own = schema.shards.c, schema.queries.c
    of_match = (shards.match_id == match_id) & (shards.state == schema.FINISHED)
    levels = {level for (level,) in ask(log, select(shards.level).where(of_match).distinct())}
    if levels != {"queries"}:
        return {}
    counted = []
    for at in counts:
        within = own.turn <= at
        counted += [func.sum(case((within, 1), else_=0)), func.sum(case((within & own.flagged, 1), else_=0))]
    here = (own.game_id >= shards.first_game) & (own.game_id < shards.first_game + shards.games)
    wanted = select(func.min(schema.games.c.image), *counted).select_from(schema.shards)
    wanted = wanted.join(schema.queries, here).join(schema.games, schema.games.c.id == own.game_id)
    wanted = wanted.where(of_match, own.purpose.in_(sorted(purposes))).group_by(own.game_id)
    rows = ask(log, wanted.order_by(own.game_id))
    image, *sums = np.array([tuple(map(int, row)) for row in rows], np.int64).reshape(-1, 1 + len(counted)).T
    pairs = zip(counts, sums[::2], sums[1::2], strict=True)
    return {at: LoggedShares(image[n > 0], n[n > 0], flagged[n > 0]) for at, n, flagged in pairs}


def note_means(log: Log, match_id: int) -> dict[str, float]:
    """The mean of what the attacker noted in numbers in the match's games, by key: over its notes."""
    wanted = (
        select(notes.c.key, func.avg(notes.c.number))
        .join(games, games.c.id == notes.c.game_id)
        .where(games.c.match_id == match_id, notes.c.number.is_not(None))
        .group_by(notes.c.key)
        .order_by(notes.c.key)
    )
    return {key: float(mean) for key, mean in ask(log, wanted)}


def curve(log: Log, match_id: int, accepted: bool = False) -> Curve:
    """The match's hits against queries.

    Args:
        accepted: counts the first hit that the attacker's own rule accepted, not the first answered.
    """
    turn = games.c.accepted_at if accepted else games.c.hit_at
    of_match = games.c.match_id == match_id
    hits = select(turn, func.count()).where(of_match, turn.is_not(None)).group_by(turn).order_by(turn)
    drawn = select(func.count(), func.count().filter(games.c.reason != "clean")).where(of_match)
    rows = ask(log, hits)
    ((all_games, played),) = ask(log, drawn)
    at, count = np.array([tuple(row) for row in rows], np.int64).reshape(-1, 2).T
    return Curve(at, np.cumsum(count), all_games, played)


def transcript(log: Log, game_id: int) -> LoggedQueries:
    """The queries of a game that were logged, in order.

    Raises:
        LogError: if no finished shard has this game.
    """
    game(log, game_id)
    wanted = select(*_columns(LoggedQueries, schema.queries, queries)).where(queries.c.game_id == game_id)
    return _record(LoggedQueries, log, wanted.order_by(queries.c.turn))


def game(log: Log, game_id: int) -> LoggedGame:
    """One game, with its final image.

    Raises:
        LogError: if no finished shard has this game.
    """
    rows = ask(log, _whole_games().where(games.c.id == game_id))
    if not rows:
        raise LogError(f"log {log.name} has no game {game_id} in a finished shard")
    return _game(rows[0])


def samples(
    log: Log, match_id: int, count: int, won: bool, verdict: Verdict = "answered"
) -> list[LoggedGame]:
    """The first games by image number that were won by a verdict, or were not; by `vote` those in which more
    than half of the fresh answers are wrong."""
    column = games.c[verdict]
    wins = column > 0.5 if verdict == "vote" else column
    wanted = _whole_games().where(
        games.c.match_id == match_id, wins if won else ~wins, games.c.reason != "clean"
    )
    rows = ask(log, wanted.order_by(games.c.image, games.c.repeat).limit(count))
    return [_game(row) for row in rows]


def notes_of_match(log: Log, match_id: int) -> list[NoteOfGame]:
    """What the attacker noted in the match's games, game by game, in order."""
    return _notes(log, games.c.match_id == match_id)


def notes_of_game(log: Log, game_id: int) -> list[NoteOfGame]:
    """What the attacker noted in a game, in order."""
    return _notes(log, games.c.id == game_id)


def sql(log: Log, statement: str) -> Found:
    """The result of any one statement, which cannot change anything (`arena.log.statements`).

    Raises:
        LogError: if the database refuses the statement.
    """
    with asking(log, statement) as answer:
        return Found(answer.columns, list(answer.rows))


def ask(log: Log, wanted: Executable) -> Sequence[Any]:
    """The rows of a query, within a `Log.snapshot` from what that sees."""
    with log.snapshot() as connection, told(log.name):
        return connection.execute(wanted).all()


def _info(kind: type[Any], row: Any, **changed: Any) -> Any:
    return kind(**{name: getattr(row, name) for name in _names(kind)} | changed)


def _matches() -> Select[Any]:
    """Matches with what entries say of them in place of what they say themselves."""
    said = [column for column in schema.entries.c if column.name not in ("run_id", "match_id")]
    own = [column for column in schema.matches.c if column.name not in schema.entries.c]
    first = schema.matches.c.run_id.label("first_run")
    return select(*own, *said, first).join(schema.entries, schema.entries.c.match_id == schema.matches.c.id)


def _match(row: Any) -> LoggedMatch:
    changed = {"threat": Threat(**row.threat), "image_shape": tuple(row.image_shape), "at": tuple(row.at)}
    changed["radii"] = tuple(map(float, row.radii))  # JSON holds "inf" as text
    return LoggedMatch(row.id, row.first_run, _info(MatchInfo, row, **changed))


def _whole_games() -> Select[Any]:
    here = (schema.shards.c.match_id == games.c.match_id) & (schema.shards.c.number == games.c.shard)
    return (
        select(games, (games.c.id - schema.shards.c.first_game).label("place"), schema.matches.c.image_shape)
        .join(schema.shards, here & (schema.shards.c.repeat == games.c.repeat))
        .join(schema.matches, schema.matches.c.id == games.c.match_id)
    )


def _game(row: Any) -> LoggedGame:
    values = {name: getattr(row, name) for name in _names(LoggedGame)}
    far = {name: np.inf if values[name] is None else values[name] for name in ("l2", "linf")}
    return LoggedGame(**values | far | {"final": unpack(row.final, tuple(row.image_shape))})


def _notes(log: Log, where: ColumnElement[bool]) -> list[NoteOfGame]:
    wanted = (
        select(notes, games.c.image, games.c.repeat)
        .join(games, games.c.id == notes.c.game_id)
        .where(where)
        .order_by(games.c.repeat, games.c.shard, games.c.id, notes.c.place)
    )
    return [
        NoteOfGame(
            row.game_id,
            row.image,
            row.repeat,
            row.turn,
            row.key,
            row.value if row.number is None else row.number,
        )
        for row in ask(log, wanted)
    ]


def _columns(
    kind: type[Any], table: Table, shown: FromClause, **other: ColumnElement[Any]
) -> list[ColumnElement[Any]]:
    """What to select for each field, in their order, from a table or its view: the column of its name, or
    another."""
    found = []
    for f in fields(kind):
        column: ColumnElement[Any] = other[f.name] if f.name in other else shown.c[f.name]
        if f.type == "Ints" and f.name not in other and table.c[f.name].nullable:
            column = func.coalesce(column, -1 if f.name == "target" else 0)
        elif f.type == "Floats":
            whole = cast(column, Integer) if isinstance(column.type, Boolean) else column
            column = type_coerce(whole, Double)
        elif f.type == "list[Reason]":
            column = case({reason: place for place, reason in enumerate(REASONS)}, value=column)
        found.append(column)
    return found


def _record(kind: type[Columned], log: Log, wanted: Select[Any]) -> Columned:
    """What was selected by `_columns`."""
    values: dict[str, Any] = {}
    for f, column in zip(fields(kind), columns(log, wanted), strict=True):
        if f.name in ("l2", "linf"):
            column = np.where(np.isnan(column), np.inf, column)
        values[f.name] = [REASONS[i] for i in column.tolist()] if f.type == "list[Reason]" else column
    return kind(**values)


def _ordered(found: LoggedMarks, first: Ints) -> LoggedMarks:
    """In the order of `LoggedMarks`; the shards' first games, as they follow each other."""
    ascending = np.argsort(first)
    shard = ascending[np.searchsorted(first[ascending], found.game, side="right") - 1]
    order = np.lexsort((found.game, shard, found.at))
    return LoggedMarks(**{f.name: getattr(found, f.name)[order] for f in fields(LoggedMarks)})


def _count(sum_: Any) -> Any:
    """A sum as an int: PostgreSQL gives decimals; None where there was nothing to sum."""
    return None if sum_ is None else int(sum_)


def _names(kind: type[Any]) -> list[str]:
    return [f.name for f in fields(kind)]
