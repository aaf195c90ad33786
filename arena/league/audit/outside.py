"""Wrong answers outside the ball, for an attack that has to stay within it."""

from __future__ import annotations

from arena.league.audit.figures import counted
from arena.league.audit.roles import decides_by_labels
from arena.league.audit.said import Indicator, Said, by_cell, whole
from arena.league.cells import Cell
from arena.records.evidence import misses_ball


def _judge(cell: Cell) -> Said | None:
    if cell.threat.objective == "minimum":
        return None
    if not whole(cell):
        return Said("unchecked", "wrong answers outside the ball are counted over whole games only")
    counts = [one for source in cell.sources for one in source.asked]
    if any(one.hits is None or one.outside is None for one in counts):
        return Said("unchecked", "the log does not tell which wrong answers lay outside the ball")
    outside = sum(one.outside or 0 for one in counts)
    wrong = outside + sum(one.hits or 0 for one in counts)
    played = ~cell.games.clean
    if not wrong or not played.any():
        return Said("clear", "no answer was wrong outside the ball")
    hit = float(cell.games.answered[played].mean())
    said = f"{counted(outside, wrong, 'wrong answers')} lay outside the ball"
    labels = cell.threat.model_copy(update={"feedback": "label"}) if decides_by_labels(cell) else cell.threat
    if not misses_ball(labels, outside, wrong, hit):
        return Said("clear", said, nearness=outside / wrong)
    return Said("found", said, "Project what the attack sends into the ball of this threat, and play again.")


OUTSIDE_BALL = Indicator("outside-ball", True, by_cell(_judge))
