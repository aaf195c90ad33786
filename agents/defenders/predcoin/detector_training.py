"""How PredCoin's detectors are trained: Adam on the cross-entropy, with early stopping."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from arena import draws
from arena.players import tell

EPOCHS, UPDATES = 50, 500
"""The longest training: in epochs, or in updates if with few images these are more epochs."""
PATIENCE = 5
"""Training stops after a fifth of it without a better loss on the examples held out."""
BATCH = 128
LR = 1e-3
HELD_BACK = 5
"""One in so many images is held out for early stopping."""

Parameters = list[tuple[Tensor, Tensor]]
"""The weights and biases of each layer."""


def train(
    forward: Callable[[Parameters, Tensor], Tensor],
    layers: Parameters,
    s: Tensor,
    is_query: Tensor,
    seed: int,
    what: str,
    rate: float = LR,
) -> Parameters:
    """The layers at the least loss on the examples held out.

    Args:
        forward: the two outputs [n,2] of layers for examples [n,...], the first that of queries.
        layers: where training starts; they are changed.
        s, is_query: the examples [n,...], and whether they are queries, [n] int64.
        what: what is told of the progress.
        rate: of Adam.
    """
    order = draws.uniform(draws.derive(seed, "held back"), torch.arange(len(s)), 0, ()).argsort()
    back, rest = order[: len(s) // HELD_BACK], order[len(s) // HELD_BACK :]
    y = 1 - is_query  # y1, the first output, is that of queries
    flat = [tensor for layer in layers for tensor in layer]
    optimiser = torch.optim.Adam(flat, lr=rate)
    epochs = max(EPOCHS, -(-UPDATES // -(-len(rest) // BATCH)))
    best, best_loss, since = layers, torch.inf, 0
    with torch.enable_grad():
        for tensor in flat:
            tensor.requires_grad_(True)
        for epoch in range(epochs):
            tell(what, epoch, epochs)
            shuffled = rest[draws.uniform(draws.derive(seed, "epoch", epoch), rest, 0, ()).argsort()]
            for rows in torch.split(shuffled, BATCH):
                optimiser.zero_grad()
                cross_entropy(forward(layers, s[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            with torch.no_grad():
                loss = cross_entropy(forward(layers, s[back]), y[back]).item() if len(back) else -epoch
            since = 0 if loss < best_loss else since + 1
            if not since:
                best, best_loss = [(w.detach().clone(), b.detach().clone()) for w, b in layers], loss
            if since >= epochs // PATIENCE:
                break
    return best
