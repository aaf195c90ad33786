"""What defenders keep against the strongest of their attackers, image by image.

Where answers are facts, an image is lost if any attacker found a hit: the maximum over attackers is exact.
Where they are not, the largest of many noisy votes is the luckiest one, and its expectation lies above
every attacker's true share. There the attacker is chosen by one half of an image's fresh answers and valued
by the other, and the other way round, and both are averaged (cross-fitting): whatever the choice, the half
that did not make it is unbiased for the attacker chosen. The choice may miss the strongest attacker of an
image, never overstate it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from arena.league.board import WorstCase
from arena.league.estimates import median_distance, share
from arena.league.grid import Grid, image_medians
from arena.rules.outcome import Bools, Floats, Ints

SHARED = 0.5
"""An attacker counts in the worst case if it shares at least this part of the games with the others."""


@dataclass(frozen=True, eq=False)
class Worst:
    """A defender's worst case, image by image, beside its figures.

    Attributes:
        left: [I] of the grid's images; NaN where not all of its attackers have a game.
        distance: [L,I] the nearest distance that stands, over attackers; NaN likewise and where not played. L
            is 1 where answers are facts; else 2: the nearest by one half of the votes, infinite unless it
            stands by the other, each way.
    """

    figures: WorstCase
    left: Floats
    distance: Floats


def worst_case(
    grid: Grid, defender: str, facts: bool, nearest: bool, left_out: Mapping[str, str]
) -> Worst | None:
    """The worst case of one of the grid's defenders over all attackers that have a cell there; None if none
    has.

    Args:
        facts: its answers are facts. nearest: the median distance is wanted too (objective `minimum`).
        left_out: attackers of the matrix that do not count, with the reason.
    """
    d = grid.defenders.index(defender)
    lost = grid.lost[:, :, d]
    which, rows = _together(lost)
    if not len(which):
        return None
    left_out = dict(left_out)
    for a in np.flatnonzero(~np.isnan(lost).all(axis=0)):
        if a not in which:
            left_out[grid.attackers[a]] = "it shares too few games with the other attackers"
    cells = lost[np.ix_(rows, which)]
    halves = grid.halves[..., d][:, rows][..., which]
    if facts:
        taken = cells.max(axis=1)
        chosen = _choices(cells == taken[:, None])
    else:
        picks = [chosen_by(half) for half in halves]
        taken = cross_fitted(halves, picks)
        chosen = np.mean([_choices(np.arange(len(which)) == pick[:, None]) for pick in picks], axis=0)
    left = _by_image(grid, rows, 1 - taken)
    means = {grid.attackers[a]: _by_image(grid, rows, 1 - lost[rows, a]) for a in which}
    strongest = min(means, key=lambda name: float(np.nanmean(means[name])))
    far = _distances(grid, d, rows, which, facts)
    return Worst(
        WorstCase(
            defender=defender,
            left=share(left[~np.isnan(left)]),
            exact=facts,
            chosen={grid.attackers[a]: float(c) for a, c in zip(which, chosen, strict=True)},
            strongest=strongest,
            strongest_left=share(means[strongest][~np.isnan(means[strongest])]),
            attackers=tuple(means),
            left_out=left_out,
            distance=median_distance(far[:, ~np.isnan(far[0])].T) if nearest else None,
        ),
        left,
        far,
    )


def chosen_by(half: Floats) -> Ints:
    """[n] the attacker of each game by one half of its votes [n,A]. Equal ones are told apart by how much
    they take from all games by the same half."""
    return np.asarray((half + 1e-6 * half.mean(axis=0)).argmax(axis=1))


def cross_fitted(halves: Floats, picks: Sequence[Ints]) -> Floats:
    """[n] each game's share lost: chosen by one half of the votes and valued by the other, both ways.

    Args:
        halves: [2,n,A]; picks: what each half chooses.
    """
    n = np.arange(halves.shape[1])
    return np.asarray((halves[1][n, picks[0]] + halves[0][n, picks[1]]) / 2)


def _choices(marks: Bools) -> Floats:
    """[A] the share of games on which each attacker is the choice; where several are, each has its part."""
    return (
        np.asarray((marks / marks.sum(axis=1, keepdims=True)).mean(axis=0))
        if len(marks)
        else marks.sum(0) * 0.0
    )


def _together(lost: Floats) -> tuple[Ints, Ints]:
    """The attackers that count, and the games that all of them hold; an attacker of other draws, which would
    leave too few, does not."""
    there = ~np.isnan(lost)
    which = np.flatnonzero(there.any(axis=0))
    while len(which):
        rows = np.flatnonzero(there[:, which].all(axis=1))
        if len(rows) >= SHARED * there[:, which].sum(axis=0).max():
            return which, rows
        shared = (there[:, which].T.astype(np.float64) @ there[:, which]).sum(axis=1)
        which = np.delete(which, int(shared.argmin()))
    return which, which


def _by_image(grid: Grid, rows: Ints, values: Floats) -> Floats:
    whole = np.full(len(grid.image), np.nan)
    whole[rows] = values
    return grid.of(whole)


def _distances(grid: Grid, d: int, rows: Ints, which: Ints, facts: bool) -> Floats:
    """[L,I] the distances of `Worst`."""
    both = grid.nearest[..., d][:, rows][..., which]
    n = np.arange(len(rows))
    if facts:
        layers = [both[0].min(axis=1)]
    else:
        picks = [half.argmin(axis=1) for half in np.nan_to_num(both, nan=np.inf, posinf=np.inf)]
        layers = [both[1][n, picks[0]], both[0][n, picks[1]]]
    return np.stack([image_medians(values, grid.place[rows], len(grid.images)) for values in layers])
