"""OPT: descend on the distance g(theta) to the boundary by finite differences, each a search of its own."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.directions import Descent, Directions, find_direction, normed
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play
from arena.rules.purposes import GRADIENT

RETRIES = 500
"""Further directions tried in l2, untargeted, where none of the first was adversarial."""


@dataclass(frozen=True)
class Opt(Attacker):
    """OPT (Cheng et al., ICLR 2019): randomised gradient-free descent, l2 and linf.

    As in the Sign-OPT authors' code, except that in linf it goes on where theirs stops, after an iteration
    that gains less than 0.005, and that targeted it minimises g as elsewhere, where theirs minimises
    sum max(|lambda theta| - 0.15, 0)^2.

    Attributes:
        directions: q, directions u of an estimate; None: the authors', 10, in linf 5 (targeted 20).
        alpha: the first step size; it adapts.
        beta: the probes' radius, and 500 times the width to which g is known; a tenth whenever steps have
            become minute. None: the authors', 1e-3, in linf 1e-2.
        init_draws: how many directions of noise (targeted: images of the target's class) are tried to start
            from the best. None: the authors', 100, in linf 10.
        fallback: where no noise will do, start towards an image granted (`find_direction`).
    """

    directions: int | None = None
    alpha: float = 0.2
    beta: float | None = None
    init_draws: int | None = None
    fallback: bool = False

    def __post_init__(self) -> None:
        check_parameters(self, positive=("alpha", "beta"), counts=("directions", "init_draws"))

    @property
    def needs(self) -> Needs:
        return Needs(starts="targeted")

    def play(self, games: Games) -> Play:
        linf = games.threat.norm == "linf"
        draws, retries = self.init_draws or (10 if linf else 100), 0 if linf else RETRIES
        best = yield from find_direction(games, draws, retries=retries, fallback=self.fallback)
        beta, least_beta = self.beta or (1e-2 if linf else 1e-3), 5e-5 if linf else 1e-8
        descent = Descent.start(games, best, self.alpha, beta, least_beta)
        while len(i := games.open):
            yield from stand_by(games, descent.image(i), i)
            i = games.open
            gradient, probe = yield from estimate(descent, i, self.count(games))
            yield from descent.line_search(gradient, i)
            best.take(probe.theta, probe.g, i)
            yield from descent.refine(i)

    def count(self, games: Games) -> int:
        """q."""
        return self.directions or default_count(games)


def default_count(games: Games) -> int:
    """The authors' q."""
    if games.threat.norm == "l2":
        return 10
    return 20 if games.threat.targeted else 5


def estimate(
    descent: Descent, i: Tensor, count: int, *, signs: bool = False
) -> Generator[Move, Answers, tuple[Tensor, Directions]]:
    """The estimate [n,C,H,W] of the gradient of g in games `i` [n], and the nearest of its `count` probes.

    The mean of (g(theta') - g(theta)) / beta u over the probes that found the boundary; with `signs`, the
    mean of the signs of these terms.
    """
    gradient = torch.zeros_like(descent.games.x0[i])
    nearest = Directions(gradient.clone(), torch.full_like(descent.best.g[i], torch.inf))
    for rows in descent.shares(i, count):
        gradient[rows] = yield from differences(descent, i[rows], count, signs, nearest, rows)
    return gradient, nearest


def differences(
    descent: Descent, i: Tensor, count: int, signs: bool, nearest: Directions, rows: Tensor
) -> Generator[Move, Answers, Tensor]:
    """`estimate` where a volley has room for all probes; the nearest go into `nearest` at `rows` [n]."""
    games, each = descent.games, i.repeat_interleave(count)
    u, _ = normed(games.normal((count, *games.x0.shape[1:]), i), games.threat.norm)
    theta, start = descent.near(u, i), descent.best.g[i].unsqueeze(1)
    g = yield from descent.evaluate(theta.flatten(0, 1), descent.best.g[each], each, GRADIENT)
    g = g.view(len(i), count)
    found = g.isfinite()
    slope = (g - start).sign() if signs else (g - start) / descent.beta[i].unsqueeze(1)
    slope = torch.where(found, slope, 0.0)
    slope = (slope / found.sum(dim=1, keepdim=True).clamp_min(1)).float()
    gradient = torch.zeros_like(u[:, 0])
    for k in range(count):
        gradient.addcmul_(slope[:, k].view(-1, 1, 1, 1), u[:, k].sign() if signs else u[:, k])
        nearest.take(theta[:, k], g[:, k], rows)
    return gradient
