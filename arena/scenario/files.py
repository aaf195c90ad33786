"""Scenario files, read and checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ValidationError,
)

from arena.inputs.places import ODD, kind_of
from arena.inputs.texts import TextError, read_toml
from arena.messages import fault, near, one_line, told
from arena.scenario.blocks import Block, check_title
from arena.scenario.errors import ScenarioError
from arena.scenario.lineups import ALL, UNCHANGED, Changes, LeftOut
from arena.scenario.matches import Match, matches_of
from arena.scenario.seeds import PUBLIC, Seeds
from arena.scenario.size_tables import SizeError, choose_size, in_size, merged, read_sizes

_PACKAGED = Path(__file__).parents[2] / "scenarios"  # not imported: a user may have one, too
LARGEST = 2**20
"""Bytes of a scenario file."""
MOST_BLOCKS = 1000
MOST_MATCHES = 10_000
_EXPECTED = {
    "tuple_type": "it must be a list",
    "too_short": "it must hold at least one",
    "model_type": "it must be a table",
    "dict_type": "it must be a table",
}
_LISTS = {"world": "worlds", "threat": "threats"}
_AGENTS = ("attackers", "defenders")


@dataclass(frozen=True)
class Scenario:
    """A scenario in one of its sizes.

    Attributes:
        title: including the size, and what a caller changed.
        folder: where relative paths start.
        size: the chosen one, "" for a scenario without sizes.
        sizes: all sizes, the default first.
        left_out: the agents of "all", and of a caller, that do not play somewhere.
        further: what the log is to say of further games of an earlier run (`arena.league.further`); empty
            for all others.
    """

    name: str
    title: str
    folder: Path
    matches: tuple[Match, ...]
    size: str = ""
    sizes: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    further: Mapping[str, int] = field(default_factory=dict)

    def with_games(self, games: int) -> Scenario:
        """The same scenario with `games` games a match."""
        matches = tuple(
            replace(m, settings=m.settings.model_copy(update={"games": games})) for m in self.matches
        )
        return replace(self, matches=matches)

    def with_seeds(self, seeds: Seeds) -> Scenario:
        """The same scenario with draws that come from elsewhere."""
        return replace(self, matches=tuple(replace(match, seeds=seeds) for match in self.matches))


def load_scenario(
    path: str | Path, size: str | None = None, changes: Changes | None = None, seeds: Seeds = PUBLIC
) -> Scenario:
    """Read a scenario file, or one that ships with the project by its name, in its default or another `size`,
    with the lists of agents as `changes` say.

    Args:
        seeds: what draws come from. Of a secret, it is a ranked run: the controls of the arena play beside
            the agents, and isolation is "process" unless the file says otherwise.

    Raises:
        ScenarioError: if it cannot be read or played.
        AgentError: if an agent of `changes` cannot be made.
    """
    file = find_scenario(path)
    table = _read(file)
    return parse_scenario(table, file.stem, file.parent, str(file), size, changes, seeds)


def packaged_scenarios() -> dict[str, str]:
    """The titles of the scenarios that ship with the project, by name."""
    files = sorted(_PACKAGED.glob("*.toml"))
    return {file.stem: str(_read(file).get("title", file.stem)) for file in files}


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ScenarioError(f"{file} is larger than a scenario may be, {LARGEST:,} bytes")
        return read_toml(content.decode())
    except TextError as error:
        raise ScenarioError(f"{file} {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{file} cannot be read: {error}") from error


def find_scenario(path: str | Path) -> Path:
    """The file at `path`, else the packaged scenario of that name."""
    file = Path(path)
    if (kind := kind_of(file)) == "file":
        return file
    if kind == "other":
        raise ScenarioError(f"{file} {ODD}; a scenario is a file")
    packaged = {f.stem: f for f in _PACKAGED.glob("*.toml")}
    if str(path) in packaged:
        return packaged[str(path)]
    raise ScenarioError(
        f"there is no scenario file {file}, and no packaged one of that name; {near(str(path), packaged)}"
    )


def parse_scenario(
    table: Mapping[str, Any],
    name: str,
    folder: Path,
    source: str,
    size: str | None = None,
    changes: Changes | None = None,
    seeds: Seeds = PUBLIC,
) -> Scenario:
    """A scenario from a parsed file; `source` names it in errors. All its sizes are checked."""
    top = dict(table)
    blocks = top.pop("block", None)
    if blocks is not None and not (isinstance(blocks, list) and all(isinstance(b, dict) for b in blocks)):
        raise ScenarioError(f"{source}: block: must be written [[block]]")
    if blocks is not None and len(blocks) > MOST_BLOCKS:
        raise ScenarioError(f"{source}: block: found {len(blocks):,} of them; {MOST_BLOCKS:,} are allowed")
    if blocks == []:
        raise ScenarioError(f"{source}: block: found []; write at least one [[block]], or none of them")
    try:
        sizes = read_sizes(top, blocks or [])
        chosen = choose_size(sizes, size)
    except SizeError as error:
        raise ScenarioError(f"{source}: {error}") from error
    if seeds.secret is not None:
        top.setdefault("isolation", "process")
        changes = replace(changes or UNCHANGED, ranked=True)
    found = {own: _in_one_size(top, blocks, name, folder, source, own) for own in sizes or ("",)}
    if changes is not None and changes != UNCHANGED:
        found[chosen] = _in_one_size(top, blocks, name, folder, source, chosen, changes)
    return replace(found[chosen], size=chosen, sizes=sizes).with_seeds(seeds)


def _in_one_size(
    top: Mapping[str, Any],
    blocks: list[Any] | None,
    name: str,
    folder: Path,
    source: str,
    size: str,
    changes: Changes = UNCHANGED,
) -> Scenario:
    words, suffix = in_size(top, size), f" (size {size})" if size else ""
    source += suffix
    title = words.pop("title", one_line(name))
    try:
        check_title(title)
    except ValueError as error:
        raise ScenarioError(f"{source}: title: {error}") from error
    title += suffix + f" ({changes.words})" * bool(changes.words)
    matches: list[Match] = []
    left_out: list[LeftOut] = []
    for place, own in enumerate(blocks if blocks is not None else [{}]):
        where = "" if blocks is None else f"block {place + 1}: "
        block = _block(merged(words, in_size(own, size)), source, where)
        own_matches, own_left_out = matches_of(block, len(matches), source, where, changes)
        matches += own_matches
        left_out += own_left_out
        if len(matches) > MOST_MATCHES:
            raise ScenarioError(f"{source}: {where}there are more than {MOST_MATCHES:,} matches")
    _check_somebody_plays(matches, left_out, source)
    return Scenario(name, title, folder, tuple(matches), left_out=tuple(left_out))


def _check_crossed(table: Mapping[str, Any], where: str) -> None:
    """Raises before a block's lists are looked into if they would make too many matches."""
    lists = (table.get(key) for key in ("worlds", "threats", *_AGENTS))
    if (crossed := math.prod(len(found) for found in lists if isinstance(found, list))) > MOST_MATCHES:
        raise ScenarioError(f"{where}found {crossed:,} matches; {MOST_MATCHES:,} are allowed")


def _check_somebody_plays(matches: list[Match], left_out: list[LeftOut], source: str) -> None:
    playing = [side for match in matches for side in (match.attacker, match.defenders)]
    for out in left_out:
        if not matches or (out.wanted and out.agent not in playing):
            raise ScenarioError(f"{source}: {out.place}{out.name} cannot play: {out.why}")


def _block(table: dict[str, Any], source: str, where: str) -> Block:
    table = dict(table)
    _listed(table, source, where)
    _check_crossed(table, f"{source}: {where}")
    try:
        return Block.model_validate(table)
    except ValidationError as error:
        raise ScenarioError(*told(_causes(error), lambda e: _sentence(e, source, where))) from error


def _listed(table: dict[str, Any], source: str, where: str) -> None:
    """Bring the singular forms, `dataset` with `classifier` and `threat`, into the plural ones."""
    world = {key: table.pop(key) for key in ("dataset", "classifier") if key in table}
    for singular, value in (("world", world or None), ("threat", table.pop("threat", None))):
        plural = _LISTS[singular]
        if value is not None and plural in table:
            keys = "dataset and classifier" if singular == "world" else singular
            raise ScenarioError(f"{source}: {where}{plural}: found beside {keys}; give one or the other")
        if value is not None:
            table[plural] = [value]
    table.setdefault("worlds", [{}])


def _causes(error: ValidationError) -> list[Any]:
    """The errors without their consequences: a list is not "too short" because of an error inside it."""
    errors = error.errors()
    inner = {e["loc"][:n] for e in errors for n in range(len(e["loc"]))}
    return [e for e in errors if e["type"] != "too_short" or e["loc"] not in inner]


def _sentence(error: Any, source: str, where: str) -> str:
    """One sentence (docs/design.md, D10) from a pydantic error."""
    place = [str(part) for part in error["loc"]]
    for singular, plural in (("threat", "threats"), ("", "worlds")):
        if place[:2] == [plural, "0"]:
            place = ([singular] if singular else []) + place[2:]
    key = ".".join(place)
    expected = _EXPECTED.get(error["type"])
    if expected == _EXPECTED["tuple_type"] and key in _AGENTS:
        expected += f', or "{ALL}"'
    sentence = fault(error, _allowed(error["loc"]), expected)
    return f"{source}: {where}{f'{key}: ' * bool(key)}{sentence}"


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
