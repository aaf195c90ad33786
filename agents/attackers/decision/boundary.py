"""Boundary Attack: a random walk along the boundary that only comes nearer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.decision.purposes import CANDIDATE, SEARCH
from agents.attackers.decision.searches import Searching, blend, blend_search, clip_to
from agents.attackers.decision.standing import stand_by
from agents.attackers.decision.starts import find_start
from agents.attackers.decision.walks import Window, around, length, orthogonal, towards
from arena.players import Attacker, Games, Needs, Play

LEVELS = 1000
"""Blends of the linear scan, and the inverse of the bisection's width."""
SPHERICAL_WINDOW, SOURCE_WINDOW = 100, 30
TOO_RARE, TOO_OFTEN = 0.2, 0.5
"""Rates of success outside of which steps are changed."""
CONVERGED, STAYS_CONVERGED = 1e-7, 2e-7
CONFIRMATIONS = 100


@dataclass(frozen=True)
class Boundary(Attacker):
    """Boundary Attack (Brendel, Rauber and Bethge, ICLR 2018), untargeted and targeted.

    By the rules of the authors' code (foolbox 2.4), candidates one at a time; what foolbox 3 changed is not
    here. A step tries candidates until one is adversarial: a point on the sphere around x0, then inwards. In
    every tenth step the point on the sphere is asked first, and the candidate only if it is adversarial: two
    rates of success, by which the step sizes change. A walk whose source step has fallen below 1e-7 is begun
    anew from there, with the first step sizes and a test of the sphere in every step; if it comes to the same
    again and stays there for 100 steps, the game is resigned: nothing nearer is within its reach.

    Attributes:
        spherical_step: sigma (the paper's delta), the first step along the sphere, relative to the distance.
        source_step: epsilon, the first step inwards, relative to the distance.
        step_adaptation: by what step sizes are multiplied or divided.
        candidates: so many, at most, in a step.
        spherical_every: so often the sphere is tested.
        init_draws: how often noise is drawn to start from.
        init_search: from there to the boundary: `bisection` to .001 of the way (10 queries); `linear`: the
            authors' 1000 blends, from x0 on, until one is adversarial.
        linf_walk: under an l_inf threat, which the paper does not know (our reading): `l2`: the same walk,
            standing by its point that is nearest in l_inf; `box`: random signs, within the box of radius r,
            which shrinks.
        fallback: where no noise will do, start from an image granted (`find_start`).
    """

    spherical_step: float = 0.01
    source_step: float = 0.01
    step_adaptation: float = 1.5
    candidates: int = 25
    spherical_every: int = 10
    init_draws: int = 1000
    init_search: Literal["bisection", "linear"] = "bisection"
    linf_walk: Literal["l2", "box"] = "l2"
    fallback: bool = False

    def __post_init__(self) -> None:
        for name in ("spherical_step", "source_step"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and above 0; found {getattr(self, name)}")
        if not 1 < self.step_adaptation < math.inf:
            raise ValueError(f"step_adaptation must be finite and above 1; found {self.step_adaptation}")
        for name in ("candidates", "spherical_every", "init_draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; found {getattr(self, name)}")

    @property
    def needs(self) -> Needs:
        return Needs(starts="targeted")

    def play(self, games: Games) -> Play:
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        i = games.open
        search = linear_scan if self.init_search == "linear" else _bisection
        x[i] = yield from search(games, x[i], i)
        yield from self.walk(games, x)

    def walk(self, games: Games, x: Tensor) -> Play:
        """From adversarial images `x` [G,C,H,W], changed in place, until all games have closed."""
        proposals = (BoxProposals if self.boxed(games) else SphereProposals)(games)
        steps = Steps(self, len(games), x.device)
        distance = proposals.distance(x - games.x0)
        nearest = torch.full_like(distance, torch.inf)  # in the threat's norm
        z, tested = x.clone(), torch.zeros_like(games.state.open)
        yield from self.stand(games, x, games.open, nearest)
        while len(i := games.open):
            x0, delta = games.x0[i], x[i] - games.x0[i]
            proposed = proposals.across(x0, delta, distance[i], steps.sigma[i], i)
            z[i] = torch.where(tested[i].view(-1, 1, 1, 1), z[i], proposed)
            testing = steps.tests_sphere(i) & ~tested[i]
            candidate = proposals.inwards(x0, z[i], distance[i], steps.epsilon[i])
            image = torch.where(testing.view(-1, 1, 1, 1), z[i], candidate)
            fooled = yield from games.fools(image, i, CANDIDATE)
            tested[i] = testing & fooled
            converged = steps.record(i, testing, fooled)
            far = proposals.distance(image - x0)
            rows = (fooled & ~testing & (far < distance[i])).nonzero().squeeze(1)
            x[i[rows]], distance[i[rows]] = image[rows], far[rows]
            yield from self.stand(games, x, i[rows], nearest)
            yield from games.resign(i[converged])

    def boxed(self, games: Games) -> bool:
        return games.threat.norm == "linf" and self.linf_walk == "box"

    def stand(self, games: Games, x: Tensor, i: Tensor, nearest: Tensor) -> Play:
        """Stand by those of the points `x` [G,C,H,W] of games `i` [n] that beat `nearest` [G]."""
        far = games.distance(x[i], i).double()
        nearer = i[far < nearest[i]]
        nearest[i] = torch.minimum(nearest[i], far)
        yield from stand_by(games, x[nearer], nearer)


def _bisection(games: Games, x: Tensor, i: Tensor) -> Searching:
    return (yield from blend_search(games, x, i, 1 / LEVELS))


def linear_scan(games: Games, x: Tensor, i: Tensor) -> Searching:
    """The first adversarial one of 1000 blends [n,C,H,W] from x0 to adversarial `x` of games `i` [n]."""
    x0, found, rows = games.x0[i], x.clone(), torch.arange(len(i), device=i.device)
    for level in range(1, LEVELS):
        rows = rows[games.state.open[i[rows]]]
        if not len(rows):
            break
        t = torch.full((len(rows),), level / LEVELS, dtype=torch.float64, device=x.device)
        image = blend(x0[rows], x[rows], t)
        fooled = yield from games.fools(image, i[rows], SEARCH)
        found[rows[fooled]] = image[fooled]
        rows = rows[~fooled]
    return found
