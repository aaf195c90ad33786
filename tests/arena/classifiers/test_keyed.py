"""Layers that draw for each row: by keys in play, silent without, by torch's own state in training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.classifiers.keyed import KeyedLayer, keyed_to
from arena.game.blame import DefenderError
from arena.game.stack import Stack, prepare
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Rows, Splits

SHAPE = (1, 4, 4)


class AddedNoise(KeyedLayer):
    def forward(self, x: Tensor) -> Tensor:
        noise = self.normal(x, x.shape[1:])
        return x if noise is None else x + noise


def noisy(batch: int = 256) -> Classifier:
    torch.manual_seed(0)
    network = nn.Sequential(AddedNoise(0), nn.Flatten(), nn.Linear(16, 3), AddedNoise(1)).eval()
    return Classifier(network, shape=SHAPE, classes=3, batch=batch)


def silent() -> Classifier:
    return Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), shape=SHAPE, classes=3)


def rows_of(key: Tensor, seed: int = 5) -> Rows:
    place = torch.arange(len(key))
    return Rows(game=place, key=key, turn=key * 0 + 2, account=key * 0, place=place, seed=seed)


def test_a_row_is_answered_alike_in_any_batch() -> None:
    x, key = torch.rand(9, *SHAPE), torch.arange(9) + 3
    whole = noisy()(x, rows_of(key))
    torch.testing.assert_close(noisy(batch=2)(x, rows_of(key)), whole, rtol=0, atol=1e-6)
    alone = noisy()(x[4:5], rows_of(key[4:5]))
    torch.testing.assert_close(alone, whole[4:5], rtol=0, atol=1e-6)


def test_layers_rows_and_seeds_have_draws_of_their_own() -> None:
    classifier, x, key = noisy(), torch.rand(1, *SHAPE).repeat(400, 1, 1, 1), torch.arange(400)
    silent = classifier(x)
    moved = classifier(x, rows_of(key)) - silent
    weight = classifier.module[2].weight  # type: ignore[index,union-attr]
    expected = torch.eye(3) + weight @ weight.T  # type: ignore[operator]
    torch.testing.assert_close(torch.cov(moved.T), expected, rtol=0, atol=0.35)
    assert len(moved.unique(dim=0)) == 400
    assert not torch.equal(classifier(x, rows_of(key, seed=6)) - silent, moved)


def test_without_keys_the_layers_are_silent() -> None:
    classifier, x = noisy(), torch.rand(5, *SHAPE)
    assert torch.equal(classifier(x), classifier(x))
    torch.testing.assert_close(classifier(x), classifier.module[2](x.flatten(1)))  # type: ignore[index]
    assert torch.equal(classifier.differentiable(x), classifier(x))


def test_the_network_runs_as_it_is() -> None:
    layers = (nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), AddedNoise(0), nn.Flatten(), nn.Linear(8, 3))
    classifier = Classifier(nn.Sequential(*layers).eval(), shape=SHAPE, classes=3)
    assert classifier.forward.steps == () and "draw for each row" in classifier.forward.remarks[0]


@dataclass(frozen=True)
class Noisy(Defender):
    random: ClassVar[bool] = True

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return noisy()


@dataclass(frozen=True)
class Undeclared(Noisy):
    random: ClassVar[bool] = False


def test_an_oracle_draws_for_each_query_and_not_for_the_base() -> None:
    oracle = StackOracle(Stack(noisy(), (Noisy(),), (noisy(),), (Noisy(),)), seed=1)
    x, key = torch.rand(3, *SHAPE), torch.arange(3)
    first = oracle.respond(x, rows_of(key)).scores
    assert torch.equal(oracle.respond(x, rows_of(key)).scores, first)
    later = Rows(game=key, key=key, turn=key * 0 + 3, account=key * 0, place=key)
    assert not torch.equal(oracle.respond(x, later).scores, first)
    assert not torch.equal(oracle.fresh(x, rows_of(key)).scores, first)
    assert torch.equal(oracle.base_scores(x), noisy()(x)) and not oracle.bare


class Parts:
    def __getattr__(self, name: str) -> object:
        raise ValueError("there are no data")


def test_a_random_classifier_of_a_defender_that_is_not_is_refused() -> None:
    with pytest.raises(DefenderError, match="must declare random = True"):
        prepare(silent(), [Undeclared()], Parts())  # type: ignore[arg-type]


@dataclass(frozen=True)
class Around(Defender):
    """Hardens into the same layers."""

    def harden(self, classifier: Classifier, splits: Splits) -> Classifier:
        return classifier.with_tensors(classifier.tensors())


def test_one_around_a_random_classifier_need_not_be_random_itself() -> None:
    stack = prepare(silent(), [Around(), Noisy()], Parts())  # type: ignore[arg-type]
    assert stack.base.random and stack.random


class Some(nn.Module):
    """The noise of a network for every second row alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = AddedNoise(0)

    def forward(self, x: Tensor) -> Tensor:
        some = torch.arange(0, len(x), 2)
        with keyed_to(some):
            return x.index_copy(0, some, self.layer(x[some])).flatten(1)


def test_a_pass_of_some_rows_draws_as_one_of_all() -> None:
    x, key = torch.rand(9, *SHAPE), torch.arange(9) + 3
    some = Classifier(Some(), shape=SHAPE, classes=16)
    whole = nn.Sequential(AddedNoise(0), nn.Flatten())
    expected = Classifier(whole, shape=SHAPE, classes=16)(x, rows_of(key))
    answer = some(x, rows_of(key))
    assert torch.equal(answer[::2], expected[::2])
    assert torch.equal(answer[1::2], x.flatten(1)[1::2])
    assert torch.equal(some(x), x.flatten(1))
