"""A checked submission on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arena.report.terminal import wide_enough
from arena.report.words import percent
from arena.running.submissions import ShardOutcome, SubmissionReport

COLOURS = {"bit for bit": "green", "within tolerance": "green", "failed": "red", "not checked": "yellow"}


def print_submission(console: Console, report: SubmissionReport) -> None:
    """Print what came of a submission: the card, the shards that were drawn, faults, and the verdict last."""
    console = wide_enough(console)
    card = report.card
    if card is not None:
        _line(console, f"[bold]{escape(card.agent)}[/], {escape(card.paper)}")
        _line(console, escape(f"code {card.code[:12]}... {card.url or ''}".strip()))
    _line(
        console,
        escape(
            f"{report.log}: {report.matches} matches in {report.shards} finished shards of {report.scenario}"
        ),
    )
    if report.outcomes:
        console.print(_table(report.outcomes))
        _line(console, f"drawn with --seed {report.seed}; {_missed(report)}")
    if report.utilities:
        _line(console, f"{report.utilities} evaluations on clean images were repeated")
    for share in report.pooled:
        _line(console, escape(f"over all shards of another machine, {share}"))
    for sentence in report.unchecked:
        _line(console, f"[yellow]not checked:[/] {escape(sentence)}")
    for sentence in report.faults:
        _line(console, f"[red]fault:[/] {escape(sentence)}")
    _line(console, f"[{COLOURS[report.status]}]{report.status}[/]: {escape(report.summary)}")


def _missed(report: SubmissionReport) -> str:
    share = percent(report.chance_missed)
    return f"had one shard alone been altered, this would have missed it in {share} % of draws"


def _table(outcomes: tuple[ShardOutcome, ...]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for head in ("match", "shard", "repeat", "replayed", ""):
        table.add_column(head, justify="right" if head in ("shard", "repeat") else "left", overflow="fold")
    for one in outcomes:
        status = f"[{COLOURS[one.status]}]{one.status}[/]"
        table.add_row(escape(one.match), str(one.number), str(one.repeat), status, escape(one.said))
    return table


def _line(console: Console, text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True)
