"""`arena board`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.cli.console import CommandError, out, say
from arena.cli.table_files import FORMATS, check_installed
from arena.inputs.places import unwritable
from arena.league.board import Board
from arena.league.boards import board_of
from arena.league.cells import Source
from arena.league.filters import check_count, chosen, parse_filters
from arena.league.matrices import read_sources
from arena.log import Log, open_log
from arena.messages import near
from arena.report.board_examples import examples
from arena.report.board_page import render_board
from arena.report.board_rows import CELLS, RANKS, as_json, cell_rows, columns, rank_rows
from arena.report.board_terminal import print_board


@dataclass(frozen=True)
class Wanted:
    """What is asked, and which files are written.

    Attributes:
        to: the page; None: beside the first log, or here.
        csv, json, parquet: files that are written too.
        at: one query count; None: all.
        threat: KEY=VALUE of the matches wanted.
        run: the matches of one run alone.
        cap_accuracy, cap_delay: of the mixture of defenders, in percent and as a factor.
        data: where data sets lie.
    """

    to: Path | None = None
    csv: Path | None = None
    json: Path | None = None
    parquet: Path | None = None
    at: int | None = None
    threat: Sequence[str] = ()
    run: int | None = None
    cap_accuracy: float | None = None
    cap_delay: float | None = None
    title: str = ""
    data: Sequence[Path] = ()


def board_command(logs: Sequence[str], wanted: Wanted) -> int:
    """Print the board of logs, and write its files; returns the exit status."""
    filters = parse_filters(wanted.threat)
    if wanted.parquet is not None:
        check_installed("parquet", "--parquet")
    with ExitStack() as stack:
        books = [stack.enter_context(open_log(log, create=False)) for log in logs]
        _check_distinct(books)
        for book in books:
            stack.enter_context(book.snapshot())
        page = wanted.to or _beside(books[0])
        files = _files(wanted, page)
        for file in files:
            _check_file(file)
        sources = _sources(books, wanted, filters)
        board = _judged(sources, wanted)
        shown = examples(board, {book.name: book for book in books}, wanted.data)
        _write(page, lambda part: part.write_text(render_board(board, shown), encoding="utf-8"))
        _write_tables(board, wanted)
    print_board(out, board)
    say("")
    for file in files:
        say(f"{'page' if file == page else 'table' if file != wanted.json else 'JSON'}: {file}")
    return 0


def _sources(books: Sequence[Log], wanted: Wanted, filters: dict[str, str]) -> list[Source]:
    if wanted.run is not None and len(books) > 1:
        raise CommandError("--run: it is a run of one log; name that log alone")
    found = [source for book in books for source in read_sources(book)]
    if not found:
        names = " and ".join(book.name for book in books)
        raise CommandError(f"no match in {names} has a finished shard; play it first, or go on with its run")
    if wanted.run is not None:
        own = [source for source in found if source.run.id == wanted.run]
        if not own:
            there = dict.fromkeys(str(source.run.id) for source in found)
            raise CommandError(
                f"--run: no finished match is of run {wanted.run}; {near(str(wanted.run), there)}"
            )
        found = own
    found = chosen(found, filters)
    if wanted.at is not None:
        check_count(found, wanted.at)
    return found


def _judged(sources: Sequence[Source], wanted: Wanted) -> Board:
    scenarios = dict.fromkeys(source.run.info.title or source.run.info.scenario for source in sources)
    return board_of(
        sources,
        title=wanted.title or f"Board: {', '.join(scenarios)}",
        counts=None if wanted.at is None else [wanted.at],
        cap_accuracy=wanted.cap_accuracy,
        cap_delay=wanted.cap_delay,
    )


def _check_distinct(books: Sequence[Log]) -> None:
    seen = set()
    for book in books:
        path = book.database.address.path
        name = book.name if path is None else str(path.resolve())
        if name in seen:
            raise CommandError(f"log {book.name} is given twice; each log counts once")
        seen.add(name)


def _beside(book: Log) -> Path:
    path = book.database.address.path
    return Path("board.html") if path is None else path.with_name(f"{path.stem}-board.html")


def _files(wanted: Wanted, page: Path) -> list[Path]:
    files = [page]
    for table in (wanted.csv, wanted.parquet):
        files += [] if table is None else [table, _ranks_of(table)]
    files += [] if wanted.json is None else [wanted.json]
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is not None:
        raise CommandError(f"{twice} would be written twice; give each file a name of its own")
    return files


def _check_file(file: Path) -> None:
    if (why := unwritable(file)) is not None:
        raise CommandError(f"the board cannot be written to {file}: it {why}")


def _ranks_of(table: Path) -> Path:
    return table.with_name(f"{table.stem}-ranks{table.suffix}")


def _write_tables(board: Board, wanted: Wanted) -> None:
    for form, path in (("csv", wanted.csv), ("parquet", wanted.parquet)):
        if path is not None:
            _write(path, _table(form, CELLS, cell_rows(board)))
            _write(_ranks_of(path), _table(form, RANKS, rank_rows(board)))
    if wanted.json is not None:
        text = json.dumps(as_json(board), indent=1, ensure_ascii=False, allow_nan=False)
        _write(wanted.json, lambda part: part.write_text(text + "\n", encoding="utf-8"))


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
