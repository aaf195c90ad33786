"""Answers that are declared facts and contradict each other."""

from __future__ import annotations

import numpy as np

from arena.league.audit.figures import counted
from arena.league.audit.said import Indicator, Said, by_cell
from arena.league.cells import Cell


def _judge(cell: Cell) -> Said | None:
    """Where answers are facts, the image that was answered wrong is answered wrong again, whoever asks; what
    an attacker hands in may be another image."""
    if not cell.facts:
        return None
    games = cell.games
    handed_in = np.array([why == "submitted" for why in games.reason], np.bool_)
    hit = ~games.clean & games.answered & ~handed_in & (games.asked.sum(axis=1) > 0)
    total, count = int(hit.sum()), int((hit & (games.vote < 1)).sum())
    if not total:
        return None
    said = f"{counted(count, total, 'games with a hit')} stand by an image that a new client gets right"
    if not count:
        return Said("clear", said)
    advice = (
        "The same image got two answers: the defender is random or remembers, though it says that it does "
        "neither; have it declare that, and play again."
    )
    return Said("found", said, advice)


NOT_FACTS = Indicator("not-facts", True, by_cell(_judge, controls=True))
