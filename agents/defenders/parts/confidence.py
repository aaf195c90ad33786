"""How sure a classifier is of its answers, for defenders that act where it is not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from arena.classifiers import Classifier
from arena.players import Splits


def probabilities(scores: Tensor) -> Tensor:
    """softmax [n,K] of logits [n,K], in float64, so that no batch changes what is compared with a threshold.

    A row that holds NaN, +inf or nothing finite is NaN throughout.
    """
    return scores.double().softmax(dim=1)


def confidence(scores: Tensor) -> Tensor:
    """max softmax [n], float64, of logits [n,K]; NaN as there, which no threshold is above."""
    return probabilities(scores).amax(dim=1)


def calibration_logits(classifier: Classifier, splits: Splits, who: str) -> tuple[Tensor, Tensor]:
    """Logits [n,K] and labels [n] of those images of the calibration split whose logits are finite.

    Raises ValueError if there are none, in the name of `who`.
    """
    split = splits.calibration
    cuts = range(0, len(split), classifier.batch)
    pieces = [classifier(split.take(slice(c, c + classifier.batch)).to(classifier.device)) for c in cuts]
    logits = torch.cat(pieces)
    finite = logits.isfinite().all(dim=1)
    if not finite.any():
        raise ValueError(
            f"{who} tunes itself on finite logits; those of all {len(finite)} calibration images hold "
            f"infinities or NaN (a class that is masked for some images, say)"
        )
    return logits[finite], split.labels.to(logits.device)[finite]


def lowest_share(values: Tensor, share: float) -> float:
    """The largest threshold below which at most `share` of `values` [n] lie; n at least 1, share below 1."""
    ascending = values.sort().values
    return float(ascending[math.floor(share * len(values) + 1e-9)])
