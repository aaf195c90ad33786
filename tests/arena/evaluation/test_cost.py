"""Times and memory: their arithmetic, and that they are measured on what is asked."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
import torch

from arena.classifiers import Classifier
from arena.evaluation.clean_utility import cost_in_words
from arena.evaluation.cost import PAIRS, first_queries, measure, multiply_adds_of, paired, peak_bytes
from arena.game.stack import Stack
from arena.players import Defender, Response
from arena.statistics import median_interval

CPU = torch.device("cpu")


def test_the_ratio_is_the_median_over_pairs_with_its_interval():
    reference, other = itertools.cycle([1.0, 2.0, 4.0]), itertools.cycle([2.0, 8.0, 12.0])
    middle, low, high, seconds = paired(lambda: next(reference), lambda: next(other), seconds=60)
    ratios = ([4, 3, 2] * PAIRS[1])[: PAIRS[1]]  # of the first pair none
    assert middle == statistics.median(ratios) == 3
    assert (low, high) == median_interval(ratios) == (3, 3)
    assert seconds == 8


def test_the_two_take_turns_in_going_first():
    order: list[str] = []
    paired(lambda: order.append("a") or 1.0, lambda: order.append("b") or 1.0, seconds=60)
    assert "".join(order[2:]) == "abba" * (PAIRS[1] // 2), "after the first pair, which warms up"


def test_of_slow_runs_there_are_as_many_as_an_interval_needs_or_none_is_given(monkeypatch):
    assert paired(lambda: 4.0, lambda: 2.0, seconds=0) == (0.5, 0.5, 0.5, 2.0)
    monkeypatch.setattr("arena.evaluation.cost.SLOW", 0.0)
    times = iter([2.0])
    assert paired(lambda: 4.0, lambda: next(times), seconds=0) == (0.5, 0.0, math.inf, 2.0)


def test_a_cost_is_a_figure_only_where_it_is_not_noise():
    assert cost_in_words(1.07, 0.98, 1.15) == "about 1"
    assert cost_in_words(1.07, 1.05, 1.09) == "1.07"
    assert cost_in_words(12.51, 12, 13) == "12.5"
    assert cost_in_words(1.3, 0.43, 5.45) == "0.43 to 5.5", "a figure would be noise, and so would be 1"
    assert cost_in_words(58.6, 2.98, 94.6) == "3 to 95"
    assert cost_in_words(3.0, 0.0, math.inf) == "unknown", "too few runs for an interval"
    assert cost_in_words(math.nan, math.nan, math.nan, "-") == "-"


def test_what_answers_as_the_classifier_alone_has_times_but_no_cost(worlds):
    found = measure(
        worlds.classifier(), Stack(worlds.classifier(), (Defender(),)), worlds.images([(1, 2, 3, 4)])
    )
    assert math.isnan(found["cost_1"]) and math.isnan(found["cost_batch_high"])
    assert found["seconds_1"] > 0 and found["seconds_batch"] > 0


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
        def __call__(self, x, keys=None):
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


def test_the_work_of_a_query_is_that_of_all_that_is_asked_and_the_defenders_own(worlds):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.Flatten(), torch.nn.Linear(12, 2))
    plain = Classifier(net, shape=(1, 2, 2), classes=2)
    image, own = torch.rand(1, 1, 2, 2), 3 * 4 + 12 * 2

    class Asks(Defender):
        def respond(self, x, rows, inner):
            inner(x, rows)
            return inner(x, rows)

    class Works(Defender):
        layer = torch.nn.Linear(4, 5)

        def transform(self, x, rows):
            self.layer(x.flatten(1))
            with torch.inference_mode():
                self.layer(x.flatten(1))
            return x + 1e-6

    class Silent(Defender):
        def respond(self, x, rows, inner):
            return Response(x.new_zeros(len(x), 2))

    for defenders, work in (((), own), ((Asks(),), 2 * own), ((Asks(), Works()), 2 * own + 4 * 20)):
        assert multiply_adds_of(Stack(plain, defenders), image) == work
    assert multiply_adds_of(Stack(plain, (Silent(),)), image) == 0

    class Uncounted(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :2] * 2

    nothing = Classifier(Uncounted(), shape=(1, 2, 2), classes=2)
    assert math.isnan(multiply_adds_of(Stack(nothing, (Works(),)), image))
    assert measure(plain, Stack(plain, (Asks(),)), image)["multiply_adds"] == 2 * own


def test_first_queries_are_of_games_of_their_own():
    rows = first_queries(3, CPU, torch.tensor([9, 4, 7]), first=5)
    assert rows.game.tolist() == [5, 6, 7]
    assert rows.key.tolist() == [9, 4, 7]
    assert rows.place.tolist() == [0, 1, 2]
    assert rows.turn.tolist() == [1, 1, 1]
