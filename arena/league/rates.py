"""Shares and medians of games with their intervals.

Rates have 95 % Wilson intervals. Games lost by `vote` count with their shares, and replays of one image count
as one image with the mean of its games. A share varies no more than a yes or no with the same mean, so both
intervals are at least wide enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from arena.log.answers import LoggedMarks
from arena.rules.outcome import Bools, Floats, Ints
from arena.statistics import median_interval, wilson


@dataclass(frozen=True)
class Rate:
    """A share of games in [0, 1], or another figure, with its 95 % interval; a share without games is NaN in
    (0, 1)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Median:
    """A median distance with its 95 % interval, which may be infinite; NaN if there are no games."""

    value: float
    low: float
    high: float


def rate(values: Floats | Bools, image: Ints) -> Rate:
    """The mean of the games' values [n] in [0,1], with an interval over their images [n]."""
    if not len(values):
        return Rate(math.nan, 0.0, 1.0)
    mean, images = float(values.astype(np.float64).mean()), len(np.unique(image))
    return Rate(mean, *wilson(min(mean * images, images), images))


def median_of(distance: Floats, image: Ints) -> Median:
    """The median of the games' distances [n], at least 0, with an interval between order statistics; replays
    of an image count as one."""
    if not len(distance):
        return Median(math.nan, 0.0, math.inf)
    low, high = median_interval(distance, len(np.unique(image)))
    return Median(median(distance), max(0.0, low), high)


def median(values: Ints | Floats) -> float:
    """The median of values that may be infinite; a mean of two middle values is infinite if one of them
    is."""
    return float(np.median(values)) if len(values) else math.nan


def mean(values: Ints | Floats) -> float:
    """The mean or median; NaN without values."""
    return float(values.mean()) if len(values) else math.nan


def standing(game: Ints, marks: LoggedMarks, at: int) -> Ints:
    """[n] the place in `marks` of each game's last mark up to query count `at`; -1 if there is none."""
    order = np.argsort(game)
    upto = np.flatnonzero(marks.at <= at)
    place = order[np.searchsorted(game[order], marks.game[upto])]
    row = np.full(len(game), -1, np.int64)
    np.maximum.at(row, place, upto)
    return row
