"""What is ours of the comparison: the counting, the reading at equal queries, the intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from bench.published import (
    BudgetSpent,
    Meter,
    Pair,
    Side,
    costs,
    distances,
    main,
    paired_ratio,
    play_ours,
    play_theirs,
)


def bright(x: Tensor) -> Tensor:
    """Class 1 where the first pixel is above 1/2."""
    f = x[:, 0, 0, 0] - 0.5
    return torch.stack([torch.zeros_like(f), f], dim=1)


def image(*pixels: float) -> Tensor:
    return torch.tensor(pixels).view(-1, 1, 1, 1).expand(-1, 1, 1, 2).contiguous()


def test_every_row_is_charged_and_the_nearest_adversarial_one_kept() -> None:
    meter = Meter(bright, image(0.25), 0, budget=10)
    answers = meter(image(0.25, 1.0))
    assert answers.argmax(dim=1).tolist() == [0, 1]
    meter(image(0.75))
    meter(image(0.4, 0.875))
    assert meter.queries == 5
    expected = [math.inf, 0.75, 0.5, 0.5, 0.5]
    assert [meter.nearest(q) for q in range(1, 6)] == pytest.approx([e * math.sqrt(2) for e in expected])
    assert meter.nearest(100) == meter.nearest(5)
    assert meter.nearest(0) == math.inf


def test_the_row_at_the_budget_counts_and_the_next_does_not() -> None:
    meter = Meter(bright, image(0.25), 0, budget=3)
    meter(image(1.0, 1.0))
    with pytest.raises(BudgetSpent):
        meter(image(0.75, 0.625))
    assert meter.queries == 3
    assert meter.nearest(3) == pytest.approx(0.5 * math.sqrt(2))
    with pytest.raises(BudgetSpent):
        meter(image(0.625))
    assert meter.queries == 3


def test_doubles_and_values_beside_the_box_are_taken_as_the_network_sees_them() -> None:
    meter = Meter(bright, image(0.5), 0, budget=3)
    assert meter(image(1.5).double()).dtype == torch.float32
    assert meter.nearest(1) == pytest.approx(0.5 * math.sqrt(2))


def descend(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> None:
    """Asks 1, then ever closer to 1/2."""
    for step in range(10 * budget):
        network(torch.full_like(x, 0.5 + 0.5**step / 2))


def test_their_side_is_read_at_query_counts() -> None:
    side = play_theirs(descend, bright, image(0.0, 0.25), torch.tensor([0, 0]), [1, 3], prefix=True)
    assert side.queries == 6
    assert side.ends == {"budget": 2}
    assert side.found[1] == pytest.approx(np.array([1.0, 0.75]) * math.sqrt(2))
    assert side.found[3] == pytest.approx(np.array([0.625, 0.375]) * math.sqrt(2))


def test_a_schedule_of_the_budget_is_played_once_for_each() -> None:
    asked: list[int] = []

    def note(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> None:
        asked.append(budget)
        raise AssertionError("lost")

    side = play_theirs(note, bright, image(0.0), torch.tensor([0]), [2, 4], prefix=False)
    assert asked == [2, 4]
    assert side.ends == {"AssertionError: lost": 2}
    assert np.isinf(side.found[4]).all()


def test_our_side_is_the_referee_s_at_the_same_counts() -> None:
    x = image(0.0, 0.25, 0.4)
    classifier = Classifier.of(bright, sample=x)
    y = torch.zeros(3, dtype=torch.int64)
    side = play_ours({"name": "hop-skip-jump"}, classifier, x, y, [50, 300])
    assert side.queries == 900
    assert side.ends == {"budget": 3}
    assert (side.found[50] >= side.found[300]).all()
    assert side.found[300] == pytest.approx(np.array([0.5, 0.25, 0.1]), rel=0.1)
    assert side.forward_seconds > 0


def test_the_ratio_of_medians_is_resampled_in_pairs() -> None:
    theirs = np.random.default_rng(0).lognormal(size=(1, 101))
    assert paired_ratio(1.5 * theirs, theirs) == pytest.approx((1.5, 1.5, 1.5))
    shuffled = np.random.default_rng(1).permutation(theirs, axis=1)
    ratio, low, high = paired_ratio(shuffled, theirs)
    assert ratio == pytest.approx(1)
    assert low < 0.9 < 1.1 < high


def test_images_are_resampled_with_all_their_plays() -> None:
    random = np.random.default_rng(0)
    image = random.lognormal(size=300)
    ours, theirs = image * random.lognormal(sigma=0.5, size=(2, 6, 300))
    one, six = (paired_ratio(ours[:n], theirs[:n]) for n in (1, 6))
    assert six[2] - six[1] < 0.7 * (one[2] - one[1])
    same = paired_ratio(np.tile(ours[:1], (6, 1)), np.tile(theirs[:1], (6, 1)))
    assert same == pytest.approx(one, rel=0.02)  # plays that repeat each other tell no more than one


def test_a_side_without_a_start_for_most_images_loses() -> None:
    none, some = np.full((1, 9), np.inf), np.ones((1, 9))
    assert paired_ratio(none, some)[0] == math.inf
    assert paired_ratio(some, none) == (0, 0, 0)
    assert paired_ratio(none, none) == (1, 1, 1)


def test_rows_of_the_tables() -> None:
    ours = Side({5: np.array([1.0, 2, 3])}, seconds=1, forward_seconds=0.5, queries=1000)
    theirs = Side({5: np.array([1.0, 1, np.inf])}, seconds=3, forward_seconds=1, queries=1000)
    ours.ends["budget"] = theirs.ends["budget"] = 3
    (row,) = distances("a/b", ours, theirs)
    assert (row["ours"], row["theirs"], row["none found, ours"], row["theirs "]) == (2, 1, 0, 1)
    assert row[""] == "above"
    cost = costs("a/b", ours, theirs)
    assert (cost["us/query, ours"], cost["times faster"], cost["times faster "]) == (1000, 3, 4)
    assert Pair({"name": "a"}, "b", descend).name == "a/b"


def test_missing_libraries_are_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.published.find_spec", lambda module: None)
    with pytest.raises(SystemExit):
        main([])
    assert "art and foolbox cannot be imported" in capsys.readouterr().err
