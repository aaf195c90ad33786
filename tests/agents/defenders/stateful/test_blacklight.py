from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

import arena
from agents.defenders.stateful.blacklight import Blacklight
from agents.defenders.stateful.fingerprints import FingerprintIndex
from arena.classifiers import ClassifierSpec, load_classifier
from arena.datasets.dataset import Dataset
from arena.datasets.loading import load_dataset

CIFAR = (3, 32, 32)


def smooth(n: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (interpolate(coarse, scale_factor=4, mode="bicubic").clamp(0, 1) * 255).round() / 255


def remembered(defender: Blacklight, x: Tensor) -> FingerprintIndex:
    index = defender.index(tuple(x.shape[1:]))
    index.add(defender.features(x), torch.zeros(len(x), 2), torch.zeros(len(x), dtype=torch.bool))
    return index


def test_what_is_caught_and_what_is_not() -> None:
    """refs/defenses.md, section 5: hashes shared with the nearest of 100 smooth images."""
    x, noise = smooth(100), torch.randn(100, *CIFAR, generator=torch.Generator().manual_seed(1))
    defender = Blacklight()
    index = remembered(defender, x)

    def asked(z: Tensor) -> tuple[Tensor, Tensor]:
        prints = defender.features(z.clamp(0, 1))
        return index.closest(prints)[0].float(), index.find(prints)[0]

    copies, caught = asked(x)
    assert copies.tolist() == [50] * 100
    assert caught.all()
    tiny, caught = asked(x + 0.001 * noise)
    assert 34 < tiny.mean() < 48
    assert caught.all()
    dense, caught = asked(x + 0.01 * noise)
    assert 14 < dense.mean() < 22
    assert caught.float().mean() <= 0.05
    spread, caught = asked(x + 4 / 255 * noise.sign())
    assert spread.mean() < 12
    assert not caught.any()
    others, caught = asked(smooth(100, seed=9))
    assert others.max() <= 2
    assert not caught.any()


def test_a_changed_patch_is_caught() -> None:
    x = smooth(20)
    z = x.clone()
    z[:, :, 10:16, 10:16] = 1 - z[:, :, 10:16, 10:16]
    defender = Blacklight()
    assert remembered(defender, x).find(defender.features(z))[0].all()


def test_blank_images_are_told_apart_by_salt_alone() -> None:
    blank = torch.full((1, 1, 28, 28), 1.0)
    for salted in (True, False):
        defender = Blacklight(salted=salted)
        found = remembered(defender, blank).find(defender.features(blank))[0]
        assert found.tolist() == [salted], "without salt a blank image has one hash, below t"
    white, black = blank, blank - 1
    assert Blacklight(salted=False).features(white).equal(Blacklight(salted=False).features(black)), "mod 255"


@pytest.mark.parametrize(
    ("shape", "w", "p", "threshold"),
    [
        ((3, 32, 32), 20, 1, 25),
        ((1, 28, 28), 50, 1, 25),
        ((1, 8, 8), 8, 1, 25),
        ((3, 224, 224), 50, 25, 25),
        ((1, 4, 4), 2, 1, 8),
    ],
)
def test_windows_fit_the_image(shape: tuple[int, ...], w: int, p: int, threshold: int) -> None:
    defender = Blacklight()
    cut = defender.windows(shape)
    assert (cut.w, cut.p, defender.threshold(shape)) == (w, p, threshold)


def test_too_small_an_image_is_said_before_anything_is_asked() -> None:
    assert "do not fit into an image of 64 values" in str(Blacklight(w=65).unsuited((1, 8, 8)))
    assert Blacklight(w=64).unsuited((1, 8, 8)) is None


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"w": 0}, "w must be at least 1; found 0"),
        ({"q": 256}, "q must be from 1 to 255; found 256"),
        ({"s": 0}, "s must be from 1 to 10000; found 0"),
        ({"t": 51}, "t must be from 1 to s 50; found 51"),
        ({"t": 0}, "t must be from 1 to s 50; found 0"),
    ],
)
def test_bad_parameters(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Blacklight(**parameters)


@pytest.mark.slow
def test_hop_skip_jump_gets_less_far() -> None:
    """Refused queries tell HopSkipJump nothing, so that it stays far away."""
    data = load_dataset("digits")
    classifier, x, y = load_classifier(ClassifierSpec(network="digits-cnn"), data), *digits(data, 10)
    how = {"norm": "l2", "epsilon": "inf", "budget": 120, "feedback": "label", "objective": "minimum"}

    def distance(defender: str) -> float:
        result = arena.play("hop-skip-jump", defender, classifier=classifier, images=x, labels=y, threat=how)
        return float(np.median(result.games.l2))

    assert distance("blacklight") > 1.3 * distance("none")


def digits(data: Dataset, n: int) -> tuple[Tensor, Tensor]:
    split = data.splits["games"]
    return split.take(slice(0, n)), split.labels[:n]
