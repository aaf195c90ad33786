"""What PredCoin and its variants share: they detect gradient-estimation queries and flip some answers."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from agents.defenders.predcoin.gamma import (
    accuracy_loss,
    bisection,
    gains,
    right_answers_lost,
    scan,
    top_two,
)
from agents.defenders.predcoin.image_detector import ImageDetector
from agents.defenders.predcoin.query_detector import QueryDetector
from agents.defenders.predcoin.query_material import Material, expected_images, gather
from agents.parameters import check_choice
from arena.classifiers import Classifier
from arena.players import Defender, Inner, Response, Rows, Splits
from arena.rules.outcome import labels_of

OFF = 2.0
"""A threshold that no y1 reaches."""


@dataclass(frozen=True)
class DetectAndFlip(Defender, ABC):
    """Flags queries whose top three probabilities F_Q takes for those of a gradient estimation (y1 >= gamma);
    those that `flips` chooses are answered with the two largest logits swapped.

    The swap is by index: the multiset of scores stays. Equal logits are first separated by one unit in the
    last place, or the label would stay. F_Q sees the scores of the defenders inside; an insider's `detector`
    those of the classifier alone. Rows that are not finite, or give no label, stay unchanged.
    """

    gamma: float | None = None
    bound: float = 0.10
    search: Literal["scan", "bisection"] = "bisection"
    images: int | float | None = None
    seed: int = 0
    _detector: QueryDetector | ImageDetector | None = field(
        default=None, init=False, repr=False, compare=False
    )
    _threshold: float = field(default=OFF, init=False, repr=False, compare=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be from 0 to 1, or not given; found {self.gamma}")
        if not 0 <= self.bound < math.inf:
            raise ValueError(f"bound must be finite and at least 0; found {self.bound}")
        check_choice(self, search=("scan", "bisection"))
        if self.images is not None and not _number_or_share(self.images):
            raise ValueError(
                f"images must be a whole number from 2 on, a share of the training images between 0 and 1, "
                f"or not given; found {self.images}"
            )

    @property
    def flip_rate(self) -> float:
        """The share of flagged queries that are expected to be flipped."""
        return 0.5

    @abstractmethod
    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        """[n] bool: which of the images `x` [n,C,H,W] are flipped if they are flagged."""

    def learn(self, classifier: Classifier, splits: Splits) -> Learnt:
        """The trained F_Q."""
        material = gather(classifier, splits, images=self.images, seed=self.seed)
        detector = self.detector_of(material)
        held = {norm: detector(logits) for norm, logits in material.held_out.items()}
        return Learnt(detector, material, detector(material.calibration), held)

    def detector_of(self, material: Material) -> QueryDetector:
        """The trained F_Q."""
        return material.detector

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with F_Q trained on one boundary query of HopSkipJump from each of some training
        images, and gamma chosen on the calibration split unless it is given."""
        learnt = self.learn(classifier, splits)
        y1, gain = learnt.y1, gains(learnt.material.calibration, learnt.material.labels)
        if self.gamma is None:
            # If nothing is flipped, the threshold is that of a fair coin.
            choose, rate = (scan if self.search == "scan" else bisection), self.flip_rate or 0.5
            chosen = choose(y1, gain, self.bound, rate)
        else:
            chosen = self.gamma
        gamma = OFF if chosen is None else chosen
        facts = {
            "gamma": "off" if chosen is None else chosen,
            "right_answers_lost": right_answers_lost(y1, gain, gamma, self.flip_rate),
            "net_accuracy_loss": accuracy_loss(y1, gain, gamma, self.flip_rate),
            **_rates(learnt, gamma),
        }
        return self._fitted(learnt.detector.to(torch.device(classifier.device)), gamma, facts)

    def preparing(self, splits: Splits) -> int:
        return expected_images(splits, self.images)

    def _fitted(self, detector: QueryDetector | ImageDetector, gamma: float, facts: dict[str, Any]) -> Self:
        fitted = copy.copy(self)
        for name, value in (("_detector", detector), ("_threshold", gamma), ("_facts", facts)):
            object.__setattr__(fitted, name, value)
        return fitted

    def state(self) -> dict[str, Any]:
        return {**self._trained().state(), "threshold": self._threshold, "facts": self.facts()}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        return self._fitted(QueryDetector.restored(state), state["threshold"], dict(state["facts"]))

    def facts(self) -> dict[str, Any]:
        """Gamma; and on the calibration split: the share of images whose right answer is expected to be lost,
        the accuracy expected to be lost net of wrong answers that a flip sets right, the share flagged, the
        false positives of the detector (of correctly classified images), its false negatives (of boundary
        queries), and its balanced accuracy, 1 minus the mean of both."""
        return dict(self._facts)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        scores, sound = _sound(response.scores)
        detected = sound & (self.excess(x, scores) >= 0)
        flipped = torch.where((detected & self.flips(x, rows))[:, None], swap(scores), response.scores)
        return replace(response, scores=flipped, flagged=response.flagged | detected)

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        """y1 - gamma [n] of the classifier's answers to `x`."""
        return self.excess(x, _sound(classifier(x))[0])

    def excess(self, x: Tensor, scores: Tensor) -> Tensor:
        """y1 - gamma [n] of images `x` [n,C,H,W] that are answered with logits [n,K], finite."""
        return self._trained()(scores) - self._threshold

    def _trained(self) -> QueryDetector | ImageDetector:
        if self._detector is None:
            raise ValueError(f"{type(self).__name__} must be fitted first")
        return self._detector


@dataclass(frozen=True, eq=False)
class Learnt:
    """A trained detector, and what it makes of examples that it was not trained on: y1 [c] of the calibration
    images of the material, and [h] of the boundary queries held out, by norm."""

    detector: QueryDetector | ImageDetector
    material: Material
    y1: Tensor
    held_out: dict[str, Tensor]


def swap(scores: Tensor) -> Tensor:
    """Logits [n,K] with the two largest swapped; of equal ones the second is raised by one last bit first."""
    first, second = top_two(scores)
    low, high = (scores.gather(1, i[:, None]) for i in (second, first))
    high = torch.where(high > low, high, torch.nextafter(high, torch.full_like(high, torch.inf)))
    return scores.scatter(1, first[:, None], low).scatter(1, second[:, None], high)


def _sound(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Logits with 0 in place of rows that are not finite, and [n] bool: which rows are, and give a label."""
    finite = scores.isfinite().all(dim=1)
    return torch.where(finite[:, None], scores, 0.0), finite & (labels_of(scores) >= 0)


def _rates(learnt: Learnt, gamma: float) -> dict[str, Any]:
    """The error rates of a detector at gamma on examples not used for training; None if there are none."""
    material = learnt.material
    right = labels_of(material.calibration) == material.labels
    flagged = learnt.y1 >= gamma
    held = {norm: y1 < gamma for norm, y1 in learnt.held_out.items()}
    missed = torch.cat([torch.zeros(0, dtype=torch.bool), *held.values()])
    positive, negative = _share(flagged[right]), _share(missed)
    errors = [rate for rate in (positive, negative) if rate is not None]
    return {
        "flagged": _share(flagged),
        "false_positive": positive,
        "false_negative": negative,
        **{f"false_negative_{norm}": _share(of) for norm, of in held.items()},
        "balanced_accuracy": 1 - sum(errors) / 2 if len(errors) == 2 else None,
        "trained_on": len(material.queries),
        "held_out": len(missed),
    }


def _number_or_share(images: float) -> bool:
    return 0 < images < 1 or (isinstance(images, int) and images >= 2)


def _share(rows: Tensor) -> float | None:
    return int(rows.sum()) / len(rows) if len(rows) else None
