"""Findings as numbered notes."""

from __future__ import annotations

from dataclasses import replace

from arena.league.board import Finding
from arena.report.board_notes import Notes, marks, sentence, told, whom
from tests.arena.report import made_boards as made


def found(indicator: str, grave: bool = False, a: str = "", d: str = "", status: str = "found") -> Finding:
    return Finding(indicator, status, grave, a, d, f"{indicator} of {a}/{d}.", "Mend it.")  # type: ignore[arg-type]


def notes(*findings: Finding) -> Notes:
    return Notes(replace(made.matrix(), findings=findings))


def test_notes_are_numbered_by_indicator_grave_ones_first() -> None:
    own = notes(found("b", a="x", d="y"), found("c", True, "x", "y"), found("b", a="x", d="z"))
    assert [(n.number, n.indicator, n.grave, len(n.findings)) for n in own.found] == [
        (1, "c", True, 1),
        (2, "b", False, 2),
    ]
    assert own.things == 3 and own.found[1].advice == ("Mend it.",)


def test_a_cell_has_its_own_marks_and_is_told_what_concerns_its_agents() -> None:
    own = notes(found("cell", a="x", d="y"), found("attacker", a="x"), found("defender", d="y"), found("all"))
    assert [note.indicator for note in marks(own.at("x", "y"))] == ["cell"]
    assert [note.indicator for note in marks(own.at("x", ""))] == ["attacker"]
    assert [note.indicator for note, _ in own.of_cell("x", "y")] == ["cell", "attacker", "defender", "all"]
    assert [note.indicator for note, _ in own.of_cell("other", "z")] == ["all"]
    assert [note.indicator for note, _ in own.of_agent("y")] == ["cell", "defender"]


def test_what_was_not_checked_is_told_with_its_reason_once_and_never_among_what_is_clear() -> None:
    unchecked = [found("frozen", True, a, "y", "unchecked") for a in "ab"]
    same = [replace(f, evidence="it needs play") for f in unchecked]
    own = notes(*same, replace(unchecked[0], evidence="too few games"), found("few", status="clear"))
    assert [(s.indicator, s.evidence, len(s.of)) for s in own.unchecked] == [
        ("frozen", "it needs play", 2),
        ("frozen", "too few games", 1),
    ]
    assert [(s.indicator, s.of) for s in own.clear] == [("few", ("all cells",))]
    assert not own.found and not own.at("a", "y")


def test_of_whom_a_finding_speaks() -> None:
    assert [whom(found("i", a=a, d=d)) for a, d in (("x", "y"), ("x", ""), ("", "y"), ("", ""))] == [
        "x against y",
        "x",
        "y",
        "all cells",
    ]


def test_of_whom_a_finding_speaks_is_told_once_and_sentences_end() -> None:
    own = found("i", a="x", d="y")
    assert told(replace(own, evidence="3 of 4")) == "x against y: 3 of 4."
    assert told(replace(own, evidence="x against y: 3 of 4.")) == "x against y: 3 of 4."
    assert [sentence(text) for text in ("a", "a.", "a?", "")] == ["a.", "a.", "a?", ""]
