"""Games that the attack ended with queries left, though their images lose their votes."""

from __future__ import annotations

import numpy as np

from arena.league.audit.figures import counted, exceeds
from arena.league.audit.said import Indicator, Said, by_cell
from arena.league.cells import Cell
from arena.records.evidence import lost_early

MOST = 0.05
"""Found from a larger share of the games played."""


def _judge(cell: Cell) -> Said | None:
    if cell.facts:
        return None
    games = cell.games
    played = ~games.clean
    total = int(played.sum())
    if not total:
        return None
    early = lost_early(games.reason, games.queries, games.vote, cell.at) & played
    count = int(early.sum())
    said = f"{counted(count, total, 'games')} ended with queries left and an image that loses its vote"
    if not exceeds(count, total, MOST):
        return Said("clear", said, nearness=count / total)
    unused = int(np.median(cell.at - games.queries[early]))
    advice = (
        "The rule of objective `first` ends games at a lucky answer: play `submit` or `minimum`."
        if cell.threat.objective == "first"
        else "Let the attack repeat an image before it stands by it (docs/attackers.md), and play again."
    )
    return Said("found", f"{said}, at the median {unused} queries early", advice)


STOPPED_EARLY = Indicator("stopped-early", True, by_cell(_judge))
