"""The packaged network and its data."""

from __future__ import annotations

import pytest

from arena.classifiers import Classifier, ClassifierSpec, load_classifier
from arena.datasets import Dataset, load_dataset


@pytest.fixture(scope="session")
def data() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def packaged(data: Dataset) -> Classifier:
    return load_classifier(ClassifierSpec(network="digits-cnn"), data)
