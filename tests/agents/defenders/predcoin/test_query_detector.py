from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from agents.defenders.predcoin import query_detector
from agents.defenders.predcoin.query_detector import (
    LEAST_PAIRS,
    QueryDetector,
    features,
    train_detector,
    train_per_class,
)


def answers(n: int, margin: float, classes: int = 10, seed: int = 0) -> Tensor:
    """Logits whose two largest lie about `margin` apart, of any classes."""
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=draws)
    pair = torch.rand(n, classes, generator=draws).argsort(dim=1)[:, :2]
    second = 6 + torch.randn(n, generator=draws)
    first = second + margin * (0.5 + torch.rand(n, generator=draws))
    return logits.scatter(1, pair, torch.stack([first, second], dim=1))


@pytest.fixture(scope="module")
def detector() -> QueryDetector:
    return train_detector(answers(300, 6.0, seed=1), answers(300, 0.05, seed=2), seed=0)


def test_it_tells_queries_from_benign_images(detector: QueryDetector) -> None:
    assert (detector(answers(200, 0.05, seed=3)) > 0.5).float().mean() > 0.98
    assert (detector(answers(200, 6.0, seed=4)) > 0.5).float().mean() < 0.02


def test_it_has_the_papers_parameters(detector: QueryDetector) -> None:
    assert [tuple(w.shape[1:]) for w, _ in detector.layers] == [(3, 64), (64, 64), (64, 32), (32, 2)]
    assert sum(w.numel() + b.numel() for w, b in detector.layers) == 6562


def test_y1_is_that_of_a_plain_network_in_float64(detector: QueryDetector) -> None:
    logits = torch.cat([answers(100, m, seed=5) for m in (0.05, 1.0, 6.0)])
    s = logits.double().softmax(dim=1).sort(dim=1, descending=True).values[:, :3]
    for layer, (w, b) in enumerate(detector.layers):
        s = s @ w[0] + b[0]
        s = s.relu() if layer < 3 else s.softmax(dim=1)
    assert torch.allclose(detector(logits).double(), s[:, 0], atol=1e-3)


def test_a_row_is_the_same_bits_in_any_batch(detector: QueryDetector) -> None:
    logits = torch.cat([answers(333, m, seed=6) for m in (0.05, 1.0, 6.0)])
    whole = detector(logits)
    order = torch.randperm(len(logits), generator=torch.Generator().manual_seed(0))
    assert torch.equal(detector(logits[order]), whole[order])
    for size in (1, 2, 3, 17):
        assert torch.equal(
            torch.cat([detector(piece) for piece in torch.split(logits[:60], size)]), whole[:60]
        )


def test_training_depends_on_the_seed_alone(detector: QueryDetector) -> None:
    data = answers(300, 6.0, seed=1), answers(300, 0.05, seed=2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    same, other = train_detector(*data, seed=0), train_detector(*data, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(w, v) for (w, _), (v, _) in zip(same.layers, detector.layers, strict=True))
    assert not torch.equal(other.layers[0][0], detector.layers[0][0])


def test_saturated_and_tied_probabilities_are_finite(detector: QueryDetector) -> None:
    logits = torch.zeros(3, 10)
    logits[1, 4], logits[2, 5] = 1e4, -3e38
    y1 = detector(logits)
    assert bool(y1.isfinite().all())
    assert bool(((y1 >= 0) & (y1 <= 1)).all())


def test_rows_pass_through_many_networks_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand networks for a thousand classes would hold gigabytes for a thousand rows."""
    draws = torch.Generator().manual_seed(0)
    sizes = [torch.Size(s) for s in ((7, 64), (64, 64), (64, 32), (32, 2))]
    layers = tuple(
        (torch.randn(8, *s, generator=draws).double(), torch.zeros(8, 1, s[1]).double()) for s in sizes
    )
    detector = QueryDetector(
        tuple((query_detector._on_grid(w), b) for w, b in layers), torch.arange(7) + 1, top=0
    )
    logits = torch.randn(50, 7, generator=draws)
    whole, held = detector(logits), []
    bmm = torch.bmm

    def noted(x: Tensor, weight: Tensor) -> Tensor:
        held.append(x.numel())
        return bmm(x, weight)

    monkeypatch.setattr(torch, "bmm", noted)
    monkeypatch.setattr(query_detector, "_FLOATS", 10 * 8 * 64)
    assert torch.equal(detector(logits), whole)
    assert max(held) == 10 * 8 * 64


def test_features_are_the_largest_probabilities_padded_for_two_classes() -> None:
    p = torch.tensor([[0.1, 0.6, 0.05, 0.25], [0.25, 0.25, 0.25, 0.25]])
    assert torch.allclose(features(p.log(), 3), torch.tensor([[0.6, 0.25, 0.1], [0.25, 0.25, 0.25]]))
    assert torch.allclose(features(p.log(), 0), p)
    assert torch.allclose(features(torch.tensor([[0.0, 0.0]]), 3), torch.tensor([[0.5, 0.5, 0.0]]))


@pytest.mark.slow
def test_each_class_with_enough_examples_has_a_network_of_its_own() -> None:
    benign, queries = answers(300, 6.0, 4, seed=1), answers(300, 0.05, 4, seed=2)
    rare = queries.argmax(dim=1) == 3
    detector = train_per_class(benign, queries[~rare | (rare.cumsum(0) < LEAST_PAIRS)], seed=0)
    assert detector.of.tolist() == [1, 2, 3, 0]
    assert len(detector.layers[0][0]) == 4
    probes = torch.cat([answers(100, m, 4, seed=7) for m in (0.05, 6.0)])
    y1, predicted = detector(probes), probes.argmax(dim=1)
    for i in range(4):
        n = int(detector.of[i])
        own = copy.copy(detector.layers)
        alone = QueryDetector(
            tuple((w[n : n + 1], b[n : n + 1]) for w, b in own), torch.zeros(4).long(), top=0
        )
        assert torch.equal(y1[predicted == i], alone(probes[predicted == i]))
    for size in (1, 3, 5):  # fewer rows than networks, and more
        assert torch.equal(torch.cat([detector(piece) for piece in torch.split(probes[:60], size)]), y1[:60])
    assert (y1[:100] > 0.5).float().mean() > 0.9
    assert (y1[100:] > 0.5).float().mean() < 0.1
