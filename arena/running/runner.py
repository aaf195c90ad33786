"""Plays a scenario's matches into a log, shard by shard; continues interrupted runs (docs/design.md, D7)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from arena.classifiers.building import packages_of
from arena.classifiers.devices import device_in_words, resolve_device
from arena.classifiers.served import Calls
from arena.classifiers.threads import computing_threads
from arena.game.stack import Stack
from arena.modes import own_modes
from arena.players.catalogue import described
from arena.players.parameters import parameters
from arena.players.registry import name_of
from arena.players.roles import roles
from arena.provenance import versions
from arena.records.pieces import LogLevel
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import Verdict
from arena.running.benign_work import BenignWork, BenignWorks
from arena.running.call_plan import benign_traffic, plan_calls, utility_images
from arena.running.crew import Crew, Pool
from arena.running.identities import identity_of
from arena.running.room import Machine, check_memory
from arena.running.run_log import RunLog
from arena.running.shard_work import LoggedMatch, ProgressListener, ShardWork
from arena.running.shared_play import SharedPlay
from arena.running.utilities import Utilities, UtilityWork
from arena.running.work import Here, Players
from arena.running.workplace import Job, Supplies
from arena.scenario.files import Scenario
from arena.scenario.identity import fingerprint, networks_of, places
from arena.scenario.jobs import ShardTask, tasks
from arena.scenario.loaded_worlds import LoadedWorld, LoadedWorlds
from arena.scenario.matches import Match
from arena.scenario.prepared_stacks import Prepared, PreparedStacks
from arena.scenario.reference_networks import pinned

OpenPool = Callable[[Supplies], AbstractContextManager[Pool]]

LOGGED_ROWS: dict[LogLevel, int] = {"queries": 20_000_000, "changes": 2_000_000_000}
"""Up to how many expected queries of a run a level is chosen."""


class Run:
    """A scenario ready to be played on a device: everything loaded and checked.

    Args:
        prepared: the folder of prepared defenders; None for the user's cache.
        trusted: the functions that may be called to make a network (`load_classifier`).
        workers: how many others than this process will play, for what is announced; None: nobody can say.

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
        workers: int | None = 0,
    ) -> None:
        self.scenario = scenario
        self.device = resolve_device(device)
        self.data_dirs, self.trusted = data_dirs, trusted
        self._loaded = LoadedWorlds(scenario.folder, data_dirs, self.device, trusted)
        self.calls = Calls()
        with self.calls.counting():
            self.worlds = [self._loaded.of(match) for match in scenario.matches]
        check_memory(scenario.matches, self.worlds, Machine.here(self.device))
        self.stacks = PreparedStacks(prepared)
        self.plans = plan_calls(scenario.matches, self.worlds, self.calls, self.stacks.is_prepared, workers)
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
    def play(
        self, log: RunLog, watcher: ProgressListener, *, fresh: bool = False, pool: OpenPool | None = None
    ) -> tuple[int, bool]:
        """Play what `log` does not hold yet; the run's id there, and whether anything was left to play.

        What else takes time, preparing and measuring, is told (`arena.progress`).

        Args:
            fresh: begin a new run even where the log holds this one.
            pool: of workers that play; None: this process plays.

        Raises:
            LogError: if the log cannot be written. Finished shards are safe.
            CrewError: if workers end before they play.
        """
        with self.calls.counting():
            return self._play(log, watcher, fresh, pool)

    def _play(
        self, log: RunLog, watcher: ProgressListener, fresh: bool, pool: OpenPool | None
    ) -> tuple[int, bool]:
        info = self.info()
        info = replace(info, resolved={**info.resolved, "fresh": fresh})
        run_id, ended = (log.begin_run(info), False) if fresh else log.find_or_begin_run(info)
        if ended:
            for match in self.scenario.matches:  # words decide nothing that is played
                log.record_words(run_id, match.number, words(match))
            return run_id, False
        matches = [
            self._begin(log, run_id, match, world, fresh)
            for match, world in zip(self.scenario.matches, self.worlds, strict=True)
        ]
        utilities, benign = self._utilities(log, matches)
        with ExitStack() as stack:
            players: Players = Here()
            if pool is not None:
                for utility in utilities:
                    utility.measure_cost()
                players = Crew(stack.enter_context(pool(self.supplies())), self.calls)
            for _ in players.play([*utilities, *benign]):
                pass
            shared = SharedPlay(log, watcher, players)
            wanted = [(m, task) for m in matches for task in self._tasks(m.match, m.world)]
            shared.play([ShardWork(m, task, log, watcher) for m, task in wanted])
            shared.play_what_is_left()
        log.end_run(run_id)
        return run_id, True

    def check_sendable(self) -> None:
        """ScenarioError if a match cannot be sent to workers."""
        for match, world in zip(self.scenario.matches, self.worlds, strict=True):
            next(self._tasks(match, world)).packed()

    def supplies(self) -> Supplies:
        """What workers must know to load for themselves what is loaded here."""
        return Supplies(
            self.scenario.folder.absolute(),
            tuple(Path(folder).absolute() for folder in self.data_dirs),
            str(self.device),
            tuple(self.trusted),
            self._loaded.settled(),
            self.stacks.store.folder.absolute(),
            tuple({p.sha for p in self._prepared if self.stacks.store.holds(p.sha)}),
        )

    def _begin(self, log: RunLog, run_id: int, match: Match, world: LoadedWorld, fresh: bool) -> LoggedMatch:
        """A match in the log, begun or found there."""
        match_id = log.begin_match(run_id, self._match_info(match, world), fresh)
        log.discard_unfinished(match_id)
        failed, own = self._prepared[match.number].failed, self._fingerprints[match.number]
        return LoggedMatch(
            id=match_id,
            match=match,
            world=world,
            stacks=self.stacks,
            failed=failed,
            job=lambda task: Job(task.packed(), failed, self._identities[match.number]),
            fingerprint=lambda task: fingerprint([own, task.number, task.repeat]),
        )

    def _tasks(self, match: Match, world: LoadedWorld) -> Iterator[ShardTask]:
        return tasks(match, world, self._prepared[match.number].sha, self.level)

    def _utilities(
        self, log: RunLog, matches: Sequence[LoggedMatch]
    ) -> tuple[list[UtilityWork], list[BenignWork]]:
        """The measurements that the log lacks, and the benign traffic; of stacks that could not be prepared
        there are none."""
        utilities, benign = Utilities(log), BenignWorks(log)
        for m in matches:
            prepared = self._prepared[m.match.number]
            if prepared.failed is None:
                first = next(self._tasks(m.match, m.world))
                for wanted in (utilities, benign):
                    wanted.want(m.id, m.match, m.world, prepared.stack, partial(m.job, first))
        return utilities.left(), benign.left()

    @own_modes()
    def info(self) -> RunInfo:
        """This run for the log."""
        first = self.scenario.matches[0].settings
        return RunInfo(
            scenario=self.scenario.name,
            title=self.scenario.title,
            seed=first.seed,
            versions=versions(*packages_of({name for m in self.scenario.matches for name in networks_of(m)})),
            device=device_in_words(self.device),
            fingerprint=fingerprint(
                {
                    "scenario": self.scenario.name,
                    "matches": self._fingerprints,
                    "utility": list(map(utility_images, self.scenario.matches, self.worlds)),
                    # Only where there is some, so that runs from before there was any are the same.
                    **({"benign": benign} if any(benign := self._benign) else {}),
                }
            ),
            level=self.level,
            batch=self.worlds[0].classifier.batch,
            resolved={
                **({"further": dict(self.scenario.further)} if self.scenario.further else {}),
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
    def _benign(self) -> list[dict[str, Any] | None]:
        """The benign traffic of each match, as JSON values."""
        found = map(benign_traffic, self.scenario.matches, self.worlds)
        return [None if traffic is None else traffic.model_dump(mode="json") for traffic in found]

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
            identity_of(match, world, self._prepared[match.number].sha, self.level)
            for match, world in zip(self.scenario.matches, self.worlds, strict=True)
        ]

    @cached_property
    def _fingerprints(self) -> list[str]:
        return [fingerprint(identity) for identity in self._identities]

    def _level(self) -> LogLevel:
        chosen = {m.settings.log for m in self.scenario.matches} - {None}
        if any(m.settings.margin_base for m in self.scenario.matches):
            return "queries"
        for level in ("queries", "changes", "games"):
            if level in chosen:
                return level
        return level_for(self.expected_queries)

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
            threat=pinned(match.threat, world.surrogate_shas),
            classes=world.classifier.classes,
            image_shape=world.dataset.shape,
            at=match.at,
            repeats=match.settings.repeats,
            attacker_title=match.attacker_name,
            defender_title=match.defender_name,
            utility=utility_images(match, world),
            benign=self._benign[match.number],
            answers_are_facts=stack.answers_are_facts,
            **words(match),
            facts={
                "hardened_sha": stack.base.sha,
                "prepared_sha": prepared.sha,
                "defenders": prepared.facts,
                "roles": roles(match.attacker, match.defenders),
                "catalogue": described(match.defenders),
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
