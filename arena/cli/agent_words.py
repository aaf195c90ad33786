"""Agents as the command line writes them: `square`, `square:p=0.3`, or a table in TOML or JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from arena.cli.console import CommandError
from arena.inputs.texts import TextError, read_json, read_toml
from arena.messages import quoted
from arena.scenario.lineups import Changes

_WITH_PARAMETERS = re.compile(r"(?P<name>[^={\[]+?):\s*(?P<rest>\w+\s*=.*)", re.S)
_FORMS = "NAME, NAME:KEY=VALUE,... or a table such as '{ name = \"NAME\", KEY = VALUE }'"


def agent_of(option: str, text: str) -> Any:
    """What a scenario would hold for an agent or a stack of them.

    Args:
        option: whose value `text` is, for error sentences.

    Raises:
        CommandError: if it is in none of these forms.
    """
    text = text.strip()
    if text.startswith(("{", "[")):
        return _table(option, text)
    if (found := _WITH_PARAMETERS.fullmatch(text)) is None:
        if not text or "=" in text:
            raise CommandError(f"{option}: found {quoted(text)}; it must be {_FORMS}")
        return text
    table: dict[str, Any] = {"name": found["name"].strip()}
    for part in _parts(found["rest"]):
        key, equals, value = (word.strip() for word in part.partition("="))
        if not (re.fullmatch(r"\w+", key) and equals and value) or key in table:
            raise CommandError(
                f"{option}: found {quoted(part.strip())} in {quoted(text)}; it must be {_FORMS}"
            )
        table[key] = _value(value)
    return table


def changes(
    attackers: Sequence[str],
    defenders: Sequence[str],
    more_attackers: Sequence[str],
    more_defenders: Sequence[str],
) -> Changes:
    """What `--attacker`, `--defender`, `--add-attacker` and `--add-defender` change in a scenario's lists."""
    return Changes(
        tuple(agent_of("--attacker", text) for text in attackers) or None,
        tuple(agent_of("--defender", text) for text in defenders) or None,
        tuple(agent_of("--add-attacker", text) for text in more_attackers),
        tuple(agent_of("--add-defender", text) for text in more_defenders),
    )


def _table(option: str, text: str) -> Any:
    """A table or list in JSON or, on one line, in TOML."""
    try:
        return read_json(text)
    except TextError:
        pass
    try:
        return read_toml(f"agent = {text}")["agent"]
    except TextError as error:
        why = str(error).removeprefix("is not valid TOML: ")
        raise CommandError(f"{option}: {quoted(text)} is neither valid TOML nor valid JSON: {why}") from error


def _parts(text: str) -> Iterator[str]:
    """What stands between the commas that no bracket or quotation mark encloses."""
    depth, quote, start = 0, "", 0
    for place, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            yield text[start:place]
            start = place + 1
    yield text[start:]


def _value(text: str) -> Any:
    """A value in TOML or JSON, or else a word: `loss=margin`, `of=square`."""
    with suppress(TextError):
        return read_toml(f"value = {text}")["value"]
    with suppress(TextError):
        return read_json(text)
    return text
