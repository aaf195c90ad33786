"""The rows of a query as numpy columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Boolean, Double, Integer, Select, Text
from sqlalchemy.types import TypeEngine

from arena.log.errors import told
from arena.log.writer import Log

_KINDS: tuple[tuple[type[TypeEngine[Any]], type[Any]], ...] = (
    (Boolean, np.bool_),
    (Integer, np.int64),
    (Double, np.float64),
)


def columns(log: Log, wanted: Select[Any]) -> list[Any]:
    """A column for each that is selected: an array [n] of int64, bool or float64, or a list of texts.

    Within a `Log.snapshot` they are from what that sees. What is selected as `Double` may be NULL, which
    becomes NaN; nothing else must be.

    Raises:
        LogError: if the database refuses.
    """
    with log.snapshot() as connection, told(log.name):
        # The driver's own rows: those of SQLAlchemy take twice the time.
        cursor: Any = connection.execute(wanted).cursor
        rows = cursor.fetchall()
    kinds = [column.type for column in wanted.selected_columns]
    values = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [
        list(column) if isinstance(kind, Text) else np.array(column, _own(kind))
        for kind, column in zip(kinds, values, strict=True)
    ]


def _own(kind: TypeEngine[Any]) -> type[Any]:
    return next(own for known, own in _KINDS if isinstance(kind, known))
