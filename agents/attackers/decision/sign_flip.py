"""Sign Flip Attack: shrink the perturbation with random signs added, and flip a few of its signs."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.searches import Searching, bisect, blend, clip_to
from agents.attackers.parts.starts import find_start
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play
from arena.rules.geometry import distance
from arena.rules.purposes import CANDIDATE

PERIOD = 10
"""Iterations after which the step and the probability of keeping a sign adapt."""
RATES = (0.3, 0.7)
"""Below the first share of successes in a period a step shrinks, above the second it grows."""
GROWTH = 1.5
"""The factor by which alpha grows and shrinks."""
KEEP_STEP = 1e-3
"""The amount by which the probability of keeping a sign falls and rises."""
KEEP = (0.99, 0.9999)
"""Its limits."""
LEARNT = 1e-4
"""The amount by which it moves in each cell of a successful flip: down if kept, up if flipped."""


@dataclass(frozen=True)
class SignFlip(Attacker):
    """Sign Flip Attack (Chen, Zhang, Hu and Wu, ECCV 2020), linf and l2, untargeted and targeted.

    As in the authors' code, except that alpha stays below half the radius (beyond the whole theirs
    collapses), that a sign averaged to 0 by upsampling is kept (theirs erases the pixel), and that the attack
    continues inside the ball. Theirs is linf only. PredCoin reports l2 without saying how: our reading keeps
    the flips, which change no l2 length, and scales to a shorter length instead of clipping to a smaller
    radius.

    Attributes:
        alpha: at first, how much is added to or subtracted from each pixel, and by how much the radius
            shrinks.
        shrink_l2: at first, the share by which the length shrinks in l2; it adapts as alpha does.
        keep: at first, the probability of keeping a sign.
        factor: signs are drawn for cells of so many pixels a side, and blended linearly in between.
        searches: halvings of the first search, towards x0.
        init_draws: how often noise is drawn to start from.
        fallback: if no noise is adversarial, start from an image granted (`find_start`).
    """

    alpha: float = 0.004
    shrink_l2: float = 0.01
    keep: float = 0.999
    factor: int = 1
    searches: int = 10
    init_draws: int = 10_000
    fallback: bool = False

    def __post_init__(self) -> None:
        check_parameters(self, positive=("alpha",), counts=("factor", "searches", "init_draws"))
        if not 0 < self.shrink_l2 < 1:
            raise ValueError(f"shrink_l2 must be above 0 and below 1; found {self.shrink_l2}")
        if not KEEP[0] <= self.keep <= KEEP[1]:
            raise ValueError(f"keep must be from {KEEP[0]} to {KEEP[1]}; found {self.keep}")

    @property
    def needs(self) -> Needs:
        return Needs(starts="targeted")

    def play(self, games: Games) -> Play:
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        i = games.open
        x[i] = yield from self.shrink(games, x[i], i)
        yield from stand_by(games, x[i], i)
        walk = SignFlipWalk(self, games, x)
        for t in count(1):
            if not len(i := games.open):
                return
            u = games.uniform((2, *walk.keep.shape[1:]), i)
            alpha = walk.step(i)
            yield from walk.test(i, walk.project(i, u[:, 0], alpha), 0)
            kept = torch.where(u[:, 1] < walk.keep[i], 1.0, -1.0)
            fooled = yield from walk.test(i, walk.flip(i, kept), 1)
            walk.learn(i[fooled], kept[fooled])
            if t % PERIOD == 0:
                walk.adapt(i)

    def shrink(self, games: Games, x: Tensor, i: Tensor) -> Searching:
        """From adversarial `x` [n,C,H,W] to the boundary: the radius to clip to (linf), the blend (l2)."""
        x0 = games.x0[i]
        linf = games.threat.norm == "linf"
        path = clip_to if linf else blend
        far = games.distance(x, i).double() if linf else x.new_ones(len(i), dtype=torch.float64)
        t = yield from bisect(
            games,
            i,
            lambda t, rows: path(x0[rows], x[rows], t),
            torch.zeros_like(far),
            far,
            width=0.0,
            steps=self.searches,
        )
        return torch.where((t < far).view(-1, 1, 1, 1), path(x0, x, t), x)


class SignFlipWalk:
    """The state of the games, and their two steps.

    Attributes:
        delta: [G,C,H,W], the perturbation, not clipped to the box.
        alpha: [G] float64.
        shrink: the share by which a perturbation's length shrinks in l2, divided by alpha.
        keep: [G,C,h,w], the probability of keeping the sign of each cell.
        successes: [2,G], projections and flips that succeeded in the period.
    """

    def __init__(self, attacker: SignFlip, games: Games, x: Tensor) -> None:
        self.games, self.linf = games, games.threat.norm == "linf"
        self.delta = x - games.x0
        self.alpha = torch.full((len(x),), attacker.alpha, dtype=torch.float64, device=x.device)
        self.shrink = attacker.shrink_l2 / attacker.alpha
        cells = [max(1, side // attacker.factor) for side in x.shape[2:]]
        self.keep = x.new_full((*x.shape[:2], *cells), attacker.keep)
        self.successes = x.new_zeros(2, len(x))

    def step(self, i: Tensor) -> Tensor:
        """alpha [n] of games `i` [n], such that no more than half the radius or the length is lost."""
        most = self.length(self.delta[i]) / 2 if self.linf else 0.5 / self.shrink
        self.alpha[i] = self.alpha[i].clamp_max(most)
        return self.alpha[i]

    def length(self, delta: Tensor) -> Tensor:
        """[n] float64, in the threat's norm."""
        return distance(delta, torch.zeros_like(delta), self.games.threat.norm).double()

    def project(self, i: Tensor, u: Tensor, alpha: Tensor) -> Tensor:
        """The perturbations [n,C,H,W] of radius r or length L plus random signs s, made smaller.

        linf: Clip(delta + alpha s, -(r - alpha), r - alpha). l2: delta + alpha s, scaled to length L - a,
        a = shrink alpha L.
        """
        delta, signs = self.delta[i], self.upsample(torch.where(u < 0.5, 1.0, -1.0))
        size = self.length(delta)
        moved = delta + _rows(alpha) * signs
        if self.linf:
            less = _rows(size - alpha)
            return moved.clamp(-less, less).float()
        return (moved * _rows(size * (1 - self.shrink * alpha) / self.length(moved).clamp_min(1e-12))).float()

    def flip(self, i: Tensor, kept: Tensor) -> Tensor:
        """The perturbations [n,C,H,W] with the signs turned where `kept` [n,C,h,w], upsampled, is below 0."""
        return torch.where(self.upsample(kept) < 0, -self.delta[i], self.delta[i])

    def upsample(self, cells: Tensor) -> Tensor:
        size = self.delta.shape[2:]
        if cells.shape[2:] == size:
            return cells
        return interpolate(cells, size=list(size), mode="bilinear", align_corners=False)

    def test(self, i: Tensor, delta: Tensor, which: int) -> Generator[Move, Answers, Tensor]:
        """Ask the perturbations `delta` [n,C,H,W] and keep the adversarial ones: [n] bool."""
        x = self.image(i, delta)
        fooled = yield from self.games.fools(x, i, CANDIDATE)
        self.delta[i[fooled]] = delta[fooled]
        self.successes[which, i[fooled]] += 1
        yield from stand_by(self.games, x[fooled], i[fooled])
        return fooled

    def image(self, i: Tensor, delta: Tensor) -> Tensor:
        """The images [n,C,H,W] of games `i` [n] with perturbations `delta` [n,C,H,W], clipped to the box."""
        return (self.games.x0[i] + delta).clamp_(0, 1)

    def learn(self, i: Tensor, kept: Tensor) -> None:
        """After a successful flip in games `i` [n]: cells that were turned are less likely to turn back."""
        self.keep[i] = (self.keep[i] - LEARNT * kept).clamp_(*KEEP)

    def adapt(self, i: Tensor) -> None:
        """Enlarge the steps of games `i` [n] that often succeed, and shrink those that seldom do."""
        projections, flips = self.successes[:, i] / PERIOD
        low, high = RATES
        self.alpha[i] *= GROWTH ** ((projections > high).double() - (projections < low).double())
        change = KEEP_STEP * ((flips > high).float() - (flips < low).float())
        self.keep[i] = (self.keep[i] - _rows(change)).clamp_(*KEEP)
        self.successes[:, i] = 0


def _rows(value: Tensor) -> Tensor:
    """[n] as [n,1,1,1]."""
    return value.view(-1, 1, 1, 1)
