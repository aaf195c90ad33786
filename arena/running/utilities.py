"""What each defended classifier of a run is worth on clean images: measured unless the log knows it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

from arena.evaluation.clean_images import Evaluation
from arena.evaluation.clean_utility import Utility
from arena.game.blame import DefenderError
from arena.game.stack import Stack
from arena.progress import telling
from arena.running.call_plan import served, utility_images
from arena.running.run_log import RunLog
from arena.running.work import Hear
from arena.running.workplace import Job, MeasureUtility
from arena.scenario.loaded_worlds import LoadedWorld
from arena.scenario.matches import Match


@dataclass(eq=False)
class UtilityWork:
    """`Work` that measures one stack, for all matches that play against it.

    Attributes:
        match: one of them; match_ids: all of them in the log.
        asked: a job for the same match; read where a worker measures.
        costs: the measured fields, where they were measured beforehand.
    """

    log: RunLog
    match: Match
    evaluation: Evaluation
    stack: Stack
    paid: bool
    asked: Callable[[], Job]
    match_ids: list[int] = field(default_factory=list)
    costs: dict[str, Any] = field(default_factory=dict)
    kind: int = -1

    @property
    def name(self) -> str:
        return f"the measurement of {self.match.defender_name}"

    @property
    def size(self) -> float:
        return float(len(self.evaluation))

    @contextmanager
    def recording(self) -> Iterator[Hear]:
        """Keeps it in the log, for each of the matches."""
        yield self.keep

    def keep(self, utility: Utility) -> None:
        """Have the log hold it for each of the matches."""
        for match_id in self.match_ids:
            self.log.record_utility(match_id, replace(utility, **self.costs))

    def do(self, hear: Hear) -> None:
        """Measure it; a defender that fails says so in the games, which are played next."""
        with suppress(DefenderError), telling(f"measuring {self.match.defender_name}"):
            hear(self.evaluation.of(self.stack, cost=not self.paid))

    def measure_cost(self) -> None:
        """Measure what answering costs, before others load the machine."""
        if not self.paid:
            with suppress(DefenderError), telling(f"measuring {self.match.defender_name}"):
                self.costs = self.evaluation.cost(self.stack)

    def job(self) -> bytes:
        """It in a form that a worker takes."""
        asked = self.asked()
        return pickle.dumps(MeasureUtility(asked.task, asked.failed, asked.identity, len(self.evaluation)))

    def give_up(self, hear: Hear, said: str) -> None:
        """Nothing is recorded: the games say what is wrong."""


class Utilities:
    """What is still to be measured."""

    def __init__(self, log: RunLog) -> None:
        self.log = log
        self._evaluations: dict[tuple[int, int, int], Evaluation] = {}
        self._works: dict[tuple[int, Evaluation], UtilityWork] = {}
        self._known: dict[tuple[int, Evaluation], Utility] = {}

    def want(
        self, match_id: int, match: Match, world: LoadedWorld, stack: Stack, asked: Callable[[], Job]
    ) -> None:
        """Have the log hold the utility of a match, if the scenario wants one; `stack` outlives this."""
        images, seed = utility_images(match, world), match.settings.seed
        if not images:
            return
        place = (id(world.classifier), images, seed)
        if place not in self._evaluations:
            split = world.dataset.games
            self._evaluations[place] = Evaluation(world.classifier, split, seed=seed, images=images)
        evaluation = self._evaluations[place]
        key = (id(stack), evaluation)
        if (found := self.log.find_utility(match_id, images)) is not None:
            self._known[key] = found
            return
        if key not in self._works:
            paid = served(world.classifier) is not None
            self._works[key] = UtilityWork(self.log, match, evaluation, stack, paid, asked)
        self._works[key].match_ids.append(match_id)

    def left(self) -> list[UtilityWork]:
        """What must be measured; of what the log knows from another match nothing."""
        for key, utility in self._known.items():
            if (work := self._works.pop(key, None)) is not None:
                work.keep(utility)
        return list(self._works.values())
