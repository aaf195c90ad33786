"""A match in a few numbers, computed in SQL over its finished shards."""

from __future__ import annotations

import math
from typing import Any

from sqlalchemy import ColumnElement, Double, Select, and_, case, cast, func, or_, select

from arena.log import schema
from arena.log.questions import ask, games, marks
from arena.log.tables import Standing, Summary
from arena.log.writer import Log

played = games.c.reason != "clean"


def summary(log: Log, match_id: int) -> Summary:
    """The match so far."""
    of_match = games.c.match_id == match_id
    (totals,) = ask(log, select(*_totals()).where(of_match))
    reasons = select(games.c.reason, func.count()).where(of_match).group_by(games.c.reason)
    hit_at = games.c.hit_at
    values = {
        **_shards(log, match_id),
        **{name: value or 0 for name, value in totals._mapping.items()},
        "queries_mean": _number(totals.queries_mean),
        "hit_mean": _number(totals.hit_mean),
        "queries_median": _median(log, games.c.queries, of_match, played),
        "hit_median": _median(log, hit_at, of_match, hit_at.is_not(None)),
        "l2_median": _median(log, _far(games.c.l2), of_match, played),
        "linf_median": _median(log, _far(games.c.linf), of_match, played),
        "reasons": dict(map(tuple, ask(log, reasons))),
    }
    return Summary(**values)


def standings(log: Log, match_id: int) -> list[Standing]:
    """Where the match stands at each reported query count, from 0 on; a verdict holds until the next."""
    later = func.lead(marks.c.at).over(partition_by=marks.c.game_id, order_by=marks.c.at)
    verdicts = (
        select(marks, later.label("until"))
        .join(games, games.c.id == marks.c.game_id)
        .where(games.c.match_id == match_id, played)
        .subquery()
    )
    counts = select(verdicts.c.at).distinct().subquery()
    wanted = (
        select(
            counts.c.at,
            _count(verdicts.c.answered),
            func.sum(verdicts.c.vote),
            _count(verdicts.c.base),
        )
        .join(
            verdicts,
            and_(
                verdicts.c.at <= counts.c.at,
                or_(verdicts.c.until.is_(None), verdicts.c.until > counts.c.at),
            ),
        )
        .group_by(counts.c.at)
        .order_by(counts.c.at)
    )
    drawn = select(func.count(), func.count().filter(played)).where(games.c.match_id == match_id)
    ((of, size),) = ask(log, drawn)
    return [Standing(at, of, size, answered, vote, base) for at, answered, vote, base in ask(log, wanted)]


def _totals() -> list[ColumnElement[Any]]:
    def over_played(value: ColumnElement[Any]) -> ColumnElement[Any]:
        return case((played, value))

    columns = {
        "drawn": func.count(),
        "queries": cast(func.sum(games.c.queries), schema.Id),
        "queries_mean": func.avg(cast(over_played(games.c.queries), Double)),
        "refused": cast(func.sum(games.c.refused), schema.Id),
        "insider_queries": cast(func.sum(games.c.insider_queries), schema.Id),
        "hits": func.count(games.c.hit_at),
        "accepted": func.count(games.c.accepted_at),
        "hit_mean": func.avg(cast(games.c.hit_at, Double)),
        "answered": _count(and_(played, games.c.answered)),
        "vote": func.sum(over_played(games.c.vote)),
        "base": _count(and_(played, games.c.base)),
    }
    return [value.label(name) for name, value in columns.items()]


def _shards(log: Log, match_id: int) -> dict[str, Any]:
    shards = schema.shards.c
    wanted = select(shards.state, shards.started, shards.ended).where(shards.match_id == match_id)
    rows = ask(log, wanted)
    finished = [row for row in rows if row.state == schema.FINISHED]
    seconds = sum((row.ended - row.started).total_seconds() for row in finished)
    return {"shards": len(finished), "unfinished": len(rows) - len(finished), "seconds": seconds}


def _median(log: Log, value: ColumnElement[Any], *where: ColumnElement[bool]) -> float:
    """Over the finished games that fulfil `where`; NaN without any."""
    ranked = (
        select(
            cast(value, Double).label("value"),
            func.row_number().over(order_by=value).label("place"),
            func.count().over().label("size"),
        )
        .where(*where)
        .subquery()
    )
    middle = ranked.c.place.in_(((ranked.c.size + 1) // 2, (ranked.c.size + 2) // 2))
    wanted: Select[Any] = select(func.avg(ranked.c.value)).where(middle)
    return _number(ask(log, wanted)[0][0])


def _far(distance: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(distance, math.inf)


def _count(flag: ColumnElement[Any]) -> ColumnElement[int]:
    return func.count().filter(flag)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
