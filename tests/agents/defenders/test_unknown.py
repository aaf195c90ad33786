from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.defenders.unknown import Unknown
from arena.classifiers import Classifier
from arena.datasets import Split
from arena.game.blame import DefenderError


def halves(pixels: Classifier, images: Tensor) -> SimpleNamespace:
    return SimpleNamespace(calibration=Split(images, torch.arange(len(images)), pixels(images).argmax(1)))


@pytest.mark.parametrize(("share", "declined"), [(0.0, 0), (0.02, 3), (0.1, 15), (0.34, 51)])
def test_theta_declines_the_share_of_the_calibration_images(
    share: float, declined: int, pixels: Classifier, images: Tensor, service, ask_as
) -> None:
    fitted = Unknown(share).fit(pixels, halves(pixels, images))
    response = service(fitted).respond(images, ask_as(range(150)))
    assert int(response.declined.sum()) == declined
    assert fitted.facts()["declined"] == pytest.approx(declined / 150)
    sure = pixels(images).double().softmax(1).amax(1)
    assert torch.equal(response.declined.nonzero()[:, 0], sure.argsort()[:declined].sort().values)
    assert torch.equal(response.scores, pixels(images))


def test_a_theta_given_is_kept(pixels: Classifier, images: Tensor) -> None:
    assert Unknown(theta=0.5).fit(pixels, halves(pixels, images)).facts()["theta"] == 0.5


def test_on_digits_few_honest_clients_are_declined_and_square_finds_nothing(
    digits, digits_cnn, square, service, ask_as
) -> None:
    whole = digits.calibration + digits.games
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    x, y = whole.images[order], whole.labels[order]
    fitted = Unknown(0.02).fit(
        digits_cnn, SimpleNamespace(calibration=Split(x[:400], torch.arange(400), y[:400]))
    )
    theta = fitted.facts()["theta"]
    rest = digits_cnn(x[400:]).softmax(1).amax(1)
    assert 0 < (rest < theta).float().mean() < 0.05
    assert square(Unknown(0.02)) > square("none") + 0.4


def test_without_theta_or_fit_it_says_so(service, ask_as, images: Tensor) -> None:
    with pytest.raises(DefenderError, match="Unknown must be fitted first, or be given its theta"):
        service(Unknown()).respond(images, ask_as(range(150)))


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"share": 1.0}, "share must be from 0 to below 1; found 1.0"),
        ({"share": math.nan}, "share must be from 0 to below 1; found nan"),
        ({"theta": 0.0}, "theta must be above 0 and at most 1, or not given; found 0.0"),
        ({"theta": 1.1}, "theta must be above 0 and at most 1, or not given; found 1.1"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        Unknown(**parameters)
