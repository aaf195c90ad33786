"""How close adversarial images came, by query count: medians, and success within radii."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from arena.league.rates import Median, Rate, median_of, rate, standing
from arena.log.answers import LoggedGames, LoggedMarks, LoggedMatch
from arena.records.evidence import distance_by
from arena.rules.outcome import Bools, Floats, Verdict
from arena.rules.threat import TOLERANCE

MOST_LINES = 8
"""Of more radii than this success is drawn against the radius, and not told radius by radius."""


@dataclass(frozen=True)
class Distances:
    """The distances of a match under objective `minimum`, over the games played, by query count, the budget
    last.

    Attributes:
        median: of the distances in the threat's norm, infinite for a game without a hit, or whose image loses
            by the headline verdict.
        within: by radius, the threat's epsilon last: the share of games won by each verdict with an image
            within it. By `vote` such a game counts with the share of fresh answers that are wrong.
        answered: the median by `answered`, whatever the headline: that of the nearest hits.
        verdict: the headline.
    """

    median: Mapping[int, Median]
    within: Mapping[float, Mapping[int, Mapping[Verdict, Rate]]]
    answered: Mapping[int, Median]
    verdict: Verdict = "answered"

    @property
    def radii(self) -> tuple[float, ...]:
        """The radii that are told one by one: of many only the threat's epsilon."""
        return tuple(self.within) if len(self.within) <= MOST_LINES else tuple(self.within)[-1:]

    @property
    def along(self) -> tuple[float, ...]:
        """The finite radii along which success is drawn, ascending; none where each is told."""
        finite = sorted(radius for radius in self.within if radius < math.inf)
        return tuple(finite) if len(self.within) > MOST_LINES else ()

    @property
    def lines(self) -> list[tuple[float, Verdict, str]]:
        """The rows of a table for `radii`: radius, verdict and its name; one row for all verdicts that
        agree, else the headline first."""
        lines: list[tuple[float, Verdict, str]] = []
        for radius in self.radii:
            rates = self.within[radius]
            if all(len(set(by_verdict.values())) == 1 for by_verdict in rates.values()):
                lines.append((radius, "answered", "by all"))
            else:
                ordered = sorted(get_args(Verdict), key=lambda verdict: verdict != self.verdict)
                lines += [(radius, verdict, verdict) for verdict in ordered]
        return lines

    @property
    def counts(self) -> tuple[int, ...]:
        return tuple(self.median)


def distances(
    match: LoggedMatch, outcomes: LoggedGames, marks: LoggedMarks, played: Bools
) -> Distances | None:
    """The distances of a match; None under another objective than `minimum`."""
    info, threat = match.info, match.info.threat
    if threat.objective != "minimum":
        return None
    image = outcomes.image[played]
    early = [at for at in sorted(set(marks.at.tolist())) if 0 < at < threat.budget]
    seen = {at: _at(threat.norm, outcomes, marks, at) for at in early}
    seen[threat.budget] = getattr(outcomes, threat.norm), {v: getattr(outcomes, v) for v in get_args(Verdict)}
    radii = dict.fromkeys((*info.radii, threat.epsilon))

    def won(at: int, radius: float, verdict: Verdict) -> Rate:
        distance, lost = seen[at]
        near = np.isfinite(distance[played]) & (distance[played] <= radius + TOLERANCE)
        return rate(np.where(near, lost[verdict][played].astype(np.float64), 0.0), image)

    def medians(verdict: Verdict) -> dict[int, Median]:
        by = {at: distance_by(verdict, distance, lost[verdict]) for at, (distance, lost) in seen.items()}
        return {at: median_of(distance[played], image) for at, distance in by.items()}

    return Distances(
        median=medians(info.verdict),
        within={r: {at: {v: won(at, r, v) for v in get_args(Verdict)} for at in seen} for r in radii},
        answered=medians("answered"),
        verdict=info.verdict,
    )


def joined(parts: Sequence[Distances]) -> Distances:
    """Distances of matches of the same agents with several budgets as those of one match: each count uses the
    match that has it as its budget."""
    counts = sorted({at for part in parts for at in part.counts})
    by = {at: part for part in parts for at in part.counts} | {part.counts[-1]: part for part in parts}
    return Distances(
        {at: by[at].median[at] for at in counts},
        {radius: {at: by[at].within[radius][at] for at in counts} for radius in parts[0].within},
        {at: by[at].answered[at] for at in counts},
        parts[0].verdict,
    )


def _at(
    norm: str, outcomes: LoggedGames, marks: LoggedMarks, at: int
) -> tuple[Floats, Mapping[Verdict, Floats | Bools]]:
    """The games' distances and verdicts [n] by the last marks up to query count `at`."""
    row = standing(outcomes.game, marks, at)
    none = row < 0
    lost = {v: np.where(none, 0, getattr(marks, v)[row]) for v in get_args(Verdict)}
    return np.where(none, np.inf, getattr(marks, norm)[row]), lost
