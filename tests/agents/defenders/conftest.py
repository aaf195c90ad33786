"""What the tests of defenders share: rows that ask, and a classifier whose logits are chosen pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import arena
from arena.classifiers import Classifier
from arena.classifiers.loading import load_classifier
from arena.classifiers.spec import ClassifierSpec
from arena.datasets import Dataset
from arena.datasets.loading import load_dataset
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Rows

SHAPE = (3, 8, 8)
CLASSES = 10


class Pixels(nn.Module):
    """Logits that are the first pixels, stretched to [-10, 10]: linear, and the same bits in any batch."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1)[:, :CLASSES] - 0.5) * 20


@pytest.fixture(scope="session")
def pixels() -> Classifier:
    return Classifier(Pixels(), shape=SHAPE, classes=CLASSES, batch=64)


@pytest.fixture(scope="session")
def ask_as() -> Callable[..., Rows]:
    """`ask_as(game, turn=1, seed=0)`: rows for games by number, each in its place of the batch."""

    def make(game: Sequence[int] | Tensor, turn: int = 1, seed: int = 0) -> Rows:
        number = torch.as_tensor(game)
        place = torch.arange(len(number))
        zero = torch.zeros_like(number)
        return Rows(game=number, key=number, turn=zero + turn, account=zero, place=place, seed=seed)

    return make


@pytest.fixture(scope="session")
def service(pixels: Classifier) -> Callable[..., StackOracle]:
    """`service(defender, ..., seed=0)`: an Oracle around the pixels, ready for 1000 games."""

    def make(*defenders: Defender, seed: int = 0) -> StackOracle:
        return StackOracle(Stack(pixels, defenders), seed=seed, games=1000)

    return make


@pytest.fixture(scope="session")
def images() -> Tensor:
    """[150,3,8,8]: more than two pieces of the Oracle."""
    return torch.rand(150, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def digits_cnn(digits: Dataset) -> Classifier:
    return load_classifier(ClassifierSpec(network="digits-cnn"), digits)


@pytest.fixture(scope="session")
def square(digits: Dataset, digits_cnn: Classifier) -> Callable[..., float]:
    """`square(defender, verdict="answered")`: the accuracy that 50 queries of Square leave of 30 digits."""

    @cache
    def undefended(verdict: Any) -> float:
        return attacked(["none"], verdict)

    def attacked(defender: Any, verdict: Any = "answered") -> float:
        if defender == "none":
            return undefended(verdict)
        x, y = digits.games.images[:30], digits.games.labels[:30]
        split = digits.calibration.images, digits.calibration.labels
        game = {"classifier": digits_cnn, "images": x, "labels": y, "train": split, "calibration": split}
        threat = {"epsilon": 0.15, "budget": 50}
        return arena.play("square", defender, **game, threat=threat, seed=1).accuracy(verdict)

    return attacked
