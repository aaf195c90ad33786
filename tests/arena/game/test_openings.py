"""Targets and an attacker's own images: functions of the seed and the image's number alone."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.datasets import Split
from arena.game.openings import ResourcePool, draw_resources, draw_targets
from arena.rules.threat import GrantedResources, Threat

RANDOM = Threat(epsilon=1, budget=1, goal="targeted")
NEXT = Threat(epsilon=1, budget=1, goal="targeted", targets="next")


def targets(threat: Threat, label: Tensor, key: Tensor, classes: int, seed: int) -> Tensor:
    found = draw_targets(threat, label, key, classes, seed)
    assert found is not None
    return found


@given(
    games=st.lists(
        st.tuples(st.integers(0, 1 << 20), st.integers(0, 6)), min_size=1, max_size=20, unique=True
    ),
    seed=st.integers(0, 5),
)
def test_target_depends_on_seed_number_and_label_alone(games: list[tuple[int, int]], seed: int) -> None:
    key, label = torch.tensor(games).unbind(dim=1)
    together = targets(RANDOM, label, key, 7, seed)
    assert (together != label).all()
    assert ((together >= 0) & (together < 7)).all()
    for n in range(len(games)):
        assert targets(RANDOM, label[n : n + 1], key[n : n + 1], 7, seed).item() == together[n].item()


def test_targets_are_uniform_over_the_other_classes() -> None:
    key = torch.arange(9000)
    label = key % 10
    found = targets(RANDOM, label, key, 10, seed=1)
    for y in range(10):
        count = found[label == y].bincount(minlength=10)
        assert count[y] == 0
        chi2 = ((count - 100) ** 2 / 100).sum() - 100  # the label's own class contributes 100
        assert chi2 < 26.1  # 0.999 quantile of chi2 with 8 degrees of freedom


def test_targets_change_with_the_seed() -> None:
    key, label = torch.arange(200), torch.zeros(200, dtype=torch.int64)
    same = (targets(RANDOM, label, key, 10, 0) == targets(RANDOM, label, key, 10, 1)).float().mean()
    assert 0.02 < same < 0.25  # 1/9 by chance


def test_next_target_is_the_next_class() -> None:
    label = torch.arange(5)
    assert targets(NEXT, label, label, 5, 0).tolist() == [1, 2, 3, 4, 0]


def test_untargeted_games_have_no_targets() -> None:
    label = torch.arange(5)
    assert draw_targets(Threat(epsilon=1, budget=1), label, label, 5, 0) is None


def granting(images: int = 0, starts: bool = False, goal: Any = "untargeted") -> Threat:
    return Threat(epsilon=1, budget=1, goal=goal, resources=GrantedResources(images=images, starts=starts))


@pytest.fixture
def split(worlds: ModuleType) -> Split:
    """Twelve images; the classifier of worlds.py gives each class to some."""
    x = worlds.images([(8, 8 + k % 2, 4 + k, 4) for k in range(12)])
    return Split(x, torch.arange(12), torch.tensor(worlds.truth(x, worlds.classifier())))


def test_nothing_granted_is_nothing_held(worlds: ModuleType) -> None:
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)]), [0])
    held = draw_resources(granting(), ResourcePool(None, worlds.classifier()), deal, 0)
    assert (held.images, held.labels, held.starts) == (None, None, None)


def test_images_come_from_the_split_with_their_labels(worlds: ModuleType, split: Split) -> None:
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)]), [0])
    held = draw_resources(granting(images=5), ResourcePool(split, worlds.classifier()), deal, 0)
    assert held.starts is None
    assert held.images is not None
    assert held.labels is not None
    numbers = [(split.images == image).flatten(1).all(dim=1).nonzero().item() for image in held.images]
    assert len(set(numbers)) == 5
    assert held.labels.tolist() == split.labels[torch.tensor(numbers)].tolist()


def test_what_is_granted_is_the_attackers_own(worlds: ModuleType, split: Split) -> None:
    """A write changes nothing in the pool, and the rest of it does not hang on."""
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)]), [0])
    before = split.images, split.labels.clone()
    held = draw_resources(granting(images=5, starts=True), ResourcePool(split, worlds.classifier()), deal, 0)
    for own in (held.images, held.labels, held.starts):
        assert own is not None
        assert own.untyped_storage().nbytes() == own.numel() * own.element_size()
        own.zero_()
    assert torch.equal(split.images, before[0]) and torch.equal(split.labels, before[1])


@pytest.mark.parametrize("images", [13, 100])
def test_a_split_that_is_too_small_is_named(worlds: ModuleType, split: Split, images: int) -> None:
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)]), [0])
    with pytest.raises(ValueError, match=f"grant the attacker {images} images; its split holds 12"):
        draw_resources(granting(images=images), ResourcePool(split, worlds.classifier()), deal, 0)
    with pytest.raises(ValueError, match="its split holds 0"):
        draw_resources(granting(starts=True), ResourcePool(None, worlds.classifier()), deal, 0)


@pytest.mark.parametrize("goal", ["untargeted", "targeted"])
def test_starts_win_their_games_and_depend_on_the_number_alone(
    worlds: ModuleType, split: Split, goal: str
) -> None:
    of = worlds.classifier()
    label = [0, 1, 2, 0, 1, 2]
    target = [1, 2, 0, 2, 0, 1] if goal == "targeted" else None
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)] * 6), label, key=range(40, 46), target=target)
    starts = draw_resources(granting(starts=True, goal=goal), ResourcePool(split, of), deal, 3).starts
    assert starts is not None
    found = of(starts).argmax(dim=1).tolist()
    assert found == target if target else all(f != y for f, y in zip(found, label, strict=True))
    alone = draw_resources(
        granting(starts=True, goal=goal), ResourcePool(split, of), deal[worlds.index(4, 1)], 3
    ).starts
    assert alone is not None
    assert torch.equal(alone, starts[worlds.index(4, 1)])
    seeds = [
        draw_resources(granting(starts=True, goal=goal), ResourcePool(split, of), deal, s).starts
        for s in range(8)
    ]
    assert len({str(found) for found in seeds}) > 1


def test_a_game_without_a_start_gets_nan(worlds: ModuleType) -> None:
    of = worlds.classifier()
    x = worlds.images([(16, 0, 0, 0), (8, 4, 8, 4), (8, 5, 8, 4)])  # the first is answered with NaN
    split = Split(x, torch.arange(3), torch.zeros(3, dtype=torch.int64))
    y = worlds.truth(x, of)[1]
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)] * 2), [y, (y + 1) % 3])
    starts = draw_resources(granting(starts=True), ResourcePool(split, of), deal, 0).starts
    assert starts is not None
    assert starts[0].isnan().all()
    assert not starts[1].isnan().any()


class Shelf:
    """Images that tell which of them were taken down, and how many at a time."""

    def __init__(self, images: Tensor) -> None:
        self.images, self.taken = images, list[list[int]]()
        self.shape, self.dtype = images.shape, images.dtype

    def __getitem__(self, index: Tensor) -> Tensor:
        self.taken.append(index.tolist())
        return self.images[index]


def test_images_that_are_not_granted_are_not_read(worlds: ModuleType, split: Split) -> None:
    shelf = Shelf(split.images)
    pool = ResourcePool(Split(shelf, split.index, split.labels), worlds.classifier())
    deal = worlds.deal(worlds.images([(8, 8, 8, 8)]), [0])
    draw_resources(granting(images=3), pool, deal, 0)
    assert shelf.taken == [[0, 1, 2]]


def test_the_pool_is_classified_once_in_pieces(worlds: ModuleType, split: Split) -> None:
    """Two shards; no more than a batch of the images is held at a time."""
    shelf = Shelf(split.images)
    pool = ResourcePool(Split(shelf, split.index, split.labels), worlds.classifier(batch=5))
    whole = ResourcePool(split, worlds.classifier())
    for key in (3, 4):
        deal = worlds.deal(worlds.images([(8, 8, 8, 8)] * 2), [0, 1], key=[key, 10 + key])
        found = draw_resources(granting(starts=True), pool, deal, 0).starts
        expected = draw_resources(granting(starts=True), whole, deal, 0).starts
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)
    granted, pieces, starts = [0], [5, 5, 2], [2]
    assert [len(rows) for rows in shelf.taken] == granted + pieces + starts + granted + starts
    assert shelf.taken[1:4] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_rows_of_a_deal(worlds: ModuleType) -> None:
    deal = worlds.deal(
        worlds.images([(k, 0, 0, 0) for k in range(4)]), [0, 1, 2, 0], key=[9, 8, 7, 6], target=[1, 2, 0, 2]
    )
    some = deal[worlds.index(2, 0)]
    assert len(some) == 2
    assert some.key.tolist() == [7, 9]
    assert some.label.tolist() == [2, 0]
    assert some.target is not None
    assert some.target.tolist() == [0, 1]
    assert torch.equal(some.x0, deal.x0[worlds.index(2, 0)])
