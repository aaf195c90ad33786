from __future__ import annotations

import torch
from torch import Tensor

from arena.classifiers import Classifier
from bench.replay import Played, counted, forward


def mean(x: Tensor) -> Tensor:
    return x.flatten(1)[:, :2]


def test_batches_are_counted_while_asked_to() -> None:
    x = torch.rand(5, 1, 2, 2)
    classifier = Classifier.of(mean, sample=x, batch=2)
    with counted(classifier) as sizes:
        classifier(x)
    classifier(x)
    assert sizes == [2, 2, 1]


def test_batches_are_replayed() -> None:
    x = torch.rand(5, 1, 2, 2)
    classifier = Classifier.of(mean, sample=x, batch=5)
    ticks = iter([1.0, 3.5])
    with counted(classifier) as sizes:
        assert forward(classifier, x, [2, 5, 1], lambda: next(ticks)) == 2.5
    assert sizes == [2, 5, 1]


def test_what_a_run_cost_over_its_forward_passes() -> None:
    played = Played(3.0, 2.0, [4, 1])
    assert (played.rows, played.over_forward) == (5, 1.5)
