"""Dashed Line Defense: a margin on one of two lines, which alternate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from arena.players import Defender, Rows
from arena.players.card import Card


@dataclass(frozen=True)
class DLD(Defender):
    """Dashed Line Defense (Fu, Guo and Luo, "Dashed Line Defense: Plug-And-Play Defense Against Adaptive
    Score-Based Query Attacks", AISTATS 2026).

    With m the margin of the largest logit over the second, L = floor(m / tau) tau and u = m - L, the margin
    answered is t = L + h tau + (1 - h) u on the high line and t = L + h tau - h u on the low one, which runs
    against the true margin. Which one it is depends on u alone: within each step of length s tau, the last
    part `high` of it is answered by the high line. So the loss is dashed: a falling score tells neither a
    better image nor a worse one. Only the largest logit moves, by t - m; labels stay, as t > 0 (a t that
    float32 would lose is answered as the smallest that it keeps).

    This is the map of the authors' released code and its settings; the abstract and the code were read, not
    the paper. There the map is deterministic: of the random variant that the code mentions, the paper says
    that repeats undo it.

    Attributes:
        tau: the length of a period, in logits.
        h: where both lines begin, as a share of the period.
        s: the length of a step, as a share of the period.
        high: the share of each step on the high line.
    """

    tau: float = 6.0
    h: float = 0.3
    s: float = 0.04
    high: float = 0.5

    card: ClassVar[Card] = Card(
        alters=("scores",),
        paper="Fu, Guo and Luo, Dashed Line Defense, AISTATS 2026",
        claims="withstands adaptive Square on ImageNet better than AAA and RND; labels stay",
        broken_by=("hop-skip-jump",),
    )

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau must be finite and above 0; found {self.tau}")
        for name in ("h", "s", "high"):
            if not 0 < (value := getattr(self, name)) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1; found {value}")

    def target(self, margin: Tensor) -> Tensor:
        """t [n] of the margin m [n] >= 0."""
        within = margin.remainder(self.tau)
        in_step = (within / self.tau).remainder(self.s)
        on_high = in_step > self.s * (1 - self.high)
        return margin - within + self.h * self.tau + (on_high.to(margin.dtype) - self.h) * within

    def rewrite(self, scores: Tensor, rows: Rows) -> Tensor:
        top = scores.argmax(dim=1, keepdim=True)
        second = scores.scatter(1, top, -math.inf).amax(dim=1)
        margin = scores.amax(dim=1) - second
        # The second logit's neighbours in float32 lie 2^-23 of it apart.
        target = self.target(margin).maximum(second.abs() * 2.0**-20).clamp_min(1e-6)
        moved = scores.scatter(1, top, (second + target)[:, None])
        return torch.where(margin.isfinite()[:, None], moved, scores)
