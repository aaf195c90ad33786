"""AAA's temperature: the one on a grid at which the defended answers are calibrated best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

_STRIDES = (64, 16, 4, 1)
_KEPT = 3
MOST_TRIED = 87
"""Of a grid of 1999 temperatures."""


def best_temperature(ece: Callable[[float], float], grid: Sequence[float]) -> float:
    """The temperature of `grid`, ascending, with the least `ece` found; of several, the one nearest to 1.

    The search goes from coarse to fine: every 64th temperature, and the one nearest to 1; then, on either
    side of each of the three best so far, those at a distance of 16, 32 and 48 places; then 4, 8 and 12; then
    1, 2 and 3. At most 87 of AAA's 1999 are tried. If `ece` has a single minimum, it is found.
    """
    found: dict[int, tuple[float, float]] = {}
    wanted = {*range(0, len(grid), _STRIDES[0]), min(range(len(grid)), key=lambda i: abs(math.log(grid[i])))}
    best: list[int] = []
    for stride in (*_STRIDES[1:], 0):
        for i in sorted(wanted - found.keys()):
            found[i] = (ece(grid[i]), abs(math.log(grid[i])))
        best = sorted(found, key=found.__getitem__)[:_KEPT]
        wanted = {i + stride * j for i in best for j in range(-3, 4) if 0 <= i + stride * j < len(grid)}
    return grid[best[0]]
