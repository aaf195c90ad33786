"""How a play ends, whatever the attacker does: its mistakes cost it its games, and nobody else anything."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from arena.game.driver import IDLE_VOLLEYS
from arena.game.shard import play_games
from arena.players import Games, Play
from arena.records.reports import MemoryListener
from arena.rules.moves import Consult, Note, Resign, Submit, Volley, VolleyError
from arena.rules.threat import Threat

Script = Callable[[Games], Any]


def errors(record: MemoryListener) -> list[str]:
    notes = [n for n in record.note_rows if n.key == "error"]
    assert len(notes) == 1
    return [str(v) for v in notes[0].value]


def malformed(games: Games) -> Volley:
    return Volley(games.x0 * math.nan, torch.arange(len(games)))


def clean(games: Games) -> Volley:
    return Volley(games.x0, torch.arange(len(games)))


# Ends


def test_an_attacker_that_returns_has_resigned(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield clean(games)

    rows, _ = worlds.played(script)
    assert rows.reason == ["resigned", "resigned"]
    assert rows.queries.tolist() == [1, 1]


def test_an_attacker_without_a_move_has_resigned(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        return
        yield

    rows, record = worlds.played(script, at=[5])
    assert rows.reason == ["resigned", "resigned"]
    assert worlds.marks_of(record).keys() == {(g, at) for g in (0, 1) for at in (0, 5)}


def test_every_reason_that_an_attacker_can_bring_about(worlds: ModuleType) -> None:
    x0 = worlds.images([(8, 4, 0, 8)] * 6)

    def script(games: Games) -> Play:
        hit = games.x0[:1].clone()
        hit[0, 0, 0, :] = torch.tensor([6, 7]) / 16
        yield Volley(hit, torch.tensor([0]))
        yield Submit(games.x0[1:2], torch.tensor([1]))
        yield Resign(torch.tensor([2]))
        yield Resign(torch.tensor([3]), "no-start")
        yield from games.ask(games.x0[[4] * 10], torch.tensor([4] * 10))

    rows, _ = worlds.played(script, x0=x0, label=[0, 0, 0, 0, 0, 1])
    assert rows.reason == ["hit", "submitted", "resigned", "no-start", "budget", "clean"]
    assert rows.queries.tolist() == [1, 0, 0, 0, 10, 0]


def test_a_game_may_be_banned(worlds: ModuleType) -> None:
    x0 = worlds.images([(8, 0, 1, 1)])  # code 10: banned at once by a warden that remembers nothing

    def script(games: Games) -> Play:
        answers = yield clean(games)
        assert answers.banned.tolist() == [[True]]
        assert answers.refused.tolist() == [True]

    rows, _ = worlds.played(script, x0=x0, defenders=[worlds.warden()])
    assert rows.reason == ["banned"]
    assert rows.refused.tolist() == [1]


def test_games_that_are_wrong_from_the_start_are_not_played(worlds: ModuleType) -> None:
    asked: list[Any] = []

    def script(games: Games) -> Play:
        asked.append(games.open.tolist())
        yield clean(games)
        asked.append("again")

    rows, record = worlds.played(script, label=[2, 2])
    assert rows.reason == ["clean", "clean"]
    assert rows.queries.tolist() == [0, 0]
    assert asked == [[]]
    assert record.query_rows == []


# Mistakes


def test_a_malformed_volley_is_thrown_into_the_attacker_which_may_go_on(worlds: ModuleType) -> None:
    said: list[Any] = []

    def script(games: Games) -> Play:
        try:
            yield malformed(games)
        except VolleyError as error:
            said.append(str(error))
        answers = yield clean(games)
        said.append(answers.left.tolist())

    rows, record = worlds.played(script)
    assert said == ["images must be finite", [9, 9]]
    assert rows.reason == ["resigned", "resigned"]
    assert record.note_rows == []


def test_a_malformed_volley_that_is_not_caught_is_an_error_at_the_attackers_line(worlds: ModuleType) -> None:
    def inner(games: Games) -> Any:
        yield malformed(games)

    def script(games: Games) -> Play:
        yield clean(games)
        yield from inner(games)

    rows, record = worlds.played(script, at=[5])
    assert rows.reason == ["error", "error"]
    assert rows.queries.tolist() == [1, 1]
    line = inner.__code__.co_firstlineno + 1
    assert errors(record) == [f"VolleyError: images must be finite (test_driver.py:{line})"] * 2
    assert record.note_rows[0].turn.tolist() == [1, 1]
    assert len(worlds.marks_of(record)) == 4


def test_any_other_exception_is_an_error_of_the_games_still_open(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield Resign(torch.tensor([0]))
        yield Volley(games.x0[1:], torch.tensor([1]))
        raise ZeroDivisionError("one over none")

    rows, record = worlds.played(script)
    assert rows.reason == ["resigned", "error"]
    line = script.__code__.co_firstlineno + 3
    assert errors(record) == [f"ZeroDivisionError: one over none (test_driver.py:{line})"]
    assert record.note_rows[0].game.tolist() == [1]


@pytest.mark.parametrize("what", [None, [1, 2], "moves"])
def test_a_play_that_is_no_generator_is_an_error(worlds: ModuleType, what: Any) -> None:
    rows, record = worlds.played(lambda games: what)
    assert rows.reason == ["error", "error"]
    assert f"it returned {type(what).__name__}" in errors(record)[0]


def test_an_iterator_of_moves_is_no_generator(worlds: ModuleType) -> None:
    class Moves(Iterator[Any]):
        def __next__(self) -> Any:
            raise AssertionError

    rows, record = worlds.played(lambda games: Moves())
    assert rows.reason == ["error", "error"]
    assert "it returned Moves" in errors(record)[0]


def test_a_play_that_fails_before_its_first_move_is_an_error(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        raise RuntimeError("no")

    def later(games: Games) -> Play:
        raise RuntimeError("no")
        yield

    for each in (script, later):
        rows, record = worlds.played(each)
        assert rows.reason == ["error", "error"]
        assert errors(record)[0].startswith("RuntimeError: no (test_driver.py:")


@pytest.mark.parametrize("move", ["ask", None, 3, Volley, torch.zeros(1)])
def test_what_is_no_move_is_thrown_back(worlds: ModuleType, move: Any) -> None:
    def script(games: Games) -> Any:
        with pytest.raises(
            VolleyError, match="a move is a Volley, Submit, Claim, Resign, Note or Consult; found"
        ):
            yield move
        yield clean(games)

    rows, _ = worlds.played(script)
    assert rows.queries.tolist() == [1, 1]


def test_a_defenders_failure_is_not_blamed_on_the_attacker(worlds: ModuleType) -> None:
    closed = []

    class Failing(worlds.Flip):  # type: ignore[misc,name-defined]
        def rewrite(self, scores: Any, rows: Any) -> Any:
            if rows.turn.max() > 1:
                raise ArithmeticError("defender")
            return scores

    def script(games: Games) -> Play:
        try:
            while True:
                yield clean(games)
        except GeneratorExit:
            closed.append(True)
            raise

    referee, record = worlds.referee([Failing()])
    rows = play_games(worlds.Scripted(script), referee, referee.seat())
    assert closed == [True]
    assert rows.reason == ["error", "error"]
    (note,) = record.note_rows
    assert (note.key, note.game.tolist(), note.turn.tolist()) == ("error", [0, 1], [1, 1])
    assert re.fullmatch(
        r"Failing\.respond failed with ArithmeticError: defender \(test_driver\.py:\d+\)", str(note.value[0])
    )


def test_an_interrupt_is_no_error_of_the_attacker(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield clean(games)
        raise KeyboardInterrupt

    referee, record = worlds.referee()
    with pytest.raises(KeyboardInterrupt):
        play_games(worlds.Scripted(script), referee, referee.seat())
    assert record.game_rows is None


# Attackers that do not stop


def test_an_attacker_that_is_never_granted_a_row_is_stopped(worlds: ModuleType) -> None:
    asked = []

    def closed_games(games: Games) -> Play:
        yield Resign(torch.tensor([0]))
        while True:
            asked.append(1)
            answers = yield Volley(games.x0[:1], torch.tensor([0]))
            assert not answers.answered.any()

    rows, _ = worlds.played(closed_games)
    assert rows.reason == ["resigned", "stalled"]
    assert len(asked) == IDLE_VOLLEYS


def test_volleys_of_no_rows_and_malformed_ones_count_as_idle(worlds: ModuleType) -> None:
    tried = []

    def script(games: Games) -> Play:
        while True:
            tried.append(1)
            try:
                yield malformed(games) if len(tried) % 2 else Volley(games.x0[:0], torch.arange(0))
            except VolleyError:
                continue

    rows, _ = worlds.played(script)
    assert rows.reason == ["stalled", "stalled"]
    assert len(tried) == IDLE_VOLLEYS


def test_a_granted_row_ends_idling(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        yield Resign(torch.tensor([0]))
        for n in range(5 * (IDLE_VOLLEYS - 1)):
            which = 1 if n % (IDLE_VOLLEYS - 1) == 0 else 0
            yield Volley(games.x0[which : which + 1], torch.tensor([which]))

    rows, _ = worlds.played(script)
    assert rows.reason == ["resigned", "resigned"]
    assert rows.queries.tolist() == [0, 5]


def test_a_long_list_for_a_game_that_closes_does_not_stall_the_others(worlds: ModuleType) -> None:
    """Game 0 has 10 queries left and is asked 60 times, in pieces of 2, before game 1's turn."""

    def script(games: Games) -> Play:
        i = torch.arange(2).repeat_interleave(60)
        answers = yield from games.ask(games.x0[i], i)
        assert answers.answered.tolist() == ([True] * 10 + [False] * 50) * 2

    rows, record = worlds.played(script, max_rows=2)
    assert rows.reason == ["budget", "budget"]
    assert sum(len(q) for q in record.query_rows) == 20


def test_endless_remarks_are_stopped(worlds: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arena.game.driver.IDLE_MOVES", 50)

    def script(games: Games) -> Play:
        while True:
            yield Note("k", 1.0, torch.tensor([0]))

    rows, record = worlds.played(script)
    assert rows.reason == ["stalled", "stalled"]
    assert len(record.note_rows) == 50


@pytest.mark.parametrize("consults", [1500, 99_999])
def test_consults_are_no_remarks_but_endless_ones_are_stopped(
    worlds: ModuleType, monkeypatch: pytest.MonkeyPatch, consults: int
) -> None:
    monkeypatch.setattr("arena.game.driver.IDLE_CONSULTS", 1501)
    made = []

    def script(games: Games) -> Play:
        for _ in range(consults):
            made.append(1)
            yield Consult(games.x0, torch.arange(2), "gradient")
        yield Volley(games.x0, torch.arange(2))

    threat = Threat(epsilon=1, budget=1, knowledge="weights")
    rows, _ = worlds.played(script, threat=threat, of=worlds.smooth())
    assert rows.reason == (["budget"] * 2 if consults == 1500 else ["stalled"] * 2)
    assert len(made) == min(consults, 1501)
    assert rows.insider_queries.tolist() == [len(made)] * 2


def test_remarks_may_follow_the_last_answer_but_queries_end_the_play(worlds: ModuleType) -> None:
    went_on = []

    def script(games: Games) -> Play:
        while len(games.open):
            yield from games.ask(games.x0)
        yield from games.note("done", "yes", torch.arange(2))
        yield Resign(torch.arange(2))
        went_on.append("before")
        yield clean(games)
        went_on.append("after")

    rows, record = worlds.played(script)
    assert rows.reason == ["budget", "budget"]
    assert [n.key for n in record.note_rows] == ["done"]
    assert went_on == ["before"]


def test_acceptance_of_the_last_hit_is_heard_after_its_game(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        x = games.x0.flip(3)
        yield clean(games)
        answers = yield Volley(x, torch.arange(2))
        assert games.wrong(answers).all()
        yield Note("accepted", 1.0, torch.arange(2))

    x0 = worlds.images([(8, 6, 1, 1), (6, 8, 1, 1)])
    rows, record = worlds.played(script, x0=x0)
    assert rows.accepted_at.tolist() == rows.hit_at.tolist() == [2, 2]
    assert [n.key for n in record.note_rows] == ["accepted"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_attacker_that_will_not_be_closed_is_left_behind(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        while True:
            try:
                yield clean(games)
            except GeneratorExit:
                yield clean(games)

    rows, _ = worlds.played(script)
    gc.collect()
    assert rows.reason == ["budget", "budget"]
    assert rows.queries.tolist() == [10, 10]


def test_an_attacker_that_fails_when_closed_has_ended_all_the_same(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        try:
            while True:
                yield clean(games)
        finally:
            raise RuntimeError("too late")

    rows, record = worlds.played(script)
    assert rows.reason == ["budget", "budget"]
    assert record.note_rows == []


def test_an_attacker_without_an_end_is_stopped_once_its_games_are_over(worlds: ModuleType) -> None:
    def script(games: Games) -> Play:
        while True:
            yield from games.ask(games.x0[games.open], games.open)

    rows, _ = worlds.played(script, threat=Threat(norm="linf", epsilon=0.1, budget=3))
    assert rows.reason == ["budget", "budget"]
    assert rows.queries.tolist() == [3, 3]


@pytest.mark.parametrize("move", ["ask", "fools", "submit", "claim", "resign", "note"])
def test_an_attacker_that_only_makes_moves_about_no_games_has_stalled(worlds: ModuleType, move: str) -> None:
    def script(games: Games) -> Play:
        none = games.open[:0]
        arguments = {"resign": (none,), "note": ("key", 1, none)}.get(move, (games.x0[none], none))
        while True:
            yield from getattr(games, move)(*arguments)

    rows, _ = worlds.played(script)
    assert rows.reason == ["stalled", "stalled"]
    assert rows.queries.tolist() == [0, 0]
