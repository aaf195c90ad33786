from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from agents.defenders.stateful.gwad import GWAD
from agents.defenders.stateful.streams import ATTACKS, attack_streams, benign_stream
from agents.defenders.stateful.updates import (
    BINS,
    UpdateIndex,
    bin_of,
    bins_of,
    centred,
    network,
    scaled,
    train_network,
)
from arena.conformance.tiny_worlds import tiny_world


def test_bins_by_hand() -> None:
    """floor((1 + c) / .01) of the cosine c: authors' bin |-1 - c| // (2 / 200)."""
    origin, east = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0])
    for degrees in (3, 50, 89, 91, 130, 177):
        turned = torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
        assert bin_of(origin, east, east + turned) == int((1 + math.cos(math.radians(degrees))) / 0.01)
    assert bin_of(origin, origin, east) == 100, "an image sent twice: cosine 0"
    stream = torch.randn(40, 7, generator=torch.Generator().manual_seed(0))
    assert bins_of(stream).tolist() == [bin_of(*stream[i : i + 3]) for i in range(38)]


def test_images_are_centred_and_large_ones_shrunk() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(centred(x), x.flatten(1) - x.flatten(1).mean(dim=1, keepdim=True))
    assert centred(torch.rand(1, 3, 64, 48)).shape == (1, 3 * 32 * 32)


def test_the_index_tests_the_histogram_of_the_last_updates() -> None:
    """Against the histogram of the whole stream so far, by a network that says how full one bin is."""
    stream = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    bins, seen = bins_of(stream).tolist(), []
    index = UpdateIndex(6, network(3))
    index.net.forward = lambda x: seen.append(x) or torch.tensor([0.0, 1.0, 0.0])  # type: ignore[method-assign,func-returns-value]
    for turn in range(30):
        alarm, number = index.find(stream[turn : turn + 1])
        assert alarm.tolist() == [turn >= 7], "six updates are eight queries"
        assert number.tolist() == [-1]
        if turn >= 7:
            counts = torch.bincount(torch.tensor(bins[turn - 7 : turn - 1]), minlength=BINS)
            assert seen[-1].equal(scaled(counts))
        index.add(stream[turn : turn + 1], torch.zeros(1, 2), alarm)


def test_random_images_and_a_walk_are_told_apart() -> None:
    """Updates of independent images have cosines around -1/2, those of a walk around 0."""
    generator = torch.Generator().manual_seed(0)
    counts, of = [], []
    for kind in range(2):
        for _ in range(12):
            steps = torch.randn(66, 200, generator=generator)
            bins = bins_of(steps.cumsum(0) if kind else steps)
            counts.append(torch.bincount(bins, minlength=BINS))
            of.append(kind)
    histograms, classes = torch.stack(counts), torch.tensor(of)
    net = train_network(histograms[::2], classes[::2], 2, seed=1)
    assert net(scaled(histograms[1::2])).argmax(dim=1).equal(classes[1::2])


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_attacks_are_played_as_long_as_asked(name: str) -> None:
    world = tiny_world(1, "cpu")
    x = world.train
    streams = attack_streams(name, world.classifier, x.images[:2], x.labels[:2], 20, seed=0)
    assert len(streams) == 2
    assert all(stream.shape == (20, 432) for stream in streams)
    again = attack_streams(name, world.classifier, x.images[:2], x.labels[:2], 20, seed=0)
    assert all(a.equal(b) for a, b in zip(streams, again, strict=True))


def test_a_benign_stream_is_of_images() -> None:
    x = torch.rand(5, 3, 8, 8)
    stream = benign_stream(x, 12, 0, 3)
    assert all((centred(x) == row).all(dim=1).any() for row in stream)


def test_it_is_read_back_as_it_was_fitted() -> None:
    world, defender = tiny_world(1, "cpu"), GWAD(capacity=12, games=2)
    fitted = defender.fit(world.classifier, world)
    again = GWAD(capacity=12, games=2).restore(fitted.state(), world.classifier)
    assert again.facts() == fitted.facts()
    assert again.facts()["alarms_benign"] < 0.2
    for name, tensor in again._net.state_dict().items():  # type: ignore[union-attr]
        assert tensor.equal(fitted._net.state_dict()[name])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"action": "cached"}, "action must not be 'cached' for gwad"),
        ({"games": 0}, "games must be from 1 to 10000; found 0"),
        ({"capacity": 0}, "capacity must be from 1"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GWAD(**parameters)


def test_it_must_be_fitted() -> None:
    with pytest.raises(ValueError, match="must be fitted first"):
        GWAD().index((1, 8, 8))
