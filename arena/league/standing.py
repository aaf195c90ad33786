"""Which cells of a matrix may be ranked, and why others may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from arena.league.board import Finding
from arena.league.cells import Cell
from arena.league.grid import Grid, grid
from arena.league.matrices import Matrix

NOT_PLAYED = "they did not meet at this query count"


def withheld(cell: Cell, findings: Sequence[Finding]) -> str:
    """Why a cell gets no rank; "" if it does."""
    if cell.conflicts:
        return cell.conflicts[0]
    if not len(cell.games):
        return "it holds no games"
    if not cell.whole:
        done, planned = (
            sum(counts) for counts in zip(*(source.shards for source in cell.sources), strict=True)
        )
        return f"{done} of {planned} shards are finished"
    if cell.hollow:
        return "every game failed, so that what is left says nothing of the defense"
    if cell.two_ends:
        return "answers are not facts, and objective first leaves but two ends of what is left"
    if _votes_in_one(cell):
        return "a vote has but one fresh answer, so that none can choose while another values"
    for finding in findings:
        if finding.grave and finding.status == "found" and _speaks_of(finding, cell):
            return f"audit, {finding.indicator}: {finding.evidence}"
    return ""


def _votes_in_one(cell: Cell) -> bool:
    """Whether votes on answers that are no facts have no second half."""
    asked = cell.games.asked
    return not cell.facts and bool((asked.sum(axis=1) > 0).any()) and not asked[:, 1].any()


def _speaks_of(finding: Finding, cell: Cell) -> bool:
    return finding.attacker in ("", cell.attacker) and finding.defender in ("", cell.defender)


def rankable(matrix: Matrix, why: Mapping[tuple[str, str], str]) -> Grid:
    """The cells that may be ranked, beside each other, of all agents of the matrix.

    Args:
        why: by pair why its cell may not be ranked, "" if it may.
    """
    return grid(matrix.attackers, matrix.defenders, [c for pair, c in matrix.cells.items() if not why[pair]])


def reasons(matrix: Matrix, why: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Why each pair of the matrix that cannot be ranked cannot."""
    return dict.fromkeys(matrix.missing, NOT_PLAYED) | {pair: said for pair, said in why.items() if said}


def why_not(cannot: Mapping[tuple[str, str], str], side: int, name: str) -> str:
    """Why an agent has no cell that may be ranked: the first reason that is not that it was not played; "" if
    there is none.

    Args:
        cannot: `reasons`; side: 0 of attackers, 1 of defenders.
    """
    own = [said for pair, said in cannot.items() if pair[side] == name]
    return next((said for said in own if said != NOT_PLAYED), next(iter(own), ""))
