"""Two cells on the same games: which attacker does better, in the terms of their objective."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from arena.league.audit.figures import percent
from arena.league.cells import Cell
from arena.records.evidence import distance_by
from arena.rules.outcome import Floats
from arena.rules.threat import Threat
from arena.statistics import paired_difference, sign_test


@dataclass(frozen=True)
class Comparison:
    """How the attacker of one cell does beside that of another, over images that both played.

    Attributes:
        images: how many these are.
        own, other: success by the headline; under objective `minimum` the median distances.
        behind, ahead: whether it does worse, or better, beyond what chance explains at the 5 % level.
        level: whether it does as well, or worse, as figures go, whatever chance explains.
        text: both figures, with the evidence for their difference.
    """

    images: int
    own: float
    other: float
    behind: bool
    ahead: bool
    level: bool
    text: str


def compared(own: Cell, other: Cell) -> Comparison | None:
    """The attacker of `own` beside that of `other`; None if they played no image in common."""
    mine, yours = together(own, other)
    return compare(mine, yours, own.threat) if len(mine) else None


def compare(mine: Floats, yours: Floats, threat: Threat) -> Comparison:
    """What two attackers did on the same images [n], n > 0, as `together` gives it under `threat`."""
    return _distances(mine, yours) if threat.objective == "minimum" else _successes(mine, yours)


def together(own: Cell, other: Cell, drawn: bool = False) -> tuple[Floats, Floats]:
    """What the attackers of two cells did on the images [n] that both played, one value an image: the share
    of it won by the headline, under objective `minimum` the median distance, infinite where not won.

    Args:
        drawn: over all images that both drew; those lost before the game began are won.
    """
    mine, yours = _by_name(own, drawn), _by_name(other, drawn)
    images: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for name in mine:
        if name in yours:
            images[name[1]].append(name)
    over = np.median if own.threat.objective == "minimum" else np.mean
    pairs = [
        [over([values[name] for name in images[image]]) for values in (mine, yours)]
        for image in sorted(images)
    ]
    both = np.array(pairs, np.float64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _by_name(cell: Cell, drawn: bool) -> dict[tuple[str, int, int], float]:
    games = cell.games
    values = games.lost(cell.verdict)
    if cell.threat.objective == "minimum":
        values = np.where(games.clean, 0.0, distance_by(cell.verdict, games.distance, values))
    draws = [source.draw for source in cell.sources]
    names = zip(games.draw.tolist(), games.image.tolist(), games.repeat.tolist(), strict=True)
    keys = [(draws[draw], image, repeat) for draw, image, repeat in names]
    return {
        key: value
        for key, value, clean in zip(keys, values.tolist(), games.clean.tolist(), strict=True)
        if drawn or not clean
    }


def _successes(mine: Floats, yours: Floats) -> Comparison:
    own, other = float(mine.mean()), float(yours.mean())
    low, high = paired_difference(yours, mine)
    text = (
        f"{percent(own)} against {percent(other)} of {len(mine)} images, a difference of "
        f"{100 * (own - other):+.0f} points [{100 * low:+.0f}, {100 * high:+.0f}]"
    )
    return Comparison(len(mine), own, other, high < 0, low > 0, own <= other, text)


def _distances(mine: Floats, yours: Floats) -> Comparison:
    nearer, farther = int((mine < yours).sum()), int((mine > yours).sum())
    p = sign_test(nearer, farther)
    own, other = float(np.median(mine)), float(np.median(yours))
    text = (
        f"a median distance of {own:.3g} against {other:.3g}, nearer on {nearer} and farther on {farther} of "
        f"{len(mine)} images (p = {p:.2g})"
    )
    chance = p >= 0.05
    return Comparison(
        len(mine), own, other, not chance and farther > nearer, not chance and nearer > farther,
        nearer <= farther, text,
    )  # fmt: skip
