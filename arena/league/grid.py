"""The cells of a matrix beside each other: how each game and each image stands in every cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from arena.league.cells import Cell
from arena.records.evidence import distance_by
from arena.rules.outcome import Bools, Floats, Ints


def image_means(values: Floats, place: Ints, images: int) -> Floats:
    """[images, ...] the mean over each image's games of values [n, ...]; NaN where it has none.

    Args:
        place: [n] the place of each game's image. Games whose value is NaN do not count.
    """
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    sums, counts = (
        np.stack([np.bincount(place, column, images) for column in table.T], axis=1)
        if flat.shape[1]
        else np.zeros((images, 0))
        for table in (np.where(known, flat, 0.0), known.astype(np.float64))
    )
    with np.errstate(invalid="ignore"):
        return np.asarray((sums / counts).reshape(images, *values.shape[1:]))


def image_medians(values: Floats, place: Ints, images: int) -> Floats:
    """[images] the median over each image's games of values [n], which may be infinite; NaN where it has
    none. Arguments as of `image_means`."""
    known = ~np.isnan(values)
    values, place = values[known], place[known]
    found = np.full(images, np.nan)
    order = np.argsort(place, kind="stable")
    own, starts = np.unique(place[order], return_index=True)
    if len(own) == len(place):
        found[place] = values
    else:
        found[own] = [np.median(part) for part in np.split(values[order], starts[1:])]
    return found


@dataclass(frozen=True, eq=False)
class Grid:
    """Cells of one matrix, game by game.

    Attributes:
        attackers, defenders: of the second and the third axis.
        image: [G] the data set's number of each game's image. A game is one (draw, image, repeat).
        lost: [G,A,D] how far each game is lost by the ruling verdict, in [0,1]; NaN where the cell does not
            hold the game or there is no cell.
        halves: [2,G,A,D] the same by each half of the votes.
        played: [G,A,D] the game was played.
        distance: [G,A,D] of the hit that stands by the ruling verdict, infinite without one, and 0 where the
            image was lost before the game; NaN as `lost`. nearest: [2,G,A,D] the same by each half of the
            votes.
    """

    attackers: tuple[str, ...]
    defenders: tuple[str, ...]
    image: Ints
    lost: Floats
    halves: Floats
    played: Bools
    distance: Floats
    nearest: Floats

    @cached_property
    def images(self) -> Ints:
        """[I] the images' numbers, ascending."""
        return np.unique(self.image)

    @cached_property
    def place(self) -> Ints:
        """[G] the place of each game's image among `images`."""
        return np.searchsorted(self.images, self.image)

    @cached_property
    def by_image(self) -> Floats:
        """[I,A,D] `lost`, a mean over each image's games."""
        return image_means(self.lost, self.place, len(self.images))

    def of(self, values: Floats) -> Floats:
        """[I, ...] the mean over each image's games of values [G, ...]."""
        return image_means(values, self.place, len(self.images))

    def part(self, attackers: Bools, defenders: Bools) -> Grid:
        """The cells of some agents, given as masks [A] and [D]."""

        def cut(values: Any) -> Any:
            return values[..., attackers, :][..., defenders]

        return Grid(
            tuple(name for name, kept in zip(self.attackers, attackers, strict=True) if kept),
            tuple(name for name, kept in zip(self.defenders, defenders, strict=True) if kept),
            self.image,
            *map(cut, (self.lost, self.halves, self.played, self.distance, self.nearest)),
        )

    @property
    def there(self) -> Bools:
        """[A,D] whether the pair has a game."""
        return np.asarray(~np.isnan(self.lost).all(axis=0))


def grid(attackers: Sequence[str], defenders: Sequence[str], cells: Sequence[Cell]) -> Grid:
    """Cells side by side; those of other agents than named are left aside."""
    cells = [cell for cell in cells if cell.attacker in attackers and cell.defender in defenders]
    names = [_names(cell) for cell in cells]
    if names and all(np.array_equal(own, names[0]) for own in names):
        rows = names[0]
    else:
        rows = np.unique(np.concatenate([*names, np.zeros((0, 3), np.int64)]), axis=0)
    shape = (len(rows), len(attackers), len(defenders))
    lost, distance = np.full(shape, np.nan), np.full(shape, np.nan)
    halves, nearest = np.full((2, *shape), np.nan), np.full((2, *shape), np.nan)
    played = np.zeros(shape, np.bool_)
    for cell, own in zip(cells, names, strict=True):
        place = slice(None) if own is rows or np.array_equal(own, rows) else _find(rows, own)
        at = place, attackers.index(cell.attacker), defenders.index(cell.defender)
        games, verdict = cell.games, cell.verdict
        lost[at] = games.lost(verdict)
        played[at] = ~games.clean
        distance[at] = np.where(games.clean, 0.0, distance_by(verdict, games.distance, games.lost(verdict)))
        for half in (0, 1):
            values = lost[at] if cell.facts else games.half(half)
            halves[(half, *at)] = values
            near = distance_by(verdict, games.distance, values)
            nearest[(half, *at)] = np.where(games.clean, 0.0, near)
    return Grid(
        tuple(attackers), tuple(defenders), rows[:, 1].copy(), lost, halves, played, distance, nearest
    )


def _names(cell: Cell) -> Ints:
    return np.stack([cell.games.draw, cell.games.image, cell.games.repeat], axis=1)


def _find(rows: Ints, own: Ints) -> Ints:
    """[n] the place of each of the rows `own` [n,3] among `rows`, which ascend and are distinct."""
    both = np.concatenate([rows, own])
    order = np.lexsort((np.arange(len(both)), both[:, 2], both[:, 1], both[:, 0]))
    known = np.cumsum(order < len(rows)) - 1
    place = np.empty(len(both), np.int64)
    place[order] = known
    return place[len(rows) :]
