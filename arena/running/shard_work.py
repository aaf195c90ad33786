"""A shard of a match that lies in the log, as a piece of a run's work."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from arena.records.pieces import Piece, Recorder
from arena.running.call_plan import asks
from arena.running.run_log import RunLog
from arena.running.work import Hear
from arena.running.workplace import Job, PlayShard
from arena.scenario.jobs import ShardTask
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import PreparedStacks


class ProgressListener(Protocol):
    """Hears how far a run is."""

    def match(self, match: Match, games: int) -> None:
        """A match of `games` games, repeats counted, begins."""

    def played(self, queries: int) -> None:
        """Queries were answered."""

    def failed(self, match: Match, games: int, said: str) -> None:
        """So many games of a match ended in `error`: an agent failed."""

    def ended(self, games: int, skipped: bool) -> None:
        """A shard of `games` games ended, or lay finished in the log."""

    def ended_elsewhere(self, games: int) -> None:
        """Another process finished a shard of `games` games meanwhile."""


@dataclass(eq=False)
class LoggedMatch:
    """A match in the log.

    Attributes:
        id: in the log.
        failed: how its defenders failed as they were prepared; None: they did not.
        job: a shard of it as a job for a worker.
        fingerprint: of one of its shards.
        begun: whether a listener knows that it began.
    """

    id: int
    match: Match
    world: LoadedWorld
    stacks: PreparedStacks
    failed: str | None
    job: Callable[[ShardTask], Job]
    fingerprint: Callable[[ShardTask], str]
    begun: bool = False

    def begin(self, watcher: ProgressListener) -> None:
        """Tell a listener, once, that it begins."""
        if not self.begun:
            self.begun = True
            watcher.match(self.match, len(self.world) * self.match.settings.repeats)


@dataclass(frozen=True, eq=False)
class ShardWork:
    """`Work` that plays a shard into the log."""

    of: LoggedMatch
    task: ShardTask
    log: RunLog
    watcher: ProgressListener

    @property
    def place(self) -> tuple[int, int]:
        """(number, repeat)."""
        return self.task.number, self.task.repeat

    @property
    def games(self) -> int:
        return int(self.task.rows.stop - self.task.rows.start)

    @property
    def kind(self) -> int:
        return self.of.match.number

    @property
    def name(self) -> str:
        repeat = f", repeat {self.task.repeat}" if self.of.match.settings.repeats > 1 else ""
        return f"shard {self.task.number}{repeat} of {self.of.match.name}"

    @property
    def size(self) -> float:
        """Multiply-adds of the forward passes, if all of the budget is used."""
        match, world = self.of.match, self.of.world
        games = int(world.drawn.right[self.task.rows].sum())
        each = world.classifier.forward.multiply_adds or 1.0
        return games * match.threat.budget * asks(match.defenders) * each

    @contextmanager
    def recording(self) -> Iterator[Hear]:
        """The shard belongs to this process, and is finished at the end, all at once."""
        keys = self.of.world.keys(self.task.rows)
        own = self.of.fingerprint(self.task)
        with self.log.shard(self.of.id, *self.place, own, keys, self.task.level) as recorder:
            self.of.begin(self.watcher)
            yield _Progress(recorder, self.watcher, self.of.match).record

    def do(self, hear: Hear) -> None:
        """Play it in this process."""
        self.task.play(self.of.world, self.of.stacks, self.of.failed, _Hearing(hear))

    def job(self) -> bytes:
        """It in a form that a worker takes."""
        asked = self.of.job(self.task)
        return pickle.dumps(PlayShard(asked.task, asked.failed, asked.identity))

    def give_up(self, hear: Hear, said: str) -> None:
        """All games end in `error`."""
        self.task.play(self.of.world, self.of.stacks, said, _Hearing(hear))


class _Hearing:
    """A `Recorder` out of who hears the pieces."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear

    def record(self, piece: Piece) -> None:
        self._hear(piece)


class _Progress:
    """Passes a shard's pieces on to the log, and says how many queries were answered."""

    def __init__(self, recorder: Recorder, watcher: ProgressListener, match: Match) -> None:
        self.recorder, self.watcher, self.match = recorder, watcher, match

    def record(self, piece: Piece) -> None:
        self.recorder.record(piece)
        self.watcher.played(piece.answered)
        for rows in piece.notes:
            if rows.key == "error" and len(rows.game):
                self.watcher.failed(self.match, len(rows.game), str(rows.value[0]))
