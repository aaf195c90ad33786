"""Blocks of a scenario file: worlds, threats, agents and settings, checked key by key."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    field_validator,
    model_validator,
)

from arena.classifiers import ClassifierSpec
from arena.classifiers.devices import CUDA_ROWS
from arena.datasets import DATASETS, DatasetSpec
from arena.evaluation.benign.plan import NONE, Traffic, as_traffic
from arena.messages import quoted
from arena.records.pieces import LogLevel
from arena.rules.limits import USUAL, Limits
from arena.rules.outcome import Verdict
from arena.rules.threat import Threat, parse_epsilon
from arena.scenario.lineups import ALL

Count = Annotated[int, Field(strict=True, ge=1, le=2**24)]
Votes = Annotated[int, Field(strict=True, ge=1, le=2**16)]
Rows = Annotated[int, Field(strict=True, ge=1, le=CUDA_ROWS)]
Isolation = Literal["none", "process"]
LONGEST_TITLE = 200
MOST_STEPS = 200
"""Of a range of radii."""


class World(BaseModel):
    """A data set and a classifier for it; the default is the packaged classifier of the digits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: DatasetSpec = DatasetSpec(name="digits")
    classifier: ClassifierSpec = ClassifierSpec(network="digits-cnn")

    @field_validator("dataset", mode="before")
    @classmethod
    def _dataset_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("classifier", mode="before")
    @classmethod
    def _network_by_name(cls, value: Any) -> Any:
        return {"network": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _classifier_named(self) -> Self:
        name = self.dataset.name
        if "classifier" not in self.model_fields_set and name in DATASETS and name != "digits":
            raise ValueError(f'classifier: found none; data set "{name}" needs one to be named')
        return self


def _as_written(value: Any) -> Any:
    """A threat from a table. Numbers must be numbers: `budget = "100"` is an error."""
    return Threat.model_validate(value, strict=True) if isinstance(value, dict) else value


def _agents(value: Any) -> Any:
    return (value,) if value == ALL else value


Agents = Annotated[tuple[Any, ...], BeforeValidator(_agents), Field(min_length=1)]


def _radius(value: Any) -> float:
    return parse_epsilon(value, "a radius")


def _radii(value: Any) -> Any:
    """A list of radii as it is; of a range its steps + 1 evenly spaced radii, without 0."""
    if not isinstance(value, dict):
        return value
    if (named := set(value)) != {"from", "to", "steps"}:
        raise ValueError(f"a range has from, to and steps; found {', '.join(sorted(named)) or 'none'}")
    steps = value["steps"]
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps must be a whole number from 1 to {MOST_STEPS}; found {quoted(steps)}")
    none = not isinstance(value["from"], bool) and value["from"] == 0
    first, last = 0.0 if none else parse_epsilon(value["from"], "from"), parse_epsilon(value["to"], "to")
    if not first < last < math.inf:
        raise ValueError(f"a range goes from a radius to a larger finite one; found {first:g} to {last:g}")
    return tuple(radius for radius in np.linspace(first, last, steps + 1).tolist() if radius > 0)


def check_title(value: Any) -> None:
    """Raises ValueError, the end of a sentence, unless `value` is a text that can be shown on one line."""
    if not (isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TITLE):
        allowed = f"text of at most {LONGEST_TITLE} printable characters, on one line"
        raise ValueError(f"found {quoted(value)}; it must be {allowed}")


def _title(value: Any) -> Any:
    check_title(value)
    return value


class Block(BaseModel):
    """The keys of a block, with the top level's as defaults.

    Attributes:
        worlds, threats, attackers, defenders: crossed with each other. Among agents "all" stands for every
            registered one that fits.
        games: how many games are played in a match; images are drawn until so many are right.
        shard: how many of the drawn images make a shard.
        repeats: how often the games are replayed, with new seeds for attacker and defender.
        at: query counts to report.
        radii: distances in the threat's norm within which success is reported, for objective `minimum`:
            a list, or a range with `from`, `to` and `steps`.
        votes: fresh answers per vote of a random defender.
        verdict: the headline of the results; None: chosen by objective and defender (docs/design.md, D3).
        limits: what a match may take besides queries.
        isolation: `process`: attackers, and defenders that are not the arena's own, play in processes of
            their own (docs/scenarios.md, "Isolation"); `none`: in the process that holds the classifier.
        log: how many rows are logged; None: decided by the expected number.
        margin_base: whether the margin of the hardened classifier without the rest of the defender is logged
            beside that of every query: a monitor, which costs nothing in the game.
        batch: rows per forward pass; None for the most that fit (`classifiers.devices.largest_batch`).
        utility: on how many clean images each defended classifier is evaluated, in addition to its matches;
        0: none.
        benign: the clients that attack nobody and are played against each defended classifier, in addition
            to its matches: how many of each kind, or a table (`evaluation.benign.plan.Traffic`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: Annotated[str, BeforeValidator(_title)] = ""
    worlds: tuple[World, ...] = Field(min_length=1)
    threats: tuple[Annotated[Threat, BeforeValidator(_as_written)], ...] = Field(min_length=1)
    attackers: Agents
    defenders: Agents
    games: Count = 100
    shard: Count = 250
    repeats: Count = 1
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    at: tuple[StrictInt, ...] = ()
    radii: Annotated[tuple[Annotated[float, BeforeValidator(_radius)], ...], BeforeValidator(_radii)] = ()
    votes: Votes = 25
    verdict: Verdict | None = None
    limits: Limits = USUAL
    isolation: Isolation = "none"
    log: LogLevel | None = None
    margin_base: bool = Field(default=False, strict=True)
    batch: Rows | None = None
    utility: int = Field(default=1000, ge=0, le=2**24, strict=True)
    benign: Annotated[Traffic, BeforeValidator(as_traffic)] = NONE

    @field_validator("at")
    @classmethod
    def _counts(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < 1 for count in value):
            raise ValueError("query counts must be at least 1")
        return tuple(sorted(set(value)))

    @field_validator("radii")
    @classmethod
    def _ascending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _every_query_logged(self) -> Self:
        if self.margin_base and self.log not in (None, "queries"):
            raise ValueError(
                f'margin_base: it is logged beside each query, which needs log = "queries"; found log = '
                f'"{self.log}"'
            )
        return self
