"""What an indicator says, cell by cell, and how that is folded into a board's findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from arena.league.audit.roles import is_control
from arena.league.board import Finding, Status
from arena.league.cells import Cell
from arena.league.matrices import Matrix

NAMED = 6
"""Of more cells of which the same is not known, so many are named."""


@dataclass(frozen=True)
class Said:
    """What an indicator says of a cell, an agent or a matrix.

    Attributes:
        evidence: a sentence without its subject; of `unchecked`, what is missing.
        nearness: of what is `clear`, how near it comes to being found; the nearest is shown.
    """

    status: Status
    evidence: str
    advice: str = ""
    attacker: str = ""
    defender: str = ""
    nearness: float = 0.0

    @property
    def subject(self) -> str:
        """Of whom it is said, in words; "" for all."""
        return " against ".join(name for name in (self.attacker, self.defender) if name)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is audited: a matrix, and others that differ from it in epsilon alone."""

    matrix: Matrix
    siblings: Sequence[Matrix] = ()


@dataclass(frozen=True)
class Indicator:
    """A way in which an attack fails, or figures mislead, and who looks for it.

    Attributes:
        grave: where it is found, the figures of these cells say too little of the defense for a rank.
        judge: says nothing of cells to which it cannot apply.
    """

    name: str
    grave: bool
    judge: Callable[[Subject], Iterable[Said]]

    def findings(self, subject: Subject) -> list[Finding]:
        """What it found, one each; what is clear, together; what is unchecked, by what is missing."""
        said = list(self.judge(subject))
        return [self._finding(one) for one in _folded(said)]

    def _finding(self, said: Said) -> Finding:
        evidence = f"{said.subject}: {said.evidence}" if said.subject else said.evidence
        return Finding(
            self.name, said.status, self.grave, said.attacker, said.defender, evidence, said.advice
        )


def by_cell(
    judge: Callable[[Cell], Said | None], *, controls: bool = False
) -> Callable[[Subject], Iterator[Said]]:
    """An indicator's `judge` from one that looks at a cell; None where it cannot apply.

    Args:
        controls: look at attackers that are controls, too: they are there to do badly.
    """

    def judged(subject: Subject) -> Iterator[Said]:
        for cell in cells(subject.matrix):
            if not controls and is_control(cell, "attacker"):
                continue
            if (said := judge(cell)) is not None:
                yield of_cell(said, cell)

    return judged


def of_cell(said: Said, cell: Cell) -> Said:
    """`said` of a cell."""
    return Said(said.status, said.evidence, said.advice, cell.attacker, cell.defender, said.nearness)


def cells(matrix: Matrix) -> Iterator[Cell]:
    """The cells of a matrix, attacker by attacker."""
    for attacker in matrix.attackers:
        yield from matrix.of(attacker)


def whole(cell: Cell) -> bool:
    """Whether the cell's count is where its games end, so that what is kept of whole games speaks of it."""
    return all(source.threat.budget == cell.at for source in cell.sources)


def _folded(every: Sequence[Said]) -> Iterator[Said]:
    yield from (one for one in every if one.status == "found")
    clear = [one for one in every if one.status == "clear"]
    if len(clear) == 1:
        yield clear[0]
    elif clear:
        nearest = max(clear, key=lambda one: one.nearness)
        where = f"{nearest.subject}: " if nearest.subject else ""
        said = f"in none of {len(clear)} cases; nearest to it: {where}{nearest.evidence}"
        yield Said("clear", said)
    missing: dict[str, list[Said]] = defaultdict(list)
    for one in every:
        if one.status == "unchecked":
            missing[one.evidence].append(one)
    for evidence, of in missing.items():
        if len(of) == 1:
            yield of[0]
        else:
            yield Said("unchecked", evidence if len(of) == len(every) else f"{evidence}: {_named(of)}")


def _named(said: Sequence[Said]) -> str:
    subjects = list(dict.fromkeys(one.subject for one in said))
    named = ", ".join(subjects[:NAMED])
    return named + (f" and {len(subjects) - NAMED} more" if len(subjects) > NAMED else "")
