"""Guessing Smart: the walk along the boundary, biased to smooth steps where image and start differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.perlin import DIRECTIONS, Perlin
from agents.attackers.parts.searches import Searching, gap_search
from agents.attackers.parts.starts import find_start, given_start, missing, nearest_start
from agents.attackers.parts.walks import TINY, around, length, orthogonal, towards
from agents.parameters import check_parameters
from arena.players import Attacker, Games, Needs, Play
from arena.rules.purposes import CANDIDATE

IMAGES = 10
"""How many granted images it needs, to start from the nearest."""
LARGEST = 1.3
"""The scale of a round's first steps; the scale of the last is just above .3."""


@dataclass(frozen=True)
class GuessingSmart(Attacker):
    """Guessing Smart, the Biased Boundary Attack (Brunner et al., ICCV 2019) without a surrogate; l_2.

    From a point at distance D from x0, rounds of up to 50 candidates: a step along the sphere in a direction
    of Perlin noise, weighted by the square root of the difference to x0 pixel by pixel, then one inwards. The
    first candidate that is adversarial and nearer ends the round. Steps shrink within a round from 1.3 to .3
    times their size and do not adapt otherwise; the last round has as many candidates as queries are left, so
    that a longer run cut short is another attack. The authors send 8-bit images: set the threat's
    `quantisation`.

    Attributes:
        spherical_step: sigma, the step along the sphere relative to D (the authors' on ImageNet).
        source_step: epsilon, the step inwards relative to D.
        candidates: the most candidates in a round.
        frequency: cells of the noise along the longer side of an image; None: the authors' values, 5 at 64
            and 20 at 299 pixels, a power of the side between and above, and 5 below.
        start: `nearest`: the nearest image granted whose label wins, as in the authors' targeted attack
            (untargeted: our reading); `noise`: as in the Boundary Attack, for threats that grant no images.
        start_gap: the width, in l_2, to which the boundary is located at the start.
        init_draws: how often noise is drawn to start from.
    """

    spherical_step: float = 0.05
    source_step: float = 0.002
    candidates: int = 50
    frequency: float | None = None
    start: Literal["nearest", "noise"] = "nearest"
    start_gap: float = 0.5
    init_draws: int = 1000

    def __post_init__(self) -> None:
        lengths = ("spherical_step", "source_step", "frequency", "start_gap")
        check_parameters(self, positive=lengths, counts=("candidates", "init_draws"))
        if self.source_step * LARGEST >= 1:
            raise ValueError(f"source_step must be below {1 / LARGEST:.2f}; found {self.source_step}")

    @property
    def needs(self) -> Needs:
        if self.start == "nearest":
            return Needs(norms=("l2",), images=IMAGES, prefix=False)
        return Needs(norms=("l2",), starts="targeted", prefix=False)

    def play(self, games: Games) -> Play:
        x = yield from self.begin(games)
        i = games.open
        x[i] = yield from gap_search(games, x[i], i, self.start_gap)
        yield from stand_by(games, x[i], i)
        yield from self.walk(games, x)

    def begin(self, games: Games) -> Searching:
        """Adversarial images [G,C,H,W]; games without one are resigned as `no-start`."""
        if self.start == "noise":
            return (yield from find_start(games, self.init_draws))
        x, found = games.x0.clone(), torch.zeros_like(games.state.open)
        yield from nearest_start(games, x, found)
        yield from given_start(games, x, found)
        yield from games.resign(missing(games, found), "no-start")
        return x

    def walk(self, games: Games, x: Tensor) -> Play:
        """From adversarial images `x` [G,C,H,W], changed in place, until all games have closed."""
        noise = Perlin(games.x0.shape[1:], self.cell(games), x.device)
        distance = length(x - games.x0)
        tried = torch.zeros_like(games.left)
        count = tried.clone()
        while len(i := games.open):
            count[i] = torch.where(tried[i] == 0, games.left[i].clamp(1, self.candidates), count[i])
            scale = LARGEST - tried[i].double() / count[i]
            drawn = games.integers(DIRECTIONS, noise.shape, i)
            candidate = self.propose(games.x0[i], x[i], distance[i], noise(drawn), scale)
            fooled = yield from games.fools(candidate, i, CANDIDATE)
            far = length(candidate - games.x0[i])
            nearer = fooled & (far < distance[i])
            tried[i] = torch.where(nearer, 0, (tried[i] + 1) % count[i])
            rows = nearer.nonzero().squeeze(1)
            x[i[rows]], distance[i[rows]] = candidate[rows], far[rows]
            yield from stand_by(games, candidate[rows], i[rows])

    def cell(self, games: Games) -> float:
        """The side of a cell of the noise in pixels."""
        side = max(games.x0.shape[2:])
        return side / (self.frequency or 5 * max(1, side / 64) ** 0.9)

    def propose(self, x0: Tensor, x: Tensor, distance: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
        """Candidates [n,C,H,W] from points `x` at `distance` [n] from x0, from noise [n,C,H,W], at a scale
        [n].

        Along the sphere by sigma D; back to distance D, which clipping may have changed; inwards by epsilon
        D.
        """
        delta = x - x0
        # Without the authors' division of |delta| by its largest value, which the normalisation undoes.
        direction = orthogonal(noise, delta, distance) * delta.abs().sqrt()
        z = around(x0, delta, direction, self.spherical_step * scale, distance)
        kept = (1 - self.source_step * scale) * distance / length(z - x0).clamp_min(TINY)
        return towards(x0, z, 1 - kept)
