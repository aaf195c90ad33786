"""PredCoin with a detector on the image itself, the design that its authors rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from agents.defenders.predcoin.detect_and_flip import Learnt
from agents.defenders.predcoin.image_detector import ImageDetector
from agents.defenders.predcoin.predcoin import PredCoin
from agents.defenders.predcoin.query_material import gather
from arena.classifiers import Classifier
from arena.players import Splits
from arena.players.card import Card


@dataclass(frozen=True)
class PredCoinImage(PredCoin):
    """PredCoin with a detector that takes x as input (Guo et al., section 5.2, option 1).

    A small convolutional network distinguishes benign images from one boundary query G(x) of HopSkipJump for
    each; a detected query is answered, with the probability `coin`, with the second class. The authors gave
    the network the classifier's own structure, found at most 71 % of accuracy on CIFAR-10, and rejected it;
    here it has three convolutions. It needs no scores, but sees only what HopSkipJump's images look like.
    Parameters as for PredCoin; `images` decides how much it learns.
    """

    card: ClassVar[Card] = Card(
        alters=("label",),
        paper='Guo et al., "PredCoin: Defense against Query-based Hard-label Attack", section 5.2, option 1',
        claims="at most 71 % accuracy of the detector on CIFAR-10; rejected by its authors",
        broken_by=("square",),
    )

    def learn(self, classifier: Classifier, splits: Splits) -> Learnt:
        material = gather(classifier, splits, images=self.images, seed=self.seed, pictures=True)
        detector, pictures, split = material.detector_of_images, material.pictures, splits.calibration
        assert pictures is not None
        pieces = torch.split(material.finite, classifier.batch)
        y1 = torch.cat([detector(split.take(places).cpu()) for places in pieces])
        held = {norm: detector(x) for norm, x in pictures.held_out.items()}
        return Learnt(detector, material, y1, held)

    def restore(self, state: Mapping[str, Any], classifier: Classifier) -> Self:
        return self._fitted(ImageDetector.restored(state), state["threshold"], dict(state["facts"]))

    def excess(self, x: Tensor, scores: Tensor) -> Tensor:
        return self._trained()(x) - self._threshold
