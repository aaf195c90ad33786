"""P-RGF: finite differences in directions that lean towards a reference network's gradient."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.estimates import BLOCK, unit
from agents.attackers.parts.finite_differences import gradient, losses, step
from agents.attackers.parts.reference_networks import loss_direction, networks
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Loss, Move, Needs, Play

BASE, PRIOR, LENGTH = "base", "prior", "gradient-length"
"""Purposes: of the iterate itself, of the probe along the prior, and of probes of the gradient's length."""
ETA = {"linf": 0.1, "l2": 0.122}
"""Length of a step in units of epsilon: the authors' .005 at .05, and 2 at sqrt(.001 * 299 * 299 * 3)."""
LEVEL = 1 / 255
MOST = 2.0**8
"""By how much a probe may be lengthened."""


@dataclass(frozen=True)
class PriorRGF(Attacker):
    """P-RGF (Cheng, Dong, Pang, Su and Zhu, Improving Black-box Adversarial Attacks with a Transfer-based
    Prior, NeurIPS 2019, algorithm 1), biased sampling with the optimal lambda.

    The prior v is the unit input gradient of the loss through the reference network; of several, the unit sum
    of theirs. With alpha, the estimated cosine of v and the service's gradient, q directions
    u = sqrt(lambda) v + sqrt(1 - lambda) xi are drawn, xi uniform among the unit vectors orthogonal to v,
    with lambda* (`optimal_lambda`). The gradient is the mean of (f(x + mu u) - f(x)) / mu u. Where lambda*
    is 1 the step goes along v and no direction is asked; where it is 0 this is RGF.

    alpha is the slope along v over the gradient's length, which is sqrt(D) times the root mean square slope
    along random unit directions; the length is measured every `every` steps, and at step 3. The
    projection into ball and box shortens probes: a slope is over what is left of one. A step asks the iterate
    and v, and q directions where lambda* < 1.

    As in the authors' code, except that a probe along v whose answer did not move (float32, 8 bits) is
    doubled for the next step, not asked again at once, and that v then has the cosine 0. Where the service
    rounds, mu is a level at least.

    Attributes:
        mu: length of a probe per pixel.
        directions: q.
        eta: length of a step, per pixel in l_inf; None: `ETA` of epsilon.
        length_probes, every: how many random directions measure the gradient's length, and how often.
        loss: f, to be minimised, of the service and of the reference network.
    """

    mu: float = 1e-4
    directions: int = 50
    eta: float | None = None
    length_probes: int = 10
    every: int = 10
    loss: Loss = "cross-entropy"

    needs = Needs(feedback="scores", objectives=("first", "submit"), surrogates=1)

    def __post_init__(self) -> None:
        check_parameters(self, positive=("mu", "eta"), counts=("directions", "length_probes", "every"))

    def play(self, games: Games) -> Play:
        x, slopes = games.x0.clone(), Slopes(games, self)
        eta = self.eta or ETA[games.threat.norm] * games.epsilon
        length = torch.zeros_like(slopes.base)
        v = torch.zeros_like(x)
        for t in itertools.count():
            if len(i := games.open):
                found = yield from losses(games, x[i].unsqueeze(1), i, self.loss, BASE)
                slopes.base[i] = found.squeeze(1)
            if not len(i := games.open):
                return
            v[i] = self.prior(games, x[i], i)
            if t % self.every == 0 or t == 3:
                length[i] = yield from slopes.length(x[i], i)
            i = games.open
            slope = yield from slopes.along(x[i], v[i], i)
            cosine = torch.where(length[i] > 0, slope / length[i], 0.0)
            share = optimal_lambda(cosine, x[0].numel(), self.directions)
            v[i] = torch.where(cosine < 0, -1.0, 1.0).view(-1, 1, 1, 1) * v[i]
            g = v[i]
            unsure = ((share < 1) & games.state.open[i]).nonzero().squeeze(1)
            if len(unsure):
                g[unsure] = yield from slopes.biased(x[i[unsure]], v[i[unsure]], share[unsure], i[unsure])
            x[i] = step(games, x[i], g, i, eta)

    def prior(self, games: Games, x: Tensor, i: Tensor) -> Tensor:
        """v [n,C,H,W] at `x` [n,C,H,W] of games `i` [n]; 0 where no network has a gradient."""
        total = torch.zeros_like(x)
        for network in networks(games):
            total += loss_direction(network, games, x, i, self.loss)
        return unit(total)


def optimal_lambda(cosine: Tensor, dimensions: int, q: int) -> Tensor:
    """lambda* [n] of cosines [n]: the share of the prior in directions with which the estimate from
    q of them is nearest to the gradient, in expectation.

    0 up to alpha^2 = 1 / (D + 2q - 2), 1 from (2q - 1) / (D + 2q - 2) on.
    """
    square, d = cosine.double().square(), dimensions
    m = d + 2 * q - 2
    between = (1 - square) * (square * m - 1) / (2 * square * d * q - square.square() * d * m - 1)
    share = torch.where(square * m <= 1, 0.0, torch.where(square * m >= 2 * q - 1, 1.0, between))
    return share.to(cosine.dtype)


class Slopes:
    """What is measured of the loss around the iterates of G games.

    Attributes:
        base: [G] the loss at the iterates; +inf where no answer came.
        scale: [G] by how much the games' probes were lengthened.
    """

    def __init__(self, games: Games, attack: PriorRGF) -> None:
        self.games, self.attack = games, attack
        self.base = games.x0.new_full((len(games),), torch.inf)
        self.scale = torch.ones_like(self.base)
        self.pixels = games.x0[0].numel()
        per_pixel = attack.mu if games.threat.quantisation == "none" else max(attack.mu, LEVEL)
        self.radius = per_pixel * math.sqrt(self.pixels)

    def length(self, x: Tensor, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """The gradient's length [n] at the iterates `x` [n,C,H,W] of games `i` [n]; 0 if nothing is known."""
        games, count = self.games, self.attack.length_probes
        # In float64: the squares of a sure network's slopes, of 1e-25, are none of float32's numbers.
        total, used = x.new_zeros(2, len(i), dtype=torch.float64)
        # One at a time where games may be handed in between volleys, as in `gradient`.
        shares = [1] * count if games.threat.objective == "submit" else games.parts(count, len(i))
        for many in shares:
            rows = games.state.open[i].nonzero().squeeze(1)
            if not len(rows):
                break
            u = torch.stack([games.normal(x.shape[1:], i[rows]) for _ in range(many)], dim=1)
            slope = yield from self.measured(x[rows], unit(u), i[rows], LENGTH)
            for one in slope.unbind(1):  # one after the other: a sum is the same in volleys of any shape
                known = one.isfinite()
                total[rows] += torch.where(known, one, 0.0).double().square()
                used[rows] += known
        length: Tensor = (self.pixels * total / used.clamp_min(1)).sqrt().to(x.dtype)
        return length

    def along(self, x: Tensor, v: Tensor, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """The slope [n] along the priors `v` [n,C,H,W], 0 if it is not known; probes too short to be seen
        are doubled."""
        slope = (yield from self.measured(x, v.unsqueeze(1), i, PRIOR)).squeeze(1)
        unmoved = (slope == 0) & (v.flatten(1) != 0).any(dim=1)
        self.scale[i] = torch.where(unmoved, (2 * self.scale[i]).clamp_max(MOST), self.scale[i])
        return torch.where(slope.isfinite(), slope, 0.0)

    def biased(self, x: Tensor, v: Tensor, share: Tensor, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """The estimated gradient [n,C,H,W], but for its length, from directions that lean towards `v`
        [n,C,H,W] by `share` [n]."""
        towards, around = (part.sqrt().view(-1, 1, 1, 1, 1) for part in (share, 1 - share))
        scale = self.scale[i].view(-1, 1, 1, 1, 1)

        def directions(rows: Tensor) -> Tensor:
            xi, prior = self.games.normal((BLOCK, *x.shape[1:]), i[rows]), v[rows].unsqueeze(1)
            dot = (xi * prior).sum(dim=-1).flatten(-2).sum(dim=-1)[..., None, None, None]
            return scale[rows] * (towards[rows] * prior + around[rows] * unit(xi - dot * prior))

        attack = self.attack
        return (
            yield from gradient(
                self.games, x, i, attack.directions, directions, self.radius, attack.loss, self.base[i]
            )
        )

    def measured(self, x: Tensor, u: Tensor, i: Tensor, purpose: str) -> Generator[Move, Answers, Tensor]:
        """The slopes [n,m] of the loss along unit directions `u` [n,m,C,H,W] from `x` [n,C,H,W]; not finite
        where an answer is missing, 0 where nothing of a probe is left."""
        m = u.shape[1]
        radius = (self.radius * self.scale[i]).view(-1, 1, 1, 1, 1)
        images = (x.unsqueeze(1) + radius * u).flatten(0, 1)
        images = self.games.project(images, i.repeat_interleave(m)).view_as(u)
        way = images - x.unsqueeze(1)
        far = torch.linalg.vector_norm(torch.linalg.vector_norm(way, dim=-1).flatten(-2), dim=-1)
        found = yield from losses(self.games, images, i, self.attack.loss, purpose)
        rise = found - self.base[i].unsqueeze(1)
        return torch.where(far > 0, rise / far, 0.0)
