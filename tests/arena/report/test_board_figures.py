"""Figures and words of cells, ranks and mixtures."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from arena.league.board import MatrixBoard, Rank
from arena.league.rates import Median, Rate
from arena.report import board_figures as figures
from arena.rules.threat import Threat
from tests.arena.report import made_boards as made


@pytest.fixture
def matrix() -> MatrixBoard:
    return made.matrix()


def test_a_cell_is_said_by_its_headline_with_answered_beside_it_where_that_says_less() -> None:
    facts, random = (made.cell(0, d, 100, "square", "x") for d in (0, 1))
    assert figures.short(facts, False) == "15.0" and figures.beside(facts) == ""
    assert figures.short(random, False) == "64.0" and figures.beside(random) == "54.0"
    assert figures.interval(random, False) == "[57.1, 70.3]"
    same = replace(random, left={**random.left, "answered": random.left["vote"]})
    assert figures.beside(same) == ""


def test_two_ends_are_a_range_without_an_interval_and_without_a_figure_beside_them() -> None:
    cell = made.cell(0, 1, 100, "square", "snd", two_ends=True)
    assert figures.short(cell, False) == "54.0–64.0"
    assert figures.interval(cell, False) == "" == figures.beside(cell)


def test_a_cell_all_of_whose_games_failed_has_no_figure_but_one_with_a_hit_has() -> None:
    lost = {verdict: Rate(0.0, 0.0, 0.1) for verdict in ("answered", "vote", "base")}
    failed = made.cell(0, 0, 100, "square", "none", failed=190, success=lost)
    assert figures.hollow(failed) and figures.short(failed, False) == "failed"
    hit = replace(failed, success={**lost, "answered": Rate(0.01, 0.0, 0.1)})
    assert not figures.hollow(hit) and figures.weak(hit)
    assert not figures.weak(replace(hit, failed=18)), "below a tenth of 190 games"
    assert figures.weak(replace(hit, failed=19))


def test_distances_are_said_where_they_are_what_counts() -> None:
    cell = made.cell(0, 0, 100, "square", "none", distance=Median(0.5, 0.25, math.inf))
    assert figures.short(cell, True) == "0.5" and figures.interval(cell, True) == "[0.25, ∞]"
    assert figures.short(cell, False) == "15.0"


def test_a_rank_is_a_place_or_those_that_are_open_or_none() -> None:
    rate = Rate(0.5, 0.4, 0.6)
    settled, open_, none = Rank("a", rate, 1, 1), Rank("b", rate, 2, 3), Rank("c", rate, 1, 3, "no games")
    assert [figures.place(rank) for rank in (settled, open_, none)] == ["1", "2–3", "–"]
    assert figures.open_ranks([settled]) == "Every rank is settled."
    assert figures.open_ranks([settled, open_, none]) == (
        "1 of 2 ranks are settled; a range says which places the tests leave open. Without a rank: c."
    )


def test_what_ranks_are_of_has_its_unit(matrix: MatrixBoard) -> None:
    assert figures.figure(matrix, Rate(0.5, 0.4, 0.6)) == "50.0 [40.0, 60.0]"
    assert figures.figure(matrix, Rate(math.nan, 0, 1)) == "–"
    near = replace(matrix, by="distance", threat=Threat(epsilon="inf", objective="minimum", budget=10))
    assert figures.figure(near, Median(2.5, 1.25, math.inf)) == "2.5 [1.25, ∞]"
    assert "distance" in figures.ranked(near) and "distance" in figures.caption(near)


def test_matrices_of_one_world_and_threat_are_together_and_others_apart(matrix: MatrixBoard) -> None:
    fewer = made.matrix(at=100)
    other = replace(fewer, threat=Threat(norm="l2", epsilon=1.0, budget=100))
    groups = figures.worlds(made.board(matrix, fewer, other))
    assert [[m.at for m in group] for group in groups] == [[1000, 100], [100]]
    cells = {
        pair: replace(cell, facts=({**cell.facts[0], "classifier_sha": "other"},))
        for pair, cell in fewer.cells.items()
    }
    assert len(figures.worlds(made.board(matrix, replace(fewer, cells=cells)))) == 2


def test_the_mixture_is_said_with_all_that_it_was_bound_by(matrix: MatrixBoard) -> None:
    found = made.equilibrium(matrix.attackers, matrix.defenders)
    found = replace(found, caps={"accuracy": 1.5, "delay": None}, prices={"accuracy": 0.2, "delay": 13.52})
    said = figures.capped(found)
    assert said == (
        "Under caps: lost clean accuracy at most 1.5 points. "
        "The mixture costs: lost clean accuracy about 0.2 points and delay about 14 times the undefended."
    )
    assert figures.capped(replace(found, caps={}, prices={})) == "No cap on lost accuracy or delay was set."
    said = figures.mixture(replace(found, gain=Rate(0.063, -0.02, 0.14)))
    for part in (
        "61.3 [55.0, 67.0]",
        "snd (sigma=0.01), keeps 55.0",
        "6.3 [-2.0, 14.0] points",
        "2.1 [0.0, 6.0]",
    ):
        assert part in said


def test_the_caption_names_the_verdicts(matrix: MatrixBoard) -> None:
    assert "by answered where the same image always gets the same answer, else by vote" in figures.caption(
        matrix
    )
    facts = {pair: cell for pair, cell in matrix.cells.items() if cell.verdict == "answered"}
    assert ", by answered, with" in figures.caption(replace(matrix, cells=facts))
