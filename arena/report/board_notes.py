"""Findings of an audit as notes to the cells of a matrix, one number an indicator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arena.league.board import Finding, MatrixBoard, Status


@dataclass(frozen=True)
class Note:
    """What an indicator found.

    Attributes:
        number: its mark in the tables, from 1, grave ones first.
        advice: the distinct ones of its findings.
    """

    number: int
    indicator: str
    grave: bool
    findings: tuple[Finding, ...]
    advice: tuple[str, ...]


@dataclass(frozen=True)
class Same:
    """Findings of one indicator, not `found`, that say the same of several agents or cells."""

    indicator: str
    grave: bool
    evidence: str
    of: tuple[str, ...]


class Notes:
    """The findings of a matrix.

    Attributes:
        found: by indicator, grave first.
        unchecked, clear: what could not be looked at, and what showed nothing.
    """

    def __init__(self, matrix: MatrixBoard) -> None:
        by: dict[str, list[Finding]] = {}
        for finding in matrix.findings:
            if finding.status == "found":
                by.setdefault(finding.indicator, []).append(finding)
        order = sorted(by, key=lambda name: not any(finding.grave for finding in by[name]))
        self.found = [_note(number, name, by[name]) for number, name in enumerate(order, 1)]
        self.unchecked = _alike(matrix.findings, "unchecked")
        self.clear = _by_indicator(matrix.findings, "clear")
        self._at: dict[tuple[str, str], list[tuple[Note, Finding]]] = {}
        for note in self.found:
            for finding in note.findings:
                self._at.setdefault((finding.attacker, finding.defender), []).append((note, finding))

    def at(self, attacker: str, defender: str) -> list[tuple[Note, Finding]]:
        """What was found of just this cell, of an agent ("" for the other side), or of the matrix ("" for
        both)."""
        return self._at.get((attacker, defender), [])

    def of_cell(self, attacker: str, defender: str) -> list[tuple[Note, Finding]]:
        """All that concerns a cell: of itself, of its agents, and of the whole matrix."""
        pairs = ((attacker, defender), (attacker, ""), ("", defender), ("", ""))
        return [own for pair in pairs for own in self.at(*pair)]

    def of_agent(self, agent: str) -> list[tuple[Note, Finding]]:
        """All that names an agent."""
        return [pair for names, pairs in self._at.items() if agent in names for pair in pairs]

    @property
    def things(self) -> int:
        """How many findings there are."""
        return sum(len(note.findings) for note in self.found)


def marks(found: Sequence[tuple[Note, Finding]]) -> list[Note]:
    """The notes to put to a cell, each once."""
    return sorted({note.number: note for note, _ in found}.values(), key=lambda note: note.number)


def told(finding: Finding) -> str:
    """Of whom a finding speaks, once, and its evidence."""
    who = whom(finding)
    evidence = sentence(finding.evidence)
    return evidence if evidence.startswith(who) else f"{who}: {evidence}"


def sentence(text: str) -> str:
    """A text with the full stop that it may lack."""
    return text if not text or text[-1] in ".!?" else f"{text}."


def whom(finding: Finding) -> str:
    """Of whom a finding speaks."""
    if finding.attacker and finding.defender:
        return f"{finding.attacker} against {finding.defender}"
    return finding.attacker or finding.defender or "all cells"


def _note(number: int, indicator: str, findings: Sequence[Finding]) -> Note:
    grave = any(finding.grave for finding in findings)
    ordered = tuple(sorted(findings, key=lambda finding: not finding.grave))
    advice = tuple(dict.fromkeys(finding.advice for finding in ordered if finding.advice))
    return Note(number, indicator, grave, ordered, advice)


def _alike(findings: Sequence[Finding], status: Status) -> list[Same]:
    same: dict[tuple[str, bool, str], list[str]] = {}
    for finding in findings:
        if finding.status == status:
            same.setdefault((finding.indicator, finding.grave, finding.evidence), []).append(whom(finding))
    found = [Same(*key, tuple(of)) for key, of in same.items()]
    return sorted(found, key=lambda one: not one.grave)


def _by_indicator(findings: Sequence[Finding], status: Status) -> list[Same]:
    """One each; its evidence where there is but one."""
    by: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.status == status:
            by.setdefault(finding.indicator, []).append(finding)
    return [
        Same(name, any(f.grave for f in own), own[0].evidence if len(own) == 1 else "", tuple(map(whom, own)))
        for name, own in by.items()
    ]
