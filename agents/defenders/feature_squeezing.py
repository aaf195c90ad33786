"""Feature squeezing, the detector: an image whose answer changes when it is squeezed is an attacker's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from agents.defenders.bit_depth import reduced
from agents.defenders.parts.confidence import probabilities
from agents.defenders.parts.pieces import in_pieces
from agents.defenders.parts.tuned import Tuned
from agents.parameters import check_choice
from arena.classifiers import Classifier
from arena.players import Inner, Response, Rows, Splits
from arena.players.card import Card
from arena.players.response import pick

_Ask = Callable[[Tensor], Tensor]
"""Images [m,C,H,W] -> scores [m,K]."""


@dataclass(frozen=True)
class FeatureSqueezing(Tuned):
    """The joint detector of feature squeezing (Xu, Evans and Qi, NDSS 2018, section V): an image is flagged
    where max over squeezers s of ||p(x) - p(s(x))||_1 reaches a threshold, p being softmax.

    The squeezers are bit-depth reduction and the median of 2x2 pixels; the non-local means that the paper
    adds for CIFAR-10 and ImageNet are left out. The answer is that to the image itself.

    Attributes:
        b: bits a pixel of the first squeezer (the paper: 1 on MNIST, 5 on CIFAR-10 and ImageNet).
        median: whether the second one is asked, too.
        share: of the calibration images that are flagged at most, of which the threshold is made.
        threshold: given instead (the paper: 1.2358 on MNIST, 1.7547 on CIFAR-10 with non-local means).
        action: "flag" marks such an image for the log, "refuse" does not answer it.
    """

    b: int = 5
    median: bool = True
    share: float = 0.05
    threshold: float | None = None
    action: Literal["flag", "refuse"] = "flag"

    card: ClassVar[Card] = Card(
        alters=("service",),
        paper="Xu, Evans and Qi, Feature Squeezing, NDSS 2018",
        claims="detects 98 % of static adversarial images on MNIST and 85 % on CIFAR-10, at 5 % of clean "
        "ones",
        broken_by=("square", "hop-skip-jump"),
    )

    def __post_init__(self) -> None:
        if not 1 <= self.b <= 8:
            raise ValueError(f"b must be from 1 to 8 bits; found {self.b}")
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be from 0 to below 1; found {self.share}")
        if self.threshold is not None and not 0 < self.threshold <= 2:
            raise ValueError(f"threshold must be above 0 and at most 2, or not given; found {self.threshold}")
        check_choice(self, action=("flag", "refuse"))

    @property
    def asks(self) -> int:  # type: ignore[override]
        return 3 if self.median else 2

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with its threshold found on the calibration split."""
        split = splits.calibration
        cuts = [slice(c, c + classifier.batch) for c in range(0, len(split), classifier.batch)]
        found = [self.distance(split.take(cut).to(classifier.device), classifier) for cut in cuts]
        distance = torch.cat(found)
        distance = distance[~distance.isnan()]
        if not len(distance):
            raise ValueError(
                f"FeatureSqueezing tunes itself on probabilities; of all {len(split)} calibration images "
                f"there are none (logits that are NaN or infinite)"
            )
        threshold = highest_share(distance, self.share) if self.threshold is None else self.threshold
        return self.with_facts(
            {"threshold": threshold, "flagged": (distance >= threshold).double().mean().item()}
        )

    def preparing(self, splits: Splits) -> int:
        return self.asks * len(splits.calibration)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        return in_pieces(x, rows, inner, self.asks, self._judged) if len(x) else inner(x, rows)

    def _judged(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        n, threshold = len(x), self.number("threshold")
        # All in one call, by the same draws: a random defender inside is not to differ by itself.
        response = inner(self._squeezed(x), rows[torch.arange(n, device=x.device).repeat(self.asks)])
        answer = pick(response, torch.arange(n, device=x.device))
        found = self._distance(response.scores, n) >= threshold
        if self.action == "refuse":
            return replace(answer, refused=answer.refused | found, flagged=answer.flagged | found)
        return replace(answer, flagged=answer.flagged | found)

    def distance(self, x: Tensor, ask: _Ask) -> Tensor:
        """max over squeezers of ||p(x) - p(s(x))||_1, float64 [n], of images [n,C,H,W]; NaN where there is
        no probability."""
        return self._distance(ask(self._squeezed(x)), len(x))

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        return (self.distance(x, classifier).nan_to_num(0) - self.number("threshold")).float()

    def _squeezed(self, x: Tensor) -> Tensor:
        """Images [n,C,H,W] and, behind them, what each squeezer makes of them."""
        return torch.cat([x, reduced(x, self.b), *([median_2x2(x)] if self.median else [])])

    def _distance(self, scores: Tensor, n: int) -> Tensor:
        p = probabilities(scores).view(self.asks, n, -1)
        return (p[1:] - p[0]).abs().sum(dim=2).amax(dim=0)


def median_2x2(x: Tensor) -> Tensor:
    """Images [n,C,H,W] with each pixel replaced by the third smallest of itself and its neighbours above, to
    the left and between these, edges repeated: scipy's median_filter of size 2, which the authors use."""
    wide = pad(x, (1, 0, 1, 0), mode="replicate")
    above, here = wide[..., :-1, :], wide[..., 1:, :]
    # Of each column the larger and the smaller pixel; of two columns the third smallest. Sorting would hold
    # ten times as much.
    most, least = torch.maximum(above, here), torch.minimum(above, here)
    second = torch.minimum(most[..., :-1], most[..., 1:])
    return torch.maximum(second, torch.maximum(least[..., :-1], least[..., 1:]))


def highest_share(values: Tensor, share: float) -> float:
    """The smallest threshold, above 0, that at most `share` of `values` [n] reach; share below 1."""
    descending = values.sort(descending=True).values
    return math.nextafter(float(descending[math.floor(share * len(values) + 1e-9)]), math.inf)
