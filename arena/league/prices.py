"""What a defender costs honest users, with intervals."""

from __future__ import annotations

import math

from arena.evaluation.clean_utility import Utility
from arena.league.rates import Rate
from arena.statistics import wilson


def accuracy_lost(own: Utility, bare: Utility) -> Rate:
    """Clean accuracy lost to that of the undefended classifier, in [-1, 1], with a 95 % interval; NaN in
    (-1, 1) if the two were not measured on as many images.

    Both answered the same images, and differ at most on those where their labels differ: of the n images a
    share d, of which at most all count, so that the difference has a variance of at most (d - lost^2) / n.
    d is taken at the upper end of its own Wilson interval, so that agreement on all n images does not
    promise agreement on all others.
    """
    if own.images != bare.images:
        return Rate(math.nan, -1.0, 1.0)
    n, lost = own.images, bare.accuracy - own.accuracy
    apart = wilson((1 - own.agreement) * n, n)[1]
    half = 1.96 * math.sqrt(max(0.0, apart - lost**2) / n)
    return Rate(lost, max(-1.0, lost - half), min(1.0, lost + half))
