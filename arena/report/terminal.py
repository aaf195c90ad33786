"""A run's results as tables on the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from arena.evaluation.clean_utility import Utility
from arena.log import Log
from arena.report import words
from arena.report.benign_tables import LOST, lost_table
from arena.report.columns import NOTHING, Column, in_every_row, telling
from arena.report.findings import findings, headline_of, notices
from arena.report.groups import Group, grouped
from arena.report.measures import WIDEST_NAME, asked_table, detection_table, distance_table
from arena.report.results import own_rule, result_columns
from arena.report.summary import Row, progress, read_rows, read_run
from arena.report.words import NORMS, cost, number, percent, rules, unfinished

PIPED_WIDTH = 120
"""Columns if the output is no terminal."""
NARROWEST = 12
"""Columns of an attacker's name that heads figures which need fewer."""
MOST_COUNTS = 4
"""How many query counts a table shows, the last ones."""


def print_results(console: Console, log: Log, run_id: int) -> int:
    """Print a run's results: first what was found, then the tables, and last what a reader must know.

    Returns:
        How many matches have games that ended with `error`.

    Raises:
        LogError: if the log has no such run.
    """
    with log.snapshot():
        run, rows = read_run(log, run_id), read_rows(log, run_id)
    console = wide_enough(console)
    _print(console, f"[bold]{escape(run.info.title or run.info.scenario)}[/]")
    if notice := unfinished(run, progress(run, rows)):
        _print(console, f"[yellow]{notice}[/]")
    groups = grouped(rows)
    for group in groups:
        title = f"{group.title}: " if group.title else ""
        _print(console, f"\n{escape(title + group.world)} · {rules(group.threat, group.budgets)}")
        for sentence in (*headline_of(group, "These tables keep"), *findings(group)):
            _wrapped(console, sentence)
        _print(console, "")
        if len(group.attackers) > 1 or len(group.defenders) > 1 or group.has_utilities:
            console.print(_matrix_caption(group), highlight=False)
            for table in _matrices(console, group):
                _print(console, table)
                _print(console, "")
        _print_results_of(console, group)
        if (asked := asked_table(group)) is not None:
            _print(console, f"\nmean {NORMS['l2']} distance of the query there, or of the last one before")
            _print(console, asked)
        losses = [(side.label, group.benign(d)) for d, side in enumerate(group.defenders)]
        if any(own for _, own in losses):
            _print(console, "\nlost to benign clients, in percent of their queries")
            _print(console, lost_table(losses))
        if (flagged := detection_table(group)) is not None:
            _print(console, "\nflagged, in percent")
            _print(console, flagged)
    for line in _legend(groups):
        _wrapped(console, line, "dim")
    for row in rows:
        for text in notices(row):
            _print(console, f"[bold yellow]warning:[/] {escape(text)}")
    return sum("error" in row.reasons for row in rows)


def wide_enough(console: Console) -> Console:
    """The console, or one of `PIPED_WIDTH` columns if the output is no terminal and narrower."""
    if console.is_terminal or console.width >= PIPED_WIDTH:
        return console
    return type(console)(file=console.file, width=PIPED_WIDTH)


def _matrix_caption(group: Group) -> str:
    left = f"median {NORMS[group.threat.norm]} distance" if group.nearest else "accuracy left"
    by = ""
    if any(not row.facts or row.named for row in group.rows):
        by = f", by {' or '.join(group.verdicts)}"
    plain = group.nearest or any(row.named or row.both_ends for row in group.rows)
    if len(group.verdicts) > 1 and not plain:
        by = ", by answered, or by vote where the same image may get another answer"
    marks = ["* the least"] if any(group.ranked(d) for d in range(len(group.defenders))) else []
    if any(_beside(group, row) for *_, row in group.cells):
        marks.append("in brackets by answered")
    if any(row.both_ends for row in group.rows):
        marks.append(f"a{words.TO}b: by answered and by vote, no rank")
    if any(row.failed for row in group.rows):
        marks.append("! games failed")
    return "; ".join([f"[bold]{left} at the budget[/]{by}", *marks])


def _matrices(console: Console, group: Group) -> list[Table]:
    """The matrix with as much of what defended classifiers are worth as fits the console, else cut into
    several of fewer attackers: no figure is ever folded."""
    attackers = range(len(group.attackers))
    choices = [[(attackers, worth)] for worth in (6, 2)]
    for most in range(len(attackers), 0, -1):
        choices.append([(attackers[i : i + most], 1 + (most > 1)) for i in attackers[::most]])
    for choice in choices:
        tables = [_matrix(group, some, worth) for some, worth in choice]
        if all(width_of(console, table) <= console.width for table in tables):
            break
    return tables


def width_of(console: Console, table: Table) -> int:
    """The columns that a table needs so that nothing in it is folded."""
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum


def _matrix(group: Group, attackers: Sequence[int], worth: int) -> Table:
    """Defenders by attackers: the utility of each on clean images, the first `worth` figures of it, and what
    is left to it at the budget."""
    utilities = [group.utility(d) for d in range(len(group.defenders))]
    columns, same = telling(_utility_columns(utilities)[:worth] if group.has_utilities else [])
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    table.caption = in_every_row(same) or None
    table.add_column("defender", overflow="fold", min_width=8, max_width=WIDEST_NAME, vertical="bottom")
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True, vertical="bottom")
    cells = [[_cell(group, group.cell(a, d), d) for a in attackers] for d in range(len(group.defenders))]
    for place, a in enumerate(attackers):
        width = max(NARROWEST, *(Text.from_markup(line[place]).cell_len for line in cells))
        head = "\n".join(textwrap.wrap(group.attackers[a].label, width))
        table.add_column(escape(head), justify="right", no_wrap=True, vertical="bottom")
    for d, side in enumerate(group.defenders):
        table.add_row(escape(side.label), *(column.cells[d] for column in columns), *cells[d])
    return table


def _utility_columns(utilities: Sequence[Utility | None]) -> list[Column]:
    """The most telling first."""
    batches = sorted({utility.batch for utility in utilities if utility and utility.batch})
    many = f"cost at\n{'/'.join(map(str, batches)) or 'a batch'}"
    heads = ("acc.\nclean", many, "cost at\n1", "agree-\nment", "ECE", "NLL")
    cells = zip(*map(_figures, utilities), strict=True)
    return [Column(head, own) for head, own in zip(heads, cells, strict=True)]


def _figures(utility: Utility | None) -> list[str]:
    if utility is None:
        return [NOTHING] * 6
    return [
        percent(utility.accuracy),
        cost(utility.cost_batch, utility.cost_batch_low, utility.cost_batch_high),
        cost(utility.cost_1, utility.cost_1_low, utility.cost_1_high),
        percent(utility.agreement),
        percent(utility.ece, 2),
        number(utility.nll),
    ]


def _cost(u: Utility) -> str:
    one = cost(u.cost_1, u.cost_1_low, u.cost_1_high)
    many = cost(u.cost_batch, u.cost_batch_low, u.cost_batch_high)
    return one if one == many else f"{one}/{many}"


def _cell(group: Group, row: Row | None, defender: int) -> str:
    if row is None or not row.drawn:
        return f"{NOTHING} "
    if row.hollow:
        return "[bold yellow]failed![/]"
    value = number(row.distance_median) if group.nearest else words.left(row, row.budget)
    failed = "[bold yellow]![/]" if row.failed else ""
    told = f"[bold]{value}*[/]" if group.is_worst(row, defender) else f"{value}{' ' * (not failed)}"
    return told + failed + _beside(group, row)


def _beside(group: Group, row: Row) -> str:
    """The lucky verdict, small, where it says something else than the headline."""
    if row.facts or row.verdict == "answered" or (row.both_ends and not group.nearest) or not row.drawn:
        return ""
    if not group.nearest:
        own, lucky = percent(row.headline.value), percent(row.left[row.budget]["answered"].value)
    elif row.distances is not None:
        own, lucky = number(row.distance_median), number(row.distances.answered[row.budget].value)
    else:
        return ""
    return f"[dim]({lucky})[/]" if own != lucky else ""


def _legend(groups: Sequence[Group]) -> list[str]:
    """What a reader must know of the tables' numbers."""
    rows = [row for group in groups for row in group.rows]
    lines = []
    if any(not group.nearest for group in groups):
        lines += [
            "left: percent of the games drawn; won: of the games played; both with 95 % intervals",
            "queries to the first hit: median/mean; median distance: of the games played, ∞: half not won",
        ]
    if any(map(own_rule, rows)):
        lines.append("accepted: hits that the attacker's own rule accepted, as published code counts them")
    if any(group.nearest for group in groups):
        lines += [
            "median distance over the games played, with 95 % intervals; ∞: no win in half of them",
            "by the headline: answered where answers are facts, else vote; in brackets that by answered",
            "≤ r: percent won by an image within r; in brackets by the two other verdicts, where they differ",
        ]
    if any(row.lost_early for row in rows):
        lines.append(f"lost early: {_lower(words.LOST_EARLY)}")
    if any(row.asked_again for row in rows):
        lines.append(f"again: {_lower(words.AGAIN)}")
    if any(row.benign for row in rows):
        lines.append(LOST)
    if images := sorted({row.utility.images for row in rows if row.utility}):
        of = " or ".join(f"{count:,}" for count in images)
        lines.append(f"clean accuracy to cost: on {of} clean images; NLL in nats")
        lines.append(
            "cost: seconds per query over those of the undefended classifier, at so many rows a call"
        )
        lines.append("about 1: the 95 % interval of that cost covers 1; a range: that interval, if wide")
    return lines


def _lower(text: str) -> str:
    return text[0].lower() + text[1:].rstrip(".")


def _print_results_of(console: Console, group: Group) -> None:
    """The first of a group's tables, with fewer and fewer query counts and intervals, that fits the console,
    else the last; and what is equal in every row."""
    choices = _choices(group)
    fits = (choice for choice in choices if width_of(console, choice[0]) <= console.width)
    table, same = next(fits, choices[-1])
    _print(console, table)
    if same:
        _wrapped(console, same, "dim")


def _choices(group: Group) -> list[tuple[Table, str]]:
    if group.nearest:
        every = MOST_COUNTS + 1
        choices = ((every, every), (every, 1), (every, 0), (3, 1), (3, 0), (2, 0), (1, 0))
        return [(distance_table(group, most, intervals), "") for most, intervals in choices]
    return [
        _results(group, most, intervals)
        for most, intervals in (
            (MOST_COUNTS, True),
            (MOST_COUNTS, False),
            (2, False),
            (0, False),
            (-1, False),
        )
    ]


def _results(group: Group, most: int, intervals: bool) -> tuple[Table, str]:
    """One row per match, with `most` query counts before the budget, and intervals of success; and what is
    equal in every row.

    Without any count it is for a narrow console, and leaves out accepted hits, too; with -1 for a still
    narrower one, without success by other verdicts than the headline.
    """
    columns, same = telling(result_columns([row for *_, row in group.pairs], most, intervals))
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker\n  defender", overflow="fold", min_width=12, max_width=WIDEST_NAME + 2)
    for column in columns:
        table.add_column(column.head, justify="right", no_wrap=True, vertical="bottom")
    place = 0
    for attacker, matches in group.by_attacker:
        table.add_section()
        table.add_row(f"[bold]{escape(attacker.label)}[/]")
        for defender, _ in matches:
            table.add_row(f"  {escape(defender.label)}", *(column.cells[place] for column in columns))
            place += 1
    return table, in_every_row(same)


def _print(console: Console, what: Table | str) -> None:
    console.print(what, highlight=False, soft_wrap=isinstance(what, str))


def _wrapped(console: Console, text: str, style: str = "") -> None:
    console.print(escape(text), highlight=False, style=style)
