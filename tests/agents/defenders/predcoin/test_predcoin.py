from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.predcoin import query_material
from agents.defenders.predcoin.detect_and_flip import OFF, swap
from agents.defenders.predcoin.gamma import gains
from agents.defenders.predcoin.predcoin import PredCoin
from agents.defenders.predcoin.predcoin_image import PredCoinImage
from agents.defenders.predcoin.query_material import gather
from agents.defenders.snd import SND
from arena.classifiers import Classifier
from arena.conformance.defender_checks import check_defender
from arena.datasets import Split
from arena.game.stack import Stack
from arena.game.stack_oracle import StackOracle
from arena.players import Response

SHAPE = (1, 6, 6)
CLASSES = 4


class Corners(nn.Module):
    """Class k is the brightest of the first four pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return 12 * x.flatten(1)[:, :CLASSES]


@dataclass(frozen=True)
class Data:
    train: Split
    calibration: Split


def split(first: int, n: int, wrong: float = 0.0) -> Split:
    """Images of four classes, most of them clear, the labels of a share `wrong` of them changed."""
    draws = torch.Generator().manual_seed(first)
    x = torch.rand(n, *SHAPE, generator=draws)
    y = torch.randint(CLASSES, (n,), generator=draws)
    x.flatten(1)[:, :CLASSES] *= 0.5
    x.flatten(1).scatter_(1, y[:, None], 0.55 + 0.45 * torch.rand(n, 1, generator=draws))
    moved = torch.rand(n, generator=draws) < wrong
    return Split(x, torch.arange(n), torch.where(moved, (y + 1) % CLASSES, y))


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(Corners(), shape=SHAPE, classes=CLASSES)


@pytest.fixture(scope="module")
def data() -> Data:
    return Data(split(1, 300), split(2, 200, wrong=0.1))


@pytest.fixture(scope="module")
def fitted(classifier: Classifier, data: Data) -> PredCoin:
    return PredCoin(search="scan", images=120).fit(classifier, data)


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.parametrize("defender", [PredCoin(gamma=0.0), PredCoin(coin=0.0)], ids=str)
def test_conforms(defender: PredCoin) -> None:
    check_defender(defender)


def test_f_q_tells_queries_it_was_not_trained_on(
    fitted: PredCoin, classifier: Classifier, data: Data
) -> None:
    facts = replace(fitted, gamma=0.5).fit(classifier, data).facts()
    assert facts["false_negative"] < 0.05
    assert facts["false_positive"] < 0.2
    assert facts["trained_on"] == 120
    assert facts["held_out"] > 20
    for norm in ("l2", "linf"):
        assert facts[f"false_negative_{norm}"] < 0.1


def test_facts_are_those_of_the_calibration_split(
    fitted: PredCoin, classifier: Classifier, data: Data
) -> None:
    x, y = data.calibration.images, data.calibration.labels
    flagged, right = fitted.detector(x, classifier) >= 0, classifier(x).argmax(dim=1) == y
    facts = fitted.facts()
    assert facts["flagged"] == pytest.approx(flagged.float().mean().item())
    assert facts["false_positive"] == pytest.approx(flagged[right].float().mean().item())
    assert 0.05 < facts["net_accuracy_loss"] <= 0.1


def test_the_accuracy_lost_is_what_was_expected(
    fitted: PredCoin, classifier: Classifier, data: Data, ask_as: Callable[..., Any]
) -> None:
    """200 images, 200 coins each: a standard error of .5 sqrt(.2 / 40000) = .0011."""
    x, y = data.calibration.images, data.calibration.labels
    before = (classifier(x).argmax(dim=1) == y).float().mean().item()
    oracle = StackOracle(Stack(classifier, (fitted,)), games=len(x))
    answers = [oracle.respond(x, ask_as(range(len(x)), turn)) for turn in range(1, 201)]
    after = torch.stack([(a.scores.argmax(dim=1) == y).float().mean() for a in answers]).mean().item()
    assert before - after == pytest.approx(fitted.facts()["net_accuracy_loss"], abs=0.006)


@pytest.mark.parametrize("coin", [0.0, 0.3, 1.0])
def test_the_coin_flips_that_share_of_what_is_flagged(
    coin: float, classifier: Classifier, data: Data, ask_as: Callable[..., Any]
) -> None:
    defender = PredCoin(gamma=0.0, images=120, coin=coin).fit(classifier, data)
    assert defender.random == (0 < coin < 1)
    x = data.train.images[:1].expand(2000, -1, -1, -1)
    response = defender.respond(x, ask_as(range(2000)), lambda z, rows: Response(classifier(z)))
    assert bool(response.flagged.all())
    flipped = response.scores.argmax(dim=1) != classifier(x).argmax(dim=1)
    assert flipped.float().mean().item() == pytest.approx(coin, abs=0.05)
    assert torch.equal(response.scores.sort(dim=1).values, classifier(x).sort(dim=1).values)


def test_scores_that_give_no_label_are_neither_flagged_nor_flipped(
    classifier: Classifier, data: Data, ask_as: Callable[..., Any]
) -> None:
    defender = PredCoin(gamma=0.0, images=120, coin=1.0).fit(classifier, data)
    x, alike = data.train.images[:2], torch.ones(2, classifier.classes)
    alike[1, 0] = 2.0
    response = defender.respond(x, ask_as(range(2)), lambda z, rows: Response(alike))
    assert response.flagged.tolist() == [False, True]
    assert torch.equal(response.scores[0], alike[0])


def test_a_flip_answers_the_second_class_by_index() -> None:
    scores = torch.tensor([[1.0, 5.0, 3.0], [2.0, 2.0, 0.0], [-1.0, -1.0, -1.0], [0.0, 0.0, 0.0]])
    flipped = swap(scores)
    assert flipped[0].tolist() == [1.0, 3.0, 5.0]
    assert flipped.argmax(dim=1).tolist() == [2, 1, 1, 1]
    assert torch.allclose(flipped.sort(dim=1).values, scores.sort(dim=1).values)


def test_gamma_is_chosen_within_the_bound(classifier: Classifier, data: Data) -> None:
    material = gather(classifier, data, images=120, seed=0)
    y1, gain = material.detector(material.calibration), gains(material.calibration, material.labels)
    chosen = []
    for bound in (0.1, 0.02):
        scanned = PredCoin(search="scan", images=120, bound=bound).fit(classifier, data).facts()
        halved = PredCoin(images=120, bound=bound).fit(classifier, data).facts()
        assert scanned["net_accuracy_loss"] <= bound
        assert halved["net_accuracy_loss"] <= bound
        assert 0.5 * gain[y1 >= scanned["gamma"]].sum().item() / len(y1) == scanned["net_accuracy_loss"]
        chosen.append(scanned["gamma"])
    assert chosen[0] < chosen[1]


def test_it_is_off_where_no_gamma_will_do(data: Data, classifier: Classifier) -> None:
    """All calibration images are right and clear of doubt: any flip costs accuracy."""
    sure = Data(data.train, split(2, 50))
    off = PredCoin(search="scan", images=120, bound=0.0).fit(classifier, sure)
    assert off.facts()["gamma"] == "off"
    assert off.facts()["false_negative"] == 1.0
    assert off._threshold == OFF
    assert bool((off.detector(torch.rand(50, *SHAPE), classifier) < 0).all())


def test_the_family_learns_once(
    classifier: Classifier, data: Data, monkeypatch: pytest.MonkeyPatch, fitted: PredCoin
) -> None:
    one = gather(classifier, data, images=120, seed=0)
    monkeypatch.setattr(query_material, "boundary_queries", None)
    other = Classifier(Corners(), shape=SHAPE, classes=CLASSES)
    copied = Data(split(1, 300), split(2, 200, wrong=0.1))
    assert gather(other, copied, images=120, seed=0) is one
    for changed in ({"images": 121, "seed": 0}, {"images": 120, "seed": 1}):
        with pytest.raises(TypeError, match="NoneType"):
            gather(classifier, data, **changed)


def test_it_sees_the_scores_of_the_defenders_inside(
    fitted: PredCoin, classifier: Classifier, data: Data, ask_as: Callable[..., Any]
) -> None:
    x = data.calibration.images
    noise = SND(sigma=0.1)
    rows = ask_as(range(len(x)))
    response = StackOracle(Stack(classifier, (fitted, noise)), games=len(x)).respond(x, rows)
    alone = fitted.detector(x, classifier) >= 0
    assert bool((response.flagged != alone).any())


def test_images_may_be_a_share_of_the_training_images(classifier: Classifier, data: Data) -> None:
    assert PredCoin(gamma=0.5, images=0.1).fit(classifier, data).facts()["trained_on"] == 30
    asked = [PredCoin(images=images).preparing(data) for images in (0.1, 30, 0.2)]
    assert asked[0] == asked[1] < asked[2]


def test_a_classifier_that_is_never_right_is_told(classifier: Classifier, data: Data) -> None:
    wrong = Split(data.train.source, data.train.index, (data.train.labels + 1) % CLASSES)
    with pytest.raises(ValueError, match="of 200 training images that were drawn it is right on 0"):
        PredCoin().fit(classifier, Data(wrong, data.calibration))


@pytest.mark.parametrize("defender", [PredCoin(gamma=0.5, images=20), PredCoinImage(gamma=0.5, images=20)])
def test_rates_of_queries_are_left_out_where_no_image_held_out_is_right(
    defender: PredCoin, classifier: Classifier, data: Data
) -> None:
    held = data.calibration
    wrong = Split(held.source, held.index, (classifier(held.images).argmax(dim=1) + 1) % CLASSES)
    facts = defender.fit(classifier, Data(data.train, wrong)).facts()
    assert facts["held_out"] == 0
    assert facts["false_positive"] is facts["false_negative"] is facts["balanced_accuracy"] is None
    assert facts["right_answers_lost"] == 0


@pytest.mark.parametrize(("train", "calibration"), [(0, 5), (5, 0), (0, 0)])
def test_empty_splits_are_told(train: int, calibration: int, classifier: Classifier) -> None:
    nothing = Data(split(1, train), split(2, calibration))
    assert PredCoin().preparing(nothing) >= 0
    with pytest.raises(ValueError, match=f"found {train} for training and {calibration} for calibration"):
        PredCoin().fit(classifier, nothing)


def test_a_classifier_without_boundaries_is_told(data: Data) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(x), 1)

    same = Classifier(Constant(), shape=SHAPE, classes=CLASSES)
    with pytest.raises(ValueError, match="found no decision boundary from any of"):
        PredCoin(images=20).fit(same, data)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"gamma": 1.5}, "gamma must be from 0 to 1, or not given; found 1.5"),
        ({"bound": -0.1}, "bound must be finite and at least 0; found -0.1"),
        ({"search": "grid"}, 'search must be one of "scan", "bisection"; found "grid"'),
        ({"images": 1}, "images must be a whole number from 2 on, a share .* or not given; found 1"),
        ({"images": math.nan}, "images must be .* found nan"),
        ({"images": 2.5}, "images must be .* found 2.5"),
        ({"coin": 1.1}, "coin must be from 0 to 1; found 1.1"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PredCoin(**parameters)
