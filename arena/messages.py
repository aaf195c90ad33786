"""Parts of the sentences that tell a user about a mistake in the input."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def one_line(text: str) -> str:
    """An untrusted text; blanks replace characters that could start a line or control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def failure(error: BaseException, longest: int = 800) -> str:
    """What foreign code raised, in one line: the class, what it says, and the line of code that raised it.

    An exception that cannot even say what it is, or says a book, is told all the same.
    """
    kind = one_line(type(error).__name__)[:100]
    try:
        said = str(error)[:longest]
    except BaseException as second:  # whatever it is, it is foreign code's
        said = f"what it says cannot be shown ({one_line(type(second).__name__)[:100]})"
    return " ".join(f"{kind}: {one_line(said)}".split()) + _raised_in(error)


def _raised_in(error: BaseException) -> str:
    """The last line of the traceback, of the code outside installed packages if there is any."""
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
    found = "" if error["type"] == "value_error" and "found" in expected else f"found {error['input']!r}; "
    return f"{found}{expected[0].lower()}{expected[1:]}"
