"""A caller's own images as a data set: what tells them apart, and a file that reports can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from arena.datasets import Dataset
from arena.datasets.order import from_one
from arena.rules.outcome import Ints

LEAST = 10
"""The fewest images that can be cut into four splits."""


def image_set(images: NDArray[np.float32], labels: Ints) -> Dataset:
    """Images [G,C,H,W] and labels [G] as a data set, in which each keeps its number.

    Fewer than `LEAST` are filled up with copies of the first.
    """
    x, y = _filled(images, labels)
    label = torch.from_numpy(y)
    return Dataset.cut("images", torch.from_numpy(x), label, from_one(label))


def write_image_set(path: Path, images: NDArray[np.float32], labels: Ints) -> dict[str, Any]:
    """Write such a data set as an `.npz` file; what a scenario would say to load it."""
    x, y = _filled(images, labels)
    np.savez(path, x=x, y=y)
    return {"name": "npz", "path": str(path), "layout": "nchw"}


def _filled(images: NDArray[np.float32], labels: Ints) -> tuple[NDArray[np.float32], Ints]:
    if (more := LEAST - len(images)) <= 0:
        return images, labels.astype(np.int64)
    x = np.concatenate([images, np.repeat(images[:1], more, axis=0)])
    return x, np.concatenate([labels, np.repeat(labels[:1], more)]).astype(np.int64)
