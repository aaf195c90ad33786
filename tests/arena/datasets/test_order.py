from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.datasets.dataset import SPLITS
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
    assert shares(17, train=0.8, calibration=0.1, resources=0.1) == {
        "train": 15,
        "calibration": 1,
        "resources": 1,
    }


@pytest.mark.parametrize("n", [10, 57])
def test_without_test_images_four_splits_cover_all(n: int) -> None:
    parts = from_one(torch.arange(n) % 3)
    assert torch.equal(torch.cat(list(parts.values())).sort().values, torch.arange(n))
    assert len(parts["games"]) == n * 4 // 10
    assert len(parts["calibration"]) == len(parts["resources"]) == n // 10


def test_test_images_are_for_calibration_and_games_alone() -> None:
    """Five classes of ten images for training, three of ten for testing: a tenth of each class is cut off."""
    train, test = torch.arange(50) % 5, torch.arange(30) % 3
    parts = from_two(train, test)
    assert parts["resources"].tolist() == [15, 17, 21, 34, 43]
    assert parts["calibration"].tolist() == [59, 78, 79]
    assert parts["train"].tolist() == [n for n in range(50) if n not in (15, 17, 21, 34, 43)]
    assert parts["games"].tolist() == [n for n in range(50, 80) if n not in (59, 78, 79)]
    fewer = from_two(train[:20], test)
    for name in ("calibration", "games"):
        assert torch.equal(fewer[name], parts[name] - 30)


@pytest.mark.parametrize(
    ("tests", "calibration"), [(1, 1), (2, 1), (19, 1), (20, 2), (29, 2), (10_000, 1_000)]
)
def test_a_tenth_of_the_test_images_calibrates_but_one_at_least(tests: int, calibration: int) -> None:
    train, test = torch.arange(20) % 2, torch.arange(tests) % 2
    for parts in (from_two(train, test), from_tracks(train, torch.arange(20), test)):
        assert len(parts["calibration"]) == calibration
        assert len(parts["games"]) == tests - calibration  # none of a single one


def check_shares(labels: Tensor, first: Tensor, rest: Tensor) -> None:
    """Each class has its share of both parts, as Sainte-Laguë's method rounds it: no class would have its
    last place in the first part at a smaller quotient n/(2k-1) than one at which another lacks its next."""
    n, k = labels.bincount(), labels[first].bincount(minlength=int(labels.max()) + 1)
    there = n > 0
    n, k = n[there], k[there]
    assert ((2 * k - 1)[:, None] * n[None, :] <= (2 * k + 1)[None, :] * n[:, None]).all()
    assert torch.equal(torch.cat([first, rest]).sort().values, torch.arange(len(labels)))
    for part in (first, rest):
        assert torch.equal(part, part.sort().values)


@given(LABELS, LABELS)
def test_training_and_test_images_are_cut_evenly_over_the_classes(train: list[int], test: list[int]) -> None:
    y, z = torch.tensor(train), torch.tensor(test)
    parts = from_two(y, z)
    assert parts.keys() == set(SPLITS)
    assert len(parts["resources"]) == len(y) // 10
    assert len(parts["calibration"]) == max(1, len(z) // 10)
    check_shares(y, parts["train"], parts["resources"])
    check_shares(z, parts["calibration"] - len(y), parts["games"] - len(y))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 29)), min_size=1, max_size=200), LABELS)
def test_no_track_is_in_two_splits(images: list[tuple[int, int]], test: list[int]) -> None:
    labels, track = torch.tensor(images).T
    z = torch.tensor(test)
    parts = from_tracks(labels, labels * 100 + track, z)
    check_shares(z, parts["calibration"] - len(images), parts["games"] - len(images))
    assert len(parts["calibration"]) == max(1, len(z) // 10)
    trained = torch.cat([parts["train"], parts["resources"]])
    assert torch.equal(trained.sort().values, torch.arange(len(images)))
    train, attackers = ({images[i] for i in parts[name].tolist()} for name in ("train", "resources"))
    assert not train & attackers
    for label in {label for label, _ in images}:
        kept, lent = (sum(c == label for c, _ in found) for found in (train, attackers))
        total = kept + lent
        assert lent == (0 if total == 1 else max(1, (total + 5) // 10))


@pytest.mark.parametrize(
    ("tracks", "lent"), [(1, 0), (2, 1), (3, 1), (14, 1), (15, 2), (24, 2), (25, 3), (50, 5)]
)
def test_a_tenth_of_a_class_of_tracks_is_rounded_but_one_at_least_of_two(tracks: int, lent: int) -> None:
    track = torch.arange(tracks).repeat_interleave(3)
    parts = from_tracks(torch.zeros_like(track), track, torch.arange(20) % 2)
    assert len(parts["resources"]) == 3 * lent
    assert len(track[parts["resources"]].unique()) == lent


def test_tracks_are_dealt_in_an_order_of_their_own() -> None:
    tracks = torch.arange(50).repeat_interleave(30)
    parts = from_tracks(torch.zeros_like(tracks), tracks, torch.arange(20) % 2)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 1350,
        "resources": 150,
        "calibration": 2,
        "games": 18,
    }
    assert tracks[parts["resources"]].unique().tolist() == [7, 32, 40, 45, 47]
    for part in parts.values():
        assert torch.equal(part, part.sort().values)


def test_few_test_images_a_class_do_not_leave_calibration_to_the_first_classes() -> None:
    test = torch.arange(300).repeat_interleave(3)
    calibration = test[from_two(torch.arange(20) % 2, test)["calibration"] - 20]
    assert len(calibration.unique()) == 90
    assert 100 < calibration.double().mean() < 200
