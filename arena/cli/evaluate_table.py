"""What `arena evaluate` prints of stacks: a table with a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from arena.evaluation.clean_utility import Utility
from arena.report.columns import NOTHING
from arena.report.words import cost, megabytes, millions, milliseconds, number, percent


@dataclass(frozen=True)
class Found:
    """What was found of a stack.

    Attributes:
        facts: what its defenders found when they were fitted.
        spread: `Evaluation.loss_spread`; None if it was not asked for.
    """

    title: str
    utility: Utility
    facts: dict[str, Any]
    spread: float | None = None


def table_of(rows: Sequence[Found], whole: bool) -> Table:
    """One row per stack; unless `whole`, without the columns that a narrow console has no room for."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("defender", overflow="fold", min_width=8)
    utilities = [row.utility for row in rows]
    unanswered = any(u.declined or u.refused for u in utilities)
    flagged, moved = any(u.flagged for u in utilities), any(u.input_l2 > 0 for u in utilities)
    spread = any(row.spread is not None for row in rows)
    heads = ["accuracy\n[95 %]", "agree-\nment", "ECE", *["equal\nmass"] * whole, "NLL"]
    heads += ["declined\n/refused"] * unanswered + ["flagged"] * flagged
    heads += ["input\nl2"] * moved + ["spread"] * spread
    heads += ["cost at\n1 row", f"cost at\n{utilities[0].batch} rows"]
    for head in [*heads, *["ms/query\n1/batch", "peak\nMB"] * whole]:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        u = row.utility
        own = [number(u.input_l2)] * moved + [NOTHING if row.spread is None else number(row.spread)] * spread
        table.add_row(escape(row.title), *_figures(u, unanswered, flagged, whole, own))
    return table


def _figures(u: Utility, unanswered: bool, flagged: bool, whole: bool, own: list[str]) -> list[str]:
    one = cost(u.cost_1, u.cost_1_low, u.cost_1_high, whole)
    many = cost(u.cost_batch, u.cost_batch_low, u.cost_batch_high, whole)
    values = [
        f"{percent(u.accuracy, 2)} [{percent(u.low)}, {percent(u.high)}]",
        percent(u.agreement, 2),
        percent(u.ece, 2),
        *[percent(u.ece_mass, 2)] * whole,
        number(u.nll),
        *[f"{percent(u.declined)}/{percent(u.refused)}"] * unanswered,
        *[percent(u.flagged)] * flagged,
        *own,
        one,
        many,
    ]
    times = f"{milliseconds(u.seconds_1)}/{milliseconds(u.seconds_batch)}"
    return [*values, times, megabytes(u.peak_bytes)] if whole else values


def work(rows: Sequence[Found]) -> str:
    """The multiply-adds of a query in words, once where all stacks have as many."""
    told = {row.title: millions(row.utility.multiply_adds) for row in rows}
    values = set(told.values())
    return (
        values.pop() if len(values) == 1 else ", ".join(f"{value} {title}" for title, value in told.items())
    )
