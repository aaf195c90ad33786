"""The packaged network and its data, and something malicious."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arena.classifiers import Classifier, ClassifierSpec, load_classifier
from arena.datasets import Dataset, load_dataset


@pytest.fixture(scope="session")
def data() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def packaged(data: Dataset) -> Classifier:
    return load_classifier(ClassifierSpec(network="digits-cnn"), data)


class Bait:
    """A pickle of it makes a folder where it is unpickled freely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.fixture
def sprung(tmp_path: Path) -> Bait:
    """Something malicious."""
    return Bait(tmp_path / "sprung")


@pytest.fixture
def bait(sprung: Bait) -> Iterator[Bait]:
    """The same, for tests in which it must not be unpickled."""
    yield sprung
    assert not sprung.path.exists()
