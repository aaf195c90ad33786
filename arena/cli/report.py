"""`arena report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arena.cli.console import CommandError, say
from arena.inputs.places import file_name
from arena.log import open_log
from arena.report.html import write_report
from arena.report.summary import read_run


def report_command(log: str, to: Path | None, run: int | None, data: Sequence[Path]) -> int:
    """Write a run's report; returns the exit status. Without `to`, it lies beside the log's file, else
    here."""
    with open_log(log, create=False) as book, book.snapshot():
        found = read_run(book, run)
        path = book.database.address.path
        file = to or (
            Path(f"{file_name(found.info.scenario)}.html") if path is None else path.with_suffix(".html")
        )
        try:
            write_report(book, file, found.id, data)
        except ValueError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise CommandError(str(error)) from error
    say(f"report: {file}")
    return 0
