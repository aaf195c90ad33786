"""Rates, intervals and calibration, in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[..., Any]  # np.mean, np.median: called as statistic(values, axis=1)


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for a rate of `successes` out of n (Wilson 1927); (0, 1) where n is 0.

    `successes` need not be whole: games won by a vote count with their shares.

    Raises ValueError unless 0 <= successes <= n and 0 < confidence < 1.
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n = {n}, not be {successes}")
    if n == 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    rate = successes / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    return low, 1.0 if successes == n else min(1.0, centre + half)


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = np.mean,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval (Efron 1979) of a statistic (`np.mean`, `np.median`) of values [n].

    Values may be +inf (the distance of a game without a hit): both ends are statistics of resamples, never
    interpolated, so that an infinite one stays infinite and does not turn into NaN. The same seed gives the
    same interval. Raises ValueError if there are no values, or one is NaN or -inf.
    """
    x = np.asarray(values, dtype=np.float64)
    _check_confidence(confidence)
    if x.ndim != 1 or len(x) == 0 or np.isnan(x).any() or np.isneginf(x).any():
        raise ValueError("an interval needs at least one value, in one dimension, none of them NaN or -inf")
    random = np.random.default_rng(seed)
    piece = max(1, 2**16 // len(x))  # what fits the processor's cache is faster
    sizes = [min(piece, resamples - done) for done in range(0, resamples, piece)]
    drawn = np.concatenate([statistic(x[random.integers(len(x), size=(m, len(x)))], axis=1) for m in sizes])
    tail = (1 - confidence) / 2
    low = np.quantile(drawn, tail, method="lower")
    return float(low), float(np.quantile(drawn, 1 - tail, method="higher"))


def median_interval(
    values: ArrayLike, units: int | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the median of values [n] between two order statistics (David and Nagaraja 2003, 7.1).

    Of m independent values the k-th and the (m + 1 - k)-th enclose the median with probability
    1 - 2 P(Binomial(m, 1/2) < k), whatever their distribution; k is the largest for which that is at least
    `confidence`. If there is none, the interval is (-inf, inf). Values may be infinite.

    Args:
        units: how many of the values are independent, m; all by default. If fewer are, the interval is as
            wide as if each stood for n / m equal values.

    Raises ValueError if there are no values, one is NaN, or m is not in 1..n.
    """
    _check_confidence(confidence)
    x = np.sort(np.asarray(values, dtype=np.float64), axis=None)
    n = len(x)
    m = n if units is None else units
    if n == 0 or np.isnan(x).any() or not 1 <= m <= n:
        raise ValueError(f"a median needs values, none of them NaN, and from 1 to {n} units; found {m}")
    k = _rank(m, confidence)
    if k == 0:
        return -math.inf, math.inf
    return float(x[(k - 1) * n // m]), float(x[-1 - (k - 1) * n // m])


@cache
def _rank(m: int, confidence: float) -> int:
    """The largest k with 2 P(Binomial(m, 1/2) < k) <= 1 - confidence, in whole numbers."""
    most = Fraction(1 - confidence) / 2 * 2**m
    k, ways, below = 0, 1, 1  # ways: m over k; below: how many of the 2^m outcomes have at most k successes
    while below <= most:
        k += 1
        ways = ways * (m - k + 1) // k
        below += ways
    return k


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over bins (b/B, (b+1)/B] of equal width (Guo et al. 2017, eq. 3).

    `confidence` [n] in [0,1], 0 counted in the first bin; `correct` [n] bool.
    ECE = sum_b n_b/n |acc_b - conf_b|.
    Raises ValueError if n is 0, the lengths differ or a confidence is outside [0,1].
    """
    return _gap(*_checked(confidence, correct), np.arange(1, bins) / bins)


def ece_quantile(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error over bins of equal mass; equal confidences always share a bin.

    The bins end at the b/B-quantiles of `confidence`, so that the order of the images does not matter.
    Arguments and errors as in `ece`.
    """
    p, right = _checked(confidence, correct)
    return _gap(p, right, np.quantile(p, np.arange(1, bins) / bins, method="inverted_cdf"))


def _gap(p: NDArray[np.float64], right: NDArray[np.float64], ends: NDArray[np.float64]) -> float:
    """sum_b |sum of (correct - confidence) in bin b| / n; `ends` close all bins but the last."""
    bin_of = np.searchsorted(ends, p, side="left")
    return float(np.abs(np.bincount(bin_of, right - p)).sum() / len(p))


def _checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if p.ndim != 1 or len(p) == 0 or right.shape != p.shape:
        raise ValueError(f"confidence and correct must be [n] with n > 0, not {p.shape} and {right.shape}")
    if not ((p >= 0) & (p <= 1 + 1e-6)).all():  # a float32 softmax may exceed 1 by rounding
        raise ValueError("every confidence must lie in [0, 1]")
    return p, right.astype(bool).astype(np.float64)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"the confidence of an interval must lie between 0 and 1, not be {confidence}")


def paired_difference(one: ArrayLike, other: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of mean(other) - mean(one), both of the same n units (Newcombe 1998, method 10).

    For won and lost games [n] bool it joins the Wilson intervals of both rates by the correlation phi of the
    pairs, corrected for continuity. Values may be shares in [0,1], as of votes or of repeats: their variance
    is taken as if each were a game, which makes the interval wider, never narrower.

    Raises ValueError if n is 0, the lengths differ or a value is outside [0,1].
    """
    x, y = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0 or y.shape != x.shape:
        raise ValueError(f"pairs must be [n] and [n] with n > 0, not {x.shape} and {y.shape}")
    if not ((x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)).all():
        raise ValueError("every value of a pair must lie in [0, 1]")
    n, a, b = len(x), float(x.sum()), float(y.sum())
    together = float(n * (x @ y) - a * b)  # of a two-by-two table: the difference of the diagonals' products
    if together > 0:
        together = max(together - n / 2, 0.0)
    spread = a * (n - a) * b * (n - b)
    phi = together / math.sqrt(spread) if spread > 1e-9 else 0.0
    (low_x, high_x), (low_y, high_y) = wilson(a, n, confidence), wilson(b, n, confidence)
    p, q = a / n, b / n
    below, above = (q - low_y, high_x - p), (high_y - q, p - low_x)
    low = q - p - math.sqrt(below[0] ** 2 - 2 * phi * below[0] * below[1] + below[1] ** 2)
    high = q - p + math.sqrt(above[0] ** 2 - 2 * phi * above[0] * above[1] + above[1] ** 2)
    return max(low, -1.0), min(high, 1.0)


def sign_test(more: int, less: int) -> float:
    """The exact two-sided p-value of `more` pairs that rose and `less` that fell; equal pairs do not count.

    For won and lost games it is McNemar's exact test. 1 without any pairs that differ.
    """
    n, few = more + less, min(more, less)
    below, ways = 0, 1  # ways: n over k; below: how many of the 2^n outcomes have at most `few` of one kind
    for k in range(few + 1):
        below += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, float(Fraction(2 * below, 2**n)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): those up to 0.05 hold together at that level."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, highest = [0.0] * len(values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[i]))
        adjusted[i] = highest
    return adjusted
