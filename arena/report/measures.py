"""Terminal tables of measures that only some matches have: distances, and queries that a defender flagged."""

from __future__ import annotations

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.league.rates import Rate
from arena.report.columns import NOTHING
from arena.report.distances import Distances
from arena.report.groups import Group
from arena.report.summary import VERDICTS, Row
from arena.report.words import NORMS, between, number, percent, span
from arena.rules.outcome import Verdict

WIDEST_NAME = 24
"""Width of the columns of agents' names, which are folded if longer, to leave room for the numbers."""
MOST_PURPOSES = 5
"""How many purposes a table shows: those with the most queries."""
MOST_COUNTS = 2
"""At how many query counts, the last ones, a table shows what is flagged of one query a game."""


def distance_table(group: Group, most: int, intervals: int) -> Table:
    """One line per match for the medians, and one per radius: the shares won within it, by verdict.

    Args:
        most: how many query counts are shown, the last ones.
        intervals: at how many of these, the last ones, intervals are shown, of the headline verdict.
    """
    norm = NORMS[group.threat.norm]
    places = [(a, d) for a in range(len(group.attackers)) for d in range(len(group.defenders))]
    found = {place: own for place in places if (own := group.distances(*place)) is not None}
    counts = sorted({at for own in found.values() for at in own.counts})[-most:]
    starts = any(row.no_start for *_, row in group.cells if row.played)
    insider = any(row.insider for row in group.rows)
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker\n  defender", overflow="fold", min_width=12, max_width=WIDEST_NAME)
    heads = [*(f"@{at:,}" for at in counts), *["no\nstart"] * starts, *["insider"] * insider]
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    for a, attacker in enumerate(group.attackers):
        table.add_section()
        table.add_row(f"[bold]{escape(attacker.label)}[/]")
        for d, defender in enumerate(group.defenders):
            row, own = group.cell(a, d), found.get((a, d))
            if row is None or own is None:
                continue
            beside = [percent(row.no_start)] * starts + [f"{row.insider:,}"] * insider
            first, *others = _lines(own, norm, counts, intervals, row)
            table.add_row(f"  {escape(defender.label)}", *first, *beside)
            for line in others:
                table.add_row("", *line)
    return table


def _lines(own: Distances, norm: str, counts: list[int], intervals: int, row: Row) -> list[list[str]]:
    """The medians of a match, then the shares won within each radius, by its headline."""
    near = set(counts[len(counts) - intervals :])
    medians = [_median(own, at, at in near) if at in own.median else "" for at in counts]
    lines = [[f"median {norm}", *medians]]
    for radius in own.radii:
        by_count = own.within[radius]
        shares = [_shares(by_count[at], row, at in near) if at in by_count else "" for at in counts]
        lines.append([f"≤ {number(radius)}", *shares])
    return lines


def _median(own: Distances, at: int, interval: bool) -> str:
    """The median by the headline; in brackets by `answered` if that is another."""
    median = own.median[at]
    told, lucky = number(median.value), number(own.answered[at].value)
    beside = "" if lucky == told else f" ({lucky})"
    return f"{told}{beside} {between(median)}" if interval else f"{told}{beside}"


def _shares(rates: Mapping[Verdict, Rate], row: Row, interval: bool) -> str:
    """The share by the headline; in brackets those by the other verdicts unless all agree."""
    own, *others = sorted(VERDICTS, key=lambda verdict: verdict != row.verdict)
    told, beside = percent(rates[own].value), [percent(rates[verdict].value) for verdict in others]
    text = told if set(beside) == {told} else f"{told} ({'/'.join(beside)})"
    return f"{text} {span(rates[own])}" if interval else text


def asked_table(group: Group) -> Table | None:
    """The mean l2 distance of the queries at the reported counts, one row per match: what a game of objective
    `first` does not tell otherwise. None under other rules, and where the log does not tell."""
    counts = sorted({at for *_, row in group.pairs for at in row.query_l2})
    if (group.threat.norm, group.threat.objective) != ("l2", "first") or not counts:
        return None
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker\n  defender", overflow="fold", min_width=12, max_width=WIDEST_NAME)
    for at in counts:
        table.add_column(f"@{at:,}", justify="right", no_wrap=True)
    for attacker, cells in group.by_attacker:
        table.add_section()
        table.add_row(f"[bold]{escape(attacker.label)}[/]")
        for side, row in cells:
            found = (number(row.query_l2[at]) if at in row.query_l2 else "" for at in counts)
            table.add_row(f"  {escape(side.label)}", *found)
    return table


def detection_table(group: Group) -> Table | None:
    """Flagged shares of clean images, of one estimation query of each game by query count, of all estimation
    queries, of all queries and by purpose, one row per match; None if no defender flagged anything."""
    flagging = [d for d in range(len(group.defenders)) if group.flags(d)]
    if not flagging:
        return None
    purposes = group.purposes(flagging)[:MOST_PURPOSES]
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("attacker\n  defender", overflow="fold", min_width=12, max_width=WIDEST_NAME)
    counts = group.one_counts(flagging)[-MOST_COUNTS:]
    ones = [f"one a game\n@{at:,}" for at in counts]
    for head in ("clean\nimages", *ones, "estimation\nqueries", "all\nqueries", *map(escape, purposes)):
        table.add_column(head, justify="right", overflow="fold", vertical="bottom")
    for attacker, cells in group.by_attacker:
        shown = [(d, side, row) for d in flagging for side, row in cells if side is group.defenders[d]]
        if not shown:
            continue
        table.add_section()
        table.add_row(f"[bold]{escape(attacker.label)}[/]")
        for d, side, row in shown:
            utility, own = group.utility(d), row.detection
            clean = NOTHING if utility is None else percent(utility.flagged)
            shares = (own.estimation, own.share(), *(own.share([purpose]) for purpose in purposes))
            one = [_one(own.of_one.get(at)) for at in counts]
            table.add_row("  " + escape(side.label), clean, *one, *map(percent, shares))
    return table


def _one(share: Rate | None) -> str:
    return NOTHING if share is None else f"{percent(share.value)} {span(share)}"
