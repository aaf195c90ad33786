from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from agents.defenders.feature_squeezing import FeatureSqueezing, highest_share, median_2x2
from agents.defenders.rnd import RND
from arena.classifiers import Classifier
from arena.datasets import Split


def world(classifier: Classifier, images: Tensor) -> SimpleNamespace:
    return SimpleNamespace(calibration=Split(images, torch.arange(len(images)), classifier(images).argmax(1)))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 5), (1, 1, 1)])
def test_the_median_is_scipys(shape: tuple[int, int, int]) -> None:
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    expected = ndimage.median_filter(x.numpy(), size=(1, 1, 2, 2), mode="reflect")
    assert np.array_equal(median_2x2(x).numpy(), expected)


def test_the_distance_is_the_largest_l1_of_the_probabilities(pixels: Classifier, images: Tensor) -> None:
    p = pixels(images).softmax(1)
    squeezed = (images * 7).round() / 7, median_2x2(images)
    bits, median = ((p - pixels(s).softmax(1)).abs().sum(1) for s in squeezed)
    both = FeatureSqueezing(b=3).distance(images, pixels)
    torch.testing.assert_close(both.float(), torch.maximum(bits, median), rtol=0, atol=1e-5)
    one = FeatureSqueezing(b=3, median=False).distance(images, pixels)
    torch.testing.assert_close(one.float(), bits, rtol=0, atol=1e-5)
    assert (bits > median).any()
    assert (bits < median).any()


@pytest.mark.parametrize(("share", "reach"), [(0.0, 0), (0.05, 1), (0.1, 2), (0.5, 10)])
def test_no_more_than_the_share_reach_the_threshold(share: float, reach: int) -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(1)).double()
    assert int((values >= highest_share(values, share)).sum()) == reach


def test_ties_at_the_threshold_are_not_flagged() -> None:
    values = torch.tensor([0.5, 0.5, 0.5, 0.1]).double()
    assert int((values >= highest_share(values, 0.5)).sum()) == 0


@pytest.mark.parametrize("action", ["flag", "refuse"])
def test_what_an_insider_sees_is_what_is_flagged(
    action: Any, pixels: Classifier, service, ask_as, images: Tensor
) -> None:
    fitted = FeatureSqueezing(b=3, share=0.2, action=action).fit(pixels, world(pixels, images))
    response = service(fitted).respond(images, ask_as(range(150)))
    assert torch.equal(response.flagged, fitted.detector(images, pixels) >= 0)
    assert int(response.flagged.sum()) == 30
    assert torch.equal(response.refused, response.flagged if action == "refuse" else response.flagged & False)
    assert torch.equal(response.scores, pixels(images))
    assert fitted.facts()["flagged"] == pytest.approx(0.2)


def test_a_random_defender_inside_does_not_differ_by_itself(
    pixels: Classifier, service, ask_as, images: Tensor
) -> None:
    """Images on the levels that squeeze to themselves are at distance 0, however large the noise."""
    on_levels = (images * 31).round() / 31
    detector = FeatureSqueezing(b=5, median=False, threshold=1e-3)
    assert not service(detector, RND(0.2)).respond(on_levels, ask_as(range(150))).flagged.any()


def test_on_digits_false_positives_stay_near_the_share(digits, digits_cnn) -> None:
    whole = digits.calibration + digits.games
    order = torch.randperm(len(whole), generator=torch.Generator().manual_seed(0))
    x, y = whole.images[order], whole.labels[order]
    part = SimpleNamespace(calibration=Split(x[:425], torch.arange(425), y[:425]))
    for b in (2, 5):
        fitted = FeatureSqueezing(b=b).fit(digits_cnn, part)
        rate = (fitted.detector(x[425:], digits_cnn) >= 0).float().mean()
        assert 0.015 < rate < 0.1


def test_it_sees_square(square) -> None:
    assert square(FeatureSqueezing(action="refuse")) > square("none") + 0.1


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"b": 0}, "b must be from 1 to 8 bits; found 0"),
        ({"share": 1.0}, "share must be from 0 to below 1; found 1.0"),
        ({"share": math.nan}, "share must be from 0 to below 1; found nan"),
        ({"threshold": 0.0}, "threshold must be above 0 and at most 2, or not given; found 0.0"),
        ({"threshold": math.nan}, "threshold must be above 0 and at most 2, or not given; found nan"),
    ],
)
def test_wrong_parameters_are_named(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        FeatureSqueezing(**parameters)
