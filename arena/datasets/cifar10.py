"""CIFAR-10 from its official binary version (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.datasets.dataset import Dataset, DatasetError
from arena.datasets.order import from_one, from_two
from arena.datasets.source import Source

FOLDER = "cifar-10-batches-bin"
CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes


def cifar10(folder: Path) -> Dataset:
    """CIFAR-10 as uint8 [N,3,32,32] from `test_batch.bin` and those of `data_batch_1..5.bin` that exist.

    Training images come first in the numbering, in the order of their files. Games are played on all the
    test images; without any training file, the test images are cut into the four splits.
    Raises FileNotFoundError without `test_batch.bin`, DatasetError where a file is cut short or another's.
    """
    test = folder / "test_batch.bin"
    if not test.is_file():
        raise FileNotFoundError(
            f'data set "cifar10": no test_batch.bin in {folder}; put the official binary version there'
        )
    training = [path for n in range(1, 6) if (path := folder / f"data_batch_{n}.bin").is_file()]
    sizes = [_records(path) for path in (*training, test)]
    images = torch.empty(sum(sizes), 3, 32, 32, dtype=torch.uint8)
    labels = torch.empty(sum(sizes), dtype=torch.int64)
    done = 0
    for path, n in zip((*training, test), sizes, strict=True):
        _fill(path, images[done : done + n], labels[done : done + n])
        done += n
    split = len(labels) - sizes[-1]
    index = from_two(labels[:split], labels[split:]) if training else from_one(labels)
    return Dataset.cut("cifar10", images, labels, index, CLASS_NAMES)


def _records(path: Path) -> int:
    size = path.stat().st_size
    if size == 0 or size % RECORD:
        raise DatasetError(
            f"{path}: {size:,} bytes are no whole number of CIFAR-10 records of {RECORD:,} bytes; the file "
            f"is cut short or not of the official binary version"
        )
    return size // RECORD


def _fill(path: Path, images: Tensor, labels: Tensor) -> None:
    records: NDArray[np.uint8] = np.fromfile(path, dtype=np.uint8).reshape(len(labels), RECORD)
    if (top := int(records[:, 0].max())) >= len(CLASS_NAMES):
        raise DatasetError(f"{path}: found label {top}; CIFAR-10 has labels 0 to 9, so this is another file")
    labels.copy_(torch.from_numpy(records[:, 0]))
    images.copy_(torch.from_numpy(records[:, 1:]).view(-1, 3, 32, 32))


SOURCE = Source(
    read=lambda path, spec: cifar10(path),
    places=(FOLDER,),
    advice=(
        f"put the folder {FOLDER} of the official binary version there, with test_batch.bin and any of "
        f"data_batch_1.bin to data_batch_5.bin, or name another place (--data, ARENA_DATA, path)"
    ),
)
