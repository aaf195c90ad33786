"""A plane with known least distances, and an attacker that runs one procedure and keeps what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import arena
from agents.attackers.decision.dct import from_frequencies, to_frequencies


class FlatBoundary(torch.nn.Module):
    """Class 1 where w (x - 1/2) > b; `least` has the least distances of `images` from it, in both norms.

    With `low`, w has no frequencies but the lowest low x low of each channel.
    """

    def __init__(self, shape: Sequence[int], games: int, nearest: float = 0.3, low: int = 0, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.w = torch.randn(shape, generator=generator, dtype=torch.float64)
        if low:
            z = to_frequencies(self.w.float(), low, low)
            self.w = from_frequencies(z, *shape[1:]).double()
        self.images = 0.45 + 0.1 * torch.rand(games, *shape, generator=generator)
        f = self.side(self.images)
        self.b = f.max() + nearest * self.w.norm()
        self.least = {"l2": (self.b - f) / self.w.norm(), "linf": (self.b - f) / self.w.abs().sum()}

    def side(self, x: Tensor) -> Tensor:
        return ((x.double() - 0.5) * self.w).flatten(1).sum(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.side(x) - self.b
        return torch.stack([torch.zeros_like(f), 1e5 * f], dim=1).float()

    def answer(self, x: Tensor, game: Tensor, turn: Tensor) -> Tensor:
        """As a ScriptedReferee asks."""
        return self(x)

    def play(self, attacker: Any, defender: Any = "none", norm: str = "l2", budget: int = 1000, **more: Any):
        """The result of playing for the least distance; `rules` of the threat may be told otherwise."""
        threat = {"norm": norm, "epsilon": "inf", "budget": budget, "feedback": "label"}
        return arena.play(
            attacker,
            defender,
            classifier=self,
            images=self.images,
            labels=torch.zeros(len(self.images), dtype=torch.int64),
            threat=threat | {"objective": "minimum"} | more.pop("rules", {}),
            **more,
        )

    def ratios(
        self, attacker: Any, norm: str = "l2", budget: int = 1000, at: Sequence[int] = (), **more: Any
    ) -> tuple[list[float], Any]:
        """Median distance over the least possible at each of `at` and at `budget`, and the result."""
        result = self.play(attacker, norm=norm, budget=budget, at=at, **more)
        least = self.least[norm].numpy()
        return [float(np.median(getattr(result.marks[q], norm) / least)) for q in (*at, budget)], result


class Procedure:
    """Plays `steps(games)`, a generator function, and keeps what it returns as `result`."""

    def __init__(self, steps: Callable[[Any], Any]) -> None:
        self.steps = steps

    def play(self, games: Any) -> Any:
        self.result = yield from self.steps(games)


@pytest.fixture
def flat_boundary() -> type[FlatBoundary]:
    return FlatBoundary


@pytest.fixture
def procedure() -> type[Procedure]:
    return Procedure
