"""`arena sql`: a question of one's own, in SQL."""

from __future__ import annotations

import csv
import itertools
import sys
from collections.abc import Iterator
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from arena.cli.console import CommandError, out, say, say_json, writing
from arena.log import open_log
from arena.log.statements import Answer, asking
from arena.messages import one_line
from arena.report.terminal import wide_enough

WIDEST = 60
"""Characters of a value on the terminal."""


def sql_command(log: str, statement: str, *, as_csv: bool, as_json: bool, most: int) -> int:
    """Ask a log one statement, which only reads; returns the exit status.

    Args:
        most: so many rows are shown on the terminal; CSV and JSON hold all.
    """
    if as_csv and as_json:
        raise CommandError("--csv and --json: give one of them")
    with open_log(log, create=False) as book, asking(book, statement) as answer:
        if as_csv:
            _write_csv(answer)
        elif as_json:
            rows = [[_plain(value) for value in row] for row in answer.rows]
            say_json({"columns": answer.columns, "rows": rows})
        else:
            _show(answer, most)
    return 0


def _write_csv(answer: Answer) -> None:
    """RFC 4180, NULL as nothing."""
    with writing():
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if answer.columns:
            writer.writerow(answer.columns)
        for row in answer.rows:
            writer.writerow(["" if value is None else _plain(value) for value in row])
        sys.stdout.flush()


def _show(answer: Answer, most: int) -> None:
    if not answer.columns:
        say("the statement has no rows to show")
        return
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    rows: Iterator[tuple[Any, ...]] = answer.rows
    shown = list(itertools.islice(rows, most))
    more = next(rows, None) is not None
    for place, name in enumerate(answer.columns):
        numbers = all(isinstance(row[place], int | float | None) for row in shown)
        table.add_column(Text(one_line(name)), justify="right" if numbers else "left", overflow="fold")
    for row in shown:
        table.add_row(*[_cell(value) for value in row])
    wide_enough(out).print(table)
    count = "1 row" if len(shown) == 1 else f"{len(shown):,} rows"
    cut = f"the first {count}; there are more: --rows shows them, --csv and --json hold all"
    say(cut if more else count)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim")
    text = one_line(str(_plain(value)))
    return Text(text if len(text) <= WIDEST else f"{text[: WIDEST - 3]}...")


def _plain(value: Any) -> Any:
    """Bytes, such as final images, as hexadecimal digits."""
    return bytes(value).hex() if isinstance(value, bytes | memoryview | bytearray) else value
