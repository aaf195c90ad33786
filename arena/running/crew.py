"""Work that is done elsewhere, by those who may die of it: given out, heard and recorded by the one process
that holds the log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from arena.classifiers.served import Calls
from arena.messages import UserError
from arena.progress import remark
from arena.records.pieces import ShardLost
from arena.running.longest_first import LongestFirst
from arena.running.work import Hear, Work
from arena.running.workplace import Began, Ended, Message, Raised, Remark

TRIES = 3
"""How many workers may die of a piece of work before nobody tries it again."""


@dataclass(frozen=True)
class Died:
    """A worker ended amid its job.

    Attributes:
        how: in words.
    """

    how: str


Heard: TypeAlias = Message | Died


class Pool(Protocol):
    """Workers, each in a seat, numbered from 0."""

    @property
    def seats(self) -> int: ...

    def give(self, seat: int, job: bytes) -> None:
        """Have the worker of a free seat do a job."""

    def hear(self) -> tuple[int, Heard]:
        """Wait for what a worker says, or becomes of it: its seat and the message."""

    def drop(self, seat: int) -> None:
        """Have a job end in the middle."""


class CrewError(UserError):
    """Workers that do not come to work: one sentence."""


@dataclass(eq=False)
class _Flight:
    """A piece of work that a worker does: what it says is recorded until `recording` is left."""

    work: Work
    recording: ExitStack
    hear: Hear
    began: bool = False
    since: float = field(default_factory=time.monotonic)

    def abandon(self, error: BaseException) -> None:
        """Nothing of it is kept."""
        self.recording.__exit__(type(error), error, error.__traceback__)


class Crew:
    """`Players` that do the work in a pool.

    Args:
        calls: where the workers' calls of functions of the user's count.
    """

    def __init__(self, pool: Pool, calls: Calls) -> None:
        self._pool, self._calls = pool, calls
        self._flights: dict[int, _Flight] = {}
        self._deaths: Counter[Work] = Counter()
        self._never_began = 0

    def play(self, works: Iterable[Work]) -> Iterator[tuple[Work, bool]]:
        """Do all of it, longest first; yields each piece as it ends, and whether it was done here."""
        order = LongestFirst(works)
        try:
            while order or self._flights:
                for seat in set(range(self._pool.seats)) - self._flights.keys():
                    yield from self._give(seat, order)
                if self._flights:
                    seat, message = self._pool.hear()
                    yield from self._heard(seat, message, order)
        except BaseException as error:
            for seat in list(self._flights):
                self._drop(seat, error)
            raise

    def _give(self, seat: int, order: LongestFirst) -> Iterator[tuple[Work, bool]]:
        """Give a free seat the next piece that is not another process's."""
        while order:
            work, recording = order.take(), ExitStack()
            try:
                hear = recording.enter_context(work.recording())
            except ShardLost:
                yield work, False
                continue
            self._flights[seat] = _Flight(work, recording, hear)
            self._pool.give(seat, work.job())
            return

    def _heard(self, seat: int, message: Heard, order: LongestFirst) -> Iterator[tuple[Work, bool]]:
        flight = self._flights.get(seat)
        if flight is None:  # of a worker that had nothing to do
            return
        if isinstance(message, Ended):
            del self._flights[seat]
            self._calls.add(message.calls)
            order.took(flight.work, time.monotonic() - flight.since)
            yield flight.work, self._kept(flight)
        elif isinstance(message, Died):
            self._drop(seat, ShardLost(message.how))
            yield from self._died(flight, message.how, order)
        else:
            try:
                self._said(flight, message)
            except ShardLost as lost:
                self._drop(seat, lost)
                yield flight.work, False

    def _said(self, flight: _Flight, message: Message) -> None:
        if isinstance(message, Began):
            flight.began, self._never_began, flight.since = True, 0, time.monotonic()
        elif isinstance(message, Remark):
            remark(message.sentence)
        elif isinstance(message, Raised):
            raise message.again()
        else:
            flight.hear(message)

    def _kept(self, flight: _Flight) -> bool:
        """Whether what a worker did is kept for good now."""
        try:
            flight.recording.close()
        except ShardLost:
            return False
        return True

    def _died(self, flight: _Flight, how: str, order: LongestFirst) -> Iterator[tuple[Work, bool]]:
        work = flight.work
        if not flight.began:
            self._never_began += 1
            if self._never_began == TRIES:
                raise CrewError(
                    f"{TRIES} workers one after the other did not come to play: {how}, the last time before "
                    f"{work.name}; each worker needs memory for all that it loads"
                )
            order.put_back(work)
            return
        self._deaths[work] += 1
        if self._deaths[work] < TRIES:
            remark(f"a worker died amid {work.name}, which is played again: {how}")
            order.put_back(work)
        else:
            yield work, self._given_up(work, how)

    def _given_up(self, work: Work, how: str) -> bool:
        said = f"the worker died each of the {TRIES} times that this was played; the last time {how}"
        try:
            with work.recording() as hear:
                work.give_up(hear, said)
        except ShardLost:
            return False
        return True

    def _drop(self, seat: int, why: BaseException) -> None:
        """End a flight in the middle, and its worker with it."""
        self._pool.drop(seat)
        self._flights.pop(seat).abandon(why)
