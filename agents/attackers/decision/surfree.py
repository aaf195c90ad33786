"""SurFree: no gradient, only random low-frequency directions and half circles towards x0."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from agents.attackers.parts.circles import Circles, without
from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.dct import from_frequencies, to_frequencies
from agents.attackers.parts.estimates import unit
from agents.attackers.parts.searches import Deciding, Searching, bisect, blend_search
from agents.attackers.parts.starts import Starting, find_start
from agents.parameters import check_parameters
from arena.players import Attacker, Games, Needs, Play
from arena.rules.purposes import CANDIDATE, STEP

START_WIDTH = 0.01
"""The width to which the boundary is searched on the segment from noise to x0."""
EXPANSIONS = 40
"""Angles tried beyond the first, spaced by a share of the largest."""


@dataclass(frozen=True)
class SurFree(Attacker):
    """SurFree (Maho, Furon and Le Merrer, CVPR 2021), l2, untargeted and targeted.

    As in the authors' code, with the frequencies of the whole image (an option there), except for the search
    of the angle, which stays on the side where an adversarial point was found. Defaults are those of its
    version for foolbox; the later one has rho .95, one trial, 7 bisections. The last directions of every game
    are kept: `n_ortho` images a game, which at 224 pixels take 60 MB.

    Attributes:
        theta_max: the largest angle tried at first, in degrees; it adapts.
        rho: theta_max is multiplied by it after a direction that failed, and divided by it after a success.
        trials: T; the angles theta_max, theta_max (T - 1) / T, ..., each on both sides.
        n_ortho: a direction is orthogonal to so many before it.
        low: the share of the frequencies that directions lie in, the lowest.
        gamma: angles are searched until their cosines are known to this.
        bisections: the most bisections.
        init_draws: how often noise is drawn to start from.
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    theta_max: float = 30.0
    rho: float = 0.98
    trials: int = 3
    n_ortho: int = 100
    low: float = 0.5
    gamma: float = 0.01
    bisections: int = 10
    init_draws: int = 1000
    fallback: bool = False

    needs = Needs(norms=("l2",), starts="targeted")

    def __post_init__(self) -> None:
        for name, most in (("theta_max", 90), ("rho", 1), ("low", 1), ("gamma", 1)):
            if not 0 < getattr(self, name) <= most:
                raise ValueError(f"{name} must be above 0 and at most {most}; found {getattr(self, name)}")
        check_parameters(self, counts=("trials", "bisections", "init_draws"))
        if self.n_ortho < 0:
            raise ValueError(f"n_ortho must not be negative; found {self.n_ortho}")

    def play(self, games: Games) -> Play:
        x = yield from self.begin(games)
        directions = RandomDirections(games, self.low, self.n_ortho)
        least = yield from self.least_angles(games, x, directions)
        theta_max = torch.full_like(least, math.radians(self.theta_max)).maximum(least)
        while len(i := games.open):
            circles = Circles.over(games, x[i], directions.draw(x[i], i), i)
            angle, refused = yield from self.try_angles(games, circles, theta_max[i], i)
            rows = (angle != 0).nonzero().squeeze(1)
            angle = yield from self.search(games, circles, angle, theta_max[i], i, rows)
            nearer = circles.at(angle, rows)
            won = games.distance(nearer, i[rows]) < games.distance(x[i[rows]], i[rows])
            x[i[rows[won]]] = nearer[won]
            yield from stand_by(games, nearer[won], i[rows[won]])
            theta_max[i[~refused]] *= self.rho
            theta_max[i[rows]] /= self.rho**2
            theta_max = theta_max.maximum(least).clamp_(max=math.pi / 2)

    def begin(self, games: Games) -> Starting:
        """Points [G,C,H,W] behind the boundary, stood by: on the segment from noise, or from the image
        granted, to x0."""
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        i = games.open
        x[i] = yield from self.blend(games, x[i], i)
        yield from stand_by(games, x[i], i)
        return x

    def blend(self, games: Games, x: Tensor, i: Tensor) -> Searching:
        """From adversarial `x` [n,C,H,W] of games `i` [n] straight towards x0 to the boundary."""
        return (yield from blend_search(games, x, i, START_WIDTH))

    def least_angles(self, games: Games, x: Tensor, directions: RandomDirections) -> Searching:
        """The least [G] float64 that theta_max may become, in radians; `x` [G,C,H,W] is where it begins."""
        return torch.zeros(len(games), dtype=torch.float64, device=x.device)
        yield  # a generator: what adapts asks for them

    def try_angles(self, games: Games, circles: Circles, theta_max: Tensor, i: Tensor) -> Deciding:
        """The first angle [n] of both signs that is adversarial; 0 if none is. And whether one was refused
        [n] at which the trials end; here none is."""
        angle, rows = torch.zeros_like(theta_max), torch.arange(len(i), device=i.device)
        for trial in range(2 * self.trials):
            share = (1 - (trial // 2) / self.trials) * (-1) ** trial
            theta = share * theta_max[rows]
            fooled = yield from games.fools(circles.at(theta, rows), i[rows], CANDIDATE)
            angle[rows[fooled]] = theta[fooled]
            rows = rows[~fooled & games.state.open[i[rows]]]
            if not len(rows):
                break
        return angle, torch.zeros_like(i, dtype=torch.bool)

    def search(
        self, games: Games, circles: Circles, angle: Tensor, theta_max: Tensor, i: Tensor, rows: Tensor
    ) -> Searching:
        """The largest adversarial angle [m] of `rows` [m], from the adversarial ones in `angle` [n]."""
        step = angle.sign() * theta_max / self.trials
        adversarial, benign = angle.clone(), angle + step
        # The angles tried before it on the same side are benign.
        rising = rows[angle[rows].abs() >= theta_max[rows]]
        for _ in range(EXPANSIONS):
            rising = rising[games.state.open[i[rising]] & (benign[rising].abs() < math.pi / 2)]
            if not len(rising):
                break
            fooled = yield from games.fools(circles.at(benign[rising], rising), i[rising], STEP)
            rising = rising[fooled]
            adversarial[rising] = benign[rising]
            benign[rising] += step[rising]
        found = yield from bisect(
            games,
            i[rows],
            lambda theta, among: circles.at(theta, rows[among]),
            benign[rows],
            adversarial[rows],
            width=self.gamma / benign[rows].sin().abs(),
            steps=self.bisections,
            purpose=STEP,
        )
        return found


@dataclass(eq=False)
class RandomDirections:
    """Random low-frequency directions for G games, each orthogonal to those before it.

    A frequency's amplitude is tanh of the clean image's there, its sign -1, 0 or +1 at random.

    Attributes:
        low: the share of frequencies.
        keep: how many earlier directions are kept.
        past: [G,keep,C,H,W], unit length or 0.
        drawn: [G] how many were drawn; calls: in how many calls.
    """

    games: Games
    low: float
    keep: int
    past: Tensor = field(init=False)
    amplitude: Tensor = field(init=False)
    drawn: Tensor = field(init=False)
    calls: int = 0

    def __post_init__(self) -> None:
        x0 = self.games.x0
        height, width = x0.shape[2:]
        self.drawn = torch.zeros_like(self.games.label)
        self.past = x0.new_zeros(len(x0), self.keep, *x0.shape[1:])
        self.amplitude = to_frequencies(x0, height, width).tanh_() * lowest(
            height, width, self.low, x0.device
        )

    def draw(self, x: Tensor, i: Tensor) -> Tensor:
        """Directions [n,C,H,W] for games `i` [n], orthogonal to x - x0 and the last `keep`."""
        shape = self.amplitude.shape[1:]
        signs = self.games.integers(3, shape, i).sub_(1)
        v = from_frequencies(self.amplitude[i] * signs, *shape[1:])
        v = without(v, unit(x - self.games.x0[i]))
        # One after the other: a product of matrices may sum in an order that depends on the batch, and all at
        # once would be copied, 6 GB for 100 games of 224 pixels.
        for k in range(min(self.calls, self.keep)):
            v = without(v, self.past[i, k])
        v = unit(v)
        if self.keep:
            self.past[i, self.drawn[i] % self.keep] = v
        self.drawn[i] += 1
        self.calls += 1
        return v


def lowest(height: int, width: int, share: float, device: torch.device) -> Tensor:
    """Which [H,W] of the frequencies belong to the `share` with the lowest sums of both indices."""
    total = torch.arange(height, device=device).unsqueeze(1) + torch.arange(width, device=device)
    order = total.flatten().argsort(stable=True)
    mask = torch.zeros(height * width, device=device)
    mask[order[: max(1, math.ceil(share * len(order)))]] = 1
    return mask.view(height, width)
