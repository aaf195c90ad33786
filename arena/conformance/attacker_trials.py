"""An attacker under check: the trials that its declared needs ask for, and its plays of them."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal

from arena.conformance.results import Skip
from arena.conformance.stand_in_agents import Detector, Flips, Trouble
from arena.conformance.surroundings import AMBIENT
from arena.conformance.tiny_worlds import WORLDS, constant_world, surrogate_name, tiny_world
from arena.conformance.watched_play import PATIENCE, AttackerTrial, FaultKind, WatchedPlay, difference, watch
from arena.players import Attacker, Needs
from arena.players.declared import flaw_of_declared
from arena.rules.threat import Goal, GrantedResources, NamedNetwork, Norm, Objective, Quantisation, Threat

FATAL: tuple[FaultKind, ...] = ("crash", "hang", "stalled", "form", "range")
"""Faults with which a play is not worth comparing to another."""
_EPSILON: dict[Norm, float] = {"linf": 0.08, "l2": 0.8}
_FEEDBACK: dict[str, tuple[str, ...]] = {
    "label": ("logits", "label", "probabilities", "topk:2"),
    "scores": ("logits", "probabilities", "topk:2"),
    "logits": ("logits",),
}
_QUANTISATION: tuple[Quantisation, ...] = ("none", "round", "none", "floor", "none")
BUDGET = 100
LUCKY_GAMES = 20
"""How many games are played against a defender that is often wrong by luck."""


class AttackerSubject:
    """An attacker and its plays, each played when first asked for.

    Args:
        attacker: what is checked; it is copied for each play.
        device: where the images lie.
        budget: queries a game of the longest plays; the many short ones have a quarter of it.
        patience: seconds of processor time that it may take for one move.
    """

    def __init__(
        self, attacker: Attacker, *, device: str = "cpu", budget: int = BUDGET, patience: float = PATIENCE
    ) -> None:
        self.attacker, self.device, self.patience = attacker, device, patience
        self.long, self.short = budget, max(4, budget // 4)

    @property
    def across_games(self) -> bool:
        """Whether it declares that what it learns in one game may change how it plays another."""
        return bool(getattr(self.attacker, "across_games", False))

    def fresh(self) -> Attacker:
        """A copy that has not played yet; the attacker itself where it cannot be copied."""
        try:
            return copy.deepcopy(self.attacker)
        except Exception:
            return self.attacker

    def watch(
        self, trial: AttackerTrial, *, seed: int = 0, ambient: int = AMBIENT, by: Attacker | None = None
    ) -> WatchedPlay:
        """Play `trial`, by a fresh copy unless another attacker is given."""
        return watch(by or self.fresh(), trial, seed=seed, ambient=ambient, patience=self.patience)

    @cached_property
    def needs(self) -> Needs:
        """What the attacker declares.

        Raises:
            Skip: if that makes no sense.
        """
        if flaw_of_declared(self.attacker) is not None:
            raise Skip("what it declares to need makes no sense")
        return self.attacker.needs

    @cached_property
    def declared(self) -> list[AttackerTrial]:
        """A trial for each combination of norm, goal, objective and feedback that the attacker declares."""
        needs = self.needs
        rules = itertools.product(needs.norms, needs.goals, needs.objectives, _FEEDBACK[needs.feedback])
        return [self._trial(n, self.short, *combination) for n, combination in enumerate(rules)]

    @cached_property
    def variants(self) -> list[AttackerTrial]:
        """A longer trial for each objective; norms, goals and feedbacks alternate."""
        needs = self.needs
        norms, goals = itertools.cycle(needs.norms), itertools.cycle(needs.goals)
        feedbacks = itertools.cycle(reversed(_FEEDBACK[needs.feedback]))
        return [
            self._trial(n + 1, self.long, next(norms), next(goals), objective, next(feedbacks))
            for n, objective in enumerate(needs.objectives)
        ]

    @cached_property
    def plays(self) -> list[WatchedPlay]:
        """The plays of `declared` and of `variants`, up to the first that does not come to an end."""
        played = []
        for trial in (*self.declared, *self.variants):
            played.append(self.watch(trial))
            if played[-1].fault("hang", "stalled"):
                break  # each of the others would take as long
        return played

    @cached_property
    def otherwise(self) -> list[tuple[WatchedPlay, WatchedPlay]]:
        """Two plays of each variant, by copies of their own, with the global generators seeded apart."""
        self.require_sound()
        longest = self.plays[-len(self.variants) :]
        return [(play, self.watch(play.trial, ambient=AMBIENT + 1)) for play in longest]

    @cached_property
    def again(self) -> list[tuple[WatchedPlay, WatchedPlay]]:
        """Two plays of each variant, by copies of their own, from the same seeds.

        Where the global generators made no difference, the plays of `otherwise` are such two.
        """
        return [
            (one, other if difference(one, other) is None else self.watch(one.trial))
            for one, other in self.otherwise
        ]

    def require_sound(self) -> None:
        """Raises Skip if the attacker does not get through ordinary plays."""
        if any(play.fault(*FATAL) for play in self.plays):
            raise Skip("it does not get through ordinary plays")

    def _trial(
        self, number: int, budget: int, norm: Norm, goal: Goal, objective: Objective, feedback: str
    ) -> AttackerTrial:
        needs = self.needs
        endless = objective == "minimum" and number % 2 == 0
        threat = Threat(
            norm=norm,
            epsilon=math.inf if endless else _EPSILON[norm],
            budget=budget * self.attacker.budget_factor,
            feedback=feedback,
            goal=goal,
            objective=objective,
            quantisation=_QUANTISATION[number % len(_QUANTISATION)],
            knowledge=needs.knowledge,
            resources=GrantedResources(
                images=needs.images,
                starts=needs.needs_starts(goal == "targeted"),
                surrogates=tuple(
                    NamedNetwork.model_validate({"network": surrogate_name(n)})
                    for n in range(needs.surrogates)
                ),
            ),
        )
        place = tiny_world(number % len(WORLDS), self.device)
        where = (
            f"{norm}, epsilon {threat.epsilon:g}, {goal}, objective {objective}, feedback {feedback}, "
            f"{place.classes} classes, images {list(place.shape)}"
        )
        defenders = (Detector(),) if needs.knowledge in ("detector", "weights") else ()
        return AttackerTrial(where, place, threat, defenders, clean=(1,))

    # Trouble

    def few_rows(self) -> Iterator[AttackerTrial]:
        return self._changed("volleys of 3 rows at most", max_rows=3)

    def small_budgets(self) -> Iterator[AttackerTrial]:
        for budget in (1, 2):
            for trial in self._changed(f"budget {budget}"):
                yield replace(trial, threat=trial.threat.with_budget(budget * self.attacker.budget_factor))

    def few_games(self) -> Iterator[AttackerTrial]:
        yield from self._changed("a single game", games=(3,), clean=())
        yield from self._changed("all games closed from the start", clean=(0, 1, 2, 3, 4))
        yield from self._changed("a single game, closed from the start", games=(3,), clean=(0,))

    def refused(self) -> Iterator[AttackerTrial]:
        return self._troubled("refused")

    def silent(self) -> Iterator[AttackerTrial]:
        """Without a label, which an attacker hears in the same way whether it was declined or is NaN."""
        yield from self._troubled("nan")
        yield from self._troubled("declined")

    def _troubled(self, what: Literal["refused", "declined", "nan"]) -> Iterator[AttackerTrial]:
        for every, rows in ((1, "every query"), (3, "every third query")):
            yield from self._defended(f"{rows} {what}", Trouble(what, every))

    def banned(self) -> Iterator[AttackerTrial]:
        for every, query in ((1, "first"), (4, "fourth")):
            yield from self._defended(f"banned at the {query} query", Trouble("banned", every))
            for trial in self._defended(
                f"banned at each {query} query, 3 accounts", Trouble("banned", every)
            ):
                yield replace(trial, threat=trial.threat.model_copy(update={"accounts": 3}))

    def constant(self) -> Iterator[AttackerTrial]:
        place = constant_world(self.device)
        return self._changed("a classifier that answers all images alike", world=place, clean=())

    def by_luck(self) -> Iterator[AttackerTrial]:
        """Objective `submit`, where three in ten answers are wrong by luck."""
        for trial in self.variants:
            if trial.threat.objective == "submit":
                defenders = (Flips(), *trial.defenders)
                yield replace(trial, defenders=defenders, games=tuple(range(LUCKY_GAMES)), votes=15)

    def saturated(self) -> Iterator[AttackerTrial]:
        return self._changed("every value of the images 0 or 1", saturated=True)

    def _defended(self, what: str, defender: Trouble) -> Iterator[AttackerTrial]:
        for trial in self._changed(what):
            yield replace(trial, defenders=(defender, *trial.defenders))

    def _changed(self, what: str, **changes: Any) -> Iterator[AttackerTrial]:
        """The variants with a short budget and these changes."""
        for trial in self.variants:
            threat = trial.threat.with_budget(self.short * self.attacker.budget_factor)
            yield replace(trial, where=f"{what}; {trial.where}", threat=threat, **changes)
