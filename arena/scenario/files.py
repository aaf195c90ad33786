"""Scenario files: what they say, checked before anything runs, and the matches they come to."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

from arena.classifiers import ClassifierSpec
from arena.datasets import DATASETS, DatasetSpec
from arena.messages import fault, near
from arena.players import Attacker, Defender
from arena.players.attacker import runs_of
from arena.players.parameters import parameters
from arena.players.registry import AgentError, build_attacker, build_stack, name_of
from arena.records.pieces import LogLevel
from arena.rules.outcome import Verdict
from arena.rules.threat import TOLERANCE, Threat, parse_epsilon
from arena.scenario.size_tables import SizeError, choose_size, in_size, merged, read_sizes

Count = Annotated[int, Field(strict=True, ge=1)]
_PACKAGED = Path(__file__).parents[2] / "scenarios"  # not imported: a user's folder may have one, too
_SAID = {
    "tuple_type": "it must be a list",
    "too_short": "it must hold at least one",
    "model_type": "it must be a table",
    "dict_type": "it must be a table",
}
_LISTS = {"world": "worlds", "threat": "threats"}


class ScenarioError(ValueError):
    """A scenario that cannot be played: file, key, what was found, and what is allowed."""


class World(BaseModel):
    """A data set and a classifier of it; where none is named, the packaged one of the digits."""

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
    """A threat from a table, its numbers as numbers: `budget = "100"` is none."""
    return Threat.model_validate(value, strict=True) if isinstance(value, dict) else value


def _radius(value: Any) -> float:
    return parse_epsilon(value, "a radius")


class Block(BaseModel):
    """What a block says, the top level's words taken in.

    Attributes:
        worlds, threats, attackers, defenders: crossed with each other.
        games: how many games are played in a match; images are drawn until so many are right.
        shard: how many of the drawn images make a shard.
        repeats: how often the games are replayed, with new seeds for attacker and defender.
        at: query counts to report.
        radii: distances in the threat's norm within which success is reported, for objective `minimum`.
        votes: fresh answers per vote of a random defender.
        verdict: the one that heads the results; None leaves it to objective and defender (D3).
        log: how many rows are logged; None lets the expected number decide.
        batch: rows per forward pass; None for the most that fit (`device.largest_batch`).
        utility: on how many clean images each defended classifier is evaluated beside its matches; 0: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    worlds: tuple[World, ...] = Field(min_length=1)
    threats: tuple[Annotated[Threat, BeforeValidator(_as_written)], ...] = Field(min_length=1)
    attackers: tuple[Any, ...] = Field(min_length=1)
    defenders: tuple[Any, ...] = Field(min_length=1)
    games: Count = 100
    shard: Count = 250
    repeats: Count = 1
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    at: tuple[StrictInt, ...] = ()
    radii: tuple[Annotated[float, BeforeValidator(_radius)], ...] = ()
    votes: Count = 25
    verdict: Verdict | None = None
    log: LogLevel | None = None
    batch: Count | None = None
    utility: int = Field(default=1000, ge=0, strict=True)

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


@dataclass(frozen=True)
class Match:
    """One attacker against one defended classifier under one threat, over many games.

    Attributes:
        number: from 0, in the order of the file.
        threat: with the budget that the attacker's convention makes of it (`budget_factor`).
        at: the query counts to report, multiplied likewise, the budget always among them.
        title: the budget, where the attacker plays once for each reported count (`Needs.prefix`).
        where: the file, and the block and world in it, as errors begin.
    """

    number: int
    block: str
    world: World
    threat: Threat
    attacker: Attacker
    defenders: tuple[Defender, ...]
    at: tuple[int, ...]
    settings: Block
    where: str = field(default="", compare=False)
    title: str = ""

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (f"{self.attacker_name} vs {self.defender_name}", self.title)))

    @property
    def attacker_name(self) -> str:
        return agent_name(self.attacker)

    @property
    def defender_name(self) -> str:
        return "+".join(name_of(d) for d in self.defenders)

    def describe(self) -> dict[str, Any]:
        """All that decides how this match is played, as JSON values."""
        s = self.settings
        return {
            "world": self.world.model_dump(mode="json"),
            "threat": self.threat.model_dump(mode="json"),
            "attacker": {"name": self.attacker_name, **parameters(self.attacker)},
            "defenders": [{"name": name_of(d), **parameters(d)} for d in self.defenders],
            "games": s.games,
            "shard": s.shard,
            "repeats": s.repeats,
            "seed": s.seed,
            "at": list(self.at),
            "votes": s.votes,
        }


@dataclass(frozen=True)
class Scenario:
    """A scenario in one of its sizes.

    Attributes:
        title: with the size in it.
        folder: that relative paths start from.
        size: the one that was chosen, "" for a scenario without any.
        sizes: all there are, the default first.
    """

    name: str
    title: str
    folder: Path
    matches: tuple[Match, ...]
    size: str = ""
    sizes: tuple[str, ...] = ()

    def with_games(self, games: int) -> Scenario:
        """The same scenario with `games` games a match."""
        matches = tuple(
            replace(m, settings=m.settings.model_copy(update={"games": games})) for m in self.matches
        )
        return replace(self, matches=matches)


def agent_name(attacker: Attacker) -> str:
    """An attacker's name with those inside it, such as "eot(square)"."""
    inside = [v for v in vars(attacker).values() if isinstance(v, Attacker)]
    name = name_of(attacker)
    return f"{name}({', '.join(agent_name(a) for a in inside)})" if inside else name


def load_scenario(path: str | Path, size: str | None = None) -> Scenario:
    """Read a scenario file, or one that ships with the project by its name, in its default or another `size`.

    Raises:
        ScenarioError: if it cannot be read or played.
    """
    file = find_scenario(path)
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file} is not valid TOML: {error}") from error
    return parse_scenario(table, file.stem, file.parent, str(file), size)


def find_scenario(path: str | Path) -> Path:
    """The file at `path`, else the packaged scenario of that name."""
    file = Path(path)
    if file.exists() and not file.is_dir():
        return file
    packaged = {f.stem: f for f in _PACKAGED.glob("*.toml")}
    if str(path) in packaged:
        return packaged[str(path)]
    raise ScenarioError(
        f"there is no scenario file {file}, and no packaged one of that name; {near(str(path), packaged)}"
    )


def parse_scenario(
    table: Mapping[str, Any], name: str, folder: Path, source: str, size: str | None = None
) -> Scenario:
    """A scenario from a parsed file; `source` names it in errors. All its sizes are checked."""
    top = dict(table)
    blocks = top.pop("block", None)
    if blocks is not None and not (isinstance(blocks, list) and all(isinstance(b, dict) for b in blocks)):
        raise ScenarioError(f"{source}: block: must be written [[block]]")
    if blocks == []:
        raise ScenarioError(f"{source}: block: found []; write at least one [[block]], or none of them")
    try:
        sizes = read_sizes(top, blocks or [])
        chosen = choose_size(sizes, size)
    except SizeError as error:
        raise ScenarioError(f"{source}: {error}") from error
    found = {own: _in_one_size(top, blocks, name, folder, source, own) for own in sizes or ("",)}
    return replace(found[chosen], size=chosen, sizes=sizes)


def _in_one_size(
    top: Mapping[str, Any], blocks: list[Any] | None, name: str, folder: Path, source: str, size: str
) -> Scenario:
    words, suffix = in_size(top, size), f" (size {size})" if size else ""
    source += suffix
    title = words.pop("title", name)
    if not isinstance(title, str):
        raise ScenarioError(f"{source}: title: found {title!r}; it must be text")
    matches: list[Match] = []
    for place, own in enumerate(blocks if blocks is not None else [{}]):
        where = "" if blocks is None else f"block {place + 1}: "
        block = _block(merged(words, in_size(own, size)), source, where)
        matches += _matches(block, len(matches), f"{source}: {where}")
    return Scenario(name, title + suffix, folder, tuple(matches))


def _block(table: dict[str, Any], source: str, where: str) -> Block:
    table = dict(table)
    _listed(table, source, where)
    try:
        return Block.model_validate(table)
    except ValidationError as error:
        raise ScenarioError("\n".join(_sentence(e, source, where) for e in _causes(error))) from error


def _listed(table: dict[str, Any], source: str, where: str) -> None:
    """Bring the singular forms, `dataset` with `classifier` and `threat`, into the plural ones."""
    world = {key: table.pop(key) for key in ("dataset", "classifier") if key in table}
    for singular, value in (("world", world or None), ("threat", table.pop("threat", None))):
        plural = _LISTS[singular]
        if value is not None and plural in table:
            said = "dataset and classifier" if singular == "world" else singular
            raise ScenarioError(f"{source}: {where}{plural}: found beside {said}; give one or the other")
        if value is not None:
            table[plural] = [value]
    table.setdefault("worlds", [{}])


def _causes(error: ValidationError) -> list[Any]:
    """The errors without those that follow from others: a list is not short for what is wrong inside it."""
    errors = error.errors()
    inner = {e["loc"][:n] for e in errors for n in range(len(e["loc"]))}
    return [e for e in errors if e["type"] != "too_short" or e["loc"] not in inner]


def _sentence(error: Any, source: str, where: str) -> str:
    """One sentence of D10 from a pydantic error."""
    place = [str(part) for part in error["loc"]]
    for singular, plural in (("threat", "threats"), ("", "worlds")):
        if place[:2] == [plural, "0"]:
            place = ([singular] if singular else []) + place[2:]
    key = ".".join(place)
    said = fault(error, _allowed(error["loc"]), _SAID.get(error["type"]))
    return f"{source}: {where}{f'{key}: ' * bool(key)}{said}"


def _allowed(place: tuple[int | str, ...]) -> list[str]:
    """The keys allowed beside the one at `place` of a Block."""
    model: Any = Block
    for part in place[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            hint = model.model_fields[part].annotation
            inner = getattr(hint, "__args__", (hint,))[0]
            inner = getattr(inner, "__origin__", inner)  # of Annotated
            model = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else model
    keys = list(model.model_fields)
    return [*keys, "dataset", "classifier", "threat", "block", "size", "sizes"] if model is Block else keys


def _matches(block: Block, first: int, where: str) -> Iterator[Match]:
    attackers = [
        _built(build_attacker, spec, f"{where}attackers {i}: ") for i, spec in enumerate(block.attackers, 1)
    ]
    stacks = [
        _built(build_stack, spec, f"{where}defenders {i}: ") for i, spec in enumerate(block.defenders, 1)
    ]
    number = first
    for place, world in enumerate(block.worlds, 1):
        here = f"{where}worlds {place}: " if len(block.worlds) > 1 else where
        for threat in block.threats:
            for attacker in attackers:
                for own, at, title in _rules(threat, block, attacker, where):
                    for stack in stacks:
                        _check_detector(attacker, stack, where)
                        yield Match(number, block.title, world, own, attacker, stack, at, block, here, title)
                        number += 1


def _rules(
    threat: Threat, block: Block, attacker: Attacker, where: str
) -> list[tuple[Threat, tuple[int, ...], str]]:
    """The threat and the reported counts as the attacker's budget convention makes them, with a title.

    One whose first queries are not as good as a run with a smaller budget gets a threat for each count.
    """
    if (unmet := attacker.needs.unmet(threat)) is not None:
        raise ScenarioError(f"{where}attacker {agent_name(attacker)} cannot play this threat: {unmet}")
    beyond = [count for count in block.at if count > threat.budget]
    if beyond:
        raise ScenarioError(f"{where}at: found {beyond[0]}; counts go up to the budget {threat.budget}")
    _check_radii(threat, block, where)
    runs = runs_of(attacker, threat, block.at)
    if len(runs) == 1:
        return [(*runs[0], "")]
    return [(own, at, f"{at[-1]:,} {'query' if at == (1,) else 'queries'}") for own, at in runs]


def _check_detector(attacker: Attacker, stack: tuple[Defender, ...], where: str) -> None:
    if (unmet := attacker.needs.unmet_by(stack)) is not None:
        against = "+".join(name_of(d) for d in stack)
        raise ScenarioError(f"{where}attacker {agent_name(attacker)} cannot play against {against}: {unmet}")


def _check_radii(threat: Threat, block: Block, where: str) -> None:
    if block.radii and threat.objective != "minimum":
        raise ScenarioError(
            f'{where}radii: they need objective "minimum"; the threat\'s objective is "{threat.objective}"'
        )
    wide = [radius for radius in block.radii if radius > threat.epsilon + TOLERANCE]
    if wide:
        raise ScenarioError(f"{where}radii: found {wide[0]:g}; radii go up to epsilon {threat.epsilon:g}")


def _built(build: Any, spec: Any, where: str) -> Any:
    try:
        return build(spec)
    except AgentError as error:
        raise ScenarioError(f"{where}{error}") from error
