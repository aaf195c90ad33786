from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from agents.defenders.parts.confidence import calibration_logits, confidence, lowest_share, probabilities
from arena.classifiers import Classifier
from arena.datasets import Split


def test_confidence_is_the_largest_probability() -> None:
    z = 5 * torch.randn(100, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(probabilities(z).float(), z.softmax(1))
    torch.testing.assert_close(confidence(z).float(), z.softmax(1).amax(1))


def test_rows_that_say_nothing_are_on_neither_side_of_a_threshold() -> None:
    inf, nan = math.inf, math.nan
    sure = confidence(torch.tensor([[nan, 1.0], [inf, 1.0], [-inf, -inf], [-inf, 1.0]]))
    assert not ((sure < 2) | (sure >= 0))[:3].any()
    assert sure[3] == 1


@pytest.mark.parametrize(("share", "below"), [(0.0, 0), (0.05, 1), (0.3, 6), (0.99, 19)])
def test_no_more_than_the_share_lie_below(share: float, below: int) -> None:
    values = torch.rand(20, generator=torch.Generator().manual_seed(1)).double()
    assert int((values < lowest_share(values, share)).sum()) == below


def test_images_whose_logits_are_not_finite_are_left_out(pixels: Classifier) -> None:
    def broken(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x[:, 2, 7, 7, None] < 0.5, math.nan, pixels(x))

    x = torch.rand(600, *pixels.shape, generator=torch.Generator().manual_seed(0))
    fine = x[:, 2, 7, 7] >= 0.5
    split = Split(x, torch.arange(600), torch.arange(600) % 10)
    classifier = Classifier.of(broken, sample=x[fine][:2])
    logits, labels = calibration_logits(classifier, SimpleNamespace(calibration=split), "X")
    assert torch.equal(logits, pixels(x)[fine])
    assert torch.equal(labels, split.labels[fine])
    none = Split(x[~fine], torch.arange(int((~fine).sum())), split.labels[~fine])
    with pytest.raises(ValueError, match=r"^X tunes itself on finite logits; those of all"):
        calibration_logits(classifier, SimpleNamespace(calibration=none), "X")
