"""The training data of PredCoin: logits of benign images and of gradient-estimation queries."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from agents.defenders.predcoin.boundary_queries import boundary_queries, expected_queries
from agents.defenders.predcoin.query_detector import QueryDetector, train_detector, train_per_class
from arena import draws
from arena.classifiers import Classifier
from arena.players import Splits
from arena.rules.outcome import labels_of
from arena.rules.threat import Norm

SHARE = 0.05
"""The share of the training images that PredCoin uses."""
FEWEST, MOST = 200, 500
"""The least and the most images, whatever the share: enough to learn from, and at most minutes of play."""
HELD_OUT = 3
"""One game from the calibration split for so many from the training split."""
NORMS: tuple[Norm, ...] = ("l2", "linf")
KEPT = 8
"""How many materials a process caches."""


@dataclass(frozen=True, eq=False)
class Material:
    """Logits of the undefended classifier, on the CPU.

    Attributes:
        benign: [n,K], of training images that it gets right.
        queries: [n,K], of one boundary query from each of these.
        calibration: [c,K], of the calibration split; rows that are not finite are left out.
        labels: [c] int64.
        held_out: {norm: [h,K]}, of boundary queries from calibration images, which are not trained on.
        seed: of the training.
    """

    benign: Tensor
    queries: Tensor
    calibration: Tensor
    labels: Tensor
    held_out: dict[str, Tensor]
    seed: int

    @cached_property
    def detector(self) -> QueryDetector:
        """F_Q."""
        return train_detector(self.benign, self.queries, draws.derive(self.seed, "detector"))

    @cached_property
    def detector_per_class(self) -> QueryDetector:
        """F_Q^i."""
        return train_per_class(self.benign, self.queries, draws.derive(self.seed, "detector"))


_materials: OrderedDict[bytes, Material] = OrderedDict()


def gather(classifier: Classifier, splits: Splits, *, images: int | None, seed: int) -> Material:
    """The material for a classifier; cached if this process gathered the same before.

    Args:
        images: how many training images to play from; None: 5 % of them, at least 200, at most 500.
        seed: which images are drawn, and how they are played from.

    Raises:
        ValueError: if no logits are finite, too few images are classified rightly, or no boundary was found
            from any of them.
    """
    split = splits.train
    wanted = _wanted(splits, images)
    rows = _drawn(len(split), draws.derive(seed, "train"))[:wanted]
    x, label = split.take(rows).to(classifier.device), split.labels[rows].to(classifier.device)
    logits = classifier(x)
    _finite(logits, "training")
    scores, truth = _calibration(classifier, splits)
    digest = hashlib.sha256(f"{classifier.sha} {seed}".encode())
    for tensor in (x, label, logits, scores, truth):
        digest.update(tensor.cpu().contiguous().numpy().data)
    key = digest.digest()
    if key not in _materials:
        _materials[key] = _gathered(classifier, splits, x, label, logits, (scores, truth), seed)
        while len(_materials) > KEPT:
            _materials.popitem(last=False)
    _materials.move_to_end(key)
    return _materials[key]


def expected_images(splits: Splits, images: int | None) -> int:
    """About how many images `gather` asks the classifier."""
    played = min(_wanted(splits, images), len(splits.train))
    held_out = min(max(1, played // HELD_OUT), len(splits.calibration))
    pixels = splits.train.take(slice(0, 1)).numel()
    return len(splits.calibration) + (played + held_out) * (1 + expected_queries(pixels))


def _wanted(splits: Splits, images: int | None) -> int:
    """How many training images are played from."""
    return min(max(int(SHARE * len(splits.train)), FEWEST), MOST) if images is None else images


def _gathered(
    classifier: Classifier,
    splits: Splits,
    x: Tensor,
    label: Tensor,
    logits: Tensor,
    calibration: tuple[Tensor, Tensor],
    seed: int,
) -> Material:
    right = _right(logits, label)
    if int(right.sum()) < 2:
        raise ValueError(
            f"PredCoin learns from images that the classifier gets right; of {len(x)} training images that "
            f"were drawn it is right on {int(right.sum())}, and at least 2 are needed"
        )
    played = _played(classifier, x[right], label[right], draws.derive(seed, "train"))
    found = torch.cat([rows for rows, _ in played.values()])
    queries = torch.cat([of for _, of in played.values()])
    if not len(found):
        raise ValueError(
            f"PredCoin learns from the queries of HopSkipJump, which found no decision boundary from any of "
            f"{int(right.sum())} training images: the classifier seems to answer all images alike"
        )
    split = splits.calibration
    rows = _drawn(len(split), draws.derive(seed, "held out"))[: max(1, len(x) // HELD_OUT)]
    z, of = split.take(rows).to(classifier.device), split.labels[rows].to(classifier.device)
    sound = _right(classifier(z), of)
    held = _played(classifier, z[sound], of[sound], draws.derive(seed, "held out"))
    return Material(
        benign=logits[right][found].cpu(),
        queries=queries.cpu(),
        calibration=calibration[0],
        labels=calibration[1],
        held_out={norm: of.cpu() for norm, (_, of) in held.items()},
        seed=seed,
    )


def _played(classifier: Classifier, x: Tensor, label: Tensor, seed: int) -> dict[Norm, tuple[Tensor, Tensor]]:
    """Boundary queries from `x` [n,C,H,W], half of them in l2, half in linf. By norm: the places [m] of the
    images for which one was found, and its finite logits [m,K]."""
    played = {}
    for half, norm in enumerate(NORMS):
        rows = torch.arange(half, len(x), 2, device=x.device)
        if len(rows):
            own = draws.derive(seed, norm)
            queries, found = boundary_queries(classifier, x[rows], label[rows], norm, seed=own)
            logits = classifier(queries)
            found &= logits.isfinite().all(dim=1)
            played[norm] = (rows[found], logits[found])
    return played


def _calibration(classifier: Classifier, splits: Splits) -> tuple[Tensor, Tensor]:
    """Logits [c,K] and labels [c] of the images of the calibration split whose logits are finite."""
    split = splits.calibration
    cuts = range(0, len(split), classifier.batch)
    pieces = [classifier(split.take(slice(c, c + classifier.batch)).to(classifier.device)) for c in cuts]
    logits = torch.cat(pieces).cpu()
    finite = _finite(logits, "calibration")
    return logits[finite], split.labels.cpu()[finite]


def _finite(logits: Tensor, part: str) -> Tensor:
    """[n] bool: which logits [n,K] are finite; ValueError if none are."""
    finite = logits.isfinite().all(dim=1)
    if not finite.any():
        raise ValueError(
            f"PredCoin learns from finite logits; those of all {len(finite)} {part} images hold infinities "
            f"or NaN (a class that is masked for some images, say)"
        )
    return finite


def _right(logits: Tensor, label: Tensor) -> Tensor:
    return logits.isfinite().all(dim=1) & (labels_of(logits) == label)


def _drawn(n: int, seed: int) -> Tensor:
    """All numbers below n in a random order."""
    return draws.uniform(seed, torch.arange(n), 0, ()).argsort()
