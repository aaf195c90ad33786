from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from agents.defenders.parts.noisy_forms import NoisyWeights
from agents.defenders.parts.weight_noise import WeightNoise
from agents.defenders.trained.pni import PNI
from arena.classifiers import Classifier
from arena.game.blame import DefenderError
from arena.game.prepared import read, written
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle
from arena.training.schedule import optimiser
from tests.agents.defenders.trained.small_task import SHAPE, Parts, accuracy, small

BRIEF = PNI(epochs=8, rate=0.05, steps=2, epsilon=0.05, step=0.04)


def noise(classifier: Classifier) -> list[WeightNoise]:
    return [layer for layer in classifier.module.modules() if isinstance(layer, WeightNoise)]


def test_every_convolution_and_dense_layer_has_noise_whose_size_is_learnt() -> None:
    hardened = BRIEF.harden(small(), Parts())
    layers = noise(hardened)
    assert [layer.number for layer in layers] == [0, 1, 2]
    assert [tuple(layer.alpha.shape) for layer in layers] == [(4, 1, 1, 1), (4, 1, 1, 1), (3, 1)]
    assert all((layer.alpha != 0.25).any() and layer.alpha.isfinite().all() for layer in layers)


def test_logits_of_a_linear_network_spread_as_its_weights_do(ask_as) -> None:
    """One dense layer: z = (W + alpha std(W) eta) x has covariance alpha^2 std(W)^2 ||x||^2 I."""
    torch.manual_seed(1)
    base = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(36, 3)).eval(), shape=SHAPE, classes=3)
    module = NoisyWeights("layer")(base.copied().module)
    noisy = Classifier(module, shape=SHAPE, classes=3)
    n, x = 6000, torch.rand(1, *SHAPE)
    moved = noisy(x.expand(n, -1, -1, -1), ask_as(range(n))) - base(x)
    variance = float((0.25 * base.module[1].weight.std()).square() * x.square().sum())  # type: ignore[index,union-attr,operator]
    torch.testing.assert_close(torch.cov(moved.T), variance * torch.eye(3), rtol=0, atol=0.1 * variance)
    assert moved.mean(0).abs().max() < 4 * (variance / n) ** 0.5


def test_alpha_does_not_decay() -> None:
    network = NoisyWeights("channel")(small().copied().module)
    groups = optimiser(BRIEF.recipe(), network).param_groups
    assert [group["weight_decay"] for group in groups] == [3e-4, 0.0]
    assert {id(p) for p in groups[1]["params"]} == {
        id(layer.alpha) for layer in network.modules() if isinstance(layer, WeightNoise)
    }


def test_adversarial_images_begin_after_the_authors_share_of_the_epochs() -> None:
    assert [PNI(epochs=n).recipe().objective.after for n in (8, 32, 160)] == [0, 1, 5]  # type: ignore[union-attr]


def test_it_learns_and_every_query_meets_weights_of_its_own(ask_as) -> None:
    parts, test = Parts(), Parts(seed=2).train
    stack = prepare(small(), [BRIEF], parts)
    oracle, rows = StackOracle(stack, seed=1, games=400), ask_as(range(len(test)))
    scores = oracle.respond(test.images, rows).scores
    assert accuracy(scores, test.labels) > 0.85
    assert accuracy(oracle.base_scores(test.images), test.labels) > 0.9
    same = test.images[:1].expand(20, -1, -1, -1)
    assert len(oracle.respond(same, rows[:20]).scores.unique(dim=0)) == 20
    alone = oracle.respond(test.images[7:8], rows[7:8]).scores
    torch.testing.assert_close(alone[0], scores[7], rtol=0, atol=1e-5)


def test_it_is_written_and_read_back(ask_as) -> None:
    parts = Parts()
    stack = prepare(small(), [BRIEF], parts)
    again = read(written(stack), small(), [BRIEF])
    x, rows = parts.train.images[:5], ask_as(range(5))
    first, second = (StackOracle(s, seed=2, games=5).respond(x, rows).scores for s in (stack, again))
    assert torch.equal(first, second)


def test_noise_on_weights_that_have_some_is_refused() -> None:
    with pytest.raises(DefenderError, match="this network has noise on its weights already"):
        prepare(small(), [BRIEF, BRIEF], Parts())


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"share": "element"}, 'share must be one of "layer", "channel"; found "element"'),
        ({"epsilon": 0.0}, "epsilon must be finite and above 0; found 0.0"),
        ({"steps": 0}, "steps must be from 1 to 10000; found 0"),
    ],
)
def test_bad_parameters_get_one_sentence(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        PNI(**parameters)
    assert str(caught.value) == said
