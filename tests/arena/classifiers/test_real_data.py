"""CIFAR-10, GTSRB and the published ResNets, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets import Dataset, DatasetSpec, Split, load_dataset


@pytest.fixture(scope="module")
def cifar10(shared_data: Path) -> Dataset:
    return load_dataset("cifar10", [shared_data])


@pytest.fixture(scope="module")
def official(cifar10: Dataset) -> Split:
    """All official test images in their official order, whichever split holds them."""
    labels = torch.full((30_000,), -1)
    for split in cifar10.splits.values():
        labels[split.index] = split.labels
    return Split(cifar10.games.source, torch.arange(20_000, 30_000), labels[20_000:])


def test_cifar10_is_read_in_its_official_order(cifar10: Dataset, official: Split) -> None:
    assert {name: len(split) for name, split in cifar10.splits.items()} == {
        "train": 18_000,
        "calibration": 1_000,
        "resources": 2_000,
        "games": 9_000,
    }
    assert cifar10.games.source.dtype == torch.uint8
    assert official.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert official.labels.bincount().tolist() == [1000] * 10


def test_cifar10_is_calibrated_and_played_on_its_test_images_alone(cifar10: Dataset, official: Split) -> None:
    for trained in (cifar10.train, cifar10.resources):
        assert trained.index.max() < 20_000
    tested = torch.cat([cifar10.calibration.index, cifar10.games.index])
    assert torch.equal(tested.sort().values, official.index)
    assert cifar10.calibration.labels.bincount().tolist() == [100] * 10
    assert cifar10.games.labels.bincount().tolist() == [900] * 10


@pytest.mark.slow
@pytest.mark.parametrize(("network", "images", "right"), [("resnet20", 1000, 915), ("resnet32", 200, 185)])
def test_published_resnets_classify_as_published(
    cifar10: Dataset, official: Split, shared_data: Path, network: str, images: int, right: int
) -> None:
    """Of all 10,000 test images they get 91.73 % and 92.63 % right; no margin of these is below 0.006."""
    spec = ClassifierSpec(network=network, weights=f"cifar10_{network}.safetensors")
    classifier = load_classifier(spec, cifar10, "cpu", 100, [shared_data])
    first = slice(0, images)
    found = classifier(official.take(first)).argmax(1) == official.labels[first]
    assert int(found.sum()) == right


def test_gtsrb_is_read_from_its_npz(shared_data: Path) -> None:
    data = load_dataset(DatasetSpec(name="npz", path="gtsrb32.npz"), [shared_data])
    assert (data.name, data.shape, data.classes) == ("gtsrb32", (3, 32, 32), 43)
    assert [len(split) for split in data.splits.values()] == [5463, 400, 607, 3600]
    assert min(data.calibration.index.min(), data.games.index.min()) == 6070
    assert data.calibration.labels.bincount(minlength=43).min() > 0


def test_a_program_of_torch_export_classifies_imagenet(shared_data: Path) -> None:
    """Of all 250 images it gets 221 right; no margin of these is below 0.2."""
    data = load_dataset("imagenet", [shared_data])
    spec = ClassifierSpec(network="imagenet_mobilenet_v2.pt2")
    classifier = load_classifier(spec, data, "cpu", 20, [shared_data])
    found = classifier(data.games.take(slice(0, 20))).argmax(1) == data.games.labels[:20]
    assert (classifier.classes, int(found.sum())) == (1000, 18)
