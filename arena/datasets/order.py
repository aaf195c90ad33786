"""Orders that depend on a key alone, the same in every version of every library.

NumPy guarantees the raw stream of a bit generator, but not the output of its distributions, so an order is
obtained by sorting raw 64-bit words.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.datasets.dataset import SPLITS
from arena.draws import derive


def shuffled(n: int, seed: int, *words: str | int) -> NDArray[np.int64]:
    """A permutation of 0..n-1 keyed by a seed and the words that say what it is for."""
    return np.argsort(np.random.Philox(key=derive(seed, *words)).random_raw(n), kind="stable")


def ranks_within_class(labels: NDArray[np.int64], seed: int, *words: str | int) -> NDArray[np.int64]:
    """For each of n labels its place (0, 1, ...) among those of its class, in an order keyed in the same
    way."""
    order = shuffled(len(labels), seed, *words)
    by_class = order[np.argsort(labels[order], kind="stable")]
    first = np.searchsorted(labels[by_class], labels[by_class], side="left")
    ranks = np.empty(len(labels), dtype=np.int64)
    ranks[by_class] = np.arange(len(labels)) - first
    return ranks


def stratified(
    labels: Tensor, counts: dict[str, int], ties: NDArray[np.int64] | None = None
) -> dict[str, Tensor]:
    """Cut 0..n-1 into parts of exactly these sizes (their sum at most n), each with every class's share.

    Images are lined up by their relative place within their class, so that any stretch of the line holds the
    classes in proportion; each part is one stretch, in ascending order. Equal places stand in the order of
    `ties` [n], else of the images' numbers, which may be that of their classes.
    """
    y = labels.numpy()
    ranks = ranks_within_class(y, 0, "split")
    place = (ranks + 0.5) / np.bincount(y)[y]
    line = np.lexsort((np.arange(len(y)) if ties is None else ties, place))
    ends = np.cumsum(list(counts.values()))
    assert len(ends) == 0 or ends[-1] <= len(y), "more images asked for than there are"
    parts = np.split(line, ends)[: len(counts)]
    return {name: torch.from_numpy(np.sort(part)) for name, part in zip(counts, parts, strict=True)}


def shares(n: int, **weights: float) -> dict[str, int]:
    """Cut a number of images by weights that sum to 1; what rounding leaves over goes to the first part."""
    counts = {name: int(n * weight) for name, weight in weights.items()}
    counts[next(iter(counts))] += n - sum(counts.values())
    return counts


def from_one(labels: Tensor) -> dict[str, Tensor]:
    """The four splits of a data set without a test set of its own: 4/10, 1/10, 1/10 and 4/10."""
    weights = dict(zip(SPLITS, (0.4, 0.1, 0.1, 0.4), strict=True))
    return stratified(labels, shares(len(labels), **weights))


def from_two(train: Tensor, test: Tensor) -> dict[str, Tensor]:
    """The four splits where images for training (labels `train`, numbered first) and for testing (`test`) are
    apart: a tenth of the first goes to resources, a tenth of the second, one at least, to calibration, and
    games are played on the other test images.

    Calibration is not cut from the training images: published weights were trained on all of them, and what
    a classifier was trained on says nothing of its calibration.
    """
    return stratified(train, shares(len(train), train=0.9, resources=0.1)) | _tested(len(train), test)


def from_tracks(train: Tensor, tracks: Tensor, test: Tensor) -> dict[str, Tensor]:
    """As `from_two`, with all training images of one track (its number in `tracks` [N], one class each) in
    one split: of each class's tracks a tenth, rounded, but one at least if the class has two, goes to
    resources."""
    _, first, track = np.unique(tracks.numpy(), return_index=True, return_inverse=True)
    y = train.numpy()[first]
    ranks, count = ranks_within_class(y, 0, "split", "tracks"), np.bincount(y)[y]
    kept = np.maximum(1, count - np.maximum(1, (count + 5) // 10))
    lent = torch.from_numpy((ranks >= kept)[track])
    parts = {"train": (~lent).nonzero().flatten(), "resources": lent.nonzero().flatten()}
    return parts | _tested(len(train), test)


def _tested(trained: int, test: Tensor) -> dict[str, Tensor]:
    """The splits of the test images, which are numbered after `trained` others."""
    tenth = max(1, len(test) // 10)
    ties = shuffled(len(test), 0, "split", "tests")  # by number, it would have the first classes
    parts = stratified(test, {"calibration": tenth, "games": len(test) - tenth}, ties)
    return {name: trained + part for name, part in parts.items()}
