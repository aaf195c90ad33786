"""Projected gradient descent: the strongest perturbation inside the ball with known weights."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.claims import in_doubt
from agents.attackers.parts.estimates import unit
from agents.attackers.parts.insider import gradient, hand_in
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Loss, Move, Needs, Play
from arena.rules.geometry import quantise


@dataclass(frozen=True)
class PGD(Attacker):
    """PGD (Madry, Makelov, Schmidt, Tsipras and Vladu, ICLR 2018), l_inf and l_2, untargeted and targeted.

    From a uniform point of the ball, steps of alpha = step_size epsilon / steps along the negative sign of
    the gradient (l_inf) or along the negative gradient (l_2), each projected. Of a run the image with the
    lowest loss is kept, of the runs the one with the lowest margin; a game is done when that is negative. The
    gradients are those of the classifier without its defense, and are metered, not charged; the only query is
    for the image kept. If the service rounds images, gradients are taken at the rounded images. Where answers
    are no facts all runs are played, and their images repeated, lowest margin first, until one passes.

    Attributes:
        steps: the number of steps of a run.
        step_size: alpha in units of epsilon / steps.
        restarts: how many runs, each from its own point.
        loss: the loss to minimise: the log-probability of y (minus that of the target), or the margin.
    """

    steps: int = 40
    step_size: float = 2.5
    restarts: int = 5
    loss: Loss = "cross-entropy"

    needs = Needs(objectives=("first", "submit"), knowledge="weights")

    def __post_init__(self) -> None:
        check_parameters(self, counts=("steps", "restarts"))
        if not self.step_size > 0:
            raise ValueError(f"step_size must be above 0; found {self.step_size}")

    def play(self, games: Games) -> Play:
        if in_doubt(games):
            yield from self.play_all(games)
            return
        best = games.x0.clone()
        margin = games.x0.new_full((len(games),), torch.inf)
        for _ in range(self.restarts):
            i = games.open
            i = i[margin[i] >= 0]
            if not len(i):
                break
            x = yield from self.run(games, i)
            _, found = yield from gradient(games, x, i, "margin")
            lower = found < margin[i]
            best[i[lower]], margin[i[lower]] = x[lower], found[lower]
        yield from hand_in(games, best[games.open], games.open)

    def play_all(self, games: Games) -> Play:
        """Play all runs of all games, and hand in their images [runs,n,C,H,W] in the order of margins."""
        i, images, margins = games.open, [], []
        for _ in range(self.restarts):
            images.append((yield from self.run(games, i)))
            margins.append((yield from gradient(games, images[-1], i, "margin"))[1])
        order = torch.stack(margins).argsort(dim=0, stable=True)
        every, rows = torch.stack(images), torch.arange(len(i), device=i.device)
        for rank in order:
            alive = games.state.open[i]
            yield from hand_in(games, every[rank, rows][alive], i[alive])

    def run(self, games: Games, i: Tensor) -> Generator[Move, Answers, Tensor]:
        """The images [n,C,H,W] of the lowest loss on the way down from random points, for games `i` [n]."""
        x = games.project(games.x0[i] + self.start(games, i), i)
        best, lowest = x.clone(), x.new_full((len(i),), torch.inf)
        alpha = self.step_size * games.epsilon / self.steps
        for step in range(self.steps + 1):
            seen = quantise(x, games.threat.quantisation)
            up, loss = yield from gradient(games, seen, i, self.loss)
            lower = loss < lowest
            best[lower], lowest[lower] = seen[lower], loss[lower]
            if step < self.steps:
                x = games.project(x - alpha * (up.sign() if games.threat.norm == "linf" else unit(up)), i)
        return best

    def start(self, games: Games, i: Tensor) -> Tensor:
        """Uniform points of the ball around 0 [n,C,H,W]."""
        shape = games.x0.shape[1:]
        if games.threat.norm == "linf":
            return games.epsilon * (2 * games.uniform(shape, i) - 1)
        radius = games.uniform((1, 1, 1), i) ** (1 / shape.numel())
        return games.epsilon * radius * unit(games.normal(shape, i))
