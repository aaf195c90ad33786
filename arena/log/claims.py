"""Who plays which shard: a shard in play belongs to one process, for as long as that lives."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select

from arena.log import schema
from arena.log.database import exclude_others, insert_row
from arena.log.processes import Presence, lives, named

shards, processes = schema.shards, schema.processes
Place = tuple[int, int]


def claim(
    connection: Connection, presence: Presence, place: dict[str, int], values: dict[str, Any]
) -> tuple[int, int] | str:
    """Makes a shard this process's: its id, and that of its first game; or a part of a sentence that says why
    it cannot be had.

    What an earlier process left of it, or this one, is removed.

    Args:
        place: the columns of `shards` that tell it from others; values: further ones.
    """
    exclude_others(connection)
    presence.enter(connection)
    # Locked, so that what a connection that was cut may still be about to write of it is seen.
    earlier = connection.execute(select(shards).filter_by(**place).with_for_update()).first()
    if earlier is not None:
        if earlier.state == schema.FINISHED:
            return "is already finished"
        if earlier.process != presence.id and _is_played(connection, presence, earlier.process):
            return f"is played by {_who(connection, earlier.process)}"
        discard(connection, earlier.id)
    first_game = _next_game(connection)
    mine = {"state": schema.PLAYING, "process": presence.id, "first_game": first_game}
    return insert_row(connection, shards, place | values | mine), first_game


def in_play(connection: Connection, presence: Presence, match_id: int) -> dict[Place, str]:
    """Who plays which shards of a match, in words, by (number, repeat); without those of this process."""
    return {
        (shard.number, shard.repeat): _who(connection, shard.process)
        for shard in _unfinished(connection, match_id)
        if shard.process != presence.id and _is_played(connection, presence, shard.process)
    }


def discard_unfinished(connection: Connection, presence: Presence, match_id: int) -> int:
    """Removes what is left of shards of a match that nobody plays any more; how many there were."""
    left = [
        shard.id
        for shard in _unfinished(connection, match_id)
        if not _is_played(connection, presence, shard.process)
    ]
    for shard_id in left:
        discard(connection, shard_id)
    return len(left)


def discard(connection: Connection, shard_id: int) -> None:
    """Removes an unfinished shard and all its rows."""
    row = select(shards).filter_by(id=shard_id).with_for_update()
    shard = connection.execute(row).first()
    if shard is None or shard.state == schema.FINISHED:
        return
    for table in (schema.queries, schema.marks, schema.notes):
        ids = table.c.game_id
        theirs = (ids >= shard.first_game) & (ids < shard.first_game + shard.games)
        connection.execute(delete(table).where(theirs))
    connection.execute(delete(shards).filter_by(id=shard_id))


def _unfinished(connection: Connection, match_id: int) -> Any:
    wanted = select(shards).where(shards.c.match_id == match_id, shards.c.state != schema.FINISHED)
    return connection.execute(wanted.order_by(shards.c.id)).all()


def _is_played(connection: Connection, presence: Presence, process: int | None) -> bool:
    """Whether a process lives that plays a shard; one that died is forgotten."""
    if process is None:
        return False
    if process == presence.id or lives(connection, presence.path, process):
        return True
    connection.execute(delete(processes).filter_by(id=process))
    return False


def _who(connection: Connection, process: int) -> str:
    row = connection.execute(select(processes).filter_by(id=process)).first()
    return "another process" if row is None else named(row.host, row.pid)


def _next_game(connection: Connection) -> int:
    """The first id that no shard holds."""
    last = select(shards.c.first_game + shards.c.games).order_by(shards.c.first_game.desc()).limit(1)
    return connection.execute(last).scalar() or 1
