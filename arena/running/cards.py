"""`card.toml`: who submits what, as a board shows it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from arena.inputs.places import kind_of
from arena.inputs.texts import TextError, read_toml
from arena.messages import UserError, fault, quoted, told

LARGEST = 2**16
"""Bytes of a card."""
LONGEST = 300
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_ADDRESS = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_CONTACTS = ("contact", "email", "e-mail", "mail", "author", "authors", "phone")
EXAMPLE = """agent = "square"
paper = "Andriushchenko et al., Square Attack, ECCV 2020"
code = "0123456789abcdef0123456789abcdef01234567"
url = "https://example.org/code"
versions = { torch = "2.13.0" }
"""


class CardError(UserError):
    """A card that cannot be shown: one sentence for each fault."""


def _line(value: Any) -> str:
    if not (isinstance(value, str) and value.strip() and value.isprintable() and len(value) <= LONGEST):
        raise ValueError(
            f"found {quoted(value)}; it must be text of at most {LONGEST} printable characters, on one line"
        )
    if _ADDRESS.search(value):
        raise ValueError("found an e-mail address; cards are published, contacts are left out")
    return value.strip()


def _sha(value: Any) -> str:
    if isinstance(value, str) and _SHA.fullmatch(value.lower()):
        return value.lower()
    raise ValueError(
        f"found {quoted(value)}; it must be the code's SHA in full: 40 hexadecimal digits of a git commit, "
        f"or 64 of a SHA-256"
    )


def _url(value: Any) -> str:
    text = _line(value)
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", text):
        raise ValueError(f"found {quoted(value)}; it must be an address that begins with https:// or http://")
    return text


Line = Annotated[str, BeforeValidator(_line)]


class Card(BaseModel):
    """What a board says of a submission.

    Attributes:
        agent: the agent that is submitted, by its name in the scenario.
        paper: where it is described.
        code: the SHA of its code. url: where that lies.
        versions: of what it was played with, by the names that the log has them under, as far as told.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: Line
    paper: Line
    code: Annotated[str, BeforeValidator(_sha)]
    url: Annotated[str, BeforeValidator(_url)] | None = None
    versions: dict[Line, Line] = Field(default={}, max_length=50)


def read_card(path: Path) -> Card:
    """The card at a path.

    Raises:
        CardError: if there is none, or it is not one; a sentence for each fault.
    """
    if kind_of(path) != "file":
        raise CardError(f"there is no card at {path}; one reads:\n{EXAMPLE}")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise CardError(f"{path} is larger than a card may be, {LARGEST:,} bytes")
        table = read_toml(content.decode())
    except TextError as error:
        raise CardError(f"{path} {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path} cannot be read: {error}") from error
    try:
        return Card.model_validate(table)
    except ValidationError as error:
        raise CardError(*told(error.errors(), lambda one: _sentence(one, path))) from error


def _sentence(error: Any, path: Path) -> str:
    place = [str(part) for part in error["loc"]]
    if error["type"] == "extra_forbidden" and place[-1].lower() in _CONTACTS:
        return f"{path}: {place[-1]}: cards are published, contacts are left out"
    if error["type"] == "missing" and place == ["code"]:
        return f"{path}: code: this key is missing; it is the SHA of the agent's code"
    key = ".".join(part for part in place if part != "[key]")
    return f"{path}: {key}: {fault(error, list(Card.model_fields))}"
