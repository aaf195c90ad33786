"""Rows into a table through the driver's bulk path."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Boolean, Connection, Double, Integer, LargeBinary, Table, Text
from sqlalchemy.types import TypeEngine

from arena.rules.outcome import Bools

TableColumns = Mapping[str, "NDArray[Any] | list[Any]"]

_SLICE = 5000
"""Rows that are Python objects at a time."""

_ROWS_A_STATEMENT = 100
"""Rows per INSERT on SQLite. Python holds its lock while it binds them and releases it while SQLite works;
with one row per statement, the playing thread and this one would exchange the lock at every row."""

_COPY_TYPES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Double, "float8"),
    (Boolean, "bool"),
    (Text, "text"),
    (LargeBinary, "bytea"),
)


def append(connection: Connection, table: Table, columns: TableColumns) -> None:
    """Appends rows to `table` within the connection's transaction.

    Args:
        columns: all columns of the table, in its order, of equal length; NaN becomes NULL.
    """
    if list(columns) != list(table.columns.keys()):
        raise ValueError(f"{table.name} has the columns {table.columns.keys()}; found {list(columns)}")
    rows = len(next(iter(columns.values())))
    sqlite = connection.dialect.name == "sqlite"
    write = _insert if sqlite else _copy
    for i in range(0, rows, _SLICE):
        write(connection, table, [_values(column[i : i + _SLICE], sqlite) for column in columns.values()])


def _values(column: NDArray[Any] | list[Any], sqlite: bool) -> list[Any]:
    if isinstance(column, list):
        return column
    if sqlite and column.dtype.kind == "b":
        # Python's SQLite driver looks for an adapter at every bool, which doubles the time of a row.
        column = column.view(np.int8)
    if column.dtype.kind == "f" and (missing := np.isnan(column)).any():
        column = or_null(column, missing)
    values: list[Any] = column.tolist()
    return values


def or_null(column: NDArray[Any], missing: Bools) -> NDArray[np.object_]:
    """The column with None where a value is missing."""
    values: NDArray[np.object_] = column.astype(object)
    values[missing] = None
    return values


def _insert(connection: Connection, table: Table, values: list[list[Any]]) -> None:
    raw: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
    width, rows = len(values), len(values[0])
    group = min(_ROWS_A_STATEMENT, raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width)
    whole = rows - rows % group
    flat: list[Any] = [None] * (rows * width)
    for place, column in enumerate(values):
        flat[place::width] = column
    step = group * width
    if whole:
        groups = (flat[i : i + step] for i in range(0, whole * width, step))
        raw.executemany(_statement(table, group), groups)
    if whole < rows:
        raw.execute(_statement(table, rows - whole), flat[whole * width :])


@cache
def _statement(table: Table, rows: int) -> str:
    row = f"({','.join('?' * len(table.columns))})"
    return f"INSERT INTO {table.name} ({_names(table)}) VALUES {','.join([row] * rows)}"


def _names(table: Table) -> str:
    return ", ".join(f'"{column.name}"' for column in table.columns)


def _copy(connection: Connection, table: Table, values: list[list[Any]]) -> None:
    types = [next(name for kind, name in _COPY_TYPES if isinstance(c.type, kind)) for c in table.columns]
    cursor = connection.connection.cursor()
    with cursor.copy(f"COPY {table.name} ({_names(table)}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(types)
        for row in zip(*values, strict=True):
            copy.write_row(row)
