"""Parts of the sentences that tell a user about a mistake in the input."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

Fault = TypeVar("Fault")

_LONGEST = 2000
_FAULTS = 10


class UserError(Exception):
    """What a user can mend: one sentence on what was wrong, where, and what is allowed; or one for each of
    several faults.

    A sentence may quote an untrusted file: it is one line of at most 2,000 printable characters.
    """

    def __init__(self, *sentences: str) -> None:
        super().__init__(*map(brief, sentences))

    def __str__(self) -> str:
        return "\n".join(self.args)


def told(faults: Sequence[Fault], sentence: Callable[[Fault], str]) -> list[str]:
    """The sentences for some faults; of many for the first 10, and how many more there are."""
    more = len(faults) - _FAULTS
    return [*map(sentence, faults[:_FAULTS]), *[f"... and {more:,} more faults like these"] * (more > 0)]


def brief(text: str) -> str:
    """One line of printable characters; of more than 2,000 the first and, with the reason, the last."""
    line, half = one_line(text), _LONGEST // 2
    return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"


def quoted(value: object) -> str:
    """What was found, as Python writes it, cut after 500 characters."""
    try:
        text = repr(value)
    except Exception:  # of a whole number too long to be written, or of a caller's own class
        return f"a {type(value).__name__} that cannot be written"
    return text if len(text) <= 500 else f"{text[:500]} ..."


def first_line(error: BaseException) -> str:
    """What an exception says, in one line."""
    try:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    except BaseException:  # whatever it is, it is foreign code's
        lines = []
    return one_line(lines[0] if lines else type(error).__name__)


def in_short(error: BaseException) -> str:
    """The class of an exception and what it says, in one line."""
    kind, said = one_line(type(error).__name__), first_line(error)
    return kind if said == kind else f"{kind}: {said}"


def one_line(text: str) -> str:
    """An untrusted text; blanks replace characters that could start a line or control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def harmless(text: str) -> str:
    """An untrusted text for a terminal, its lines and tabs kept; blanks replace what could control it."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def failure(error: BaseException, longest: int = 800) -> str:
    """What foreign code raised, in one line: the class, what it says, and the line of code that raised it.

    An exception that cannot even say what it is, or says a book, is told all the same.
    """
    kind = one_line(type(error).__name__)[:100]
    try:
        said = str(error)[:longest]
    except BaseException as second:  # whatever it is, it is foreign code's
        said = f"what it says cannot be shown ({one_line(type(second).__name__)[:100]})"
    return " ".join(f"{kind}: {one_line(said)}".split()) + raised_in(error)


def raised_in(error: BaseException) -> str:
    """The last line of the traceback, of the code outside installed packages if there is any, as the end of a
    sentence: " (FILE:LINE)", or nothing."""
    places = [(f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)]
    own = [place for place in places if "site-packages" not in place[0]]
    if not places:
        return ""
    file, line = (own or places)[-1]
    return f" ({one_line(Path(file).name)}:{line})"


def near(word: str, allowed: Iterable[str]) -> str:
    """The end of an error sentence about `word`: the closest of the `allowed` words, and all of them."""
    options = sorted(allowed)
    match = difflib.get_close_matches(word, options, n=1)
    meant = f'did you mean "{match[0]}"? ' if match else ""
    return f"{meant}allowed: {', '.join(options) or 'nothing'}"


def fault(error: Mapping[str, Any], allowed: Iterable[str], expected: str | None = None) -> str:
    """One of pydantic's errors as a sentence about its key: what was found, and what is allowed.

    Args:
        allowed: the keys that exist, for an error about an unknown key.
        expected: what is allowed as the key's value; None: pydantic's own words.
    """
    if error["type"] == "extra_forbidden":
        return f"there is no such key; {near(str(error['loc'][-1]), allowed)}"
    if error["type"] == "missing":
        return "this key is missing"
    expected = expected or error["msg"].removeprefix("Value error, ")
    found = (
        "" if error["type"] == "value_error" and "found" in expected else f"found {quoted(error['input'])}; "
    )
    return f"{found}{expected[0].lower()}{expected[1:]}"
