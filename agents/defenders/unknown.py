"""A third answer: "unknown", where the classifier is unsure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from torch import Tensor

from agents.defenders.parts.confidence import calibration_logits, confidence, lowest_share
from agents.defenders.parts.tuned import Tuned
from arena.classifiers import Classifier
from arena.players import Inner, Response, Rows, Splits
from arena.players.card import Card


@dataclass(frozen=True)
class Unknown(Tuned):
    """Give no label where max softmax(z) < theta: the answer "unknown" that Chen, Jordan and Wainwright
    ("HopSkipJumpAttack", S&P 2020) suggest, as PredCoin's authors read it.

    An "unknown" is a declined answer: it has neither label nor scores, and is never a hit. It is charged, and
    the attacker sees it, so that it may serve as a third answer to search along.

    Attributes:
        share: of the calibration images whose answer is to be "unknown": theta is the largest threshold below
            which no more of them lie.
        theta: given instead.
    """

    share: float = 0.02
    theta: float | None = None

    card: ClassVar[Card] = Card(
        alters=("label",),
        paper="Chen, Jordan and Wainwright, HopSkipJumpAttack, S&P 2020 (a suggestion in its discussion)",
        claims="targeted attacks are to fail, whose images lie where no class is sure; untargeted ones are "
        "not stopped",
        broken_by=("hop-skip-jump",),
    )

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be from 0 to below 1; found {self.share}")
        if self.theta is not None and not 0 < self.theta <= 1:
            raise ValueError(f"theta must be above 0 and at most 1, or not given; found {self.theta}")

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with theta found on the calibration split."""
        logits, _ = calibration_logits(classifier, splits, "Unknown")
        sure = confidence(logits)
        theta = lowest_share(sure, self.share) if self.theta is None else self.theta
        return self.with_facts({"theta": theta, "declined": (sure < theta).double().mean().item()})

    def preparing(self, splits: Splits) -> int:
        return len(splits.calibration)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        theta = self.number("theta")
        response = inner(x, rows)
        return replace(response, declined=response.declined | (confidence(response.scores) < theta))
