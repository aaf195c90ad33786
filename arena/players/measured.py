"""What defenders were measured to cost and to hold, in a file that comes with their package."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any, TypeAlias

FILE = "measured.jsonl"
"""Beside the modules of a package's defenders, or above them: a measurement a line."""

Interval: TypeAlias = tuple[float, float, float]
"""A figure and the ends of its 95 % interval; NaN where nothing was measured."""
UNKNOWN: Interval = (math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Measured:
    """A stack of defenders around one classifier, measured once (`python -m bench defenders`).

    Attributes:
        world: the data set and classifier, by a short name.
        stack: the names of its defenders, outermost first.
        parameters: those that are no defaults, in words.
        command, commit, machine: how, at which commit of the code, and where it was measured.
        failed: why it could not be measured, "" if it could.
        images: how many clean ones; accuracy: of them; lost: by how much that is below the undefended
            classifier's, a share.
        ece: expected calibration error, a share; bare_ece: the undefended classifier's.
        time: seconds of a query at one row over the undefended classifier's; seconds: of that query.
        preparing: seconds of `harden` and `fit`.
        games: how many were played against each attacker.
        square: the share of them that Square wins; hop_skip_jump: the median distance of HopSkipJump, in l2,
            infinite where it wins less than half; by `vote` where answers are no facts.
        sessions: how many benign clients of each kind were played; benign: by kind, the share of their
            queries that were refused, declined or answered with another label than undefended.
    """

    world: str
    stack: tuple[str, ...]
    command: str
    commit: str
    machine: str
    parameters: str = ""
    failed: str = ""
    images: int = 0
    accuracy: Interval = UNKNOWN
    lost: Interval = UNKNOWN
    ece: float = math.nan
    bare_ece: float = math.nan
    time: Interval = UNKNOWN
    seconds: float = math.nan
    preparing: float = math.nan
    games: int = 0
    square: Interval = UNKNOWN
    hop_skip_jump: Interval = UNKNOWN
    sessions: int = 0
    benign: Mapping[str, Interval] = field(default_factory=dict)

    def line(self) -> str:
        """This measurement as a line of `FILE`."""
        return json.dumps(self.values())

    def values(self) -> dict[str, Any]:
        """This measurement as JSON values: what JSON does not have, NaN and infinity, as texts."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def of_line(cls, line: str) -> Measured:
        """What `line` wrote.

        Raises:
            ValueError: if it is something else.
        """
        told = json.loads(line)
        if not isinstance(told, Mapping) or set(told) != {f.name for f in fields(cls)}:
            raise ValueError("it must be a table with the fields of arena.players.measured.Measured")
        return cls(**{f.name: _READ[str(f.type)](told[f.name]) for f in fields(cls)})


def measurements(text: str) -> list[Measured]:
    """The measurements of a file's text.

    Raises:
        ValueError: if a line is none, with its number.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found.append(Measured.of_line(line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{FILE}, line {number}: {error}") from error
    return found


def measured_beside(defender: type) -> list[Measured]:
    """All measurements of the nearest package around a defender's class that holds `FILE`; none without.

    Raises:
        ValueError: if the file cannot be read.
    """
    return next((found for package in _packages(defender.__module__) if (found := _of(package))), [])


def measured_alone(defender: type, name: str) -> list[Measured]:
    """Those of them in which the defender, registered as `name`, stood alone. Raises as `measured_beside`."""
    return [one for one in measured_beside(defender) if one.stack == (name,)]


@cache
def _of(package: str) -> list[Measured]:
    try:
        file = resources.files(package) / FILE
        return measurements(file.read_text(encoding="utf-8")) if file.is_file() else []
    except (ImportError, OSError, TypeError):  # a module is no package, or one that is not in a folder
        return []


def _packages(module: str) -> Iterator[str]:
    """The packages around a module, the nearest first."""
    while (module := module.rpartition(".")[0]) != "":
        yield module


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _interval(value: Any) -> Interval:
    figure, low, high = map(float, value)
    return figure, low, high


_READ: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "Interval": _interval,
    "Mapping[str, Interval]": lambda value: {str(key): _interval(one) for key, one in value.items()},
    "tuple[str, ...]": lambda value: tuple(map(str, value)),
}
