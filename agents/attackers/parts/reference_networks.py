"""Directions through an attacker's reference networks: computed where the attacker is, at no query.

They are taken `PIECE` images at a time, whatever a volley holds. A network computes an image's gradient from
that image alone; as in a classifier's answers, its last bits may go by how many images share a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agents.attackers.parts.estimates import unit
from arena.players import Games, Loss
from arena.rules.losses import attack_loss

PIECE = 64
"""Images of one pass through a reference network."""

Value = Callable[[Tensor, Tensor], Tensor]
"""`value(logits [m,K], rows [m])`: what is differentiated [m], for some rows of the images."""


def networks(games: Games) -> tuple[nn.Module, ...]:
    """The reference networks at a seat, one at least.

    Raises:
        ValueError: if none was granted.
    """
    if not games.resources.surrogates:
        raise ValueError("reference networks are needed (resources.surrogates); none was granted")
    return games.resources.surrogates


@dataclass(frozen=True, eq=False)
class Dropping:
    """Dropout while a gradient is taken: with probability `p`, by draws of games `i` [n], one of each image.

    It acts on layers `nn.Dropout`, and `nn.Dropout2d` by whole channels; a network without such layers stays
    as it is, and nothing is drawn.
    """

    p: float
    games: Games
    i: Tensor

    def __call__(self, layer: nn.Module, out: Tensor, rows: Tensor) -> Tensor:
        """What a layer lets pass of `out` [m,...], of images `rows` [m]."""
        channels = isinstance(layer, nn.Dropout2d)
        shape = (out.shape[1], *[1] * (out.dim() - 2)) if channels else out.shape[1:]
        return out * (self.games.uniform(shape, self.i[rows]) >= self.p) / (1 - self.p)


def direction(network: nn.Module, x: Tensor, value: Value, dropping: Dropping | None = None) -> Tensor:
    """The unit direction [n,C,H,W] in which what `value` makes of the network's logits grows fastest, from
    `x` [n,C,H,W]; 0 where it has no gradient, or none that is finite."""
    found = torch.zeros_like(x)
    if not len(x):
        return found  # many a network cannot flatten a batch of none
    for rows in torch.split(torch.arange(len(x), device=x.device), PIECE):
        point = x[rows].detach().requires_grad_(True)
        with _dropping(network, dropping, rows), torch.enable_grad():
            total = value(network(point), rows).sum()
        found[rows] = torch.autograd.grad(total, point)[0]
    found.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
    largest = found.flatten(1).abs().amax(dim=1).view(-1, 1, 1, 1)
    return unit(torch.where(largest > 0, found / largest, 0.0))  # a sure network's may be 1e-30


def loss_direction(network: nn.Module, games: Games, x: Tensor, i: Tensor, loss: Loss) -> Tensor:
    """`direction` of the loss of games `i` [n] at `x` [n,C,H,W], were the network the service."""
    goal = (games.label if games.target is None else games.target)[i]

    def value(logits: Tensor, rows: Tensor) -> Tensor:
        return attack_loss(logits, goal[rows], loss, targeted=games.threat.targeted, logits=True)

    return direction(network, x, value)


@contextmanager
def _dropping(network: nn.Module, dropping: Dropping | None, rows: Tensor) -> Iterator[None]:
    if dropping is None or dropping.p == 0:
        yield
        return

    def drop(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return dropping(layer, out, rows)

    layers = [one for one in network.modules() if isinstance(one, nn.Dropout | nn.Dropout2d)]
    hooks = [layer.register_forward_hook(drop) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
