"""What a run consists of, piece by piece, and who does it: here, in the process that holds the log, or
elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from arena.records.pieces import ShardLost

Hear = Callable[[Any], None]
"""Hears what comes of a piece of work."""


class Work(Protocol):
    """A piece of work.

    Attributes:
        name: in a sentence.
        kind: which pieces take about equally long for their `size`.
        size: how much it is expected to take, in any unit that all pieces share.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> int: ...

    @property
    def size(self) -> float: ...

    def recording(self) -> AbstractContextManager[Hear]:
        """What comes of it is kept within the `with` statement, for good when that ends well. Entering it,
        and all within, may raise `ShardLost`."""

    def do(self, hear: Hear) -> None:
        """Do it in this process."""

    def job(self) -> bytes:
        """It in a form that a worker takes."""

    def give_up(self, hear: Hear, said: str) -> None:
        """Have recorded why nothing comes of it."""


class Players(Protocol):
    """Those who do the work of a run."""

    def play(self, works: Iterable[Work]) -> Iterator[tuple[Work, bool]]:
        """Do all of it; yields each piece as it ends, and whether it was done here: another process may have
        come first."""


class Here:
    """This process alone, in the order given."""

    def play(self, works: Iterable[Work]) -> Iterator[tuple[Work, bool]]:
        for work in works:
            try:
                with work.recording() as hear:
                    work.do(hear)
            except ShardLost:
                yield work, False
            else:
                yield work, True
