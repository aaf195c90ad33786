"""oars-hop-skip-jump: HopSkipJump that keeps out of sight of a defender with a memory."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.decision.hop_skip_jump import HALVINGS, HopSkipJump, Moving
from agents.attackers.parts.adaptation import Adaptation
from agents.attackers.parts.estimates import Estimate, unit
from agents.attackers.parts.refusals import with_echoes
from agents.attackers.parts.resampling import resampled_estimate
from agents.attackers.parts.searches import Deciding, Searching, blend_search, boundary_search, decide
from agents.attackers.parts.starts import Starting, find_start
from agents.attackers.parts.twins import plain
from agents.parameters import check_bracket, check_parameters, check_within
from arena.players import Answers, Games, Move, Play
from arena.rules.purposes import STEP

CIFAR_PIXELS = 3072
RADII = (1.0, 2.0)
"""The bracket of the probes' radius, in l2, on images of `CIFAR_PIXELS` values."""
_RADIUS = "oars-radius"


@dataclass(frozen=True)
class OarsHopSkipJump(HopSkipJump):
    """OARS around HopSkipJump (Feng et al., CCS 2023; the settings of the authors' code against Blacklight).

    Adapt: before the first iteration it finds the smallest radius of probes around x0 of which at most a
    share `rate` is refused, and keeps to it. Resample: probes that are refused are dropped and others drawn,
    in up to `rounds` rounds; the estimate is made of what was answered. A refused step is not taken: the next
    iteration estimates anew and tries again, as often as the budget allows (the authors' gives up after 5). A
    search ends where it is refused, at the last point that was not.

    A service that recognises a query and does not say so is seen through by echoes of earlier scores
    (`parts.refusals`); with labels alone there are none, and the radius becomes the least. Repeats of what it
    stands by would be refused: the threat should say `trust_answers`.

    Attributes:
        least_radius, most_radius: in l2; None: 1 and 2 at CIFAR's size, per value as much on other images
            (the authors' at 224 pixels: 1.5 and 5).
        rate, adapt_steps, adapt_probes: the share of refusals that passes, how often the bracket is halved,
            and how many probes judge each half.
        rounds: of drawing directions.
    """

    least_radius: float | None = None
    most_radius: float | None = None
    rate: float = 0.05
    adapt_steps: int = 10
    adapt_probes: int = 20
    rounds: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_search != "geometric":
            raise ValueError(f'step_search must be "geometric" under OARS; found "{self.step_search}"')
        check_parameters(
            self,
            positive=("least_radius", "most_radius"),
            counts=("adapt_steps", "adapt_probes", "rounds"),
        )
        check_bracket(self, "least_radius", "most_radius")
        check_within(self, 0, 1, "rate")

    @property
    def twin(self) -> HopSkipJump:
        return plain(self, HopSkipJump)

    def play(self, games: Games) -> Play:
        yield from with_echoes(games, self.attack(games))

    def attack(self, games: Games) -> Play:
        x = yield from self.begin(games)
        yield from self.adapt(games)
        yield from self.walk(games, x)

    def begin(self, games: Games) -> Starting:
        x = yield from find_start(games, self.init_draws, fallback=self.fallback)
        if not games.threat.targeted:
            i = games.open
            x[i] = yield from blend_search(games, x[i], i, 1e-3, until_refused=True)
        return x

    def adapt(self, games: Games) -> Play:
        """Find each game's radius, which is kept at the seat."""
        i, d = games.open, games.x0[0].numel()
        low, high = (
            given or bound * math.sqrt(d / CIFAR_PIXELS)
            for given, bound in zip((self.least_radius, self.most_radius), RADII, strict=True)
        )

        def images(size: Tensor, rows: Tensor) -> Tensor:
            u = unit(games.normal((self.adapt_probes, *games.x0.shape[1:]), i[rows]))
            return (games.x0[i[rows]].unsqueeze(1) + size.float().view(-1, 1, 1, 1, 1) * u).clamp_(0, 1)

        by = Adaptation(self.rate, self.adapt_steps, self.adapt_probes)
        radius = torch.ones_like(games.x0[:, 0, 0, 0])
        radius[i] = (yield from by.smallest(games, i, low, high, images)).float()
        games.kept[_RADIUS] = radius
        yield from games.note("adapted radius", radius[i], i)

    def radius(self, games: Games, far: Tensor, t: int, i: Tensor) -> Tensor:
        radius: Tensor = games.kept[_RADIUS][i]
        return radius

    def estimate(
        self, games: Games, x: Tensor, i: Tensor, delta: Tensor, probes: int | Tensor
    ) -> Generator[Move, Answers, Estimate]:
        """Probes as HopSkipJump's, those that are refused drawn anew."""
        draw = self.probes(games, x, i, delta)
        return (yield from resampled_estimate(games, i, probes, draw, self.rounds))

    def search(self, games: Games, x: Tensor, i: Tensor) -> Searching:
        return (yield from boundary_search(games, x, i, self.theta(games), until_refused=True))

    def advance(self, games: Games, x: Tensor, v: Tensor, i: Tensor, t: int) -> Moving:
        stepped, moved = yield from self.try_step(games, x, v, i, t)
        far, rows = games.distance(stepped, i), moved.nonzero().squeeze(1)
        stepped[rows] = yield from self.search(games, stepped[rows], i[rows])
        return stepped, far

    def try_step(self, games: Games, x: Tensor, v: Tensor, i: Tensor, t: int) -> Deciding:
        """The points stepped to [n,C,H,W], `x` where none was adversarial before one was refused; and whether
        a step was taken [n]."""
        xi = games.distance(x, i) / math.sqrt(t)
        stepped, moved = x.clone(), torch.zeros_like(i, dtype=torch.bool)
        rows = torch.arange(len(i), device=x.device)
        for _ in range(HALVINGS):
            candidate = (x[rows] + xi[rows].view(-1, 1, 1, 1) * v[rows]).clamp_(0, 1)
            fooled, refused = yield from decide(games, candidate, i[rows], STEP)
            stepped[rows[fooled]], moved[rows[fooled]] = candidate[fooled], True
            xi[rows] /= 2
            rows = rows[~fooled & ~refused & games.state.open[i[rows]]]
            if not len(rows):
                break
        return stepped, moved
