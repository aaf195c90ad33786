"""How a defense changes what is answered, from the images that the classifier is least sure of on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arena.rules.outcome import Bools, Floats

BINS = 100


@dataclass(frozen=True)
class Reliability:
    """Probability of the true class and accuracy, along images sorted by the undefended classifier's
    probability of their true class, in at most `BINS` bins of equal mass (AAA, Figure 3, left).

    Of each bin, [b], to six decimals, the least sure first:

    Attributes:
        undefended: the mean probability of the true class by the undefended classifier.
        defended: the same by the defended one, over the images that it answers; None where it answers none.
        accuracy: the share answered with the true label.
    """

    undefended: tuple[float, ...]
    defended: tuple[float | None, ...]
    accuracy: tuple[float, ...]

    @property
    def moved(self) -> float:
        """How far the defense moves the probability of a true class: the mean over the bins; 0 for none that
        can be compared."""
        pairs = zip(self.undefended, self.defended, strict=True)
        gaps = [abs(own - other) for own, other in pairs if other is not None]
        return float(np.mean(gaps)) if gaps else 0.0


def reliability(undefended: Floats, defended: Floats, answered: Bools, right: Bools) -> Reliability:
    """The bins of n images, n > 0.

    Bins differ by one image at most; of equally sure images the earlier come first.

    Args:
        undefended, defended: [n] probabilities of the true classes; an undefended NaN counts as least sure.
        answered, right: [n] whether the defended classifier answered, and with the true label.
    """
    order = np.argsort(np.nan_to_num(undefended, nan=-1.0), kind="stable")
    sure: list[float] = []
    told: list[float | None] = []
    won: list[float] = []
    for rows in np.array_split(order, min(BINS, len(order))):
        own, here = undefended[rows], rows[answered[rows]]
        sure.append(_rounded(np.nan_to_num(own, nan=0.0)))
        told.append(_rounded(defended[here]) if len(here) else None)
        won.append(_rounded(right[rows].astype(np.float64)))
    return Reliability(tuple(sure), tuple(told), tuple(won))


def _rounded(values: Floats) -> float:
    return round(float(values.mean()), 6)
