"""Bandits: steps along a prior of the gradient, which is learnt from two probes a step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from agents.attackers.parts.estimates import unit
from agents.attackers.parts.finite_differences import losses, seen_length, step
from agents.parameters import check_parameters
from arena.players import Attacker, Games, Loss, Needs, Play


@dataclass(frozen=True)
class Bandits(Attacker):
    """Bandits (Ilyas, Engstrom and Madry, ICLR 2019), with the time prior (T) and a data prior (TD).

    As in the authors' code: a prior v of the gradient, of side `tile`, is enlarged to the image (up: nearest
    neighbour). A step asks x + delta q / |q| for q = up(v + n) and q = up(v - n), n ~ zeta N(0, I / d_v), at
    two queries; estimates Delta = (L_+ - L_-) / (delta zeta); moves v along Delta n (in l_2
    v <- v + tau Delta n, in l_inf by exponentiated gradients on [-1, 1]); and takes a step of length eta
    along up(v), in l_inf along its sign. Here L is minimised, so v is the prior of -grad L. The exponentiated
    gradient is exactly v = tanh(w), w <- w + tau Delta n, which does not overflow.

    The iterate itself is not asked, where the authors' code asks it without counting: probes, which are
    brought into the ball, are as near to it as `delta` and find the hits.

    Attributes:
        tile: side of the prior; None: that of the image (T).
        delta: l_2 length of a probe; None: .1, in l_2 .01; where the service rounds to 8 bits sqrt(d)/255 at
            least, a level per pixel, since it sees nothing of much less.
        eta: length of a step, per pixel in l_inf; None: .01, in l_2 .5.
        tau: learning rate of the prior; None: 100, in l_2 .1, which the authors chose on ImageNet. It has to
            fit the length of the gradient of L and the number of values: a prior that outgrows `zeta` is not
            explored any more, a minute one forgets nothing. In l_inf on CIFAR-10 (ResNet-20) 1 wins more,
            most with the margin, whose gradient is as long where the network is sure.
        zeta: length of the exploration; None: 1, in l_2 .01.
        loss: L.
    """

    tile: int | None = None
    delta: float | None = None
    eta: float | None = None
    tau: float | None = None
    zeta: float | None = None
    loss: Loss = "cross-entropy"

    needs = Needs(feedback="scores", objectives=("first", "submit"))

    def __post_init__(self) -> None:
        check_parameters(self, positive=("delta", "eta", "tau", "zeta"), counts=("tile",))

    def play(self, games: Games) -> Play:
        linf = games.threat.norm == "linf"
        delta = self.delta or seen_length(games, 0.1 if linf else 0.01)
        eta = self.eta or (0.01 if linf else 0.5)
        tau, zeta = self.tau or (100.0 if linf else 0.1), self.zeta or (1.0 if linf else 0.01)
        size = games.x0.shape[2:]
        side = (self.tile, self.tile) if self.tile else size
        x, w = games.x0.clone(), games.x0.new_zeros(len(games), games.x0.shape[1], *side)
        while len(i := games.open):
            v = w[i].tanh() if linf else w[i]
            n = zeta / math.sqrt(w[0].numel()) * games.normal(w.shape[1:], i)
            q = unit(up(torch.stack([v + n, v - n], dim=1).flatten(0, 1), size))
            probes = games.project(x[i].repeat_interleave(2, dim=0) + delta * q, i.repeat_interleave(2)).view(
                len(i), 2, *x.shape[1:]
            )
            found = yield from losses(games, probes, i, self.loss)
            slope = (found[:, 0] - found[:, 1]) / (delta * zeta)
            slope = torch.where(slope.isfinite(), slope, 0.0).view(-1, 1, 1, 1)
            w[i] -= tau * slope * n
            v = w[i].tanh() if linf else w[i]
            x[i] = step(games, x[i], -up(v, size), i, eta)


def up(v: Tensor, size: torch.Size) -> Tensor:
    """`v` [n,C,h,w] enlarged to `size` by the nearest neighbour (or shrunk, where the tile is larger)."""
    return v if v.shape[2:] == size else interpolate(v, size=size, mode="nearest")
