"""How the games of a cell went, on the way to where they stand."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from arena.league.cells import Cell
from arena.rules.outcome import Floats


@dataclass(frozen=True, eq=False)
class CellCourses:
    """Of whole games [n], in the order of the cell's, as in `log.answers.LoggedGames`; NaN: not known."""

    flagged: Floats
    alarm_at: Floats
    duplicates: Floats
    margin_first: Floats
    margin_late: Floats
    margin_best: Floats
    distance_first: Floats
    distance_late: Floats


def courses(cell: Cell) -> CellCourses:
    """How the games of a cell went."""
    parts = [(source.games, np.lexsort((source.games.repeat, source.games.image))) for source in cell.sources]

    def column(name: str) -> Floats:
        return np.concatenate([np.asarray(getattr(own, name), np.float64)[order] for own, order in parts])

    return CellCourses(**{f.name: column(f.name) for f in fields(CellCourses)})
