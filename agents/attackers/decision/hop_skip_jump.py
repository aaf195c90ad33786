"""HopSkipJumpAttack: estimate the boundary's normal, step along it, search back to the boundary."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.estimates import BLOCK, Estimate, Probes, estimate, unit
from agents.attackers.parts.searches import Searching, blend_search, boundary_search
from agents.attackers.parts.starts import Starting, find_start
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play
from arena.rules.purposes import STEP

HALVINGS = 25
"""Halvings until a step is given up: under a random defender the point itself may not be adversarial."""
GRID = 20
"""Steps tried by the grid search, from 1e-4 to 1 times the distance."""
LEAST_DELTA = 1e-30
"""Used as D if that is 0, because a service answers the clean image itself with another label."""

Moving = Generator[Move, Answers, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class HopSkipJump(Attacker):
    """HopSkipJumpAttack (Chen, Jordan and Wainwright, S&P 2020), l2 and linf, untargeted and targeted.

    As in the authors' code. The radius of the probes decides how the attack behaves under noise.

    Attributes:
        gamma: scales theta, the width to which the boundary is located.
        delta_rule: the probes' radius delta from the distance D before the last search. `current`: delta =
            gamma D / d, theta = gamma / d^(3/2) (l2) or gamma / d^2 (linf), the paper's and the authors'
            code's since June 2019; `art`: delta = .01 gamma D, theta = .01 gamma / sqrt(d) or .01 gamma / d,
            the code's before, and ART's still, with which SND and many others were measured.
        initial_probes: B_0; iteration t asks B_0 sqrt(t) probes.
        max_probes: the most probes of an iteration.
        step_search: how far to step: `geometric`: D / sqrt(t), halved until it is adversarial; `grid`: the
            best of 20 steps, each followed by a search.
        init_draws: how often noise is drawn to start from.
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    gamma: float = 1.0
    delta_rule: Literal["current", "art"] = "current"
    initial_probes: int = 100
    max_probes: int = 10_000
    step_search: Literal["geometric", "grid"] = "geometric"
    init_draws: int = 10_000
    fallback: bool = False

    def __post_init__(self) -> None:
        check_parameters(self, positive=("gamma",), counts=("initial_probes", "max_probes", "init_draws"))

    @property
    def needs(self) -> Needs:
        return Needs(starts="targeted")

    def play(self, games: Games) -> Play:
        yield from self.walk(games, (yield from self.begin(games)))

    def begin(self, games: Games) -> Starting:
        """Adversarial images [G,C,H,W]: untargeted, noise blended with x0; targeted, the image granted."""
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        if not games.threat.targeted:
            i = games.open
            x[i] = yield from blend_search(games, x[i], i, 1e-3)
        return x

    def walk(self, games: Games, x: Tensor, going_on: Callable[[int, Tensor], Tensor] | None = None) -> Play:
        """From adversarial images `x` [G,C,H,W], changed in place, until all games have closed.

        `going_on(t, i)` selects the open games `i` [n] that play iteration t.
        """
        far = games.distance(x)  # D, before the last search
        i = games.open
        x[i] = yield from self.search(games, x[i], i)
        for t in count(1):
            yield from stand_by(games, x[i], i)
            i = games.open if going_on is None else going_on(t, games.open)
            if not len(i):
                return
            delta = self.radius(games, far[i], t, i)
            probes = min(int(self.initial_probes * math.sqrt(t)), self.max_probes)
            v = (yield from self.estimate(games, x[i], i, delta, probes)).normal()
            if games.threat.norm == "linf":
                v = v.sign()
            if self.step_search == "geometric":
                x[i], far[i] = yield from self.advance(games, x[i], v, i, t)
            else:
                x[i], far[i] = yield from self.grid(games, x[i], v, i)

    def theta(self, games: Games) -> float:
        """The width of boundary searches, relative to their bracket."""
        d = games.x0[0].numel()
        if self.delta_rule == "art":
            return 0.01 * self.gamma / (math.sqrt(d) if games.threat.norm == "l2" else d)
        return self.gamma / (d * math.sqrt(d) if games.threat.norm == "l2" else d * d)

    def delta(self, games: Games) -> float:
        """The probes' radius relative to the distance D."""
        d = games.x0[0].numel()
        return self.theta(games) * (math.sqrt(d) if games.threat.norm == "l2" else d)

    def radius(self, games: Games, far: Tensor, t: int, i: Tensor) -> Tensor:
        """The probes' radius [n] at iteration t, for games `i` [n] at D = `far` [n]."""
        return torch.full_like(far, 0.1) if t == 1 else (self.delta(games) * far).clamp_min(LEAST_DELTA)

    def estimate(
        self, games: Games, x: Tensor, i: Tensor, delta: Tensor, probes: int | Tensor
    ) -> Generator[Move, Answers, Estimate]:
        """Probes at distance `delta` [n] from the boundary points `x` [n,C,H,W] of games `i` [n]."""
        return (yield from estimate(games, i, probes, self.probes(games, x, i, delta)))

    def probes(self, games: Games, x: Tensor, i: Tensor, delta: Tensor) -> Probes:
        """How probes at distance `delta` [n] from `x` [n,C,H,W] of games `i` [n] are drawn."""

        def draw(rows: Tensor) -> tuple[Tensor, Tensor]:
            shape, at, radius = (BLOCK, *x.shape[1:]), x[rows].unsqueeze(1), delta[rows].view(-1, 1, 1, 1, 1)
            if games.threat.norm == "l2":
                u = games.normal(shape, i[rows])
            else:
                u = games.uniform(shape, i[rows]).mul_(2).sub_(1)
            images = (at + radius * unit(u)).clamp_(0, 1)
            return images, (images - at) / radius

        return draw

    def advance(self, games: Games, x: Tensor, v: Tensor, i: Tensor, t: int) -> Moving:
        """Step from boundary points `x` [n,C,H,W] along `v` and search back to the boundary.

        Returns the points found [n,C,H,W], and D [n] before that search.
        """
        stepped = yield from self.step(games, x, v, i, t)
        far = games.distance(stepped, i)
        return (yield from self.search(games, stepped, i)), far

    def search(self, games: Games, x: Tensor, i: Tensor) -> Searching:
        """From adversarial `x` [n,C,H,W] of games `i` [n] towards x0 to the boundary."""
        return (yield from boundary_search(games, x, i, self.theta(games)))

    def step(self, games: Games, x: Tensor, v: Tensor, i: Tensor, t: int) -> Searching:
        """x + xi v [n,C,H,W] with xi = D / sqrt(t), halved until that is adversarial; else `x` itself."""
        xi = games.distance(x, i) / math.sqrt(t)
        stepped, rows = x.clone(), torch.arange(len(i), device=x.device)
        for _ in range(HALVINGS):
            candidate = (x[rows] + xi[rows].view(-1, 1, 1, 1) * v[rows]).clamp_(0, 1)
            fooled = yield from games.fools(candidate, i[rows], STEP)
            stepped[rows[fooled]] = candidate[fooled]
            xi[rows] /= 2
            rows = rows[~fooled & games.state.open[i[rows]]]
            if not len(rows):
                break
        return stepped

    def grid(self, games: Games, x: Tensor, v: Tensor, i: Tensor) -> Moving:
        """The nearest of the points found by searches from the grid's steps [n,C,H,W], and its D [n]."""
        distance = games.distance(x, i)
        best, best_distance, far = x.clone(), distance.clone(), distance.clone()
        for multiple in torch.logspace(-4, 0, GRID).tolist():
            candidate = (x + (multiple * distance).view(-1, 1, 1, 1) * v).clamp_(0, 1)
            fooled = yield from games.fools(candidate, i, STEP)
            rows = fooled.nonzero().squeeze(1)
            found = yield from self.search(games, candidate[rows], i[rows])
            nearer = games.distance(found, i[rows]) < best_distance[rows]
            chosen = rows[nearer]
            best[chosen], far[chosen] = found[nearer], games.distance(candidate[chosen], i[chosen])
            best_distance[chosen] = games.distance(best[chosen], i[chosen])
        return best, far
