"""The threads of a forward pass: by its work alone, and as before afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import arena
from arena.classifiers import Classifier
from arena.classifiers.forward import Forward, prepare_forward
from arena.classifiers.networks import NETWORKS
from arena.classifiers.threads import computing_threads, multiply_adds, threads_for
from arena.players import Attacker, Defender, Games, Play, Splits
from arena.rules.moves import Volley


@pytest.fixture
def two() -> Iterator[None]:
    """The caller's own number; the tests around this one have another (conftest)."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def network(name: str, **given: int) -> Classifier:
    torch.manual_seed(0)
    return Classifier(NETWORKS[name].factory(), shape=NETWORKS[name].shape, classes=0, **given)


@pytest.mark.parametrize(
    ("work", "threads"), [(0, 1), (2**28 - 1, 1), (2**28, 2), (2**32 - 1, 2), (2**32, 4), (1e15, 4)]
)
def test_rule(work: float, threads: int) -> None:
    assert threads_for(work) == threads


@pytest.mark.parametrize(
    ("name", "work", "threads"),
    [
        ("digits-cnn", 915_936, {1: 1, 64: 1, 256: 1}),
        ("resnet20", 40_551_040, {1: 1, 4: 1, 5: 2, 8: 2, 64: 2}),
        ("resnet50", 4_089_184_256, {1: 2, 2: 4, 8: 4}),
    ],
)
def test_networks(name: str, work: int, threads: dict[int, int]) -> None:
    """The papers say 41 million multiply-adds for ResNet-20 and 4.1 billion for ResNet-50."""
    net = NETWORKS[name].factory().eval()
    assert multiply_adds(net, torch.zeros(1, *NETWORKS[name].shape)) == work
    assert {rows: passes(work).threads(rows) for rows in threads} == threads


def passes(work: float) -> Forward:
    return Forward(nn.Identity(), torch.device("cpu"), multiply_adds=work)


def test_rows_count_as_a_compiled_copy_pads_them() -> None:
    forward = passes(2**26)
    assert [forward.threads(rows) for rows in (2, 3, 4)] == [1, 2, 2]
    assert (forward.threads(3, 3), forward.threads(3, 4)) == (1, 2)
    assert Forward(nn.Identity(), torch.device("meta"), multiply_adds=2**40).threads(64) == 1


class Asked(nn.Module):
    """2^23 multiply-adds a row; notes the threads that it runs in."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2**10, 2**13)
        self.heard: list[tuple[int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.heard.append((len(x), torch.get_num_threads()))
        logits: Tensor = self.linear(x.flatten(1))[:, :2]
        return logits


def test_cores_and_surrounding_threads_do_not_count(two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    for number in (1, 2, 5):
        torch.set_num_threads(number)
        classifier = Classifier(Asked(), shape=(1, 32, 32), classes=2, batch=32)
        assert (classifier.threads, classifier.forward.threads(31, 32)) == (2, 2)
        assert classifier.forward.threads(1, 32) == 1
        assert torch.get_num_threads() == number


def test_each_pass_runs_in_its_own_threads(two: None) -> None:
    torch.set_num_threads(3)
    net = Asked().eval().requires_grad_(False)
    classifier = Classifier(net, shape=(1, 32, 32), classes=2, batch=32)
    classifier(torch.zeros(33, 1, 32, 32))
    assert classifier.forward.multiply_adds == 2**23
    assert net.heard == [(32, 2), (1, 1)]  # nor was the network itself asked how much work it is
    assert torch.get_num_threads() == 3


@pytest.mark.slow
def test_logits_are_the_same_bits_whatever_surrounds_them(two: None) -> None:
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    classifier, answers = network("resnet20"), []
    for number in (1, 2, 7):
        torch.set_num_threads(number)
        answers.append(classifier(x))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])
    rows = Classifier(Sums(), shape=(1, 1024, 1024), classes=2)
    x = torch.randn(1, 1, 1024, 1024, generator=torch.Generator().manual_seed(0))
    answers = []
    for number in (1, 2, 7):
        torch.set_num_threads(number)
        answers.append(rows(x))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[0], answers[2])


class Sums(nn.Module):
    """A sum that torch cuts among its threads."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.sum(), x.min()])[None]


def test_sums_are_other_bits_in_other_threads(two: None) -> None:
    """What the test before would miss without the rule."""
    x, found = torch.randn(2**20, generator=torch.Generator().manual_seed(0)), []
    for number in (1, 2, 7):
        with computing_threads(number):
            found.append(x.sum().item())
    assert len(set(found)) > 1


def test_threads_are_restored(two: None) -> None:
    with computing_threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(KeyError), computing_threads(1):
        torch.set_num_threads(5)
        raise KeyError
    assert torch.get_num_threads() == 2


class Failing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no such image")


def test_a_network_that_fails_says_so_and_leaves_the_threads(two: None) -> None:
    classifier = Classifier(Failing(), shape=(1, 2, 2), classes=2)
    with pytest.raises(RuntimeError, match="no such image"):
        classifier(torch.zeros(1, 1, 2, 2))
    assert torch.get_num_threads() == 2
    assert prepare_forward(Failing(), shape=(1, 2, 2), device=torch.device("cpu")).multiply_adds == 0


def test_counting_draws_nothing_from_the_callers_generator() -> None:
    class Drawing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :2] + torch.rand(1)

    torch.manual_seed(3)
    before = torch.get_rng_state()
    _ = Classifier(Drawing(), shape=(1, 2, 2), classes=2).forward
    assert torch.equal(torch.get_rng_state(), before)


@dataclass(frozen=True)
class Noting(Attacker):
    """Notes the threads between two moves."""

    def play(self, games: Games) -> Play:
        HEARD.append(torch.get_num_threads())
        torch.set_num_threads(3)
        yield Volley(games.x0, torch.arange(len(games)))


@dataclass(frozen=True)
class Prepared(Defender):
    def fit(self, classifier: Classifier, splits: Splits) -> Prepared:
        HEARD.append(torch.get_num_threads())
        return self


HEARD: list[int] = []


def test_a_game_is_played_in_one_thread_and_the_callers_number_restored(two: None) -> None:
    HEARD.clear()
    world = {"classifier": nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), "images": torch.rand(3, 1, 2, 2)}
    labels = torch.tensor([0, 1, 0])
    arena.play(Noting(), Prepared(), **world, labels=labels, threat={"epsilon": 0.1, "budget": 5})
    assert HEARD == [1, 1]
    assert torch.get_num_threads() == 2
    arena.evaluate(world["classifier"], Prepared(), images=world["images"], labels=labels, cost=False)
    assert HEARD == [1, 1, 1]
    assert torch.get_num_threads() == 2
