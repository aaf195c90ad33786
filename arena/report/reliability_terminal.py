"""Probability and accuracy along clean images, on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arena.evaluation.clean_utility import Utility
from arena.report.game_terminal import spark
from arena.report.words import percent

COLUMNS = 40
"""Of a line of bars, at most."""


def reliability_lines(rows: Sequence[tuple[str, Utility]], width: int) -> list[str]:
    """A line for each defended classifier, and what they say: along the images, from the least sure, the
    probability of the true class and the accuracy, in bars. None where no bins are known."""
    known = [(title, u.reliability) for title, u in rows if u.reliability is not None]
    longest = max((len(title) for title, _ in known), default=0)
    columns = max(8, min(COLUMNS, (width - longest - 45) // 2))
    lines = []
    for title, bins in known:
        defended = [math.nan if p is None else p for p in bins.defended]
        told, won = (spark(_coarse(values, columns), (0, 1)) for values in (defended, bins.accuracy))
        moved = percent(bins.moved)
        lines.append(f"probability {told}, moved by {moved:>5}; accuracy {won}  {title}")
    if lines:
        lines += [
            "probability of the true class and accuracy along the images, those first that the undefended",
            "classifier is least sure of; moved: how far a defense moves that probability, in percent",
        ]
    return lines


def _coarse(values: Sequence[float], columns: int) -> NDArray[np.float64]:
    """The means of `values` in so many equal parts, at most; NaN where nothing is known."""
    parts = np.array_split(np.array(values, np.float64), min(columns, len(values)))
    known = [part[~np.isnan(part)] for part in parts]
    return np.array([part.mean() if len(part) else math.nan for part in known])
