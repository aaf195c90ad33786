"""What a match leaves, as arrays, and its numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from arena.messages import near
from arena.records.evidence import distance_by, lost_early
from arena.records.reports import GameRows, MarkRows, NoteRows, QueryRows
from arena.records.runs import MatchInfo, RunInfo
from arena.rules.outcome import FAILED, REASONS, Bools, Floats, Ints, Reason, Verdict
from arena.rules.threat import TOLERANCE, Threat
from arena.statistics import median_interval, wilson

Judgement: TypeAlias = Verdict | Literal["again"]
"""A verdict, or what stands beside them where a defender remembers."""
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

Estimate: TypeAlias = tuple[float, float, float]
"""A figure with the ends of its 95 % interval; NaN in (0, 1) or (0, inf) where nothing is known."""


@dataclass(frozen=True, repr=False, eq=False)
class MatchRecord:
    """A played match of G games, in the order of the images given.

    Wherever a `verdict` may be named, None stands for the headline (docs/design.md, D3).

    Attributes:
        match, run: who played against what, by which rules; when, where and with which versions.
        originals: [G,C,H,W] the clean images, as the service got them.
        games: how the games ended, one entry each.
        marks: the verdicts at each reported query count, the clean images' at 0.
        rows: every charged query, one entry a volley, if `keep_rows` was set, else none; `game` counts over
            the match.
        notes: what the attacker noted; those of key "error" say why it failed.
        purposes: by purpose, [5], how many queries there were, were refused, were flagged, were hits, and
            were answered with a winning label outside the ball.
        prefix: whether all marks are of one run. Otherwise each is the end of its own run with that budget,
            and all else is that of the longest.
        shorter: the other runs, of smaller budgets, where `prefix` is not set.
    """

    match: MatchInfo
    run: RunInfo
    originals: NDArray[np.float32]
    games: GameRows
    marks: dict[int, MarkRows]
    rows: list[QueryRows] = field(default_factory=list)
    notes: list[NoteRows] = field(default_factory=list)
    purposes: Mapping[str, Ints] = field(default_factory=dict)
    prefix: bool = True
    shorter: tuple[MatchRecord, ...] = ()

    @property
    def attacker(self) -> str:
        """The attacker, as tables name it."""
        return self.match.attacker_title or self.match.attacker

    @property
    def defender(self) -> str:
        """The defender or stack of defenders, as tables name it."""
        return self.match.defender_title or self.match.defender

    @property
    def threat(self) -> Threat:
        """The rules it was played under."""
        return self.match.threat

    @property
    def answers_are_facts(self) -> bool:
        """Whether the defended classifier always gives the same image the same answer."""
        return self.match.answers_are_facts

    @property
    def headline(self) -> Verdict:
        """The verdict that counts: `answered` where answers are facts, else `vote` (docs/design.md, D3)."""
        return self.match.verdict

    @property
    def reason(self) -> list[Reason]:
        """Why each game ended."""
        return self.games.reason

    @property
    def images(self) -> NDArray[np.float32]:
        """[G,C,H,W] the final images, as the service saw them."""
        return self.games.final

    @property
    def queries(self) -> Ints:
        """[G] queries charged."""
        return self.games.queries

    @property
    def answered(self) -> Bools:
        """[G] a hit was answered during play."""
        return self.games.answered

    @property
    def vote(self) -> Floats:
        """[G] the share of fresh defended answers to the final image that are wrong."""
        return self.games.vote

    @property
    def again(self) -> Floats:
        """[G] one more answer to the account that asked last, by memory as it was, is wrong; NaN where no
        defender remembers, or nothing was asked."""
        return self.games.again

    @property
    def base(self) -> Bools:
        """[G] the hardened classifier alone is wrong on the final image."""
        return self.games.base

    @property
    def played(self) -> Bools:
        """[G] the classifier was right on the clean image, so that there was a game."""
        return np.asarray([reason != "clean" for reason in self.games.reason])

    @property
    def failed(self) -> Bools:
        """[G] the game ended in `error`, `stalled` or `no-start`."""
        return np.asarray([reason in FAILED for reason in self.games.reason])

    @property
    def tells_nothing(self) -> bool:
        """Whether every game that was played failed, none with a hit: nothing is known of the defense."""
        failed = (self.failed & ~self.games.answered)[self.played]
        return bool(len(failed) and failed.all())

    @property
    def endings(self) -> dict[Reason, int]:
        """How many of the played games ended for each reason, in a fixed order."""
        count = Counter(self.games.reason)
        return {reason: count[reason] for reason in REASONS if count[reason] and reason != "clean"}

    @property
    def first_error(self) -> str:
        """The first error that the attacker's code raised: its type, message and place; "" for none."""
        errors = (str(value) for rows in self.notes if rows.key == "error" for value in rows.value)
        return next(errors, "")

    @property
    def outside(self) -> tuple[int, int]:
        """How many answers during play were wrong outside the ball, and how many were wrong in all."""
        hits, outside = (sum(int(counts[i]) for counts in self.purposes.values()) for i in (3, 4))
        return outside, hits + outside

    @property
    def lost_early(self) -> int:
        """How many games the attacker ended with queries left although the final image loses its vote (at
        most half of the fresh answers are wrong); 0 where answers are facts."""
        if self.answers_are_facts:
            return 0
        games = self.games
        return int(lost_early(games.reason, games.queries, games.vote, self.threat.budget).sum())

    @property
    def clean_accuracy(self) -> float:
        """The share of the images that the hardened classifier gets right."""
        return float(self.played.mean())

    def accuracy(self, verdict: Judgement | None = None, at: int | None = None) -> float:
        """The accuracy left under attack, over all G images, at a reported query count (None: the end).

        By `vote` a game counts with its share of right answers. NaN where every game failed.

        Raises:
            ValueError: if there is no such verdict, or `at` was not reported.
        """
        return self.accuracy_interval(verdict, at)[0]

    def accuracy_interval(self, verdict: Judgement | None = None, at: int | None = None) -> Estimate:
        """`accuracy` with its 95 % Wilson interval."""
        left = np.where(self.played, 1 - self._lost(verdict, at), 0)
        return _share(left, known=not self.tells_nothing or at == 0)

    def success(self, verdict: Judgement | None = None, at: int | None = None) -> Estimate:
        """The share of played games that the attacker won, with a 95 % Wilson interval, at a reported query
        count (None: the end).

        By `vote` a game counts with its share of wrong answers. NaN where no game was played, or every one
        failed.

        Raises:
            ValueError: if there is no such verdict, or `at` was not reported.
        """
        return _share(self._lost(verdict, at)[self.played], known=not self.tells_nothing)

    def success_within(
        self, radius: float, verdict: Judgement | None = None, at: int | None = None
    ) -> Estimate:
        """The share of played games that the attacker won with an image no farther than `radius` in the
        threat's norm; all else as `success`."""
        distance = self._distance(at)
        near = np.isfinite(distance) & (distance <= radius + TOLERANCE)
        lost = self._lost(verdict, at)[self.played]
        return _share(np.where(near, lost, 0.0), known=not self.tells_nothing)

    def median_distance(self, verdict: Judgement | None = None, at: int | None = None) -> Estimate:
        """The median distance in the threat's norm of the images that stood at a reported query count (None:
        the end), over the played games, with a 95 % interval; infinite for a game without a hit, or whose
        image loses by the verdict: at most half of its fresh answers are wrong.

        Raises:
            ValueError: if there is no such verdict, or `at` was not reported.
        """
        lost = self._lost(verdict, at)[self.played]
        distance = distance_by(self._named(verdict), self._distance(at), lost)
        if not len(distance) or self.tells_nothing:
            return math.nan, 0.0, math.inf
        low, high = median_interval(distance)
        return float(np.median(distance)), max(0.0, low), high

    def curve(self, verdict: Judgement | None = None) -> tuple[Ints, Floats]:
        """The accuracy left at query counts, [m] each: by `answered` after each number of queries from 0 to
        the budget, if all are of one run (`prefix`); else at the reported counts.

        Raises:
            ValueError: if there is no such verdict.
        """
        if self._named(verdict) != "answered" or not self.prefix or self.tells_nothing:
            counts = np.array(sorted(self.marks))
            return counts, np.array([self.accuracy(verdict, count) for count in counts.tolist()])
        at = np.arange(self.threat.budget + 1)
        hits = np.sort(self.games.hit_at[self.games.hit_at > 0])
        lost = (~self.played).sum() + np.searchsorted(hits, at, side="right")
        return at, 1 - lost / len(self.games)

    def _named(self, verdict: Judgement | None) -> Judgement:
        allowed = verdicts_of(self)
        if verdict is not None and verdict not in allowed:
            raise ValueError(f'there is no verdict "{verdict}" here; {near(str(verdict), allowed)}')
        return verdict or self.headline

    def _standing(self, at: int | None) -> GameRows | MarkRows:
        if at is not None and at not in self.marks:
            raise ValueError(
                f"no verdicts were reported at {at} queries; there are those at {sorted(self.marks)} (`at` "
                "of the call chooses them)"
            )
        return self.games if at is None else self.marks[at]

    def _lost(self, verdict: Judgement | None, at: int | None) -> Floats:
        """[G] how far each game is lost by a verdict."""
        lost = np.asarray(getattr(self._standing(at), self._named(verdict)), dtype=np.float64)
        return np.nan_to_num(lost, nan=0.0)

    def _distance(self, at: int | None) -> Floats:
        """The distances of the played games, infinite for a game without a hit."""
        distance = np.asarray(getattr(self._standing(at), self.threat.norm), dtype=np.float64)[self.played]
        return np.where(np.isnan(distance), np.inf, distance)


def verdicts_of(record: MatchRecord) -> tuple[Judgement, ...]:
    """All verdicts on a match, and `again` where a defender remembers."""
    return VERDICTS if np.isnan(record.games.again).all() else (*VERDICTS, "again")


def _share(values: Floats, *, known: bool) -> Estimate:
    """The mean of the games' values with its 95 % Wilson interval."""
    if not known or not len(values):
        return math.nan, 0.0, 1.0
    return float(values.mean()), *wilson(min(float(values.sum()), len(values)), len(values))
