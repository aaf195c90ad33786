"""Where a worker works: in another process than the one that holds the log, perhaps on another machine.

It finds data and weights by itself, and makes sure that what it would play is what it was asked for.
"""

from __future__ import annotations

import pickle
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from arena.classifiers.devices import resolve_device
from arena.classifiers.served import Calls
from arena.classifiers.threads import computing_threads
from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.benign.plan import Traffic
from arena.evaluation.benign.playing import BenignTraffic
from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.game.blame import DefenderError
from arena.interruptions import Interrupted
from arena.messages import in_short
from arena.modes import own_modes
from arena.progress import Work, hearing
from arena.records.pieces import Piece
from arena.running.identities import identity_of
from arena.scenario.errors import ScenarioError
from arena.scenario.identity import fingerprint
from arena.scenario.jobs import ShardTask
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds, Settled
from arena.scenario.prepared_stacks import PreparedStacks


@dataclass(frozen=True)
class Supplies:
    """What a worker must know to find data, weights and prepared defenders.

    Attributes:
        folder: of the scenario; data_dirs: further ones in which data and weights are looked for.
        trusted: the functions that may be called to make a network.
        settled: what this run found out about its worlds.
        prepared: the folder of prepared defenders; None for the user's cache.
        stacks: the SHAs of those in it that this run plays.
        host: the machine whose process holds the log.
    """

    folder: Path
    data_dirs: tuple[Path, ...]
    device: str
    trusted: tuple[str, ...] = ()
    settled: Settled = field(default_factory=Settled)
    prepared: Path | None = None
    stacks: tuple[str, ...] = ()
    host: str = field(default_factory=socket.gethostname)


@dataclass(frozen=True)
class Began:
    """All that the job needs is loaded; from here on agents compute."""


@dataclass(frozen=True)
class Remark:
    """Something that a user should know at once."""

    sentence: str


@dataclass(frozen=True)
class Ended:
    """The job is done; `calls` of functions of the user's were made for it."""

    calls: Calls


@dataclass(frozen=True)
class Raised:
    """The job ended with an exception that ends the run.

    Attributes:
        error: pickled, if it can be.
        said: in short; trace: where it came from.
    """

    error: bytes | None
    said: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        packed = None
        with suppress(Exception):  # whatever an exception's own parts raise
            packed = pickle.dumps(error)
            pickle.loads(packed)
        return cls(packed, in_short(error), "".join(traceback.format_exception(error)))

    def again(self) -> BaseException:
        """The exception, to be raised here."""
        error = RuntimeError(self.said) if self.error is None else pickle.loads(self.error)
        error.__cause__ = RaisedElsewhere(f"\n{self.trace}")
        return error


class RaisedElsewhere(Exception):
    """The cause of an exception that a worker raised: its traceback there."""


Message: TypeAlias = Began | Remark | Piece | Utility | BenignLoss | Ended | Raised
"""What a worker says of its job, `Ended` or `Raised` last."""
Say = Callable[[Message], None]


@dataclass(frozen=True)
class Job:
    """What a worker is asked to do for a match.

    Attributes:
        task: a shard of the match, packed.
        failed: how the match's defenders failed as they were prepared; None: they did not.
        identity: what makes the match what it is.
    """

    task: bytes
    failed: str | None
    identity: Mapping[str, Any]

    def do(self, place: Workplace, task: ShardTask, world: LoadedWorld, say: Say) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class PlayShard(Job):
    """Play the shard."""

    def do(self, place: Workplace, task: ShardTask, world: LoadedWorld, say: Say) -> None:
        task.play(world, place.stacks, self.failed, _Saying(say))


@dataclass(frozen=True)
class MeasureUtility(Job):
    """Say what the match's defended classifier is worth on `images` clean images, but for its cost: workers
    beside it would be measured, too."""

    images: int

    def do(self, place: Workplace, task: ShardTask, world: LoadedWorld, say: Say) -> None:
        evaluation = place.evaluation(world, task.match.settings.seed, self.images)
        with suppress(DefenderError):  # its games say so
            say(evaluation.of(place.stacks.load(task.prepared_sha, task.match, world), cost=False))


@dataclass(frozen=True)
class PlayBenign(Job):
    """Say what benign clients lose to the match's defended classifier.

    Attributes:
        traffic: what is played. parts: the pairs of client and history that are wanted.
    """

    traffic: Traffic
    parts: tuple[tuple[str, str], ...]

    def do(self, place: Workplace, task: ShardTask, world: LoadedWorld, say: Say) -> None:
        seed, split = task.match.settings.seed, world.dataset.games
        played = BenignTraffic(world.classifier, split, self.traffic, seed=seed)
        with suppress(DefenderError):  # its games say so
            stack = place.stacks.load(task.prepared_sha, task.match, world)
            played.of(stack, self.parts, hear=say)


class Workplace:
    """What a worker has: worlds and prepared stacks, each loaded once."""

    def __init__(self, supplies: Supplies) -> None:
        self.host = supplies.host
        self.worlds = LoadedWorlds(
            supplies.folder,
            supplies.data_dirs,
            resolve_device(supplies.device),
            supplies.trusted,
            supplies.settled,
        )
        self.stacks = PreparedStacks(supplies.prepared)
        self._checked: set[str] = set()
        self._evaluations: dict[tuple[int, int, int], Evaluation] = {}

    @own_modes()
    @computing_threads(1)
    def do(self, packed: bytes, say: Say) -> None:
        """Do a packed job, and say what comes of it. Nothing but a signal is raised."""
        calls = Calls()
        try:
            with hearing(_Told(say)), calls.counting():
                job: Job = pickle.loads(packed)
                task: ShardTask = pickle.loads(job.task)
                world = self._world(job, task)
                say(Began())
                job.do(self, task, world, say)
            say(Ended(calls))
        except Interrupted:
            raise
        except BaseException as error:
            say(Raised.of(error))

    def evaluation(self, world: LoadedWorld, seed: int, images: int) -> Evaluation:
        """The world's first clean images, whose undefended labels are asked for once."""
        key = (id(world.classifier), seed, images)
        if key not in self._evaluations:
            split = world.dataset.games
            self._evaluations[key] = Evaluation(world.classifier, split, seed=seed, images=images)
        return self._evaluations[key]

    def _world(self, job: Job, task: ShardTask) -> LoadedWorld:
        """The match's world. ScenarioError if the match would be another here than it was asked for."""
        wanted, world = fingerprint(job.identity), self._loaded(task)
        if wanted not in self._checked:
            found = identity_of(task.match, world, task.prepared_sha, task.level)
            if fingerprint(found) != wanted:
                raise ScenarioError(
                    f"{task.match.where}{task.match.name} would be another match on {socket.gethostname()}: "
                    f"{differences(job.identity, found)}; workers play only what this run began"
                )
            self._checked.add(wanted)
        return world

    def _loaded(self, task: ShardTask) -> LoadedWorld:
        try:
            return self.worlds.of(task.match)
        except ScenarioError as error:
            if (here := socket.gethostname()) == self.host:
                raise
            raise ScenarioError(f"on {here}: {error}") from error


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """In which entries two identities of a match differ, in words."""
    parts = []
    for key, value in wanted.items():
        if isinstance(value, Mapping) and isinstance(other := found.get(key), Mapping):
            own = {k for k in {*value, *other} if value.get(k) != other.get(k)}
            parts += [f"{key}: {k} is {other.get(k)}, not {value.get(k)}" for k in sorted(own)]
        elif found.get(key) != value:
            parts.append(f"{key} is {_short(found.get(key))}, not {_short(value)}")
    return "; ".join(parts)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


class _Saying:
    """A `Recorder` that says its pieces."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def record(self, piece: Piece) -> None:
        self._say(piece)


class _Told:
    """Passes on remarks, and says nothing of work."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def working(self, work: Work | None) -> None:
        """Hear of work, and say nothing."""

    def remark(self, sentence: str) -> None:
        self._say(Remark(sentence))
