"""Figures of a cell with their 95 % intervals. Images are the units.

A game's verdict depends on the image, on what attacker and defender drew in play, and on the draws of the
fresh answers; replays and further draws of games share the image. The mean over an image's games holds all of
these parts, and images are drawn independently, so the spread of the images' means is that of the whole: the
"ultimate cluster" of sampling in stages (Hansen, Hurwitz and Madow 1953; Cochran, Sampling Techniques, 1977,
chapter 11). The noise of a vote's k answers needs no term of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.special import betainc, betaincinv, stdtrit

from arena.league.board import CellFigures
from arena.league.cells import Cell
from arena.league.grid import image_means, image_medians
from arena.league.rates import Median, Rate
from arena.records.evidence import distance_by
from arena.records.match_record import Judgement
from arena.rules.outcome import Bools, Floats, Ints
from arena.statistics import median_interval, wilson

UNKNOWN = Rate(math.nan, 0.0, 1.0)
Z = NormalDist().inv_cdf(0.975)
RESAMPLES = 1000
TAIL = 0.025


def share(means: Floats) -> Rate:
    """The mean of images' means [n] in [0,1], with its 95 % interval.

    Agresti and Coull (1998) add z^2/2 images that are lost and z^2/2 that are not, and take the normal
    interval of the n + z^2. Here the images keep their own values, so that the variance is that of shares
    where there are shares, and of yes or no where all are 0 or 1; and n equal values never give an interval
    without width. No share varies more than a yes or no of equal mean, so Wilson's interval for n images
    holds too: the interval is what both have in common, which for 0s and 1s is Wilson's.
    """
    n = len(means)
    if not n:
        return UNKNOWN
    x = np.clip(means, 0.0, 1.0)
    value, added, units = float(x.mean()), Z * Z / 2, n + Z * Z
    centre = (x.sum() + added) / units
    spread = ((x - centre) ** 2).sum() + added * (centre**2 + (1 - centre) ** 2)
    half = Z * math.sqrt(spread) / units
    low, high = wilson(min(value * n, n), n)
    return _rate(value, max(low, centre - half), min(high, centre + half))


def difference(changes: Floats) -> Rate:
    """The mean of paired differences [n] in [-1,1], with its 95 % interval.

    Bonett and Price (2012) add one pair that rose by 1 and one that fell by 1, and take the normal interval
    of the n + 2; here the pairs keep their own values. For yes or no it is theirs.
    """
    n = len(changes)
    if not n:
        return Rate(math.nan, -1.0, 1.0)
    centre = float(changes.sum()) / (n + 2)
    half = Z * math.sqrt((changes**2).sum() + 2 - (n + 2) * centre**2) / (n + 2)
    value = float(changes.mean())
    return _rate(value, max(-1.0, centre - half), min(1.0, centre + half))


def _rate(value: float, low: float, high: float) -> Rate:
    """Its interval holds a figure even where rounding says otherwise."""
    return Rate(value, float(min(value, low)), float(max(value, high)))


def exact(wrong: Ints, asked: Ints, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """[n], [n] the exact interval of the share of wrong answers of single images (Clopper and Pearson 1934);
    (0, 1) where none were asked."""
    tail = (1 - confidence) / 2
    right = asked - wrong
    with np.errstate(invalid="ignore"):
        low = np.where(wrong > 0, betaincinv(np.maximum(wrong, 1), right + 1, tail), 0.0)
        high = np.where(right > 0, betaincinv(wrong + 1, np.maximum(right, 1), 1 - tail), 1.0)
    return low, high


def median_distance(distances: Floats) -> Median:
    """The median of images' distances [n] or [n,L], L of each image, with its percentile bootstrap interval
    over images (Efron 1979), and at least the one between order statistics (`median_interval`), since the
    bootstrap's holds too seldom for few images: of 8 or 13, in 93 and 91 of 100 cases.

    Distances may be infinite, and an end of the interval then is; of fewer than six images it is (0, inf).
    """
    n = len(distances)
    if not n:
        return Median(math.nan, 0.0, math.inf)
    layers = distances.reshape(n, -1)
    low, high = _resampled(layers) if layers.shape[1] > 1 else _known(np.sort(layers[:, 0]))
    least, most = median_interval(layers, n)
    return Median(float(np.median(layers)), max(0.0, min(low, least)), max(high, most))


def _known(x: Floats) -> tuple[float, float]:
    """The bootstrap interval of the median of x [n], ascending, without resampling (Maritz and Jarrett 1978):
    the m-th smallest of n draws is at most x_k with probability I_{k/n}(m, n - m + 1)."""
    low, high = _ends(len(x))
    return float(x[low]), float(x[high])


@cache
def _ends(n: int) -> tuple[int, int]:
    """Which of n ascending values the interval ends at."""
    upto, lower, upper = np.arange(1, n + 1) / n, (n + 1) // 2, n // 2 + 1
    low = np.argmax(betainc(lower, n - lower + 1, upto) > TAIL)
    return int(low), int(np.argmax(betainc(upper, n - upper + 1, upto) >= 1 - TAIL))


def _resampled(layers: Floats) -> tuple[float, float]:
    """The bootstrap interval of the median of all values [n,L] over resamples of the n."""
    n = len(layers)
    # A resample's median is found by how often each value is in it, along the values in their order: a tenth
    # of the time that a median of each resample takes.
    order = np.argsort(layers, axis=None, kind="stable")
    values, image = layers.ravel()[order], order // layers.shape[1]
    middle = ((layers.size - 1) // 2, layers.size // 2)
    random, piece = np.random.default_rng(0), max(1, 2**18 // layers.size)
    drawn = np.zeros(RESAMPLES)
    for done in range(0, RESAMPLES, piece):
        m = min(piece, RESAMPLES - done)
        chosen = random.integers(n, size=(m, n)) + n * np.arange(m)[:, None]
        often = np.bincount(chosen.ravel(), minlength=m * n).astype(np.int32).reshape(m, n)
        upto = often[:, image].cumsum(axis=1, dtype=np.int32)
        lower, upper = ((upto > place).argmax(axis=1) for place in middle)
        drawn[done : done + m] = (values[lower] + values[upper]) / 2
    low, high = np.quantile(drawn, TAIL, method="lower"), np.quantile(drawn, 1 - TAIL, method="higher")
    return float(low), float(high)


def mean_count(counts: Floats, most: int) -> Median:
    """The mean of images' counts [n] in [0, most], with Student's interval over images, within that range.

    Equal values have no spread to go by: there the interval is that of the share of images whose counts could
    differ (Wilson's of n of n), these being anything up to `most`; so it is for a single image.
    """
    n = len(counts)
    if not n:
        return Median(math.nan, 0.0, float(most))
    value = float(counts.mean())
    if np.ptp(counts) == 0:
        other = 1 - wilson(n, n)[0]
        return Median(value, value * (1 - other), value + (most - value) * other)
    half = float(stdtrit(n - 1, 1 - TAIL) * counts.std(ddof=1) / math.sqrt(n))
    return Median(value, max(0.0, value - half), min(float(most), value + half))


def figures(
    cell: Cell, curve: Sequence[tuple[int, float]], withheld: str, facts: Sequence[Mapping[str, Any]]
) -> CellFigures:
    """The figures of a cell; the other arguments as they will stand there."""
    games, played = cell.games, cell.played
    images, place = np.unique(games.image, return_inverse=True)

    def mean(values: Floats, which: Bools) -> Floats:
        own = image_means(np.where(which, values, np.nan), place, len(images))
        return np.asarray(own[~np.isnan(own)])

    everywhere = np.ones(len(games), np.bool_)
    verdicts: list[Judgement] = ["answered", "vote", "base"]
    if not np.isnan(games.again[played]).all():
        verdicts.append("again")
    queries = games.queries.astype(np.float64)
    hits = (games.hit_at > 0) & played
    refused, flagged = _answered_otherwise(cell)
    return CellFigures(
        attacker=cell.attacker,
        defender=cell.defender,
        games=len(games),
        played=int(played.sum()),
        images=len(images),
        failed=int((games.failed & played).sum()),
        verdict=cell.verdict,
        left={v: share(mean(1 - games.lost(v), everywhere)) for v in verdicts},
        success={v: share(mean(games.lost(v), played)) for v in verdicts},
        distance=_distance(cell) if cell.threat.objective == "minimum" else None,
        queries_mean=mean_count(mean(queries, played), cell.at),
        queries_median=median_distance(mean(queries, played)),
        hits_median=median_distance(mean(games.hit_at.astype(np.float64), hits)),
        refused=refused,
        flagged=flagged,
        curve=tuple(curve),
        conflicts=cell.conflicts,
        withheld=withheld,
        facts=facts,
        two_ends=cell.two_ends,
        insider=sum(int(s.games.insider_queries.sum()) for s in cell.sources) / max(int(played.sum()), 1),
    )


def _distance(cell: Cell) -> Median:
    """Each image stands by the median of its games, by the headline; at 0 where it was lost before them."""
    games = cell.games
    near = distance_by(cell.verdict, games.distance, games.lost(cell.verdict))
    values = np.where(games.clean, 0.0, near)
    images, place = np.unique(games.image, return_inverse=True)
    return median_distance(image_medians(values, place, len(images)))


def _answered_otherwise(cell: Cell) -> tuple[float | None, float | None]:
    """The shares of all queries that were refused, and flagged: known of whole runs alone, not of their
    beginnings."""
    if any(source.threat.budget != cell.at or not source.asked for source in cell.sources):
        return None, None
    counts = [purpose for source in cell.sources for purpose in source.asked]
    queries = max(sum(purpose.queries for purpose in counts), 1)
    return sum(p.refused for p in counts) / queries, sum(p.flagged for p in counts) / queries
