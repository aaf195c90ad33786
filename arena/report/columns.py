"""Columns of tables: those that tell rows apart are shown, the others are said once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "–"
EMPTY = ("", NOTHING)
"""Cells without news: a column of nothing else is neither shown nor said."""
ZERO = ("0", "0.0", "0.00")
"""Cells without news in a column of what is rare."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        head: its heading; a line break where a narrow table may break it.
        cells: one text a row.
        always: whether it is shown even if all its cells are equal.
        rare: whether zeros in every row are no news.
    """

    head: str
    cells: tuple[str, ...]
    always: bool = False
    rare: bool = False


def telling(columns: Sequence[Column]) -> tuple[list[Column], list[tuple[str, str]]]:
    """The columns that tell rows apart, and heading and value of those that are equal in every row.

    A table of one row keeps all columns that are not empty.
    """
    shown, same = [], []
    for column in columns:
        empty = all(cell in EMPTY or (column.rare and cell in ZERO) for cell in column.cells)
        if column.always or (not empty and (len(column.cells) == 1 or len(set(column.cells)) > 1)):
            shown.append(column)
        elif not empty:
            same.append((" ".join(column.head.replace("-\n", "").split()), column.cells[0]))
    return shown, same


def in_every_row(same: Sequence[tuple[str, str]]) -> str:
    """What is equal in every row, as a sentence; "" for nothing."""
    return f"In every row: {', '.join(f'{head} {value}' for head, value in same)}." if same else ""
