"""What a Referee reports, as columns of the log's tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.clean_utility import Utility
from arena.evaluation.reliability import Reliability
from arena.log.bulk import TableColumns, or_null
from arena.log.images import pack
from arena.log.schema import storable
from arena.records.reports import CourseRows, GameRows, MarkRows, NoteRows, QueryRows
from arena.rules.outcome import Floats, Ints


def query_columns(pieces: list[QueryRows], first_game: int) -> TableColumns:
    """Columns of `queries`, ordered by game and turn, as the table keeps them."""
    game = _joined(pieces, "game")
    order = np.argsort(game, kind="stable")
    purposes = np.array([storable(piece.purpose) for piece in pieces], dtype=object)
    purpose = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])

    def column(name: str) -> NDArray[Any]:
        return _joined(pieces, name)[order]

    return {
        "game_id": game[order] + first_game,
        "turn": column("turn"),
        "account": column("account"),
        "purpose": purposes[purpose[order]],
        "label": column("label"),
        "refused": column("refused"),
        "flagged": column("flagged"),
        "margin": column("margin"),
        "l2": column("l2"),
        "linf": column("linf"),
        "hit": column("hit"),
        "margin_base": _margins(pieces)[order],
    }


def _margins(pieces: list[QueryRows]) -> Floats:
    """Undefended margins; NULL where nobody asked for them."""
    parts = [
        np.full(len(piece), np.nan) if piece.margin_base is None else piece.margin_base for piece in pieces
    ]
    return np.concatenate(parts)


def mark_columns(pieces: list[MarkRows], first_game: int) -> TableColumns:
    """Columns of `marks`."""
    return {
        "game_id": _joined(pieces, "game") + first_game,
        "at": np.repeat([piece.at for piece in pieces], [len(piece.game) for piece in pieces]),
        "turn": _joined(pieces, "turn"),
        "answered": _joined(pieces, "answered"),
        "vote": _joined(pieces, "vote"),
        "base": _joined(pieces, "base"),
        "l2": _joined(pieces, "l2"),
        "linf": _joined(pieces, "linf"),
        **_halves(_joined(pieces, "wrong"), _joined(pieces, "asked")),
        **_again(_joined(pieces, "again")),
        "query_l2": _joined(pieces, "query_l2"),
    }


def note_columns(pieces: list[NoteRows], first_game: int, place: int) -> TableColumns:
    """Columns of `notes`; `place` is that of the first one within the shard."""
    values = [value for piece in pieces for value in piece.value]
    return {
        "game_id": _joined(pieces, "game") + first_game,
        "place": np.arange(place, place + len(values)),
        "turn": _joined(pieces, "turn"),
        "key": [storable(piece.key) for piece in pieces for _ in piece.value],
        "value": [storable(str(value)) for value in values],
        "number": np.array([np.nan if isinstance(value, str) else value for value in values], np.float64),
    }


def purpose_columns(counts: Mapping[str, Ints], shard_id: int) -> TableColumns:
    """Columns of `purposes`, from the numbers [5] of `Piece.purposes`."""
    told: dict[str, Ints] = {}
    for purpose, numbers in counts.items():
        told[storable(purpose)] = told.get(storable(purpose), 0) + numbers
    queries, refused, flagged, hits, outside = np.array(list(told.values()), np.int64).reshape(-1, 5).T
    return {
        "shard_id": np.full(len(told), shard_id),
        "purpose": list(told),
        "queries": queries,
        "refused": refused,
        "flagged": flagged,
        "hits": hits,
        "outside": outside,
    }


def game_columns(
    rows: GameRows, courses: CourseRows | None, first_game: int, match_id: int, shard: int, repeat: int
) -> TableColumns:
    """Columns of `games`."""
    count = len(rows)
    return {
        "id": rows.game + first_game,
        "match_id": np.full(count, match_id),
        "shard": np.full(count, shard),
        "repeat": np.full(count, repeat),
        "image": rows.key,
        "label": rows.label,
        "target": or_null(rows.target, rows.target < 0),
        "reason": list(rows.reason),
        "queries": rows.queries,
        "insider_queries": rows.insider_queries,
        "refused": rows.refused,
        "answered": rows.answered,
        "vote": rows.vote,
        "base": rows.base,
        "hit_at": or_null(rows.hit_at, rows.hit_at == 0),
        "accepted_at": or_null(rows.accepted_at, rows.accepted_at == 0),
        "l2": rows.l2,
        "linf": rows.linf,
        "final": pack(rows.final),
        **_halves(rows.wrong, rows.asked),
        **_again(rows.again),
        **_courses(courses, rows.game),
    }


def _courses(courses: CourseRows | None, place: Ints) -> TableColumns:
    """How the games at these places went; NULL for what is not known."""
    if courses is None:
        return {f.name: np.full(len(place), np.nan) for f in fields(CourseRows)}
    columns = {f.name: getattr(courses, f.name)[place] for f in fields(CourseRows)}
    whole = columns["duplicates"]
    missing = np.isnan(whole)
    columns["duplicates"] = or_null(np.where(missing, 0, whole).astype(np.int64), missing)
    columns["alarm_at"] = or_null(columns["alarm_at"], columns["alarm_at"] == 0)
    return columns


def _halves(wrong: Ints, asked: Ints) -> TableColumns:
    """The answers of votes, [n,2] each."""
    return {
        "wrong_a": wrong[:, 0],
        "asked_a": asked[:, 0],
        "wrong_b": wrong[:, 1],
        "asked_b": asked[:, 1],
    }


def _again(again: Floats) -> TableColumns:
    """The answers to clients who asked again; NULL where nobody remembers."""
    return {"again": or_null(again > 0, np.isnan(again))}


def _joined(pieces: list[Any], name: str) -> NDArray[Any]:
    return np.concatenate([getattr(piece, name) for piece in pieces])


def utility_of(row: Any) -> Utility:
    """A row of `utilities`; NULL for NaN, but None where a field is no real number."""
    whole = ("batch", "peak_bytes", "reliability")
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(Utility) if f.name != "benign"):
        value = getattr(row, name)
        values[name] = math.nan if value is None and name not in whole else value
    if (bins := values["reliability"]) is not None:
        values["reliability"] = Reliability(**{name: tuple(column) for name, column in bins.items()})
    return Utility(**values)


def benign_of(row: Any) -> BenignLoss:
    """A row of `benign`; NULL for NaN."""
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(BenignLoss)):
        values[name] = math.nan if (value := getattr(row, name)) is None else value
    return BenignLoss(**values)
