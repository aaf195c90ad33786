from __future__ import annotations

from typing import Any

import pytest

from arena.league.board import Finding, Status
from arena.league.cells import Cell, Source
from arena.league.matrices import matrices
from arena.league.standing import NOT_PLAYED, rankable, reasons, withheld
from tests.arena.league.made import THREAT, match


def cell(*sources: Source) -> Cell:
    (matrix,) = matrices(list(sources), counts=[100])
    return next(iter(matrix.cells.values()))


def finding(attacker: str = "", defender: str = "", status: Status = "found", grave: bool = True) -> Finding:
    return Finding("silent", status, grave, attacker, defender, "9 of 10 games.")


FIRST = THREAT.model_copy(update={"objective": "first"})


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ([match(won=[1, 0])], ""),
        ([match(won=[1, 0], shards=(1, 3))], "1 of 3 shards are finished"),
        ([match(won=[0, 0], reason=["error"] * 2)], "every game failed"),
        ([match(won=[0.2, 0], votes=25, threat=FIRST)], "two ends"),
        ([match(won=[1, 0]), match(won=[1, 1], run=2)], "1 of 2 games came out otherwise"),
    ],
)
def test_why_a_cell_gets_no_rank(sources: list[Source], said: str) -> None:
    found = withheld(cell(*sources), [])
    assert said in found and bool(found) == bool(said)


@pytest.mark.parametrize(
    ("given", "ranked"),
    [
        ({}, False),
        ({"attacker": "att"}, False),
        ({"defender": "def"}, False),
        ({"attacker": "att", "defender": "def"}, False),
        ({"attacker": "other"}, True),
        ({"attacker": "att", "defender": "other"}, True),
        ({"status": "clear"}, True),
        ({"status": "unchecked"}, True),
        ({"grave": False}, True),
    ],
)
def test_only_grave_findings_of_the_cell_withhold_its_rank(given: dict[str, Any], ranked: bool) -> None:
    said = withheld(cell(match(won=[1, 0])), [finding(**given)])
    assert said == ("" if ranked else "audit, silent: 9 of 10 games.")


def test_only_cells_with_a_rank_stand_beside_each_other() -> None:
    (matrix,) = matrices(
        [match("a", "x", [1, 0]), match("a", "y", [0, 0], shards=(0, 1)), match("b", "x", [1, 1])]
    )
    why = {pair: withheld(own, []) for pair, own in matrix.cells.items()}
    found = rankable(matrix, why)
    assert found.attackers == ("a", "b") and found.defenders == ("x", "y")
    assert found.there.tolist() == [[True, False], [True, False]]
    assert reasons(matrix, why) == {("b", "y"): NOT_PLAYED, ("a", "y"): "0 of 1 shards are finished"}
