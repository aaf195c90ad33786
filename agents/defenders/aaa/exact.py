"""AAA without its descent: the logits at which its loss is least."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from agents.defenders.aaa.calibrated import GUARDED_MARGIN, Calibrated, Margins, check_positive
from agents.defenders.aaa.linear import AAALinear
from agents.defenders.aaa.sine import AAASine
from agents.parameters import check_choice
from arena.players.card import Card

LEAST_REST = 1e-4
"""Of the classes after the second, exp(z_k - z_2) summed: with less, their scores would only betray it."""


@dataclass(frozen=True)
class AAAExact(Calibrated):
    """AAA's loss (Chen et al., "Adversarial Attack on Attackers", NeurIPS 2022, eq. 6),
    |m(z) - t| + beta |p_c(z) - p*|, at its minimum, in place of the 100 steps of Adam of aaa-linear and
    aaa-sine, which stop before it or beside it. The closed form is ours.

    With z_2 the second largest logit, m the margin above it and R the sum of exp(z_k - z_2) over the other
    classes, p_c = e^m / (e^m + 1 + R). Where R* = e^t (1/p* - 1) - 1 lies within what the K - 2 others can
    sum to, the margin is t and the others move together, each up to z_2 at most, until R = R*: both terms are
    0. Elsewhere R is at that end, and the margin between t and the one at which p_c = p* minimises what is
    left: t, or behind the stretch where beta p_c (1 - p_c) > 1, which at beta 5 ends .962 above ln(1 + R).

    Its logits are not those of Adam, whose local optima it does not reproduce. A row whose label float32
    would lose is guarded as there; rows that are not finite stay unchanged.

    Attributes:
        form: the target t of the margin: that of aaa-linear, or of aaa-sine.
        alpha: as there; None: its default there, 1 or .7.
        tau: the width of a cell, in logits.
        beta: the weight of the calibration.
        temperature: of the logits whose largest probability is p*; None: the one that gives the answers the
            smallest calibration error (ECE) on the calibration split.
    """

    form: Literal["linear", "sine"] = "linear"
    alpha: float | None = None
    tau: float = 6.0
    beta: float = 5.0
    temperature: float | None = None

    card: ClassVar[Card] = Card(
        alters=("scores",),
        paper="Chen et al., Adversarial Attack on Attackers, NeurIPS 2022 (its loss; the closed form is the "
        "arena's)",
        claims="score attacks are misled, labels stay, confidence is calibrated; nothing against label "
        "attacks",
        broken_by=("hop-skip-jump",),
    )

    def __post_init__(self) -> None:
        check_choice(self, form=tuple(_FORMS))
        largest = _FORMS[self.form].largest_alpha
        if self.alpha is not None and not 0 < self.alpha <= largest:
            raise ValueError(
                f"alpha must be above 0 and at most {largest}, above which margins aimed at turn negative; "
                f"found {self.alpha}"
            )
        check_positive(self, "tau", "temperature")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be finite and at least 0; found {self.beta}")

    def target(self, margin: Tensor) -> Tensor:
        """The target margin t [n] of the original margin m0 [n] >= 0."""
        form = _FORMS[self.form]
        return (form(tau=self.tau) if self.alpha is None else form(self.alpha, self.tau)).target(margin)

    def moved(self, margins: Margins, temperature: float) -> tuple[Tensor, Tensor]:
        target = self.target(margins.margin)
        logits, top = margins.logits.double(), margins.top[:, None]
        second = logits.scatter(1, top, -math.inf).argmax(dim=1, keepdim=True)
        gaps = logits - logits.gather(1, second)
        apart = ((logits - logits.gather(1, top)) / temperature).scatter(1, top, -math.inf)
        # logit(p*), which float64 holds where p* itself is 1.
        aim = -apart.logsumexp(dim=1)
        others = gaps.scatter(1, torch.cat([top, second], dim=1), -math.inf)
        most = logits.shape[1] - 2
        rest = ((target.double() + aim.neg()).exp() - 1).clamp(min(LEAST_REST, most), most)
        margin = self.best_margin(target.double(), aim, rest)
        moved = (others + water_level(others, rest)[:, None]).clamp_max(0).scatter(1, second, 0.0)
        moved = logits.gather(1, second) + moved.scatter(1, top, margin[:, None])
        return moved.float(), target

    def best_margin(self, target: Tensor, aim: Tensor, rest: Tensor) -> Tensor:
        """m [n] that minimises |m - t| + beta |sigmoid(m - ln(1 + R)) - sigmoid(aim)|, all float64 [n].

        It lies between t and where the second term is 0. On this way the sum falls, if at all, around where
        beta p (1 - p) > 1, so that it is least at t or behind that stretch.
        """
        level = rest.log1p()
        calibrated = (aim + level).maximum(target.clamp_max(GUARDED_MARGIN))
        behind = 2 * math.atanh(math.sqrt(1 - 4 / self.beta)) if self.beta > 4 else 0.0
        turn = torch.where(calibrated > target, level + behind, level - behind)
        other = turn.maximum(target.minimum(calibrated)).minimum(target.maximum(calibrated))

        def loss(margin: Tensor) -> Tensor:
            off = (margin - level).sigmoid() - aim.sigmoid()
            return (margin - target).abs() + self.beta * off.abs()

        return torch.where(loss(other) < loss(target), other, target)


def water_level(gaps: Tensor, rest: Tensor) -> Tensor:
    """s [n] with sum_k min(e^(g_k + s), 1) = R, float64; gaps g [n,K] <= 0, of which those that are -inf take
    no part; R [n] from above 0 to how many do. Where none does, 0."""
    descending = gaps.sort(dim=1, descending=True).values[:, : gaps.shape[1] - 2]
    if not descending.shape[1]:
        return torch.zeros_like(rest)
    tails = descending.flip(1).logcumsumexp(dim=1).flip(1)
    # With j classes at the cap, R is at most what it is as the next one reaches it.
    capped = torch.arange(descending.shape[1], device=gaps.device)
    reached = capped + (tails - descending).exp()
    j = (reached < rest[:, None]).sum(dim=1, keepdim=True).clamp_max(descending.shape[1] - 1)
    return (rest[:, None] - j).log()[:, 0] - tails.gather(1, j)[:, 0]


_FORMS: dict[str, type[AAALinear | AAASine]] = {"linear": AAALinear, "sine": AAASine}
