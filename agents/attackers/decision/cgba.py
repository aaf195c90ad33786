"""CGBA: search along half circles through x0 and the current point, in the plane of the boundary's normal."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from agents.attackers.parts.circles import Circles, inner
from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.dct import LOWEST, low_noise
from agents.attackers.parts.estimates import BLOCK, Estimate, estimate, unit
from agents.attackers.parts.searches import HALVINGS, Searching, bisect, gap_search
from agents.attackers.parts.starts import find_start, stronger_noise
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play
from arena.rules.purposes import STEP


@dataclass(frozen=True)
class CGBA(Attacker):
    """CGBA (Reza, Rahmati, Wu and Dai, ICCV 2023), l2; targeted: CGBA-H.

    As in the authors' code, except for the search along a circle: it begins between the last two angles
    asked, theirs goes back to the angle 0. Theirs measures in pixels divided by their standard deviation, so
    `sigma`, `tolerance` and `start_step` are a few times longer here.

    Attributes:
        initial_probes: N_0; iteration t, from 1, asks N_0 sqrt(t) probes.
        sub_dim: probes lie in so many frequencies a side, of each channel; 0: a quarter of the side, as the
            authors' at 224 pixels, at least 10.
        sigma: the probes' standard deviation in each frequency.
        tolerance: the l2 width to which the boundary is located.
        start_step: the noise to start from is this many times k, for k = 1, 2, ...
        start_draws: the last k.
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    initial_probes: int = 30
    sub_dim: int = 0
    sigma: float = 2e-4
    tolerance: float = 1e-4
    start_step: float = 0.02
    start_draws: int = 300
    fallback: bool = False

    needs = Needs(norms=("l2",), starts="targeted")

    def __post_init__(self) -> None:
        if self.sub_dim < 0:
            raise ValueError(f"sub_dim must be 0 (by the size of the images) or above; found {self.sub_dim}")
        check_parameters(
            self, positive=("sigma", "tolerance", "start_step"), counts=("initial_probes", "start_draws")
        )

    def play(self, games: Games) -> Play:
        noise = stronger_noise(games, self.start_step)
        x = yield from find_start(games, self.start_draws, fallback=self.fallback, noise=noise)
        i = games.open
        x[i] = yield from gap_search(games, x[i], i, self.tolerance)
        for t in count(1):
            yield from stand_by(games, x[i], i)
            i = games.open
            if not len(i):
                return
            normal = (yield from self.estimate(games, x[i], i, int(self.initial_probes * math.sqrt(t)))).phi_u
            bend = self.bend_far if games.threat.targeted else self.bend_near
            x[i] = yield from bend(games, x[i], normal, i)

    def estimate(self, games: Games, x: Tensor, i: Tensor, probes: int) -> Generator[Move, Answers, Estimate]:
        """Sums over probes x + sigma u around the boundary points `x` [n,C,H,W] of games `i` [n]."""
        side = min(x.shape[2:])
        sub_dim = self.sub_dim or min(side, max(LOWEST, side // 4))

        def draw(rows: Tensor) -> tuple[Tensor, Tensor]:
            u = low_noise(games, i[rows], (BLOCK,), sub_dim)
            return (x[rows].unsqueeze(1) + self.sigma * u).clamp_(0, 1), u

        return (yield from estimate(games, i, probes, draw))

    def bend_near(self, games: Games, x: Tensor, normal: Tensor, i: Tensor) -> Searching:
        """CGBA: where the circles that leave `x` [n,C,H,W] towards `normal` cross the boundary, [n,C,H,W].

        Angles pi/2 (1 - 2^-k) are tried until one is benign; the limit pi / 2 is x0, which is benign.
        """
        circles = Circles.over(games, x, normal, i)
        adversarial = torch.zeros_like(circles.diameter)
        benign = torch.full_like(adversarial, math.pi / 2)
        rows = torch.arange(len(i), device=x.device)
        for k in range(1, HALVINGS + 1):
            angle = torch.full_like(adversarial[rows], math.pi / 2 * (1 - 0.5**k))
            fooled = yield from games.fools(circles.at(angle, rows), i[rows], STEP)
            adversarial[rows] = torch.where(fooled, angle, adversarial[rows])
            benign[rows] = torch.where(fooled, benign[rows], angle)
            rows = rows[fooled & games.state.open[i[rows]]]
            if not len(rows):
                break
        angle = yield from bisect(
            games, i, circles.at, benign, adversarial, width=self.tolerance / circles.diameter, steps=HALVINGS
        )
        every = torch.arange(len(i), device=x.device)
        return torch.where(angle.view(-1, 1, 1, 1) > 0, circles.at(angle, every), x)

    def bend_far(self, games: Games, x: Tensor, normal: Tensor, i: Tensor) -> Searching:
        """CGBA-H: a point on the circle that is adversarial, then straight to the boundary, [n,C,H,W].

        The angles are 1/2, 1/4, ... of the one between `normal` and x - x0; if none is adversarial, `x`
        stays.
        """
        circles = Circles.over(games, x, normal, i)
        angle = inner(unit(normal), circles.ahead).clamp(-1, 1).acos()
        turned, rows = x.clone(), torch.arange(len(i), device=x.device)
        for _ in range(HALVINGS):
            angle /= 2
            candidate = circles.at(angle[rows], rows)
            fooled = yield from games.fools(candidate, i[rows], STEP)
            turned[rows[fooled]] = candidate[fooled]
            rows = rows[~fooled & games.state.open[i[rows]]]
            if not len(rows):
                break
        return (yield from gap_search(games, turned, i, self.tolerance))
