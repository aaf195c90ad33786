"""TOML and JSON of unknown origin."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

DEEPEST = 50
"""Tables and lists within each other."""
LARGEST = 2**63
"""Whole numbers lie below it, as TOML asks; Python turns longer ones into text slowly, or not at all."""


class TextError(ValueError):
    """A text that is not read: the end of a sentence about it."""


def read_toml(text: str) -> dict[str, Any]:
    """The table that a text in TOML holds; TextError for any other text, and beyond the limits above."""
    found: dict[str, Any] = _read(text, "TOML", tomllib.loads)
    return found


def read_json(text: str) -> Any:
    """The value that a text in JSON holds; TextError for any other text, and beyond the limits above."""
    return _read(text, "JSON", json.loads)


def _read(text: str, language: str, parse: Callable[[str], Any]) -> Any:
    try:
        found = parse(text)
    except (ValueError, RecursionError) as error:
        raise TextError(f"is not valid {language}: {_reason(error)}") from error
    _check(found)
    return found


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"tables and lists lie within each other deeper than {DEEPEST}"
    if "integer string conversion" in str(error):
        return "a whole number has thousands of digits; the largest is 2^63 - 1"
    return str(error)


def _check(found: Any) -> None:
    level: list[Any] = [[found]]
    for _ in range(DEEPEST + 1):
        level = [part for value in level for part in _parts(value)]
        for value in level:
            if isinstance(value, int) and not -LARGEST <= value < LARGEST:
                raise TextError("holds a whole number beyond the range of -2^63 to 2^63 - 1")
        if not level:
            return
    raise TextError(f"holds tables and lists deeper within each other than {DEEPEST}")


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
