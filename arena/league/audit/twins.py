"""Adaptive attackers that do worse than the plain ones that they adapt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from arena.league.audit.comparing import compared
from arena.league.audit.roles import tells_twin, twin_of
from arena.league.audit.said import Indicator, Said, Subject, cells, of_cell
from arena.league.cells import Cell
from arena.league.matrices import Matrix


def _judge(subject: Subject) -> Iterator[Said]:
    for cell in cells(subject.matrix):
        if not tells_twin(cell):
            yield of_cell(Said("unchecked", "the log does not tell which plain attacker it adapts"), cell)
        elif (twin := twin_of(cell)) is not None:
            yield of_cell(_against(cell, twin, subject.matrix), cell)


def _against(cell: Cell, twin: Mapping[str, Any], matrix: Matrix) -> Said:
    plain, differing = _played(cell, twin, matrix)
    if plain is None or (pair := compared(cell, plain)) is None:
        return Said(
            "unchecked", f"its plain twin {twin['attacker']} did not play the same images under these rules"
        )
    other = f" (with other {', '.join(differing)})" if differing else ""
    said = f"beside its plain twin {plain.attacker}{other}: {pair.text}"
    if pair.behind:
        advice = (
            "The adaptation is at fault: rank the defense by the plain attack, and mend the adaptive one."
        )
        return Said("found", said, advice)
    return Said("clear", said, nearness=-abs(pair.own - pair.other))


def _played(cell: Cell, twin: Mapping[str, Any], matrix: Matrix) -> tuple[Cell | None, list[str]]:
    """The cell of the twin against the same defender, of several that of most equal parameters, and the
    parameters in which it differs."""
    best: tuple[Cell | None, list[str]] = (None, [])
    for other in matrix.against(cell.defender):
        info = other.sources[0].match.info
        if info.attacker != twin["attacker"]:
            continue
        keys = dict.fromkeys([*twin["params"], *info.attacker_params])
        differing = [key for key in keys if twin["params"].get(key) != info.attacker_params.get(key)]
        if best[0] is None or len(differing) < len(best[1]):
            best = other, differing
    return best


BELOW_TWIN = Indicator("below-twin", False, _judge)
