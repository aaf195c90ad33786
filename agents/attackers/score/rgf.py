"""RGF: zeroth-order descent along finite differences in random directions."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from agents.attackers.parts.estimates import BLOCK
from agents.attackers.parts.finite_differences import gradient, heading, losses
from agents.attackers.score.random_search import check_period
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Loss, Move, Needs, Play

BASE = "base"
"""The purpose of queries of the iterate itself."""


@dataclass(frozen=True)
class RGF(Attacker):
    """Random gradient-free descent (slides to Qin et al., Random Noise Defense, NeurIPS 2021, eq. 3 and 4).

    g = mean over B directions u ~ N(0, I) of (f(x + mu u) - f(x)) / mu u (the mean: Byun et al., Small Input
    Noise is Enough, WACV 2022, eq. 3); x <- Proj(x - eta g). A step costs B + 1 queries, since all directions
    share one f(x). With step `sign` this is the score-based ZO-signSGD (Liu et al., ICLR 2019); with estimate
    `antithetic`, (f(x + mu u) - f(x - mu u)) / (2 mu) u at 2 B queries a step, it is NES with noise `pixel`.
    Where the service refuses x, the first of the directions that it answers stands for it.

    Attributes:
        estimate: `forward` or `antithetic`.
        mu: length of a probe per pixel.
        directions: B.
        step: `sign`: x - eta sign g; `normalised`: x - eta g / |g|; `raw`: x - eta g, eq. 4 to the letter;
            None: `sign` in l_inf, `normalised` in l_2.
        eta: None: 2/255 for `sign`, 64/255 for `normalised`, as NES has it; 1e-4 for `raw`, where the length
            of g decides, about 2,000 on CIFAR-10 (ResNet-20).
        loss: f, to be minimised.
        refresh_every: ask f(x) again for every so many directions; 0: once a step. With 1 each difference has
            noises of its own, as in eq. 7, at 2 B queries a step.
    """

    estimate: Literal["forward", "antithetic"] = "forward"
    mu: float = 0.01
    directions: int = 20
    step: Literal["sign", "normalised", "raw"] | None = None
    eta: float | None = None
    loss: Loss = "margin"
    refresh_every: int = 0

    needs = Needs(feedback="scores", objectives=("first", "submit"))

    def __post_init__(self) -> None:
        check_parameters(self, positive=("mu", "eta"), counts=("directions",))
        check_period("refresh_every", self.refresh_every)
        if self.estimate not in ("forward", "antithetic"):
            raise ValueError(f'estimate must be "forward" or "antithetic"; found "{self.estimate}"')
        if self.step not in (None, *ETA):
            raise ValueError(f'step must be "sign", "normalised" or "raw"; found "{self.step}"')
        if self.refresh_every and self.estimate == "antithetic":
            raise ValueError("refresh_every must be 0: an antithetic estimate has no f(x) to ask again")

    def play(self, games: Games) -> Play:
        how = self.step or ("sign" if games.threat.norm == "linf" else "normalised")
        eta, x = self.eta or ETA[how], games.x0.clone()
        while len(i := games.open):
            base = None
            if self.estimate == "forward":
                base = yield from self.bases(games, x[i], i)

            def directions(rows: Tensor, i: Tensor = i) -> Tensor:
                return games.normal((BLOCK, *x.shape[1:]), i[rows])

            g = yield from gradient(games, x[i], i, self.directions, directions, self.mu, self.loss, base)
            x[i] = games.project(x[i] - eta * DIRECTION[how](g), i)

    def bases(self, games: Games, x: Tensor, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """f(x) of `x` [n,C,H,W] of games `i` [n] for each of the directions, [n,B]."""
        shared = self.refresh_every or self.directions
        count = -(-self.directions // shared)
        base = yield from losses(games, x.unsqueeze(1).expand(-1, count, -1, -1, -1), i, self.loss, BASE)
        return base.repeat_interleave(shared, dim=1)[:, : self.directions]


ETA = {"sign": 2 / 255, "normalised": 64 / 255, "raw": 1e-4}
DIRECTION = {"sign": Tensor.sign, "normalised": heading, "raw": Tensor.clone}
"""What is gone along, of an estimate g [n,C,H,W]."""
