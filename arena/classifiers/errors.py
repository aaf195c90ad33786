"""The one error of everything that a classifier may come from."""

from __future__ import annotations


class ClassifierError(ValueError):
    """A classifier that cannot be made or asked: one sentence on what was wrong, where, what is allowed."""


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    return said[0] if said else type(error).__name__
