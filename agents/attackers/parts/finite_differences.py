"""The gradient of the loss from differences of answered losses, streamed, and the steps along it."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator

import torch
from torch import Tensor

from agents.attackers.parts.claims import stand_by
from agents.attackers.parts.estimates import BLOCK, unit
from arena.players import Answers, Asking, Games, Loss, Move
from arena.rules.purposes import GRADIENT

Directions = Callable[[Tensor], Tensor]
"""Fresh directions u [k,BLOCK,C,H,W] for rows [k] (index into the games asked)."""


def gradient(
    games: Games,
    x: Tensor,
    i: Tensor,
    count: int,
    directions: Directions,
    radius: float,
    loss: Loss,
    base: Tensor | None = None,
) -> Generator[Move, Answers, Tensor]:
    """The estimate [n,C,H,W] of the gradient of the loss at `x` [n,C,H,W] of games `i` [n].

    The mean over `count` directions u of (L(x + radius u) - L(x - radius u)) / (2 radius) u, at two queries
    each, side by side; with losses `base` at x, [n] or one for each direction [n,count], of
    (L(x + radius u) - base) / radius u, at one. Where a base is not known (+inf) the game's first probe that
    was answered stands for it. Probes are brought into the ball. What the budget does not reach any more is
    left out of the mean; a game without a whole difference has the estimate 0.
    """
    each, spare = 2 if base is None else 1, x.new_full((len(i),), torch.inf, dtype=torch.float64)
    if base is not None:
        base = base.view(len(i), -1).expand(-1, count)
    total, used, done = torch.zeros_like(x), x.new_zeros(len(i)), 0
    while done < count and len(rows := games.state.open[i].nonzero().squeeze(1)):
        m = min(blocks_at_once(games, len(rows) * each) * BLOCK, count - done)
        for part in torch.split(rows, max(1, games.max_rows // (m * each))):
            u = torch.cat([directions(part) for _ in range(-(-m // BLOCK))], dim=1)[:, :m]
            sides = torch.stack([u, -u], dim=2).flatten(1, 2) if each == 2 else u
            images = (x[part].unsqueeze(1) + radius * sides).flatten(0, 1)
            del sides  # at 224 pixels it is half a gigabyte, while the volley waits for its answers
            images = games.project(images, i[part].repeat_interleave(m * each))
            images = images.view(len(part), m * each, *x.shape[1:])
            found = (yield from losses(games, images, i[part], loss)).view(len(part), m, each)
            first = first_known(found[..., 0]).double()
            spare[part] = torch.where(spare[part] < torch.inf, spare[part], first)
            other = found[..., 1] if base is None else base[part, done : done + m]
            if base is not None:
                other = torch.where(other.isfinite(), other, spare[part].unsqueeze(1).to(other.dtype))
            slope = found[..., 0] - other
            known = slope.isfinite()
            slope = torch.where(known, slope / (each * radius), 0.0)
            mine = total[part]
            for b in range(m):  # one after the other: a sum must not depend on the shape of the volley
                mine.addcmul_(slope[:, b].view(-1, 1, 1, 1), u[:, b])
            total[part] = mine
            used[part] += known.sum(dim=1)
        done += m
    return total / used.clamp_min(1).view(-1, 1, 1, 1)


def first_known(loss: Tensor) -> Tensor:
    """The first of losses [n,m] that is finite, [n]; +inf where none is."""
    place = loss.isfinite().to(torch.uint8).argmax(dim=1, keepdim=True)
    return loss.gather(1, place).squeeze(1)


def blocks_at_once(games: Games, rows: int) -> int:
    """How many blocks of BLOCK x `rows` rows go into one volley.

    Under `submit` one: games may be handed in, and images repeated, between volleys, and what a game is asked
    must not depend on who else plays.
    """
    return 1 if games.threat.objective == "submit" else max(1, games.max_rows // (rows * BLOCK))


def losses(
    games: Games, images: Tensor, i: Tensor, loss: Loss, purpose: str = GRADIENT
) -> Generator[Move, Answers, Tensor]:
    """Ask `images` [n,m,C,H,W] of games `i` [n], each once: their losses [n,m], +inf where no answer came.

    Of the wrong answers to a game the attacker stands by that with the lowest loss.
    """
    n, m = images.shape[:2]
    answers = yield from games.ask(images.flatten(0, 1), i.repeat_interleave(m), purpose)
    found = games.loss(answers, loss).view(n, m)
    yield from keep_hits(games, images, i, games.wrong(answers).view(n, m), found)
    return found


def keep_hits(games: Games, images: Tensor, i: Tensor, wrong: Tensor, loss: Tensor) -> Asking:
    """Note games `i` [n] of whose `images` [n,m,C,H,W] some were answered `wrong` [n,m], and stand by that
    with the lowest `loss` [n,m]."""
    if games.threat.objective == "first" and bool(games.state.open[i].all()):
        return games.state  # no game was closed, so there was no hit
    rows = wrong.any(dim=1).nonzero().squeeze(1)
    yield from games.note("accepted", 1.0, i[rows])
    if games.threat.objective != "first":
        place = torch.where(wrong, loss, torch.inf)[rows].argmin(dim=1)
        yield from stand_by(games, images[rows, place], i[rows])
    return games.state


def seen_length(games: Games, length: float) -> float:
    """The l2 length of a probe, or what a service that rounds to 8 bits can see: a level per value."""
    level = math.sqrt(games.x0[0].numel()) / 255 if games.threat.quantisation == "round" else 0.0
    return max(length, level)


def step(games: Games, x: Tensor, g: Tensor, i: Tensor, eta: float | Tensor) -> Tensor:
    """x [n,C,H,W] of games `i` [n], moved against `g` and brought into the ball: by eta per value in linf
    (x - eta sign g), by the length eta in l2 (x - eta g / |g|). `eta`: a number, or one for each game [n]."""
    size = eta.view(-1, 1, 1, 1) if isinstance(eta, Tensor) else eta
    return games.project(x - size * (g.sign() if games.threat.norm == "linf" else heading(g)), i)


def heading(g: Tensor) -> Tensor:
    """`g` [n,C,H,W] over its l2 length, however short: that of a classifier that is sure may be 1e-30."""
    largest = g.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
    return unit(torch.where(largest > 0, g / largest, 0.0))
