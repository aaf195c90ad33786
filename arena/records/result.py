"""The result of a match played from Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from arena.records.reports import GameRows, MarkRows, QueryRows
from arena.rules.outcome import Bools, Floats, Ints, Reason, Verdict
from arena.rules.threat import TOLERANCE, Threat
from arena.statistics import median_interval, wilson


@dataclass(frozen=True)
class Result:
    """A played match of G games, in the order of the images given.

    Attributes:
        threat: the rules it was played under.
        originals: [G,C,H,W] the clean images, as the service got them.
        games: how the games ended, one entry each.
        marks: the verdicts at each reported query count, the clean images' at 0.
        rows: every charged query, one entry a volley, if `keep_rows` was set, else none; `game` counts over
            the match.
        prefix: whether all marks are of one run. Otherwise each is the end of its own run with that budget,
            and games and rows are those of the longest.
    """

    threat: Threat
    originals: NDArray[np.float32]
    games: GameRows
    marks: dict[int, MarkRows]
    rows: list[QueryRows]
    prefix: bool = True

    @property
    def reason(self) -> list[Reason]:
        """Why each game ended."""
        return self.games.reason

    @property
    def images(self) -> NDArray[np.float32]:
        """[G,C,H,W] the final images, as submitted."""
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
    def base(self) -> Bools:
        """[G] the hardened classifier alone is wrong on the final image."""
        return self.games.base

    @property
    def played(self) -> Bools:
        """[G] the classifier was right on the clean image, so that there was a game."""
        return np.asarray([reason != "clean" for reason in self.games.reason])

    @property
    def clean_accuracy(self) -> float:
        """The share of the images that the hardened classifier gets right."""
        return float(self.played.mean())

    def accuracy(self, verdict: Verdict = "answered", at: int | None = None) -> float:
        """The accuracy left under attack, over all G images, at a reported query count (None: the end).

        Raises:
            KeyError: if `at` was not reported.
        """
        lost = np.asarray(getattr(self._standing(at), verdict), dtype=np.float64)
        return float(np.where(self.played, 1 - lost, 0).mean())

    def success(self, verdict: Verdict = "answered") -> tuple[float, float, float]:
        """The share of played games that the attacker won, with a 95 % Wilson interval.

        By `vote` a game counts with its share of wrong answers.
        """
        return _share(np.asarray(getattr(self.games, verdict), dtype=np.float64)[self.played])

    def median_distance(self, at: int | None = None) -> tuple[float, float, float]:
        """The median distance in the threat's norm of the images that stood at a reported query count (None:
        the end), over the played games, with a 95 % interval; infinite for a game without a hit.

        Raises:
            KeyError: if `at` was not reported.
        """
        distance = self._distance(at)
        if not len(distance):
            return math.nan, 0.0, math.inf
        low, high = median_interval(distance)
        return float(np.median(distance)), max(0.0, low), high

    def success_within(
        self, radius: float, verdict: Verdict = "answered", at: int | None = None
    ) -> tuple[float, float, float]:
        """The share of played games that the attacker won with an image no farther than `radius` in the
        threat's norm, at a reported query count (None: the end), with a 95 % Wilson interval.

        By `vote` such a game counts with its share of wrong answers.

        Raises:
            KeyError: if `at` was not reported.
        """
        distance = self._distance(at)
        near = np.isfinite(distance) & (distance <= radius + TOLERANCE)
        lost = np.asarray(getattr(self._standing(at), verdict), dtype=np.float64)[self.played]
        return _share(np.where(near, lost, 0.0))

    def curve(self) -> tuple[Ints, Floats]:
        """The accuracy left (verdict `answered`) after each number of queries from 0 to the budget; only
        after the reported counts if each was played by itself (`prefix`)."""
        if not self.prefix:
            counts = np.array(sorted(self.marks))
            return counts, np.array([self.accuracy(at=count) for count in counts.tolist()])
        at = np.arange(self.threat.budget + 1)
        hits = np.sort(self.games.hit_at[self.games.hit_at > 0])
        lost = (~self.played).sum() + np.searchsorted(hits, at, side="right")
        return at, 1 - lost / len(self.games)

    def _standing(self, at: int | None) -> GameRows | MarkRows:
        if at is not None and at not in self.marks:
            raise KeyError(f"no verdicts were reported at {at} queries; there are {sorted(self.marks)}")
        return self.games if at is None else self.marks[at]

    def _distance(self, at: int | None) -> Floats:
        """The distances of the played games, infinite for a game without a hit."""
        distance = np.asarray(getattr(self._standing(at), self.threat.norm), dtype=np.float64)[self.played]
        return np.where(np.isnan(distance), np.inf, distance)

    def __str__(self) -> str:
        shares = ", ".join(
            "{} {:.1%} [{:.1%}, {:.1%}]".format(verdict, *self.success(verdict))
            for verdict in get_args(Verdict)
        )
        won = self.games.hit_at[self.games.hit_at > 0]
        median = f", median {np.median(won):.0f} queries to the first hit" if len(won) else ""
        return (
            f"{len(self.games)} images, clean accuracy {self.clean_accuracy:.1%}, "
            f"accuracy left {self.accuracy():.1%}; success: {shares}{median}"
        )


def _share(lost: Floats) -> tuple[float, float, float]:
    """The mean of the games' losses with its 95 % Wilson interval."""
    if not len(lost):
        return 0.0, 0.0, 1.0
    return float(lost.mean()), *wilson(float(lost.sum()), len(lost))


def join_games(parts: Sequence[GameRows]) -> GameRows:
    """The games of consecutive shards as one."""
    joined = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts])
        for f in fields(GameRows)
        if f.name != "reason"
    }
    return GameRows(reason=[r for p in parts for r in p.reason], **joined)


def join_marks(parts: Sequence[MarkRows], games: int) -> MarkRows:
    """Verdicts at one query count, received piece by piece with `game` counted over the match, in its
    order."""
    columns = {
        f.name: np.concatenate([getattr(p, f.name) for p in parts])
        for f in fields(MarkRows)
        if f.name != "at"
    }
    order = np.argsort(columns["game"], kind="stable")
    assert len(order) == games
    return MarkRows(parts[0].at, **{name: column[order] for name, column in columns.items()})
