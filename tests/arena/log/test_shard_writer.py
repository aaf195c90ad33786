"""Shards reach the log whole, as reported, or not at all."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event, select, text

from arena.log import Log, LogError, open_log, questions, schema
from arena.log.images import unpack
from arena.records import pieces
from arena.records.pieces import Piece
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows

Begun = Callable[..., int]


def rows_of(log: Log, table: Any) -> list[tuple[Any, ...]]:
    with log.database.reader.connect() as connection:
        return sorted((tuple(row) for row in connection.execute(select(table))), key=lambda row: row[:2])


def null(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def clean(value: str) -> str:
    return value.replace("\0", "\ufffd").replace("\ud800", "?")


def expected_queries(made: Any, first: int, kept: Callable[[QueryRows, int], bool]) -> list[tuple[Any, ...]]:
    """The rows of `queries`, one by one."""
    rows = []
    for piece in made.rows:
        for i in range(len(piece.game)) if isinstance(piece, QueryRows) else ():
            if kept(piece, i):
                named = [piece.account[i].item(), clean(piece.purpose), piece.label[i].item()]
                flags = [bool(piece.refused[i]), bool(piece.flagged[i])]
                floats = [null(getattr(piece, name)[i].item()) for name in ("margin", "l2", "linf")]
                place = [first + piece.game[i].item(), piece.turn[i].item()]
                base = None if piece.margin_base is None else null(piece.margin_base[i].item())
                rows.append((*place, *named, *flags, *floats, bool(piece.hit[i]), base))
    return sorted(rows, key=lambda row: row[:2])


@pytest.mark.parametrize("chunk", [10**6, 7], ids=["one chunk", "many chunks"])
def test_every_column_comes_back_as_it_was_reported(
    log: Log, begun: Begun, made: Any, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", chunk)
    match, first = begun(log), made()
    for number, played in ((0, first), (1, made(games=300, turns=3, seed=1))):
        with log.shard(match, number, 1, "f", played.keys) as recorder:
            played.tell(recorder)

    written = [row for row in rows_of(log, schema.queries) if row[0] <= 5]
    assert written == expected_queries(first, 1, lambda *_: True)
    assert len(rows_of(log, schema.queries)) > 900

    marks = {row[:2]: row[2:] for row in rows_of(log, schema.marks) if row[0] <= 5}
    reported = [piece for piece in first.rows if isinstance(piece, MarkRows)]
    assert len(marks) == sum(len(piece.game) for piece in reported)
    for piece in reported:
        for i, game in enumerate(piece.game.tolist()):
            values = [getattr(piece, n)[i].item() for n in ("turn", "answered", "vote", "base", "l2", "linf")]
            assert marks[game + 1, piece.at] == (
                *map(null, values),
                *votes_of(piece, i),
                null(piece.query_l2[i].item()),
            )

    noted = sorted(row for row in rows_of(log, schema.notes) if row[0] <= 5)
    told = [(n.key, g, t, v) for n in first.rows if isinstance(n, NoteRows)
            for g, t, v in zip(n.game.tolist(), n.turn.tolist(), n.value, strict=True)]  # fmt: skip
    assert noted == sorted(
        (g + 1, place, t, key, clean(str(v)), None if isinstance(v, str) else v)
        for place, (key, g, t, v) in enumerate(told)
    )

    games, g = rows_of(log, schema.games), first.games
    assert len(games) == 305
    for i, row in enumerate(games[:5]):
        target, hit_at, accepted_at = (getattr(g, n)[i].item() for n in ("target", "hit_at", "accepted_at"))
        assert row[:-14] == (
            i + 1, match, 0, 1, g.key[i], g.label[i], None if target < 0 else target, g.reason[i],
            g.queries[i], g.insider_queries[i], g.refused[i], g.answered[i], g.vote[i], g.base[i],
            hit_at or None, accepted_at or None, null(g.l2[i].item()), null(g.linf[i].item()),
        )  # fmt: skip
        assert np.array_equal(unpack(row[-14], (3, 4, 4)), g.final[i])
        assert row[-13:-8] == votes_of(g, i)
        assert row[-8:] == course_of(first, i)
    assert {None, True, False} == {row[-9] for row in games}
    assert games[1][-13:-9] != games[1][-11:-9] + games[1][-13:-11], "halves that can be told apart"
    for column in zip(*[row[-8:] for row in games], strict=True):
        assert len(set(column)) > 2, "columns that say something"


def course_of(played: Any, game: int) -> tuple[Any, ...]:
    """The last eight columns of a game, told query by query."""
    asked = sorted(
        (
            (p.turn[i], p.refused[i], p.flagged[i], p.label[i], p.margin[i], p.linf[i], p.hit[i], p.digest[i])
            for p in played.rows
            if isinstance(p, QueryRows)
            for i in np.flatnonzero(p.game == game)
        ),
        key=lambda row: row[0],
    )
    alarms = [turn for turn, refused, flagged, *_ in asked if refused or flagged]
    images = [row[-1] for row in asked]
    margins = [
        (turn, margin)
        for turn, refused, _, label, margin, far, *_ in asked
        if not refused and label >= 0 and far <= 0.5 + 1e-6 and not np.isnan(margin)
    ]
    hits = [(turn, far) for turn, *_, far, hit, _ in asked if hit]
    near = [(turn, far) for turn, far in hits if not np.isnan(far)]

    def least(values: list[Any], upto: int) -> Any:
        return min((value for turn, value in values if turn <= upto), default=None)

    known = [row for row in asked if row[0] == 1]
    return (
        sum(row[2] for row in asked),
        alarms[0] if alarms else None,
        len(images) - len(set(images)),
        null(known[0][4].item()),
        least(margins, 18),
        least(margins, 10**9),
        null(hits[0][1].item()) if hits else None,
        least(near, 18),
    )


def votes_of(rows: MarkRows | GameRows, i: int) -> tuple[Any, ...]:
    """wrong_a, asked_a, wrong_b, asked_b, again."""
    again = null(rows.again[i].item())
    return (*np.stack([rows.wrong[i], rows.asked[i]], axis=1).flatten().tolist(), again)


def test_level_changes_keeps_what_changed(path: Any, begun: Begun, made: Any) -> None:
    played = made(games=20, turns=9)
    with open_log(path) as log:
        with log.shard(begun(log), 0, 0, "f", played.keys, "changes") as recorder:
            played.tell(recorder, "changes")
        wanted = expected_queries(
            played,
            1,
            lambda p, i: p.better[i] or p.hit[i] or p.refused[i] or p.flagged[i] or p.turn[i] == 1,
        )
        assert rows_of(log, schema.queries) == wanted
        assert 0 < len(wanted) < len(expected_queries(played, 1, lambda *_: True))
        assert rows_of(log, schema.marks)


def test_level_games_keeps_no_queries(path: Any, begun: Begun, made: Any) -> None:
    with open_log(path) as log:
        with log.shard(begun(log), 0, 0, "f", made().keys, "games") as recorder:
            made().tell(recorder, "games")
        assert not rows_of(log, schema.queries)
        assert rows_of(log, schema.marks)
        assert rows_of(log, schema.notes)
        assert len(rows_of(log, schema.games)) == 5


@pytest.mark.parametrize("level", ["queries", "changes", "games"])
def test_every_level_counts_what_was_asked_for(path: Any, begun: Begun, made: Any, level: Any) -> None:
    shard = made()
    with open_log(path) as log:
        with log.shard(begun(log), 0, 0, "f", shard.keys, level) as recorder:
            shard.tell(recorder, level)
        asked = questions.asked(log, 1)
    rows = [piece for piece in shard.rows if isinstance(piece, QueryRows)]
    assert sum(a.queries for a in asked) == sum(map(len, rows))
    assert sum(a.flagged for a in asked) == sum(int(piece.flagged.sum()) for piece in rows) > 0


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_shard_that_fails_is_not_seen_and_is_played_again(
    log: Log, begun: Begun, made: Any, failure: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    match, played, other = begun(log), made(), made(seed=1)
    with log.shard(match, 0, 0, "f", other.keys) as recorder:
        other.tell(recorder)
    with pytest.raises(failure), log.shard(match, 1, 0, "f", played.keys) as recorder:
        played.tell(recorder)
        log.submit(lambda connection: None).result()
        assert len({row[0] for row in rows_of(log, schema.queries)}) == 10
        raise failure

    seen = rows_of(log, schema.finished_queries)
    assert seen == [row for row in rows_of(log, schema.queries) if row[0] <= 5]
    assert {row[0] for row in rows_of(log, schema.finished_marks)} == set(range(1, 6))
    assert {row[0] for row in rows_of(log, schema.finished_notes)} <= set(range(1, 6))
    assert len(questions.outcomes(log, match)) == len(rows_of(log, schema.games)) == 5
    assert log.finished_shards(match) == {(0, 0): "f"}

    assert log.discard_unfinished(match) == 1
    assert log.discard_unfinished(match) == 0
    for table in (schema.queries, schema.marks, schema.notes):
        assert {row[0] for row in rows_of(log, table)} <= set(range(1, 6))
    assert rows_of(log, schema.queries) == seen

    with log.shard(match, 1, 0, "g", played.keys) as recorder:
        played.tell(recorder)
    assert log.finished_shards(match) == {(0, 0): "f", (1, 0): "g"}
    assert len(questions.outcomes(log, match)) == 10


def test_what_an_unfinished_shard_left_goes_when_it_is_played_again(
    log: Log, begun: Begun, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    match, abandoned, played = begun(log), made(games=50), made(seed=1)
    with pytest.raises(RuntimeError), log.shard(match, 0, 0, "f", abandoned.keys) as recorder:
        abandoned.tell(recorder)
        raise RuntimeError
    with log.shard(match, 0, 0, "f", played.keys) as recorder:
        played.tell(recorder)
    first = questions.outcomes(log, match).game[0].item()
    assert rows_of(log, schema.queries) == expected_queries(played, first, lambda *_: True)


def test_an_interrupted_run_leaves_the_same_rows_as_a_whole_one(
    tmp_path: Any, begun: Begun, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)

    def play(log: Log, match: int, number: int) -> None:
        with log.shard(match, number, 0, "f", made(seed=number).keys) as recorder:
            made(seed=number).tell(recorder)

    with open_log(tmp_path / "whole.db") as whole, open_log(tmp_path / "halved.db") as halved:
        for number in range(3):
            play(whole, begun(whole), number)
        play(halved, begun(halved), 0)
        with pytest.raises(RuntimeError), halved.shard(1, 1, 0, "f", made(seed=1).keys) as recorder:
            made(seed=1).tell(recorder)
            raise RuntimeError
        assert halved.discard_unfinished(1) == 1
        for number in (1, 2):
            play(halved, begun(halved), number)
        for table in (schema.queries, schema.marks, schema.notes, schema.games):
            assert rows_of(whole, table) == rows_of(halved, table)


def test_views_show_finished_shards_only(log: Log, begun: Begun, made: Any) -> None:
    with log.shard(begun(log), 0, 0, "f", made().keys) as recorder:
        made().tell(recorder)
    views = [schema.finished_games, schema.finished_marks, schema.finished_queries, schema.finished_notes]
    tables = [schema.games, schema.marks, schema.queries, schema.notes]
    assert [len(rows_of(log, view)) for view in views] == [len(rows_of(log, table)) for table in tables]
    log.submit(lambda c: c.execute(schema.shards.update().values(state=schema.PLAYING)).close()).result()
    assert [len(rows_of(log, view)) for view in views] == [0] * 4
    assert all(rows_of(log, table) for table in tables)


def test_a_finished_shard_is_not_played_again(log: Log, begun: Begun, made: Any) -> None:
    match = begun(log)
    with log.shard(match, 0, 0, "f", made().keys) as recorder:
        made().tell(recorder)
    again = log.shard(match, 0, 0, "f", made().keys)
    with pytest.raises(LogError, match=r"shard 0 \(repeat 0\) of match 1 is already finished"), again:
        pass
    with log.shard(match, 0, 1, "f", made().keys) as recorder:
        made().tell(recorder)
    assert set(log.finished_shards(match)) == {(0, 0), (0, 1)}


def test_a_shard_must_end_with_its_games(path: Any, begun: Begun, made: Any) -> None:
    with open_log(path) as log:
        match, played = begun(log), made()
        with pytest.raises(ValueError, match="none were recorded"), log.shard(match, 0, 0, "f", played.keys):
            pass
        others = replace(played.games, key=played.keys[::-1])
        part = replace(played.games, game=np.arange(5) // 2)
        for wrong in (others, part):
            with (
                pytest.raises(ValueError, match="the games that it began with, all of them"),
                log.shard(match, 0, 0, "f", played.keys) as recorder,
            ):
                recorder.record(Piece(games=wrong))
        assert not log.finished_shards(match)


def test_shards_side_by_side_share_no_game(where: str, begun: Begun, made: Any) -> None:
    """Two processes, as it were: each has a log of its own."""
    with open_log(where) as one, open_log(where) as two:
        match = begun(one)
        plays = [(log, i, made(games=3 + i, seed=i)) for i, log in enumerate((one, two, one, two))]
        meeting = threading.Barrier(len(plays))

        def play(log: Log, number: int, played: Any) -> None:
            with log.shard(match, number, 0, "f", played.keys) as recorder:
                meeting.wait(30)
                played.tell(recorder)

        with ThreadPoolExecutor(len(plays)) as pool:
            list(pool.map(lambda arguments: play(*arguments), plays))
        ended = questions.outcomes(one, match)
        assert len(set(ended.game.tolist())) == len(ended) == 3 + 4 + 5 + 6
        for _, number, played in plays:
            mine = ended.shard == number
            assert np.array_equal(ended.image[mine], played.keys)
            first = ended.game[mine].min().item()
            asked = [row for row in rows_of(one, schema.queries) if first <= row[0] < first + mine.sum()]
            assert asked == expected_queries(played, first, lambda *_: True)


def test_a_shard_in_play_belongs_to_its_process_while_that_lives(where: str, begun: Begun, made: Any) -> None:
    played = made()
    with open_log(where) as one:
        match = begun(one)
        with open_log(where) as two:
            with one.shard(match, 0, 0, "f", played.keys) as recorder:
                assert one.in_play(match) == {}
                assert two.in_play(match) == {(0, 0): f"process {os.getpid()}"}
                assert two.discard_unfinished(match) == 0
                said = rf"shard 0 \(repeat 0\) of match 1 is played by process {os.getpid()}$"
                with pytest.raises(LogError, match=said) as told, two.shard(match, 0, 0, "f", played.keys):
                    pass
                assert isinstance(told.value, pieces.ShardLost)
                played.tell(recorder)
            assert two.in_play(match) == {}
            taken = two.shard(match, 0, 0, "f", played.keys)
            with pytest.raises(pieces.ShardLost, match="is already finished"), taken:
                pass
            left = two.shard(match, 1, 0, "f", played.keys)
            with pytest.raises(ZeroDivisionError), left:
                raise ZeroDivisionError
            two.submit(lambda _: None).result()
            assert one.in_play(match) == {}, "it is free though its process lives"
            with one.shard(match, 1, 0, "f", played.keys) as recorder:
                played.tell(recorder)
            assert two.finished_shards(match) == {(0, 0): "f", (1, 0): "f"}
        assert log_is_clean(one, match)


def test_a_shard_that_was_taken_from_its_process_says_so(
    where: str, begun: Begun, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server took it for dead."""
    monkeypatch.setattr(pieces, "PIECE_ROWS", 7)
    with open_log(where) as one, open_log(where) as two:
        match, played = begun(one), made(turns=3)
        said = r"another process discarded shard 0 \(repeat 0\) of match 1 while it was played here"
        with (
            pytest.raises(LogError, match=said) as told,
            one.shard(match, 0, 0, "f", played.keys) as recorder,
            monkeypatch.context() as patched,
        ):
            played.tell(recorder)
            one.submit(lambda connection: None).result()
            patched.setattr("arena.log.claims.lives", lambda *_: False)
            with two.shard(match, 0, 0, "f", played.keys) as other:
                played.tell(other)
        assert isinstance(told.value, pieces.ShardLost)
        assert log_is_clean(two, match)
        assert len(questions.outcomes(one, match)) == 5


def log_is_clean(log: Log, match: int) -> bool:
    """Whether there are rows of finished games only."""
    ids = set(questions.outcomes(log, match).game.tolist())
    tables = (schema.queries, schema.marks, schema.notes)
    return all({row[0] for row in rows_of(log, table)} <= ids for table in tables)


def test_a_fault_of_the_last_chunk_is_told_on_leaving(log: Log, begun: Begun, made: Any) -> None:
    match, played = begun(log), made()
    twice = [rows for rows in played.rows if isinstance(rows, QueryRows)] * 2
    leaving = log.shard(match, 0, 0, "f", played.keys)
    said = r"UNIQUE constraint failed: queries\.game_id|duplicate key value violates .* \"pk_queries\""
    with pytest.raises(LogError, match=said), leaving as recorder:
        recorder.record(Piece(queries=twice, games=played.games))
    assert not log.finished_shards(match)
    assert not rows_of(log, schema.queries)


def test_a_lost_server_is_told_and_the_next_shard_finds_it_again(
    postgresql: str, begun: Begun, made: Any
) -> None:
    with open_log(postgresql) as log:
        match = begun(log)
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        leaving = log.shard(match, 0, 0, "f", made().keys)
        with pytest.raises(LogError, match="the connection to the server was lost"), leaving as recorder:
            made().tell(recorder)
            with log.database.writer.connect() as connection:
                connection.execute(text(kill + " AND datname = current_database()"))
        with log.shard(match, 0, 0, "f", made().keys) as recorder:
            made().tell(recorder)
        assert log.finished_shards(match)
        assert log_is_clean(log, match)


def test_a_finished_shard_is_synced_and_chunks_are_not(
    path: Any, begun: Begun, made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_ROWS", 30)
    with open_log(path) as log:
        said: list[str] = []

        @event.listens_for(log.database.writer, "connect")
        def trace(connection: Any, _: Any) -> None:
            connection.set_trace_callback(said.append)

        with log.shard(begun(log), 0, 0, "f", made().keys) as recorder:
            made().tell(recorder)
        log.submit(lambda connection: None).result()
    transactions = "\n".join(said).split("PRAGMA synchronous=")
    (finished,) = [t for t in transactions if "INSERT INTO games" in t]
    assert finished.startswith("FULL\nBEGIN IMMEDIATE")
    assert "UPDATE shards" in finished
    assert finished.rstrip().endswith("COMMIT")
    chunks = [t for t in transactions if "INSERT INTO queries" in t and t is not finished]
    assert chunks
    assert all(t.startswith("NORMAL\nBEGIN IMMEDIATE") for t in chunks)
