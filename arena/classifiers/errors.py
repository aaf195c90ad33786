"""The error raised by everything that builds, loads or runs a classifier."""

from __future__ import annotations

from arena.messages import one_line

_LONGEST = 2000


class ClassifierError(ValueError):
    """A classifier that cannot be built or run: one sentence on what was wrong, where, what is allowed.

    A sentence may quote an untrusted file: it is kept to one line of printable characters.
    """

    def __init__(self, sentence: str) -> None:
        line = one_line(sentence)
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ...")


class ServiceError(ClassifierError):
    """A user's function that asks a service failed again and again: one sentence."""


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
