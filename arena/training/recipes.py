"""Recipes by name, with their sources."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field

from arena.classifiers.networks import NETWORKS
from arena.messages import near
from arena.training.errors import TrainingError
from arena.training.objectives import GaussianNoise, PGDTraining, TradesTraining
from arena.training.recipe import Recipe


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe and its source: the paper or code, and the parts of it that are unknown or not followed.

    `params` are keyword arguments for a network of the table, if it takes them and no others are given.
    """

    recipe: Recipe
    source: str
    params: Mapping[str, float] = field(default_factory=dict)

    def params_for(self, network: str) -> dict[str, float]:
        """Those of `params` that a network takes."""
        known = NETWORKS.get(network)
        taken = inspect.signature(known.factory).parameters if known else {}
        return {key: value for key, value in self.params.items() if key in taken}


_CIFAR_RESNET = Recipe(
    rate=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    batch=128,
    iterations=64_000,
    schedule="step",
    milestones=(0.5, 0.75),
    augment="crop-flip",
    normalise="train",
)

RECIPES: dict[str, NamedRecipe] = {
    "predcoin": NamedRecipe(
        Recipe(rate=0.01, momentum=0.9, batch=128, epochs=50),
        "Guo et al. 2021 (PredCoin), table 12; dropout 0.5 is the network's; no augmentation is named",
    ),
    "cw": NamedRecipe(
        Recipe(rate=0.01, momentum=0.9, nesterov=True, batch=128, epochs=50),
        "Carlini and Wagner 2017, table 2 (batch, epochs; dropout 0.5 is the network's), with the rate, the "
        "Nesterov momentum and the constant schedule of the released train_models.py, whose decay of 1e-6 a "
        "step takes 2 % off the rate in all and is left out",
    ),
    "cw-cifar": NamedRecipe(
        Recipe(
            rate=0.01,
            momentum=0.9,
            batch=128,
            epochs=50,
            schedule="step",
            milestones=(0.2, 0.4, 0.6, 0.8),
            factor=0.5,
        ),
        "Carlini and Wagner 2017, table 2: the rate halved every 10 epochs; the momentum, which the table "
        "halves too, stays",
    ),
    "cifar-resnet": NamedRecipe(
        _CIFAR_RESNET,
        "He et al. 2016, sec. 4.2: steps at 32k and 48k of 64k iterations; each channel is normalised where "
        "the paper subtracts each pixel's mean",
    ),
    "wrn": NamedRecipe(
        Recipe(
            rate=0.1,
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
            batch=128,
            epochs=200,
            schedule="step",
            milestones=(0.3, 0.6, 0.8),
            factor=0.2,
            augment="crop-flip",
            normalise="train",
        ),
        "Zagoruyko and Komodakis 2016, sec. 3: times 0.2 at epochs 60, 120 and 160; zeros come in where the "
        "paper reflects",
    ),
    "preact": NamedRecipe(
        Recipe(
            rate=0.1,
            momentum=0.9,
            weight_decay=5e-4,
            batch=128,
            epochs=200,
            schedule="cosine",
            augment="crop-flip",
            normalise="train",
        ),
        "kuangliu/pytorch-cifar, from where most papers have their pre-activation ResNet-18 and VGG-16",
    ),
    "imagenet-resnet": NamedRecipe(
        Recipe(
            rate=0.1,
            momentum=0.9,
            weight_decay=1e-4,
            batch=256,
            epochs=90,
            schedule="step",
            milestones=(1 / 3, 2 / 3, 8 / 9),
            augment="resized-crop-flip",
        ),
        "He et al. 2016, sec. 3.4, in the usual 90 epochs (steps at 30, 60 and 80) and with the usual "
        "resized crops (Szegedy et al. 2015), of images of the data set's size; no colour augmentation",
    ),
    "gtsrb": NamedRecipe(
        Recipe(
            optimiser="adamw",
            rate=1e-3,
            weight_decay=1e-2,
            batch=32,
            epochs=25,
            schedule="one-cycle",
            augment="shift",
            normalise="train",
        ),
        "this project's: for 32x32 traffic signs, where a mirror changes the class; with dropout 0.2, since "
        "PredCoin's network with its 0.5 is far from done after these epochs",
        {"dropout": 0.2},
    ),
    "digits": NamedRecipe(
        Recipe(
            optimiser="adamw",
            rate=4e-3,
            weight_decay=1e-3,
            batch=50,
            epochs=60,
            schedule="one-cycle",
            augment="affine",
        ),
        "this project's: the packaged digits_cnn (seed 0, one thread)",
    ),
    "pgd-at": NamedRecipe(
        _CIFAR_RESNET.model_copy(
            update={
                "objective": PGDTraining(epsilon=8 / 255, step=2 / 255, steps=7),
                "weight_decay": 2e-4,
                "iterations": 80_000,
            }
        ),
        "Madry et al. 2018, sec. 5, for CIFAR-10, with the schedule of their cifar10_challenge (a tenth at "
        "40k and 60k of 80k steps)",
    ),
    "pgd-at-mnist": NamedRecipe(
        Recipe(
            objective=PGDTraining(epsilon=0.3, step=0.01, steps=40),
            optimiser="adam",
            rate=1e-4,
            batch=50,
            iterations=100_000,
        ),
        "Madry et al. 2018, sec. 5, for MNIST, with optimiser and length of their mnist_challenge",
    ),
    "trades": NamedRecipe(
        Recipe(
            objective=TradesTraining(epsilon=0.031, step=0.007, steps=10, beta=6.0),
            rate=0.1,
            momentum=0.9,
            weight_decay=2e-4,
            batch=128,
            epochs=76,
            schedule="step",
            milestones=(74 / 76,),
            augment="crop-flip",
            normalise="train",
        ),
        "Zhang et al. 2019, sec. 5, for CIFAR-10 with beta 6, with the schedule of the authors' code",
    ),
    "trades-mnist": NamedRecipe(
        Recipe(
            objective=TradesTraining(epsilon=0.3, step=0.01, steps=40, beta=1.0),
            rate=0.01,
            momentum=0.9,
            batch=128,
            epochs=100,
            schedule="step",
            milestones=(0.54,),
        ),
        "Zhang et al. 2019, sec. 5, for MNIST with beta 1, with the schedule of the authors' code: a tenth "
        "after 54 epochs, its later steps being out of reach there",
    ),
    "gaussian-augmentation": NamedRecipe(
        _CIFAR_RESNET.model_copy(update={"objective": GaussianNoise(sigma=0.05)}),
        "He et al. 2016, sec. 4.2, at the noise of Qin et al. 2021 (RND), who fine-tune: the defender of "
        "this name does",
    ),
    "quick": NamedRecipe(
        Recipe(optimiser="adam", rate=2e-3, batch=64, epochs=5, schedule="one-cycle"),
        "this project's: few epochs, for processors",
    ),
}

DEFAULTS: dict[str, str] = {
    "digits-cnn": "digits",
    "predcoin-mnist": "predcoin",
    "predcoin-gtsrb": "gtsrb",
    "cw-mnist": "cw",
    "cw-mnist-bn": "cw",
    "cw-cifar10": "cw-cifar",
    "cw-cifar10-bn": "cw-cifar",
    "cnn-a": "quick",
    "resnet4b": "quick",
    "resnet20": "cifar-resnet",
    "resnet32": "cifar-resnet",
    "resnet44": "cifar-resnet",
    "resnet56": "cifar-resnet",
    "preact-resnet18": "preact",
    "vgg16": "preact",
    "wrn-28-10": "wrn",
    "cifar-resnet50": "preact",
    "resnet50": "imagenet-resnet",
}
"""The recipe of each network of the table if none is named; `quick` for any other network."""


def find_recipe(name: str | None, network: str) -> tuple[str, NamedRecipe]:
    """A recipe by name, or that of a network, with its name; TrainingError names the known ones."""
    name = name or DEFAULTS.get(network, "quick")
    if name not in RECIPES:
        raise TrainingError(f'there is no recipe "{name}"; {near(name, RECIPES)}')
    return name, RECIPES[name]
