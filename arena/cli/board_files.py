"""The files that `arena board` writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.cli.console import CommandError, say
from arena.cli.table_files import FORMATS, check_installed
from arena.inputs.places import unwritable
from arena.league.board import Board
from arena.report.board_rows import CELLS, RANKS, as_json, cell_rows, columns, rank_rows


@dataclass(frozen=True)
class BoardFiles:
    """Where a board is written: its page, and what else is wanted.

    Raises:
        CommandError: if one cannot be written, two are the same, or Parquet's package is missing.
    """

    page: Path
    csv: Path | None = None
    json: Path | None = None
    parquet: Path | None = None

    def __post_init__(self) -> None:
        if self.parquet is not None:
            check_installed("parquet", "--parquet")
        files = [file for _, file in self._named()]
        for file in files:
            if files.count(file) > 1:
                raise CommandError(f"{file} would be written twice; give each file a name of its own")
            if (why := unwritable(file)) is not None:
                raise CommandError(f"the board cannot be written to {file}: it {why}")

    def write(self, board: Board, page: str) -> None:
        """Write all of them, each whole or not at all."""
        _write(self.page, lambda part: part.write_text(page, encoding="utf-8"))
        for form, path in (("csv", self.csv), ("parquet", self.parquet)):
            if path is not None:
                _write(path, _table(form, CELLS, cell_rows(board)))
                _write(_ranks_of(path), _table(form, RANKS, rank_rows(board)))
        if self.json is not None:
            text = json.dumps(as_json(board), indent=1, ensure_ascii=False, allow_nan=False)
            _write(self.json, lambda part: part.write_text(f"{text}\n", encoding="utf-8"))

    def tell(self) -> None:
        """Say where they lie."""
        for what, file in self._named():
            say(f"{what}: {file}")

    def _named(self) -> Iterator[tuple[str, Path]]:
        yield "page", self.page
        for table in (self.csv, self.parquet):
            if table is not None:
                yield "cells", table
                yield "ranks", _ranks_of(table)
        if self.json is not None:
            yield "JSON", self.json


def _ranks_of(table: Path) -> Path:
    return table.with_name(f"{table.stem}-ranks{table.suffix}")


def _table(form: str, names: Sequence[str], rows: Sequence[Any]) -> Callable[[Path], object]:
    def write(part: Path) -> None:
        file = FORMATS[form](part, columns(names))
        try:
            file.write(rows)
        finally:
            file.close()

    return write


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Under another name until it is whole."""
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise CommandError(f"the board cannot be written to {path}: {error.strerror or error}") from error
