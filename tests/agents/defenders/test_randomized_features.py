from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.defenders.parts.feature_noise import FeatureNoise
from agents.defenders.randomized_features import RandomizedFeatures, places_of
from agents.defenders.snd import SND
from arena.classifiers import Classifier, load_classifier
from arena.classifiers.networks import NETWORKS, Normalised
from arena.classifiers.spec import ClassifierSpec
from arena.conformance.defender_checks import check_defender
from arena.datasets import Split, load_dataset
from arena.game.prepared import read, written
from arena.game.stack import prepare
from arena.game.stack_oracle import StackOracle

SHAPE = (1, 4, 4)


class Parts:
    """Splits of random images of `SHAPE`, half of which are of class 0."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.train = self.calibration = Split(images, torch.arange(len(images)), labels)


def linear() -> Classifier:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Flatten(), nn.Linear(32, 3))
    return Classifier(layers.eval(), shape=SHAPE, classes=3)


def parts(classifier: Classifier, n: int = 200) -> Parts:
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    return Parts(x, classifier(x).argmax(1))


@pytest.mark.parametrize(
    "defender",
    [RandomizedFeatures(), RandomizedFeatures(sigma=0.3, scaled=True, before=("same", "norm"))],
    ids=str,
)
@pytest.mark.slow
@pytest.mark.conformance
def test_conforms(defender: RandomizedFeatures) -> None:
    check_defender(defender)


def test_noise_has_the_mean_and_covariance_of_its_places(ask_as) -> None:
    """On a linear network the logits are Gaussian around those without noise: covariance sigma^2 sum J J^T
    over the Jacobians J of the logits in each place."""
    base = linear()
    defender = RandomizedFeatures(sigma=0.2, before=("0", "2"))
    oracle = StackOracle(prepare(base, [defender], parts(base)), seed=3, games=1)
    x, n = torch.rand(1, *SHAPE), 6000
    moved = oracle.respond(x.expand(n, -1, -1, -1), ask_as(range(n))).scores - base(x)
    whole = torch.autograd.functional.jacobian(base.differentiable, x).reshape(3, 16)
    last = base.module.get_submodule("2").weight
    expected = 0.04 * (whole @ whole.T + last @ last.T)
    spread = expected.diagonal().max()
    torch.testing.assert_close(torch.cov(moved.T), expected, rtol=0, atol=float(0.1 * spread))
    assert moved.mean(0).abs().max() < 4 * (spread / n).sqrt()


def test_scaled_noise_follows_the_features_of_the_training_images(ask_as) -> None:
    base = linear()
    x = torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(2))
    x[:, :, 0] *= 0.1
    x[:, :, 3] = 0.5
    own = Parts(x, base(x).argmax(1))
    hardened = RandomizedFeatures(sigma=1.0, scaled=True, before=("0",)).harden(base, own)
    (noise,) = (layer for layer in hardened.module.modules() if isinstance(layer, FeatureNoise))
    torch.testing.assert_close(noise.scale, x.std(0, correction=0), rtol=1e-4, atol=1e-5)
    assert noise.scale[:, 3].max() < 1e-6


def test_rows_turns_and_the_verdict_draw_apart_and_the_base_does_not(ask_as) -> None:
    base = linear()
    oracle = StackOracle(prepare(base, [RandomizedFeatures(sigma=0.1)], parts(base)), seed=1, games=8)
    x = torch.rand(1, *SHAPE).expand(8, -1, -1, -1)
    first = oracle.respond(x, ask_as(range(8))).scores
    assert len(first.unique(dim=0)) == 8
    for other in (oracle.respond(x, ask_as(range(8), turn=2)), oracle.fresh(x, ask_as(range(8)))):
        assert (first != other.scores).any(1).all()
    torch.testing.assert_close(oracle.base_scores(x), base(x), rtol=0, atol=1e-6)
    assert torch.equal(oracle.respond(x, ask_as(range(8))).scores, first)
    alone = oracle.respond(x[:1], ask_as([3])).scores
    torch.testing.assert_close(alone[0], first[3], rtol=0, atol=1e-6)


def test_sigma_is_the_largest_that_the_allowed_drop_bears(ask_as) -> None:
    base = linear()
    own = parts(base, 400)
    stack = prepare(base, [RandomizedFeatures(drop=0.05)], own)
    sigma = stack.defenders[0].facts()["sigma"]
    x, labels = own.calibration.images, own.calibration.labels

    def accuracy(size: float) -> float:
        hardened = RandomizedFeatures(sigma=size).harden(base, own)
        return float((hardened(x, ask_as(range(400))).argmax(1) == labels).float().mean())

    assert accuracy(sigma) >= 0.95 - 1e-6
    assert accuracy(1.3 * sigma) < 0.95
    loose = prepare(base, [RandomizedFeatures(drop=0.2)], own).defenders[0].facts()["sigma"]
    assert loose > 1.5 * sigma


def test_two_of_them_draw_apart_and_tune_in_turn() -> None:
    base = linear()
    stack = prepare(base, [RandomizedFeatures(sigma=0.5), RandomizedFeatures()], parts(base))
    layers = [layer for layer in stack.base.module.modules() if isinstance(layer, FeatureNoise)]
    sigmas = {layer.number: float(layer.sigma) for layer in layers}
    assert sorted(sigmas) == [0, 1] and sigmas[1] == 0.5 and 0 < sigmas[0] != 0.5
    assert stack.defenders[0].facts() == {"sigma": 0.5}


@pytest.mark.parametrize(
    "defender",
    [RandomizedFeatures(), RandomizedFeatures(before=("0", "2"), scaled=True)],
    ids=str,
)
def test_it_is_written_and_read_back(defender: RandomizedFeatures, ask_as) -> None:
    base = linear()
    stack = prepare(base, [SND(), defender], parts(base))
    again = read(written(stack), base, [SND(), defender])
    x = torch.rand(5, *SHAPE)
    first, second = (StackOracle(s, seed=2, games=5).respond(x, ask_as(range(5))) for s in (stack, again))
    assert torch.equal(first.scores, second.scores)
    assert again.defenders[1].facts() == stack.defenders[1].facts() != {}


@pytest.mark.parametrize(
    ("network", "places"),
    [
        ("resnet20", ("network.layer1", "network.layer2", "network.layer3")),
        ("wrn-28-10", ("network.block1", "network.block2", "network.block3")),
        ("vgg16", 13),
        ("digits-cnn", 3),
    ],
)
def test_places_are_stages_or_convolutions(network: str, places: Any) -> None:
    known = NETWORKS[network]
    module = Normalised(known.factory(), known.mean, known.std).eval()
    found = places_of(Classifier(module, shape=known.shape, classes=10))
    assert found == places or len(found) == places


def test_places_are_the_blocks_of_a_transformer() -> None:
    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(1, 4, 2, 2)
            self.blocks = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.blocks(self.patches(x).flatten(2).transpose(1, 2)).mean(1)
            return out

    classifier = Classifier(Transformer(), shape=SHAPE, classes=4)
    assert places_of(classifier) == ("blocks.0", "blocks.1")


def test_digits_keep_their_accuracy(ask_as) -> None:
    data = load_dataset("digits")
    base = load_classifier(ClassifierSpec(network="digits-cnn"), data)
    stack = prepare(base, [RandomizedFeatures(drop=0.01)], data)
    x, labels = data.games.images, data.games.labels
    noisy = StackOracle(stack, seed=1, games=len(x)).respond(x, ask_as(range(len(x)))).scores
    lost = (base(x).argmax(1) == labels).float().mean() - (noisy.argmax(1) == labels).float().mean()
    assert -0.01 < lost < 0.04


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"sigma": -1.0}, "sigma must be from 0 to 1e+06; found -1.0"),
        ({"sigma": math.nan}, "sigma must be from 0 to 1e+06; found nan"),
        ({"sigma": 1e38}, "sigma must be from 0 to 1e+06; found 1e+38"),
        ({"drop": 1.0}, "drop must be from 0 to below 1; found 1.0"),
        ({"drop": math.nan}, "drop must be from 0 to below 1; found nan"),
    ],
)
def test_bad_parameters_get_one_sentence(parameters: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        RandomizedFeatures(**parameters)
    assert str(caught.value) == said


def test_layers_that_are_not_there_get_one_sentence() -> None:
    base = linear()
    with pytest.raises(ValueError, match=r"before must name layers of classifier 'Sequential' \(0, 1, 2"):
        RandomizedFeatures(sigma=0.1, before=("conv9",)).harden(base, parts(base))
    flat = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), shape=SHAPE, classes=3)
    with pytest.raises(ValueError, match="finds no stages, blocks or convolutions in classifier"):
        RandomizedFeatures(sigma=0.1).harden(flat, parts(base))
