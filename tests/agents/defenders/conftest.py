"""What the tests of defenders share: rows that ask, and a classifier whose logits are chosen pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
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
