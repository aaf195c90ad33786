"""A run's results as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from arena.evaluation.clean_utility import Utility
from arena.log import Log
from arena.report.groups import Group, grouped
from arena.report.measures import detection_table, distance_table
from arena.report.summary import VERDICTS, Row, progress, read_rows, read_run
from arena.report.words import NORMS, NOTHING, cost, number, percent, queries, rules, span, unfinished

PIPED_WIDTH = 120
"""Columns if the output is no terminal."""
MOST_COUNTS = 4
"""How many query counts a table shows, the last ones."""


def print_results(console: Console, log: Log, run_id: int) -> None:
    """Print a run's results.

    Raises:
        LogError: if the log has no such run.
    """
    run, rows = read_run(log, run_id), read_rows(log, run_id)
    console = wide_enough(console)
    _print(console, f"[bold]{escape(run.info.title or run.info.scenario)}[/]")
    if notice := unfinished(run, progress(run, rows)):
        _print(console, f"[yellow]{notice}[/]")
    groups = grouped(rows)
    for group in groups:
        title = f"{group.title}: " if group.title else ""
        _print(console, f"\n{escape(title + group.world)} · {rules(group.threat, group.budgets)}")
        if len(group.attackers) > 1 or len(group.defenders) > 1 or group.has_utilities:
            left = f"median {NORMS[group.threat.norm]} distance" if group.nearest else "accuracy left"
            by = "" if group.nearest else f", by {' or '.join(group.verdicts)}"
            _print(console, f"{left} at the budget{by}; * the least")
            _print(console, _matrix(group))
            _print(console, "")
        _print(console, _that_fits(console, _choices(group)))
        if (flagged := detection_table(group)) is not None:
            _print(console, "\nflagged, in percent")
            _print(console, flagged)
    for line in _legend(groups):
        _print(console, f"[dim]{line}[/]")
    if images := sorted({row.utility.images for row in rows if row.utility}):
        of = " or ".join(f"{count:,}" for count in images)
        _print(console, f"[dim]clean accuracy to cost: on {of} clean images; NLL in nats[/]")
        _print(console, "[dim]cost: seconds per query relative to the undefended classifier[/]")
        _print(console, "[dim]about 1: the 95 % interval of that cost covers 1[/]")
    for row in rows:
        if row.broken:
            _print(console, f"[yellow]warning:[/] {escape(warning(row))}")


def wide_enough(console: Console) -> Console:
    """The console, or one of `PIPED_WIDTH` columns if the output is no terminal and narrower."""
    if console.is_terminal or console.width >= PIPED_WIDTH:
        return console
    return Console(file=console.file, width=PIPED_WIDTH)


def warning(row: Row) -> str:
    """What a reader must know about games that were not played to their end."""
    info = row.match.info
    ended = " and ".join(f"{count} with {reason}" for reason, count in row.broken.items())
    sentence = f"{info.attacker_title} against {info.defender_title}: of {row.played} games {ended} ended"
    return f"{sentence}: {row.trouble}" if row.trouble else sentence


def _matrix(group: Group) -> Table:
    """Defenders by attackers: the utility of each on clean images, and its accuracy left at the budget."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("defender", overflow="fold", min_width=8)
    for head in _utility_heads(group):
        table.add_column(head, justify="right", no_wrap=True)
    for side in group.attackers:
        table.add_column(escape(side.label), justify="right", overflow="fold", min_width=6)
    for d, side in enumerate(group.defenders):
        cells = [_cell(group, group.cell(a, d), d) for a in range(len(group.attackers))]
        utility = _utility(group.utility(d)) if group.has_utilities else []
        table.add_row(escape(side.label), *utility, *cells)
    return table


def _utility_heads(group: Group) -> list[str]:
    if not group.has_utilities:
        return []
    batches = sorted({row.utility.batch for row in group.rows if row.utility and row.utility.batch})
    heading = "cost at\n1" + "".join(f"/{batch}" for batch in batches)
    return ["acc.\nclean", "\nECE", "\nNLL", "agree-\nment", heading]


def _utility(utility: Utility | None) -> list[str]:
    if utility is None:
        return [NOTHING] * 5
    return [
        percent(utility.accuracy),
        percent(utility.ece, 2),
        number(utility.nll),
        percent(utility.agreement),
        _cost(utility),
    ]


def _cost(u: Utility) -> str:
    one = cost(u.cost_1, u.cost_1_low, u.cost_1_high)
    many = cost(u.cost_batch, u.cost_batch_low, u.cost_batch_high)
    return one if one == many else f"{one}/{many}"


def _cell(group: Group, row: Row | None, defender: int) -> str:
    if row is None or not row.drawn:
        return f"{NOTHING} "
    value = number(row.distance_median) if group.nearest else percent(row.headline.value)
    return f"[bold]{value}*[/]" if group.is_worst(row, defender) else f"{value} "


def _legend(groups: Sequence[Group]) -> list[str]:
    """What a reader must know of the tables' numbers."""
    lines = []
    if any(not group.nearest for group in groups):
        lines.append("in percent, with 95 % intervals; queries to the first hit: median/mean")
    if any(group.nearest for group in groups):
        lines += [
            "median distance over the games played, with 95 % intervals; ∞: no hit in half of them",
            "≤ r: percent won by an image within r: by answered/vote/base, or once where the three agree",
        ]
    return lines


def _choices(group: Group) -> list[Table]:
    """The tables of a group's results, with fewer and fewer query counts and intervals."""
    if group.nearest:
        every = MOST_COUNTS + 1
        choices = ((every, every), (every, 1), (every, 0), (3, 1), (3, 0), (2, 0), (1, 0))
        return [distance_table(group, most, intervals) for most, intervals in choices]
    return [
        _results(group, most, intervals)
        for most, intervals in ((MOST_COUNTS, True), (MOST_COUNTS, False), (2, False), (0, False))
    ]


def _that_fits(console: Console, tables: Sequence[Table]) -> Table:
    """The first table that fits the console, else the last."""
    endless = console.options.update(max_width=10_000)
    fits = (table for table in tables if console.measure(table, options=endless).maximum <= console.width)
    return next(fits, tables[-1])


def _results(group: Group, most: int, intervals: bool) -> Table:
    """One row per match, with `most` query counts before the budget, and intervals of success.

    Without any count it is for a narrow console, and leaves out accepted hits, too.
    """
    early = sorted({at for row in group.rows for at in row.left if at < row.budget})
    counts = [0] * (0 in early) + [at for at in early if at][-most:] * (most > 0)
    accepted = most > 0 and any(row.accepted for row in group.rows)
    insider = any(row.insider for row in group.rows)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker\n  defender", overflow="fold", min_width=12)
    heads = [*(f"left\n@{at}" for at in counts), "left at\nbudget"]
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
    left = [percent(row.left[at][verdict].value) if at in row.left else "" for at in counts]
    values = [*left, f"{percent(row.headline.value)} {span(row.headline)}"]
    for rate in (row.success[verdict] for verdict in VERDICTS):
        values.append(f"{percent(rate.value)} {span(rate)}" if intervals else percent(rate.value))
    if accepted:
        values.append(percent(row.accepted.value) if row.accepted else NOTHING)
    values += [f"{queries(row.hit_median)}/{queries(row.hit_mean)}", number(row.distance_median)]
    if insider:
        values.append(f"{row.insider:,}")
    return values


def _print(console: Console, what: Table | str) -> None:
    console.print(what, highlight=False, soft_wrap=isinstance(what, str))
