"""Silent success: a hit on the way, but not in the final image."""

from __future__ import annotations

from arena.league.audit.figures import counted, exceeds
from arena.league.audit.said import Indicator, Said, by_cell
from arena.league.cells import Cell

MOST = 0.05
"""Found from a larger share of the games played."""


def _judge(cell: Cell) -> Said | None:
    games = cell.games
    played = ~games.clean
    total = int(played.sum())
    if not total:
        return None
    silent = played & games.answered & (games.vote <= 0.5) & ~games.base
    count = int(silent.sum())
    said = (
        f"{counted(count, total, 'games')} had a hit on the way, but the final image fools neither the "
        f"defense nor the classifier"
    )
    if not exceeds(count, total, MOST):
        return Said("clear", said, nearness=count / total)
    advice = (
        "Let the attack hand in the image that was answered wrong, and play again."
        if cell.facts
        else "Those hits were luck: read `vote`, not `answered`, and let the attack claim repeated images."
    )
    return Said("found", said, advice)


SILENT_SUCCESS = Indicator("silent-success", False, by_cell(_judge))
