"""What a defended classifier is worth to honest users: its accuracy, calibration and cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from arena.evaluation.benign.losses import BenignLoss
from arena.evaluation.reliability import Reliability

WIDE = 2.0
"""From one end of a cost's interval to the other: above it no figure is shown."""


@dataclass(frozen=True)
class Utility:
    """A stack of defenders around a classifier, measured on clean labelled images.

    "Undefended" is the classifier as the scenario names it, before any defender hardens it. An image that is
    refused or gets no label (declined, or NaN among its scores) counts as wrong; calibration and likelihood
    are those of the answered images, NaN if there are none.

    Attributes:
        images: how many, one query each; a random defender draws once for each of them.
        accuracy: the share answered with the true label; low, high: its 95 % Wilson interval, which is over
            images alone, not over a random defender's draws.
        declined, refused: the shares without a label, and refused.
        input_l2: the mean l2 distance, in pixel units of [0,1], between a clean image and what the classifier
            was asked about in its place, over all that it was asked: ||x_0 - x_q|| of Byun et al., table 7. 0
            where defenders leave images alone; NaN where they change their shape or do not ask, and in logs
            of layouts before 0010.
        flagged: the share that the defender marked as an attacker's: its false positives; NaN in logs that do
            not record it (layouts before 0003).
        agreement: the share whose label (or lack of one) is the undefended classifier's.
        ece: expected calibration error over 15 bins of equal width (`statistics.ece`); in [0, 1].
        ece_mass: the same over 15 bins of equal mass (`statistics.ece_quantile`).
        nll: mean negative log-likelihood in nats; infinite if a true label has probability 0.
        batch: rows in the large batch of the figures below. These are NaN or None if they were not measured;
            unlike the figures above, they vary from one measurement to the next.
        cost_1, cost_batch: seconds per query relative to the undefended classifier, at 1 row and at `batch`
            rows: medians over pairs of interleaved runs; with their 95 % intervals (`_low`, `_high`). NaN for
            a stack that answers as the classifier alone.
        seconds_1, seconds_batch: the defended seconds per query, medians; on the CPU those of the processor.
        peak_bytes: the most memory that answering one large batch needs at any moment, beyond weights,
            images and what was held before.
        multiply_adds: of one query of one image, in convolutions, matrix products and attention: those of the
            classifier for each row that it is asked, and the defenders' own. Element-wise work is not counted
            (normalisation, activations, noise, AAA's descent on logits). NaN where the classifier's cannot be
            counted.
        reliability: probabilities and accuracy along the images; None in logs that do not record them
            (layouts before 0011).
        benign: what benign clients lost to it, where they were played together; a log keeps that apart.
    """

    images: int
    accuracy: float
    low: float
    high: float
    declined: float
    refused: float
    agreement: float
    ece: float
    ece_mass: float
    nll: float
    batch: int | None = None
    cost_1: float = math.nan
    cost_1_low: float = math.nan
    cost_1_high: float = math.nan
    cost_batch: float = math.nan
    cost_batch_low: float = math.nan
    cost_batch_high: float = math.nan
    seconds_1: float = math.nan
    seconds_batch: float = math.nan
    peak_bytes: int | None = None
    flagged: float = math.nan
    input_l2: float = math.nan
    multiply_adds: float = math.nan
    reliability: Reliability | None = None
    benign: tuple[BenignLoss, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{self.images} images, accuracy {self.accuracy:.1%} [{self.low:.1%}, {self.high:.1%}], "
            f"agreement {self.agreement:.1%}, ECE {self.ece:.2%}, NLL {self.nll:.3g}"
        )
        if self.declined or self.refused:
            text += f", declined {self.declined:.1%}, refused {self.refused:.1%}"
        if self.flagged > 0:
            text += f", flagged {self.flagged:.1%}"
        if self.input_l2 > 0:
            text += f", images moved by {self.input_l2:.3g} in l2"
        if not math.isnan(self.cost_1):
            one = cost_in_words(self.cost_1, self.cost_1_low, self.cost_1_high)
            many = cost_in_words(self.cost_batch, self.cost_batch_low, self.cost_batch_high)
            text += f", cost {one} at 1 row and {many} at {self.batch}"
        return text


def cost_in_words(value: float, low: float, high: float, missing: str = "unknown") -> str:
    """A ratio of times as a figure; "about 1" where its interval covers 1; the interval alone, "0.4 to 5",
    where its ends are further apart than a factor of `WIDE`, so that the figure would be noise; `missing`
    where nothing was measured, or too little for an interval."""
    if math.isnan(value) or math.isinf(high):
        return missing
    if high > WIDE * low:
        return f"{low:.2g} to {high:.2g}"
    if low <= 1 <= high:
        return "about 1"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"
