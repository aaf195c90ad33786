from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from agents.defenders.dent import Dent
from agents.defenders.parts.feature_noise import FeatureNoise
from agents.defenders.parts.noisy_forms import NoisyConvolutions
from agents.defenders.rnd import RND
from agents.defenders.trained.rse import RSE
from arena.classifiers import Classifier
from arena.game.blame import DefenderError
from arena.game.prepared import read, written
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle
from tests.agents.defenders.trained.small_task import SHAPE, Parts, accuracy, small

BRIEF = RSE(epochs=12, rate=0.05, sigma_inner=0.1)


def test_noise_is_on_the_image_and_before_every_other_convolution(ask_as) -> None:
    """A linear network: the covariance of its logits is .2^2 J J^T of the image and .1^2 of the feature."""
    torch.manual_seed(0)
    layers = (nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Flatten(), nn.Linear(72, 3))
    base = Classifier(nn.Sequential(*layers).eval(), shape=SHAPE, classes=3)
    module = NoisyConvolutions(SHAPE, 0.2, 0.1)(base.copied().module)
    noisy = Classifier(module, shape=SHAPE, classes=3)
    found = {
        layer.number: float(layer.sigma) for layer in module.modules() if isinstance(layer, FeatureNoise)
    }
    assert found == {0: pytest.approx(0.2), 1: pytest.approx(0.1)}
    n, x = 6000, torch.rand(1, *SHAPE)
    moved = noisy(x.expand(n, -1, -1, -1), ask_as(range(n))) - base(x)
    image = torch.autograd.functional.jacobian(base.differentiable, x).reshape(3, -1)
    hidden = base.module[0](x)  # type: ignore[index,operator]
    inner = torch.autograd.functional.jacobian(base.module[1:], hidden).reshape(3, -1)  # type: ignore[index]
    expected = 0.04 * image @ image.T + 0.01 * inner @ inner.T
    torch.testing.assert_close(
        torch.cov(moved.T), expected, rtol=0, atol=float(0.1 * expected.diagonal().max())
    )


def test_it_answers_the_mean_probabilities_of_passes_with_noise_of_their_own(ask_as) -> None:
    parts = Parts()
    stack = prepare(small(), [BRIEF], parts)
    oracle, rows = StackOracle(stack, seed=3, games=6), ask_as(range(6))
    x = parts.train.images[:6]
    scores = oracle.respond(x, rows).scores
    own = rows.repeat(5)
    single = prepare(small(), [RSE(**{**vars(BRIEF), "passes": 1})], parts)
    each = StackOracle(single, seed=3, games=6).respond(x.repeat_interleave(5, 0), own).scores.view(6, 5, 3)
    torch.testing.assert_close(scores, each.softmax(2).mean(1).log(), rtol=0, atol=1e-5)
    assert (each.std(1) > 0).all()
    assert RSE().asks == 5 and RSE.random


def test_training_meets_the_noise_and_the_verdict_does_not(ask_as) -> None:
    """Trained with noise on features it makes them large, and withstands what a plain network does not."""
    parts, test = Parts(), Parts(seed=2).train
    rows, found = ask_as(range(len(test))), {}
    for sigma in (5.0, 0.0):
        hardened = RSE(epochs=15, rate=0.05, sigma_init=0.1, sigma_inner=sigma).harden(small(), parts)
        for layer in hardened.module.modules():
            if isinstance(layer, FeatureNoise) and layer.number:
                layer.sigma.fill_(5.0)
        found[sigma] = accuracy(hardened(test.images, rows), test.labels)
        assert accuracy(hardened(test.images), test.labels) > 0.9
    assert found[5.0] > found[0.0] + 0.05


def test_it_is_written_and_read_back_and_rows_are_apart(ask_as) -> None:
    parts = Parts()
    stack = prepare(small(), [RND(), BRIEF], parts)
    again = read(written(stack), small(), [RND(), BRIEF])
    x, rows = parts.train.images[:5], ask_as(range(5))
    first, second = (StackOracle(s, seed=2, games=5).respond(x, rows).scores for s in (stack, again))
    assert torch.equal(first, second)
    alone = StackOracle(stack, seed=2, games=5).respond(x[2:3], rows[2:3]).scores
    torch.testing.assert_close(alone[0], first[2], rtol=0, atol=1e-5)


def test_networks_that_it_cannot_train_get_one_sentence() -> None:
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval(), shape=SHAPE, classes=3)
    with pytest.raises(DefenderError, match="there is no convolution in this network"):
        prepare(flat, [BRIEF], Parts())
    with pytest.raises(DefenderError, match="cannot be trained: its Adapting adapts itself to each query"):
        prepare(small(), [BRIEF, Dent()], Parts())


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sigma_init": -1.0}, "sigma_init must be from 0 to 1000; found -1.0"),
        ({"sigma_inner": math.nan}, "sigma_inner must be from 0 to 1e+06; found nan"),
        ({"sigma_inner": 1e38}, "sigma_inner must be from 0 to 1e+06; found 1e+38"),
        ({"passes": 0}, "passes must be from 1 to 1000; found 0"),
        ({"epochs": 0}, "epochs must be from 1 to 1000000; found 0"),
    ],
)
def test_bad_parameters_get_one_sentence(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        RSE(**parameters)
    assert str(caught.value) == said
