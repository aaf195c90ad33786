"""Which label wins a game, which verdicts there are, and why games end: defined here only."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # what only reads logs does without torch, which takes seconds to load
    from torch import Tensor

Verdict = Literal["answered", "vote", "base"]
Reason = Literal["hit", "submitted", "budget", "resigned", "banned", "no-start", "clean", "stalled", "error"]
REASONS: tuple[Reason, ...] = (
    "hit",
    "submitted",
    "budget",
    "resigned",
    "banned",
    "no-start",
    "clean",
    "stalled",
    "error",
)
BROKEN: tuple[Reason, ...] = ("error", "stalled")
"""Reasons that mean that an attacker's code did not play a game to its end."""
FAILED: tuple[Reason, ...] = (*BROKEN, "no-start")
"""Reasons that mean that a game says little about the defense."""
HANDED_IN: tuple[Reason, ...] = ("hit", "submitted", "resigned")
"""Reasons for which a game ends by what the attacker does, whatever is left of its budget."""

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Labels = TypeVar("Labels", "Tensor", NDArray[Any])
"""Labels on a device, or on the host."""


def labels_of(scores: Tensor) -> Tensor:
    """The label [n] int64 that scores [n,K] give: the index of the highest, ties to the lowest index.

    -1, no label, where a row says nothing about classes: where it holds NaN, where none of its scores is
    finite, or where all of its K >= 2 scores are equal. Beside a finite score an infinite one is a score:
    +inf the highest, -inf that of a masked class.
    """
    highest, label = scores.max(dim=1)
    lowest = scores.amin(dim=1)
    if scores.is_cpu:
        gap = highest - lowest
        # A gap over itself is 1, and NaN where it is 0, infinite or NaN: rarely is there more to look at.
        if (gap / gap).sum().item() == len(scores):
            return label
    known = scores.abs().amin(dim=1) < math.inf
    if scores.shape[1] > 1:
        known &= lowest < highest
    return label.where(known, -1)


def wins(label: Labels, y: Labels, target: Labels | None) -> Labels:
    """Whether labels win for the attacker, bool; -1, no label, never does.

    Args:
        label: the labels answered, int64, tensors or arrays alike.
        y: the true labels, of a shape that `label` can be compared with.
        target: the targets, likewise; None: every label other than y wins.
    """
    won: Labels = (label != y) & (label >= 0) if target is None else label == target
    return won
