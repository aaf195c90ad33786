"""Text tables, in which data sets list their images."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from arena.datasets.dataset import DatasetError


def read_table(table: Path, keys: Sequence[str], between: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table whose first line names its columns, each with its position in the file; missing
    cells are empty.

    Raises DatasetError if a column of `keys` is missing or the file is no such text.
    """
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=between, restval="")
            if missing := [key for key in keys if key not in (reader.fieldnames or ())]:
                found = between.join(reader.fieldnames or ()) or "nothing"
                raise DatasetError(
                    f'{table}: the first line must name {missing[0]!r}, with "{between}" between names; '
                    f"found {found[:80]}"
                )
            for row in reader:
                yield f"{table}, line {reader.line_num}", row
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f'{table}: is no table of text with "{between}" between: {error}') from error
