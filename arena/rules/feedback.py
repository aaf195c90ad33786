"""What an attacker sees of the scores that were answered."""

from __future__ import annotations

import torch
from torch import Tensor

from arena.rules.losses import finite_above


def shown(scores: Tensor, feedback: str, top_k: int | None) -> Tensor | None:
    """What the attacker sees of logits [n,K] under a feedback (docs/design.md, D6); hidden classes of `topk`
    carry 0. Logits at +inf share all probability."""
    if feedback == "label":
        return None
    if feedback == "logits":
        return scores
    p = finite_above(scores).softmax(dim=1)
    if top_k is None or top_k >= p.shape[1]:
        return p
    # Not torch.topk: among equal scores it may keep any, and so hide the label that was answered.
    kept = scores.argsort(dim=1, descending=True, stable=True)[:, :top_k]
    return torch.zeros_like(p).scatter_(1, kept, p.gather(1, kept))
