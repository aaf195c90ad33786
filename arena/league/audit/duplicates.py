"""Queries that repeat an earlier one of the same game."""

from __future__ import annotations

import numpy as np

from arena.league.audit.courses import courses
from arena.league.audit.figures import percent
from arena.league.audit.said import Indicator, Said, by_cell, whole
from arena.league.cells import Cell

MOST = 0.05
"""Found from a larger share of the queries."""


def _judge(cell: Cell) -> Said | None:
    if not cell.facts:
        return None  # there a repeat may get another answer, and is how luck is told from success
    if not whole(cell):
        return Said("unchecked", "repeated queries are counted over whole games only")
    games = cell.games
    repeated = courses(cell).duplicates
    known = ~games.clean & ~np.isnan(repeated)
    asked = int(games.queries[known].sum())
    if not asked:
        return Said("unchecked", "the log does not tell which queries repeat earlier ones")
    share = float(repeated[known].sum()) / asked
    said = (
        f"{percent(share)} of {asked:,} queries repeat an earlier one of their game, whose answer is a fact"
    )
    if share <= MOST:
        return Said("clear", said, nearness=share)
    return Said("found", said, "They are wasted: let the attack keep what it was answered.")


DUPLICATES = Indicator("duplicates", False, by_cell(_judge))
