"""Parts of the sentences that tell a user about a mistake in the input."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any


def one_line(text: str) -> str:
    """An untrusted text; blanks replace characters that could start a line or control a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


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
