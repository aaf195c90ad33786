"""Queries that sound out what answers: lines through the clean image, and repeats."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.players import Games

LEAST, MOST = 0.06, 0.5
"""How far a line goes, per value of the image: far enough for the loss to pass several cells of a fold,
whatever the ball's radius is, and no further than to grey."""
BALLS = 3.0
"""How many radii a line goes, within these limits: its first third lies in the ball."""
NUDGE = 1e-5
"""The l2 length of a step that changes no answer but one that depends on every bit of the image."""
LEVEL = 1 / 255


def stripes(games: Games, i: Tensor) -> Tensor:
    """Directions [n,C,H,W] for games `i` [n] of +-1: random vertical stripes, as Square begins with, which
    change the loss of a network more than noise of the same length does."""
    channels, _, width = games.x0.shape[1:]
    drawn = games.uniform((channels, 1, width), i)
    return torch.where(drawn < 0.5, 1.0, -1.0).expand(-1, -1, games.x0.shape[2], -1)


def reach(games: Games) -> float:
    """How far a line goes, per value."""
    values = games.x0[0].numel() ** 0.5 if games.threat.norm == "l2" else 1.0
    return min(max(BALLS * games.epsilon / values, LEAST), MOST)


def along(games: Games, direction: Tensor, i: Tensor, length: Tensor) -> Tensor:
    """x0 + length * direction in the box [n*k,C,H,W] for games `i` [n] at the lengths [n,k], side by side."""
    line = games.x0[i].unsqueeze(1) + length.view(*length.shape, 1, 1, 1) * direction.unsqueeze(1)
    return line.clamp_(0, 1).flatten(0, 1)


def nudged(games: Games, x: Tensor, i: Tensor) -> Tensor:
    """`x` [n,C,H,W] of games `i` [n], each changed by as little as the service can see: a step of length
    `NUDGE`, or one level in one random value where it rounds to 8 bits."""
    if not len(i):
        return x
    if games.threat.quantisation == "none":
        u = games.normal(x.shape[1:], i)
        length = u.flatten(1).double().square().cumsum(dim=1)[:, -1].sqrt().to(u.dtype)
        return (x + NUDGE * u / length.view(-1, 1, 1, 1)).clamp(0, 1)
    place = games.integers(x[0].numel(), (1,), i)
    flat = x.flatten(1)
    inwards = torch.where(flat < 0.5, LEVEL, -LEVEL).gather(1, place)
    return flat.scatter_add(1, place, inwards).view_as(x)
