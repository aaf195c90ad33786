"""Answers against the same counts made one by one from what was reported."""

from __future__ import annotations

import math
import re
import sqlite3
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

from arena.evaluation.clean_utility import Utility
from arena.evaluation.reliability import Reliability
from arena.log import Log, LogError, open_log, questions
from arena.log.overview import overview
from arena.records.reports import MarkRows, NoteRows, QueryRows

Played = dict[tuple[int, int], Any]


@pytest.fixture
def played(log: Log, begun: Callable[..., int], made: Callable[..., Any]) -> Played:
    """Match 1 with two repeats of two shards, and one unfinished; a second match beside it."""
    shards = {
        (repeat, number): made(games=6, seed=2 * repeat + number + 4)
        for repeat in (1, 0)
        for number in (1, 0)
    }
    match, other = begun(log, 0), begun(log, 1)
    for (repeat, number), shard in shards.items():
        for at in (match, other) if number else (match,):
            with log.shard(at, number, repeat, "f", shard.keys) as recorder:
                shard.tell(recorder)
    with pytest.raises(RuntimeError), log.shard(match, 2, 0, "f", shards[0, 0].keys) as recorder:
        shards[0, 0].tell(recorder)
        raise RuntimeError
    return dict(sorted(shards.items()))


def column(played: Played, name: str) -> list[Any]:
    """A column of the games of all shards, in order."""
    return [value for shard in played.values() for value in np.asarray(getattr(shard.games, name)).tolist()]


def far(value: float) -> float:
    return math.inf if math.isnan(value) else value


def test_what_was_asked_for_by_purpose(log: Log, played: Played) -> None:
    count: dict[str, np.ndarray[Any, Any]] = {}
    for shard in played.values():
        for piece in shard.rows:
            if isinstance(piece, QueryRows):
                told = (piece.refused, piece.flagged, piece.hit, piece.outside)
                own = np.array([len(piece), *(column.sum() for column in told)])
                name = piece.purpose.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
                count[name] = count.get(name, np.zeros(5, np.int64)) + own
    found = {a.purpose: (a.queries, a.refused, a.flagged, a.hits, a.outside) for a in questions.asked(log, 1)}
    assert found == {name: tuple(own.tolist()) for name, own in count.items()}
    assert all(sum(column) > 0 for column in zip(*found.values(), strict=True))
    queries = [a.queries for a in questions.asked(log, 1)]
    assert queries == sorted(queries, reverse=True)
    assert questions.asked(log, 99) == []


def test_outcomes(log: Log, played: Played) -> None:
    ended = questions.outcomes(log, 1)
    assert ended.repeat.tolist() == [repeat for repeat, _ in played for _ in range(6)]
    assert ended.shard.tolist() == [number for _, number in played for _ in range(6)]
    assert ended.image.tolist() == column(played, "key")
    assert ended.target.tolist() == column(played, "target")
    assert ended.reason == column(played, "reason")
    for name in ("label", "queries", "insider_queries", "refused", "answered", "vote", "base", "hit_at"):
        assert getattr(ended, name).tolist() == column(played, name), name
    for half, name in enumerate(("a", "b")):
        for count in ("wrong", "asked"):
            assert getattr(ended, f"{count}_{name}").tolist() == [n[half] for n in column(played, count)]
    assert np.array_equal(ended.again, column(played, "again"), equal_nan=True)
    assert {0, 1} < set(ended.again.tolist())
    assert ended.accepted_at.tolist() == column(played, "accepted_at")
    for name in ("l2", "linf"):
        assert getattr(ended, name).tolist() == [far(value) for value in column(played, name)]
    assert ended.answered.dtype == np.bool_
    assert len(questions.outcomes(log, 2)) == 12


def test_nothing_is_an_answer_too(log: Log, begun: Callable[..., int]) -> None:
    match = begun(log)
    assert len(questions.outcomes(log, match)) == len(questions.verdicts(log, match)) == 0
    assert questions.notes_of_match(log, match) == questions.samples(log, match, 5, won=True) == []
    assert questions.utility(log, match, 500) is None
    curve = questions.curve(log, match)
    assert (curve.turn.tolist(), curve.drawn, curve.played) == ([], 0, 0)


def test_verdicts(log: Log, played: Played) -> None:
    games = iter(questions.outcomes(log, 1).game.reshape(4, 6).tolist())
    wanted = []
    for shard, ids in zip(played.values(), games, strict=True):
        for piece in shard.rows:
            if isinstance(piece, MarkRows):
                for i, game in enumerate(piece.game.tolist()):
                    votes = np.stack([piece.wrong[i], piece.asked[i]], axis=1).flatten().tolist()
                    row = (piece.turn[i], piece.answered[i], piece.vote[i], *votes, str(piece.again[i]))
                    distances = (far(piece.l2[i]), far(piece.linf[i]), str(piece.query_l2[i]))
                    wanted.append((piece.at, ids[game], *row, piece.base[i], *distances))
    found = questions.verdicts(log, 1)
    columns = {f.name: getattr(found, f.name).tolist() for f in fields(found)}
    for name in ("again", "query_l2"):
        columns[name] = list(map(str, columns[name]))  # NaN too, which no comparison finds equal
    rows = list(zip(*columns.values(), strict=True))
    order = {game: i for i, game in enumerate(questions.outcomes(log, 1).game.tolist())}
    assert rows == sorted(wanted, key=lambda row: (row[0], order[row[1]]))


def test_verdicts_at_some_counts(log: Log, played: Played) -> None:
    whole, some = questions.verdicts(log, 1), questions.verdicts(log, 1, [3, 99])
    there = np.flatnonzero(whole.at == 3)
    assert 0 < len(there) < len(whole)
    for f in fields(whole):
        assert np.array_equal(getattr(some, f.name), getattr(whole, f.name)[there], equal_nan=True), f.name
    assert len(questions.verdicts(log, 1, [])) == 0


def test_what_is_asked_of_matches_reads_neither_queries_nor_images(
    path: Path, begun: Callable[..., int], made: Callable[..., Any]
) -> None:
    with open_log(path) as log:
        match, shard = begun(log), made()
        with log.shard(match, 0, 0, "f", shard.keys) as recorder:
            shard.tell(recorder)
        asked: list[tuple[str, Any]] = []
        event.listen(log.database.reader, "before_cursor_execute", lambda *told: asked.append(told[2:4]))
        questions.outcomes(log, match)
        questions.verdicts(log, match)
        questions.asked(log, match)
        questions.curve(log, match)
        overview(log)
    with sqlite3.connect(path) as connection:
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {how}", told).fetchall() for how, told in asked]
    steps = [step for plan in plans for *_, step in plan]
    assert not [step for step in steps if "queries" in step]
    games = [step for step in steps if re.search(r"(SCAN|SEARCH) games", step)]
    assert len(games) == 4 and all("USING COVERING INDEX ix_games_but_final" in step for step in games)


def test_transcript_and_notes_of_a_game(log: Log, played: Played) -> None:
    shard = played[0, 1]
    game = questions.outcomes(log, 1).game[6 + 2].item()
    asked = sorted(
        (
            piece.turn[i].item(), piece.account[i].item(), piece.label[i].item(), bool(piece.refused[i]),
            bool(piece.flagged[i]), str(piece.margin[i]), piece.l2[i].item(), bool(piece.hit[i]),
        )
        for piece in shard.rows if isinstance(piece, QueryRows)
        for i in np.flatnonzero(piece.game == 2)
    )  # fmt: skip
    found = questions.transcript(log, game)
    columns = (found.turn, found.account, found.label, found.refused, found.flagged, found.margin, found.l2)
    rows = zip(*(c.tolist() for c in columns), found.hit.tolist(), strict=True)
    assert [(*row[:5], str(row[5]), *row[6:]) for row in rows] == asked
    assert len(found) == len(found.purpose) == len(asked)
    assert found.purpose[0] == "gradient"

    noted = [
        (int(note.turn[i]), note.value[i] if isinstance(note.value[i], float) else "belief 2 \ufffd")
        for note in shard.rows if isinstance(note, NoteRows)
        for i in np.flatnonzero(note.game == 2)
    ]  # fmt: skip
    notes = questions.notes_of_game(log, game)
    assert [(note.turn, note.value) for note in notes] == noted
    assert {(note.game_id, note.image, note.repeat, note.key) for note in notes} <= {
        (game, shard.keys[2], 0, "tau")
    }
    assert len(questions.notes_of_match(log, 1)) == sum(
        len(note.game) for s in played.values() for note in s.rows if isinstance(note, NoteRows)
    )


def test_a_game_with_its_final_image(log: Log, played: Played) -> None:
    ended, shard = questions.outcomes(log, 1), played[1, 0]
    for place in range(6):
        game = questions.game(log, ended.game[12 + place].item())
        assert (game.match_id, game.repeat, game.shard, game.place) == (1, 1, 0, place)
        assert (game.image, game.reason) == (shard.keys[place], shard.games.reason[place])
        assert np.array_equal(game.final, shard.games.final[place])
        assert game.hit_at == (shard.games.hit_at[place] or None)
        assert game.target == (None if shard.games.target[place] < 0 else shard.games.target[place])
        assert game.l2 == far(shard.games.l2[place])
        again = shard.games.again[place]
        assert game.again == (None if np.isnan(again) else again == 1)


def test_games_of_unfinished_shards_are_unknown(log: Log, played: Played) -> None:
    for ask in (questions.game, questions.transcript):
        with pytest.raises(LogError, match="has no game 10000 in a finished shard"):
            ask(log, 10000)


def test_samples(log: Log, played: Played) -> None:
    for won in (True, False):
        wanted = sorted(
            (image, repeat)
            for (repeat, _), shard in played.items()
            for image, answered, reason in zip(
                shard.keys.tolist(), shard.games.answered, shard.games.reason, strict=True
            )
            if answered == won and reason != "clean"
        )
        assert len(wanted) >= 4
        for count in (3, 100):
            games = questions.samples(log, 1, count, won)
            assert [(game.image, game.repeat) for game in games] == wanted[:count]
            assert all(game.final.shape == (3, 4, 4) for game in games)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"reliability": None},
        {"nll": math.inf},
        {"ece": math.nan, "ece_mass": math.nan, "nll": math.nan},
        {"batch": None},
    ],
)
def test_a_utility_comes_back_as_it_was(
    log: Log, begun: Callable[..., int], changed: dict[str, float]
) -> None:
    numbers: dict[str, Any] = {f.name: 0.1 * place for place, f in enumerate(fields(Utility))}
    numbers |= {"reliability": Reliability((0.25, 0.5), (None, 0.75), (0.0, 1.0)), "benign": ()}
    told = Utility(**{**numbers, "images": 7, "batch": 64, "peak_bytes": 2**40, **changed})
    match, other = begun(log, 0), begun(log, 1)
    log.record_utility(match, told)
    assert str(questions.utility(log, match, 7)) == str(log.find_utility(match, 7)) == str(told)
    assert repr(questions.utility(log, match, 7)) == repr(told), "NaN too, which no comparison finds equal"
    assert questions.utility(log, other, 7) is log.find_utility(other, 7) is None
    assert questions.utility(log, match, 8) is log.find_utility(match, 8) is None
    log.record_utility(match, replace(told, accuracy=0.5))
    assert questions.utility(log, match, 7).accuracy == told.accuracy, "the first that was measured is kept"
    log.record_utility(match, replace(told, images=8, accuracy=0.25))
    assert [questions.utility(log, match, images).accuracy for images in (7, 8)] == [told.accuracy, 0.25]


@pytest.mark.parametrize("accepted", [False, True])
def test_curve(log: Log, played: Played, accepted: bool) -> None:
    curve = questions.curve(log, 1, accepted)
    turns = [turn for turn in column(played, "accepted_at" if accepted else "hit_at") if turn]
    right = sum(reason != "clean" for reason in column(played, "reason"))
    assert curve.turn.tolist() == sorted(set(turns))
    assert (curve.drawn, curve.played) == (24, right)
    for turn, lost, accuracy, success in zip(
        curve.turn, curve.lost, curve.accuracy, curve.success, strict=True
    ):
        assert lost == sum(other <= turn for other in turns)
        assert accuracy == pytest.approx((right - lost) / 24)
        assert success == pytest.approx(lost / right)


def test_sql_reads(log: Log, played: Played) -> None:
    found = questions.sql(log, "SELECT repeat, count(*) AS n FROM finished_games GROUP BY repeat ORDER BY 1")
    assert found.columns == ["repeat", "n"]
    assert found.rows == [(0, 18), (1, 18)]
    assert questions.sql(log, "SELECT '50%', 'a?' WHERE 'x:y' LIKE '%:y'").rows == [("50%", "a?")]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM games",
        "CREATE TABLE x (y INTEGER)",
        "UPDATE runs SET title = 'x'",
        "COMMIT; DELETE FROM games",
        "SELECT 1; DELETE FROM games",
        "SELECT nonsense FROM nowhere",
        "",
    ],
)
def test_sql_changes_nothing(log: Log, played: Played, statement: str) -> None:
    if statement:
        with pytest.raises(LogError, match=r"^log ") as told:
            questions.sql(log, statement)
        assert "\n" not in str(told.value)
    else:
        assert questions.sql(log, statement).rows == []
    assert len(questions.outcomes(log, 1)) == 24
