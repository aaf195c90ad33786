"""The columns of a terminal's table of results, one row a match."""

from __future__ import annotations

import math
from collections.abc import Sequence

from arena.league.rates import Rate
from arena.report import words
from arena.report.columns import NOTHING, Column
from arena.report.summary import VERDICTS, Row
from arena.report.words import NORMS, number, percent, queries, span
from arena.rules.outcome import Verdict


def result_columns(rows: Sequence[Row], most: int, intervals: bool) -> list[Column]:
    """What is left at `most` query counts before the budget and at it, the success by each verdict that says
    something of its own, and how it was won and lost.

    Args:
        most: 0 leaves out accepted hits, too; -1 success by other verdicts than the headlines, and how far
            and how soon the first hits were.
        intervals: of success by the headline; at the budget they are always there.
    """
    early = sorted({at for row in rows for at in row.left if at < row.budget})
    counts = ([0] * (0 in early) + [at for at in early if at][-most:]) if most > 0 else []
    columns = [Column(f"left\n@{at:,}", tuple(words.left(row, at) for row in rows)) for at in counts]
    columns.append(Column("left at\nbudget", tuple(map(_left, rows)), always=True))
    columns += _won(rows, most, intervals)
    if most >= 0:
        to_hit = tuple(f"{queries(row.hit_median)}/{queries(row.hit_mean)}" for row in rows)
        columns.append(Column("queries\nto hit", to_hit))
        norm = NORMS[rows[0].match.info.threat.norm]
        columns.append(Column(f"median\n{norm}", tuple(number(row.distance_median) for row in rows)))
    return columns + _rare(rows)


def agree(row: Row) -> bool:
    """Whether all verdicts on a match's final images say the same."""
    return len({row.success[verdict].value for verdict in VERDICTS}) == 1


def own_rule(row: Row) -> bool:
    """Whether the attacker's own rule accepted other hits than were answered."""
    return row.accepted not in (None, row.success["answered"])


def _left(row: Row) -> str:
    """What is left at the budget, with its interval where it is one figure."""
    if row.hollow:
        return "failed!"
    told, mark = words.left(row, row.budget), "!" * (row.failed > 0)
    return told + mark if row.both_ends else f"{told}{mark} {span(row.headline)}"


def _won(rows: Sequence[Row], most: int, intervals: bool) -> list[Column]:
    columns = []
    if all(agree(row) for row in rows):
        columns.append(Column("won", tuple(_share(row, row.verdict, intervals) for row in rows)))
    else:
        headlines = {row.verdict for row in rows}
        for verdict in VERDICTS if most >= 0 else [v for v in VERDICTS if v in headlines]:
            cells = (_share(row, verdict, intervals and row.verdict == verdict) for row in rows)
            columns.append(Column(f"won:\n{verdict}", tuple(cells)))
    if any(row.asked_again for row in rows):
        columns.append(Column("won:\nagain", tuple(_or_nothing(row.success_again) for row in rows)))
    if most > 0 and any(map(own_rule, rows)):
        columns.append(Column("won:\naccepted", tuple(_or_nothing(row.accepted) for row in rows)))
    return columns


def _rare(rows: Sequence[Row]) -> list[Column]:
    """What is shown where there is any of it: games and queries that were not simply answered."""
    lost = [f"{row.lost_early}/{row.played}" if not row.facts else NOTHING for row in rows]
    shares = [row.refused / row.queries if row.queries else math.nan for row in rows]
    return [
        Column("lost\nearly", tuple(lost) if any(row.lost_early for row in rows) else ("",) * len(rows)),
        Column("failed", tuple(str(row.failed) for row in rows), rare=True),
        Column("banned", tuple(str(row.banned) for row in rows), rare=True),
        Column("refused\n%", tuple(map(percent, shares)), rare=True),
        Column("flagged\n%", tuple(percent(row.detection.share()) for row in rows), rare=True),
        Column("insider", tuple(f"{row.insider:,}" for row in rows), rare=True),
        *noted(rows),
    ]


def noted(rows: Sequence[Row]) -> list[Column]:
    """The means of what attackers noted in numbers, a column a key; hits accepted by their own rule have
    columns of their own."""
    keys = sorted({key for row in rows for key in row.noted} - {"accepted"})

    def cell(row: Row, key: str) -> str:
        return number(row.noted[key]) if key in row.noted else NOTHING

    return [Column(f"{key},\nmean", tuple(cell(row, key) for row in rows)) for key in keys]


def _share(row: Row, verdict: Verdict, interval: bool) -> str:
    if row.hollow:
        return "failed"
    rate = row.success[verdict]
    return f"{percent(rate.value)} {span(rate)}" if interval else percent(rate.value)


def _or_nothing(rate: Rate | None) -> str:
    return NOTHING if rate is None else percent(rate.value)
