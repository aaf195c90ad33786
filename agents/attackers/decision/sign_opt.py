"""Sign-OPT: descend on the distance g(theta) to the boundary by the signs of its directional derivatives."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from torch import Tensor

from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.directions import Descent, find_direction, normed
from agents.attackers.parts.estimates import BLOCK, estimate
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play


@dataclass(frozen=True)
class SignOpt(Attacker):
    """Sign-OPT (Cheng et al., ICLR 2020), l2 and linf, untargeted and targeted; algorithm 1.

    As in the authors' code. Whether x0 + g(theta) theta' is adversarial, for theta' = theta + beta u of unit
    length, tells in one query whether g falls towards u (eq. 3). A game whose beta falls below 1e-8 has
    converged and is resigned.

    Attributes:
        probes: Q, directions u of an estimate; None: the authors', 200.
        alpha: the first step size; it adapts.
        beta: the probes' radius, and 500 times the width to which g is known; a tenth whenever steps have
            become minute.
        init_draws: how many directions of noise (targeted: images of the target's class) are tried to start
            from the best.
        fallback: where no noise will do, start towards an image granted (`find_direction`).
    """

    probes: int | None = None
    alpha: float = 0.2
    beta: float = 1e-3
    init_draws: int = 100
    fallback: bool = False

    def __post_init__(self) -> None:
        check_parameters(self, positive=("alpha", "beta"), counts=("probes", "init_draws"))

    @property
    def needs(self) -> Needs:
        return Needs(starts="targeted")

    def play(self, games: Games) -> Play:
        best = yield from find_direction(games, self.init_draws, fallback=self.fallback)
        descent = Descent.start(games, best, self.alpha, self.beta)
        while len(i := games.open):
            yield from stand_by(games, descent.image(i), i)
            i = games.open
            gradient = yield from self.gradient(descent, i)
            yield from descent.line_search(gradient, i)
            yield from descent.refine(i)

    def gradient(self, descent: Descent, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """The estimate [n,C,H,W] of the gradient of g in games `i` [n]: the mean of sign(g(theta') - g) u."""
        games = descent.games

        def draw(rows: Tensor) -> tuple[Tensor, Tensor]:
            u = self.directions(games, BLOCK, i[rows])
            return descent.probes(u, i[rows]), self.summand(u)

        sums = yield from estimate(games, i, self.count(games), draw)
        return sums.phi_u.neg_().div_(sums.count.clamp_min(1).view(-1, 1, 1, 1))

    def count(self, games: Games) -> int:
        """Q."""
        return self.probes or 200

    def directions(self, games: Games, count: int, i: Tensor) -> Tensor:
        """Random directions u [n,count,C,H,W] of unit length in the threat's norm, for games `i` [n]."""
        return normed(games.normal((count, *games.x0.shape[1:]), i), games.threat.norm)[0]

    def summand(self, u: Tensor) -> Tensor:
        """What of directions `u` is summed with their signs."""
        return u
