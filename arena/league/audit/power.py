"""Neighbouring ranks that too few games tell apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from arena.league.audit.comparing import together
from arena.league.audit.figures import percent
from arena.league.audit.roles import control_attackers, control_defenders
from arena.league.audit.said import Indicator, Said, Subject
from arena.league.cells import Cell
from arena.league.matrices import Matrix
from arena.rules.outcome import Floats
from arena.statistics import paired_difference

Z_BOTH, Z_POWER = 1.959964, 0.841621
"""Of a test at the two-sided 5 % level that finds a difference four times of five."""

MOST_IMAGES = 1_000_000
"""More than any data set holds: whom it takes so many to tell apart is called equal."""


def images_needed(difference: Floats) -> float:
    """How many images tell a mean paired difference from 0 at the two-sided 5 % level with a power of 80 %:
    ((z_.975 + z_.8) s / mean)^2, of differences [n] with standard deviation s; infinite for a mean of 0."""
    mean = float(difference.mean())
    if len(difference) < 2 or mean == 0:
        return math.inf
    return ((Z_BOTH + Z_POWER) * float(difference.std(ddof=1)) / mean) ** 2


def _judge(subject: Subject) -> Iterator[Said]:
    matrix = subject.matrix
    if matrix.threat.objective == "minimum":
        return  # defenders are ranked by distance there, without an accuracy left
    strongest = _strongest(matrix)
    if len(strongest) < 2:
        yield Said("unchecked", "fewer than two defenders are there to be ranked")
        return
    ordered = sorted(strongest, key=lambda cell: float(cell.games.lost(cell.verdict).mean()))
    for better, worse in itertools.pairwise(ordered):
        yield _between(better, worse)


def _strongest(matrix: Matrix) -> list[Cell]:
    """For each defender to be ranked, the cell of the attacker that alone leaves the least."""
    idle, plain = set(control_attackers(matrix)), set(control_defenders(matrix))
    found = []
    for defender in matrix.defenders:
        own = [cell for cell in matrix.against(defender) if cell.attacker not in idle and len(cell.games)]
        if own and defender not in plain:
            found.append(max(own, key=lambda cell: float(cell.games.lost(cell.verdict).mean())))
    return found


def _between(better: Cell, worse: Cell) -> Said:
    kept, lost = together(better, worse, drawn=True)
    if not len(kept):
        return Said("unchecked", f"it and {worse.defender} share no image", defender=better.defender)
    low, high = paired_difference(kept, lost)
    mean = float((lost - kept).mean())
    said = (
        f"above {worse.defender} by {100 * mean:.1f} points [{100 * low:.0f}, {100 * high:.0f}] of accuracy "
        f"left by the strongest attack ({percent(1 - kept.mean())}, {percent(1 - lost.mean())}) "
        f"over {len(kept)} images"
    )
    if low > 0 or high < 0:
        return Said("clear", said, defender=better.defender, nearness=-abs(mean))
    needed = images_needed(lost - kept)
    if needed > MOST_IMAGES:
        return Said("found", said, "Call them equal: nothing tells them apart.", defender=better.defender)
    more = f"Show them as equal, or play about {math.ceil(needed):,} images to tell them apart."
    return Said("found", said, more, defender=better.defender)


TOO_FEW_GAMES = Indicator("too-few-games", False, _judge)
