from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from arena.datasets import Dataset, DatasetError, load_dataset
from arena.datasets.cifar10 import CLASS_NAMES, RECORD


def write(folder: Path, name: str, n: int, seed: int) -> NDArray[np.uint8]:
    """A batch of n records: a label byte, then 1,024 bytes each of red, green and blue, row by row."""
    records = np.random.default_rng(seed).integers(0, 256, (n, RECORD), dtype=np.uint8)
    records[:, 0] = np.arange(n) % 10
    folder.mkdir(exist_ok=True)
    records.tofile(folder / f"{name}.bin")
    return records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cifar-10-batches-bin"


def load(folder: Path) -> Dataset:
    return load_dataset("cifar10", [folder.parent])


def test_training_batches_come_first_and_games_are_of_the_test_batch(folder: Path) -> None:
    batches = [write(folder, f"data_batch_{n}", 40, n) for n in (2, 5)]
    test = write(folder, "test_batch", 20, 0)
    data = load(folder)
    every = np.concatenate([*batches, test])
    assert np.array_equal(data.games.source.numpy(), every[:, 1:].reshape(-1, 3, 32, 32))
    numbers = torch.cat([split.index for split in data.splits.values()])
    assert torch.equal(numbers.sort().values, torch.arange(100))
    assert sorted([*data.calibration.index.tolist(), *data.games.index.tolist()]) == list(range(80, 100))
    for split in data.splits.values():
        assert np.array_equal(split.labels.numpy(), every[split.index, 0])
    assert [len(split) for split in data.splits.values()] == [72, 2, 8, 18]
    pixel = data.games.take(torch.tensor([3]))[0, 1, 2, 5].item()
    record = test[data.games.index[3] - 80]
    assert pixel == np.float32(record[1 + 1024 + 2 * 32 + 5]) / np.float32(255)
    assert data.class_names == CLASS_NAMES
    assert (data.name, data.shape) == ("cifar10", (3, 32, 32))


def test_test_images_are_cut_where_there_are_no_others(folder: Path) -> None:
    write(folder, "test_batch", 100, 0)
    data = load(folder)
    assert [len(split) for split in data.splits.values()] == [40, 10, 10, 40]
    numbers = torch.cat([split.index for split in data.splits.values()])
    assert torch.equal(numbers.sort().values, torch.arange(100))


@pytest.mark.parametrize("lost", [1, RECORD - 1, 20 * RECORD])
def test_file_cut_short_is_told(folder: Path, lost: int) -> None:
    write(folder, "test_batch", 20, 0)
    path = folder / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(DatasetError, match=r"no whole number of CIFAR-10 records of 3,073 bytes") as caught:
        load(folder)
    assert str(path) in str(caught.value)


def test_other_file_is_told_by_its_labels(folder: Path) -> None:
    write(folder, "test_batch", 20, 0)
    write(folder, "data_batch_1", 20, 0)
    path = folder / "data_batch_1.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(DatasetError, match=r"data_batch_1\.bin: found label 10"):
        load(folder)


def test_test_batch_is_required(folder: Path) -> None:
    write(folder, "data_batch_1", 20, 0)
    with pytest.raises(FileNotFoundError, match=r"no test_batch\.bin .* in .*cifar-10-batches-bin; put"):
        load(folder)
