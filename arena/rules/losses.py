"""The losses that score attackers minimise (Square Attack, 2020; Adversarial Attack on Attackers, 2022)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Loss = Literal["margin", "probability-margin", "probability", "cross-entropy"]

LEAST_LOG = -150 * math.log(2)
"""The logarithm in place of that of a probability 0: half of the smallest float32 above 0 rounds to 0."""
LEAST_REST = 2.0**-24
"""What `topk` hides is taken to be at least this: the rounding of what it shows is as large."""


def margin(scores: Tensor, label: Tensor) -> Tensor:
    """`z_y - max_{k != y} z_k` [n] of scores [n,K] and labels [n]; NaN in a row gives NaN.

    Two equal scores are 0 apart, infinite ones too. With one class the margin is z_y itself.
    """
    own, best = _own_and_best(scores, label)
    if best is None:
        return own
    apart = own - best
    if apart.is_cpu and not math.isnan(apart.sum().item()):
        return apart  # the rule; what follows takes longer than the margin itself
    # Not all ties: finite ones keep their gradient.
    return apart.masked_fill((own == best) & own.isinf(), 0.0)


def attack_loss(
    scores: Tensor, label: Tensor, kind: Loss, *, targeted: bool, logits: bool, partial: bool = False
) -> Tensor:
    """The loss to minimise, [n]; each sees a classifier that is sure of itself as far as float32 reaches.

    `margin`: z_y - max_{k != y} z_k, or minus that of the target when targeted. Probabilities have the same
    margin, log p_y - log max_{k != y} p_k, as far as float32 holds them: 0 stands for less than 2^-149, so
    that the margin sees up to about 103.
    `probability-margin`: p_y - max_{k != y} p_k - 1, or the target's, max_{k != t} p_k - p_t - 1. The 1 taken
    off lets it be summed from small probabilities alone; near p_y = 1 the difference would round to 1.
    `probability`: p_y - 1, summed from the others, or -p_t.
    `cross-entropy`: log p_y, or -log p_t when targeted; of logits -log(1 + sum_{k != y} exp(z_k - z_y)),
    which stays below 0 where p_y rounds to 1; of probabilities log(1 - sum_{k != y} p_k) where p_y is above
    a half. Logits at +inf share all probability.

    Args:
        scores: [n,K] logits or probabilities.
        label: [n] the labels y, or the targets.
        logits: whether `scores` are logits.
        partial: whether classes with probability 0 are hidden (`topk`): each is taken to have an equal share
            of what those shown leave, and no more than the least of these.
    """
    if not logits and partial:
        scores = _with_hidden(scores)
    if kind == "margin":
        loss = margin(scores, label) if logits else _log_margin(scores, label)
    elif kind == "cross-entropy":
        loss = _log_softmax(finite_above(scores), label) if logits else _log_probability(scores, label)
    else:
        p = finite_above(scores).softmax(dim=1) if logits else scores
        return (_probability if kind == "probability" else _probability_margin)(p, label, targeted)
    return -loss if targeted else loss


def as_logits(scores: Tensor, *, logits: bool, partial: bool = False) -> Tensor:
    """Scores [n,K] as logits, up to a number that is the same for all classes of a row.

    Args:
        logits: whether `scores` are logits; else they are probabilities, and their logarithms are taken.
        partial: as for `attack_loss`.
    """
    if logits:
        return scores
    return _log(_with_hidden(scores) if partial else scores)


def finite_above(scores: Tensor) -> Tensor:
    """Scores with the largest finite number in place of +inf: their softmax is the limit of large ones."""
    return scores.clamp_max(torch.finfo(scores.dtype).max)


def _own_and_best(scores: Tensor, label: Tensor) -> tuple[Tensor, Tensor | None]:
    """Of scores [n,K] those of the labels, and the largest others (None if there is one class), [n] each."""
    column = label.unsqueeze(1)
    own = scores.gather(1, column).squeeze(1)
    return own, scores.scatter(1, column, -torch.inf).amax(dim=1) if scores.shape[1] > 1 else None


def _log_margin(p: Tensor, label: Tensor) -> Tensor:
    """log p_y - log max_{k != y} p_k [n] of probabilities [n,K]."""
    own, best = _own_and_best(p, label)
    return _log(own) if best is None else _log(own) - _log(best)


def _probability(p: Tensor, label: Tensor, targeted: bool) -> Tensor:
    """p_y - 1, or -p_t [n], of probabilities [n,K]."""
    column = label.unsqueeze(1)
    if targeted:
        return -p.gather(1, column).squeeze(1)
    return -p.scatter(1, column, 0.0).sum(dim=1)


def _probability_margin(p: Tensor, label: Tensor, targeted: bool) -> Tensor:
    """p_y - max_{k != y} p_k - 1, or max_{k != t} p_k - p_t - 1 [n], of probabilities [n,K]."""
    column = label.unsqueeze(1)
    others = p.scatter(1, column, 0.0)
    if not targeted:
        return -(others.sum(dim=1) + others.amax(dim=1))
    best = others.argmax(dim=1, keepdim=True)
    return -(p.scatter(1, best, 0.0).sum(dim=1) + p.gather(1, column).squeeze(1))


def _log_softmax(scores: Tensor, label: Tensor) -> Tensor:
    """log p_y [n] of finite logits [n,K]."""
    column = label.unsqueeze(1)
    own = scores.gather(1, column).squeeze(1)
    if scores.shape[1] == 1:
        return own * 0
    odds = scores.scatter(1, column, -torch.inf).logsumexp(dim=1) - own
    # log(1 + exp(odds)); torch's softplus rounds a batch's last rows in another way than the others.
    return -(odds.clamp_min(0) + odds.abs().neg().exp().log1p())


def _log_probability(p: Tensor, label: Tensor) -> Tensor:
    """log p_y [n] of probabilities [n,K]."""
    column = label.unsqueeze(1)
    own = p.gather(1, column).squeeze(1)
    others = p.scatter(1, column, 0.0).sum(dim=1)
    return torch.where(own > 0.5, torch.log1p(-others), _log(own))


def _log(p: Tensor) -> Tensor:
    return p.log().clamp_min(LEAST_LOG)


def _with_hidden(p: Tensor) -> Tensor:
    """Probabilities [n,K] with an estimate in place of each 0."""
    hidden = p == 0
    rest = (1 - p.sum(dim=1, keepdim=True, dtype=torch.float64)).clamp_min(LEAST_REST)
    share = (rest / hidden.sum(dim=1, keepdim=True).clamp_min(1)).to(p.dtype)
    least = torch.where(hidden, torch.inf, p).amin(dim=1, keepdim=True)
    return torch.where(hidden, torch.minimum(share, least), p)
