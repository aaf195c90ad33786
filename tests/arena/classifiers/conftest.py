"""Real data and weights, which the project works without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arena.classifiers import Classifier, ClassifierSpec, load_classifier
from arena.datasets import Dataset, load_dataset

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: the environment's ARENA_SHARED, or shared/data in or beside the checkout."""
    named = os.environ.get("ARENA_SHARED")
    places = [Path(named)] if named else [ROOT / "shared" / "data", ROOT.parent / "shared" / "data"]
    for place in places:
        if (place / "weights").is_dir():
            return place
    pytest.skip(f"no real data in {' or '.join(map(str, places))}; ARENA_SHARED may name their folder")


@pytest.fixture(scope="session")
def data() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def packaged(data: Dataset) -> Classifier:
    return load_classifier(ClassifierSpec(network="digits-cnn"), data)
