"""Votes too near one half to tell who won."""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from arena.league.audit.figures import counted, exceeds
from arena.league.audit.said import Indicator, Said, by_cell
from arena.league.cells import Cell
from arena.rules.outcome import Bools, Ints

MOST = 0.1
"""Found from a larger share of the games with a vote."""


def undecided(wrong: Ints, asked: Ints) -> Bools:
    """[n] whether the exact 95 % interval (Clopper and Pearson 1934) of a share holds one half."""
    low = np.where(wrong > 0, betaincinv(wrong, asked - wrong + 1, 0.025), 0.0)
    high = np.where(wrong < asked, betaincinv(wrong + 1, asked - wrong, 0.975), 1.0)
    return np.asarray((low <= 0.5) & (high >= 0.5))


def _judge(cell: Cell) -> Said | None:
    if cell.facts:
        return None
    games = cell.games
    asked, wrong = games.asked.sum(axis=1), games.wrong.sum(axis=1)
    voted = ~games.clean & (asked > 0)
    total = int(voted.sum())
    if not total:
        return Said("unchecked", "no final image lay in the ball, so none was voted on")
    doubtful = undecided(wrong[voted], asked[voted])
    count = int(doubtful.sum())
    said = f"{counted(count, total, 'votes')} leave open whether most answers are wrong"
    if not exceeds(count, total, MOST):
        return Said("clear", said, nearness=count / total)
    few = int(np.median(asked[voted]))
    return Said("found", f"{said}, with {few} answers each", "Ask for more votes (`votes` of the scenario).")


UNSTABLE_VOTES = Indicator("unstable-votes", False, by_cell(_judge))
