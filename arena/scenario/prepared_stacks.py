"""The defenders of matches, prepared once and played as they were read back (docs/design.md, D4, D7)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arena.classifiers.building import packages_of
from arena.classifiers.devices import arithmetic_of
from arena.datasets.folders import cache
from arena.game.blame import DefenderError, blaming
from arena.game.prepared import PreparedError, PreparedStore, prepared_sha
from arena.game.preparing import overrides
from arena.game.stack import Stack, facts_of, prepare
from arena.players.defender import Defender
from arena.players.registry import name_of
from arena.players.stand_in import StandIn
from arena.progress import telling
from arena.provenance import source_closure, versions
from arena.scenario.errors import ScenarioError
from arena.scenario.identity import fingerprint, modules_of_agents
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match

FAILED = "failed"
"""In place of the SHA of defenders that could not be prepared."""
PREPARED_BY = "arena.game.stack"
"""What prepares a stack: its source, and that of all it imports, is part of every key."""


class PreparedStacks:
    """Stacks by the SHA of what they found as they were prepared.

    Those that train, tune or harden are kept in a folder, where later runs and other processes find them:
    what is played is always what was read back from there. The others are made anew in each process.

    Args:
        folder: None for `prepared` in the user's cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.store = PreparedStore(folder or cache() / "prepared")
        self._loaded: dict[tuple[str, int], Stack] = {}

    def is_prepared(self, match: Match, world: LoadedWorld) -> bool:
        """Whether nothing is left to prepare for the match."""
        if not _prepares_itself(match.defenders):
            return True
        try:
            return self.store.find(preparing_key(match, world)) is not None
        except DefenderError:  # a file of its own is missing, which its match says
            return False

    def prepare(self, match: Match, world: LoadedWorld) -> str:
        """The SHA of the match's stack, prepared if it is not yet.

        Raises:
            DefenderError: if a defender fails, or does not say what it found.
            ScenarioError: if it cannot be written.
        """
        try:
            if not _prepares_itself(match.defenders):
                stack = prepare(world.classifier, match.defenders, world.dataset)
                sha = prepared_sha(stack)
                self._loaded.setdefault((sha, id(world.classifier)), stack)
                return sha
            key = preparing_key(match, world)
            if (found := self.store.find(key)) is not None:
                return found
            with telling(f"preparing {match.defender_name}"):
                return self.store.keep(key, prepare(world.classifier, match.defenders, world.dataset))
        except PreparedError as error:
            raise DefenderError(str(error)) from error
        except OSError as error:
            raise ScenarioError(f"{match.where}{match.defender_name}: {error}") from error

    def load(self, sha: str, match: Match, world: LoadedWorld) -> Stack:
        """The match's stack of that SHA.

        Raises:
            DefenderError: if a defender's own method fails to read it back.
            ScenarioError: if there is none, or its file is damaged.
        """
        place = (sha, id(world.classifier))
        if place not in self._loaded:
            try:
                self._loaded[place] = self._read(sha, match, world)
            except PreparedError as error:
                raise ScenarioError(f"{match.where}{match.defender_name}: {error}") from error
        return self._loaded[place]

    def _read(self, sha: str, match: Match, world: LoadedWorld) -> Stack:
        if _prepares_itself(match.defenders):
            return self.store.load(sha, world.classifier, match.defenders)
        stack = prepare(world.classifier, match.defenders, world.dataset)
        if (found := prepared_sha(stack)) != sha:
            raise PreparedError(f"it is another than was prepared (SHA {found[:12]}, not {sha[:12]})")
        return stack


@dataclass(frozen=True, eq=False)
class Prepared:
    """A match's defenders as they are played, or how they failed.

    Attributes:
        sha: of the stack; FAILED if there is none.
        stack: the unprepared defenders around the undefended classifier where they failed: for their names.
        facts: what each defender's `fit` found, for the log.
        failed: how they failed; None if they did not.
    """

    sha: str
    stack: Stack
    facts: list[dict[str, Any]]
    failed: str | None = None

    @classmethod
    def of(cls, stacks: PreparedStacks, match: Match, world: LoadedWorld) -> Prepared:
        """A match's defenders, prepared if they are not yet."""
        try:
            sha = stacks.prepare(match, world)
            stack = stacks.load(sha, match, world)
            return cls(sha, stack, [{"name": name_of(d), **facts_of(d)} for d in stack.defenders])
        except DefenderError as error:
            return cls(FAILED, Stack(world.classifier, match.defenders), [], str(error))


def preparing_key(match: Match, world: LoadedWorld) -> str:
    """What goes into preparing a match's stack: the same text gives the same stack, on one machine."""
    classifier, packages = world.classifier, packages_of([match.world.classifier.network])
    code = source_closure([*modules_of_agents(*match.defenders), PREPARED_BY])
    return fingerprint(
        {
            "defenders": match.describe()["defenders"],
            "apart": [isinstance(defender, StandIn) for defender in match.defenders],
            "files": [sha_of_file(path) for path in _files(match)],
            "dataset_sha": world.dataset.sha,
            "classifier_sha": classifier.sha,
            "versions": versions(*packages) | dict(code.distributions),
            "code": code.sha,
            "arithmetic": arithmetic_of(classifier.device),
            "batch": classifier.batch,
            "forward": list(classifier.forward.steps),
            "threads": classifier.threads,
        }
    )


def _files(match: Match) -> list[Path]:
    """What the match's defenders read besides the data set."""
    found: list[Path] = []
    for defender in match.defenders:
        with blaming(defender, "files"):
            found += defender.files()
    return found


def sha_of_file(path: Path) -> str:
    """SHA-256 of a file. Raises DefenderError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DefenderError(f"{path} cannot be read: {error.strerror or error}") from error


def _prepares_itself(defenders: tuple[Defender, ...]) -> bool:
    return any(overrides(d, "harden") or overrides(d, "fit") for d in defenders)
