"""Plays a scenario's matches into a log, shard by shard; continues interrupted runs (docs/design.md, D7)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from arena.classifiers.building import packages_of
from arena.classifiers.devices import device_in_words, resolve_device
from arena.classifiers.served import Calls
from arena.classifiers.threads import computing_threads
from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.game.blame import DefenderError
from arena.game.referee import longest_volley
from arena.game.stack import Stack
from arena.modes import own_modes
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.roles import roles
from arena.progress import telling
from arena.provenance import versions
from arena.records.pieces import LogLevel, Piece, Recorder
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Verdict
from arena.running.call_plan import plan_calls, served, utility_images
from arena.running.room import Machine, check_memory
from arena.running.run_log import RunLog
from arena.running.shared_play import ProgressListener, SharedPlay
from arena.scenario.files import Scenario
from arena.scenario.identity import fingerprint, match_identity, places
from arena.scenario.jobs import ShardTask, tasks
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import Prepared, PreparedStacks

LOGGED_ROWS: dict[LogLevel, int] = {"queries": 20_000_000, "changes": 2_000_000_000}
"""Up to how many expected queries of a run a level is chosen."""


class Run:
    """A scenario ready to be played on a device: everything loaded and checked.

    Args:
        prepared: the folder of prepared defenders; None for the user's cache.
        trusted: the functions that may be called to make a network (`load_classifier`).

    Attributes:
        calls: of functions of the user's, counted by cause; plans: what these will be asked.

    Raises:
        ScenarioError: if a world cannot be loaded, its games cannot be drawn, or the memory cannot hold them.
    """

    @own_modes()
    def __init__(
        self,
        scenario: Scenario,
        *,
        device: str = "auto",
        data_dirs: Sequence[Path] = (),
        prepared: Path | None = None,
        trusted: Collection[str] = (),
    ) -> None:
        self.scenario = scenario
        self.device = resolve_device(device)
        worlds, self.calls = LoadedWorlds(scenario.folder, data_dirs, self.device, trusted), Calls()
        with self.calls.counting():
            self.worlds = [worlds.of(match) for match in scenario.matches]
        check_memory(scenario.matches, self.worlds, Machine.here(self.device))
        self.stacks = PreparedStacks(prepared)
        self.plans = plan_calls(scenario.matches, self.worlds, self.calls, self.stacks.is_prepared)
        self.level = self._level()

    @property
    def expected_queries(self) -> int:
        """The queries of all matches if every game uses up its budget."""
        return sum(m.settings.games * m.settings.repeats * m.threat.budget for m in self.scenario.matches)

    @property
    def rows(self) -> int:
        """The rows of queries that are logged at most."""
        return 0 if self.level == "games" else self.expected_queries

    @own_modes()
    @computing_threads(1)
    def play(self, log: RunLog, watcher: ProgressListener, *, fresh: bool = False) -> tuple[int, bool]:
        """Play what `log` does not hold yet; the run's id there, and whether anything was left to play.

        What else takes time, preparing and measuring, is told (`arena.progress`).

        Args:
            fresh: begin a new run even where the log holds this one.

        Raises:
            LogError: if the log cannot be written. Finished shards are safe.
        """
        with self.calls.counting():
            return self._play(log, watcher, fresh)

    def _play(self, log: RunLog, watcher: ProgressListener, fresh: bool) -> tuple[int, bool]:
        info = self.info()
        info = replace(info, resolved={**info.resolved, "fresh": fresh})
        run_id, ended = (log.begin_run(info), False) if fresh else log.find_or_begin_run(info)
        if ended:
            for match in self.scenario.matches:  # words decide nothing that is played
                log.record_words(run_id, match.number, words(match))
            return run_id, False
        utilities, shared = _Utilities(log), SharedPlay(log, watcher, partial(self._play_shard, log, watcher))
        for match, world in zip(self.scenario.matches, self.worlds, strict=True):
            match_id = log.begin_match(run_id, self._match_info(match, world), fresh)
            log.discard_unfinished(match_id)
            watcher.match(match, len(world) * match.settings.repeats)
            prepared = self._prepared[match.number]
            if prepared.failed is None:
                with suppress(DefenderError):  # its games, which are played next, say so
                    utilities.record(match_id, match, world, prepared.stack)
            shared.play(match_id, world, list(tasks(match, world, prepared.sha, self.level)))
        shared.play_what_is_left()
        log.end_run(run_id)
        return run_id, True

    @own_modes()
    def info(self) -> RunInfo:
        """This run for the log."""
        first = self.scenario.matches[0].settings
        return RunInfo(
            scenario=self.scenario.name,
            title=self.scenario.title,
            seed=first.seed,
            versions=versions(*packages_of([m.world.classifier.network for m in self.scenario.matches])),
            device=device_in_words(self.device),
            fingerprint=fingerprint(
                {
                    "scenario": self.scenario.name,
                    "matches": self._fingerprints,
                    "utility": list(map(utility_images, self.scenario.matches, self.worlds)),
                }
            ),
            level=self.level,
            batch=self.worlds[0].classifier.batch,
            resolved={
                "size": self.scenario.size,
                "sizes": self.scenario.sizes,
                "matches": [
                    {**identity, "drawn": len(world), "places": places(match)}
                    for identity, world, match in zip(
                        self._identities, self.worlds, self.scenario.matches, strict=True
                    )
                ],
            },
        )

    @cached_property
    def _prepared(self) -> list[Prepared]:
        """Each match's prepared stack; those that are not prepared yet are, here."""
        return [
            Prepared.of(self.stacks, *played)
            for played in zip(self.scenario.matches, self.worlds, strict=True)
        ]

    @cached_property
    def _identities(self) -> list[dict[str, Any]]:
        """What makes each match what it is, by its number, as JSON values."""
        return [
            match_identity(
                match,
                dataset_sha=world.dataset.sha,
                classifier_sha=world.classifier.sha,
                prepared_sha=self._prepared[match.number].sha,
                device=self.device,
                batch=world.classifier.batch,
                max_rows=longest_volley(world.dataset.shape),
                forward=world.classifier.forward.steps,
                threads=world.classifier.threads,
                level=self.level,
            )
            for match, world in zip(self.scenario.matches, self.worlds, strict=True)
        ]

    @cached_property
    def _fingerprints(self) -> list[str]:
        return [fingerprint(identity) for identity in self._identities]

    def _level(self) -> LogLevel:
        chosen = {m.settings.log for m in self.scenario.matches} - {None}
        for level in ("queries", "changes", "games"):
            if level in chosen:
                return level
        return level_for(self.expected_queries)

    def _play_shard(
        self, log: RunLog, watcher: ProgressListener, match_id: int, task: ShardTask, world: LoadedWorld
    ) -> None:
        own = fingerprint([self._fingerprints[task.match.number], task.number, task.repeat])
        keys, failed = world.keys(task.rows), self._prepared[task.match.number].failed
        with log.shard(match_id, task.number, task.repeat, own, keys, self.level) as recorder:
            task.play(world, self.stacks, failed, _Progress(recorder, watcher, task.match))

    def _match_info(self, match: Match, world: LoadedWorld) -> MatchInfo:
        prepared = self._prepared[match.number]
        stack = prepared.stack
        return MatchInfo(
            number=match.number,
            fingerprint=self._fingerprints[match.number],
            attacker=name_of(match.attacker),
            attacker_params=parameters(match.attacker),
            defender=match.defender_name,
            defender_params={"defenders": _defenders(stack)},
            classifier=world.classifier.title,
            classifier_sha=world.classifier.sha,
            dataset=world.dataset.name,
            dataset_sha=world.dataset.sha,
            threat=match.threat,
            classes=world.classifier.classes,
            image_shape=world.dataset.shape,
            at=match.at,
            repeats=match.settings.repeats,
            attacker_title=match.attacker_name,
            defender_title=match.defender_name,
            utility=utility_images(match, world),
            answers_are_facts=stack.answers_are_facts,
            **words(match),
            facts={
                "hardened_sha": stack.base.sha,
                "prepared_sha": prepared.sha,
                "defenders": prepared.facts,
                "roles": roles(match.attacker, match.defenders),
            },
        )


def level_for(queries: int) -> LogLevel:
    """The level at which so many expected queries are logged where nothing else is said."""
    return next((level for level, most in LOGGED_ROWS.items() if queries <= most), "games")


def words(match: Match) -> dict[str, Any]:
    """How a scenario shows a match, by columns of the log's `entries`; it decides nothing that is played."""
    return {
        "block": match.block,
        "title": match.title,
        "verdict": headline(match),
        "radii": match.settings.radii,
    }


def headline(match: Match) -> Verdict:
    """A match's headline verdict: the scenario's choice, else the default of docs/design.md, D3."""
    if match.settings.verdict is not None:
        return match.settings.verdict
    return "answered" if all(d.answers_are_facts for d in match.defenders) else "vote"


def _defenders(stack: Stack) -> list[dict[str, Any]]:
    return [{"name": name_of(d), **parameters(d)} for d in stack.defenders]


class _Utilities:
    """What each defended classifier of a run is worth on clean images: evaluated unless the log knows."""

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self._evaluations: dict[tuple[int, int, int], Evaluation] = {}
        self._known: dict[tuple[int, Evaluation], Utility] = {}

    def record(self, match_id: int, match: Match, world: LoadedWorld, stack: Stack) -> None:
        """Have the log hold the utility of a match, if the scenario wants one; `stack` outlives this."""
        images, seed = utility_images(match, world), match.settings.seed
        if not images:
            return
        evaluated = (id(world.classifier), images, seed)
        if evaluated not in self._evaluations:
            split = world.dataset.games
            self._evaluations[evaluated] = Evaluation(world.classifier, split, seed=seed, images=images)
        key = (id(stack), self._evaluations[evaluated])
        found = self.log.find_utility(match_id, images)
        if found is None:
            with telling(f"measuring {match.defender_name}"):
                paid = served(world.classifier) is not None
                found = self._known.get(key) or self._evaluations[evaluated].of(stack, cost=not paid)
            self.log.record_utility(match_id, found)
        self._known[key] = found


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
