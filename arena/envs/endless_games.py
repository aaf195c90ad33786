"""Games without end: the order in which an environment deals its images."""

from __future__ import annotations

import torch
from torch import Tensor

from arena import draws
from arena.envs.setup import EnvSetup
from arena.game.openings import Openings, draw_targets


class EndlessGames:
    """Deals the images that the classifier gets right, pass after pass, each pass in an order of its own.

    A game's number, to which all its draws are keyed, is its image's in the first pass, as in a match; in
    pass p (from 0) it is that plus p M, where M is one above the largest, so that an image that comes back
    meets other draws and another target. Orders and targets depend on the seed alone.
    """

    def __init__(self, setup: EnvSetup, seed: int) -> None:
        self.setup, self.seed = setup, seed
        self._stride = int(setup.split.index.max()) + 1
        self._passes = 0
        self._ahead = self._ready = torch.zeros(0, dtype=torch.int64)
        self._ready_numbers = self._ready

    def take(self, count: int) -> Openings:
        """The next `count` games.

        Raises:
            ValueError: if the classifier gets every image wrong.
        """
        while len(self._ready) < count:
            self._look_ahead(max(count, self.setup.stack.base.batch))
        rows, self._ready = self._ready[:count], self._ready[count:]
        number, self._ready_numbers = self._ready_numbers[:count], self._ready_numbers[count:]
        split, device = self.setup.split, self.setup.device
        label, key = split.labels[rows].to(device), number.to(device)
        target = draw_targets(self.setup.threat, label, key, self.setup.classes, self.seed)
        return Openings(split.take(rows).to(device), label, key, target)

    def _look_ahead(self, count: int) -> None:
        if not len(self._ahead):
            self._ahead = self._order()
        rows, self._ahead = self._ahead[:count], self._ahead[count:]
        rows = rows[self.setup.are_right(rows)]
        number = self.setup.split.index[rows] + (self._passes - 1) * self._stride
        self._ready = torch.cat([self._ready, rows])
        self._ready_numbers = torch.cat([self._ready_numbers, number])

    def _order(self) -> Tensor:
        """The rows of the next pass."""
        if not self.setup.right.any():
            what = f"classifier {self.setup.stack.base.name!r} gets all {len(self.setup.right)} images wrong"
            raise ValueError(f"{what}: there is nothing to attack")
        index = self.setup.split.index
        words = draws.bits(draws.derive(self.seed, "order"), index, self._passes, 1)[:, 0]
        self._passes += 1
        return words.argsort(stable=True)
