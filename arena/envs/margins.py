"""The margin as the answers show it, in which the dense reward is paid."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.rules.losses import margin
from arena.rules.threat import Threat


def shown_margin(scores: Tensor, goal: Tensor, threat: Threat) -> Tensor:
    """The attacker's margin s [n] from -1 (surely won) to 1, by scores [n,K] as the feedback shows them.

    s = m / (1 + |m|) of the margin of logits, m = z_y - max_{k != y} z_k, or max_{k != t} z_k - z_t when
    targeted: below 0 where the label answered wins, 0 where two labels tie. Of probabilities z = log p,
    which gives the same m; under `topk`, a class that is not shown counts as probable as it can be: as the
    least one shown, or as what is left of 1 if that is less. NaN where the scores tell no margin.

    Args:
        goal: [n] the targets, or else the labels to get away from.
    """
    z = scores
    if threat.feedback != "logits":
        z = (scores if threat.top_k is None else _completed(scores, threat.top_k)).log()
    m = margin(z, goal)
    if threat.targeted:
        m = -m
    return m.sign() * (1 - 1 / (1 + m.abs()))  # at infinity, too


def _completed(p: Tensor, k: int) -> Tensor:
    """Probabilities [n,K] of which all but the k highest are hidden as 0, with a bound in place of these."""
    least = p.topk(min(k, p.shape[1]), dim=1).values[:, -1:]
    left = (1 - p.sum(dim=1, keepdim=True)).clamp_min(0)
    return torch.where(p == 0, torch.minimum(least, left), p)
