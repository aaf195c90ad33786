"""PopSkipJump: HopSkipJump for noisy answers, with as many queries as the noise requires."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from agents.attackers.decision.hop_skip_jump import LEAST_DELTA, HopSkipJump
from agents.attackers.parts.claims import in_doubt, stand_by
from agents.attackers.parts.estimates import BLOCK
from agents.attackers.parts.searches import blend, blend_search, boundary_search, clip_to
from agents.attackers.parts.sigmoid_search import Sigmoids, alpha, sharp_alpha, sigmoid_search
from agents.attackers.parts.starts import find_start
from agents.attackers.parts.twins import plain
from arena.players import Answers, Games, Move, Play
from arena.rules.purposes import SEARCH

Locating = Generator[Move, Answers, None]


@dataclass(frozen=True)
class PopSkipJump(HopSkipJump):
    """PopSkipJump (Simon-Gabriel, Sheikh and Krause, ICML 2021), l2 and linf, untargeted and targeted.

    Under noise the boundary is found by `sigmoid_search`, the probes' radius is a cell of its grid, and their
    number is raised until their expected cosine with the normal is that of HopSkipJump without noise; steps
    are not tested. As in the authors' code, except: a game is played as HopSkipJump until the same image gets
    two different answers, so that nothing is lost without noise; the grid has fewer slopes and flip rates;
    and the attack claims images as far behind the boundary as a certainty of 98 % requires.

    Attributes:
        cells: T, of the path between x0 and the point stepped to (the authors: 100 on MNIST, 300 on
            CIFAR-10). Probes have delta = sqrt(d) / T (linf: d / T) of that path's length.
        repeats: how often a point found without noise is asked again; 0: noise is assumed from the beginning.
        max_raise: the largest factor by which noise may raise the number of probes. The slope is learnt along
            the path from x0, but along the normal it is steeper, most of all in the first iterations, which
            without a limit take the whole budget (the authors set none but `max_probes`, 50,000).
    """

    cells: int = 100
    repeats: int = 4
    max_raise: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cells < 10:
            raise ValueError(f"cells must be at least 10; found {self.cells}")
        if self.repeats < 0:
            raise ValueError(f"repeats must not be negative; found {self.repeats}")
        if not self.max_raise >= 1:
            raise ValueError(f"max_raise must be at least 1; found {self.max_raise}")
        if self.step_search != "geometric":
            raise ValueError(f'step_search must be "geometric"; found "{self.step_search}"')

    @property
    def twin(self) -> HopSkipJump:
        return plain(self, HopSkipJump)

    def play(self, games: Games) -> Play:
        walk = _Walk(self, games, (yield from find_start(games, self.init_draws, fallback=self.fallback)))
        yield from walk.approach()
        for t in count(1):
            yield from walk.locate()
            i = games.open
            if not len(i):
                return
            v = yield from walk.normal(i, t)
            yield from walk.step(v, i, t)


class _Walk:
    """The state of G games.

    Attributes:
        far: [G,C,H,W], the ends of the paths from x0 on which the boundaries are searched; x: the boundaries.
        noisy: [G] bool, an image got two different answers.
        more: [G] float64, the factor by which noise raises the number of probes.
        stood: [G], the distance of the image that the game claims.
    """

    def __init__(self, by: PopSkipJump, games: Games, far: Tensor) -> None:
        self.by, self.games, self.far, self.x = by, games, far, far.clone()
        self.d = far[0].numel()
        self.l2 = games.threat.norm == "l2"
        self.noisy = torch.full((len(far),), by.repeats == 0, device=far.device)
        self.more = torch.ones(len(far), dtype=torch.float64, device=far.device)
        self.stood = torch.full((len(far),), torch.inf, device=far.device)
        self.grid = Sigmoids(by.cells, far.device)

    @property
    def sharp(self) -> Tensor:
        """Index of the open games without noise so far."""
        return self.games.open[~self.noisy[self.games.open]]

    def approach(self) -> Locating:
        """Begin as HopSkipJump does: without noise, from the segment to x0."""
        i, near = self.sharp, self.far.clone()
        near[i] = yield from blend_search(self.games, self.far[i], i, 1e-3)
        yield from self.listen(near)
        i = self.sharp
        self.far[i] = near[i]
        yield from self.stand(near, i)

    def listen(self, x: Tensor) -> Locating:
        """Ask adversarial `x` [G,C,H,W] again: another answer means that there is noise."""
        for _ in range(self.by.repeats):
            i = self.sharp
            answers = yield from self.games.ask(x[i], i, SEARCH)
            self.noisy[i] = answers.answered & ~self.games.wrong(answers)

    def locate(self) -> Locating:
        """Find the boundaries between x0 and `far`, and claim points behind them."""
        games, before = self.games, self.noisy.clone()
        i = self.sharp
        self.x[i] = yield from boundary_search(games, self.far[i], i, self.by.theta(games))
        yield from self.listen(self.x)
        i = (self.noisy & ~before).nonzero().squeeze(1)
        self.far[i] = self.beyond(self.far[i], i)
        yield from self.stand(self.x, self.sharp)
        yield from self.locate_in_noise(games.open[self.noisy[games.open]])

    def beyond(self, far: Tensor, i: Tensor) -> Tensor:
        """Move half as far again from x0 in l2: noise may have called `far` [n,C,H,W] adversarial."""
        return (far + 0.5 * (far - self.games.x0[i])).clamp_(0, 1) if self.l2 else far.clamp(0, 1)

    def locate_in_noise(self, i: Tensor) -> Locating:
        games = self.games
        found = yield from sigmoid_search(games, i, lambda t, rows: self.path(t, i[rows]), self.grid)
        self.x[i] = self.path(found.t, i)
        spread = 1.0 if self.l2 else math.sqrt(self.d)
        noisy = alpha(found.slope * spread / self.by.cells, found.flips, self.offset)
        self.more[i] = (sharp_alpha(self.offset) / noisy).square().clamp_max(self.by.max_raise)
        sure = found.beyond.isfinite()
        behind = self.x.clone()
        behind[i[sure]] = self.path(found.beyond[sure], i[sure])
        yield from self.stand(behind, i[sure])

    def stand(self, x: Tensor, i: Tensor) -> Locating:
        """Claim `x` [G,C,H,W] in those of games `i` [n] that claimed nothing as near.

        Where answers are no facts all are weighed: the nearest before may have been luck.
        """
        distance = self.games.distance(x[i], i)
        nearer = ((distance < self.stood[i]) | in_doubt(self.games)) & self.games.state.open[i]
        self.stood[i[nearer]] = distance[nearer]
        yield from stand_by(self.games, x[i[nearer]], i[nearer])

    @property
    def offset(self) -> float:
        """The distance of the probes' centre from the boundary, in their standard deviations along the
        normal.

        Without noise that of HopSkipJump's theta relative to its delta, under noise that of a cell relative
        to delta.
        """
        return 1.0 if self.l2 else 1 / math.sqrt(self.d)

    def path(self, t: Tensor, i: Tensor) -> Tensor:
        """The images [n,C,H,W] at places t [n] of the paths of games `i` [n]."""
        x0, far = self.games.x0[i], self.far[i]
        if self.l2:
            return blend(x0, far, t)
        return clip_to(x0, far, t * self.games.distance(far, i).double())

    def normal(self, i: Tensor, t: int) -> Generator[Move, Answers, Tensor]:
        """The direction [n,C,H,W] to step in at iteration t."""
        by, games, noisy = self.by, self.games, self.noisy[i]
        length = games.distance(self.far[i], i)
        cell = (math.sqrt(self.d) if self.l2 else self.d) / by.cells * length
        delta = torch.where(noisy, cell.clamp_min(LEAST_DELTA), by.radius(games, length, t, i))
        probes = by.initial_probes * math.sqrt(t) * torch.where(noisy, self.more[i], 1.0)
        blocks = probes.clamp_max(by.max_probes).div(BLOCK).ceil().long()
        v = (yield from by.estimate(games, self.x[i], i, delta, blocks * BLOCK)).normal()
        return v if self.l2 else v.sign()

    def step(self, v: Tensor, i: Tensor, t: int) -> Locating:
        """Set `far`: from x along v, D / sqrt(t); without noise halved until that is adversarial."""
        games, noisy = self.games, self.noisy[i]
        xi = games.distance(self.x[i], i) / math.sqrt(t)
        far = self.beyond(self.x[i] + xi.view(-1, 1, 1, 1) * v, i)
        sharp = (~noisy).nonzero().squeeze(1)
        far[sharp] = yield from self.by.step(games, self.x[i[sharp]], v[sharp], i[sharp], t)
        self.far[i] = far
