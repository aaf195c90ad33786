"""Tables as files: CSV, JSON and Parquet, written piece by piece."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TextIO

from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, Double, Integer

from arena.cli.console import CommandError
from arena.log.schema import to_json

GROUP = 100_000
"""Rows that lie together in a Parquet file, so that readers need not look at many small groups."""


class TableFile(Protocol):
    """A table that is being written."""

    def write(self, rows: Sequence[Any]) -> None: ...

    def close(self) -> None: ...


class CsvFile:
    """CSV in UTF-8 with a header. NULL is empty, JSON stands as text, times as in ISO 8601."""

    def __init__(self, path: Path, columns: Sequence[Column[Any]]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._forms = [_text if isinstance(c.type, JSON | DateTime) else None for c in columns]
        self._writer.writerow([column.name for column in columns])

    def write(self, rows: Sequence[Any]) -> None:
        self._writer.writerows(_formed(rows, self._forms))

    def close(self) -> None:
        self._file.close()


class JsonFile:
    """An array of objects, one a line. Infinite numbers are text, as JSON has none."""

    def __init__(self, path: Path, columns: Sequence[Column[Any]]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._names = [column.name for column in columns]
        self._times = [isinstance(column.type, DateTime) for column in columns]
        self._before = "[\n"

    def write(self, rows: Sequence[Any]) -> None:
        for row in rows:
            values = (_text(v) if time else v for v, time in zip(row, self._times, strict=True))
            self._file.write(self._before + _object(dict(zip(self._names, values, strict=True))))
            self._before = ",\n"

    def close(self) -> None:
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")
        self._file.close()


class ParquetFile:
    """Parquet with a type for each column, in groups of some `GROUP` rows; JSON is text."""

    def __init__(self, path: Path, columns: Sequence[Column[Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._arrow = pa
        types = [self._type(column.type) for column in columns]
        names = [column.name for column in columns]
        self._forms = [_text if isinstance(c.type, JSON) else None for c in columns]
        self._schema = pa.schema(list(zip(names, types, strict=True)))
        self._writer = pq.ParquetWriter(path, self._schema)
        self._group: list[Any] = []

    def write(self, rows: Sequence[Any]) -> None:
        if not rows:
            return
        columns = list(zip(*_formed(rows, self._forms), strict=True))
        arrays = [self._arrow.array(c, t) for c, t in zip(columns, self._schema.types, strict=True)]
        self._group.append(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        if sum(map(len, self._group)) >= GROUP:
            self._leave()

    def close(self) -> None:
        try:
            if self._group:
                self._leave()
        finally:
            self._writer.close()

    def _leave(self) -> None:
        group, self._group = self._arrow.concat_tables(self._group), []
        self._writer.write_table(group)

    def _type(self, kind: Any) -> Any:
        pa = self._arrow
        known: tuple[tuple[Any, Any], ...] = (
            (Boolean, pa.bool_()),
            (BigInteger, pa.int64()),
            (Integer, pa.int32()),
            (Double, pa.float64()),
            (DateTime, pa.timestamp("us")),
        )
        return next((arrow for own, arrow in known if isinstance(kind, own)), pa.string())


FORMATS: dict[str, type[CsvFile] | type[JsonFile] | type[ParquetFile]] = {
    "csv": CsvFile,
    "json": JsonFile,
    "parquet": ParquetFile,
}


def check_installed(form: str, option: str = "--format parquet") -> None:
    """Raises CommandError if a format needs a package that is not installed; `option`: what asked for it."""
    if form == "parquet" and importlib.util.find_spec("pyarrow") is None:
        raise CommandError(f'{option} needs pyarrow; install it with pip install "blackbox-arena[tables]"')


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _object(row: dict[str, Any]) -> str:
    """A row as JSON, its columns in their order."""
    try:
        return _encode(row)
    except ValueError:  # an infinite number or NaN
        return f"{{{', '.join(f'{_encode(name)}: {to_json(value)}' for name, value in row.items())}}}"


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.isoformat() if isinstance(value, datetime) else to_json(value)


def _formed(rows: Sequence[Any], forms: Sequence[Callable[[Any], Any] | None]) -> Sequence[Any]:
    if not any(forms):
        return rows
    return [[v if form is None else form(v) for v, form in zip(row, forms, strict=True)] for row in rows]
