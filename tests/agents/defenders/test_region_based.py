from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from agents.defenders.parts import pieces
from agents.defenders.region_based import Poll, RegionBased, counted, near, voted
from arena import draws
from arena.classifiers import Classifier
from arena.datasets import Split
from arena.players import Defender, Inner, Response, Rows
from arena.rules.outcome import labels_of


def votes_by_hand(pixels: Classifier, x: Tensor, rows: Rows, seed: int, m: int, r: float) -> Tensor:
    """Shares [n,K] of the points of each image, one point at a time."""
    found = torch.zeros(len(x), pixels.classes)
    low, high = (x - r).clamp(min=0), (x + r).clamp(max=1)
    for point in range(m):
        u = draws.uniform(seed, rows.key, rows.turn, x.shape[1:], stream=16 * point)
        labels = pixels(low + u * (high - low)).argmax(1)
        found[torch.arange(len(x)), labels] += 1
    return found / m


@pytest.mark.parametrize("at_a_time", [150, 1000, 100_000])
def test_scores_are_the_shares_of_the_votes(
    at_a_time: int, pixels: Classifier, service, ask_as, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "ROWS", at_a_time)
    answer = service(RegionBased(m=12, r=0.2), seed=4).respond(images, ask_as(range(150), turn=3)).scores
    expected = votes_by_hand(pixels, images, ask_as(range(150), turn=3), draws.derive(4, 0), 12, 0.2)
    assert 0.2 < (expected.amax(1) < 1).float().mean() < 1
    torch.testing.assert_close(answer.softmax(1), expected, rtol=0, atol=1e-6)
    assert torch.equal(answer.argmax(1), expected.argmax(1))
    assert answer.isfinite().all()


def test_fewer_points_are_asked_about_at_a_time_where_images_are_large(
    ask_as, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,024 points at 224 x 224 would be 600 MB, and their draws as much."""
    x, asked = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(1)), []

    def inner(x: Tensor, rows: Rows) -> Response:
        asked.append(len(x))
        return Response(x.flatten(1)[:, :5])

    monkeypatch.setattr(pieces, "VALUES", 20 * 64)
    RegionBased(m=12).with_facts({"r": 0.2}).respond(x, ask_as(range(4)), inner)
    assert asked == [20, 20, 8]


def test_points_are_uniform_in_the_cube_within_the_images_box() -> None:
    u = draws.uniform(1, torch.arange(20_000), 1, (3,))
    points = near(torch.tensor([0.05, 0.5, 0.98]).expand(20_000, 3), 0.1, u)
    for column, (low, high) in enumerate([(0.0, 0.15), (0.4, 0.6), (0.88, 1.0)]):
        found = (points[:, column].double() - low) / (high - low)
        assert stats.kstest(found.numpy(), "uniform").pvalue > 0.01
        assert ((points[:, column] >= low - 1e-6) & (points[:, column] <= min(high, 1.0) + 1e-6)).all()


def test_votes_are_counted_and_ties_go_to_the_lowest_class() -> None:
    votes = counted(torch.tensor([[2, 1, 2, 1], [-1, 0, -1, 2], [-1, -1, -1, -1]]), 3)
    assert votes.tolist() == [[0, 2, 2], [1, 0, 1], [0, 0, 0]]
    assert votes[:2].argmax(1).tolist() == [1, 0]


def test_where_all_classes_tie_the_first_is_answered_and_without_votes_none() -> None:
    none = torch.zeros(3, dtype=torch.bool)
    answer = Poll(torch.tensor([[6, 6], [0, 0], [5, 7]]), none, none, none).response()
    assert labels_of(answer.scores).tolist() == [0, -1, 1]
    torch.testing.assert_close(answer.scores[0].softmax(0), torch.tensor([0.5, 0.5]))


@dataclass(frozen=True)
class Withholds(Defender):
    """Refuses all points of game 0, declines those of game 1, and flags and bans those of game 2."""

    def respond(self, x: Tensor, rows: Rows, inner: Inner) -> Response:
        first, second, third = (rows.key == n for n in range(3))
        return Response(inner(x, rows).scores, refused=first, declined=second, flagged=third, banned=third)


def test_points_that_get_no_label_do_not_vote(service, ask_as, images: Tensor) -> None:
    response = service(RegionBased(m=5, r=0.1), Withholds()).respond(images, ask_as(range(150)))
    alone = service(RegionBased(m=5, r=0.1)).respond(images, ask_as(range(150)))
    assert (response.scores[:3] == response.scores[:3, :1]).all()
    assert torch.equal(response.scores[3:], alone.scores[3:])
    assert response.refused.nonzero().flatten().tolist() == [0]
    assert response.flagged.nonzero().flatten().tolist() == [2]
    assert response.banned.nonzero().flatten().tolist() == [2]


def test_r_is_the_largest_without_loss(pixels: Classifier) -> None:
    """Images whose first pixel leads by 0.12: a cube of 0.06 around them is all theirs."""
    x = torch.full((60, *pixels.shape), 0.5)
    x[:, 0, 0, 0] = 0.62
    split = Split(x, torch.arange(60), torch.zeros(60, dtype=torch.int64))
    facts = RegionBased(m=50).fit(pixels, SimpleNamespace(calibration=split)).facts()
    assert 0.06 <= facts["r"] <= 0.6
    assert (voted(x, facts["r"], 50, pixels) == 0).all()
    assert (voted(x, facts["r"] + 0.01, 50, pixels) != 0).any()
    assert facts["accuracy_before"] == facts["accuracy_after"] == 1
    assert RegionBased(m=50).fit(pixels, SimpleNamespace(calibration=split)).facts() == facts
    given = RegionBased(r=0.02).fit(pixels, SimpleNamespace(calibration=split))
    assert given.facts() == {"r": 0.02}
    assert given.preparing(SimpleNamespace(calibration=split)) == 0


def test_it_says_how_much_it_asks(pixels: Classifier, images: Tensor) -> None:
    asked = 0

    def counting(x: Tensor) -> Tensor:
        nonlocal asked
        asked += len(x)
        return pixels(x)

    classifier = Classifier.of(counting, sample=images[:2])
    world = SimpleNamespace(calibration=Split(images, torch.arange(150), pixels(images).argmax(1)))
    classifier(images[:1])
    asked = 0
    fitted = RegionBased(m=9).fit(classifier, world)
    assert asked == fitted.preparing(world)
    assert fitted.asks == 9


@pytest.mark.slow
def test_square_finds_less(square) -> None:
    assert square({"name": "region-based", "m": 10, "r": 0.2}) > square("none") + 0.2


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"m": 0}, "m must be from 1 to 100000 points; found 0"),
        ({"m": 100_001}, "m must be from 1 to 100000 points; found 100001"),
        ({"r": -0.1}, "r must be from 0 to 1, or not given; found -0.1"),
        ({"r": math.nan}, "r must be from 0 to 1, or not given; found nan"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        RegionBased(**parameters)
