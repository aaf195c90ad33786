"""The files of a submission, and the code that its scenario names: looked at before anything of it is run."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.classifiers.networks import NETWORKS
from arena.inputs.places import kind_of
from arena.inputs.texts import TextError, read_toml
from arena.messages import UserError
from arena.scenario.files import LARGEST

CARD = "card.toml"
LOGS = (".db", ".sqlite", ".sqlite3")
_CODE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_ZOOS = ("timm:", "torchvision:")
_SIDES = ("attackers", "defenders")


class SubmissionError(UserError):
    """A folder that cannot be looked at as a submission: one sentence."""


@dataclass(frozen=True)
class Files:
    """The three files of a submission."""

    scenario: Path
    log: Path
    card: Path


def find_files(folder: Path) -> Files:
    """The scenario, the log and the card in a folder.

    Raises:
        SubmissionError: if there are not one of each.
    """
    if kind_of(folder) != "folder":
        raise SubmissionError(f"there is no folder {folder}; a submission is a folder with three files")
    inside = sorted(path for path in folder.iterdir() if kind_of(path) == "file")
    scenarios = [path for path in inside if path.suffix == ".toml" and path.name != CARD]
    logs = [path for path in inside if path.suffix in LOGS]
    for what, found in (("scenario (a .toml beside card.toml)", scenarios), ("log (a .db)", logs)):
        if len(found) != 1:
            named = ", ".join(path.name for path in found[:5]) or "none"
            raise SubmissionError(f"{folder} must hold one {what}; found {named}")
    return Files(scenarios[0], logs[0], folder / CARD)


def check_code(scenario: Path, trusted: Collection[str]) -> None:
    """Let a scenario name only code that is the arena's, installed here, trusted, or played apart.

    Agents that are named as "module:Class" may play where the scenario says `isolation = "process"` and
    nothing else anywhere: no process but their own imports them then. Networks are always imported here.

    Raises:
        SubmissionError: if the file cannot be read, or names other code.
    """
    try:
        with scenario.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise SubmissionError(f"{scenario} is larger than a scenario may be, {LARGEST:,} bytes")
        table = read_toml(content.decode())
    except (TextError, OSError, UnicodeDecodeError) as error:
        raise SubmissionError(f"{scenario} cannot be read: {error}") from error
    agents = {name for name in _agents(table) if name not in trusted}
    networks = {name for name in _networks(table) if name not in trusted}
    apart = table.get("isolation") == "process" and set(_values(table, "isolation")) == {"process"}
    if networks:
        raise SubmissionError(f"{scenario} names the network {_some(networks)}; {_would_run('--trust')}")
    if agents and not apart:
        way = 'isolation = "process" in the scenario, or --trust'
        raise SubmissionError(f"{scenario} names the agent {_some(agents)}; {_would_run(way)}")


def _would_run(way: str) -> str:
    return f"that is the submitter's code, which nothing here runs without {way}"


def _some(names: Collection[str]) -> str:
    return ", ".join(f'"{name[:100]}"' for name in sorted(names)[:3])


def _agents(table: Any) -> Iterator[str]:
    """All words of the form "module:Class" below lists of agents."""
    for side in _SIDES:
        for found in _values(table, side):
            yield from (word for word in _words(found) if _CODE.fullmatch(word))


def _networks(table: Any) -> Iterator[str]:
    """The networks that are neither the table's nor a zoo's: a user's modules and program files."""
    named = [*_values(table, "network"), *_values(table, "classifier")]
    for name in named:
        if isinstance(name, str) and name not in NETWORKS and not name.startswith(_ZOOS):
            yield name


def _values(table: Any, key: str) -> Iterator[Any]:
    """All values of a key, at any depth."""
    if isinstance(table, Mapping):
        for name, value in table.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(table, list):
        for value in table:
            yield from _values(value, key)


def _words(value: Any) -> Iterator[str]:
    """All texts, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _words(one)
    elif isinstance(value, list):
        for one in value:
            yield from _words(one)
