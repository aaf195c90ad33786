"""Which label wins a game, which verdicts there are, and why games end: defined here only."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
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
Labels = TypeVar("Labels", Tensor, NDArray[Any])
"""Labels on a device, or on the host."""


def labels_of(scores: Tensor) -> Tensor:
    """The label that scores [n,K] give: their argmax, ties to the lowest index; -1 where a row holds NaN.

    [n] int64.
    """
    return torch.where(scores.isnan().any(dim=1), -1, scores.argmax(dim=1))


def wins(label: Labels, y: Labels, target: Labels | None) -> Labels:
    """Whether labels win for the attacker, bool; -1, no label, never does.

    Args:
        label: the labels answered, int64, tensors or arrays alike.
        y: the true labels, of a shape that `label` can be compared with.
        target: the targets, likewise; None: every label other than y wins.
    """
    won: Labels = (label != y) & (label >= 0) if target is None else label == target
    return won
