"""The matches that a run consists of: new ones, and those that are used again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from arena.log import schema
from arena.log.database import exclude_others, insert_row
from arena.log.errors import LogError
from arena.records.runs import MatchInfo

entries, matches, shards = schema.entries, schema.matches, schema.shards


def begin_match(connection: Connection, run_id: int, info: MatchInfo, fresh: bool) -> int:
    """Makes a match one of the run's, as `Log.begin_match` says; its id."""
    exclude_others(connection)
    place = {"run_id": run_id, "number": info.number}
    earlier = connection.execute(
        select(matches).join(entries, entries.c.match_id == matches.c.id).filter(*_at(place))
    ).first()
    if earlier is None:
        own = fresh or _begun_fresh(connection, run_id)
        match_id = _same(connection, info.fingerprint, run_id, own)
        if match_id is None:
            match_id = insert_row(connection, matches, _values(info) | {"run_id": run_id})
        entry = place | {"match_id": match_id} | _shown(info)
        connection.execute(insert(entries).values(entry))
        return match_id
    if earlier.fingerprint != info.fingerprint:
        raise LogError(
            f"run {run_id} has another match under number {info.number}: {earlier.attacker} against "
            f"{earlier.defender}, with fingerprint {earlier.fingerprint}; found {info.attacker} against "
            f"{info.defender}, with {info.fingerprint}"
        )
    connection.execute(update(entries).where(*_at(place)).values(_shown(info)))
    return int(earlier.id)


def _at(place: dict[str, int]) -> list[Any]:
    return [entries.c[name] == value for name, value in place.items()]


def _begun_fresh(connection: Connection, run_id: int) -> bool:
    """Whether the run was begun in order to play all again: it goes on so after an interruption."""
    resolved = connection.execute(select(schema.runs.c.resolved).filter_by(id=run_id)).scalar()
    return bool((resolved or {}).get("fresh"))


def _same(connection: Connection, fingerprint: str, run_id: int, own: bool) -> int | None:
    """The match with this fingerprint that is furthest; of those that this run began alone if `own`."""
    finished = (
        select(func.count())
        .where(shards.c.match_id == matches.c.id, shards.c.state == schema.FINISHED)
        .scalar_subquery()
    )
    wanted = select(matches.c.id).where(matches.c.fingerprint == fingerprint)
    if own:
        wanted = wanted.where(matches.c.run_id == run_id)
    return connection.execute(wanted.order_by(finished.desc(), matches.c.id.desc()).limit(1)).scalar()


def _shown(info: MatchInfo) -> dict[str, Any]:
    """How the run's scenario shows the match."""
    shown = {
        "block": info.block,
        "title": info.title,
        "attacker_title": info.attacker_title or info.attacker,
        "defender_title": info.defender_title or info.defender,
        "verdict": info.verdict,
        "radii": list(info.radii),
        "utility": info.utility,
        "benign": None if info.benign is None else dict(info.benign),
    }
    return schema.storable_row(shown)


def _values(info: MatchInfo) -> dict[str, Any]:
    """A new row of `matches`, without its run."""
    values = (
        vars(info)
        | _shown(info)
        | {
            "attacker_params": dict(info.attacker_params),
            "defender_params": dict(info.defender_params),
            "threat": info.threat.model_dump(mode="json"),
            "knowledge": info.threat.known,
            "facts": dict(info.facts),
        }
    )
    return {name: value for name, value in values.items() if name in matches.c}
