"""SVM-OPT: a normal that agrees with all signs of an estimate, instead of Sign-OPT's mean."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.decision.sign_opt import SignOpt
from agents.attackers.parts.directions import Descent
from agents.attackers.parts.estimates import unit
from arena.players import Answers, Games, Move
from arena.rules.purposes import GRADIENT

UPDATES = 20_000
TOLERANCE = 1e-7
LOOK_EVERY = 16
"""Updates between two checks whether all programs are solved; each check waits for the device."""


@dataclass(frozen=True)
class SVMOpt(SignOpt):
    """SVM-OPT (Cheng et al., ICLR 2020), algorithm 2: Sign-OPT with another estimate of the gradient.

    The estimate is the shortest z with sign(g(theta + beta u_q) - g(theta)) <z, u_q> >= 1 for all q (eq. 5),
    found in the dual as in the authors' code. Parameters are Sign-OPT's (`SignOpt`); `probes` None: those of
    the authors' code, 100 in l2 and 200 in linf (the paper, sec. 4.1: Q = 200 in all experiments). In high
    dimensions the u_q are almost orthogonal, and z is nearly Q times Sign-OPT's estimate.
    """

    def count(self, games: Games) -> int:
        return self.probes or (100 if games.threat.norm == "l2" else 200)

    def directions(self, games: Games, count: int, i: Tensor) -> Tensor:
        return unit(games.normal((count, *games.x0.shape[1:]), i))

    def gradient(self, descent: Descent, i: Tensor) -> Generator[Move, Answers, Tensor]:
        games, count = descent.games, self.count(descent.games)
        z = torch.zeros_like(games.x0[i])
        for rows in descent.shares(i, count):
            z[rows] = yield from self.normal(descent, i[rows], count)
        return z

    def normal(self, descent: Descent, i: Tensor, count: int) -> Generator[Move, Answers, Tensor]:
        """z [n,C,H,W] of games `i` [n] from `count` probes each; unanswered probes are left out."""
        games = descent.games
        u = self.directions(games, count, i)
        images = descent.probes(u, i).flatten(0, 1)
        answers = yield from games.ask(images, i.repeat_interleave(count), GRADIENT)
        y = torch.where(games.wrong(answers), -1.0, answers.answered.float())
        columns = u.mul_(y.view(len(i), count, 1, 1, 1))
        a = solve(gram(columns)).float()
        z = torch.zeros_like(columns[:, 0])
        for q in range(count):
            z.addcmul_(a[:, q].view(-1, 1, 1, 1), columns[:, q])
        return z


def gram(columns: Tensor) -> Tensor:
    """The inner products [n,Q,Q] float64 of `columns` [n,Q,C,H,W], the same in any batch."""
    count = columns.shape[1]
    products = columns.new_zeros(len(columns), count, count, dtype=torch.float64)
    for q in range(count):
        row = (columns[:, q:] * columns[:, q : q + 1]).sum(dim=-1).flatten(2).sum(dim=-1)
        products[:, q, q:] = products[:, q:, q] = row.double()
    return products


def solve(q: Tensor) -> Tensor:
    """a [n,Q] >= 0 with the least a'qa/2 - 1'a, for q [n,Q,Q] float64, by greedy coordinate descent.

    At each update the coordinate that is farthest from its best value moves there, until none of a program is
    farther than 1e-7, at most 20,000 times. If q has zeros on its diagonal, a is 0 there.
    """
    diagonal = q.diagonal(dim1=1, dim2=2)
    used = diagonal > 0
    scale = torch.where(used, diagonal, 1.0)
    a, slope = torch.zeros_like(diagonal), torch.full_like(diagonal, -1.0)
    programs = torch.arange(len(q), device=q.device)
    for update in range(UPDATES):
        change = torch.where(used, (a - slope / scale).clamp_min(0) - a, 0.0)
        far, at = change.abs().max(dim=1)
        if update % LOOK_EVERY == 0 and not bool((far >= TOLERANCE).any()):
            break
        by = torch.where(far >= TOLERANCE, change[programs, at], 0.0)
        a[programs, at] += by
        slope += by.unsqueeze(1) * q[programs, at]
    return a
