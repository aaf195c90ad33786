"""The rows of a query as numpy columns, by the fastest way that each database has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Boolean, Connection, Double, Integer, Select, Text, func, literal_column
from sqlalchemy.types import TypeEngine

from arena.log.errors import told
from arena.log.writer import Log

_KINDS: tuple[tuple[type[TypeEngine[Any]], str, type[Any]], ...] = (
    (Boolean, "?", np.bool_),
    (BigInteger, ">i8", np.int64),
    (Integer, ">i4", np.int64),
    (Double, ">f8", np.float64),
)
"""Types of columns, how PostgreSQL sends them, and what they become."""
_HEAD, _END = 19, 2
"""Bytes before and after the rows of PostgreSQL's binary format, where nothing optional is sent."""


def columns(log: Log, wanted: Select[Any]) -> list[Any]:
    """A column for each that is selected: an array [n] of int64, bool or float64, or a list of texts.

    Within a `Log.snapshot` they are from what that sees.

    Numbers of type `Double` may be NULL, which becomes NaN; others must not be.

    Raises:
        LogError: if the database refuses.
    """
    kinds = [column.type for column in wanted.selected_columns]
    with log.snapshot() as connection, told(log.name):
        if not log.database.is_sqlite and not any(isinstance(kind, Text) for kind in kinds):
            return _copied(connection, wanted, kinds)
        # The driver's own rows: those of SQLAlchemy take twice the time.
        cursor: Any = connection.execute(wanted).cursor
        rows = cursor.fetchall()
    values = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return [
        list(column) if isinstance(kind, Text) else np.array(column, _of(kind)[1])
        for kind, column in zip(kinds, values, strict=True)
    ]


def _copied(connection: Connection, wanted: Select[Any], kinds: list[Any]) -> list[NDArray[Any]]:
    """By COPY in the binary format, in which rows without NULL are all of one length."""
    nan = literal_column("'NaN'::float8", Double)
    whole = [
        func.coalesce(column, nan) if isinstance(kind, Double) else column
        for kind, column in zip(kinds, wanted.selected_columns, strict=True)
    ]
    asked = wanted.with_only_columns(*whole, maintain_column_froms=True)
    text = asked.compile(connection, compile_kwargs={"literal_binds": True})
    raw: Any = connection.connection.cursor()
    with raw.copy(f"COPY ({text}) TO STDOUT (FORMAT BINARY)") as copy:
        sent = b"".join(copy)
    forms = [np.dtype(_of(kind)[0]) for kind in kinds]
    parts: list[Any] = [("fields", ">i2")]
    for place, form in enumerate(forms):
        parts += [(f"length{place}", ">i4"), (f"value{place}", form)]
    rows = np.frombuffer(sent[_HEAD:-_END], np.dtype(parts))
    lengths = [(rows[f"length{place}"] == form.itemsize).all() for place, form in enumerate(forms)]
    if not all(lengths) or not (rows["fields"] == len(forms)).all():
        raise ValueError("a column of a query is NULL, or of another type than the schema says")
    return [rows[f"value{place}"].astype(_of(kind)[1]) for place, kind in enumerate(kinds)]


def _of(kind: TypeEngine[Any]) -> tuple[str, type[Any]]:
    return next((sent, own) for known, sent, own in _KINDS if isinstance(kind, known))
