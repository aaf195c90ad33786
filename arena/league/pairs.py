"""Agents in order, with the ranks that tests on the same images leave open.

The test of two agents is the sign-flip permutation test of the mean difference (Fisher 1935; Good,
Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005): if neither is better, each image's
difference could as well have had the other sign. It compares the means that stand in the table, as a sign
test of shares would not, and where all differences are 0 or 1 it is McNemar's exact test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from scipy.optimize import brentq

from arena.league.board import PairTest, Rank
from arena.league.estimates import difference
from arena.league.rates import Median, Rate
from arena.rules.outcome import Floats, Ints
from arena.statistics import holm, median_interval, sign_test

ALPHA = 0.05
EXACT = 10**6
"""Up to so many additions the distribution of the flipped sums is computed; beyond, approximated."""
GRIDS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 13, 20, 25, 50, 75, 100, 125, 250, 312, 624, 936, 1560, 3120)
"""Of which the differences of votes and of their halves (12 and 13 answers) are multiples: 1 / g."""
_EQUAL = 1e-12


def flip_test(changes: Floats) -> float:
    """The two-sided p-value of the mean of paired differences [n]: the share of all 2^n ways to choose their
    signs in which the sum is at least as far from 0.

    Exact (`sign_test`) where all that differ do so by the same amount, and where the differences lie on a
    grid and are not too many, by adding up the distribution of the sum one image after the other. Else the
    saddlepoint approximation of Robinson (1982, eq. 2.5, after Lugannani and Rice 1980), whose relative
    error falls with n in the tails too, where a normal one and random flips say little.
    """
    d = changes[np.abs(changes) > _EQUAL]
    if not len(d):
        return 1.0
    size = np.abs(d)
    if np.ptp(size) <= _EQUAL:
        return sign_test(int((d > 0).sum()), int((d < 0).sum()))
    observed, steps = abs(float(d.sum())), _steps(size)
    if steps is None:
        return _saddlepoint(size, observed)
    total = abs(int((np.sign(d).astype(np.int64) * steps).sum()))
    if len(d) * int(steps.sum()) <= EXACT:
        return _summed(steps, total)
    # Sums lie two steps apart: the tail from one on begins halfway to the one before (Feller's correction).
    return _saddlepoint(steps.astype(np.float64), max(0.0, total - 1.0))


def _steps(size: Floats) -> Ints | None:
    """[n] the sizes in steps of the coarsest of `GRIDS` on which all lie; None if there is none."""
    for grid in GRIDS:
        scaled = size * grid
        if np.abs(scaled - np.round(scaled)).max() < 1e-6:
            return np.round(scaled).astype(np.int64)
    return None


def _summed(steps: Ints, observed: int) -> float:
    """The share of sign patterns whose sum of steps [n] is at least as far from 0 as `observed`."""
    total = int(steps.sum())
    weight = np.zeros(total + 1)  # of how many steps up: a sum of s has (total + s) / 2
    weight[0] = 1.0
    top = 0
    for step in steps.tolist():
        top += step
        weight[step : top + 1] += weight[: top + 1 - step].copy()
        weight[: top + 1] /= 2
    above = (total + observed + 1) // 2
    return min(1.0, 2 * float(weight[above:].sum()))


def _saddlepoint(size: Floats, observed: float) -> float:
    """The same of sizes [n] in any measure: the tail of K(t) = sum log cosh(t d)."""
    total = float(size.sum())
    if observed <= _EQUAL * total:
        return 1.0
    if observed >= total * (1 - 1e-9):
        return 2.0 ** (1 - len(size))
    high = 1 / float(size.max())
    while (size * np.tanh(high * size)).sum() < observed:
        high *= 2
    t = float(brentq(lambda t: (size * np.tanh(t * size)).sum() - observed, 0.0, high))
    cumulant = float((np.logaddexp(t * size, -t * size) - math.log(2)).sum())
    spread = float((size**2 / np.cosh(t * size) ** 2).sum())
    w, v = math.sqrt(max(0.0, 2 * (t * observed - cumulant))), t * math.sqrt(spread)
    if w < 1e-3:  # in the middle both terms grow without bound and cancel
        return 1.0
    density = math.exp(-w * w / 2) / math.sqrt(2 * math.pi)
    return min(1.0, 2 * (0.5 * math.erfc(w / math.sqrt(2)) + density * (1 / v - 1 / w)))


def compare(one: Floats, other: Floats) -> tuple[Rate | Median, int, float]:
    """`other` - `one` with its paired interval, over how many images, and p; of images' values [n] in [0,1],
    NaN where an agent has no game. Only images of both count."""
    both = ~np.isnan(one) & ~np.isnan(other)
    changes = other[both] - one[both]
    return difference(changes), int(both.sum()), flip_test(changes)


def compare_distances(one: Floats, other: Floats) -> tuple[Rate | Median, int, float]:
    """As `compare` of distances [L,n], which may be infinite (`worst.Worst`): the median difference with its
    interval between order statistics, and the exact sign test of the images, since infinite differences have
    no mean. Two infinite distances are equal; an image that rises in one layer and falls in another is."""
    layers = max(len(one), len(other))
    x, y = (np.broadcast_to(v, (layers, v.shape[1])) for v in (one, other))
    both = ~np.isnan(x).any(axis=0) & ~np.isnan(y).any(axis=0)
    x, y = x[:, both], y[:, both]
    with np.errstate(invalid="ignore"):
        changes = np.where(np.isinf(x) & np.isinf(y), 0.0, y - x)
    images = int(both.sum())
    if not images:
        return Median(math.nan, -math.inf, math.inf), 0, 1.0
    found = Median(float(np.median(changes)), *median_interval(changes, images))
    signs = (np.sign(changes) * (np.abs(changes) > _EQUAL)).sum(axis=0)
    return found, images, sign_test(int((signs > 0).sum()), int((signs < 0).sum()))


def pair_tests(
    values: Mapping[str, Floats],
    distances: bool = False,
    pairs: Sequence[tuple[str, str]] | None = None,
    looks: int = 1,
) -> list[PairTest]:
    """All pairs of agents on the same images, adjusted together (Holm), and for the looks at them.

    Args:
        values: by agent, [n] of the same images; distances as of `compare_distances`.
        pairs: those to be tested; None: all.
        looks: how often they are tested in all (`looks.looks_of`).
    """
    wanted = list(combinations(values, 2)) if pairs is None else list(pairs)
    found = [(compare_distances if distances else compare)(values[a], values[b]) for a, b in wanted]
    adjusted = adjust([p for *_, p in found], looks)
    return [
        PairTest(a, b, change, images, p, own)
        for (a, b), (change, images, p), own in zip(wanted, found, adjusted, strict=True)
    ]


def adjust(values: Sequence[float], looks: int) -> list[float]:
    """p-values adjusted for their number (Holm) and for how often they are looked at."""
    return [min(1.0, looks * p) for p in holm(values)]


def ranked(
    figures: Mapping[str, Rate | Median],
    tests: Sequence[PairTest],
    *,
    high_is_best: bool,
    open_pairs: Mapping[tuple[str, str], str] | None = None,
    withheld: Mapping[str, str] | None = None,
) -> list[Rank]:
    """Agents from the best to the worst.

    One is settled as better than another if their test, adjusted, is below `ALPHA`. An agent's best rank
    counts those settled as better, its worst rank leaves below it only those settled as worse.

    Args:
        figures: what is ranked, by agent.
        open_pairs: (better, worse) that no test settles, with the reason, as where the better one met fewer
            attackers.
        withheld: agents without a rank, with the reason; they stand last.
    """
    better = {name: set[str]() for name in figures}
    for test in tests:
        if test.adjusted >= ALPHA or math.isnan(test.difference.value):
            continue
        first, second = (test.other, test.one) if _rises(test) == high_is_best else (test.one, test.other)
        if (first, second) not in (open_pairs or {}):
            better[second].add(first)
    n = len(figures)
    beats = {name: sum(name in above for above in better.values()) for name in figures}
    ranks = [Rank(name, own, 1 + len(better[name]), n - beats[name]) for name, own in figures.items()]
    ranks.sort(key=lambda rank: -rank.figure.value if high_is_best else rank.figure.value)
    nothing = Rate(math.nan, 0.0, 1.0)
    return ranks + [Rank(name, nothing, 0, 0, why) for name, why in (withheld or {}).items()]


def _rises(test: PairTest) -> bool:
    """Whether `other` is above `one`. A median difference may be 0 though signs settle the pair: then the
    interval's middle tells."""
    d = test.difference
    return d.value > 0 if d.value else d.low + d.high > 0
