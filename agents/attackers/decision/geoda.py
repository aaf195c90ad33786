"""GeoDA: the boundary's normal in a low-frequency subspace, and a ray along it from the clean image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, repeat

import torch
from torch import Tensor

from agents.attackers.parts.claims import in_doubt, stand_by
from agents.attackers.parts.dct import low_frequencies, low_noise
from agents.attackers.parts.estimates import BLOCK, estimate, unit
from agents.attackers.parts.searches import HALVINGS, Searching, bisect, gap_search
from agents.attackers.parts.starts import find_start, stronger_noise
from agents.parameters import check_parameters
from arena.players import Attacker, Games, Needs, Play
from arena.rules.purposes import STEP

RAY_STEPS = 12
"""Radii tried on a ray, each twice the one before: from D / 2 to 1024 D."""
RESERVED = 25
"""Queries that the schedule reserves for the ray and the search of an iteration."""
FIRST_PROBES = (50, 80)
"""Bounds of the number of probes of the first iteration."""


@dataclass(frozen=True)
class GeoDA(Attacker):
    """GeoDA (Rahmati, Moosavi-Dezfooli, Frossard and Dai, CVPR 2020), l2 and linf, untargeted.

    As in the authors' code, except for the ray: it begins with half the current distance, and doubles. Theirs
    steps by five times the sum of all estimates, a length that takes an image of 32 pixels to the corners of
    the box at once. Theirs measures in pixels divided by their standard deviation, so `sigma`, `tolerance`
    and `start_step` are a few times longer here. Queries spent on the start are taken from the last
    iteration's probes. The schedule depends on the budget: a longer run cut short is another attack. Where
    answers are no facts, iterations go on after it for as long as queries are left.

    Attributes:
        sub_dim: the image is perturbed along so many frequencies a side, of each channel; 0: 75 at 224 pixels
            as the authors, the same share of smaller sides, at least 10.
        sigma: the probes' standard deviation in each frequency.
        mu: the number of probes grows by mu^(-2/3) an iteration.
        tolerance: the l2 width to which the boundary is located.
        start_step: the noise to start from is this many times k, for k = 1, 2, ...
        start_draws: the last k.
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    sub_dim: int = 0
    sigma: float = 2e-4
    mu: float = 0.6
    tolerance: float = 1e-4
    start_step: float = 0.02
    start_draws: int = 300
    fallback: bool = False

    needs = Needs(goals=("untargeted",), prefix=False)

    def __post_init__(self) -> None:
        if self.sub_dim < 0:
            raise ValueError(f"sub_dim must be 0 (by the size of the images) or above; found {self.sub_dim}")
        check_parameters(self, positive=("sigma", "tolerance", "start_step"), counts=("start_draws",))
        if not 0 < self.mu < 1:
            raise ValueError(f"mu must be above 0 and below 1; found {self.mu}")

    def play(self, games: Games) -> Play:
        noise = stronger_noise(games, self.start_step)
        x = yield from find_start(games, self.start_draws, fallback=self.fallback, noise=noise)
        i = games.open
        x[i] = yield from gap_search(games, x[i], i, self.tolerance)
        normal = torch.zeros_like(x)
        planned = schedule(games.threat.budget, self.mu)
        for probes in chain(planned, repeat(planned[-1])) if in_doubt(games) else planned:
            yield from stand_by(games, x[i], i)
            i = games.open
            if not len(i):
                return
            short = games.left[i] < probes + RESERVED
            normal[i[~short]] += yield from self.estimate(games, x, i[~short], probes)
            fewer = (games.left[i[short]] - RESERVED).clamp_min(0) // BLOCK * BLOCK
            normal[i[short]] += yield from self.estimate(games, x, i[short], fewer)
            x[i] = yield from self.along_ray(games, x[i], normal[i], i)
        yield from stand_by(games, x[i], i)

    def estimate(self, games: Games, x: Tensor, i: Tensor, probes: Tensor | int) -> Searching:
        """mean phi(x_b + sigma u) u, [n,C,H,W], over probes around the boundary points `x` [G,C,H,W]."""
        sub_dim = self.sub_dim or low_frequencies(*x.shape[2:])

        def draw(rows: Tensor) -> tuple[Tensor, Tensor]:
            u = low_noise(games, i[rows], (BLOCK,), sub_dim)
            return (x[i[rows]].unsqueeze(1) + self.sigma * u).clamp_(0, 1), u

        sums = yield from estimate(games, i, probes, draw)
        return sums.phi_u / sums.count.clamp_min(1).view(-1, 1, 1, 1)

    def along_ray(self, games: Games, x: Tensor, normal: Tensor, i: Tensor) -> Searching:
        """Where rays from x0 along `normal` [n,C,H,W] cross the boundary, [n,C,H,W]; else `x` itself."""
        linf = games.threat.norm == "linf"
        x0, v = games.x0[i], normal.sign() if linf else unit(normal)

        def ray(r: Tensor, rows: Tensor) -> Tensor:
            return (x0[rows] + r.view(-1, 1, 1, 1) * v[rows]).float().clamp_(0, 1)

        far = games.distance(x, i).double() / 2
        near, hit = torch.zeros_like(far), torch.zeros_like(far, dtype=torch.bool)
        rows = games.state.open[i].nonzero().squeeze(1)
        for _ in range(RAY_STEPS):
            fooled = yield from games.fools(ray(far[rows], rows), i[rows], STEP)
            hit[rows[fooled]] = True
            rows = rows[~fooled & games.state.open[i[rows]]]
            if not len(rows):
                break
            near[rows], far[rows] = far[rows], 2 * far[rows]
        rows, crossed = hit.nonzero().squeeze(1), x.clone()
        crossed[rows] = ray(far[rows], rows)
        if games.threat.objective == "submit":  # an image inside the ball ends the game
            yield from stand_by(games, crossed[rows], i[rows])
        width = self.tolerance / (math.sqrt(x0[0].numel()) if linf else 1)
        r = yield from bisect(
            games,
            i[rows],
            lambda r, among: ray(r, rows[among]),
            near[rows],
            far[rows],
            width=width,
            steps=HALVINGS,
        )
        crossed[rows] = ray(r, rows)
        return crossed


def schedule(budget: int, mu: float) -> list[int]:
    """The probes of each iteration in a run of `budget` queries: they grow by mu^(-2/3), and sum to N.

    N = budget - 25 T; the number of iterations T is such that the first asks 50 to 80 probes, or as few more
    as possible. As the authors' code finds it: T for the N of budget / 500 iterations, then again for that
    T's N.
    """
    iterations = first = round(budget / 500)
    for _ in range(2):
        total = max(1, budget - RESERVED * iterations)
        iterations = _iterations(total, max(1, first), mu)
    return _split(total, iterations, mu)


def _iterations(total: int, start: int, mu: float) -> int:
    fewest, most = FIRST_PROBES
    t = start
    while t > 1 and _split(total, t, mu)[0] < fewest:
        t -= 1
    while _split(total, t, mu)[0] > most and _split(total, t + 1, mu)[0] >= fewest:
        t += 1
    return t


def _split(total: int, iterations: int, mu: float) -> list[int]:
    shares = [mu ** (-2 * i / 3) for i in range(iterations)]
    return [round(total * share / sum(shares)) for share in shares]
