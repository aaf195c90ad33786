"""Runs are found or begun, utilities and benign losses recorded, in steps that several processes may take
together, and one process twice: where nobody heard whether the first time it was done, it is not done again.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, insert, select

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.log import schema
from arena.log.database import exclude_others, insert_row
from arena.records.runs import RunInfo

runs, utilities, benign = schema.runs, schema.utilities, schema.benign


def begin_run(connection: Connection, info: RunInfo, started: datetime) -> int:
    """The id of a new run, or of the one that was begun at that very moment."""
    exclude_others(connection)
    same = select(runs.c.id).filter_by(fingerprint=info.fingerprint, started=started)
    found: int | None = connection.execute(same).scalar()
    if found is not None:
        return found
    values = {**vars(info), "versions": dict(info.versions), "resolved": dict(info.resolved)}
    return insert_row(connection, runs, values | {"started": started})


def find_or_begin_run(connection: Connection, info: RunInfo, started: datetime) -> tuple[int, bool]:
    """The newest run with the same fingerprint, else a new one: its id, and whether it has ended."""
    exclude_others(connection)
    same = select(runs.c.id, runs.c.ended).filter_by(fingerprint=info.fingerprint)
    found = connection.execute(same.order_by(runs.c.id.desc()).limit(1)).first()
    if found is not None:
        return found.id, found.ended is not None
    return begin_run(connection, info, started), False


def record_utility(connection: Connection, match_id: int, utility: Utility) -> None:
    """Records a utility, unless the match has one on as many images."""
    exclude_others(connection)
    key = {"match_id": match_id, "images": utility.images}
    if connection.execute(select(utilities.c.match_id).filter_by(**key)).first() is None:
        values = {name: None if value != value else value for name, value in vars(utility).items()}
        del values["benign"]
        if utility.reliability is not None:
            values["reliability"] = asdict(utility.reliability)
        insert_row(connection, utilities, values | key)


def record_benign(connection: Connection, match_id: int, loss: BenignLoss) -> None:
    """Records what benign clients lost, unless the match has it."""
    exclude_others(connection)
    values = {name: None if value != value else value for name, value in vars(loss).items()}
    names = [column.name for column in benign.primary_key if column.name != "match_id"]
    key = {"match_id": match_id, **{name: values[name] for name in names}}
    if connection.execute(select(benign.c.match_id).filter_by(**key)).first() is None:
        connection.execute(insert(benign).values(values | key))
