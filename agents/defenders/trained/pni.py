"""Parametric noise injection: noise on the weights, whose size is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_args

from agents.defenders.parts.noisy_forms import NoisyWeights
from agents.defenders.parts.trained_perturbing import TrainedPerturbing
from agents.defenders.parts.weight_noise import Share
from agents.parameters import check_choice
from arena.classifiers import Classifier
from arena.players.card import Card
from arena.training import Recipe
from arena.training.objectives import MixedPGDTraining


@dataclass(frozen=True)
class PNI(TrainedPerturbing):
    """Parametric Noise Injection on weights, PNI-W (He, Rakin and Fan, "Parametric Noise Injection: Trainable
    Randomness to Improve Deep Neural Network Robustness against Adversarial Attack", CVPR 2019, eq. 1 and 2):
    W' = W + alpha eta, eta ~ N(0, std(W)^2), in every convolution and dense layer, alpha learnt from .25 on.

    At play each query meets weights of its own; the authors draw one eta for a batch. The verdict `base` is
    the network without noise. Trained half on clean images and half on images that PGD leads away from the
    network's own answer, by SGD with Nesterov's momentum .9 and a rate that falls to a tenth after 1/2 and
    3/4 of the epochs; adversarial images begin after 1/32 of them (the authors: 5 of 160), and alpha has no
    weight decay.

    A row's weights cost about as much to draw as 8 multiply-adds each; at most 64 MiB of them are held for a
    layer at a time.

    Attributes:
        share: one alpha for each "layer", or for each output "channel" (best in the paper).
        norm, epsilon, step, steps: of the PGD, in pixel units of [0,1].
        weight_decay: of the training (the authors' scripts: 1e-5 to 3e-4).
        epochs, rate, batch: of the training (the authors: 160, .1 and 128).
        augment: of the training images, as recipes name it (the authors, on CIFAR-10: "crop-flip").
        init: train from the classifier's "weights", or from "scratch".
        seed: of the training.
        weights: a file with weights of the network in this form, in place of a training.
    """

    epochs: int = 160
    rate: float = 0.1
    epsilon: float = 0.031
    step: float = 0.01
    steps: int = 7
    weight_decay: float = 3e-4
    share: Share = "channel"

    random: ClassVar[bool] = True
    card: ClassVar[Card] = Card(
        alters=("weights",),
        paper="He, Rakin and Fan, Parametric Noise Injection: Trainable Randomness to Improve Deep Neural "
        "Network Robustness against Adversarial Attack, CVPR 2019",
        claims="clean and robust accuracy above adversarial training's: 85.2 % and 48.4 % under PGD for "
        "ResNet-20 on CIFAR-10",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, share=get_args(Share))

    def form(self, classifier: Classifier) -> NoisyWeights:
        return NoisyWeights(self.share)

    def recipe(self) -> Recipe:
        objective = MixedPGDTraining(
            norm=self.norm,
            epsilon=self.epsilon,
            step=self.step,
            steps=self.steps,
            after=self.epochs // 32,
        )
        return self.by_sgd((0.5, 0.75), self.weight_decay, objective, nesterov=True)
