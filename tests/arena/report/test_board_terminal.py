"""Boards on the terminal."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from arena.league.board import Board
from arena.report.board_terminal import print_board
from tests.arena.report import made_boards as made


def printed(board: Board, width: int) -> str:
    text = io.StringIO()
    print_board(Console(file=text, width=width, force_terminal=True, color_system=None), board)
    return text.getvalue()


def test_what_was_found_comes_first_and_then_the_parts_in_order() -> None:
    said = printed(made.board(), 160)
    parts = (
        "A board made by hand",
        "Against the strongest of its attackers",
        "Accuracy left at 1,000 queries",
        "square",
        "worst case",
        "leaves",
        "equilibrium:",
        "audit: 3 found",
        "not checked: frozen-draws",
        "nothing found by: duplicates",
        "also at 100 queries",
    )
    places = [said.index(part) for part in parts]
    assert places == sorted(places)


def test_cells_have_intervals_marks_and_the_lucky_verdict() -> None:
    said = printed(made.board(), 160)
    assert "64.0* (54.0)² [57.1, 70.3]" in said, "strongest, answered beside vote, a finding, the interval"
    assert "71.0! (61.0)¹" in said, "no rank, and a grave finding"
    assert "40.0–50.0!" in said, "two ends"
    assert re.search(r"none .*failed", said) and "≤ failed" not in said
    assert re.search(r"aaa-sine .* – ", said), "a pair that was not played"
    assert "boundary³" in said, "a finding on all of an attacker's games"


@pytest.mark.parametrize("width", [40, 50, 80, 120, 200])
def test_no_figure_is_folded_or_cut_on_any_terminal(width: int) -> None:
    said = printed(made.board(made.matrix(9, 7)), width)
    assert "…" not in said
    assert all(len(line.rstrip()) <= width for line in said.splitlines())
    for figure in ("64.0* (54.0)²", "1–2", "90.0 [85.1, 93.4]"):
        assert figure in said
    names = [name for name in made.names(made.ATTACKERS, 9) if "long" not in name]
    assert len(names) == 8 and all(name.split()[0] in said for name in names)


def test_many_findings_of_one_kind_are_told_once_and_counted() -> None:
    findings = made.matrix().findings
    many = [replace(findings[0], defender=f"d{i}") for i in range(40)]
    said = " ".join(printed(made.board(replace(made.matrix(), findings=many)), 120).split())
    assert said.count("1 still-improving: square against d0: In 41 of 60 games") == 1
    assert "audit: 40 found" in said and "And 39 more like it, which the page tells. Play again" in said


def test_parts_that_cannot_be_said_say_why() -> None:
    bare = replace(
        made.matrix(),
        worst=[],
        defender_ranks=[],
        attacker_ranks=[],
        ratings=[],
        tests=[],
        equilibrium=None,
        findings=[],
        unsaid={"equilibrium": "no agents have met all others"},
    )
    said = printed(made.board(bare), 120)
    assert "equilibrium: not said, as no agents have met all others" in said
    tables = said.split("objective submit")[1]
    assert "audit" not in tables and "worst case" not in tables and "rating" not in tables


def test_names_cannot_control_the_terminal() -> None:
    odd = replace(made.matrix(3, 3), dataset="digits[red]")
    assert "digits[red]" in printed(made.board(odd), 120)
