"""Words for people who made a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def one_line(text: str) -> str:
    """A text that a stranger may have written, without the characters that could leave its line or steer a
    terminal: blanks stand for them."""
    return "".join(c if c.isprintable() else " " for c in text)


def near(word: str, allowed: Iterable[str]) -> str:
    """What is allowed in place of `word`, and what was perhaps meant."""
    options = sorted(allowed)
    match = difflib.get_close_matches(word, options, n=1)
    meant = f'did you mean "{match[0]}"? ' if match else ""
    return f"{meant}allowed: {', '.join(options) or 'nothing'}"


def fault(error: Mapping[str, Any], allowed: Iterable[str], said: str | None = None) -> str:
    """What one of pydantic's errors says of a key: what was found, and what is allowed.

    Args:
        allowed: the keys that there are, where this one is not.
        said: what is allowed as its value, in place of pydantic's words.
    """
    if error["type"] == "extra_forbidden":
        return f"there is no such key; {near(str(error['loc'][-1]), allowed)}"
    if error["type"] == "missing":
        return "this key is missing"
    said = said or error["msg"].removeprefix("Value error, ")
    found = "" if error["type"] == "value_error" and "found" in said else f"found {error['input']!r}; "
    return f"{found}{said[0].lower()}{said[1:]}"
