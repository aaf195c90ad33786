"""A small world to train in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from arena.datasets import Dataset, load_dataset
from arena.training import RECIPES, TrainingJob


@pytest.fixture(scope="session")
def data() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def short(data: Dataset) -> Callable[..., TrainingJob]:
    """A job of two epochs of four steps on digits, with changes to its recipe."""

    def make(seed: int = 0, **changes: Any) -> TrainingJob:
        recipe = RECIPES["digits"].recipe.changed({"epochs": 2, "batch": 200, **changes})
        return TrainingJob("digits-cnn", data, recipe, seed)

    return make
