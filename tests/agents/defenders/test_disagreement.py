import pytest
import torch

from agents.defenders.disagreement import Disagreement
from agents.defenders.snd import SND
from arena.classifiers import Classifier
from arena.conformance.tiny_worlds import tiny_world
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle
from arena.players import Defender, Response, Rows


def threshold(x: torch.Tensor) -> torch.Tensor:
    """Class 1 where the mean lies above 1/2."""
    mean = x.flatten(1).mean(dim=1) - 0.5
    return torch.stack([-mean, mean], dim=1)


class Turned(Defender):
    """Answers the other class to every second row."""

    def respond(self, x, rows, inner):
        scores = inner(x, rows).scores
        return Response(torch.where((rows.turn % 2 == 0)[:, None], scores.flip(1), scores))


def rows(n: int) -> Rows:
    place = torch.arange(n)
    return Rows(place, place, place, torch.zeros_like(place), place)


@pytest.fixture
def classifier() -> Classifier:
    return Classifier.of(threshold, sample=torch.rand(1, 1, 4, 4))


def test_it_flags_the_rows_whose_label_was_changed_and_changes_none(classifier):
    x = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    inside = StackOracle(prepare(classifier, [Turned()], tiny_world(0, "cpu"))).respond(x, rows(40))
    response = StackOracle(prepare(classifier, [Disagreement(), Turned()], tiny_world(0, "cpu"))).respond(
        x, rows(40)
    )
    assert torch.equal(response.scores, inside.scores)
    assert response.flagged.tolist() == [n % 2 == 0 for n in range(40)]


def test_the_share_flagged_under_noise_is_the_chance_to_cross(classifier):
    """The mean of 16 pixels moves by sigma/4 z: from 0.5 + sigma/4 it crosses with Phi(-1)."""
    sigma, n = 0.04, 4000
    x = torch.full((n, 1, 4, 4), 0.5 + sigma / 4)
    oracle = StackOracle(prepare(classifier, [Disagreement(), SND(sigma=sigma)], tiny_world(0, "cpu")))
    share = oracle.respond(x, rows(n)).flagged.double().mean().item()
    assert abs(share - 0.158655) < 4 * (0.158655 * 0.841345 / n) ** 0.5


def test_rows_without_a_label_do_not_disagree(classifier):
    x = torch.full((4, 1, 4, 4), 0.7)
    x[1], x[2] = torch.nan, 0.5  # the scores of 0.5 are equal
    oracle = StackOracle(prepare(classifier, [Disagreement(), Turned()], tiny_world(0, "cpu")))
    flagged = oracle.respond(x, rows(4)).flagged
    assert flagged.tolist() == [True, False, False, False]


def test_it_must_be_fitted():
    with pytest.raises(ValueError, match="Disagreement must be fitted first"):
        Disagreement().respond(torch.rand(1, 1, 4, 4), rows(1), lambda x, r: Response(threshold(x)))
