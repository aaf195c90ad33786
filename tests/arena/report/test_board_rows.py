"""Boards as rows and as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from sqlalchemy import BigInteger, Boolean, Double, String

from arena.league.rates import Median
from arena.report.board_rows import CELLS, RANKS, as_json, cell_rows, columns, rank_rows
from arena.rules.threat import NamedNetwork, Threat
from tests.arena.report import made_boards as made

BOARD = made.board(made.matrix(3, 3))
MATRIX = BOARD.matrices[0]


def test_a_row_a_cell_and_verdict_with_the_headline_marked() -> None:
    rows = [dict(zip(CELLS, row, strict=True)) for row in cell_rows(BOARD)]
    assert len(rows) == sum(len(cell.left) for cell in MATRIX.cells.values())
    own = [row for row in rows if (row["attacker"], row["defender"]) == ("square", "snd (sigma=0.01)")]
    assert [(row["verdict"], row["headline"]) for row in own] == [
        ("answered", False),
        ("vote", True),
        ("base", False),
    ]
    cell = MATRIX.cells["square", "snd (sigma=0.01)"]
    vote = own[1]
    assert (vote["left"], vote["left_low"], vote["left_high"]) == (
        cell.left["vote"].value,
        cell.left["vote"].low,
        cell.left["vote"].high,
    )
    assert vote["at"] == 1000 and vote["epsilon"] == 8 / 255 and vote["norm"] == "linf"
    assert vote["findings"] == "still-improving" and vote["sources"] == "one.db, run 1, match 1"
    assert vote["distance"] is None


def test_distances_stand_at_the_headline_alone_and_may_be_infinite() -> None:
    cell = made.cell(0, 1, 10, "a", "d", distance=Median(math.inf, 0.5, math.inf))
    board = made.board(replace(MATRIX, cells={("a", "d"): cell}))
    rows = [dict(zip(CELLS, row, strict=True)) for row in cell_rows(board)]
    assert [row["distance"] for row in rows] == [None, math.inf, None]


def test_a_row_an_agent_with_its_rank_or_why_it_has_none() -> None:
    rows = [dict(zip(RANKS, row, strict=True)) for row in rank_rows(BOARD)]
    assert [(row["side"], row["agent"]) for row in rows] == [
        *(("defender", d) for d in MATRIX.defenders),
        *(("attacker", a) for a in MATRIX.attackers),
    ]
    first, last = rows[0], rows[2]
    assert (first["rank_low"], first["rank_high"], first["rating"]) == (1, 2, 1400)
    assert last["withheld"] == "it lacks a cell" and last["rank_low"] is None and last["figure"] is None


def test_columns_have_types_and_no_name_is_there_twice() -> None:
    for names in (CELLS, RANKS):
        assert len(set(names)) == len(names)
    kinds = {column.name: type(column.type) for column in columns([*CELLS, *RANKS])}
    assert kinds["at"] is BigInteger and kinds["headline"] is Boolean
    assert kinds["left"] is Double and kinds["sources"] is String and kinds["rank_low"] is BigInteger
    for names, rows in ((CELLS, cell_rows(BOARD)), (RANKS, rank_rows(BOARD))):
        for row in rows:
            for column, value in zip(columns(names), row, strict=True):
                assert value is None or isinstance(
                    value, (str if isinstance(column.type, String) else int | float)
                )


def test_json_holds_everything_and_is_json_even_where_numbers_are_not() -> None:
    matrix = replace(MATRIX, threat=Threat(epsilon="inf", objective="minimum", budget=1000))
    cell = made.cell(0, 1, 10, "a", "d", distance=Median(math.inf, 0.5, math.inf))
    told = json.loads(
        json.dumps(as_json(made.board(replace(matrix, cells={("a", "d"): cell}))), allow_nan=False)
    )
    own = told["matrices"][0]
    assert own["threat"]["epsilon"] == "inf"
    assert own["cells"][0]["attacker"] == "a" and own["cells"][0]["distance"]["value"] == "inf"
    assert own["defender_ranks"][-1]["figure"]["value"] is None
    assert own["missing"] == [["eot (repeats=5)", "predcoin"]]
    assert own["findings"][0]["indicator"] == "still-improving"
    assert told["sentences"] == list(BOARD.sentences)


def test_reference_networks_have_a_column() -> None:
    named = [NamedNetwork.model_validate({"network": n, "sha": n * 16}) for n in "ab"]
    helped = made.board(replace(MATRIX, threat=MATRIX.threat.with_surrogates(named)))
    for board, known, networks in (
        (BOARD, "none", ""),
        (helped, "surrogates", f"a ({'a' * 12}), b ({'b' * 12})"),
    ):
        for names, rows in ((CELLS, cell_rows(board)), (RANKS, rank_rows(board))):
            (told,) = {
                (row["knowledge"], row["surrogates"])
                for row in (dict(zip(names, r, strict=True)) for r in rows)
            }
            assert told == (known, networks)
