"""Games that failed: they count as kept, though nothing defended them."""

from __future__ import annotations

from collections import Counter

from arena.league.audit.figures import counted, exceeds
from arena.league.audit.said import Indicator, Said, by_cell
from arena.league.cells import Cell
from arena.rules.outcome import FAILED

MOST = 0.05
"""Found from a larger share of the games played."""


def _judge(cell: Cell) -> Said | None:
    games = cell.games
    played = int((~games.clean).sum())
    if not played:
        return None
    lost_to_nobody = games.failed & ~games.answered
    failed = int(lost_to_nobody.sum())
    said = f"{counted(failed, played, 'games')} failed without a hit"
    if not exceeds(failed, played, MOST):
        return Said("clear", said, nearness=failed / played)
    reasons = Counter(why for why, gone in zip(games.reason, lost_to_nobody, strict=True) if gone)
    ended = ", ".join(f"{reasons[why]} with {why}" for why in FAILED if reasons[why])
    return Said(
        "found", f"{said} ({ended})", "Mend the attacker, or grant it starting images, and play again."
    )


FAILED_GAMES = Indicator("failed-games", True, by_cell(_judge, controls=True))
