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

from arena.league.board import PairTest, Rank
from arena.league.estimates import difference
from arena.league.rates import Median, Rate
from arena.rules.outcome import Floats
from arena.statistics import holm, median_interval, sign_test

FLIPS = 9999
EXACT = 14
"""Up to so many differing images all sign patterns are looked at."""
ALPHA = 0.05
_EQUAL = 1e-12


def flip_test(changes: Floats, seed: int = 0) -> float:
    """The two-sided p-value of the mean of paired differences [n].

    Exact where all that differ do so by the same amount (`sign_test`) and for up to `EXACT` images; else of
    `FLIPS` random flips, the observed one counted (Phipson and Smyth 2010). Where none of them reaches the
    observed mean, it is at most 2 exp(-z^2 / 2), z^2 = (sum d)^2 / sum d^2 (Hoeffding 1963), if that is less.
    """
    d = changes[np.abs(changes) > _EQUAL]
    if not len(d):
        return 1.0
    size = np.abs(d)
    if np.ptp(size) <= _EQUAL:
        return sign_test(int((d > 0).sum()), int((d < 0).sum()))
    observed = abs(float(d.sum())) - 1e-9
    if len(d) <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2 ** (len(d) - 1))[:, None] >> np.arange(len(d))) & 1)
        return float((np.abs(signs @ size) >= observed).mean())
    random, reached = np.random.default_rng(seed), 0
    piece = max(1, 2**22 // len(d))
    for done in range(0, FLIPS, piece):
        signs = random.integers(0, 2, (min(piece, FLIPS - done), len(d)), np.int8)
        reached += int((np.abs(2 * (signs @ size) - size.sum()) >= observed).sum())
    p = (reached + 1) / (FLIPS + 1)
    return p if reached else min(p, 2 * math.exp(-(d.sum() ** 2) / (2 * (d**2).sum())))


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


def tests_of(
    values: Mapping[str, Floats],
    distances: bool = False,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[PairTest]:
    """All pairs of agents on the same images, adjusted together (Holm).

    Args:
        values: by agent, [n] of the same images; distances as of `compare_distances`.
        pairs: those to be tested; None: all.
    """
    wanted = list(combinations(values, 2)) if pairs is None else list(pairs)
    found = [(compare_distances if distances else compare)(values[a], values[b]) for a, b in wanted]
    adjusted = holm([p for *_, p in found])
    return [
        PairTest(a, b, change, images, p, own)
        for (a, b), (change, images, p), own in zip(wanted, found, adjusted, strict=True)
    ]


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
