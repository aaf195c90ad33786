"""Estimates from probes of which some are refused: these are dropped, and others drawn (OARS, "resample")."""

from __future__ import annotations

import itertools
from collections.abc import Generator

import torch
from torch import Tensor

from agents.attackers.parts.claims import inside_ball
from agents.attackers.parts.estimates import BLOCK, Estimate, Probes, ask_probes, no_probes
from agents.attackers.parts.finite_differences import Directions, keep_hits
from arena.players import Answers, Games, Loss, Move
from arena.rules.purposes import GRADIENT


def resampled_estimate(
    games: Games, i: Tensor, count: int | Tensor, probes: Probes, rounds: int
) -> Generator[Move, Answers, Estimate]:
    """`parts.estimates.estimate` until `count` probes of each of games `i` [n] were answered, in at most
    `rounds` rounds of as many probes as are lacking. What is lacking then stays out of the sums."""
    sums = no_probes(games, i)
    for _ in range(rounds):
        lacking = (count - sums.count).long()
        for first in itertools.count(step=BLOCK):
            rows = (games.state.open[i] & (lacking > first)).nonzero().squeeze(1)
            if not len(rows):
                break
            images, directions = probes(rows)
            yield from ask_probes(games, i, rows, images, directions, sums, _wanted(lacking[rows] - first))
    return sums


def resampled_gradient(
    games: Games,
    x: Tensor,
    i: Tensor,
    count: int,
    directions: Directions,
    radius: Tensor,
    loss: Loss,
    rounds: int,
) -> Generator[Move, Answers, Tensor]:
    """The mean [n,C,H,W] over up to `count` directions u of (L(x + r u) - L(x - r u)) / (2 r) u, r = `radius`
    [n], of games `i` [n] at `x` [n,C,H,W].

    Both queries of a direction have to be answered; in at most `rounds` rounds as many are drawn as are
    lacking. Probes are brought into [0,1], but may lie outside the ball. 0 where none was answered.
    """
    total, used = torch.zeros_like(x), torch.zeros_like(i)
    for _ in range(rounds):
        lacking = count - used
        for first in itertools.count(step=BLOCK):
            rows = (games.state.open[i] & (lacking > first)).nonzero().squeeze(1)
            if not len(rows):
                break
            u = directions(rows)
            step = radius[rows].float().view(-1, 1, 1, 1, 1)
            images = torch.stack([x[rows].unsqueeze(1) + step * u, x[rows].unsqueeze(1) - step * u], dim=2)
            wanted = _wanted(lacking[rows] - first)
            found = yield from _pairs(games, images.clamp_(0, 1), i[rows], wanted, loss)
            slope = (found[..., 0] - found[..., 1]) / (2 * step.view(-1, 1))
            known = wanted & slope.isfinite()
            mine = total[rows]
            for b in range(BLOCK):  # one after the other: a sum must not depend on the shape of the volley
                mine.addcmul_(torch.where(known, slope, 0.0)[:, b].view(-1, 1, 1, 1), u[:, b])
            total[rows] = mine
            used[rows] += known.sum(dim=1)
    return total / used.clamp_min(1).view(-1, 1, 1, 1)


def _wanted(lacking: Tensor) -> Tensor:
    """Which [k,BLOCK] of the next block of probes are asked where so many [k] are lacking."""
    return torch.arange(BLOCK, device=lacking.device) < lacking.unsqueeze(1)


def _pairs(
    games: Games, images: Tensor, i: Tensor, wanted: Tensor, loss: Loss
) -> Generator[Move, Answers, Tensor]:
    """The losses [k,BLOCK,2] of the `wanted` [k,BLOCK] pairs of `images` [k,BLOCK,2,C,H,W] of games `i` [k],
    +inf where no answer came. Of a game's wrong answers in the ball the attacker stands by the lowest."""
    k, each = len(i), 2 * BLOCK
    images, asked = images.flatten(1, 2), wanted.repeat_interleave(2, dim=1).flatten()
    game = i.repeat_interleave(each)[asked]
    answers = yield from games.ask(images.flatten(0, 1)[asked], game, GRADIENT)
    found = torch.full((k * each,), torch.inf, device=i.device, dtype=images.dtype)
    wrong = torch.zeros(k * each, dtype=torch.bool, device=i.device)
    found[asked] = games.loss(answers, loss)
    wrong[asked] = games.wrong(answers) & inside_ball(games, images.flatten(0, 1)[asked], game)
    yield from keep_hits(games, images, i, wrong.view(k, each), found.view(k, each))
    return found.view(k, BLOCK, 2)
