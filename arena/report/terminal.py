"""A run's results as tables on the terminal."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arena.log import Log
from arena.report.groups import Group, grouped
from arena.report.summary import VERDICTS, Row, progress, read_rows, read_run
from arena.report.words import NORMS, NOTHING, number, percent, queries, rules, span, unfinished

PIPED_WIDTH = 120
"""Columns where the output is no terminal."""
MOST_COUNTS = 4
"""Query counts that find room in a table; the last ones are shown."""


def print_results(console: Console, log: Log, run_id: int) -> None:
    """Print a run's results.

    Raises:
        LogError: if the log has no such run.
    """
    run, rows = read_run(log, run_id), read_rows(log, run_id)
    if not console.is_terminal and console.width < PIPED_WIDTH:
        console = Console(file=console.file, width=PIPED_WIDTH)
    _print(console, f"[bold]{escape(run.info.title or run.info.scenario)}[/]")
    if said := unfinished(run, progress(run, rows)):
        _print(console, f"[yellow]{said}[/]")
    for group in grouped(rows):
        title = f"{group.title}: " if group.title else ""
        _print(console, f"\n{escape(title + group.world)} · {rules(group.threat, _budgets(group))}")
        if len(group.attackers) > 1 or len(group.defenders) > 1:
            _print(console, f"accuracy left at the budget, by {' or '.join(group.verdicts)}; * the least")
            _print(console, _matrix(group))
            _print(console, "")
        _print(console, _that_fits(console, group))
    if rows:
        _print(console, "[dim]in percent, with 95 % intervals; queries to the first hit: median/mean[/]")
    for row in rows:
        if row.broken:
            _print(console, f"[yellow]warning:[/] {escape(warning(row))}")


def warning(row: Row) -> str:
    """What a reader must know about games that were not played to their end."""
    info = row.match.info
    ended = " and ".join(f"{count} with {reason}" for reason, count in row.broken.items())
    said = f"{info.attacker_title} against {info.defender_title}: of {row.played} games {ended} ended"
    return f"{said}: {row.trouble}" if row.trouble else said


def _matrix(group: Group) -> Table:
    """Attackers by defenders: the accuracy left at the budget."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker", overflow="fold")
    for side in group.defenders:
        table.add_column(escape(side.label), justify="right", overflow="fold")
    defenders = range(len(group.defenders))
    worst = [group.worst(d) for d in defenders]
    for a, side in enumerate(group.attackers):
        cells = [group.cell(a, d) for d in defenders]
        table.add_row(escape(side.label), *(_cell(c, w) for c, w in zip(cells, worst, strict=True)))
    return table


def _cell(row: Row | None, worst: Row | None) -> str:
    if row is None or not row.drawn:
        return f"{NOTHING} "
    value = percent(row.headline.value)
    least = worst is not None and row.headline.value == worst.headline.value
    return f"[bold]{value}*[/]" if least else f"{value} "


def _that_fits(console: Console, group: Group) -> Table:
    """The results with as many counts and intervals as the console has room for."""
    choices = ((MOST_COUNTS, True), (MOST_COUNTS, False), (2, False), (0, False))
    tables = [_results(group, most, intervals) for most, intervals in choices]
    endless = console.options.update(max_width=10_000)
    fits = (table for table in tables if console.measure(table, options=endless).maximum <= console.width)
    return next(fits, tables[-1])


def _results(group: Group, most: int, intervals: bool) -> Table:
    """One row a match, with `most` query counts before the budget, and intervals of success.

    Without any count it is for a narrow console, and leaves out accepted hits too.
    """
    early = sorted({at for row in group.rows for at in row.left if at < row.budget})
    counts = early[-most:] if most else []
    accepted = most > 0 and any(row.accepted for row in group.rows)
    insider = any(row.insider for row in group.rows)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker\n  defender", overflow="fold", min_width=12)
    heads = ["acc.\nclean", *(f"left\n@{at}" for at in counts), "left at\nbudget"]
    heads += [f"won:\n{verdict}" for verdict in VERDICTS] + ["won:\naccepted"] * accepted
    heads += ["queries\nto hit", f"median\n{NORMS[group.threat.norm]}"]
    heads += ["insider"] * insider
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for attacker, matches in group.by_attacker:
        table.add_section()
        table.add_row(f"[bold]{escape(attacker.label)}[/]")
        for defender, row in matches:
            table.add_row("  " + escape(defender.label), *_values(row, counts, intervals, accepted, insider))
    return table


def _values(row: Row, counts: list[int], intervals: bool, accepted: bool, insider: bool) -> list[str]:
    verdict = row.match.info.verdict
    clean = row.clean.value if row.defended_clean is None else row.defended_clean.value
    left = [percent(row.left[at][verdict].value) if at in row.left else "" for at in counts]
    values = [percent(clean), *left, f"{percent(row.headline.value)} {span(row.headline)}"]
    for rate in (row.success[verdict] for verdict in VERDICTS):
        values.append(f"{percent(rate.value)} {span(rate)}" if intervals else percent(rate.value))
    if accepted:
        values.append(percent(row.accepted.value) if row.accepted else NOTHING)
    values += [f"{queries(row.hit_median)}/{queries(row.hit_mean)}", number(row.distance_median)]
    if insider:
        values.append(f"{row.insider:,}")
    return values


def _budgets(group: Group) -> set[int]:
    return {row.budget for row in group.rows}


def _print(console: Console, what: Table | str) -> None:
    console.print(what, highlight=False, soft_wrap=isinstance(what, str))
