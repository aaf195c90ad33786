"""The defended and the undefended margin along a game, where a monitor logged both (AAA, Figures 2, 6, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from sqlalchemy import select

from arena.log import Log, questions, schema
from arena.log.answers import LoggedMatch, LoggedQueries
from arena.report import words
from arena.report.charts import chart, grid, stroke
from arena.report.strokes import LONG
from arena.report.summary import Row
from arena.rules.outcome import Floats, Ints

MOST = 24
"""The most games in a report."""
PER_MATCH = 2
"""The most games of one match: one that was won, and one that was kept."""
POINTS = 600
"""A longer line is drawn by the least and the most of each of half as many equal stretches."""
RULE = (
    "Of each match the first game by image number that the attacker won by the headline, and the first that "
    "it did not"
)
DEFENDED, UNDEFENDED = 1, 0
"""The numbers of the lines' colours."""


@dataclass(frozen=True)
class Course:
    """The margins of a game that a monitor watched.

    Attributes:
        image: its number in the data set; won: by the headline verdict.
        rows: its queries, in order.
    """

    image: int
    won: bool
    rows: LoggedQueries

    @property
    def flipped(self) -> float:
        """The share of steps between queries along which both margins moved, and in opposite directions."""
        steps = np.stack([np.diff(self.rows.margin), np.diff(self.rows.margin_base)])
        moved = steps[:, np.isfinite(steps).all(axis=0) & (steps != 0).all(axis=0)]
        return float((moved[0] * moved[1] < 0).mean()) if moved.size else float("nan")


def courses(log: Log, rows: Sequence[Row]) -> dict[int, list[Course]]:
    """Watched games by match id (`RULE`); of more than `MOST` those of matches evenly over the report."""
    watched = [row.match for row in rows if row.played and is_watched(log, row.match)]
    if len(watched) * PER_MATCH > MOST:
        kept = np.linspace(0, len(watched) - 1, MOST // PER_MATCH).round().astype(int)
        watched = [watched[place] for place in kept.tolist()]
    return {match.id: found for match in watched if (found := _of(log, match))}


def is_watched(log: Log, match: LoggedMatch) -> bool:
    """Whether the match has a monitor: the queries of one game tell."""
    games, queries = schema.finished_games.c, schema.queries.c
    one = select(games.id).where(games.match_id == match.id, games.queries > 0).limit(1).scalar_subquery()
    wanted = select(queries.turn).where(queries.game_id == one, queries.margin_base.is_not(None)).limit(1)
    return bool(questions.ask(log, wanted))


def margin_curves(course: Course, prefix: str) -> str:
    """A game's margins against its queries, the undefended one behind; below 0 the attacker wins.

    Args:
        prefix: of the element's ids, which must differ from those of the page's other charts.
    """
    rows = course.rows
    last = int(rows.turn[-1])

    def draw(axes: Axes) -> None:
        for number, margin in ((UNDEFENDED, rows.margin_base), (DEFENDED, rows.margin)):
            colour, dash = stroke(number)
            turn, value = thinned(rows.turn, margin)
            alone = "o" if len(turn) == 1 else None  # a line of one point would not be seen
            axes.plot(turn, value, color=colour, linestyle=dash, linewidth=1.2, marker=alone, markersize=4)
        axes.axhline(0, color="grey", linewidth=0.7, linestyle=":")
        if last > LONG:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        else:
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
        axes.set_xlim(*((1, last) if last > 1 else (0, 2)))
        axes.set_xlabel("queries")
        axes.set_ylabel("margin")
        grid(axes)

    return chart(draw, prefix)


def thinned(turn: Ints, value: Floats) -> tuple[Ints, Floats]:
    """At most about `POINTS` of a line's points, its peaks among them; infinite values are left out."""
    shown = np.flatnonzero(np.isfinite(value))
    turn, value = turn[shown], value[shown]
    if len(turn) <= POINTS:
        return turn, value
    pieces = np.array_split(np.arange(len(turn)), POINTS // 2)
    peaks = {int(piece[i]) for piece in pieces for i in (value[piece].argmin(), value[piece].argmax())}
    kept = np.array(sorted({0, len(turn) - 1} | peaks))
    return turn[kept], value[kept]


def in_words(course: Course) -> str:
    """What a chart shows."""
    rows, flipped = course.rows, course.flipped
    ends = [
        f"{name} from {words.number(float(margin[0]))} to {words.number(float(margin[-1]))}, least "
        f"{words.number(float(np.nanmin(margin)))}"
        for name, margin in (("defended", rows.margin), ("undefended", rows.margin_base))
        if not np.isnan(margin).all()
    ]
    opposite = "" if np.isnan(flipped) else f"; opposite ways in {flipped:.0%} of the steps"
    return f"Margins in the game on image {course.image}, {len(rows):,} queries: {', '.join(ends)}{opposite}."


def _of(log: Log, match: LoggedMatch) -> list[Course]:
    found = []
    for won in (True, False):
        for game in questions.samples(log, match.id, 1, won=won, verdict=match.info.verdict):
            rows = questions.transcript(log, game.id)
            if len(rows):
                found.append(Course(game.image, won, rows))
    return found
