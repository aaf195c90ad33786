from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from arena.datasets import Split, draw


def split(labels: list[int]) -> Split:
    n = len(labels)
    return Split(torch.zeros(n, 1, 1, 1), torch.arange(n) + 100, torch.tensor(labels, dtype=torch.int64))


def wrong_thirds(index: Tensor) -> Tensor:
    """Wrong where the position is divisible by 3, whatever else is asked."""
    return index % 3 != 0


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=700),
    seed=st.integers(0, 9),
    few=st.integers(0, 400),
    more=st.integers(0, 400),
)
def test_fewer_images_are_the_first_of_more(labels: list[int], seed: int, few: int, more: int) -> None:
    part = split(labels)
    short, long = (draw(part, seed, count, wrong_thirds) for count in sorted((few, more)))
    n = len(short.index)
    assert torch.equal(long.index[:n], short.index)
    assert torch.equal(long.right[:n], short.right)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=700),
    seed=st.integers(0, 9),
    count=st.integers(1, 500),
)
def test_no_more_is_drawn_than_needed(labels: list[int], seed: int, count: int) -> None:
    drawn = draw(split(labels), seed, count, wrong_thirds)
    assert len(torch.unique(drawn.index)) == len(drawn.index)
    assert torch.equal(drawn.right, wrong_thirds(drawn.index))
    available = int(wrong_thirds(torch.arange(len(labels))).sum())
    if available >= count:
        assert drawn.right.sum() == count
        assert drawn.right[-1]
    else:
        assert len(drawn.index) == len(labels)


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=200), seed=st.integers(0, 9))
def test_classes_take_turns(labels: list[int], seed: int) -> None:
    part = split(labels)
    order = part.labels[draw(part, seed, len(labels), lambda index: index >= 0).index]
    every = torch.tensor(labels).bincount(minlength=5)
    for n in range(len(labels) + 1):
        counts = order[:n].bincount(minlength=5)
        unfinished = counts[counts < every]  # a class that has images left is at most one behind the first
        if len(unfinished):
            assert counts.max() - unfinished.min() <= 1


def test_order_depends_on_the_seed() -> None:
    part = split([0, 1, 2, 3, 4] * 40)
    one, other = (draw(part, seed, 200, lambda index: index >= 0).index for seed in (0, 1))
    assert not torch.equal(one, other)
    assert one[:5].tolist() != sorted(one[:5].tolist())


@pytest.mark.parametrize("count", [1, 256, 257, 600])
def test_classifier_is_asked_in_batches_and_no_further(count: int) -> None:
    asked: list[int] = []

    def is_right(index: Tensor) -> Tensor:
        asked.append(len(index))
        return torch.ones(len(index), dtype=torch.bool)

    drawn = draw(split([0, 1] * 300), 0, count, is_right)
    assert len(drawn.index) == count
    assert asked == [256, 256, 88][: -(-count // 256)]


def test_nothing_wanted_asks_nothing() -> None:
    def never(index: Tensor) -> Tensor:
        raise AssertionError

    assert len(draw(split([0, 1]), 0, 0, never).index) == 0
    assert len(draw(split([]), 0, 5, never).index) == 0
