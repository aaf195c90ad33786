from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from agents.defenders.predcoin import boundary_queries as module
from agents.defenders.predcoin.boundary_queries import boundary_queries, expected_queries
from arena.classifiers import Classifier
from arena.progress import Work, hearing
from arena.rules.threat import Norm

N = 48


def gap(classifier: Classifier, x: Tensor) -> Tensor:
    """The l2 distance to where the two largest of the pixels that are the logits are equal."""
    top = classifier(x).topk(2, dim=1).values
    return (top[:, 0] - top[:, 1]) / 20 / math.sqrt(2)


@pytest.fixture(scope="module")
def labelled(pixels: Classifier, images: Tensor) -> tuple[Tensor, Tensor]:
    return images[:N], pixels(images[:N]).argmax(dim=1)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_queries_lie_as_close_to_the_boundary_as_the_probes_radius(
    norm: Norm, pixels: Classifier, labelled: tuple[Tensor, Tensor]
) -> None:
    """delta_1 = .1, later D / d: a share 1/10 of the queries is of iteration 1."""
    x, label = labelled
    queries, found = boundary_queries(pixels, x, label, norm, seed=3)
    assert bool(found.all())
    assert queries.min() >= 0
    assert queries.max() <= 1
    far = gap(pixels, queries)
    assert far.max() <= 0.1 + 1e-5
    assert (far < 0.02).float().mean() > 0.85  # D < 4, d = 192
    assert gap(pixels, x).median() > 0.03


def test_how_far_it_is_is_told(pixels: Classifier, labelled: tuple[Tensor, Tensor]) -> None:
    told: list[Work | None] = []
    listener = SimpleNamespace(working=told.append, remark=print)
    with hearing(listener):
        boundary_queries(pixels, *labelled, "l2", seed=3)
    done = [work.done for work in told if work is not None]
    assert done[0] == 0 and done == sorted(done) and len(set(done)) > 5
    assert {str(work).partition(",")[0] for work in told} == {"boundary queries (l2)"}
    assert {work.of for work in told if work is not None} == {len(labelled[0])}


def test_as_many_are_expected_as_are_played() -> None:
    """150 to 157 were counted on digits, of 64 pixels."""
    assert expected_queries(64) == 150
    assert expected_queries(3 * 32 * 32) == 206


def test_one_in_ten_is_the_boundary_point_itself(
    pixels: Classifier, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = pixels(images).argmax(dim=1)
    mixed, _ = boundary_queries(pixels, images, label, "l2", seed=1)
    monkeypatch.setattr(module, "BOUNDARY_POINTS", 1.0)
    points, found = boundary_queries(pixels, images, label, "l2", seed=1)
    assert bool(found.all())
    assert bool((pixels(points).argmax(dim=1) != label).all())
    same = (mixed == points).flatten(1).all(dim=1)
    assert 0.03 < same.float().mean() < 0.2
    probes = pixels(mixed[~same]).argmax(dim=1) != label[~same]
    assert 0.3 < probes.float().mean() < 0.7


def test_a_game_plays_the_same_in_shards_as_in_one(
    pixels: Classifier, labelled: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, label = labelled
    whole, _ = boundary_queries(pixels, x, label, "l2", seed=3)
    monkeypatch.setattr(module, "_FLOATS", 7 * 8 * x[0].numel())
    parts, _ = boundary_queries(pixels, x, label, "l2", seed=3)
    assert torch.equal(whole, parts)
    other, _ = boundary_queries(pixels, x, label, "l2", seed=4)
    assert not torch.equal(whole, other)


def test_where_noise_is_all_y_games_start_from_another_image(images: Tensor) -> None:
    """Class 0 for whatever is not nearly black, as networks call noise."""

    def dark(x: Tensor) -> Tensor:
        brightness = x.flatten(1).mean(dim=1)
        return torch.stack([brightness, 0.2 - brightness], dim=1) * 50

    classifier = Classifier.of(dark, sample=images[:1])
    x = torch.cat([images[:8], images[8:16] * 0.05])
    label = classifier(x).argmax(dim=1)
    assert len(torch.unique(label)) == 2
    _, found = boundary_queries(classifier, x, label, "l2")
    assert bool(found.all())
    _, none = boundary_queries(classifier, x[:8], label[:8], "l2")
    assert not bool(none.any())
