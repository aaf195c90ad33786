from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arena.datasets.order import (
    from_one,
    from_tracks,
    from_two,
    ranks_within_class,
    shares,
    shuffled,
    stratified,
)

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=120)


def test_orders_are_the_same_in_every_version() -> None:
    assert shuffled(8, 0, "draw").tolist() == [0, 2, 3, 4, 5, 7, 1, 6]
    assert shuffled(8, 1, "draw").tolist() != shuffled(8, 0, "draw").tolist()


@given(n=st.integers(0, 200), seed=st.integers(0, 2**40))
def test_shuffled_is_a_permutation(n: int, seed: int) -> None:
    assert sorted(shuffled(n, seed, "words")) == list(range(n))


@given(LABELS, st.integers(0, 5))
def test_ranks_count_each_class(labels: list[int], seed: int) -> None:
    y = np.array(labels, dtype=np.int64)
    ranks = ranks_within_class(y, seed)
    for c in set(labels):
        assert sorted(ranks[y == c]) == list(range(labels.count(c)))


@given(LABELS, st.data())
def test_parts_are_disjoint_proportional_and_of_exact_size(labels: list[int], data: st.DataObject) -> None:
    y = torch.tensor(labels)
    first = data.draw(st.integers(0, len(labels)))
    counts = {"a": first, "b": data.draw(st.integers(0, len(labels) - first))}
    parts = stratified(y, counts)
    assert {name: len(part) for name, part in parts.items()} == counts
    assert len(torch.unique(torch.cat(list(parts.values())))) == sum(counts.values())
    every = y.bincount(minlength=6).double()
    for part in parts.values():
        assert torch.equal(part, part.sort().values)
        share = every * len(part) / len(labels)
        assert (y[part].bincount(minlength=6) - share).abs().max() < 6  # at most the number of classes


def test_parts_hold_a_class_alike_where_they_are_large() -> None:
    y = torch.arange(10).repeat(100)
    for part in stratified(y, {"a": 500, "b": 300, "c": 200}).values():
        assert y[part].bincount().tolist() == [len(part) // 10] * 10


def test_shares_sum_up() -> None:
    assert shares(17, train=0.8, calibration=0.1, attackers=0.1) == {
        "train": 15,
        "calibration": 1,
        "attackers": 1,
    }


@pytest.mark.parametrize("n", [10, 57])
def test_without_test_images_four_splits_cover_all(n: int) -> None:
    parts = from_one(torch.arange(n) % 3)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(n))
    assert len(parts["games"]) == n * 4 // 10
    assert len(parts["calibration"]) == len(parts["attackers"]) == n // 10


def test_games_are_the_test_images_where_there_are_any() -> None:
    parts = from_two(torch.arange(50) % 5, torch.arange(7) % 5)
    assert parts["games"].tolist() == list(range(50, 57))
    rest = torch.cat([parts["train"], parts["calibration"], parts["attackers"]])
    assert torch.equal(rest.sort().values, torch.arange(50))
    assert [len(parts[name]) for name in ("train", "calibration", "attackers")] == [40, 5, 5]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14)), min_size=1, max_size=200))
def test_no_track_is_in_two_splits(images: list[tuple[int, int]]) -> None:
    labels, track = torch.tensor(images).T
    parts = from_tracks(labels, labels * 100 + track, torch.zeros(5, dtype=torch.int64))
    assert parts.pop("games").tolist() == list(range(len(images), len(images) + 5))
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(len(images)))
    tracks = {name: {images[i] for i in part.tolist()} for name, part in parts.items()}
    assert sum(map(len, tracks.values())) == len(set(images))
    for label in {label for label, _ in images}:
        count = {name: sum(c == label for c, _ in found) for name, found in tracks.items()}
        total = sum(count.values())
        assert count["train"] > 0
        if total >= 3:
            assert count["calibration"] == count["attackers"] == max(1, (total + 5) // 10)


def test_tracks_are_dealt_in_an_order_of_their_own() -> None:
    tracks = torch.arange(50).repeat_interleave(30)
    parts = from_tracks(torch.zeros_like(tracks), tracks, tracks[:3])
    assert [len(part) for part in parts.values()] == [1200, 150, 150, 3]
    assert tracks[parts["train"]].unique().tolist() != list(range(40))
