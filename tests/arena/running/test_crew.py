"""Work given to a pool: recorded as it is heard, begun anew where a worker dies, given up in the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from arena.classifiers.served import Calls
from arena.progress import hearing
from arena.records.pieces import ShardLost
from arena.running.crew import TRIES, Crew, CrewError, Died, Heard
from arena.running.longest_first import LongestFirst
from arena.running.workplace import Began, Ended, Raised, Remark


class Piece:
    """A piece of work that keeps what it hears, if it ends well."""

    def __init__(self, name: str, size: float = 1.0, kind: int = 0, taken: bool = False) -> None:
        self.name, self.size, self.kind, self.taken = name, size, kind, taken
        self.kept: list[Any] = []
        self.opened = self.left = 0
        self.loses_at: Any = None

    @contextmanager
    def recording(self) -> Iterator[Callable[[Any], None]]:
        if self.taken:
            raise ShardLost("another process plays it")
        self.opened += 1
        heard: list[Any] = []

        def hear(message: Any) -> None:
            if message == self.loses_at:
                raise ShardLost("its rows are gone")
            heard.append(message)

        try:
            yield hear
        except BaseException:
            self.left += 1
            raise
        self.kept += heard

    def do(self, hear: Callable[[Any], None]) -> None:
        raise AssertionError("this is work for others")

    def job(self) -> bytes:
        return self.name.encode()

    def give_up(self, hear: Callable[[Any], None], said: str) -> None:
        hear(said)


class Scripted:
    """A pool whose workers say what a script has for each time that a piece is begun."""

    def __init__(self, seats: int, script: dict[str, list[list[Heard | Any]]]) -> None:
        self.seats, self.script = seats, {name: deque(times) for name, times in script.items()}
        self.given: list[tuple[int, str]] = []
        self.dropped: list[int] = []
        self.coming: dict[int, deque[Any]] = {}

    def give(self, seat: int, job: bytes) -> None:
        assert not self.coming.get(seat), "a seat has one job at a time"
        self.given.append((seat, job.decode()))
        said = self.script.get(job.decode())
        self.coming[seat] = deque(said.popleft() if said else [Began(), "rows", Ended(Calls())])

    def hear(self) -> tuple[int, Any]:
        seat = next(seat for seat, coming in self.coming.items() if coming)
        message = self.coming[seat].popleft()
        if isinstance(message, BaseException):
            raise message
        return seat, message

    def drop(self, seat: int) -> None:
        self.dropped.append(seat)
        self.coming.pop(seat, None)


class Ear:
    def __init__(self) -> None:
        self.remarks: list[str] = []

    def working(self, work: object) -> None:
        pass

    def remark(self, sentence: str) -> None:
        self.remarks.append(sentence)


def play(pool: Scripted, *works: Piece) -> list[tuple[str, bool]]:
    return [(work.name, here) for work, here in Crew(pool, Calls()).play(works)]


def test_all_is_kept_as_it_was_said_with_any_number_of_seats() -> None:
    for seats in (1, 2, 7):
        works = [Piece(str(n)) for n in range(5)]
        assert sorted(play(Scripted(seats, {}), *works)) == [(str(n), True) for n in range(5)]
        assert [(w.kept, w.opened, w.left) for w in works] == [(["rows"], 1, 0)] * 5


def test_what_a_dead_worker_said_is_forgotten_and_the_piece_begun_anew() -> None:
    pool = Scripted(1, {"a": [[Began(), "half", Died("SIGKILL ended it")]]})
    a, b = Piece("a", 2), Piece("b")
    with hearing(ear := Ear()):
        assert play(pool, a, b) == [("a", True), ("b", True)]
    assert (a.kept, a.opened, a.left) == (["rows"], 2, 1)
    assert pool.dropped == [0]
    assert ear.remarks == ["a worker died amid a, which is played again: SIGKILL ended it"]


def test_a_piece_that_kills_its_worker_each_time_is_given_up_and_the_others_are_played() -> None:
    deadly = [[Began(), "half", Died(f"it ended with status {n}")] for n in range(TRIES)]
    a, b = Piece("a", 2), Piece("b")
    with hearing(Ear()):
        assert play(Scripted(1, {"a": deadly}), a, b) == [("a", True), ("b", True)]
    (said,) = a.kept
    assert said == (
        "the worker died each of the 3 times that this was played; the last time it ended with status 2"
    )
    assert (a.opened, a.left) == (TRIES + 1, TRIES)


def test_deaths_before_play_are_no_piece_s_fault_and_end_the_run_if_none_comes_to_play() -> None:
    born_dead = [[Died("SIGKILL ended it")]] * (TRIES - 1)
    a = Piece("a")
    assert play(Scripted(1, {"a": list(born_dead)}), a) == [("a", True)]
    with pytest.raises(CrewError, match="3 workers one after the other did not come to play: SIGKILL ended"):
        play(Scripted(1, {"a": [*born_dead, *born_dead]}), Piece("a"))


def test_what_another_process_took_is_said_to_be_lost() -> None:
    taken, late, free = Piece("taken", taken=True), Piece("late"), Piece("free")
    late.loses_at = "rows"
    pool = Scripted(1, {})
    assert sorted(play(pool, taken, late, free)) == [("free", True), ("late", False), ("taken", False)]
    assert (late.kept, late.left, len(pool.dropped)) == ([], 1, 1), "its worker does not go on with it"


def test_an_error_of_a_worker_is_raised_with_where_it_came_from() -> None:
    try:
        raise ValueError("of the classifier")
    except ValueError as error:
        raised = Raised.of(error)
    a, b = Piece("a"), Piece("b")
    with pytest.raises(ValueError, match="of the classifier") as caught:
        play(Scripted(2, {"a": [[Began(), raised]], "b": [[Began()]]}), a, b)
    assert "test_crew.py" in str(caught.value.__cause__)
    assert (a.left, b.left, a.kept, b.kept) == (1, 1, [], [])


def test_an_error_that_cannot_be_sent_is_told() -> None:
    class Local(Exception):
        pass

    assert str(Raised.of(Local("what it says")).again()) == "Local: what it says"


def test_an_interruption_leaves_nothing_half_kept() -> None:
    works = [Piece(name) for name in "abc"]
    with pytest.raises(KeyboardInterrupt):
        play(Scripted(2, {"a": [[Began(), "rows"]], "b": [[KeyboardInterrupt()]]}), *works)
    assert [(w.opened, w.left, w.kept) for w in works] == [(1, 1, []), (1, 1, []), (0, 0, [])]


def test_remarks_are_passed_on_and_calls_are_counted() -> None:
    made, all_calls = Calls(), Calls()
    made.calls["f", "queries"], made.images["f", "queries"] = 2, 30
    pool = Scripted(1, {"a": [[Began(), Remark("the service is slow"), Ended(made)]]})
    with hearing(ear := Ear()):
        assert len(list(Crew(pool, all_calls).play([Piece("a"), Piece("b")]))) == 2
    assert ear.remarks == ["the service is slow"]
    assert all_calls.of("f")["queries"] == (2, 30)


def test_the_longest_is_given_first_by_size_and_then_by_what_was_seen() -> None:
    order = LongestFirst(
        [Piece("small", 1, 0), Piece("large", 9, 1), Piece("more", 8, 1), Piece("mid", 4, 2)]
    )
    assert order
    large = order.take()
    assert large.name == "large"
    order.took(large, 0.9)  # a tenth of a second for each unit, of this kind and, until more is known, of all
    assert [order.expected(Piece("x", 4, kind)) for kind in (1, 2)] == pytest.approx([0.4, 0.4])
    order.took(Piece("seen", 1, 0), 5.0)
    assert order.take().name == "small", "five seconds for its one, though eight units wait elsewhere"
    assert order.expected(Piece("x", 4, 2)) == pytest.approx(4 * 5.9 / 10)
    assert [order.take().name for _ in range(2)] == ["mid", "more"]
    assert not order
    order.put_back(large)
    assert order.take() is large
    with pytest.raises(IndexError):
        order.take()
