"""Clients that optimise an image by the scores of its own class, with the steps of attacks.

Nothing is attacked: they make an image more of what it is already. A detector that looks at steps alone
cannot tell them from the attack whose steps they make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from arena import draws
from arena.evaluation.benign.client import Client, Heard, Sending

BALL = 8 / 255
"""How far from the image, in linf: the attacks' usual ball."""


@dataclass(frozen=True)
class RandomSearch(Client):
    """Keeps a random square of colour +-epsilon whenever the image's own class becomes more likely: the
    proposals of Square (Andriushchenko et al. 2020, algorithm 2, linf) at its first size p."""

    name: ClassVar[str] = "optimiser-square"
    does: ClassVar[str] = "random search for more of an image's own class, by the steps of Square"
    queries: ClassVar[int] = 100
    p: float = 0.05

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        heard = yield x
        own, best, delta = heard.label, gain(heard, heard.label), torch.zeros_like(x)
        turn = 0
        while True:
            turn += 1
            tried = torch.where(*self._square(x, key, turn, seed), delta)
            new = gain((yield (x + tried).clamp(0, 1)), own)
            better = new > best
            delta[better], best[better] = tried[better], new[better]

    def _square(self, x: Tensor, key: Tensor, turn: int, seed: int) -> tuple[Tensor, Tensor]:
        """Where the square is, [s,1,H,W], and its colours, [s,C,1,1]."""
        inside = torch.ones(len(x), 1, 1, 1, dtype=torch.bool, device=x.device)
        side = max(1, round(math.sqrt(self.p * x.shape[2] * x.shape[3])))
        corner = draws.uniform(seed, key, turn, (2,))
        for axis, pixels in enumerate(x.shape[2:]):
            first = (corner[:, axis] * (max(0, pixels - side) + 1)).long().view(-1, 1)
            here = torch.arange(pixels, device=x.device)
            mine = (here >= first) & (here < first + side)
            inside = inside & (mine[:, None, :, None] if axis == 0 else mine[:, None, None, :])
        sign = draws.uniform(seed, key, turn, (x.shape[1], 1, 1), stream=1) < 0.5
        return inside, torch.where(sign, BALL, -BALL)


@dataclass(frozen=True)
class Ascent(Client):
    """Climbs the score of the image's own class along gradients that it estimates by antithetic Gaussian
    probes: the queries of NES (Ilyas et al. 2018, algorithm 1) with sigma .001, ten pairs a step and linf
    steps of .01."""

    name: ClassVar[str] = "optimiser-nes"
    does: ClassVar[str] = "estimated gradients of an image's own class, by the steps of NES"
    queries: ClassVar[int] = 100
    sigma: float = 0.001
    pairs: int = 10
    step: float = 0.01

    def send(self, x: Tensor, key: Tensor, seed: int) -> Sending:
        own = (yield x).label
        at, turn = x, 0
        while True:
            gradient = torch.zeros_like(x)
            for _ in range(self.pairs):
                turn += 1
                u = draws.normal(seed, key, turn, x.shape[1:])
                up = gain((yield (at + self.sigma * u).clamp(0, 1)), own)
                down = gain((yield (at - self.sigma * u).clamp(0, 1)), own)
                rise = (up - down).nan_to_num(0.0, 0.0, 0.0)
                gradient += rise.view(-1, 1, 1, 1) * u
            at = torch.clamp(at + self.step * gradient.sign(), x - BALL, x + BALL).clamp(0, 1)


def gain(heard: Heard, own: Tensor) -> Tensor:
    """[s] the log-probability of the classes `own` [s]; -inf where nothing was answered, or never was."""
    known = own.clamp_min(0).unsqueeze(1)
    log_p = heard.scores.float().log_softmax(dim=1).gather(1, known)[:, 0]
    return torch.where(heard.answered & (own >= 0), log_p, -torch.inf).nan_to_num(-torch.inf, torch.inf)
