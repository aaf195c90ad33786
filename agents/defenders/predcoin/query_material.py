"""The training data of PredCoin: logits of benign images and of gradient-estimation queries."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from agents.defenders.predcoin.boundary_queries import boundary_queries, expected_queries
from agents.defenders.predcoin.image_detector import ImageDetector, train_image_detector
from agents.defenders.predcoin.query_detector import QueryDetector, train_detector, train_per_class
from arena import draws
from arena.classifiers import Classifier
from arena.players import Splits
from arena.rules.outcome import labels_of
from arena.rules.threat import Norm

SHARE = 0.05
"""The share of the training images that PredCoin uses."""
FEWEST, MOST = 200, 500
"""The least and the most images, unless their number or share is given: enough to learn from, and at most
minutes of play."""
HELD_OUT = 3
"""One game from the calibration split for so many from the training split."""
NORMS: tuple[Norm, ...] = ("l2", "linf")
KEPT = 8
"""How many materials a process caches."""
SMALL = 2**24
"""Images of so many pixels in all are kept with a material even if nobody wants them."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """The images whose logits a material holds, on the CPU: `benign` [n,C,H,W], `queries` [n,C,H,W], and
    `held_out` by norm, [h,C,H,W]."""

    benign: Tensor
    queries: Tensor
    held_out: dict[str, Tensor]


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
        pictures: the images themselves; None where they are many (`SMALL`) and nobody wanted them.
        finite: [c] int64, the places in the calibration split of the rows of `calibration`.
    """

    benign: Tensor
    queries: Tensor
    calibration: Tensor
    labels: Tensor
    held_out: dict[str, Tensor]
    seed: int
    finite: Tensor
    pictures: Pictures | None

    @cached_property
    def detector(self) -> QueryDetector:
        """F_Q."""
        return train_detector(self.benign, self.queries, draws.derive(self.seed, "detector"))

    @cached_property
    def detector_per_class(self) -> QueryDetector:
        """F_Q^i."""
        return train_per_class(self.benign, self.queries, draws.derive(self.seed, "detector"))

    @cached_property
    def detector_of_images(self) -> ImageDetector:
        """Option 1."""
        assert self.pictures is not None
        own = draws.derive(self.seed, "detector")
        return train_image_detector(self.pictures.benign, self.pictures.queries, own)


_materials: OrderedDict[bytes, Material] = OrderedDict()


def gather(
    classifier: Classifier, splits: Splits, *, images: float | None, seed: int, pictures: bool = False
) -> Material:
    """The material for a classifier; cached if this process gathered the same before.

    Args:
        images: how many training images to play from, or below 1 which share of them; None: 5 %, at least
            200, at most 500.
        seed: which images are drawn, and how they are played from.
        pictures: whether the images are wanted, too.

    Raises:
        ValueError: if a split is empty, no logits are finite, too few images are classified rightly, or no
            boundary was found from any of them.
    """
    split = splits.train
    if not len(split) or not len(splits.calibration):
        raise ValueError(
            f"PredCoin needs images to learn from and to choose its threshold on; found {len(split)} for "
            f"training and {len(splits.calibration)} for calibration"
        )
    wanted = _wanted(splits, images)
    rows = _drawn(len(split), draws.derive(seed, "train"))[:wanted]
    x, label = split.take(rows).to(classifier.device), split.labels[rows].to(classifier.device)
    logits = classifier(x)
    _finite(logits, "training")
    calibration = _calibration(classifier, splits)
    held = _held_out(classifier, splits, max(1, len(x) // HELD_OUT), seed)
    digest = hashlib.sha256(f"{classifier.sha} {seed}".encode())
    # Other images may have the same logits, as of a classifier that gives labels alone.
    for tensor in (x, label, logits, *calibration, *held):
        digest.update(tensor.cpu().contiguous().numpy().data)
    key = digest.digest()
    known = _materials.get(key)
    if known is None or (pictures and known.pictures is None):
        drawn = _Training(x, label, logits, pictures or 2 * x.numel() <= SMALL)
        _materials[key] = _gathered(classifier, drawn, calibration, held, seed)
        while len(_materials) > KEPT:
            _materials.popitem(last=False)
    _materials.move_to_end(key)
    return _materials[key]


def expected_images(splits: Splits, images: float | None) -> int:
    """About how many images `gather` asks the classifier."""
    played = min(_wanted(splits, images), len(splits.train))
    if not played:
        return len(splits.calibration)
    held_out = min(max(1, played // HELD_OUT), len(splits.calibration))
    pixels = splits.train.take(slice(0, 1)).numel()
    return len(splits.calibration) + (played + held_out) * (1 + expected_queries(pixels))


def _wanted(splits: Splits, images: float | None) -> int:
    """How many training images are played from."""
    if images is None:
        return min(max(int(SHARE * len(splits.train)), FEWEST), MOST)
    return int(images) if images >= 1 else max(2, int(images * len(splits.train)))


@dataclass(frozen=True)
class _Training:
    """Training images [n,C,H,W], their labels and logits, and whether images are kept."""

    x: Tensor
    label: Tensor
    logits: Tensor
    keep: bool


def _gathered(
    classifier: Classifier,
    drawn: _Training,
    calibration: tuple[Tensor, Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    seed: int,
) -> Material:
    x, keep = drawn.x, drawn.keep
    right = _right(drawn.logits, drawn.label)
    if int(right.sum()) < 2:
        raise ValueError(
            f"PredCoin learns from images that the classifier gets right; of {len(x)} training images that "
            f"were drawn it is right on {int(right.sum())}, and at least 2 are needed"
        )
    played = _played(classifier, x[right], drawn.label[right], draws.derive(seed, "train"), keep)
    found = torch.cat([of.found for of in played.values()])
    if not len(found):
        raise ValueError(
            f"PredCoin learns from the queries of HopSkipJump, which found no decision boundary from any of "
            f"{int(right.sum())} training images: the classifier seems to answer all images alike"
        )
    held = _held_out_queries(classifier, *held_out, seed, keep)
    logits, labels, finite = calibration
    pictures = None
    if keep:
        queries = torch.cat([of.x for of in played.values()])
        pictures = Pictures(x[right][found].cpu(), queries, {norm: of.x for norm, of in held.items()})
    return Material(
        benign=drawn.logits[right][found].cpu(),
        queries=torch.cat([of.logits for of in played.values()]),
        calibration=logits,
        labels=labels,
        held_out={norm: of.logits for norm, of in held.items()},
        seed=seed,
        finite=finite,
        pictures=pictures,
    )


def _held_out(classifier: Classifier, splits: Splits, games: int, seed: int) -> tuple[Tensor, Tensor]:
    """Images of the calibration split to play from, and their labels."""
    split = splits.calibration
    rows = _drawn(len(split), draws.derive(seed, "held out"))[:games]
    return split.take(rows).to(classifier.device), split.labels[rows].to(classifier.device)


def _held_out_queries(
    classifier: Classifier, x: Tensor, label: Tensor, seed: int, keep: bool
) -> dict[Norm, _Played]:
    """Boundary queries from images `x` [n,C,H,W] of the calibration split."""
    right = _right(classifier(x), label)
    return _played(classifier, x[right], label[right], draws.derive(seed, "held out"), keep)


@dataclass(frozen=True)
class _Played:
    """Boundary queries: the places [m] of the images for which one was found, their finite logits [m,K] and,
    if they are kept, the queries [m,C,H,W]; both on the CPU."""

    found: Tensor
    logits: Tensor
    x: Tensor


def _played(classifier: Classifier, x: Tensor, label: Tensor, seed: int, keep: bool) -> dict[Norm, _Played]:
    """Boundary queries from `x` [n,C,H,W], half of them in l2, half in linf, by norm."""
    played = {}
    for half, norm in enumerate(NORMS):
        rows = torch.arange(len(x), device=x.device)[half::2]
        if len(rows):
            own = draws.derive(seed, norm)
            queries, found = boundary_queries(classifier, x[rows], label[rows], norm, seed=own)
            logits = classifier(queries)
            found &= logits.isfinite().all(dim=1)
            kept = queries[found] if keep else queries[:0]
            played[norm] = _Played(rows[found], logits[found].cpu(), kept.cpu())
    return played


def _calibration(classifier: Classifier, splits: Splits) -> tuple[Tensor, Tensor, Tensor]:
    """Logits [c,K], labels [c] and places [c] of the images of the calibration split whose logits are
    finite."""
    split = splits.calibration
    cuts = range(0, len(split), classifier.batch)
    pieces = [classifier(split.take(slice(c, c + classifier.batch)).to(classifier.device)) for c in cuts]
    logits = torch.cat(pieces).cpu()
    finite = _finite(logits, "calibration")
    return logits[finite], split.labels.cpu()[finite], finite.nonzero().squeeze(1)


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
