"""What is ours of the comparison: first hits, the reading at equal queries, the intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from arena.classifiers import Classifier
from arena.rules.threat import Threat, parse_threat
from bench import published
from bench.published import Side
from bench.published_scores import PAIRS, RADII, Hit, ScoreMeter, play_ours, play_theirs, successes

RULES = Threat(norm="linf", epsilon=0.25, budget=1, feedback="logits")


def bright(x: Tensor) -> Tensor:
    """Class 1 where the first pixel is above 1/2."""
    f = x[:, 0, 0, 0] - 0.5
    return torch.stack([torch.zeros_like(f), f], dim=1)


def image(*pixels: float) -> Tensor:
    return torch.tensor(pixels).view(-1, 1, 1, 1).expand(-1, 1, 1, 2).contiguous()


def test_the_first_row_that_is_wrong_within_the_ball_ends_the_game() -> None:
    meter = ScoreMeter(bright, image(0.4), 0, 100, RULES)
    meter(image(0.3, 0.9, 0.5))  # the second is wrong, and too far
    assert (meter.queries, meter.first_hit) == (3, math.inf)
    with pytest.raises(Hit):
        meter(image(0.45, 0.65, 0.6))
    assert (meter.queries, meter.first_hit) == (5, 5)


def test_distances_are_in_the_norm_of_the_threat() -> None:
    """(.6 - .4) in two pixels: .2 in l_inf, .28 in l_2."""
    rules = parse_threat({"norm": "l2", "epsilon": 0.25, "budget": 1, "feedback": "logits"})
    ScoreMeter(bright, image(0.4), 0, 9, rules)(image(0.6))
    with pytest.raises(Hit):
        ScoreMeter(bright, image(0.4), 0, 9, RULES)(image(0.6))


def climb(step: float) -> Callable[..., object]:
    def attack(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> None:
        for k in range(1, 10 * budget):
            network(x + k * step)

    return attack


def test_their_side_is_read_at_query_counts() -> None:
    x = image(0.34, 0.44, 0.0)
    side = play_theirs(climb(0.05), bright, x, torch.zeros(3, dtype=torch.int64), RULES, [3, 6], prefix=True)
    assert side.found[3].tolist() == [math.inf, 2, math.inf]
    assert side.found[6].tolist() == [4, 2, math.inf]
    assert side.queries == 4 + 2 + 6
    assert side.ends == {"hit": 2, "budget": 1}


def test_a_schedule_of_the_budget_is_played_once_for_each() -> None:
    asked: list[int] = []

    def note(network: nn.Module, x: Tensor, y: Tensor, budget: int) -> None:
        asked.append(budget)

    side = play_theirs(note, bright, image(0.0), torch.tensor([0]), RULES, [2, 4], prefix=False)
    assert asked == [2, 4] and side.ends == {"ended": 2}


def test_our_side_is_the_referee_s_at_the_same_counts() -> None:
    x = image(0.0, 0.4, 0.45)
    classifier = Classifier.of(bright, sample=x)
    spec = {"name": "simba", "basis": "pixel", "step": 0.2}
    side = play_ours(spec, classifier, x, torch.zeros(3, dtype=torch.int64), RULES, [1, 8])
    assert np.isinf(side.found[1]).all()
    assert np.isinf(side.found[8][0]) and (side.found[8][1:] <= 5).all()  # start, and two signs of two pixels
    assert side.queries == 8 + side.found[8][1:].sum()
    assert side.forward_seconds > 0


def test_successes_medians_and_means_with_paired_intervals() -> None:
    ours, theirs = np.array([1.0, 2, 3, np.inf]), np.array([2.0, 4, np.inf, np.inf])
    (row,) = successes("a", Side({10: ours}), Side({10: theirs}))
    assert (row["success, ours"], row["theirs"], row["median, ours"], row["theirs "]) == (
        0.75,
        0.5,
        2.5,
        math.inf,
    )
    assert str(row["difference"]).startswith("0.250 [0.000, ")
    assert (row["mean, ours"], row["theirs  "]) == (4, 6.5)
    assert str(row["difference "]).startswith("-2.5 [")
    assert str(row["ours/theirs"]).startswith("0.000 [")
    lost = Side({10: np.full(4, np.inf)})
    assert successes("a", lost, lost)[0]["ours/theirs"] == ""


def test_the_pairs_have_names_of_their_own_and_radii_in_every_world() -> None:
    assert len({pair.name for pair in PAIRS}) == len(PAIRS)
    assert all(pair.norm in radii for radii in RADII.values() for pair in PAIRS)


def test_missing_libraries_are_told_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.published_scores.find_spec", lambda module: None)
    with pytest.raises(SystemExit):
        published.main(["--scores", "--world", "digits"])
    assert "art and torchattacks cannot be imported" in capsys.readouterr().err
