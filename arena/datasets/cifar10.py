"""CIFAR-10 from its official binary or Python version (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arena.datasets.cifar10_python import read_batch
from arena.datasets.dataset import Dataset, DatasetError
from arena.datasets.order import from_one, from_two
from arena.datasets.source import Source

BINARY, PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
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
    """CIFAR-10 as uint8 [N,3,32,32] from the official binary version (`test_batch.bin` and those of
    `data_batch_1..5.bin` that exist) or the Python one (the same names without `.bin`).

    Which of the two is read depends on the files found; both give the same data set. Training images come
    first in the numbering, in the order of their files. A tenth of the test images is for calibration, games
    are played on the others; without any training file, the test images are cut into the four splits.

    Raises FileNotFoundError without the test batch, and DatasetError if a file is cut short, damaged or of
    another data set, or if a file of the Python version, which is a pickle, is not bit for bit the official
    one.
    """
    end = ".bin" if (folder / "test_batch.bin").is_file() else ""
    test = folder / f"test_batch{end}"
    if not test.is_file():
        raise FileNotFoundError(
            f'data set "cifar10": no test_batch.bin (binary version) or test_batch (Python version) in '
            f"{folder}; put the files of either there"
        )
    training = [path for n in range(1, 6) if (path := folder / f"data_batch_{n}{end}").is_file()]
    parts = [_binary(path) if end else _tensors(path, *read_batch(path)) for path in (*training, test)]
    images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
    split = len(labels) - len(parts[-1][1])
    index = from_two(labels[:split], labels[split:]) if training else from_one(labels)
    return Dataset.cut("cifar10", images, labels, index, CLASS_NAMES)


def _binary(path: Path) -> tuple[Tensor, Tensor]:
    size = path.stat().st_size
    if size == 0 or size % RECORD:
        raise DatasetError(
            f"{path}: {size:,} bytes are no whole number of CIFAR-10 records of {RECORD:,} bytes; the file "
            f"is cut short or not of the official binary version"
        )
    records: NDArray[np.uint8] = np.fromfile(path, dtype=np.uint8).reshape(-1, RECORD)
    return _tensors(path, records[:, 1:], records[:, 0].tolist())


def _tensors(path: Path, images: NDArray[np.uint8], labels: list[int]) -> tuple[Tensor, Tensor]:
    if strange := set(labels) - set(range(len(CLASS_NAMES))):
        raise DatasetError(
            f"{path}: found label {max(strange)}; CIFAR-10 has labels 0 to 9, so this is another file"
        )
    planes = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    return planes.view(-1, 3, 32, 32), torch.tensor(labels)


SOURCE = Source(
    read=lambda path, spec: cifar10(path),
    places=(BINARY, PYTHON),
    advice=(
        f"put there the folder {BINARY} of the official binary version, with test_batch.bin and any of "
        f"data_batch_1.bin to data_batch_5.bin, or {PYTHON} of the Python version, with the same names "
        f"without .bin, or name another place (--data, ARENA_DATA, path)"
    ),
)
