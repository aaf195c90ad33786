"""What is being done, and how far it is: told from deep within, heard by whoever waits.

    with telling("fitting predcoin"):
        for epoch in range(epochs):
            tell("training F_Q", epoch, epochs)

A listener hears "fitting predcoin: training F_Q, 3 of 50". Without one, telling costs next to nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Work:
    """Work that is under way.

    Attributes:
        what: in words, from the whole to the part.
        done, of: how many steps of the innermost part are done, and of how many; None: nobody can say.
    """

    what: tuple[str, ...]
    done: int = 0
    of: int | None = None

    def __str__(self) -> str:
        far = "" if self.of is None else f", {self.done:,} of {self.of:,}"
        return ": ".join(self.what) + far


class WorkListener(Protocol):
    """Hears of work that takes time."""

    def working(self, work: Work | None) -> None:
        """This is being done now; None: nothing any more."""

    def remark(self, sentence: str) -> None:
        """Something that a user should know at once."""


_listener: ContextVar[WorkListener | None] = ContextVar("listener", default=None)
_within: ContextVar[tuple[str, ...]] = ContextVar("within", default=())


@contextmanager
def hearing(listener: WorkListener) -> Iterator[None]:
    """`listener` hears what is told within."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def tell(what: str, done: int = 0, of: int | None = None) -> None:
    """Tell how far a part of the work is: `done` steps of `of`, None where nobody can say."""
    if (listener := _listener.get()) is not None:
        listener.working(Work((*_within.get(), what), done, of))


@contextmanager
def telling(what: str) -> Iterator[None]:
    """What is told within is a part of `what`."""
    outer = _within.get()
    token = _within.set((*outer, what))
    listener = _listener.get()
    try:
        if listener is not None:
            listener.working(Work((*outer, what)))
        yield
    finally:
        _within.reset(token)
        if listener is not None:
            listener.working(Work(outer) if outer else None)


def remark(sentence: str) -> None:
    """Say something that a user should know at once; where nobody listens, as a warning of Python."""
    if (listener := _listener.get()) is not None:
        listener.remark(sentence)
    else:
        warnings.warn(sentence, RuntimeWarning, stacklevel=2)
