"""A board as rows of tables, and as values that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, Boolean, Column, Double, String

from arena.league.board import Board, CellFigures, MatrixBoard, Rank
from arena.league.rates import Median, Rate
from arena.report.board_notes import Notes

Row = dict[str, Any]

_MATRIX = (
    *("dataset", "classifier", "norm", "epsilon", "goal", "feedback", "objective", "knowledge"),
    *("surrogates", "at"),
)
_TEXT = {
    "dataset",
    "classifier",
    "norm",
    "goal",
    "feedback",
    "objective",
    "knowledge",
    "surrogates",
    "attacker",
    "defender",
}
_TEXT |= {"verdict", "withheld", "findings", "conflicts", "sources", "side", "agent"}
_WHOLE = {"at", "games", "played", "images", "failed", "rank_low", "rank_high"}
_YES = {"headline", "two_ends"}
CELLS = (
    *_MATRIX,
    *("attacker", "defender", "verdict", "headline", "games", "played", "images", "failed"),
    *("left", "left_low", "left_high", "success", "success_low", "success_high"),
    *("distance", "distance_low", "distance_high"),
    *("queries_mean", "queries_mean_low", "queries_mean_high"),
    *("queries_median", "queries_median_low", "queries_median_high"),
    *("hits_median", "hits_median_low", "hits_median_high", "insider", "refused", "flagged"),
    *("two_ends", "withheld", "findings", "conflicts", "sources"),
)
"""Columns of the table of cells: a row a cell and verdict."""
RANKS = (
    *_MATRIX,
    *("side", "agent", "rank_low", "rank_high", "figure", "figure_low", "figure_high"),
    *("rating", "rating_low", "rating_high", "withheld"),
)
"""Columns of the table of ranks: a row an agent of a matrix."""


def columns(names: Sequence[str]) -> list[Column[Any]]:
    """The columns with their types."""

    def kind(name: str) -> Any:
        for known, own in ((_TEXT, String), (_WHOLE, BigInteger), (_YES, Boolean)):
            if name in known:
                return own
        return Double

    return [Column(name, kind(name)) for name in names]


def cell_rows(board: Board) -> list[tuple[Any, ...]]:
    """By `CELLS`. None where nothing is known; distances may be infinite, and stand at the headline alone."""
    rows = []
    for matrix in board.matrices:
        notes, shared = Notes(matrix), _of_matrix(matrix)
        for cell in matrix.cells.values():
            found = notes.of_cell(cell.attacker, cell.defender)
            words = "; ".join(dict.fromkeys(note.indicator for note, _ in found))
            for verdict in cell.left:
                rows.append(_values(CELLS, shared | _of_cell(cell, verdict) | {"findings": words}))
    return rows


def rank_rows(board: Board) -> list[tuple[Any, ...]]:
    """By `RANKS`: defenders first; agents that have a rating alone are there without a rank."""
    rows = []
    for matrix in board.matrices:
        shared = _of_matrix(matrix)
        for side, ranks in (("defender", matrix.defender_ranks), ("attacker", matrix.attacker_ranks)):
            ratings = {own.agent: own.rating for own in matrix.ratings if own.side == side}
            by = {rank.agent: rank for rank in ranks}
            for agent in dict.fromkeys([*by, *ratings]):
                own = {"side": side, "agent": agent, **_of_rank(by.get(agent))}
                rows.append(_values(RANKS, shared | own | _ends("rating", ratings.get(agent))))
    return rows


def as_json(board: Board) -> Any:
    """Everything, as JSON can hold it: an infinite number is the text "inf" or "-inf", NaN is null; the cells
    of a matrix are a list, each with its attacker and defender; times are as in ISO 8601."""
    return _plain(board)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return {own.name: _plain(getattr(value, own.name)) for own in fields(value)}
    if isinstance(value, Mapping):
        if any(isinstance(key, tuple) for key in value):
            return [_plain(own) for own in value.values()]
        return {str(key): _plain(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def _of_matrix(matrix: MatrixBoard) -> Row:
    threat = matrix.threat
    own = ("norm", "epsilon", "goal", "feedback", "objective")
    known = {
        "knowledge": threat.known,
        "surrogates": ", ".join(one.title for one in threat.resources.surrogates),
    }
    world = {"dataset": matrix.dataset, "classifier": matrix.classifier, "at": matrix.at}
    return world | {name: getattr(threat, name) for name in own} | known


def _of_cell(cell: CellFigures, verdict: Any) -> Row:
    names = "attacker defender games played images failed insider refused flagged two_ends"
    row: Row = {name: getattr(cell, name) for name in names.split()}
    row |= {"verdict": verdict, "headline": verdict == cell.verdict, "withheld": cell.withheld}
    row |= _ends("left", cell.left[verdict]) | _ends("success", cell.success.get(verdict))
    row |= _ends("distance", cell.distance if verdict == cell.verdict else None)
    for name in ("queries_mean", "queries_median", "hits_median"):
        row |= _ends(name, getattr(cell, name))
    row["conflicts"] = "; ".join(cell.conflicts)
    row["sources"] = "; ".join(
        f"{own.get('log', '')}, run {own.get('run', '')}, match {own.get('match', '')}" for own in cell.facts
    )
    return row


def _of_rank(rank: Rank | None) -> Row:
    if rank is None:
        return {"withheld": ""}
    placed = {} if rank.withheld else {"rank_low": rank.low, "rank_high": rank.high}
    return {"withheld": rank.withheld, **placed, **_ends("figure", rank.figure)}


def _ends(name: str, own: Rate | Median | None) -> Row:
    if own is None or math.isnan(own.value):
        return {}
    return dict(zip(_three(name), (own.value, own.low, own.high), strict=True))


def _three(name: str) -> Iterator[str]:
    yield from (name, f"{name}_low", f"{name}_high")


def _values(names: Sequence[str], row: Row) -> tuple[Any, ...]:
    return tuple(None if isinstance(v := row.get(n), float) and math.isnan(v) else v for n in names)
