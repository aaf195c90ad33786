"""Attacks that were still getting somewhere when their queries ended."""

from __future__ import annotations

import numpy as np

from arena.league.audit.courses import courses
from arena.league.audit.figures import percent
from arena.league.audit.roles import decides_by_labels
from arena.league.audit.said import Indicator, Said, by_cell, whole
from arena.league.cells import Cell, Games
from arena.league.estimates import share as mean_of
from arena.rules.outcome import Bools, Floats

MOST = 0.05
"""Found from a larger mean share of the improvement that came in the last tenth of the budget (Pintor et al.,
Indicators of Attack Failure, NeurIPS 2022, whose losses are rescaled to [0, 1] likewise)."""


def late_shares(first: Floats, late: Floats, best: Floats) -> Floats:
    """[n] of what a loss fell from `first` to `best`, the share that came after `late`.

    It is `late` with the values rescaled to [0, 1], 1 the first and 0 the best: 0 where the loss never fell,
    NaN where a value is not known, or the first is the lowest: it was of an image outside the ball.
    """
    fell = first - best
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(fell > 0, (np.minimum(late, first) - best) / fell, 0.0)
    return np.where(~(fell >= 0) | np.isnan(late), np.nan, share)


def _judge(cell: Cell) -> Said | None:
    games = cell.games
    if not whole(cell):
        return Said("unchecked", "how attacks went is kept for whole games, not for earlier counts")
    if cell.threat.objective != "minimum" and decides_by_labels(cell) and _strayed(cell):
        return Said("unchecked", "an attack that walks in from outside the ball has no margins within it")
    if cell.threat.objective == "minimum" and not cell.facts:
        return Said("unchecked", "where answers are no facts the image claimed is not the nearest hit")
    going, share, what = _going(cell, games)
    if not going.any():
        return None if games.clean.all() else Said("clear", f"no games went on to their last query {what}")
    share = share[going]
    share = share[~np.isnan(share)]
    if not len(share):
        return Said("unchecked", "the log does not tell how margins and distances went")
    late = mean_of(share)
    mean = late.value
    said = (
        f"{percent(mean)} [{100 * late.low:.0f}, {100 * late.high:.0f}] of the improvement came in the last "
        f"tenth of the budget, over the {len(share)} games that went on to their last query {what}"
    )
    if mean <= MOST:
        return Said("clear", said, nearness=mean)
    return Said(
        "found", said, "Not converged: double the budget, and read the figures as those of this budget."
    )


def _strayed(cell: Cell) -> bool:
    return any(one.outside for source in cell.sources for one in source.asked)


def _going(cell: Cell, games: Games) -> tuple[Bools, Floats, str]:
    """Which games [n] went on to their last query, how they went, and which ones count, in words."""
    went = courses(cell)
    ended = ~games.clean & ~games.failed & (games.queries >= cell.at)
    if cell.threat.objective == "minimum":
        hit = ended & np.isfinite(games.distance)
        return hit, late_shares(went.distance_first, went.distance_late, games.distance), "with a hit"
    kept = ended & (games.lost(cell.verdict) <= 0.5)
    return kept, late_shares(went.margin_first, went.margin_late, went.margin_best), "and were not lost"


STILL_IMPROVING = Indicator("still-improving", False, by_cell(_judge))
