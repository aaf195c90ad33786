from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.defenders.temperature_scaling import TemperatureScaling
from arena.classifiers import Classifier
from arena.classifiers.calibration import ece, nll_temperature
from arena.datasets import Split
from arena.rules.outcome import labels_of


def world(pixels: Classifier) -> SimpleNamespace:
    """400 images whose labels follow the probabilities of the logits over 3."""
    draw = torch.Generator().manual_seed(2)
    x = torch.rand(400, *pixels.shape, generator=draw)
    y = torch.multinomial((pixels(x) / 3).softmax(1), 1, generator=draw)[:, 0]
    return SimpleNamespace(calibration=Split(x, torch.arange(400), y))


def test_the_likelihood_finds_the_temperature_that_made_the_labels(pixels: Classifier) -> None:
    facts = TemperatureScaling().fit(pixels, world(pixels)).facts()
    part = world(pixels).calibration
    assert facts["temperature"] == nll_temperature(pixels(part.images), part.labels)
    assert facts["temperature"] == pytest.approx(3, rel=0.15)
    assert facts["ece_after"] < 0.5 * facts["ece_before"]


def test_the_calibration_error_is_least_on_its_grid(pixels: Classifier) -> None:
    part = world(pixels).calibration
    facts = TemperatureScaling("ece").fit(pixels, world(pixels)).facts()
    z = pixels(part.images).double()
    coarse = min(ece(z / t, part.labels) for t in torch.linspace(0.5, 6, 23).tolist())
    assert facts["ece_after"] <= coarse + 1e-3


def test_labels_and_order_stay(service, ask_as, pixels: Classifier, images: Tensor) -> None:
    answer = service(TemperatureScaling(temperature=2.5)).respond(images, ask_as(range(150))).scores
    torch.testing.assert_close(answer, pixels(images) / 2.5)
    assert torch.equal(answer.argsort(1), pixels(images).argsort(1))


@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_rows_that_would_lose_their_label_stay(temperature: float, ask_as) -> None:
    z = torch.tensor([[1.0, 1 + 2.0**-23, 0], [3e38, 1, 0], [2.0**-149, 0, 0]])
    answer = TemperatureScaling(temperature=temperature).rewrite(z, ask_as(range(3)))
    assert answer.isfinite().all()
    assert torch.equal(labels_of(answer), labels_of(z))


def test_it_defends_nothing(square) -> None:
    assert square("temperature-scaling") == square("none")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"temperature": 0.0}, "temperature must be finite and above 0, or not given; found 0.0"),
        ({"temperature": math.nan}, "temperature must be finite and above 0, or not given; found nan"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        TemperatureScaling(**parameters)
