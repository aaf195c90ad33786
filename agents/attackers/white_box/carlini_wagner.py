"""Carlini and Wagner's l2 attack: the smallest perturbation that Adam finds with known weights."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.insider import gradient, hand_in
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Move, Needs, Play
from arena.rules.geometry import quantise

SHRINK = 0.999999
"""The box is shrunk around 1/2 by this factor before atanh, which is infinite at its border."""
LARGEST_C = 1e10
CHECKS = 10
"""How often in a step of the search it is checked whether the loss still falls."""


@dataclass(frozen=True)
class CarliniWagner(Attacker):
    """C&W in l2 (Carlini and Wagner, S&P 2017, section V), untargeted and targeted, as in the authors' code.

    With x = (tanh w + 1) / 2, Adam minimises |x - x0|^2 + c max(0, f(x) + kappa) over w, where f is the
    margin of the logits (its negative for a target). c is searched for each game: times 10 until it succeeds,
    then halved between the bounds; the nearest image that ever succeeded is kept. The gradients are those of
    the classifier without its defense, and are metered, not charged; the only query is for the image kept. If
    the service rounds images, gradients are taken at the rounded images.

    Attributes:
        kappa: the margin by which an image must succeed, in logits.
        learning_rate: of Adam, which starts again with each c.
        iterations: the most iterations for each c.
        search_steps: how many values of c are tried.
        initial_c: the first.
        abort_early: leave a c when the loss has not fallen by 1e-4 of itself in a tenth of the iterations.
    """

    kappa: float = 0.0
    learning_rate: float = 0.01
    iterations: int = 10_000
    search_steps: int = 9
    initial_c: float = 1e-3
    abort_early: bool = True

    needs = Needs(norms=("l2",), knowledge="weights")

    def __post_init__(self) -> None:
        if not 0 <= self.kappa < math.inf:
            raise ValueError(f"kappa must be finite and at least 0; found {self.kappa}")
        check_parameters(self, positive=("learning_rate", "initial_c"), counts=("iterations", "search_steps"))

    def play(self, games: Games) -> Play:
        nearest = games.x0.clone()
        distance = games.x0.new_full((len(games),), torch.inf)
        c = torch.full_like(distance, self.initial_c, dtype=torch.float64)
        low, high = torch.zeros_like(c), torch.full_like(c, LARGEST_C)
        for _ in range(self.search_steps):
            won = yield from self.descend(games, c, nearest, distance)
            high, low = torch.where(won, c, high), torch.where(won, low, c)
            c = torch.where(high < LARGEST_C, (low + high) / 2, c * 10)
        i = games.open
        i = i[distance[i].isfinite()]
        yield from hand_in(games, nearest[i], i)

    def descend(
        self, games: Games, c: Tensor, nearest: Tensor, distance: Tensor
    ) -> Generator[Move, Answers, Tensor]:
        """One step of the search over c [G]: whether [G] bool an image succeeded.

        Images nearer than `distance` [G] are entered there and into `nearest` [G,C,H,W].
        """
        w = torch.nn.Parameter(torch.atanh(SHRINK * (2 * games.x0 - 1)))
        w.grad = torch.zeros_like(w)
        adam = torch.optim.Adam([w], lr=self.learning_rate)
        won = torch.zeros_like(c, dtype=torch.bool)
        before, i = torch.full_like(c, torch.inf), games.open
        for t in range(self.iterations):
            if not len(i):
                break
            x = (w.detach()[i].tanh() + 1) / 2
            seen = quantise(x, games.threat.quantisation)
            up, margin = yield from gradient(games, seen, i, "margin")
            far = games.distance(seen, i)
            wins = margin < -self.kappa
            nearer = wins & (far < distance[i])
            nearest[i[nearer]], distance[i[nearer]] = seen[nearer], far[nearer]
            won[i] |= wins
            push = c[i].float() * (margin > -self.kappa)
            slope = 2 * (x - games.x0[i]) + push.view(-1, 1, 1, 1) * up
            w.grad.zero_()
            w.grad[i] = slope * 2 * x * (1 - x)
            adam.step()
            if self.abort_early and t % max(1, self.iterations // CHECKS) == 0:
                loss = far.double().square() + c[i] * (margin + self.kappa).clamp_min(0)
                falls = loss <= 0.9999 * before[i]
                before[i] = loss
                i = i[falls]
        return won
