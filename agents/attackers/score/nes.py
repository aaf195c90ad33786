"""NES: projected steps along a gradient estimated from antithetic pairs of Gaussian probes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from agents.attackers.parts.estimates import BLOCK
from agents.attackers.parts.finite_differences import gradient, losses, step
from agents.parameters import check_parameters
from arena.players import Attacker, Games, Loss, Needs, Play
from arena.rules.purposes import STEP


@dataclass(frozen=True)
class NES(Attacker):
    """NES (Ilyas, Engstrom, Athalye and Lin, ICML 2018, algorithm 1), l_inf and l_2.

    g = mean over q pairs of (L(x + sigma u) - L(x - sigma u)) / (2 sigma) u; x <- Proj(x - eta sign g), in
    l_2 x <- Proj(x - eta g / |g|), at 2 q queries a step. Parameters, noise and loss are those of the
    SignHunter authors' code on CIFAR-10 (Al-Dujaili and O'Reilly, ICLR 2020), which AAA's Table 11 has too.

    Attributes:
        sigma: length of a probe in units of the noise.
        eta: length of a step, per pixel in l_inf; None: 2/255, in l_2 64/255.
        pairs: q; None: 20, in l_2 4.
        noise: the law of u, d being the number of pixels' values: `unit`, N(0, I) / sqrt(d), so that a probe
            is about sigma long; `pixel`, N(0, I), as in the studies of Random Noise Defense, where sigma is
            compared to the defender's noise per pixel. None: `unit`, but `pixel` where the service rounds to
            8 bits, which sees nothing of so small a probe as the other.
        loss: L, to be minimised.
        ask_iterate: ask each iterate as well, at one query a step; the authors' code asks it uncounted.
            Otherwise probes find the hits, which are as near to it as `sigma`: as many, and no later.
    """

    sigma: float = 2.55 / 255
    eta: float | None = None
    pairs: int | None = None
    noise: Literal["unit", "pixel"] | None = None
    loss: Loss = "cross-entropy"
    ask_iterate: bool = False

    needs = Needs(feedback="scores", objectives=("first", "submit"))

    def __post_init__(self) -> None:
        check_parameters(self, positive=("sigma", "eta"), counts=("pairs",))
        if self.noise not in (None, "unit", "pixel"):
            raise ValueError(f'noise must be "unit" or "pixel"; found "{self.noise}"')

    def play(self, games: Games) -> Play:
        linf = games.threat.norm == "linf"
        eta, pairs = self.eta or (2 / 255 if linf else 64 / 255), self.pairs or (20 if linf else 4)
        noise = self.noise or ("pixel" if games.threat.quantisation == "round" else "unit")
        scale = 1 / math.sqrt(games.x0[0].numel()) if noise == "unit" else 1.0
        x = games.x0.clone()
        while len(i := games.open):

            def directions(rows: Tensor, i: Tensor = i) -> Tensor:
                return scale * games.normal((BLOCK, *x.shape[1:]), i[rows])

            g = yield from gradient(games, x[i], i, pairs, directions, self.sigma, self.loss)
            x[i] = step(games, x[i], g, i, eta)
            if self.ask_iterate:
                i = games.open
                yield from losses(games, x[i].unsqueeze(1), i, self.loss, STEP)
