"""The distance g(theta) to the boundary in a direction, and how to descend on it (Cheng et al., ICLR 2019).

g(theta) is the least lambda > 0 for which x0 + lambda theta is adversarial, theta of unit length in the
threat's norm. Directions are float32, distances and steps float64.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.claims import Standing, in_doubt
from agents.attackers.parts.searches import Searching, bisect
from agents.attackers.parts.starts import given_start, nearest_images, nearest_start
from arena.players import Answers, Games, Move, Play
from arena.rules.purposes import SEARCH, START, STEP
from arena.rules.threat import Norm

START_WIDTH = 1e-5
"""How well g is known in the direction to start from: more would bias the first estimate to one side."""
PERCENT_STEPS = 300
"""Steps of 1 % in a local search."""
CONVERGED = 1e-8
"""A game whose probes' radius beta falls below this has converged."""
BISECTIONS = 40
TRIALS = 15
"""Directions tried by each half of the line search."""


@dataclass(eq=False)
class Directions:
    """The best direction of each of G games.

    Attributes:
        theta: [G,C,H,W], unit length in the threat's norm; 0 where there is none.
        g: [G] float64, the lambda at which it was answered adversarial; +inf where there is none.
    """

    theta: Tensor
    g: Tensor

    def take(self, theta: Tensor, g: Tensor, i: Tensor) -> Tensor:
        """Let `theta` [n,C,H,W] and `g` [n] take the place of what is farther in games `i`; which: [n]."""
        nearer = g < self.g[i]
        self.theta[i[nearer]], self.g[i[nearer]] = theta[nearer], g[nearer]
        return nearer


def normed(v: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """`v` [...,C,H,W] over its length in `norm`, and that length [...] float64; 0 stays 0."""
    # In two stages: the sum over a large image alone in its batch is cut among threads.
    p = 2 if norm == "l2" else torch.inf
    length = torch.linalg.vector_norm(torch.linalg.vector_norm(v, p, dim=-1).flatten(-2), p, dim=-1)
    return v / length.clamp_min(1e-12)[..., None, None, None], length.double()


def place(games: Games, theta: Tensor, radius: Tensor, i: Tensor) -> Tensor:
    """x0 + radius theta, [n,C,H,W] within [0,1], for games `i` [n]; radius float64 [n]."""
    step = theta.double().mul_(radius.view(-1, 1, 1, 1))
    return step.add_(games.x0[i]).float().clamp_(0, 1)


class Rays:
    """`place` along the directions `theta` [n,C,H,W] of games `i` [n], as a `Path`.

    What rows need is gathered when they are not those of the call before: searches ask the same for long.
    """

    def __init__(self, games: Games, theta: Tensor, i: Tensor) -> None:
        self.games, self.theta, self.i = games, theta, i
        self.rows: Tensor | None = None

    def __call__(self, radius: Tensor, rows: Tensor) -> Tensor:
        if rows is not self.rows:
            self.rows, self.directions = rows, self.theta[rows].double()
            self.x0 = self.games.x0[self.i[rows]]
        step = self.directions * radius.view(-1, 1, 1, 1)
        return step.add_(self.x0).float().clamp_(0, 1)


# Where to begin


def find_direction(
    games: Games, draws: int, *, retries: int = 0, fallback: bool = False
) -> Generator[Move, Answers, Directions]:
    """The nearest of some directions that lead to adversarial images; games without are resigned: `no-start`.

    Untargeted: `draws` of standard normal noise, and `retries` more for games that all these failed; with
    `fallback` what then has none starts towards an image granted, the nearest with another label or that of
    `resources.starts`. Targeted: towards the image of `resources.starts`, and towards up to `draws` of the
    images granted that are labelled as the target, nearest first.
    """
    best = Directions(torch.zeros_like(games.x0), games.x0.new_full((len(games),), torch.inf).double())
    if games.threat.targeted:
        yield from _towards_start(games, best)
        yield from _towards_images(games, best, draws)
    else:
        yield from _towards_noise(games, best, draws, torch.ones_like(games.state.open))
        yield from _towards_noise(games, best, retries, best.g.isinf())
        if fallback:
            yield from _towards_start(games, best)
    i = best.g.isinf().nonzero().squeeze(1)
    yield from games.resign(i, "no-start")
    return best


def _towards_noise(games: Games, best: Directions, draws: int, wanted: Tensor) -> Play:
    for _ in range(draws):
        i = games.open[wanted[games.open]]
        if not len(i):
            break
        yield from _try(games, best, games.normal(games.x0.shape[1:], i), i)


def _towards_images(games: Games, best: Directions, draws: int) -> Play:
    """Towards images granted that have the target's label."""
    images, labels = games.resources.images, games.resources.labels
    if images is None or labels is None:
        return
    order, count = nearest_images(games, images, labels)
    for rank in range(min(draws, len(images))):
        i = games.open[rank < count[games.open]]
        if not len(i):
            break
        yield from _try(games, best, images[order[i, rank]] - games.x0[i], i)


def _towards_start(games: Games, best: Directions) -> Play:
    """Towards an adversarial image granted, where there is no direction yet."""
    x, found = games.x0.clone(), best.g.isfinite()
    before = found.clone()
    if not games.threat.targeted and games.resources.images is not None:
        yield from nearest_start(games, x, found)
    yield from given_start(games, x, found)
    i = (found & ~before).nonzero().squeeze(1)
    yield from _narrow(games, best, *normed(x[i] - games.x0[i], games.threat.norm), i)


def _try(games: Games, best: Directions, v: Tensor, i: Tensor) -> Play:
    """Take the directions of `v` [n,C,H,W] where x0 + v is adversarial and the boundary nearer than yet."""
    theta, length = normed(v, games.threat.norm)
    fooled = yield from games.fools(place(games, theta, length, i), i, START)
    yield from _narrow(games, best, theta[fooled], length[fooled], i[fooled])


def _narrow(games: Games, best: Directions, theta: Tensor, length: Tensor, i: Tensor) -> Play:
    """Locate the boundary between x0 and x0 + length theta, which is adversarial, unless it is farther."""
    shorter = best.g[i] < length
    rows = shorter.nonzero().squeeze(1)
    nearer = ~shorter
    nearer[rows] = yield from games.fools(
        place(games, theta[rows], best.g[i[rows]], i[rows]), i[rows], SEARCH
    )
    theta, i, radius = theta[nearer], i[nearer], length.minimum(best.g[i])[nearer]
    g = yield from bisect(
        games,
        i,
        Rays(games, theta, i),
        torch.zeros_like(radius),
        radius,
        width=START_WIDTH,
        steps=BISECTIONS,
    )
    best.take(theta, g, i)


# g(theta), known to lie near a radius


def local_search(
    games: Games, theta: Tensor, radius: Tensor, i: Tensor, width: Tensor, purpose: str
) -> Searching:
    """g(theta) [n] of games `i` [n], from `radius` [n], until it is known to `width` [n] (all float64).

    In steps of 1 % out to the first adversarial point, or in to the first benign one, then by halving. +inf
    where none is found in reach; where none is benign, the nearest point that was seen.
    """
    adversarial, benign = radius.clone(), radius.clone()
    outward = ~(yield from games.fools(place(games, theta, radius, i), i, purpose))
    adversarial[outward] = torch.inf
    reach, seeking = _reach(games), torch.ones_like(outward)
    for step in range(1, PERCENT_STEPS + 1):
        seeking &= games.state.open[i] & ~(outward & (benign * 1.01 > reach))
        rows = seeking.nonzero().squeeze(1)
        if not len(rows):
            break
        out = outward[rows]
        r = radius[rows] * torch.full_like(radius[rows], 0.99**step).masked_fill_(out, 1.01**step)
        fooled = yield from games.fools(place(games, theta[rows], r, i[rows]), i[rows], purpose)
        adversarial[rows] = torch.where(fooled, r, adversarial[rows])
        benign[rows] = torch.where(fooled, benign[rows], r)
        seeking[rows] = fooled != out
    # Where no benign point was seen there is nothing to halve.
    benign = torch.where(seeking | adversarial.isinf(), adversarial, benign)
    return (
        yield from bisect(
            games,
            i,
            Rays(games, theta, i),
            benign,
            adversarial,
            width=width,
            steps=BISECTIONS,
            purpose=purpose,
        )
    )


def _reach(games: Games) -> float:
    """How far out to look: 20, targeted 100; in proportion to sqrt(d) for images larger than CIFAR's."""
    scale = math.sqrt(max(1.0, games.x0[0].numel() / 3072))
    return (100 if games.threat.targeted else 20) * scale


# Descent


@dataclass(eq=False)
class Descent:
    """Line searches on g for G games, each with a step size and a probe radius of its own.

    Attributes:
        best: where the games stand; changed in place.
        alpha: [G] float64, step sizes; they persist from one line search to the next.
        beta: [G] float64, probe radii; g is located to beta / 500.
        least_beta: a game whose beta falls below has converged.
        first: the step size and the probe radius to begin with.
    """

    games: Games
    best: Directions
    alpha: Tensor
    beta: Tensor
    least_beta: float
    first: tuple[float, float] = (0.2, 1e-3)

    @classmethod
    def start(
        cls, games: Games, best: Directions, alpha: float, beta: float, least_beta: float = CONVERGED
    ) -> Descent:
        """With step size `alpha` and probe radius `beta` in all games."""
        steps, radii = torch.full_like(best.g, alpha), torch.full_like(best.g, beta)
        return cls(games, best, steps, radii, least_beta, (alpha, beta))

    def image(self, i: Tensor) -> Tensor:
        """The points [n,C,H,W] on the boundary at which games `i` [n] stand."""
        return place(self.games, self.best.theta[i], self.best.g[i], i)

    def shares(self, i: Tensor, count: int) -> Iterator[Tensor]:
        """Rows [m] of games `i` [n], without the closed, as many as a volley has room for at `count` each."""
        size = max(1, self.games.max_rows // count)
        for first in range(0, len(i), size):
            rows = torch.arange(first, min(first + size, len(i)), device=i.device)
            rows = rows[self.games.state.open[i[rows]]]
            if len(rows):
                yield rows

    def near(self, u: Tensor, i: Tensor) -> Tensor:
        """Directions theta' [n,m,C,H,W], theta + beta u of unit length, for games `i` [n]."""
        beta = self.beta[i].float().view(-1, 1, 1, 1, 1)
        return normed(self.best.theta[i].unsqueeze(1) + beta * u, self.games.threat.norm)[0]

    def probes(self, u: Tensor, i: Tensor) -> Tensor:
        """Images x0 + g(theta) theta' [n,m,C,H,W], adversarial where g falls towards `u` [n,m,C,H,W]."""
        g = self.best.g[i].float().view(-1, 1, 1, 1, 1)
        return self.near(u, i).mul_(g).add_(self.games.x0[i].unsqueeze(1)).clamp_(0, 1)

    def evaluate(self, theta: Tensor, radius: Tensor, i: Tensor, purpose: str) -> Searching:
        """g [n] of directions `theta` [n,C,H,W], searched from `radius` [n] to beta / 500."""
        width = self.beta[i] / 500
        if self.games.threat.norm == "linf":
            width = width.clamp_min(2e-9)
        return (yield from local_search(self.games, theta, radius, i, width, purpose))

    def line_search(self, gradient: Tensor, i: Tensor) -> Play:
        """Step from theta to theta - alpha `gradient` [n,C,H,W], as far as it makes g fall.

        Up to 15 trials, each of which doubles alpha, until one does not improve on the best. If none has: up
        to 15 more, each with a quarter of alpha, until one does.
        """
        origin, start = self.best.theta[i], self.best.g[i]
        rows = torch.arange(len(i), device=i.device)
        for _ in range(TRIALS):
            better = yield from self._trial(origin, gradient, i, rows)
            self.alpha[i[rows]] *= 2
            rows = rows[better & self.games.state.open[i[rows]]]
            if not len(rows):
                break
        rows = ((self.best.g[i] >= start) & self.games.state.open[i]).nonzero().squeeze(1)
        for _ in range(TRIALS):
            if not len(rows):
                break
            self.alpha[i[rows]] /= 4
            better = yield from self._trial(origin, gradient, i, rows)
            rows = rows[~better & self.games.state.open[i[rows]]]

    def _trial(
        self, origin: Tensor, gradient: Tensor, i: Tensor, rows: Tensor
    ) -> Generator[Move, Answers, Tensor]:
        """Whether [m] theta - alpha gradient of `rows` [m] is better than the best; then it is that."""
        at = i[rows]
        step = self.alpha[at].float().view(-1, 1, 1, 1)
        theta, _ = normed(origin[rows] - step * gradient[rows], self.games.threat.norm)
        g = yield from self.evaluate(theta, self.best.g[at], at, STEP)
        return self.best.take(theta, g, at)

    def refine(self, i: Tensor) -> Play:
        """Where steps are minute now, go on at alpha = 1 and a tenth of beta; resign what converged.

        Where answers are no facts, what converged begins again.
        """
        linf_untargeted = self.games.threat.norm == "linf" and not self.games.threat.targeted
        minute = i[self.alpha[i] < (1e-6 if linf_untargeted else 1e-4)]
        self.alpha[minute] = 1.0
        self.beta[minute] /= 10
        done = minute[(self.beta[minute] < self.least_beta) & self.games.state.open[minute]]
        if in_doubt(self.games):
            yield from self.start_again(done)
        else:
            yield from self.games.resign(done)

    def start_again(self, i: Tensor) -> Play:
        """Begin games `i` [n] again at the images that they claim, as far off as they now prove to be."""
        if not len(i):
            return
        games = self.games
        x = Standing.at(games).start_again(self.image(i), i)
        theta, far = normed(x - games.x0[i], games.threat.norm)
        self.alpha[i], self.beta[i] = self.first
        g = yield from self.evaluate(theta, far, i, SEARCH)
        found = g.isfinite()
        self.best.theta[i[found]], self.best.g[i[found]] = theta[found], g[found]
