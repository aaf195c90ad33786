from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from agents.defenders.predcoin import query_material
from agents.defenders.predcoin.predcoin import PredCoin
from agents.defenders.predcoin.predcoin_image import PredCoinImage
from arena.classifiers import Classifier
from arena.datasets import Split
from arena.players import Response


@dataclass(frozen=True)
class Data:
    train: Split
    calibration: Split


@pytest.fixture(scope="module")
def data() -> Data:
    """Images of the class of their brightest of the first ten pixels (`pixels`), smooth but for these."""
    draws = torch.Generator().manual_seed(1)
    x = torch.rand(240, 1, 1, 1, generator=draws).mul(0.3).repeat(1, 3, 8, 8)
    y = torch.randint(10, (240,), generator=draws)
    x.flatten(1)[torch.arange(240), y] = 0.9
    return Data(Split(x[:160], torch.arange(160), y[:160]), Split(x[160:], torch.arange(80), y[160:]))


@pytest.fixture(scope="module")
def fitted(pixels: Classifier, data: Data) -> PredCoinImage:
    return PredCoinImage(gamma=0.5, coin=1.0, images=40).fit(pixels, data)


def test_it_flags_by_the_image_alone(
    fitted: PredCoinImage, pixels: Classifier, data: Data, ask_as: Callable[..., Any]
) -> None:
    x = data.calibration.images
    rough = (x + 0.2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(2))).clamp_(0, 1)
    for images, share in ((x, fitted.facts()["flagged"]), (rough, 1.0)):
        asked = []
        for scores in (pixels(images), torch.randn(len(x), 10)):
            inner = lambda z, rows, scores=scores: Response(scores)  # noqa: E731
            asked.append(fitted.respond(images, ask_as(range(len(x))), inner))
        assert torch.equal(asked[0].flagged, asked[1].flagged)
        assert asked[0].flagged.float().mean().item() == pytest.approx(share, abs=0.1)
        assert torch.equal(asked[0].flagged, fitted.detector(images, pixels) >= 0)
        moved = asked[1].scores.argmax(dim=1) != scores.argmax(dim=1)
        assert torch.equal(moved, asked[1].flagged)


def test_its_accuracy_on_images_held_out_is_a_fact(fitted: PredCoinImage) -> None:
    facts = fitted.facts()
    errors = (facts["false_positive"] + facts["false_negative"]) / 2
    assert facts["balanced_accuracy"] == pytest.approx(1 - errors)
    assert facts["balanced_accuracy"] > 0.8 and facts["held_out"] > 5


def test_it_learns_from_the_games_that_predcoin_played(
    fitted: PredCoinImage, pixels: Classifier, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_material, "boundary_queries", None)
    PredCoin(images=40).fit(pixels, data)
    assert PredCoinImage(gamma=0.5, coin=1.0, images=40).fit(pixels, data).facts() == fitted.facts()


def test_calibration_images_of_the_same_logits_are_others(pixels: Classifier, data: Data) -> None:
    """What was learnt before in this process must not stand for other images, nor for other places."""
    held, y = data.calibration.images, data.calibration.labels
    rough = held.clone()
    rough[:, :, 4:] = torch.rand(rough[:, :, 4:].shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(pixels(rough), pixels(held))
    other = Data(data.train, Split(rough, torch.arange(len(y)), y))
    first, second = (
        query_material.gather(pixels, of, images=40, seed=0, pictures=True) for of in (data, other)
    )
    assert first.pictures is not None and second.pictures is not None
    for norm, x in second.pictures.held_out.items():
        assert not torch.equal(x, first.pictures.held_out[norm])


def test_large_images_are_kept_for_it_alone(
    pixels: Classifier, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_material, "SMALL", 100)
    plain, wanted = (
        query_material.gather(pixels, data, images=20, seed=5, pictures=pictures)
        for pictures in (False, True)
    )
    assert plain.pictures is None
    assert wanted.pictures is not None and torch.equal(plain.queries, wanted.queries)
    assert torch.allclose(pixels(wanted.pictures.queries), wanted.queries)
    assert torch.allclose(pixels(wanted.pictures.benign), wanted.benign)


def test_a_restored_one_answers_alike(fitted: PredCoinImage, pixels: Classifier, data: Data) -> None:
    other = PredCoinImage(gamma=0.5, coin=1.0, images=40).restore(fitted.state(), pixels)
    x = data.calibration.images
    assert torch.equal(other.detector(x, pixels), fitted.detector(x, pixels))
    assert other.facts() == fitted.facts()
