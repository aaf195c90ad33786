"""The losses that score attackers minimise: margin and cross-entropy, as in Square Attack (2020)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Loss = Literal["margin", "cross-entropy"]


def margin(scores: Tensor, label: Tensor) -> Tensor:
    """`z_y - max_{k != y} z_k` [n] of scores [n,K] and labels [n]; NaN in a row gives NaN.

    With one class the margin is z_y itself.
    """
    column = label.unsqueeze(1)
    own = scores.gather(1, column)
    if scores.shape[1] > 1:
        own = own.sub_(scores.scatter(1, column, -torch.inf).amax(dim=1, keepdim=True))
    return own.squeeze(1)


def attack_loss(scores: Tensor, label: Tensor, kind: Loss, *, targeted: bool, logits: bool) -> Tensor:
    """The loss to minimise, [n].

    `margin`: the margin of the scores as answered (of y; minus the target's when targeted).
    `cross-entropy`: log p_y, or -log p_t when targeted.

    Args:
        scores: [n,K] logits or probabilities.
        label: [n] the labels y, or the targets.
        logits: whether `scores` are logits.
    """
    if kind == "margin":
        loss = margin(scores, label)
    elif logits:
        loss = scores.log_softmax(dim=1).gather(1, label.unsqueeze(1)).squeeze(1)
    else:
        tiny = torch.finfo(scores.dtype).tiny
        loss = scores.gather(1, label.unsqueeze(1)).squeeze(1).clamp_min(tiny).log()
    return -loss if targeted else loss
