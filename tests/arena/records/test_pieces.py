"""A shard's record in pieces: where it is cut, that nothing is lost or out of order, and what closes it."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from arena.records import pieces
from arena.records.pieces import Piece, Pieces
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows


class Kept:
    """A recorder that keeps all pieces."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def record(self, piece: Piece) -> None:
        self.pieces.append(piece)


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pieces, "time", clock)
    return clock


@pytest.fixture
def kept() -> Kept:
    return Kept()


def volley(turn: int, games: int = 3, purpose: str = "step", **changes: Any) -> QueryRows:
    """A query of each of so many games; `changes` name columns."""
    zeros, no, floats = np.zeros(games, np.int64), np.zeros(games, bool), np.full(games, 0.5)
    rows = QueryRows(
        purpose, np.arange(games), zeros + turn, zeros, zeros, no, no, *[floats] * 3, no, no, no, zeros
    )
    return dataclasses.replace(rows, **{name: np.array(column) for name, column in changes.items()})


def marks(at: int, games: int = 3) -> MarkRows:
    zeros, no, floats = np.zeros(games, np.int64), np.zeros(games, bool), np.zeros(games)
    pairs = np.zeros((games, 2), np.int64)
    return MarkRows(at, np.arange(games), zeros, no, pairs, pairs, floats, no, *[floats] * 3)


def notes(*games: int) -> NoteRows:
    place = np.array(games, np.int64)
    return NoteRows("tau", place, place * 0, [0.5] * len(games))


def ending(games: int = 3) -> GameRows:
    zeros, no, floats = np.zeros(games, np.int64), np.zeros(games, bool), np.zeros(games)
    return GameRows(
        game=np.arange(games),
        key=np.arange(games),
        label=zeros,
        target=zeros - 1,
        reason=["budget"] * games,
        queries=zeros,
        insider_queries=zeros,
        refused=zeros,
        answered=no,
        wrong=np.zeros((games, 2), np.int64),
        asked=np.zeros((games, 2), np.int64),
        again=floats,
        base=no,
        hit_at=zeros,
        accepted_at=zeros,
        l2=floats,
        linf=floats,
        final=np.zeros((games, 1, 2, 2), np.float32),
    )


def test_a_piece_leaves_when_it_has_its_rows_of_all_kinds(
    kept: Kept, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    cut = Pieces(kept)
    cut.marks(marks(0))
    cut.queries(volley(1))
    assert kept.pieces == []
    cut.notes(notes(2))
    assert len(kept.pieces) == 1
    cut.queries(volley(2, games=10))
    assert [len(piece.queries[0]) for piece in kept.pieces] == [3, 10]
    cut.queries(volley(3))
    cut.games(ending())
    assert len(kept.pieces) == 2
    cut.close()
    assert [len(piece.queries) for piece in kept.pieces] == [1, 1, 1]
    assert [len(piece.marks) + len(piece.notes) for piece in kept.pieces] == [2, 0, 0]


def test_a_piece_leaves_when_its_time_is_up(kept: Kept, clock: Clock) -> None:
    cut = Pieces(kept)
    cut.queries(volley(1))
    clock.now += 0.999
    cut.queries(volley(2))
    assert kept.pieces == []
    clock.now += 0.002
    cut.queries(volley(3))
    assert [piece.answered for piece in kept.pieces] == [9]
    clock.now += 0.5
    cut.queries(volley(4))
    assert len(kept.pieces) == 1
    clock.now += 0.5
    cut.marks(marks(5))
    assert [piece.answered for piece in kept.pieces] == [9, 3]


@pytest.mark.parametrize("rows", [1, 4, 5, 10**6])
def test_what_is_reported_arrives_once_and_in_order(
    kept: Kept, clock: Clock, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", rows)
    cut, ended = Pieces(kept), ending()
    asked, judged, said = [], [], []
    for turn in range(1, 9):
        asked.append(volley(turn))
        cut.queries(asked[-1])
        if turn % 2:
            judged.append(marks(turn))
            cut.marks(judged[-1])
            said.append(notes(turn % 3))
            cut.notes(said[-1])
    cut.games(ended)
    cut.close()
    assert [id(q) for piece in kept.pieces for q in piece.queries] == list(map(id, asked))
    assert [id(m) for piece in kept.pieces for m in piece.marks] == list(map(id, judged))
    assert [id(n) for piece in kept.pieces for n in piece.notes] == list(map(id, said))
    assert sum(piece.answered for piece in kept.pieces) == 24
    assert [piece.games for piece in kept.pieces] == [None] * (len(kept.pieces) - 1) + [ended]
    assert len(kept.pieces) == {1: 17, 4: 9, 5: 7, 10**6: 1}[rows]


def test_reports_without_rows_are_not_passed_on(kept: Kept, clock: Clock) -> None:
    cut = Pieces(kept)
    cut.queries(volley(1, games=0))
    cut.marks(marks(1, games=0))
    cut.notes(notes())
    cut.games(ending())
    cut.close()
    (only,) = kept.pieces
    assert (only.queries, only.marks, only.notes, only.answered) == ([], [], [], 0)


CHANGED = [("better", 1), ("hit", 2), ("refused", 0), ("flagged", 1)]


@pytest.mark.parametrize(("column", "row"), CHANGED)
def test_level_changes_keeps_what_changed_something(kept: Kept, clock: Clock, column: str, row: int) -> None:
    cut = Pieces(kept, "changes")
    first, later = volley(1), volley(2, game=[4, 5, 6], margin=[1.0, 2.0, 3.0])
    changed = dataclasses.replace(later, **{column: np.arange(3) == row})
    for rows in (first, later, changed):
        cut.queries(rows)
    cut.games(ending())
    cut.close()
    (only,) = kept.pieces
    whole, one = only.queries
    for name in (f.name for f in fields(QueryRows) if f.name not in ("purpose", "margin_base")):
        assert getattr(whole, name).tolist() == getattr(first, name).tolist()
        assert getattr(one, name).tolist() == [getattr(changed, name)[row]]
    assert one.purpose == "step"
    assert only.answered == 9


@pytest.mark.parametrize("level", ["queries", "changes", "games"])
def test_at_every_level_the_last_piece_alone_says_what_all_queries_were_for(
    kept: Kept, clock: Clock, monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 4)
    cut, no, yes = Pieces(kept, level), [False] * 3, [True, False, True]
    cut.queries(volley(1, purpose="probe", refused=yes, flagged=yes, hit=[False, True, False]))
    cut.queries(volley(2, purpose="gradient", refused=no, flagged=[False, False, True]))
    cut.queries(volley(3, games=2, purpose="probe", refused=[True, False]))
    cut.notes(notes(0, 1, 2, 0))
    cut.queries(volley(4, purpose="probe", outside=yes))
    cut.marks(marks(3))
    cut.games(ending())
    cut.close()
    *others, last = kept.pieces
    assert others
    assert all(not piece.purposes and piece.games is None for piece in others)
    told = {purpose: numbers.tolist() for purpose, numbers in last.purposes.items()}
    assert told == {"probe": [8, 3, 2, 1, 2], "gradient": [3, 0, 1, 0, 0]}
    assert sum(piece.answered for piece in kept.pieces) == 11
    recorded = sum(len(rows) for piece in kept.pieces for rows in piece.queries)
    assert recorded == {"queries": 11, "changes": 3 + 1 + 1, "games": 0}[level]
    assert sum(len(piece.marks) + len(piece.notes) for piece in kept.pieces) == 2


def test_at_level_games_time_tells_how_far_a_shard_is(kept: Kept, clock: Clock) -> None:
    cut = Pieces(kept, "games")
    for turn in range(1, 4):
        clock.now += 2
        cut.queries(volley(turn))
    assert [(piece.answered, piece.queries) for piece in kept.pieces] == [(3, [])] * 3


def test_a_shard_is_closed_once_and_with_its_games(kept: Kept, clock: Clock) -> None:
    cut = Pieces(kept)
    cut.queries(volley(1))
    with pytest.raises(ValueError, match=r"^a shard must end with its games; none were reported$"):
        cut.close()
    assert kept.pieces == []
    cut.games(ending())
    with pytest.raises(ValueError, match=r"^a shard's games end together, once$"):
        cut.games(ending())
    cut.close()
    assert len(kept.pieces) == 1
    with pytest.raises(ValueError, match=r"^a shard's record was closed before$"):
        cut.close()
    assert len(kept.pieces) == 1
