"""Two runs of a log, compared match by match on the same images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from arena.league.labels import leaves
from arena.league.rates import median, standing
from arena.log import Log, questions
from arena.log.answers import LoggedGames, LoggedMarks, LoggedMatch, LoggedRun
from arena.log.schema import to_json
from arena.rules.outcome import FAILED, Floats
from arena.statistics import holm, median_interval, paired_difference, sign_test

VERDICTS = ("answered", "vote", "again", "base")
"""The columns that say whether the attacker won; those that a log does not have, or in which a match has no
values, are left out."""
_EQUAL = 1e-12


@dataclass(frozen=True)
class Difference:
    """What two matches come to on the same games, by one verdict or in distance.

    Attributes:
        what: a verdict, or the norm of a distance.
        one, other: shares won in [0,1]; or median distances, infinite where most games had no hit.
        difference: other - one; of distances, the median over the games.
        low, high: its 95 % interval, paired.
        more, less: images on which the other run's value is higher, or lower.
        p: exact two-sided sign test of these (for a verdict that is yes or no, McNemar's).
        adjusted: p, adjusted for all tests of the comparison (Holm).
    """

    what: str
    one: float
    other: float
    difference: float
    low: float
    high: float
    more: int
    less: int
    p: float
    adjusted: float = 1.0


@dataclass(frozen=True)
class Pair:
    """Two matches that are compared.

    Attributes:
        same: whether both runs use one and the same match of the log.
        games, images: how many were played in both, with the same target if there is one.
        only_one, only_other: games that were played in one of them alone.
        at: the query count that is compared: the budget, or where budgets differ the largest that both
            report; None if there is none, and the final images are compared.
        differs: settings that differ: key, and both values.
        failed: how many of the games ended with `error`, `stalled` or `no-start`, in either: they say
            little about the defense.
    """

    one: LoggedMatch
    other: LoggedMatch
    same: bool
    games: int = 0
    images: int = 0
    only_one: int = 0
    only_other: int = 0
    at: int | None = None
    differs: Sequence[tuple[str, Any, Any]] = ()
    differences: Sequence[Difference] = ()
    failed: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    Attributes:
        differs: settings that differ in all pairs alike.
        only_one, only_other: matches without a counterpart.
    """

    one: LoggedRun
    other: LoggedRun
    differs: Sequence[tuple[str, Any, Any]]
    pairs: Sequence[Pair]
    only_one: Sequence[LoggedMatch] = ()
    only_other: Sequence[LoggedMatch] = ()

    @property
    def tests(self) -> int:
        """How many p-values were adjusted together."""
        return sum(len(pair.differences) for pair in self.pairs)


def compare(log: Log, one: LoggedRun, other: LoggedRun) -> Comparison:
    """Compare two runs of a log."""
    with log.snapshot():
        mine, yours = (questions.matches(log, run.id) for run in (one, other))
        couples, only_one, only_other = matched(mine, yours)
        pairs = [_pair(log, a, b, _differing(_settings(one, a), _settings(other, b))) for a, b in couples]
    played = [pair for pair in pairs if not pair.same]
    common = _common([pair.differs for pair in played])
    adjusted = iter(holm([d.p for pair in pairs for d in pair.differences]))
    pairs = [
        replace(
            pair,
            differs=[item for item in pair.differs if item not in common],
            differences=[replace(d, adjusted=next(adjusted)) for d in pair.differences],
        )
        for pair in pairs
    ]
    about = _differing(_about(one), _about(other))
    return Comparison(one, other, [*about, *common], pairs, only_one, only_other)


def matched(
    mine: Sequence[LoggedMatch], yours: Sequence[LoggedMatch]
) -> tuple[list[tuple[LoggedMatch, LoggedMatch]], list[LoggedMatch], list[LoggedMatch]]:
    """The couples of two runs' matches on one data set, and what is left of both.

    Couples agree in as much as they can: all first, then all but the threat, then all but threat and
    classifier, last in the agents' names alone. Beyond the first, a match is coupled only where there is no
    second one that it could be coupled with.
    """
    mine, yours = list(mine), list(yours)
    couples: list[tuple[LoggedMatch, LoggedMatch]] = []
    for key in _KEYS:
        for value in dict.fromkeys(map(key, mine)):
            left, right = ([m for m in side if key(m) == value] for side in (mine, yours))
            if key is _KEYS[0] or len(left) == len(right) == 1:
                for a, b in zip(left, right, strict=False):
                    couples.append((a, b))
                    mine.remove(a)
                    yours.remove(b)
    return sorted(couples, key=lambda couple: couple[0].info.number), mine, yours


def _agents(match: LoggedMatch) -> tuple[str, ...]:
    i = match.info
    return i.attacker, to_json(dict(i.attacker_params)), i.defender, to_json(dict(i.defender_params))


_KEYS: tuple[Callable[[LoggedMatch], Any], ...] = (
    lambda m: (m.info.dataset_sha, *_agents(m), m.info.classifier_sha, m.info.threat.model_dump_json()),
    lambda m: (m.info.dataset_sha, *_agents(m), m.info.classifier_sha),
    lambda m: (m.info.dataset_sha, *_agents(m)),
    lambda m: (m.info.dataset_sha, m.info.attacker, m.info.defender),
)


def _pair(log: Log, a: LoggedMatch, b: LoggedMatch, differs: list[tuple[str, Any, Any]]) -> Pair:
    if a.id == b.id:
        return Pair(a, b, same=True)
    one, other = questions.outcomes(log, a.id), questions.outcomes(log, b.id)
    rows = _common_games(one, other)
    played = [sum(reason != "clean" for reason in games.reason) for games in (one, other)]
    shared = len(rows[0])
    pair = Pair(
        a,
        b,
        same=False,
        games=shared,
        images=len(np.unique(one.image[rows[0]])),
        only_one=played[0] - shared,
        only_other=played[1] - shared,
        at=_count(a, b),
        differs=differs,
        failed=(_failed(one, rows[0]), _failed(other, rows[1])),
    )
    if not shared:
        return pair
    values = [
        _values(log, match, games, row, pair.at)
        for match, games, row in zip((a, b), (one, other), rows, strict=True)
    ]
    return replace(pair, differences=_differences(one.image[rows[0]], *values))


def _failed(games: LoggedGames, rows: Any) -> int:
    return sum(games.reason[n] in FAILED for n in rows)


def _common_games(one: LoggedGames, other: LoggedGames) -> tuple[Any, Any]:
    """The rows of the games that were played in both matches, in the same order."""
    places = []
    for games in (one, other):
        keys = zip(games.image.tolist(), games.repeat.tolist(), games.target.tolist(), strict=True)
        places.append({k: n for n, k in enumerate(keys) if games.reason[n] != "clean"})
    shared = [key for key in places[0] if key in places[1]]
    left, right = (np.array([place[key] for key in shared], np.int64) for place in places)
    return left, right


def _count(a: LoggedMatch, b: LoggedMatch) -> int | None:
    """The query count at which two matches are compared."""
    budgets = a.info.threat.budget, b.info.threat.budget
    if budgets[0] == budgets[1]:
        return budgets[0]
    counts = ({*match.info.at, match.info.threat.budget} - {0} for match in (a, b))
    return max(set.intersection(*counts), default=None)


def _values(log: Log, match: LoggedMatch, games: LoggedGames, rows: Any, at: int | None) -> dict[str, Floats]:
    """By verdict and norm the values of some games at a query count; None: of their final images."""
    source: LoggedGames | LoggedMarks = games
    missing = np.zeros(len(rows), np.bool_)
    if at is not None and at < match.info.threat.budget:
        source = questions.verdicts(log, match.id)
        rows = standing(games.game, source, at)[rows]
        missing = rows < 0
    found: dict[str, Floats] = {}
    names = {f.name for f in fields(source)}
    for verdict in (v for v in VERDICTS if v in names):
        values = np.where(missing, 0.0, np.asarray(getattr(source, verdict), np.float64)[rows])
        if ((values >= 0) & (values <= 1)).all():
            found[verdict] = values
    if match.info.threat.objective == "minimum":
        norm = match.info.threat.norm
        found[norm] = np.where(missing, np.inf, getattr(source, norm)[rows])
    return found


def _differences(image: Any, one: Mapping[str, Floats], other: Mapping[str, Floats]) -> list[Difference]:
    """Of games [n] by what both matches have values of; replays of an image count as one."""
    images, place = np.unique(image, return_inverse=True)
    count = np.bincount(place)
    found = []
    for what in (w for w in one if w in other):
        x, y = one[what], other[what]
        if what in VERDICTS:
            a, b = np.bincount(place, x) / count, np.bincount(place, y) / count
            low, high = paired_difference(np.clip(a, 0, 1), np.clip(b, 0, 1))
            values = float(x.mean()), float(y.mean()), float(y.mean() - x.mean())
            change = b - a
        else:
            both = np.isinf(x) & np.isinf(y)
            change = np.where(both, 0.0, np.where(both, 0.0, y) - np.where(both, 0.0, x))
            low, high = median_interval(change, len(images))
            values = median(x), median(y), median(change)
            change = np.bincount(place, np.sign(change)).astype(np.float64)
        more, less = int((change > _EQUAL).sum()), int((change < -_EQUAL).sum())
        found.append(Difference(what, *values, low, high, more, less, sign_test(more, less)))
    return found


def _settings(run: LoggedRun, match: LoggedMatch) -> dict[str, Any]:
    """All that is recorded of how a run plays a match, by dotted key."""
    described = run.info.resolved.get("matches", ())
    if match.info.number < len(described):
        return dict(leaves(described[match.info.number]))
    i = match.info
    return dict(
        leaves(
            {
                "attacker": dict(i.attacker_params),
                "defenders": dict(i.defender_params),
                "threat": i.threat.model_dump(mode="json"),
                "classifier_sha": i.classifier_sha,
            }
        )
    )


def _about(run: LoggedRun) -> dict[str, Any]:
    return {"scenario": run.info.scenario, "title": run.info.title, "device": run.info.device}


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = dict.fromkeys([*one, *other])
    return [(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def _common(lists: Sequence[Sequence[tuple[str, Any, Any]]]) -> list[tuple[str, Any, Any]]:
    """What stands in all of the lists."""
    return [item for item in lists[0] if all(item in other for other in lists)] if lists else []
