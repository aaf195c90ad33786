"""What a match may take besides queries: quotas of notes and purposes, moves, time and memory."""

from __future__ import annotations

import time
from types import ModuleType

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from arena.game import driver
from arena.game import limits as metering
from arena.game.limits import Meter, resident
from arena.players import Defender, Games, Rows
from arena.rules.limits import PURPOSES, Limits
from arena.rules.moves import Note, Play, Volley, VolleyError
from arena.rules.threat import Threat

THREAT = Threat(epsilon=4 / 16, budget=5)


def said(record: object, key: str) -> list[str]:
    return [str(value) for rows in record.note_rows if rows.key == key for value in rows.value]  # type: ignore[attr-defined]


def test_a_game_leaves_so_many_notes_and_says_once_that_no_more_are_kept(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        for n in range(4):
            yield Note("k", float(n), torch.tensor([0]))
        yield Note("k", 9.0, torch.tensor([0, 1, 1, 1]))
        yield Note("accepted", 1.0, torch.tensor([0]))

    _, record = worlds.played(script, threat=THREAT, limits=Limits(notes=2))
    kept = [
        (g, v)
        for rows in record.note_rows
        if rows.key == "k"
        for g, v in zip(rows.game, rows.value, strict=True)
    ]
    assert kept == [(0, 0.0), (0, 1.0), (1, 9.0), (1, 9.0)]
    assert [rows.game.tolist() for rows in record.note_rows if rows.key == "quota"] == [[0], [1]]
    assert said(record, "quota") == ["no more notes are kept: a game may leave 2 (limits.notes)"] * 2


def test_notes_beyond_the_quota_are_heard_all_the_same(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        x = games.x0.clone()
        answers = yield from games.ask(x)
        while not games.wrong(answers).any():
            x = (x + 0.25 * torch.rand_like(x).sub(0.5)).clamp(0, 1)
            answers = yield from games.ask(games.project(x))
        yield Note("accepted", 1.0, games.wrong(answers).nonzero()[:, 0])

    torch.manual_seed(0)
    rows, record = worlds.played(script, threat=Threat(epsilon=1.0, budget=500), limits=Limits(notes=0))
    assert (rows.accepted_at > 0).any()
    assert not said(record, "accepted") and said(record, "quota")


def test_purposes_are_few(worlds: ModuleType) -> None:
    rejected: list[str] = []

    def script(games: Games) -> Play:
        for n in range(PURPOSES + 2):
            try:
                yield Volley(games.x0[:1], torch.tensor([0]), purpose=f"p{n}")
            except VolleyError as error:
                rejected.append(str(error))
        yield Volley(games.x0[:1], torch.tensor([0]), purpose="p1")

    rows, _ = worlds.played(script, threat=Threat(epsilon=4 / 16, budget=500))
    assert rejected == [
        f"a shard may use {PURPOSES} different purposes at most; found 'p{n}' too"
        for n in (PURPOSES, PURPOSES + 1)
    ]
    assert rows.queries[0] == PURPOSES + 1


def test_moves_without_a_query_have_an_end(worlds: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def script(games: Games) -> Play:
        while True:
            for _ in range(driver.IDLE_MOVES - 1):
                made.append(1)
                yield Note("k", 1.0, games.open[:0])
            yield Volley(games.x0, games.open)

    rows, record = worlds.played(script, threat=Threat(epsilon=4 / 16, budget=100), limits=Limits(moves=2500))
    assert rows.reason == ["error", "error"]
    assert len(made) == 2501
    assert (
        said(record, "error")
        == ["LimitError: 2,500 moves were made without a query, as many as may be (limits.moves)"] * 2
    )


def test_a_slow_move_ends_the_attackers_games(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield Volley(games.x0, games.open)
        time.sleep(0.3)
        yield Volley(games.x0, games.open)

    rows, record = worlds.played(script, threat=THREAT, limits=Limits(seconds=0.2))
    assert rows.reason == ["error", "error"]
    assert rows.queries.tolist() == [1, 1]
    assert said(record, "error")[0].startswith("LimitError: a move took 0.3")
    assert said(record, "error")[0].endswith("s; the limit is 0.2 s (limits.seconds)")


def test_a_slow_answer_is_the_defended_classifiers(worlds: ModuleType) -> None:
    class Slow(Defender):
        def transform(self, x: Tensor, rows: Rows) -> Tensor:
            time.sleep(0.3 if rows.turn.max() > 1 else 0)
            return x

    def script(games: Games) -> Play:
        while True:
            yield Volley(games.x0, games.open)

    rows, record = worlds.played(script, threat=THREAT, defenders=[Slow()], limits=Limits(seconds=0.2))
    assert rows.reason == ["error", "error"]
    assert said(record, "error")[0].startswith("the answer to a volley took 0.3")


def test_memory_that_grows_beyond_its_limit_ends_the_games(
    worlds: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "LOOKING", 0.0)
    held = []

    def script(games: Games) -> Play:
        while True:
            held.append(torch.ones(2**24))  # 64 MiB
            yield Volley(games.x0, games.open)

    rows, record = worlds.played(script, threat=THREAT, limits=Limits(memory=100))
    assert rows.reason == ["error", "error"]
    assert len(held) in (2, 3)
    assert said(record, "error")[0].endswith("the limit is 100 MiB (limits.memory)")


def test_without_limits_nothing_is_looked_at() -> None:
    meter = Meter(Limits(moves=None))
    for _ in range(10):
        meter.served(idle=True)
    assert meter.moved(1e9) is None


def test_resident_memory_is_that_of_the_process() -> None:
    before = resident()
    held = torch.ones(2**25)  # 128 MiB
    assert 100 * 2**20 < resident() - before < 200 * 2**20
    del held


@pytest.mark.parametrize("bad", [{"moves": 0}, {"notes": -1}, {"seconds": 0}, {"memory": -1}, {"time": 3}])
def test_limits_are_checked(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Limits(**bad)  # type: ignore[arg-type]
