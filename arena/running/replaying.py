"""Plays what a log holds again, from the log alone, and compares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import torch

from arena.classifiers.devices import resolve_device
from arena.classifiers.threads import computing_threads
from arena.game.blame import DefenderError
from arena.game.shard import Job, play_shard, record_unplayed
from arena.log import Log, LogError, open_log, questions
from arena.log.answers import LoggedMatch, LoggedRun
from arena.log.shard_rows import LoggedShard, rows_of, shards_of
from arena.modes import own_modes
from arena.records.pieces import LogLevel, Piece, Recorder, at_level
from arena.running.comparing import Comparison, compare
from arena.running.identities import identity_of
from arena.running.rebuilding import ReplayError, as_logged, described, rebuild
from arena.scenario.identity import fingerprint
from arena.scenario.jobs import ShardTask
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import Prepared, PreparedStacks
from arena.scenario.seeds import PUBLIC, Seeds

Change = Callable[[Job], Job]
"""What a caller makes of a job before it is played."""

_SAID = {
    "code": "the source of arena, the agents or plug-ins",
    "prepared_sha": "what the defenders found as they were prepared",
}
_SHOWN = ("versions", "device", "arithmetic", "batch", "max_rows", "forward", "threads", *_SAID)


@dataclass(frozen=True, eq=False)
class LoggedPlay:
    """A match of a log, ready to be played again.

    Attributes:
        said: what its run says of it (`rebuilding.described`).
        prepared: its defenders, as they were prepared here.
        other_facts: sentences on what is another here than where it was played; none: the same bits are
            promised.
        same: whether they are: the fingerprint of all that decides the match is the same.
    """

    run: LoggedRun
    logged: LoggedMatch
    said: Mapping[str, Any]
    match: Match
    world: LoadedWorld
    prepared: Prepared
    other_facts: tuple[str, ...]
    same: bool

    def task(self, shard: LoggedShard) -> ShardTask:
        """A shard of it as work.

        Raises:
            ReplayError: if the match has no such shard.
        """
        size = self.match.settings.shard
        rows = slice(shard.number * size, min((shard.number + 1) * size, len(self.world)))
        known = 0 <= shard.repeat < self.match.settings.repeats and shard.number >= 0
        if not known or rows.stop - rows.start != shard.games:
            has = (
                f"{self.match.settings.repeats} repeats of {len(self.world)} drawn games in shards of {size}"
            )
            raise ReplayError(
                f"match {self.logged.id} has no shard {shard.number} (repeat {shard.repeat}) of "
                f"{shard.games} games here: it has {has}"
            )
        shas = self.said["dataset_sha"], self.said["classifier_sha"], self.prepared.sha
        return ShardTask(self.match, shard.number, shard.repeat, rows, shard.level, *shas)


@dataclass(frozen=True, eq=False)
class Replayed:
    """A shard that was played again.

    Attributes:
        shard: as it is in the log. scratch, again: where its new rows are: a log of its own, which is gone
            when the `Replayer` is closed, and the shard in there.
    """

    play: LoggedPlay
    shard: LoggedShard
    scratch: Log
    again: LoggedShard

    @property
    def promised(self) -> bool:
        """Whether machine, versions and code are those of the log, so that the same bits are promised."""
        return self.play.same


@dataclass(frozen=True, eq=False)
class Checked:
    """A shard played again and compared with the log."""

    replayed: Replayed
    comparison: Comparison

    @property
    def how(self) -> str:
        """`bits` where the same bits are promised; `shares` where another machine or version plays."""
        return "bits" if self.replayed.promised else "shares"

    @property
    def passed(self) -> bool:
        """Whether the log is confirmed: bit for bit where that is promised, else within tolerance."""
        return self.comparison.equal if self.replayed.promised else self.comparison.within


class Replayer:
    """Plays shards of a log again. Close it, or use it in a `with` statement.

    Args:
        log: what is replayed; it is only read.
        data_dirs: where data sets and weights lie.
        device: None for the kind that played, if it is here, else the best there is.
        prepared: the folder of prepared defenders; None for the user's cache.
        trusted: functions that may be called to make a network.
        known: matches of the scenario file, for what the log does not say (`rebuilding.rebuild`).
        folder: where relative paths start; None: the current folder.
        seeds: of ranked runs: those of the secret that they were played with.
    """

    def __init__(
        self,
        log: Log,
        *,
        data_dirs: Sequence[Path] = (),
        device: str | None = None,
        prepared: Path | None = None,
        trusted: Collection[str] = (),
        known: Sequence[Match] = (),
        folder: Path | None = None,
        seeds: Seeds = PUBLIC,
    ) -> None:
        self.log, self.known, self.seeds = log, known, seeds
        self._device, self._worlds = device, dict[torch.device, LoadedWorlds]()
        self._loading = (folder or Path(), data_dirs, trusted)
        self.stacks = PreparedStacks(prepared)
        self._plays: dict[tuple[int, int], LoggedPlay] = {}
        self._scratch: Log | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._played = 0

    def __enter__(self) -> Replayer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was played."""
        if self._scratch is not None:
            self._scratch.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._scratch = self._folder = None

    def shards(self, match_id: int) -> list[LoggedShard]:
        """The finished shards of a match, by repeat and number."""
        return shards_of(self.log, match_id)

    @own_modes()
    @computing_threads(1)
    def open(self, match_id: int) -> LoggedPlay:
        """A match, ready to be played again.

        Raises:
            ReplayError: if the log does not say enough, or agents are missing or others here.
            ScenarioError: if data or classifier cannot be loaded, or are others than those played on.
        """
        logged = questions.match(self.log, match_id)
        key = (logged.run_id, match_id)
        if key not in self._plays:
            run = next(one for one in questions.runs(self.log) if one.id == logged.run_id)
            self._plays[key] = self._open(run, logged)
        return self._plays[key]

    def _open(self, run: LoggedRun, logged: LoggedMatch) -> LoggedPlay:
        said = described(run, logged)
        match = rebuild(said, logged, self.known, self.seeds)
        device = self._device_for(str(said.get("device", "cpu")))
        if device not in self._worlds:
            folder, data_dirs, trusted = self._loading
            self._worlds[device] = LoadedWorlds(folder, data_dirs, device, trusted)
        world = self._worlds[device].of(match)
        self._check_world(said, logged, world)
        prepared = Prepared.of(self.stacks, match, world)
        identity = identity_of(match, world, prepared.sha, said["level"])
        facts = tuple(_other_facts(said, as_logged(identity)))
        same = fingerprint(identity) == logged.info.fingerprint
        if not same and not facts:
            facts = ("the log's fingerprint of the match is not that of what it says of it",)
        return LoggedPlay(run, logged, said, match, world, prepared, facts, same)

    def _device_for(self, played_on: str) -> torch.device:
        if self._device is not None:
            return resolve_device(self._device)
        here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        return resolve_device(played_on if here.get(played_on) else "auto")

    def _check_world(self, said: Mapping[str, Any], logged: LoggedMatch, world: LoadedWorld) -> None:
        for what, found, wanted in (
            (f"data set {logged.info.dataset}", world.dataset.sha, said["dataset_sha"]),
            (f"classifier {logged.info.classifier}", world.classifier.sha, said["classifier_sha"]),
            *zip(
                [f"reference network {one.name}" for one in world.surrogates],
                world.surrogate_shas,
                said.get("surrogate_shas", ()),
                strict=False,  # of a log that names fewer, the fingerprint is another
            ),
        ):
            if found != wanted:
                raise ReplayError(
                    f"match {logged.id}: the {what} here is another than the one it was played on (SHA "
                    f"{found[:12]}; it must be {str(wanted)[:12]})"
                )

    def job(self, shard: LoggedShard) -> Job:
        """A shard, ready for `play_shard`: as it was played.

        Raises:
            DefenderError: if its defenders cannot be prepared.
            ReplayError, ScenarioError: as `open`.
        """
        play = self.open(shard.match_id)
        if play.prepared.failed is not None:
            raise DefenderError(play.prepared.failed)
        return play.task(shard).open(play.world, self.stacks)

    @own_modes()
    @computing_threads(1)
    def replay(
        self, shard: LoggedShard, change: Change | None = None, heard: Recorder | None = None
    ) -> Replayed:
        """Play a shard of the log again.

        Args:
            change: of its job, for questions of the kind "what if": draws frozen, another budget, another
                attacker. None: as it was played.
            heard: gets the whole record, every query of it, whatever the log's level.

        Raises:
            ReplayError, ScenarioError: as `open`.
            ClassifierError: if the classifier fails.
        """
        play = self.open(shard.match_id)
        task, scratch, info = play.task(shard), self._open_scratch(), play.logged.info
        self._played += 1
        name = fingerprint([info.fingerprint, self._played])
        run = scratch.begin_run(replace(play.run.info, fingerprint=name))
        match_id = scratch.begin_match(run, replace(info, fingerprint=name, number=0), fresh=True)
        keys = play.world.keys(task.rows)
        with scratch.shard(match_id, shard.number, shard.repeat, name, keys, shard.level) as recorder:
            try:
                if play.prepared.failed is not None:
                    raise DefenderError(play.prepared.failed)
                job = task.open(play.world, self.stacks)
            except DefenderError as error:
                openings = play.world.openings(play.match, task.rows)
                record_unplayed(openings, play.match.threat, play.match.at, str(error), recorder)
            else:
                job = job if change is None else change(job)
                if heard is None:
                    play_shard(job, recorder)
                else:
                    play_shard(replace(job, level="queries"), _Heard(recorder, heard, job.level))
        return Replayed(play, shard, scratch, shards_of(scratch, match_id)[0])

    def check(
        self, shard: LoggedShard, change: Change | None = None, heard: Recorder | None = None
    ) -> Checked:
        """Play a shard of the log again, and compare all its rows.

        Args:
            change: of its job, which must decide nothing that is played, such as an attacker that is watched.
            heard: as in `replay`.

        Raises:
            ReplayError, ScenarioError, ClassifierError: as `replay`.
            LogError: if the log holds values that are none.
        """
        logged = rows_of(self.log, shard)
        replayed = self.replay(shard, change, heard)
        return Checked(replayed, compare(logged, rows_of(replayed.scratch, replayed.again)))

    def _open_scratch(self) -> Log:
        if self._scratch is None:
            try:
                self._folder = TemporaryDirectory(prefix="arena-replay-")
                self._scratch = open_log(Path(self._folder.name) / "again.db")
            except OSError as error:
                raise LogError(f"there is no room for what is played again: {error}") from error
        return self._scratch


class _Heard:
    """Passes a whole record on to whoever wants to hear it, and what a level records of it to a recorder."""

    def __init__(self, recorder: Recorder, heard: Recorder, level: LogLevel) -> None:
        self.recorder, self.heard, self.level = recorder, heard, level

    def record(self, piece: Piece) -> None:
        self.heard.record(piece)
        rows = [kept for rows in piece.queries if len(kept := at_level(rows, self.level))]
        self.recorder.record(replace(piece, queries=rows))


def _other_facts(said: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What is another here than a log says, sentence by sentence."""
    found = []
    for key in _SHOWN:
        there, own = said.get(key), here[key]
        if there == own:
            continue
        if key == "versions" and isinstance(there, dict):
            packages = [name for name in sorted({*there, *own}) if there.get(name) != own.get(name)]
            found += [f"{name}: {there.get(name)} in the log, {own.get(name)} here" for name in packages]
        elif key in _SAID:
            found.append(f"{_SAID[key]}: {str(there)[:12]} in the log, {str(own)[:12]} here")
        else:
            found.append(f"{key}: {there} in the log, {own} here")
    return found
