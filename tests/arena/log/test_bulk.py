"""Bulk rows against the same rows inserted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sqlalchemy import insert, select

from arena.log import Log, bulk, schema


def columns_of(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    return {
        "game_id": np.arange(count) + 2**40,
        "at": rng.integers(0, 2**31, count),
        "turn": rng.integers(0, 9, count),
        "answered": rng.random(count) < 0.5,
        "vote": rng.random(count),
        "base": [bool(i % 2) for i in range(count)],
        "l2": np.where(rng.random(count) < 0.5, np.nan, np.inf),
        "linf": rng.random(count).astype(np.float32),
        **{name: rng.integers(0, 14, (count, 2))[:, 1] for name in schema.VOTES},
        "again": bulk.or_null(rng.random(count) < 0.5, rng.random(count) < 0.3),
        "query_l2": rng.random(count),
    }


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 50])
def test_rows_are_those_inserted_one_by_one(log: Log, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_SLICE", 20)
    monkeypatch.setattr(bulk, "_ROWS_A_STATEMENT", 7)
    columns = columns_of(count)

    def write(connection: Any) -> tuple[list[Any], list[Any]]:
        bulk.append(connection, schema.marks, columns)
        quick = connection.execute(select(schema.marks).order_by(schema.marks.c.game_id)).all()
        connection.execute(schema.marks.delete())
        for i in range(count):
            row = {name: np.asarray(column)[i : i + 1].tolist()[0] for name, column in columns.items()}
            row["l2"] = None if np.isnan(row["l2"]) else row["l2"]
            connection.execute(insert(schema.marks).values(row))
        return quick, connection.execute(select(schema.marks).order_by(schema.marks.c.game_id)).all()

    quick, slow = log.submit(write).result()
    assert quick == slow
    assert len(quick) == count


def test_columns_must_be_the_tables(log: Log) -> None:
    columns = columns_of(3)
    columns["place"] = columns.pop("at")
    with pytest.raises(
        ValueError, match=r"marks has the columns \['game_id', 'at'.*; found \['game_id', 'turn'"
    ):
        log.submit(lambda connection: bulk.append(connection, schema.marks, columns)).result()
