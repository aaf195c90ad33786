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

from agents.defenders.predcoin.gamma import accuracy_loss, bisection, gains, scan, top_two
from agents.defenders.predcoin.query_detector import QueryDetector
from agents.defenders.predcoin.query_material import Material, expected_images, gather
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
    images: int | None = None
    seed: int = 0
    _detector: QueryDetector | None = field(default=None, init=False, repr=False, compare=False)
    _threshold: float = field(default=OFF, init=False, repr=False, compare=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.gamma is not None and not 0 <= self.gamma <= 1:
            raise ValueError(f"gamma must be from 0 to 1, or not given; found {self.gamma}")
        if not 0 <= self.bound < math.inf:
            raise ValueError(f"bound must be finite and at least 0; found {self.bound}")
        if self.search not in ("scan", "bisection"):
            raise ValueError(f'search must be "scan" or "bisection"; found {self.search!r}')
        if self.images is not None and self.images < 2:
            raise ValueError(f"images must be at least 2, or not given; found {self.images}")

    @property
    def flip_rate(self) -> float:
        """The share of flagged queries that are expected to be flipped."""
        return 0.5

    @abstractmethod
    def flips(self, x: Tensor, rows: Rows) -> Tensor:
        """[n] bool: which of the images `x` [n,C,H,W] are flipped if they are flagged."""

    def detector_of(self, material: Material) -> QueryDetector:
        """The trained F_Q."""
        return material.detector

    def fit(self, classifier: Classifier, splits: Splits) -> Self:
        """This defender with F_Q trained on one boundary query of HopSkipJump from each of some training
        images, and gamma chosen on the calibration split unless it is given."""
        material = gather(classifier, splits, images=self.images, seed=self.seed)
        detector = self.detector_of(material)
        y1, gain = detector(material.calibration), gains(material.calibration, material.labels)
        if self.gamma is None:
            # If nothing is flipped, the threshold is that of a fair coin.
            choose, rate = (scan if self.search == "scan" else bisection), self.flip_rate or 0.5
            chosen = choose(y1, gain, self.bound, rate)
        else:
            chosen = self.gamma
        gamma = OFF if chosen is None else chosen
        facts = {
            "gamma": "off" if chosen is None else chosen,
            "accuracy_loss": accuracy_loss(y1, gain, gamma, self.flip_rate),
            **_rates(material, detector, gamma),
        }
        return self._fitted(detector.to(torch.device(classifier.device)), gamma, facts)

    def preparing(self, splits: Splits) -> int:
        return expected_images(splits, self.images)

    def _fitted(self, detector: QueryDetector, gamma: float, facts: dict[str, Any]) -> Self:
        fitted = copy.copy(self)
        for name, value in (("_detector", detector), ("_threshold", gamma), ("_facts", facts)):
            object.__setattr__(fitted, name, value)
        return fitted

    def state(self) -> dict[str, Any]:
        return {**self._trained().state(), "threshold": self._threshold, "facts": self.facts()}

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        return self._fitted(QueryDetector.restored(state), state["threshold"], dict(state["facts"]))

    def facts(self) -> dict[str, Any]:
        """Gamma; and on the calibration split: the accuracy expected to be lost, the share flagged, the false
        positives of F_Q (of correctly classified images) and its false negatives (of boundary queries)."""
        return dict(self._facts)

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        response = inner(x, rows)
        scores, sound = _sound(response.scores)
        detected = sound & (self.excess(scores) >= 0)
        flipped = torch.where((detected & self.flips(x, rows))[:, None], swap(scores), response.scores)
        return replace(response, scores=flipped, flagged=response.flagged | detected)

    def detector(self, x: Tensor, classifier: Classifier) -> Tensor:
        """y1 - gamma [n] of the classifier's answers to `x`."""
        return self.excess(_sound(classifier(x))[0])

    def excess(self, scores: Tensor) -> Tensor:
        """y1 - gamma [n] of logits [n,K], finite."""
        return self._trained()(scores) - self._threshold

    def _trained(self) -> QueryDetector:
        if self._detector is None:
            raise ValueError(f"{type(self).__name__} must be fitted first")
        return self._detector


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


def _rates(material: Material, detector: QueryDetector, gamma: float) -> dict[str, Any]:
    """The error rates of F_Q at gamma on examples not used for training; None if there are none."""
    right = labels_of(material.calibration) == material.labels
    flagged = detector(material.calibration) >= gamma
    held = {norm: detector(logits) < gamma for norm, logits in material.held_out.items()}
    missed = torch.cat([torch.zeros(0, dtype=torch.bool), *held.values()])
    return {
        "flagged": _share(flagged),
        "false_positive": _share(flagged[right]),
        "false_negative": _share(missed),
        **{f"false_negative_{norm}": _share(of) for norm, of in held.items()},
        "trained_on": len(material.queries),
        "held_out": len(missed),
    }


def _share(rows: Tensor) -> float | None:
    return int(rows.sum()) / len(rows) if len(rows) else None
