"""The rows of a log in pieces, against the tables themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from arena.log import Log, LogError, questions, schema
from arena.log.exports import TABLES, columns_of, snapshot
from arena.log.overview import overview


@pytest.fixture
def filled(log: Log, begun: Callable[..., int], made: Callable[..., Any], run_info: Any) -> Log:
    """Run 1: two matches of two finished shards, the first with one unfinished besides; run 2: the second."""
    ids = begun(log, 0), begun(log, 1)
    for match in ids:
        for number in (1, 0):
            shard = made(games=4, seed=number)
            with log.shard(match, number, 0, "f", shard.keys) as recorder:
                shard.tell(recorder)
    with pytest.raises(RuntimeError), log.shard(ids[0], 2, 0, "f", shard.keys) as recorder:
        shard.tell(recorder)
        raise RuntimeError
    again = log.begin_run(replace(run_info, fingerprint="again", scenario="other"))
    first = questions.match(log, ids[1]).info
    assert log.begin_match(again, first) == ids[1]
    return log


def rows(log: Log, name: str, run: int | None = None, size: int = 3) -> list[Any]:
    with snapshot(log, run) as seen:
        pieces = list(seen.rows(TABLES[name], size))
    assert all(len(piece) <= size for piece in pieces)
    return [tuple(row) for piece in pieces for row in piece]


def test_every_table_is_read_whole_in_pieces(filled: Log) -> None:
    views = {name: getattr(schema, f"finished_{name}", TABLES[name]) for name in TABLES}
    for name, table in TABLES.items():
        view = views[name]
        names = [column.name for column in columns_of(table)]
        assert "final" not in names
        wanted = select(*(view.c[n] for n in names)).order_by(*(view.c[k.name] for k in table.primary_key))
        expected = [tuple(row) for row in questions.ask(filled, wanted)]
        if name == "shards":
            expected = [row for row in expected if row[names.index("state")] == schema.FINISHED]
        found = rows(filled, name)
        assert sorted(map(repr, found)) == sorted(map(repr, expected))
        assert found or name in ("utilities", "benign")


def test_a_run_is_read_without_the_others(filled: Log) -> None:
    assert [row[0] for row in rows(filled, "runs", 2)] == [2]
    assert len(rows(filled, "entries", 2)) == len(rows(filled, "matches", 2)) == 1
    assert len(rows(filled, "games", 2)) == 8 and len(rows(filled, "games", 1)) == 16
    ids = {row[0] for row in rows(filled, "games", 2)}
    for name in ("marks", "queries", "notes"):
        own = rows(filled, name, 2)
        assert own and {row[0] for row in own} <= ids
        assert 2 * len(own) == len(rows(filled, name, 1))
    assert 0 < len(rows(filled, "purposes", 2)) < len(rows(filled, "purposes"))
    with pytest.raises(LogError, match="has no run 7; it holds 1, 2"):
        rows(filled, "runs", 7)


def test_final_images_are_those_of_the_games_that_were_played(filled: Log) -> None:
    with snapshot(filled) as seen:
        matches = seen.matches()
        assert [match_id for match_id, _ in matches] == [1, 2]
        for match_id, shape in matches:
            pieces = list(seen.finals(match_id, shape))
            ids = np.concatenate([piece.game for piece in pieces]).tolist()
            assert len(ids) == seen.played(match_id)
            outcomes = questions.outcomes(filled, match_id)
            played = [reason != "clean" for reason in outcomes.reason]
            assert sorted(ids) == sorted(outcomes.game[played].tolist())
            for piece in pieces:
                for place, game_id in enumerate(piece.game.tolist()):
                    game = questions.game(filled, game_id)
                    assert (game.image, game.label) == (piece.image[place], piece.label[place])
                    np.testing.assert_array_equal(game.final, piece.final[place])


def test_runs_are_counted_by_finished_shards(filled: Log) -> None:
    one, other = overview(filled)
    assert (one.id, one.scenario, one.planned, other.scenario, other.planned) == (
        1,
        "trial.toml",
        2,
        "other",
        1,
    )
    assert (one.done, other.done) == (2, 1)
    games = [questions.outcomes(filled, match) for match in (1, 2)]
    played = [sum(reason != "clean" for reason in g.reason) for g in games]
    assert (one.games, other.games) == (sum(played), played[1])
    assert one.queries == sum(int(g.queries.sum()) for g in games)
    assert one.ended is None
