"""What benign clients lose to each defended classifier of a run: played unless the log knows it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.benign.plan import Traffic
from arena.evaluation.benign.playing import BenignTraffic
from arena.game.blame import DefenderError
from arena.game.stack import Stack
from arena.progress import telling
from arena.running.call_plan import benign_traffic
from arena.running.run_log import RunLog
from arena.running.work import Hear
from arena.running.workplace import Job, PlayBenign
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match

Part = tuple[str, str]
"""A kind of client, and a history."""


@dataclass(eq=False)
class BenignWork:
    """`Work` that plays benign clients against one stack, for all matches that play against it.

    Attributes:
        match: one of them. traffic: around the world's classifier.
        asked: a job for the same match; read where a worker plays.
        held: what the log holds for each of the matches, by its id.
    """

    log: RunLog
    match: Match
    traffic: BenignTraffic
    stack: Stack
    asked: Callable[[], Job]
    held: dict[int, dict[Part, BenignLoss]] = field(default_factory=dict)
    kind: int = -2

    @property
    def name(self) -> str:
        return f"the benign clients of {self.match.defender_name}"

    @property
    def size(self) -> float:
        shared = any(d.memory == "service" for d in self.stack.defenders)
        return float(self.traffic.traffic.images(shared=shared))

    @property
    def missing(self) -> list[Part]:
        """What none of the matches has."""
        known = {part for held in self.held.values() for part in held}
        return [part for part in self.traffic.traffic.parts(self.stack) if part not in known]

    @contextmanager
    def recording(self) -> Iterator[Hear]:
        """Keeps it in the log, for each of the matches."""
        yield self.keep

    def keep(self, loss: BenignLoss) -> None:
        """Have the log hold it for each of the matches that lacks it."""
        for match_id, held in self.held.items():
            if (loss.client, loss.history) not in held:
                self.log.record_benign(match_id, loss)

    def share(self) -> None:
        """Have the log hold for each of the matches what it holds for any."""
        for losses in list(self.held.values()):
            for loss in losses.values():
                self.keep(loss)

    def do(self, hear: Hear) -> None:
        """Play them; a defender that fails says so in the games, which are played next."""
        with suppress(DefenderError), telling(f"benign clients of {self.match.defender_name}"):
            self.traffic.of(self.stack, self.missing, hear=hear)

    def job(self) -> bytes:
        """It in a form that a worker takes."""
        asked = self.asked()
        plan, missing = self.traffic.traffic, tuple(self.missing)
        return pickle.dumps(PlayBenign(asked.task, asked.failed, asked.identity, plan, missing))

    def give_up(self, hear: Hear, said: str) -> None:
        """Nothing is recorded: the games say what is wrong."""


class BenignWorks:
    """What is still to be played."""

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self._traffic: dict[tuple[int, Traffic, int], BenignTraffic] = {}
        self._works: dict[tuple[int, BenignTraffic], BenignWork] = {}

    def want(
        self, match_id: int, match: Match, world: LoadedWorld, stack: Stack, asked: Callable[[], Job]
    ) -> None:
        """Have the log hold what benign clients lose in a match, if the scenario wants it; `stack` outlives
        this."""
        plan, seed = benign_traffic(match, world), match.settings.seed
        if plan is None:
            return
        place = (id(world.classifier), plan, seed)
        if place not in self._traffic:
            split = world.dataset.games
            self._traffic[place] = BenignTraffic(world.classifier, split, plan, seed=seed)
        key = (id(stack), self._traffic[place])
        if key not in self._works:
            self._works[key] = BenignWork(self.log, match, self._traffic[place], stack, asked)
        draws = plan.answers(stack)
        found = self.log.find_benign(match_id, plan.sessions)
        self._works[key].held[match_id] = {(x.client, x.history): x for x in found if x.draws == draws}

    def left(self) -> list[BenignWork]:
        """What must be played; of what the log knows from another match nothing."""
        for work in self._works.values():
            work.share()
        return [work for work in self._works.values() if work.missing]
