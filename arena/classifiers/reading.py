"""How the scores of a network are read as logits where they are none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from arena.rules.losses import LEAST_LOG

MASKED = -1e30
"""The logit in place of minus infinity where a network masks a class: its probability is 0 all the same."""


@dataclass(frozen=True)
class Reading:
    """Scores [n,K] -> logits [n,K].

    Attributes:
        floor: the least logit.
        probabilities: whether the scores are probabilities p; log p are their logits: softmax gives p back.
        remark: what a user should know.
    """

    floor: float
    probabilities: bool
    remark: str

    def __call__(self, scores: Tensor) -> Tensor:
        if self.probabilities:
            # 1 / p, the derivative, is finite from here on.
            p = scores.clamp_min(torch.finfo(scores.dtype).tiny) if scores.requires_grad else scores
            scores = p.log()
        return scores.clamp_min(self.floor)

    @classmethod
    def of(cls, scores: Tensor) -> Reading | None:
        """The reading that scores [n,K] of a few images ask for; None: they are logits as they are."""
        if (scores >= 0).all() and (scores.double().sum(dim=1) - 1).abs().max() < 1e-3:
            return cls(
                LEAST_LOG,
                True,
                "its answers are probabilities (not negative, each row adds up to 1): log p is taken for its "
                "logits",
            )
        masked = (scores == -torch.inf).any(dim=0).nonzero().flatten().tolist()
        if masked:
            which = ", ".join(map(str, masked[:10])) + (", ..." if len(masked) > 10 else "")
            told = f"it answers minus infinity for classes ({which}), which is taken for probability 0"
            return cls(MASKED, False, told)
        return None
