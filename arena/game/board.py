"""The games of a shard as they stand: images, labels, bests, and the books (docs/design.md, D2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.game.ledger import Ledger
from arena.game.openings import Openings
from arena.rules.geometry import quantise
from arena.rules.moves import Answers
from arena.rules.outcome import Ints, Labels, wins
from arena.rules.threat import Threat


class Board:
    """G games under a threat: what lies on the device here, what the host counts in `ledger`.

    Attributes:
        x0: [G,C,H,W] clean images as the service sees them, quantised.
        label, key: [G] int64, true labels y, and the numbers to which the games' draws are keyed.
        image: [G] int64, the images' numbers in the data set, which players do not see.
        target: [G] int64, None when untargeted.
        best: [G,C,H,W] the images that would be judged now, as the service saw them, quantised.
    """

    def __init__(self, openings: Openings, threat: Threat, marks: Sequence[int] = ()) -> None:
        self.threat = threat
        self.x0 = quantise(openings.x0.clone(), threat.quantisation)
        self.label, self.key = openings.label.clone(), openings.numbers.clone()
        self.image = openings.key.clone()
        self.target = None if openings.target is None else openings.target.clone()
        self.best = self.x0.clone()
        self._host_labels: tuple[Any, Any] = (None, None)
        if self.on_host:  # the same memory
            self._host_labels = self.label.numpy(), None if self.target is None else self.target.numpy()
        self.ledger = Ledger(threat, len(openings), marks)
        self.ledger.reset(np.arange(len(openings)))

    def __len__(self) -> int:
        return len(self.x0)

    @property
    def device(self) -> torch.device:
        return self.x0.device

    @property
    def on_host(self) -> bool:
        """Whether the device is the CPU."""
        return self.device.type == "cpu"

    @property
    def goal(self) -> Tensor:
        """[G] int64: the targets, or else the labels to get away from."""
        return self.label if self.target is None else self.target

    def place(self, array: NDArray[Any]) -> Tensor:
        """An array of the host's, such as an index of games, on the device; on the CPU the same memory."""
        there = torch.from_numpy(array)
        return there if self.on_host else there.to(self.device)

    def put(self, games: Ints, openings: Openings) -> None:
        """Begin new games in the places `games` of finished ones."""
        place = self.place(games)
        self.x0[place] = quantise(openings.x0, self.threat.quantisation)
        self.label[place], self.key[place] = openings.label, openings.numbers
        self.image[place] = openings.key
        if self.target is not None and openings.target is not None:
            self.target[place] = openings.target
        self.best[place] = self.x0[place]
        self.ledger.reset(games)

    def wins(self, label: Labels, game: Labels) -> Labels:
        """[n] bool: whether labels [n] win the games at `game` [n]; arrays on the host."""
        y, target = (self.label, self.target) if isinstance(label, Tensor) else self._host_labels
        return wins(label, y[game], None if target is None else target[game])

    def asked(self, game: Tensor) -> Tensor:
        """[n] int64: the queries charged so far of the games at `game` [n]."""
        return self.place(self.ledger.queries).index_select(0, game)

    def standing(
        self, game: Tensor, label: Tensor, scores: Tensor | None, answered: Tensor, refused: Tensor
    ) -> Answers:
        """Answers to rows of games `game` [n], with how all games stand: by one copy to the device."""
        ledger, games = self.ledger, len(self)
        if self.on_host:
            is_open, banned = torch.from_numpy(ledger.is_open.copy()), torch.from_numpy(ledger.banned.copy())
            left, playing = torch.from_numpy(ledger.left), torch.from_numpy(np.flatnonzero(ledger.is_open))
        else:
            host = [ledger.left, ledger.is_open, ledger.banned.ravel(), np.flatnonzero(ledger.is_open)]
            packed = self.place(np.concatenate(host, dtype=np.int64, casting="unsafe"))
            left, opened, closed, playing = torch.split(packed, [len(part) for part in host])
            is_open, banned = opened > 0, closed.view(games, -1) > 0
        return Answers(game, label, scores, answered, refused, left, is_open, playing, banned)

    def state(self) -> Answers:
        """How the games stand, without rows."""
        none = torch.zeros(0, dtype=torch.int64, device=self.device)
        return self.standing(none, none, None, none.bool(), none.bool())
