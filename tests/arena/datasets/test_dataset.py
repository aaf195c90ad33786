from __future__ import annotations

import hashlib

import pytest
import torch

from arena.datasets import Dataset, DatasetError, load_dataset
from arena.datasets.dataset import SPLITS


def cut(images: torch.Tensor | None = None, labels: list[int] | None = None, **index: list[int]) -> Dataset:
    numbers = {"train": [3, 0], "calibration": [1], "resources": [2], "games": [5, 4]} | index
    x = torch.arange(6 * 4, dtype=torch.uint8).view(6, 1, 2, 2) if images is None else images
    y = torch.tensor([0, 1, 2, 0, 1, 2] if labels is None else labels)
    return Dataset.cut("six", x, y, {name: torch.tensor(rows).long() for name, rows in numbers.items()})


def test_a_split_is_a_view_by_number() -> None:
    data = cut()
    assert data.train.index.tolist() == [3, 0]
    assert data.games.labels.tolist() == [2, 1]
    expected = torch.arange(16, 24).view(2, 1, 2, 2).flip(0) / 255
    assert torch.equal(data.games.images, expected)
    assert torch.equal(data.games.take(torch.tensor([1, 1, 0])), expected[[1, 1, 0]])
    assert torch.equal(data.games.take(slice(1, 2)), expected[1:])
    assert data.games.source.data_ptr() == data.train.source.data_ptr()


def test_every_level_becomes_its_quotient() -> None:
    """uint8 value k is k/255 rounded once, so that rounding to 8 bits gives it back bit for bit."""
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(6, 1, 1, 1)
    x = cut(levels).games.images
    assert x.dtype == torch.float32
    assert torch.equal(x[0].flatten(), (torch.arange(256, dtype=torch.float64) / 255).float())
    assert torch.equal(torch.round(x * 255) / 255, x)


def test_facts_of_a_data_set() -> None:
    data = cut()
    assert (data.shape, data.classes, data.class_names) == ((1, 2, 2), 3, ("0", "1", "2"))
    assert tuple(data.splits) == SPLITS
    assert len(data.train) == 2


def test_sha_is_of_images_labels_and_splits() -> None:
    changed = torch.arange(6 * 4, dtype=torch.uint8).view(6, 1, 2, 2)
    changed[4, 0, 1, 1] += 1
    shas = [
        data.sha
        for data in (
            cut(),
            cut(changed),
            cut(labels=[0, 1, 2, 0, 2, 1]),
            cut(games=[4, 5]),
            cut(train=[3], calibration=[1, 0]),
            cut(torch.zeros(6, 1, 2, 2)),
        )
    ]
    assert len(set(shas)) == len(shas)
    assert cut().sha == shas[0]


class Shelf:
    """Images that are not in memory, as far as a split knows."""

    def __init__(self, images: torch.Tensor) -> None:
        self.images, self.shape, self.dtype = images, images.shape, images.dtype
        self.most = 0

    def __getitem__(self, index: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(index))
        return self.images[index]


def test_images_need_not_be_a_tensor() -> None:
    images = torch.arange(3000 * 4, dtype=torch.float32).view(3000, 1, 2, 2) / 12000
    rows = torch.arange(3000)
    index = dict(zip(SPLITS, (rows[:2], rows[2:4], rows[4:6], rows[6:]), strict=True))
    shelf = Shelf(images)
    data, other = (Dataset.cut("many", x, rows % 3, index) for x in (images, shelf))
    assert other.shape == (1, 2, 2)
    assert torch.equal(other.games.take(torch.tensor([5, 0])), images[[11, 6]])
    shelf.most = 0
    assert other.sha == data.sha
    assert shelf.most <= 1024
    kind = f"{images.dtype} {list(images.shape)}".encode()
    words = dict(zip(SPLITS, ("train", "calibration", "attackers", "games"), strict=True))
    told = [
        f"\n{words[s]} {len(i)}\n".encode() + i.numpy().tobytes() + (i % 3).numpy().tobytes()
        for s, i in index.items()
    ]
    whole = hashlib.sha256(kind + b"".join(told) + images.numpy().tobytes())
    assert data.sha == whole.hexdigest()


def test_splits_must_be_filled_and_disjoint() -> None:
    with pytest.raises(DatasetError, match="6 images are too few to fill split 'resources'"):
        cut(resources=[])
    with pytest.raises(AssertionError, match="disjoint"):
        cut(resources=[0])


def test_digits_are_a_fixed_stratified_split() -> None:
    data = load_dataset("digits")
    assert [len(split) for split in data.splits.values()] == [800, 200, 147, 650]
    numbers = torch.cat([split.index for split in data.splits.values()])
    assert torch.equal(numbers.sort().values, torch.arange(1797))
    everything = data.games.source.new_zeros(10)
    for split in data.splits.values():
        everything += split.labels.bincount(minlength=10)
    for split in data.splits.values():
        share = everything * len(split) / 1797
        assert (split.labels.bincount(minlength=10) - share).abs().max() < 2
    assert data.sha == "6dcca8a926b617f5e7ec5f2667be7d2e19a60d0fe0963952c16206441ad27227"


def test_digits_are_the_values_over_sixteen() -> None:
    images = load_dataset("digits").games.source
    assert images.shape == (1797, 1, 8, 8)
    assert torch.equal((images * 16).round(), images * 16)
    assert images.min() == 0
    assert images.max() == 1
    assert (images[0, 0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
