"""oars-nes: NES that keeps out of sight of a defender with a memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.adaptation import Adaptation
from agents.attackers.parts.claims import inside_ball
from agents.attackers.parts.estimates import BLOCK, unit
from agents.attackers.parts.finite_differences import keep_hits, step
from agents.attackers.parts.refusals import with_echoes
from agents.attackers.parts.resampling import resampled_gradient
from agents.attackers.parts.searches import Searching
from agents.attackers.parts.twins import plain
from agents.attackers.score.nes import NES
from agents.parameters import check_bracket, check_parameters, check_within
from arena.players import Asking, Games, Play
from arena.rules.purposes import STEP


@dataclass(frozen=True)
class OarsNES(NES):
    """OARS around NES (Feng et al., CCS 2023; the settings of the authors' code against Blacklight).

    Adapt: around x0 it finds the smallest standard deviation of noise, and the smallest step along random
    signs, of which at most a share `rate` is refused; probes are N(0, sigma^2) per value, may lie outside the
    ball, and a step is `eta` at least. Resample: a pair of probes of which one is refused is dropped and
    another drawn, in up to `rounds` rounds; the gradient is the mean over what was answered. Each iterate is
    asked, and where it is refused not moved to: the next one is estimated anew from the same point. The
    authors' momentum and shrinking steps are left out, as in `nes`.

    A service that recognises a query and does not say so is seen through by echoes of earlier scores
    (`parts.refusals`).

    Attributes:
        sigma, noise: not used: sigma is adapted, and the noise is that per pixel.
        ask_iterate: True; without asking it, nothing tells that an iterate is refused.
        least_sigma, most_sigma: the bracket of sigma, per value.
        least_step, most_step: the bracket of the smallest step per value; in l2 times sqrt(d).
        rate, adapt_steps, adapt_probes: the share of refusals that passes, how often a bracket is halved, and
            how many probes judge each half.
        rounds: of drawing directions.
    """

    ask_iterate: bool = True
    least_sigma: float = 0.05
    most_sigma: float = 0.5
    least_step: float = 5e-5
    most_step: float = 0.1
    rate: float = 0.05
    adapt_steps: int = 10
    adapt_probes: int = 20
    rounds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.ask_iterate:
            raise ValueError("ask_iterate must be True under OARS; found False")
        check_parameters(
            self,
            positive=("least_sigma", "most_sigma", "least_step", "most_step"),
            counts=("adapt_steps", "adapt_probes", "rounds"),
        )
        check_bracket(self, "least_sigma", "most_sigma")
        check_bracket(self, "least_step", "most_step")
        check_within(self, 0, 1, "rate")

    @property
    def twin(self) -> NES:
        return plain(self, NES)

    def play(self, games: Games) -> Play:
        yield from with_echoes(games, self.attack(games))

    def attack(self, games: Games) -> Play:
        linf, shape = games.threat.norm == "linf", games.x0.shape[1:]
        pairs, length = self.pairs or (20 if linf else 4), math.sqrt(shape.numel())

        def noise(rows: Tensor) -> Tensor:
            return games.normal((self.adapt_probes, *shape), rows)

        def way(rows: Tensor) -> Tensor:
            return noise(rows).sign() if linf else length * unit(noise(rows))

        sigma = yield from self.adapt(games, "adapted sigma", self.least_sigma, self.most_sigma, noise)
        least = yield from self.adapt(games, "adapted step", self.least_step, self.most_step, way)
        eta = (least if linf else length * least).clamp_min(self.eta or (2 / 255 if linf else 64 / 255))
        x = games.x0.clone()
        while len(i := games.open):

            def directions(rows: Tensor, i: Tensor = i) -> Tensor:
                return games.normal((BLOCK, *shape), i[rows])

            radius = sigma[i]
            g = yield from resampled_gradient(
                games, x[i], i, pairs, directions, radius, self.loss, self.rounds
            )
            yield from self.move(games, x, step(games, x[i], g, i, eta[i].float()), i)

    def adapt(
        self, games: Games, name: str, low: float, high: float, way: Callable[[Tensor], Tensor]
    ) -> Searching:
        """The smallest size [G] float64 that passes: of steps from x0 along ways [k,P,C,H,W] drawn by `way`
        for games [k]."""
        i = games.open

        def images(size: Tensor, rows: Tensor) -> Tensor:
            far = size.float().view(-1, 1, 1, 1, 1) * way(i[rows])
            return (games.x0[i[rows]].unsqueeze(1) + far).clamp_(0, 1)

        by = Adaptation(self.rate, self.adapt_steps, self.adapt_probes)
        found = torch.full((len(games),), high, dtype=torch.float64, device=games.x0.device)
        found[i] = yield from by.smallest(games, i, low, high, images)
        yield from games.note(name, found[i], i)
        return found

    def move(self, games: Games, x: Tensor, stepped: Tensor, i: Tensor) -> Asking:
        """Move games `i` [n] of `x` [G,C,H,W] to `stepped` [n,C,H,W] where that is not refused."""
        rows = games.state.open[i].nonzero().squeeze(1)
        stepped, i = stepped[rows], i[rows]
        answers = yield from games.ask(stepped, i, STEP)
        x[i] = torch.where(answers.refused.view(-1, 1, 1, 1), x[i], stepped)
        wrong = games.wrong(answers) & inside_ball(games, stepped, i)
        loss = games.loss(answers, self.loss)
        return (yield from keep_hits(games, stepped.unsqueeze(1), i, wrong[:, None], loss[:, None]))
