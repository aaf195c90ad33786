"""Subspace attack: two probes a step, along what reference networks make of the service's own answer."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from agents.attackers.parts.estimates import unit
from agents.attackers.parts.finite_differences import keep_hits, losses, seen_length, step
from agents.attackers.parts.reference_networks import Dropping, direction, networks
from agents.parameters import check_parameters
from arena.players import Answers, Attacker, Games, Loss, Needs, Play
from arena.rules.losses import LEAST_LOG, attack_loss

BASE = "base"
"""The purpose of queries of the iterate itself."""
ROUNDING = 2.0**-18
"""Of two losses, the relative difference that float32 may have made."""


@dataclass(frozen=True)
class Subspace(Attacker):
    """Subspace attack (Guo, Yan and Zhang, Subspace Attack: Exploiting Promising Subspaces for
    Query-Efficient Black-box Attacks, NeurIPS 2019).

    A step draws a reference network for each game, and pulls the gradient dL/dz of the loss at the service's
    logits z back through it: the unit direction d. Like Bandits it then asks x + delta q / |q| for
    q = v + zeta d and q = v - zeta d around a prior v of the gradient; moves v by
    tau Delta d / |Delta d|_1, Delta the difference of the two losses over delta zeta; and x by `eta` against
    v (by its sign in l_inf).

    As in the authors' code, which counts two queries a step; the third one, of the new iterate, is needed for
    z and is charged here. They draw one network for a whole batch. Where a reference network has dropout
    layers, they drop values with probability 0 for `dropout_from` steps, then with
    `dropout` (1 - exp(-.01 t)); networks without such layers (all of residual kind) are differentiated as
    they are. Where they give no gradient at all, d is random.

    Attributes:
        zeta: exploration.
        delta: l_2 length of a probe; where the service rounds to 8 bits sqrt(d)/255 at least, a level per
            value, since it sees nothing of much less.
        eta: length of a step, per pixel in l_inf; None: 1/255, and in l_2 an eighth of epsilon, to which that
            comes at the authors' 8/255 (theirs is for l_inf).
        tau: learning rate of the prior.
        dropout, dropout_from, dropout_growth: of reference networks that have some.
        loss: L.
    """

    zeta: float = 0.1
    delta: float = 0.1
    eta: float | None = None
    tau: float = 1.0
    dropout: float = 0.5
    dropout_from: int = 10
    dropout_growth: float = 0.01
    loss: Loss = "margin"

    needs = Needs(feedback="scores", objectives=("first", "submit"), surrogates=1)

    def __post_init__(self) -> None:
        check_parameters(self, positive=("zeta", "delta", "eta", "tau", "dropout_growth"))
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1; found {self.dropout}")
        if self.dropout_from < 0:
            raise ValueError(f"dropout_from must be a number of steps from 0; found {self.dropout_from}")

    def play(self, games: Games) -> Play:
        x, v = games.x0.clone(), torch.zeros_like(games.x0)
        z = x.new_zeros(len(games), games.classes)
        eta = self.eta or (1 / 255 if games.threat.norm == "linf" else games.epsilon / 8)
        delta = seen_length(games, self.delta)
        for t in itertools.count():
            if len(i := games.open):
                answers = yield from games.ask(x[i], i, BASE)
                z[i] = torch.where(answers.answered.unsqueeze(1), logits(games, answers), z[i])
                found = games.loss(answers, self.loss).unsqueeze(1)
                yield from keep_hits(games, x[i].unsqueeze(1), i, games.wrong(answers).unsqueeze(1), found)
            if not len(i := games.open):
                return
            d = self.directions(games, x[i], z[i], i, t)
            q = unit(torch.stack([v[i] + self.zeta * d, v[i] - self.zeta * d], dim=1))
            probes = (x[i].unsqueeze(1) + delta * q).flatten(0, 1)
            probes = games.project(probes, i.repeat_interleave(2)).view_as(q)
            up, down = (yield from losses(games, probes, i, self.loss)).unbind(1)
            v[i] += self.tau * risen(up, down).view(-1, 1, 1, 1) * d / absolute(d)
            x[i] = step(games, x[i], v[i], i, eta)

    def directions(self, games: Games, x: Tensor, z: Tensor, i: Tensor, t: int) -> Tensor:
        """d [n,C,H,W] at `x` [n,C,H,W] of games `i` [n], whose logits are `z` [n,K], at step t from 0."""
        known, d = networks(games), torch.zeros_like(x)
        pull, chosen = self.pull(games, z, i), games.integers(len(known), (), i)
        for number, network in enumerate(known):
            rows = (chosen == number).nonzero().squeeze(1)

            def pulled(logits: Tensor, piece: Tensor, rows: Tensor = rows) -> Tensor:
                return (logits * pull[rows[piece]]).sum(dim=1)

            d[rows] = direction(network, x[rows], pulled, Dropping(self.dropped(t), games, i[rows]))
        flat = (d == 0).flatten(1).all(dim=1).nonzero().squeeze(1)
        d[flat] = unit(games.normal(x.shape[1:], i[flat]))
        return d

    def pull(self, games: Games, z: Tensor, i: Tensor) -> Tensor:
        """dL/dz [n,K] at logits `z` [n,K] of games `i` [n], scaled to a largest value of 1."""
        goal = (games.label if games.target is None else games.target)[i]
        point = z.detach().requires_grad_(True)
        with torch.enable_grad():
            total = attack_loss(point, goal, self.loss, targeted=games.threat.targeted, logits=True).sum()
        found = torch.autograd.grad(total, point)[0].nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        largest = found.abs().amax(dim=1, keepdim=True)
        return torch.where(largest > 0, found / largest, 0.0)

    def dropped(self, t: int) -> float:
        """The probability with which dropout layers drop a value at step t from 0."""
        after = t - self.dropout_from
        return self.dropout * -math.expm1(-self.dropout_growth * after) if after > 0 else 0.0


def logits(games: Games, answers: Answers) -> Tensor:
    """The logits [n,K] of the rows answered: log p where probabilities are shown, which have the same
    gradient of a loss; hidden classes have the least."""
    assert answers.scores is not None
    shown = answers.scores if games.threat.feedback == "logits" else answers.scores.log()
    most = -LEAST_LOG if games.threat.feedback != "logits" else torch.finfo(shown.dtype).max / 4
    return shown.nan_to_num(nan=0.0).clamp(-most, most)


def risen(up: Tensor, down: Tensor) -> Tensor:
    """The sign [n] of up - down, of whose size the step's normalisation leaves nothing; 0 where an answer is
    missing, or they are the same but for rounding: once v is longer than zeta, both probes may be one."""
    rise = up - down
    seen = rise.isfinite() & (rise.abs() > ROUNDING * torch.maximum(up.abs(), down.abs()))
    return torch.where(seen, rise.sign(), 0.0)


def absolute(d: Tensor) -> Tensor:
    """The l_1 length of `d` [n,C,H,W], [n,1,1,1]."""
    return d.abs().sum(dim=-1).flatten(1).sum(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
