"""oars-surfree: SurFree with angles so large that a defender with a memory lets them pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.decision.surfree import START_WIDTH, RandomDirections, SurFree
from agents.attackers.parts.adaptation import Adaptation
from agents.attackers.parts.circles import Circles
from agents.attackers.parts.refusals import with_echoes
from agents.attackers.parts.searches import Deciding, Searching, blend_search, decide
from agents.attackers.parts.twins import plain
from agents.parameters import check_bracket, check_parameters, check_within
from arena.players import Games, Play
from arena.rules.purposes import CANDIDATE


@dataclass(frozen=True)
class OarsSurFree(SurFree):
    """OARS around SurFree (Feng et al., CCS 2023; the settings of the authors' code against Blacklight).

    Adapt: on half circles over the point that it starts from, it finds the smallest angle of which at most a
    share `rate` is refused; theta_max stays at or above it. Resample: where an angle is refused, the trials
    in that direction end, theta_max stays, and the next direction is drawn. As in the authors' code one angle
    is tried on each side, the first that is adversarial is taken as it is, and the search from the noise to
    x0 ends where it is refused.

    A service that recognises a query and does not say so is seen through by echoes of earlier scores
    (`parts.refusals`); with labels alone there are none, and the angle becomes the least.

    Attributes:
        gamma, bisections: not used.
        least_angle, most_angle: the bracket, in degrees. The authors' goes up to 100 at CIFAR's size and to
            50 at 224 pixels; beyond 90 the other side of the circle begins.
        rate, adapt_steps, adapt_probes: the share of refusals that passes, how often the bracket is halved,
            and how many probes judge each half.
    """

    trials: int = 1
    least_angle: float = 5.0
    most_angle: float = 90.0
    rate: float = 0.05
    adapt_steps: int = 5
    adapt_probes: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_parameters(self, counts=("adapt_steps", "adapt_probes"))
        check_within(self, 0, 90, "least_angle", "most_angle")
        check_bracket(self, "least_angle", "most_angle")
        check_within(self, 0, 1, "rate")

    @property
    def twin(self) -> SurFree:
        return plain(self, SurFree)

    def play(self, games: Games) -> Play:
        yield from with_echoes(games, super().play(games))

    def blend(self, games: Games, x: Tensor, i: Tensor) -> Searching:
        return (yield from blend_search(games, x, i, START_WIDTH, until_refused=True))

    def least_angles(self, games: Games, x: Tensor, directions: RandomDirections) -> Searching:
        i = games.open

        def images(size: Tensor, rows: Tensor) -> Tensor:
            own, every = i[rows], torch.arange(len(rows), device=i.device)
            drawn = (directions.draw(x[own], own) for _ in range(self.adapt_probes))
            return torch.stack([Circles.over(games, x[own], v, own).at(size, every) for v in drawn], dim=1)

        by = Adaptation(self.rate, self.adapt_steps, self.adapt_probes)
        low, high = math.radians(self.least_angle), math.radians(self.most_angle)
        least = torch.full((len(games),), high, dtype=torch.float64, device=x.device)
        least[i] = yield from by.smallest(games, i, low, high, images)
        yield from games.note("adapted angle", torch.rad2deg(least[i]), i)
        return least

    def try_angles(self, games: Games, circles: Circles, theta_max: Tensor, i: Tensor) -> Deciding:
        angle, rows = torch.zeros_like(theta_max), torch.arange(len(i), device=i.device)
        stopped = torch.zeros_like(i, dtype=torch.bool)
        for trial in range(2 * self.trials):
            share = (1 - (trial // 2) / self.trials) * (-1) ** trial
            theta = share * theta_max[rows]
            fooled, refused = yield from decide(games, circles.at(theta, rows), i[rows], CANDIDATE)
            angle[rows[fooled]] = theta[fooled]
            stopped[rows] |= refused
            rows = rows[~fooled & ~refused & games.state.open[i[rows]]]
            if not len(rows):
                break
        return angle, stopped

    def search(
        self, games: Games, circles: Circles, angle: Tensor, theta_max: Tensor, i: Tensor, rows: Tensor
    ) -> Searching:
        return angle[rows]
        yield  # a generator: SurFree's asks
