"""Which agents are controls, and which attacker adapts which, as logs tell it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from arena.league.cells import Cell
from arena.league.matrices import Matrix


def tells_twin(cell: Cell) -> bool:
    """Whether the log tells which attacker a cell's attacker adapts, if any."""
    return "twin" in _roles(cell)


def twin_of(cell: Cell) -> Mapping[str, Any] | None:
    """The plain attacker that a cell's attacker adapts: its name as `attacker`, and `params`."""
    twin: Mapping[str, Any] | None = _roles(cell).get("twin")
    return twin


def decides_by_labels(cell: Cell) -> bool:
    """Whether the cell's attacker needs no more than labels; where the log does not tell, by the threat."""
    return str(_roles(cell).get("feedback", cell.threat.feedback)) == "label"


def is_control(cell: Cell, side: str) -> bool:
    """Whether the cell's attacker or defender is a control."""
    return bool(_roles(cell).get("controls", {}).get(side))


def control_attackers(matrix: Matrix) -> list[str]:
    """The attackers of a matrix that search nothing."""
    return [
        name for name in matrix.attackers if any(is_control(cell, "attacker") for cell in matrix.of(name))
    ]


def control_defenders(matrix: Matrix) -> list[str]:
    """The defenders of a matrix that defend nothing."""
    names = matrix.defenders
    return [name for name in names if any(is_control(cell, "defender") for cell in matrix.against(name))]


def _roles(cell: Cell) -> Mapping[str, Any]:
    return dict(cell.sources[0].match.info.facts.get("roles") or {})
