"""Times and memory: their arithmetic, and that they are measured on what is asked."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch

from arena.classifiers import Classifier
from arena.evaluation.cost import MOST_PAIRS, first_queries, measure, paired, peak_bytes
from arena.game.stack import Stack
from arena.players import Defender

CPU = torch.device("cpu")


def test_the_ratio_is_the_median_over_pairs():
    reference, other = itertools.cycle([1.0, 2.0, 4.0]), itertools.cycle([2.0, 8.0, 12.0])
    middle, low, high, seconds = paired(lambda: next(reference), lambda: next(other), seconds=60)
    ratios = ([4, 3, 2] * MOST_PAIRS)[:MOST_PAIRS]  # of the first pair none
    assert middle == statistics.median(ratios) == 3
    assert [low, high] == statistics.quantiles(ratios, n=4)[::2] == [2, 4]
    assert seconds == 8


def test_a_slow_pair_is_the_only_one():
    times = iter([2.0])
    assert paired(lambda: 4.0, lambda: next(times), seconds=0) == (0.5, 0.5, 0.5, 2.0)


def test_peak_memory_is_that_of_what_is_held_at_once():
    def one_after_the_other():
        for _ in range(5):
            torch.ones(250_000)

    def all_at_once():
        return [torch.ones(250_000) for _ in range(5)]

    assert peak_bytes(one_after_the_other, CPU) == pytest.approx(1e6, rel=0.01)
    assert peak_bytes(all_at_once, CPU) == pytest.approx(5e6, rel=0.01)
    assert peak_bytes(lambda: None, CPU) == 0
    held = torch.ones(250_000)
    assert peak_bytes(lambda: held.add_(1), CPU) < 1000, "what was held before is not counted"


def test_peak_memory_leaves_another_profiler_alone():
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        assert peak_bytes(lambda: torch.ones(9), CPU) is None


def test_both_sides_answer_one_row_and_a_batch(worlds):
    asked: dict[str, set[int]] = {"undefended": set(), "defended": set()}

    class Counts(Defender):
        def transform(self, x, rows):
            assert (rows.turn == 1).all()
            assert len(rows.game.unique()) == len(x)
            asked["defended"].add(len(x))
            return x

    plain = worlds.classifier(batch=8)

    class Watched(Classifier):
        def __call__(self, x):
            asked["undefended"].add(len(x))
            return plain(x)

    watched = Watched(plain.module, shape=plain.shape, classes=plain.classes, batch=8)
    found = measure(watched, Stack(plain, (Counts(),)), worlds.images([(1, 2, 3, 4)] * 3))
    assert asked == {"undefended": {1, 8}, "defended": {1, 8}}
    assert found["batch"] == 8
    for name in ("cost_1", "cost_batch"):
        assert 0 < found[f"{name}_low"] <= found[name] <= found[f"{name}_high"] < math.inf
    assert found["seconds_1"] > 0 and found["seconds_batch"] > 0
    assert found["peak_bytes"] > 0


def test_first_queries_are_of_games_of_their_own():
    rows = first_queries(3, CPU, torch.tensor([9, 4, 7]), first=5)
    assert rows.game.tolist() == [5, 6, 7]
    assert rows.key.tolist() == [9, 4, 7]
    assert rows.place.tolist() == [0, 1, 2]
    assert rows.turn.tolist() == [1, 1, 1]
