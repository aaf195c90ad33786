"""PopSkipJump: HopSkipJump that knows that answers are noise, and asks as often as that takes."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from agents.attackers.decision.hop_skip_jump import LEAST_DELTA, HopSkipJump
from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.estimates import BLOCK
from agents.attackers.parts.searches import blend, blend_search, boundary_search, clip_to
from agents.attackers.parts.sigmoid_search import Sigmoids, alpha, sharp_alpha, sigmoid_search
from agents.attackers.parts.starts import find_start
from arena.players import Answers, Games, Move, Play
from arena.rules.purposes import SEARCH

Locating = Generator[Move, Answers, None]


@dataclass(frozen=True)
class PopSkipJump(HopSkipJump):
    """PopSkipJump (Simon-Gabriel, Sheikh and Krause, ICML 2021), l2 and linf, untargeted and targeted.

    Under noise the boundary is found by `sigmoid_search`, the probes reach as far as a cell of its grid, and
    their number is raised until their expected cosine with the normal is HopSkipJump's without noise; steps
    are not tested. As in the authors' code, except: a game is played as HopSkipJump would until the same
    image is answered in two ways, so that nothing is lost where there is no noise; the slopes and flip rates
    of the grid are fewer; and it stands by images as far behind the boundary as it takes to be sure of 98 %.

    Attributes:
        cells: T, of the path between x0 and the point stepped to (the authors: 100 on MNIST, 300 on
            CIFAR-10). Probes have delta = sqrt(d) / T (linf: d / T) of that path's length.
        repeats: how often a point found without noise is asked again; 0: there is noise from the beginning.
        max_raise: by how much noise may raise the number of probes at most. What is learnt is the slope along
            the path from x0, that along the normal is steeper: most of all in the first iterations, which
            else take the whole budget (the authors set no limit but `max_probes`, 50,000).
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
    """Where G games stand.

    Attributes:
        far: [G,C,H,W], the ends of the paths from x0 that the boundaries are sought on; x: the boundaries.
        noisy: [G] bool, an image was answered in two ways.
        more: [G] float64, by how much noise raises the number of probes.
        stood: [G], the distance of the image that the game stands by.
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
        """Begin as HopSkipJump does: without noise, from the straight way to x0."""
        i, near = self.sharp, self.far.clone()
        near[i] = yield from blend_search(self.games, self.far[i], i, 1e-3)
        yield from self.listen(near)
        i = self.sharp
        self.far[i] = near[i]
        yield from self.stand(near, i)

    def listen(self, x: Tensor) -> Locating:
        """Ask adversarial `x` [G,C,H,W] again: where one is answered otherwise, there is noise."""
        for _ in range(self.by.repeats):
            i = self.sharp
            answers = yield from self.games.ask(x[i], i, SEARCH)
            self.noisy[i] = answers.answered & ~self.games.wrong(answers)

    def locate(self) -> Locating:
        """Find the boundaries between x0 and `far`, and stand by points behind them."""
        games, before = self.games, self.noisy.clone()
        i = self.sharp
        self.x[i] = yield from boundary_search(games, self.far[i], i, self.by.theta(games))
        yield from self.listen(self.x)
        i = (self.noisy & ~before).nonzero().squeeze(1)
        self.far[i] = self.beyond(self.far[i], i)
        yield from self.stand(self.x, self.sharp)
        yield from self.locate_in_noise(games.open[self.noisy[games.open]])

    def beyond(self, far: Tensor, i: Tensor) -> Tensor:
        """Half as far again from x0 in l2: noise may have called `far` [n,C,H,W] adversarial."""
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
        """Stand by `x` [G,C,H,W] in those of games `i` [n] that stood by nothing as near."""
        distance = self.games.distance(x[i], i)
        nearer = (distance < self.stood[i]) & self.games.state.open[i]
        self.stood[i[nearer]] = distance[nearer]
        yield from stand_by(self.games, x[i[nearer]], i[nearer])

    @property
    def offset(self) -> float:
        """How far from the boundary probes are centred, in standard deviations of theirs along the normal.

        That of HopSkipJump's theta from its delta, and of a cell from delta under noise.
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
        delta = torch.where(noisy, cell.clamp_min(LEAST_DELTA), by.radius(games, length, t))
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
