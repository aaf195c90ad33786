"""CIFAR-10's official Python version: pickled dicts, read as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arena.datasets.dataset import DatasetError
from arena.datasets.pickled import read_pickle

PIXELS = 3 * 32 * 32


def read_batch(path: Path) -> tuple[NDArray[np.uint8], list[int]]:
    """Images [n,3072] uint8 (the red, the green and the blue plane, row by row) and labels [n] of one batch.

    It is read by `read_pickle`, as Python 2 wrote the official files or as Python 3 writes the same dict.
    """
    batch = _dict(path, ("data", "labels"))
    data, labels = batch["data"], batch["labels"]
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        raise DatasetError(f"{path}: data must be a uint8 array [n,{PIXELS}], not {_kind(data)}")
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise DatasetError(f"{path}: labels must be a list of whole numbers, not {_kind(labels)}")
    if len(labels) != len(data):
        raise DatasetError(f"{path}: {len(data):,} images, but {len(labels):,} labels")
    return data, labels


def read_names(path: Path) -> tuple[str, ...]:
    """The class names that `batches.meta` gives."""
    names = _dict(path, ("label_names",))["label_names"]
    if not isinstance(names, list) or not all(isinstance(name, str | bytes) for name in names):
        raise DatasetError(f"{path}: label_names must be a list of texts, not {_kind(names)}")
    return tuple(name if isinstance(name, str) else name.decode("latin-1") for name in names)


def _dict(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must hold a dict, not {_kind(content)}")
    if missing := [key for key in keys if key not in content]:
        raise DatasetError(
            f"{path}: holds no {missing[0]}, so it is no file of CIFAR-10's official Python version"
        )
    return content


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"one {list(value.shape)}"
    return f"a {type(value).__name__}"
