"""`arena runs`: the runs of a log."""

from __future__ import annotations

from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.cli.console import out, say, say_json
from arena.log import open_log
from arena.log.overview import overview
from arena.report.terminal import wide_enough


def runs_command(log: str, as_json: bool) -> int:
    """List the runs of a log; returns the exit status."""
    with open_log(log, create=False) as book:
        runs = overview(book)
        name = book.name
    if as_json:
        say_json(
            [
                {**vars(run), "started": _iso(run.started), "ended": run.ended and _iso(run.ended)}
                for run in runs
            ]
        )
        return 0
    if not runs:
        say(f"log {name} holds no run")
        return 0
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head, justify in (
        ("run", "right"), ("scenario", "left"), ("title", "left"), ("started (UTC)", "left"),
        ("ended (UTC)", "left"), ("matches", "right"), ("games", "right"), ("queries", "right"),
    ):  # fmt: skip
        table.add_column(head, justify=justify, overflow="fold", no_wrap=head != "title")  # type: ignore[arg-type]
    for run in runs:
        table.add_row(
            str(run.id),
            escape(run.scenario),
            escape(run.title),
            f"{run.started:%Y-%m-%d %H:%M}",
            f"{run.ended:%Y-%m-%d %H:%M}" if run.ended else "not ended",
            f"{run.done}/{run.planned}",
            f"{run.games:,}",
            f"{run.queries:,}",
        )
    wide_enough(out).print(table)
    return 0


def _iso(time: datetime) -> str:
    return f"{time.isoformat(timespec='seconds')}Z"
