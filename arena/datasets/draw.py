"""Which images are played, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from arena.datasets.dataset import Split
from arena.datasets.order import ranks_within_class, shuffled

BATCH = 256


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images in drawing order: `index` [n] int64, their positions in the split; `right` [n] bool."""

    index: Tensor
    right: Tensor


def draw(
    split: Split,
    seed: int,
    count_right: int,
    is_right: Callable[[Tensor], Tensor],
    *,
    sparing: bool = False,
) -> Drawn:
    """Draw images evenly over the classes until `count_right` are right, or the split is exhausted.

    The order depends on the seed and the labels alone: classes take turns, in a shuffled order, each giving
    its images in a shuffled order. A smaller draw is therefore the beginning of a larger one. `is_right`
    takes positions [m] in the split and returns [m] bool; it gets at most 256 at a time, and if `sparing` no
    more than are missing, so that none is asked for nothing.
    """
    order = _order(split.labels, seed)
    index, right = order[:0], torch.zeros(0, dtype=torch.bool)
    while len(index) < len(order) and (missing := count_right - int(right.sum())) > 0:
        piece = order[len(index) : len(index) + (min(BATCH, missing) if sparing else BATCH)]
        index, right = torch.cat([index, piece]), torch.cat([right, is_right(piece).cpu().bool()])
    end = int((right.cumsum(0) - right.long() < count_right).sum())
    return Drawn(index[:end], right[:end])


def _order(labels: Tensor, seed: int) -> Tensor:
    y = labels.numpy()
    turn_of_class = shuffled(int(y.max()) + 1, seed, "draw", "classes") if len(y) else y
    rounds = ranks_within_class(y, seed, "draw", "images")
    return torch.from_numpy(np.lexsort((turn_of_class[y], rounds)))
